"""Tables as people and programs write them: lines that are no rows, units in the header, values that are masked."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from zoobot_3d.errors import BadFileError
from zoobot_3d.io import read_table
from zoobot_3d.io.tables import table_columns


def read(path, text):
    path.write_text(text)
    return read_table(path)


def test_comments_and_empty_rows_are_no_rows(tmp_path):
    text = "# made by hand\nid,ra,dec\n# the first one\na,1,2\n,,\n\n  , ,\nb,3,4\n#the end\n"
    frame = read(tmp_path / "a.csv", text)
    assert frame.to_dict("list") == {"id": ["a", "b"], "ra": [1, 3], "dec": [2, 4]}


def test_a_row_that_is_commented_out_is_left_out_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.csv: 1 rows that begin with # are left out"):
        frame = read(tmp_path / "a.csv", "id,ra\na,1\n#b,2\nc,3\n")
    assert list(frame["id"]) == ["a", "c"]


def test_names_that_begin_with_a_hash_are_names(tmp_path):
    assert list(read(tmp_path / "a.csv", "id,ra\n#1,1\n#2,2\n#3,3\n")["id"]) == ["#1", "#2", "#3"]


@pytest.mark.parametrize("below", [";deg;deg;arcmin\n---;---;---;---\n", ";deg;deg;arcmin\n"])
def test_lines_of_units_and_dashes_below_the_header_are_no_rows(tmp_path, below):
    frame = read(tmp_path / "a.tsv", f"id;RAJ2000;DEJ2000;radius\n{below}a;10.5;-2;1\nb;11;3;2\n")
    assert list(frame["id"]) == ["a", "b"]
    assert frame["RAJ2000"].dtype == np.float64
    assert frame.attrs["units"] == {"RAJ2000": "deg", "DEJ2000": "deg", "radius": "arcmin"}


def test_a_rule_below_the_header_alone(tmp_path):
    frame = read(tmp_path / "a.csv", "id,ra\n----,----\na,1\n")
    assert frame.to_dict("list") == {"id": ["a"], "ra": [1]}
    assert "units" not in frame.attrs


def test_values_that_astropy_masked_in_parquet_are_missing(tmp_path):
    mask = [True, False]
    columns = {"id": [5, 2**62 + 1], "name": ["a", "b"], "ra": [1.5, 2.5]}
    table = Table({name: MaskedColumn(values, mask=mask) for name, values in columns.items()})
    table.write(tmp_path / "a.parquet")
    assert table_columns(tmp_path / "a.parquet") == list(columns)
    for asked in (None, ["ra", "id", "name"]):
        frame = read_table(tmp_path / "a.parquet", asked)
        assert sorted(frame) == sorted(columns)
        assert frame.isna().to_numpy().tolist() == [[True] * 3, [False] * 3]
        assert (frame["id"][1], frame["ra"][1], frame["name"][1]) == (2**62 + 1, 2.5, "b")


def test_a_line_within_quotes_is_no_comment_whatever_it_begins_with(tmp_path):
    (tmp_path / "a.csv").write_text('id,note,ra\na,"two\n# lines",1\n# no row\nb,"x",2\n\nc,"5\n\n6",3\n')
    frame = read_table(tmp_path / "a.csv")
    assert list(frame["id"]) == ["a", "b", "c"]
    assert list(frame["note"]) == ["two\n# lines", "x", "5\n\n6"]
    assert list(frame["ra"]) == [1, 2, 3]


def test_an_index_of_pandas_is_a_column(tmp_path):
    pd.DataFrame({"ra": [1.0, 2.0]}, index=pd.Index(["x", "y"], name="id")).to_parquet(tmp_path / "a.parquet")
    assert list(read_table(tmp_path / "a.parquet")["id"]) == ["x", "y"]
    assert list(read_table(tmp_path / "a.parquet", ["ra", "id"]).columns) == ["ra", "id"]


def test_the_separator_that_a_spreadsheet_writes_above_the_header(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\nid;ra\na;1\n")
    assert list(read_table(tmp_path / "a.csv").columns) == ["id", "ra"]


def test_a_title_above_the_header_is_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("My galaxies,,\nid,ra,dec\na,1,2\n")
    with pytest.raises(BadFileError, match="first line has fields without names; remove titles"):
        read_table(tmp_path / "a.csv")


def test_which_of_several_tables_is_read_is_told(tmp_path):
    tables = [fits.BinTableHDU(Table({name: [1]})) for name in ("a", "b")]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "a.fits")
    with pytest.warns(UserWarning, match="2 tables in the file, the first is taken"):
        assert list(read_table(tmp_path / "a.fits").columns) == ["a"]
