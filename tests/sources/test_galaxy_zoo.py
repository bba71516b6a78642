"""Galaxy Zoo catalogues come whole through bad networks, are not fetched twice, and hold what their readers need."""

import gzip
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from loopback import catalogue_files
from tiny_catalogues import make_catalogues
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError, FetchError
from zoobot_3d.io import write_parquet
from zoobot_3d.simulate.archive_catalogues import GZ2_PATH, ZENODO_PATH, catalogue_routes
from zoobot_3d.simulate.faulty_server import ALL_KINDS, Faults, LoopbackServer, Response
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.galaxy_zoo import DESI_VOTES_FILE, GZ2_FILE, PARTS, fetch_gz2, fetch_gz_desi

FAST = FetchOptions(rate=0, first_wait=0.001, attempts=6)
FRIENDLY = "gz_desi_deep_learning_catalog_friendly.parquet"


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return make_catalogues(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def routes(survey):
    return catalogue_routes(survey)


@pytest.fixture
def server(routes):
    with LoopbackServer(routes) as server:
        yield server


def gz_desi(root, server, which=tuple(PARTS), options=FAST):
    return fetch_gz_desi(root, which=which, url=server.url + ZENODO_PATH, options=options, progress=False)


def gz2(root, server, options=FAST):
    return fetch_gz2(root, url=server.url + GZ2_PATH, options=options, progress=False)


# GZ DESI


def test_every_part_arrives_and_a_second_run_asks_nothing(tmp_path, survey, server):
    files = gz_desi(tmp_path, server)
    assert [file.path.name for file in files] == [*(n for part in PARTS.values() for n in part.files), DESI_VOTES_FILE]
    assert all(file.fetched for file in files)
    truth = pd.read_parquet(survey / "catalogues/gz_desi_fractions.parquet")
    friendly, external = (pd.read_parquet(file.path) for file in files[:2])
    pd.testing.assert_frame_equal(friendly.merge(external, on="dr8_id")[truth.columns], truth)
    assert str(files[0]) == f"{files[0].path}: 40 rows, 39 columns"

    before, asked = catalogue_files(tmp_path), server.count()
    again = gz_desi(tmp_path, server)
    assert server.count() == asked and catalogue_files(tmp_path) == before
    assert [(file.path, file.rows, file.fetched) for file in again] == [(f.path, f.rows, False) for f in files]
    assert str(again[0]).endswith("(was there)")


def test_votes_of_all_campaigns_become_one_table(tmp_path, survey, server):
    gz_desi(tmp_path, server)
    truth = pd.read_parquet(survey / "catalogues/gz_desi_volunteer_votes.parquet").set_index("dr8_id").sort_index()
    votes = pd.read_parquet(tmp_path / "catalogues" / DESI_VOTES_FILE).set_index("dr8_id").sort_index()
    pd.testing.assert_frame_equal(votes, truth, check_dtype=False)
    assert votes.dtypes.iloc[2:].eq("int32").all()


def test_the_table_of_votes_follows_from_the_files_not_from_the_order_they_came_in(tmp_path, server):
    for name in ("decals", "votes", "external", "friendly"):
        gz_desi(tmp_path / "one", server, (name,))
    gz_desi(tmp_path / "all", server)
    assert catalogue_files(tmp_path / "one") == catalogue_files(tmp_path / "all")


def test_without_the_friendly_table_decals_votes_have_no_names(tmp_path, server):
    (*_, made) = gz_desi(tmp_path, server, ("decals",))
    assert made.path.name == DESI_VOTES_FILE
    votes = pd.read_parquet(made.path)
    assert votes["dr8_id"].isna().all() and len(votes) > 0


def test_faults_change_nothing(tmp_path, routes, server):
    gz_desi(tmp_path / "good", server)
    gz2(tmp_path / "good", server)
    kinds = tuple(kind for kind in ALL_KINDS if kind != "slow")
    for seed in range(3):
        with LoopbackServer(routes, Faults(share=0.6, kinds=kinds, seed=seed)) as faulty:
            gz_desi(tmp_path / str(seed), faulty)
            gz2(tmp_path / str(seed), faulty)
            assert sum(served.fault is not None for served in faulty.requests) > 3
        assert catalogue_files(tmp_path / str(seed)) == catalogue_files(tmp_path / "good")


def test_wrong_checksum_leaves_no_file(tmp_path, routes):
    def lie(request):
        response = routes[f"{ZENODO_PATH}/"](request)
        if "/files/" in request.path:
            return response
        record = json.loads(response.body)
        for entry in record["files"]:
            entry["checksum"] = "md5:" + "0" * 32
        return Response(json.dumps(record).encode(), "application/json")

    with (
        LoopbackServer({f"{ZENODO_PATH}/": lie}) as server,
        pytest.raises(FetchError, match=rf"{FRIENDLY}/content: md5 is \w+ instead of 0{{32}} \(6 attempts\)"),
    ):
        gz_desi(tmp_path, server, ("friendly",))
    assert catalogue_files(tmp_path) == {}


def test_interrupted_download_goes_on_where_it_was(tmp_path, server):
    gz_desi(tmp_path / "good", server, ("friendly",))
    impatient = FetchOptions(rate=0, first_wait=0, attempts=1)
    server.faults = Faults(share=1.0, kinds=("truncated",), most_in_a_row=1)
    for what in ("8360385", FRIENDLY):  # each address fails once: the record, then the file
        with pytest.raises(FetchError, match=f"{what}.*peer closed connection"):
            gz_desi(tmp_path / "cut", server, ("friendly",), impatient)
    have = (tmp_path / "cut" / "catalogues" / f".{FRIENDLY}.part").stat().st_size
    assert have > 0
    server.faults = Faults()
    gz_desi(tmp_path / "cut", server, ("friendly",))
    assert server.requests[-1].request.headers["range"] == f"bytes={have}-" and server.requests[-1].status == 206
    assert catalogue_files(tmp_path / "cut") == catalogue_files(tmp_path / "good")


def test_a_file_brought_by_hand_is_kept_if_its_checksum_is_right(tmp_path, server):
    gz_desi(tmp_path / "a", server, ("friendly",))
    by_hand = tmp_path / "b" / "catalogues" / FRIENDLY
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes((tmp_path / "a" / "catalogues" / FRIENDLY).read_bytes())
    asked = server.count(f"{ZENODO_PATH}/8360385/files")
    (file,) = gz_desi(tmp_path / "b", server, ("friendly",))
    assert not file.fetched and server.count(f"{ZENODO_PATH}/8360385/files") == asked
    assert catalogue_files(tmp_path / "b") == catalogue_files(tmp_path / "a")


def test_a_file_damaged_later_is_fetched_again(tmp_path, server):
    (file,) = gz_desi(tmp_path, server, ("external",))
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-1] + b"X")  # as long as before
    (again,) = gz_desi(tmp_path, server, ("external",))
    assert again.fetched and file.path.read_bytes() == whole


def test_a_record_without_the_file_says_what_it_has(tmp_path):
    files = [{"key": "readme.md", "size": 1, "checksum": "md5:0", "links": {}}]
    routes = {"/": lambda request: Response(json.dumps({"files": files}).encode(), "application/json")}
    with (
        LoopbackServer(routes) as server,
        pytest.raises(FetchError, match=f"/8360385: the record has no {FRIENDLY}, but readme.md; see"),
    ):
        gz_desi(tmp_path, server, ("friendly",))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"dr8_id": ["1_2"], "ra": [1.0], "dec": [2.0]},
            "no column smooth-or-featured_smooth_fraction, .* and 29 more",
        ),
        (None, "not a readable Parquet file"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(tmp_path, body, message):
    if body is None:
        content = b"PAR1 but not really"
    else:
        write_parquet(tmp_path / "small.parquet", pd.DataFrame(body))
        content = (tmp_path / "small.parquet").read_bytes()

    def answer(request):
        if "/files/" in request.path:
            return Response(content)
        digest = hashlib.md5(content).hexdigest()
        entry = {"key": FRIENDLY, "size": len(content), "checksum": f"md5:{digest}", "links": {}}
        return Response(json.dumps({"files": [entry]}).encode(), "application/json")

    with LoopbackServer({"/": answer}) as server, pytest.raises(BadFileError, match=f"{FRIENDLY}: {message}"):
        gz_desi(tmp_path, server, ("friendly",))
    assert not (tmp_path / "catalogues" / "fetched.parquet").exists()


def test_unknown_part():
    with pytest.raises(ConfigError, match="unknown part votess of GZ DESI; use some of friendly, external, votes"):
        fetch_gz_desi("nowhere", which=("friendly", "votess"))
    assert not Path("nowhere").exists()


# GZ2


def test_gz2_votes_arrive_under_our_names(tmp_path, survey, server):
    (file,) = gz2(tmp_path, server)
    truth = pd.read_parquet(survey / "catalogues/gz2_volunteer_votes.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(file.path), truth, check_dtype=False)
    assert file.fetched and file.rows == len(truth) > 0
    assert sorted(catalogue_files(tmp_path)) == ["fetched.parquet", GZ2_FILE]  # what was downloaded is gone
    asked = server.count()
    (again,) = gz2(tmp_path, server)
    assert not again.fetched and server.count() == asked


@pytest.mark.parametrize(("raw", "left"), [(".gz2_hart16.csv.gz", False), ("gz2_hart16.csv.gz", True)])
def test_gz2_goes_on_with_a_table_that_is_there(tmp_path, routes, server, raw, left):
    gz2(tmp_path / "good", server)
    folder = tmp_path / "cut" / "catalogues"
    folder.mkdir(parents=True)
    (folder / raw).write_bytes(routes[GZ2_PATH](None).body())  # of a run killed before it was converted, or by hand
    (folder / f".{GZ2_FILE}.abcd.part").write_bytes(b"half a table")
    asked = server.count()
    gz2(tmp_path / "cut", server)
    assert server.count() == asked and (folder / raw).exists() == left
    (folder / raw).unlink(missing_ok=True)
    assert catalogue_files(tmp_path / "cut") == catalogue_files(tmp_path / "good")


def test_your_own_gz2_table_is_checked_and_kept(tmp_path, survey, server):
    own = tmp_path / "catalogues" / GZ2_FILE
    own.parent.mkdir()
    own.write_bytes((survey / "catalogues" / GZ2_FILE).read_bytes())
    before = own.read_bytes()
    (file,) = gz2(tmp_path, server)
    assert not file.fetched and own.read_bytes() == before and server.count() == 0

    write_parquet(own, pd.DataFrame({"dr7objid": [1], "ra": [1.0], "dec": [1.0]}))
    (tmp_path / "catalogues" / "fetched.parquet").unlink()
    with pytest.raises(CatalogError, match=f"{GZ2_FILE}: no column smooth-or-featured-gz2_smooth"):
        gz2(tmp_path, server)


def test_gz2_gives_up_on_a_file_that_is_never_whole(tmp_path):
    def cut(request):
        return Response(gzip.compress(b"dr7objid,ra,dec\n" * 99)[:-9], "application/x-gzip")

    with LoopbackServer({"/": cut}) as server, pytest.raises(FetchError, match=r"not a whole gzip file .*6 attempts"):
        gz2(tmp_path, server)
    assert catalogue_files(tmp_path) == {}
