import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from zoobot_3d.catalog.positions import PositionReader, position_columns, read_positions
from zoobot_3d.errors import CatalogError, ConfigError
from zoobot_3d.io import read_table


def frame(ra, dec=None):
    return pd.DataFrame({"ra": ra, "dec": [0.0] * len(ra) if dec is None else dec})


def test_good_positions_pass_unchanged_and_without_remarks():
    positions = read_positions(frame([0.0, 12.5, 359.9], [-90.0, 0.0, 90.0]), name="a.csv")
    np.testing.assert_array_equal(positions.ra, [0.0, 12.5, 359.9])
    np.testing.assert_array_equal(positions.dec, [-90.0, 0.0, 90.0])
    assert positions.problems == []
    assert positions.usable.all()


def test_360_is_0():
    np.testing.assert_array_equal(read_positions(frame([360.0]), name="a.csv").ra, [0.0])


def test_hours_become_degrees():
    positions = read_positions(frame([0.0, 6.0, 23.5]), name="a.csv", ra_unit="hour")
    np.testing.assert_array_equal(positions.ra, [0.0, 90.0, 352.5])


def test_the_table_is_not_changed():
    table = frame([370.0, 1.0])
    read_positions(table, name="a.csv")
    assert table["ra"].tolist() == [370.0, 1.0]


@pytest.mark.parametrize(
    ("ra", "problem"),
    [
        (np.nan, "1 of 3 rows has no ra (first: row 1)"),
        (np.inf, "1 of 3 rows has an infinite ra (first: row 1)"),
        (-199.0, "1 of 3 rows has ra outside 0 to 360 deg (first: row 1)"),
        (360.1, "1 of 3 rows has ra outside 0 to 360 deg (first: row 1)"),
        ("", "1 of 3 rows has no ra (first: row 1)"),
        (None, "1 of 3 rows has no ra (first: row 1)"),
        ("12:30:45.1", "1 of 3 rows has ra and dec in different notations, decimal and sexagesimal (first: row 1)"),
        ("12,5", "1 of 3 rows has a decimal comma in ra: write a point (first: row 1)"),
        ("{unknown}", "1 of 3 rows has text in ra that is no angle, such as '{unknown}' (first: row 1)"),
    ],
)
def test_what_is_wrong_is_named_with_the_rows(ra, problem):
    positions = read_positions(frame([10.0, ra, 30.0]), name="a.csv")
    assert positions.problems == [f"a.csv: {problem}"]
    np.testing.assert_array_equal(positions.ra, [10.0, np.nan, 30.0])
    np.testing.assert_array_equal(positions.dec, [0.0, np.nan, 0.0])


def test_sexagesimal_columns_are_hours_and_degrees():
    positions = read_positions(frame(["10:56:24", "10h56m24s", "-"], ["+12:30:00", "12d30m", "1"]), name="a.csv")
    np.testing.assert_allclose(positions.ra, [164.1, 164.1, np.nan])
    np.testing.assert_allclose(positions.dec, [12.5, 12.5, np.nan])


def test_negative_right_ascensions_are_wrapped_and_said():
    positions = read_positions(frame([-10.5, 20.0]), name="a.csv")
    np.testing.assert_allclose(positions.ra, [349.5, 20.0])
    assert positions.problems == ["a.csv: 1 of 2 rows has a negative ra, taken as 360 deg more (first: row 0)"]


@pytest.mark.parametrize(
    ("unit", "ra", "dec"),
    [("rad", np.pi, 0.5), ("hourangle", 12.0, 0.5), ("arcsec", 648000.0, 0.5), ("deg", 180.0, 0.5)],
)
def test_units_that_the_table_records_are_honoured(unit, ra, dec):
    table = frame([ra], [dec])
    table.attrs["units"] = {"ra": unit}
    np.testing.assert_allclose(read_positions(table, name="a.fits").ra, [180.0])


def test_a_unit_that_is_no_angle_is_refused():
    table = frame([1.0])
    table.attrs["units"] = {"ra": "km"}
    with pytest.raises(CatalogError, match="column ra has the unit 'km', which is no angle"):
        read_positions(table, name="a.fits")


@pytest.mark.parametrize("names", [("RA", "DEC"), ("RAJ2000", "DEJ2000"), ("Ra_Deg", "Dec_Deg"), ("RA_OBJ", "DEC_OBJ")])
def test_columns_are_found_under_their_usual_names(names):
    assert position_columns(["x", *names], "a.csv") == names
    assert position_columns(["x", *names], "a.csv", names[0].lower(), names[1].lower()) == names


def test_declination_off_the_sky():
    positions = read_positions(frame([1.0, 2.0, 3.0], [0.0, 90.5, -91.0]), name="a.csv")
    assert positions.problems == ["a.csv: 2 of 3 rows have dec outside -90 to 90 deg (first: row 1)"]
    np.testing.assert_array_equal(positions.usable, [True, False, False])


def test_numbers_written_as_text_or_bytes_are_read():
    positions = read_positions(frame(["129.5", b"130.25", 7]), name="sami.fits")
    np.testing.assert_array_equal(positions.ra, [129.5, 130.25, 7.0])
    assert positions.problems == []


def test_hours_read_as_degrees_raise_a_suspicion_a_narrow_band_does_not():
    everywhere, narrow = np.linspace(0.1, 23.9, 50), np.linspace(10, 20, 50)
    (problem,) = read_positions(frame(everywhere), name="a.csv").problems
    assert "no ra of 50 rows is beyond 24" in problem and "multiply them by 15" in problem
    assert read_positions(frame(narrow), name="a.csv").problems == []
    assert read_positions(frame(everywhere), name="a.csv", ra_unit="hour").problems == []


def test_degrees_read_as_hours_are_off_the_sky():
    positions = read_positions(frame([1.0, 200.0, 300.0]), name="a.csv", ra_unit="hour")
    assert positions.problems == ["a.csv: 2 of 3 rows have ra outside 0 to 24 hours (first: row 1)"]


def test_single_precision_is_remarked_on():
    positions = read_positions(frame(np.array([200.0, 210.0], np.float32)), name="a.csv")
    assert "2 of 2 rows have ra in single precision" in positions.problems[0]
    assert positions.usable.all()


def test_missing_columns_name_those_like_them():
    table = pd.DataFrame({"RA_OBJ": [1.0], "RA_IFU": [1.0], "DEC_OBJ": [1.0]})
    with pytest.raises(CatalogError, match=r"sami\.fits: no column ra .*did you mean RA_OBJ or RA_IFU\?"):
        read_positions(table, name="sami.fits")
    with pytest.raises(CatalogError, match="did you mean declination"):
        read_positions(pd.DataFrame({"ra": [1.0], "declination": [1.0]}), name="a", dec="Declinaton")
    with pytest.raises(CatalogError, match="name or add the column"):
        read_positions(pd.DataFrame({"ra": [1.0], "x": [1.0]}), name="a")


def test_no_usable_row_says_why():
    with pytest.raises(CatalogError, match="no row has a usable position: 2 of 2 rows have no ra"):
        read_positions(frame([np.nan, np.nan]), name="a.csv")
    with pytest.raises(CatalogError, match="the table has no rows"):
        read_positions(frame([]), name="a.csv")


def test_unknown_unit():
    with pytest.raises(ConfigError, match="unknown unit 'radian'"):
        read_positions(frame([1.0]), name="a.csv", ra_unit="radian")


def test_pieces_are_counted_together():
    reader = PositionReader("big.parquet", ["ra", "dec"])
    for ra in ([1.0, 2.0], [3.0, np.nan], ["x", "y"]):
        reader.read(pd.Series(ra), pd.Series([0.0, 0.0]))
    assert reader.n_rows == 6
    assert reader.n_usable == 3
    assert reader.ra_range == (1.0, 3.0)
    assert reader.problems() == [
        "big.parquet: 1 of 6 rows has no ra (first: row 3)",
        "big.parquet: 2 of 6 rows have text in ra that is no angle, such as 'x' (first: row 4)",
    ]


def test_example_hoyle_catalogue_is_good(examples):
    (path,) = (examples / "catalogs" / "hoyle2011").glob("*.csv")
    positions = read_positions(pd.read_csv(path), name=path.name)
    assert positions.usable.all()
    assert positions.problems == []


@pytest.mark.parametrize(
    "columns",
    [
        ("RA (deg)", "Dec (deg)"),
        ("RA [J2000]", "DEC [J2000]"),
        ("R.A.", "Dec."),
        ("RA J2000", "Dec J2000"),
        ("coord.ra", "coord.dec"),
        ("TARGET_RA", "TARGET_DEC"),
    ],
)
def test_headers_as_people_write_them(columns):
    assert position_columns(["name", *columns, "z"], "t.csv") == columns


def test_a_column_of_just_the_name_counts_before_one_like_it():
    assert position_columns(["RA (deg)", "Dec (deg)", "ra", "dec"], "t.csv") == ("ra", "dec")


def test_hours_in_a_header_are_not_taken_for_degrees():
    ra, dec = position_columns(["name", "RA (hours)", "Dec (deg)"], "t.csv")
    assert (ra, dec) == ("RA (hours)", "Dec (deg)")
    places = read_positions(pd.DataFrame({ra: [10.5], dec: [-2.0]}), name="t.csv", ra=ra, dec=dec)
    assert (places.ra[0], places.dec[0]) == (157.5, -2.0)


def test_a_table_without_a_header_is_recognized():
    with pytest.raises(CatalogError, match=r"its first line holds numbers .* add a line of column names"):
        position_columns(["NGC 1", "1.8", "27.7"], "t.csv")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("equinox", ["J2000", "B1950"]),
        ("Equinox", [2000.0, 1950.0]),
        ("epoch", [1950, 1950]),
        ("equinox", [b"J1991.25"] * 2),
    ],
)
def test_positions_of_another_equinox_are_refused(column, values):
    frame = pd.DataFrame({"ra": [10.0, 11.0], "dec": [1.0, 2.0], column: values})
    with pytest.raises(CatalogError, match=rf"positions of the equinox .* by column {column}; convert them to J2000"):
        read_positions(frame, name="a.csv")


@pytest.mark.parametrize(
    ("column", "values"), [("equinox", ["J2000.0", ""]), ("epoch", [2015.5, 1991.25]), ("equinox", [2000, np.nan])]
)
def test_equinox_2000_and_epochs_of_observations_are_no_matter(column, values):
    frame = pd.DataFrame({"ra": [10.0, 11.0], "dec": [1.0, 2.0], column: values})
    assert list(read_positions(frame, name="a.csv").ra) == [10, 11]


def test_an_equinox_in_the_header_of_a_fits_table_counts(tmp_path):
    Table({"ra": [10.0], "dec": [1.0]}, meta={"EQUINOX": 1950.0}).write(tmp_path / "a.fits")
    with pytest.raises(CatalogError, match=r"equinox 1950.0 by its header"):
        read_positions(read_table(tmp_path / "a.fits"), name="a.fits")
