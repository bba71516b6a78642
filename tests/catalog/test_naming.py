"""Names of rows: those of a column, or the positions."""

import numpy as np
import pandas as pd
import pytest

from zoobot_3d.catalog.naming import position_names, row_names, text_names
from zoobot_3d.errors import CatalogError


def test_positions_are_cut_and_not_rounded():
    # 10h56m24.009s is 164.1000375 deg; -0.0025 deg is -9.0 arcsec, and +12.50002 deg 12:30:00.072.
    ra, dec = np.array([164.1000375, 0.0, np.nan]), np.array([12.50002, -0.0025, 1.0])
    assert position_names(ra, dec) == ["J105624.00+123000.0", "J000000.00-000009.0", ""]


def test_a_column_of_names_counts_before_positions():
    table = pd.DataFrame({"Name": ["a", "b"], "ra": [164.1, 0.0], "dec": [12.5, 1.0]})
    assert row_names(table, "t.csv") == (["a", "b"], "Name")
    assert row_names(table.drop(columns="Name"), "t.csv") == (
        ["J105624.00+123000.0", "J000000.00+010000.0"],
        "position",
    )
    with pytest.raises(CatalogError, match=r"t\.csv: no column ra"):
        row_names(table[["dec"]], "t.csv")


def test_identifiers_that_lost_digits_as_floats_are_refused():
    # A missing value makes floats of a column of integers: those above 2**53 are rounded.
    assert text_names(pd.Series([2.0**53, np.nan, 7.0])) == ["9007199254740992", "", "7"]
    with pytest.raises(CatalogError, match="column id holds identifiers as floating-point numbers, such as 12376503"):
        text_names(pd.Series([1237650372092690465, None], name="id", dtype=float))


def test_bytes_are_utf8():
    assert text_names(pd.Series(["NGC\u00a01".encode(), b"x"])) == ["NGC\u00a01", "x"]


@pytest.mark.parametrize("name", ["1.23765E+18", "1.2E+09", "-4,61E+18"])
def test_identifiers_that_a_spreadsheet_shortened_are_refused(name):
    with pytest.raises(CatalogError, match="last digits a spreadsheet has left out"):
        text_names(pd.Series(["17", name], name="objid"))


def test_names_like_numbers_stay():
    assert text_names(pd.Series(["1E10", "2.5", "3C273", "1.5E+03"], name="id")) == ["1E10", "2.5", "3C273", "1.5E+03"]
