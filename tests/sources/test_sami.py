"""SAMI's targets, from the service and from files downloaded by hand: the same columns, the same types."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from loopback import catalogue_files
from tiny_catalogues import make_catalogues
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError, FetchError
from zoobot_3d.simulate.archive_catalogues import SAMI_TAP_PATH, catalogue_routes
from zoobot_3d.simulate.faulty_server import ALL_KINDS, Faults, LoopbackServer, Response
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.sami import SAMI_COLUMNS, SAMI_FILE, SAMI_TABLES, _find_tables, fetch_sami, read_sami_targets

FAST = FetchOptions(rate=0, first_wait=0.001, timeout=5)
WHOLE = {"CATID": "int64", "SURV_SAMI": "Int64", "BAD_CLASS": "Int64"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return make_catalogues(tmp_path_factory.mktemp("survey"), 80)


@pytest.fixture(scope="module")
def routes(survey):
    return catalogue_routes(survey)


def sami(root, server, options=FAST):
    return fetch_sami(root, url=server.url + SAMI_TAP_PATH, options=options, progress=False)


# The service


def test_three_tables_become_one_and_a_second_run_asks_nothing(tmp_path, survey, routes):
    pytest.importorskip("pyvo")
    with LoopbackServer(routes) as server:
        (file,) = sami(tmp_path, server)
        assert server.count() == 4  # the list of tables, and each of them
        before = catalogue_files(tmp_path)
        (again,) = sami(tmp_path, server)
        assert server.count() == 4 and catalogue_files(tmp_path) == before
        agents = {served.request.headers["user-agent"].split("/")[0] for served in server.requests}
    assert agents == {"zoobot-3d"}
    assert (file.fetched, again.fetched, file.rows, file.columns) == (True, False, again.rows, 22)
    truth = pd.read_parquet(survey / "catalogues/sami_targets.parquet").astype(WHOLE)
    targets = pd.read_parquet(file.path)
    assert list(targets.columns) == [*SAMI_COLUMNS, "table"]
    assert targets.dtypes.drop("table").astype(str).to_dict() == dict.fromkeys(SAMI_COLUMNS, "float64") | WHOLE
    assert set(targets["table"]) == set(SAMI_TABLES) and len(targets) == len(truth)
    truth = truth.set_index("CATID").loc[targets["CATID"]].reset_index()
    pd.testing.assert_frame_equal(targets[["CATID", "RA_OBJ", "z_spec"]], truth[["CATID", "RA_OBJ", "z_spec"]])
    gama = (targets["table"] == SAMI_TABLES[0]).to_numpy()
    pd.testing.assert_frame_equal(targets.loc[gama, list(SAMI_COLUMNS)], truth.loc[gama, list(SAMI_COLUMNS)])
    assert targets.loc[~gama, ["RA_IFU", "z_tonry", "A_g"]].isna().all(axis=None)
    assert targets.loc[targets["table"] == SAMI_TABLES[2], "SURV_SAMI"].isna().all()


def test_faults_change_nothing(tmp_path, routes):
    pytest.importorskip("pyvo")
    with LoopbackServer(routes) as server:
        sami(tmp_path / "good", server)
    for kind in ALL_KINDS[:-1]:
        faults = Faults(share=1.0, kinds=(kind,), most_in_a_row=2, slow_seconds=0.02)
        with LoopbackServer(routes, faults) as server:
            sami(tmp_path / kind, server)
            assert server.count() == (4 if kind == "slow" else 12)
        assert catalogue_files(tmp_path / kind) == catalogue_files(tmp_path / "good")


def test_a_service_that_stays_away(tmp_path, routes):
    pytest.importorskip("pyvo")
    options = FetchOptions(rate=0, first_wait=0.001, attempts=2)
    with LoopbackServer(routes, Faults(share=1.0, kinds=("500",))) as server:
        with pytest.raises(FetchError, match=r"/vo/tap: 500 .*\(2 attempts\); try again later"):
            sami(tmp_path, server, options)
        assert server.count() == 2
    with pytest.raises(FetchError, match=r"\(2 attempts\)"):
        sami(tmp_path, server, options)  # nobody listens there any more
    assert catalogue_files(tmp_path) == {}


def test_retry_after_is_waited_for(tmp_path, routes, monkeypatch):
    pytest.importorskip("pyvo")
    waits = []
    monkeypatch.setattr("zoobot_3d.sources.sami.time.sleep", waits.append)
    for kind in ("429", "503"):
        with LoopbackServer(routes, Faults(share=1.0, kinds=(kind,), most_in_a_row=1, retry_after=7)) as server:
            sami(tmp_path / kind, server)
    assert waits == [7.0] * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body.replace(b'value="OK"', b'value="OVERFLOW"'), "cut the answer to 'SELECT .*' short"),
        (lambda body: body.replace(b"InputCatFiller", b"InputCatStuffer"), "no table InputCatFiller .it has sami_dr3"),
        (lambda body: body.replace(b'value="OK"/', b'value="ERROR">no, sorry</INFO'), "refused 'SELECT .*: no, sorry"),
    ],
)
def test_answers_that_asking_again_does_not_mend(tmp_path, routes, change, message):
    pytest.importorskip("pyvo")
    handler = routes[f"{SAMI_TAP_PATH}/"]
    changed = {"/": lambda request: Response(change(handler(request).body), "application/x-votable+xml")}
    with LoopbackServer(changed) as server:
        with pytest.raises(FetchError, match=message):
            sami(tmp_path, server)
        assert server.count() == 1


def test_full_names_of_the_tables():
    names = ["gama.InputCat", 'x."InputCatGAMADR3"', "sami_dr2.InputCatFiller", "sami_dr3.InputCatFiller"]
    names += ["sami_dr3.InputCatClustersDR3", "sami_old.inputcatclustersdr3"]
    assert _find_tables(pd.Series(names), "url") == {
        "InputCatGAMADR3": 'x."InputCatGAMADR3"',
        "InputCatClustersDR3": "sami_dr3.InputCatClustersDR3",
        "InputCatFiller": "sami_dr3.InputCatFiller",
    }
    bare = {name: name for name in SAMI_TABLES}
    assert _find_tables(pd.Series([name.encode() for name in bare]), "url") == bare


def test_without_pyvo(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvo.dal", None)
    with pytest.raises(ConfigError, match=r"fetch sami needs pyvo; install zoobot-3d\[sami\]"):
        fetch_sami(tmp_path)


def test_your_own_table_is_checked_and_kept(tmp_path, survey):
    own = tmp_path / "catalogues" / SAMI_FILE
    own.parent.mkdir()
    own.write_bytes((survey / "catalogues" / SAMI_FILE).read_bytes())
    before = own.read_bytes()
    (file,) = fetch_sami(tmp_path, url="http://127.0.0.1:9")
    assert not file.fetched and own.read_bytes() == before and file.rows > 0


# Files downloaded by hand


def test_the_fits_table_of_byte_strings(survey):
    path = survey / "catalogues/sami_targets.fits"
    raw = Table.read(path)
    assert {raw[name].dtype.kind for name in ("CATID", "RA_OBJ", "DEC_OBJ", "RA_IFU", "DEC_IFU")} == {"S"}
    targets, problems = read_sami_targets(path)
    truth = pd.read_parquet(survey / "catalogues/sami_targets.parquet").astype(WHOLE)
    assert problems == []
    pd.testing.assert_frame_equal(targets, truth)


def test_the_csv_in_lower_case(tmp_path):
    (tmp_path / "clusters.csv").write_text(
        ",catid,ra_obj,dec_obj,r_petro,r_e,is_mem,surv_sami\n0,9011999999,14.1234567890123,-1.25,12.9,nan,1,7\n"
    )
    targets, problems = read_sami_targets(tmp_path / "clusters.csv")
    assert list(targets.columns) == list(SAMI_COLUMNS) and problems == []
    known = {"CATID": 9011999999, "RA_OBJ": 14.1234567890123, "DEC_OBJ": -1.25, "r_petro": 12.9, "SURV_SAMI": 7}
    assert targets[list(known)].to_dict("records") == [known]
    assert targets.drop(columns=list(known)).isna().all(axis=None)


def test_bad_rows_are_left_out_and_counted(tmp_path):
    table = Table(
        {
            "CATID": np.array(["1", "2", "", "4", "5.5", "6"], "S"),
            "RA_OBJ": np.array(["10.5", "", "10.5", "400", "10.5", " 11.25 "], "S"),
            "DEC_OBJ": np.array(["-1.5", "-1.5", "-1.5", "-1.5", "-1.5", "-2"], "S"),
            "RA_IFU": np.array(["10.5", "10.5", "10.5", "10.5", "10.5", "unknown"], "S"),
        }
    )
    table.write(tmp_path / "sami.fits")
    targets, problems = read_sami_targets(tmp_path / "sami.fits")
    assert targets[["CATID", "RA_OBJ", "DEC_OBJ"]].to_numpy().tolist() == [[1, 10.5, -1.5], [6, 11.25, -2]]
    assert [line.removeprefix(f"{tmp_path}/sami.fits: ") for line in problems] == [
        "1 of 6 rows has no RA_OBJ (first: row 1)",
        "1 of 6 rows has RA_OBJ outside 0 to 360 deg (first: row 3)",
        "2 of 6 rows have no whole CATID (first: row 2)",
        "1 of 6 rows has text in RA_IFU where a number belongs (first: row 5)",
    ]


def test_files_that_are_of_no_use(tmp_path):
    (tmp_path / "a.csv").write_text("CATID,RA_OBJ\n1,2\n")
    with pytest.raises(CatalogError, match=r"a.csv: no column DEC_OBJ"):
        read_sami_targets(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("CATID,RA_OBJ,DEC_OBJ\nx,1.0,2.0\n")
    with pytest.raises(CatalogError, match=r"b.csv: no row has a whole CATID and a position"):
        read_sami_targets(tmp_path / "b.csv")
    with pytest.raises(BadFileError, match=r"c.fits: no such file"):
        read_sami_targets(tmp_path / "c.fits")
