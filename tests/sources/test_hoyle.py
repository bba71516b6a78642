"""Bar lengths arrive whole, in every form in which they are found."""

from pathlib import Path

import pandas as pd
import pytest

from loopback import catalogue_files
from tiny_catalogues import make_catalogues
from zoobot_3d.errors import BadFileError, CatalogError, FetchError
from zoobot_3d.simulate.archive_catalogues import HOYLE_PATH, catalogue_routes
from zoobot_3d.simulate.faulty_server import ALL_KINDS, Faults, LoopbackServer, Response
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.hoyle import HOYLE_COLUMNS, HOYLE_FILE, HOYLE_URL, _check, fetch_hoyle, read_bar_lengths

FAST = FetchOptions(rate=0, first_wait=0.001, timeout=5)
HEADER = ",".join(HOYLE_COLUMNS)
ROW = "587722980000000123,198.5,-1.25,5.84,0.32,2.33,0.95,0.46,3"


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return make_catalogues(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def routes(survey):
    return catalogue_routes(survey)


def hoyle(root, server):
    return fetch_hoyle(root, url=server.url + HOYLE_PATH, options=FAST, progress=False)


def test_the_example_table(examples):
    path = examples / "catalogs/hoyle2011/data_external_hoyle_barlengths.csv"
    table = read_bar_lengths(path)
    assert len(table) == 3150 and tuple(table.columns) == HOYLE_COLUMNS
    first = table.iloc[0]
    assert table["objid"].iloc[0] == 587722981747982465 and table["objid"].dtype == "int64"
    assert (first["length_avg"], first["bar_meas"]) == (5.841887, 3)
    _check(path.read_bytes(), HOYLE_URL)


def test_it_arrives_and_a_second_run_asks_nothing(tmp_path, survey, routes):
    with LoopbackServer(routes) as server:
        (file,) = hoyle(tmp_path, server)
        before = catalogue_files(tmp_path)
        (again,) = hoyle(tmp_path, server)
        assert server.count() == 1 and catalogue_files(tmp_path) == before
    assert (file.fetched, again.fetched, file.columns) == (True, False, 9)
    truth = pd.read_csv(survey / "catalogues" / HOYLE_FILE)
    pd.testing.assert_frame_equal(read_bar_lengths(file.path), truth)
    assert file.rows == len(truth) > 0


def test_faults_change_nothing(tmp_path, routes):
    with LoopbackServer(routes) as server:
        hoyle(tmp_path / "good", server)
    for kind in ALL_KINDS[:-1]:
        with LoopbackServer(routes, Faults(share=1.0, kinds=(kind,), slow_seconds=0.02)) as server:
            hoyle(tmp_path / kind, server)
            assert server.count() == (1 if kind == "slow" else 4)
        assert catalogue_files(tmp_path / kind) == catalogue_files(tmp_path / "good")


def test_tabs_units_and_comments(tmp_path):
    names, row = HEADER.replace(",", "\t"), ROW.replace(",", "\t")
    units, dashes = "\t".join(["", "deg", *[""] * 7]), "\t".join(["---"] * 9)
    (tmp_path / "a.tsv").write_text(f"#\n# a comment, with a comma\n{names}\n{units}\n{dashes}\n{row}\n")
    (tmp_path / "b.csv").write_text(f"{HEADER}\n{ROW}\n")
    pd.testing.assert_frame_equal(read_bar_lengths(tmp_path / "a.tsv"), read_bar_lengths(tmp_path / "b.csv"))


def test_long_names(tmp_path):
    (tmp_path / "a.csv").write_text(
        "SDSS objid,RA,Dec,average bar length [kpc/h],standard deviation of bar length [kpc/h]\n5,1.5,2.5,3.5,0.5\n"
    )
    assert read_bar_lengths(tmp_path / "a.csv").to_dict("list") == {
        "objid": [5], "ra": [1.5], "dec": [2.5], "length_avg": [3.5], "length_stdev": [0.5],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", BadFileError, "not a table of bar lengths"),
        ("<html>\n<body>moved</body>\n", BadFileError, "not a table of bar lengths"),
        (f"{HEADER}\n{ROW}\n{ROW[:30]}\n", BadFileError, "row 1 has fewer or more columns"),
        (f"{HEADER.replace('length_avg', 'length')}\n{ROW}\n", CatalogError, "no column length_avg"),
        (f"{HEADER}\n{ROW.replace('5.84', 'long')}\n", BadFileError, "1 of 1 rows have text in length_avg .*row 0"),
        (f"{HEADER}\n{ROW}\n{ROW[18:]}\n", BadFileError, r"1 of 2 rows have no objid or bar_meas \(first: row 1\)"),
    ],
)
def test_tables_that_are_none(tmp_path, text, error, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(error, match=f"a.csv: {message}"):
        read_bar_lengths(tmp_path / "a.csv")


def test_an_answer_cut_in_a_line_is_asked_for_again(tmp_path):
    bodies = [f"{HEADER}\n{ROW}\n{ROW}", f"{HEADER}\n{ROW}\n{ROW}\n"]
    with LoopbackServer({"/": lambda request: Response(bodies.pop(0).encode(), "text/csv")}) as server:
        (file,) = hoyle(tmp_path, server)
        assert server.count() == 2 and file.rows == 2


def test_the_published_table_must_have_all_its_rows():
    with pytest.raises(BadFileError, match="1 rows instead of 3150"):
        _check(f"{HEADER}\n{ROW}\n".encode(), HOYLE_URL)


def test_your_own_table_is_checked_and_kept(tmp_path, routes):
    own = tmp_path / "catalogues" / HOYLE_FILE
    own.parent.mkdir()
    own.write_text(f"{HEADER}\n{ROW}\n")
    with LoopbackServer(routes) as server:
        (file,) = hoyle(tmp_path, server)
        assert server.count() == 0 and not file.fetched and file.rows == 1
        own.write_text(f"{HEADER}\n")  # changed since it was noted: no longer trusted
        (file,) = hoyle(tmp_path, server)
        assert file.fetched and file.rows > 1


def test_a_service_that_has_moved(tmp_path):
    with LoopbackServer({}) as server, pytest.raises(FetchError, match=r"hoyle_barlengths\.csv: answered 404"):
        hoyle(tmp_path, server)
