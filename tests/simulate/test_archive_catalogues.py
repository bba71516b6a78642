"""The loopback services answer as the real ones do."""

import gzip
import hashlib
import io
from pathlib import Path

import httpx
import pandas as pd
import pytest
from astropy.io.votable import parse_single_table

from tiny_catalogues import make_catalogues
from zoobot_3d.simulate.archive_catalogues import GZ2_PATH, HOYLE_PATH, SAMI_TAP_PATH, ZENODO_PATH, catalogue_routes
from zoobot_3d.simulate.faulty_server import LoopbackServer


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return make_catalogues(tmp_path_factory.mktemp("survey"), 80)


@pytest.fixture(scope="module")
def url(survey):
    with LoopbackServer(catalogue_routes(survey)) as server:
        yield server.url


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (
            8360385,
            [
                "external_catalog.parquet",
                "gz_desi_deep_learning_catalog_friendly.parquet",
                "gz_desi_gzd8_volunteer_core_catalog.parquet",
                "gz_desi_gzd8_volunteer_extended_catalog.parquet",
            ],
        ),
        (4573248, ["gz_decals_volunteers_5.parquet", "gz_decals_volunteers_1_and_2.parquet"]),
    ],
)
def test_zenodo_lists_what_it_serves(url, record, names):
    document = httpx.get(f"{url}{ZENODO_PATH}/{record}").json()
    assert document["id"] == record and [entry["key"] for entry in document["files"]] == names
    for entry in document["files"]:
        answer = httpx.get(entry["links"]["self"], headers={"Range": "bytes=4-"})
        assert entry["links"]["self"].startswith(url) and answer.status_code == 206
        content = b"PAR1" + answer.content
        assert len(content) == entry["size"]
        assert f"md5:{hashlib.md5(content).hexdigest()}" == entry["checksum"]
        frame = pd.read_parquet(io.BytesIO(content))
        assert ("dr8_id" in frame) == (record == 8360385) and ("iauname" in frame) == (record == 4573248)


def test_zenodo_votes_have_no_campaign_in_their_names(url, survey):
    core, five = (
        pd.read_parquet(io.BytesIO(httpx.get(f"{url}{ZENODO_PATH}/{record}/files/{name}/content").content))
        for record, name in (
            (8360385, "gz_desi_gzd8_volunteer_core_catalog.parquet"),
            (4573248, "gz_decals_volunteers_5.parquet"),
        )
    )
    votes = pd.read_parquet(survey / "catalogues/gz_desi_volunteer_votes.parquet")
    asked = votes[votes[["smooth-or-featured-dr8_smooth", "smooth-or-featured-dr8_featured-or-disk"]].sum(axis=1) > 0]
    assert core["dr8_id"].isin(asked["dr8_id"]).all() and (core["smooth-or-featured_artifact"] < 5).all()
    truth = votes.set_index("dr8_id").loc[core["dr8_id"], "bar-dr8_weak"]
    assert core["bar_weak"].tolist() == truth.tolist() and core["bar_weak"].sum() > 0
    total = core[["bar_strong", "bar_weak", "bar_no"]].sum(axis=1)
    assert core["bar_total-votes"].tolist() == total.tolist()
    assert core.loc[total == 0, "bar_weak_fraction"].isna().all()
    names = pd.read_parquet(survey / "data/gz3d_and_desi_master_catalog.parquet")["iauname"]
    assert five["iauname"].isin(names).all() and len(five) > 0


@pytest.mark.parametrize(
    "path",
    [
        f"{ZENODO_PATH}/1",
        f"{ZENODO_PATH}/8360385/files/no.parquet/content",
        f"{ZENODO_PATH}/8360385/x",
        "/vo/tap/async",
    ],
)
def test_what_is_not_there(url, path):
    assert httpx.get(url + path).status_code == 404


def test_gz2_has_the_published_columns(url, survey):
    content = httpx.get(url + GZ2_PATH).content
    table = pd.read_csv(io.BytesIO(gzip.decompress(content)))
    votes = pd.read_parquet(survey / "catalogues/gz2_volunteer_votes.parquet")
    assert table["dr7objid"].tolist() == votes["dr7objid"].tolist()
    kinds = ("count", "weight", "fraction", "weighted_fraction", "debiased", "flag")
    names = [f"t01_smooth_or_features_a01_smooth_{kind}" for kind in kinds]
    assert list(table.columns[7:13]) == names and table.shape[1] == 7 + 6 * 28
    assert table["t03_bar_a06_bar_count"].tolist() == votes["bar-gz2_yes"].tolist()
    total = votes["bar-gz2_yes"] + votes["bar-gz2_no"]
    assert table["t03_bar_a06_bar_fraction"].to_numpy() == pytest.approx(votes["bar-gz2_yes"] / total)


def test_hoyle_is_the_survey_s_table(url, survey):
    assert httpx.get(url + HOYLE_PATH).content == (survey / "catalogues/hoyle_bar_lengths.csv").read_bytes()


def ask(url, query, **more):
    return httpx.post(f"{url}{SAMI_TAP_PATH}/sync", data={"REQUEST": "doQuery", "LANG": "ADQL", "QUERY": query, **more})


def test_tap_answers_columns_of_a_table(url, survey):
    answer = ask(url, "select catid, RA_OBJ\nfrom sami_dr3.InputCatFiller;")
    table = parse_single_table(io.BytesIO(answer.content)).to_table()
    assert table.colnames == ["CATID", "RA_OBJ"] and len(table) > 0
    truth = pd.read_parquet(survey / "catalogues/sami_targets.parquet").set_index("CATID")["RA_OBJ"]
    assert [truth[row["CATID"]] for row in table] == list(table["RA_OBJ"])
    by_get = httpx.get(f"{url}{SAMI_TAP_PATH}/sync", params={"query": "SELECT * FROM sami_dr3.InputCatFiller"})
    names = parse_single_table(io.BytesIO(by_get.content)).to_table().colnames
    assert names == ["CATID", "RA_OBJ", "DEC_OBJ", "z_spec", "fillflag"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM sami_dr3.Nothing", "no table sami_dr3.Nothing"),
        ("SELECT x, catid FROM sami_dr3.InputCatFiller", "no column x"),
        ("SELECT * FROM sami_dr3.InputCatFiller WHERE z_spec > 1", "this service understands"),
        ("", "this service understands"),
    ],
)
def test_tap_refuses_what_it_does_not_understand(url, query, message):
    answer = ask(url, query)
    assert answer.status_code == 400
    assert 'value="ERROR"' in answer.text and message in answer.text


def test_tap_cuts_at_maxrec_and_says_so(url):
    answer = ask(url, "SELECT * FROM TAP_SCHEMA.tables", MAXREC="2")
    assert 'value="OVERFLOW"' in answer.text
    assert len(parse_single_table(io.BytesIO(answer.content)).to_table()) == 2


def test_pyvo_understands_the_capabilities(url):
    dal = pytest.importorskip("pyvo.dal")
    service = dal.TAPService(url + SAMI_TAP_PATH)
    assert [language.name for language in service.get_tap_capability().languages] == ["ADQL"]


def test_answers_are_the_same_in_every_run(survey, url):
    with LoopbackServer(catalogue_routes(survey)) as server:
        for path in (GZ2_PATH, f"{ZENODO_PATH}/8360385/files/external_catalog.parquet/content"):
            assert httpx.get(server.url + path).content == httpx.get(url + path).content
