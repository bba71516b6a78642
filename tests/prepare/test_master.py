from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoobot_3d.catalog.reading import join_columns
from zoobot_3d.catalog.splits import assign_split
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import write_parquet
from zoobot_3d.prepare.master import add_pixscale, build_master
from zoobot_3d.schema import DEFAULT_MASTER


@pytest.fixture
def root(tmp_path):
    """A data root with three observations of two galaxies; the second has no picture."""
    matches = pd.DataFrame(
        {
            "file_name": ["gz3d_1-1_127_5.fits.gz", "gz3d_1-1_61_6.fits.gz", "gz3d_1-2_19_7.fits.gz"],
            "MANGAID": ["1-1", "1-1", "1-2"],
            "ra_manga": [10.0001, 10.0, 359.9999],
            "dec_manga": [5.0, 5.0, -3.0],
            "dr8_id": ["100_1", "100_1", "200_2"],
            "ra": [10.0, 10.0, 0.0],
            "dec": [5.0, 5.0, -3.0],
            "separation": [0.36, 0.0, 0.36],
            "n_asked_spiral": [15, 14, 15],
            "n_asked_bar": [15, 15, 15],
        }
    )
    write_parquet(tmp_path / "matches.parquet", matches)
    for name in ("gz3d/gz3d_1-1_127_5.fits.gz", "images/jpg/100_1.jpg", "marks/gz3d_1-1_61_6.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    fractions = {"has-spiral-arms_yes_fraction": [0.9, 0.2, 0.1], "est_petro_th50": [3.0, 100.0, np.nan]}
    write_parquet(tmp_path / "desi.parquet", pd.DataFrame({"dr8_id": ["100_1", "100_1", "999_9"], **fractions}))
    votes = pd.DataFrame({"dr7objid": [587_000_000_000_000_001, 2], "ra": [359.9995, 10.01], "dec": [-3.0, 5.0]})
    write_parquet(tmp_path / "gz2.parquet", votes.assign(**{"bar-gz2_yes": [7, 8]}))
    return tmp_path


def test_everything_is_joined(root):
    summary = build_master(root / "matches.parquet", root=root, desi=[root / "desi.parquet"], gz2=root / "gz2.parquet")
    master = pd.read_parquet(summary.path)
    assert summary.path == root / DEFAULT_MASTER and (summary.n_rows, summary.n_galaxies) == (3, 2)
    assert list(master["mangaid"]) == ["1-1", "1-1", "1-2"]
    assert list(master["relative_gz3d_fits_loc"].notna()) == [True, False, False]
    assert list(master["relative_desi_jpg_loc"].fillna("")) == ["images/jpg/100_1.jpg"] * 2 + [""]
    assert list(master["relative_segmap_json_loc"].fillna("")) == ["", "marks/gz3d_1-1_61_6.json", ""]
    # The first of two rows of one name; the third galaxy is not in the table.
    assert list(master["has-spiral-arms_yes_fraction"].fillna(-1)) == [0.9, 0.9, -1]
    assert master["est_dr5_pixscale"].to_numpy() == pytest.approx([0.12, 0.12, np.nan], nan_ok=True)
    # 1.8 arcsec across RA 0, and 36 arcsec; ids stay exact.
    assert list(master["bar-gz2_yes"].fillna(-1)) == [-1, -1, 7]
    assert master["dr7objid"].iloc[2] == 587_000_000_000_000_001
    assert summary.counts == {
        "picture": 2, "FITS cutout": 0, "marks": 1, "scale": 2, "GZ DESI fractions": 2, "GZ2 votes": 1,
    }  # fmt: skip


def test_the_split_is_the_galaxys_own(root):
    master = pd.read_parquet(build_master(root / "matches.parquet", root=root).path)
    assert list(master["split"]) == list(assign_split(["100_1", "100_1", "200_2"]))
    more = pd.read_parquet(root / "matches.parquet")
    others = {"dr8_id": [f"{i}_7" for i in range(3)], "MANGAID": ["2-1", "2-2", "2-3"], "file_name": ["a", "b", "c"]}
    more = pd.concat([more.assign(**others), more])
    write_parquet(root / "more.parquet", more)
    again = pd.read_parquet(build_master(root / "more.parquet", root=root).path)
    assert list(again["split"][3:]) == list(master["split"])


def test_a_target_with_two_matches_follows_the_nearest(root):
    one, other = "100_1", next(f"{i}_1" for i in range(99) if assign_split([f"{i}_1"])[0] != assign_split(["100_1"])[0])
    matches = pd.read_parquet(root / "matches.parquet")
    write_parquet(root / "matches.parquet", matches.assign(dr8_id=[one, other, "200_2"]))
    summary = build_master(root / "matches.parquet", root=root)
    master = pd.read_parquet(summary.path)
    assert list(master["split"][:2]) == [assign_split([other])[0]] * 2
    assert "1 rows share a mangaid" in summary.notes[0]


def test_observations_that_others_connect_are_in_one_split(root):
    """A target on two galaxies of the sky, one of which another target is on; and targets without a name."""
    splits = {}
    for number in range(99):
        splits.setdefault(assign_split([f"{number}_1"])[0], f"{number}_1")
    one, other, third = splits.values()
    frame = pd.DataFrame(
        {
            "file_name": [f"gz3d_{i}.fits.gz" for i in range(5)],
            "MANGAID": ["1-1", "1-1", "1-2", None, None],
            "dr8_id": [one, other, other, third, one],
            "separation": [0.2, 0.5, 0.1, 0.3, 0.4],
            **dict.fromkeys(("ra", "dec", "ra_manga", "dec_manga"), 30.0),
        }
    )
    write_parquet(root / "matches.parquet", frame)
    master = pd.read_parquet(build_master(root / "matches.parquet", root=root).path)
    assert list(master["split"]) == list(assign_split([other, other, other, third, other]))


def test_pictures_keep_the_position_they_were_fetched_at(root):
    ledger = {"id": ["100_1", "200_2"], "ra": [10.0005, 0.5], "dec": [5.1, 0.0], "pixscale": [0.2, 0.3]}
    ledger |= {"size": 424, "status": ["good", "empty"]}
    write_parquet(root / "images" / "fetched.parquet", pd.DataFrame(ledger))
    master = pd.read_parquet(build_master(root / "matches.parquet", root=root).path)
    assert list(master["ra"]) == [10.0005, 10.0005, 0.0] and list(master["dec"]) == [5.1, 5.1, -3.0]
    assert master["est_dr5_pixscale"].iloc[:2].tolist() == [0.2, 0.2]


def test_a_picture_of_fewer_pixels_has_the_scale_of_its_field(root):
    ledger = {"id": ["100_1"], "ra": [10.0], "dec": [5.0], "pixscale": [0.4], "size": [212], "status": ["good"]}
    write_parquet(root / "images" / "fetched.parquet", pd.DataFrame(ledger))
    master = pd.read_parquet(build_master(root / "matches.parquet", root=root).path)
    assert master["est_dr5_pixscale"].iloc[:2].tolist() == [0.2, 0.2]  # of 424 px


def test_a_broken_record_of_downloads_is_named(root):
    (root / "images" / "fetched.parquet").write_text("no table")
    with pytest.raises(BadFileError, match=r"fetched\.parquet: text, not the kind of table"):
        build_master(root / "matches.parquet", root=root)


# Rows that cannot be used


def matches_with(root, **columns):
    """The matches of the fixture with other columns."""
    frame = pd.read_parquet(root / "matches.parquet").assign(**columns)
    write_parquet(root / "matches.parquet", frame)
    return root / "matches.parquet"


@pytest.mark.parametrize(
    ("columns", "rows", "note"),
    [
        ({"dr8_id": ["100_1", None, " "]}, [0], "2 of 3 rows have no dr8_id (first: row 1) and are left out"),
        ({"file_name": ["a.fits.gz", None, "b.fits.gz"]}, [0, 2], "1 of 3 rows has no file_name (first: row 1)"),
        ({"file_name": "a.fits.gz"}, [0], "2 of 3 rows have the file_name of an earlier row (first: row 1)"),
    ],
)
def test_rows_without_a_name_or_there_twice_are_left_out(root, columns, rows, note):
    before = pd.read_parquet(root / "matches.parquet")
    summary = build_master(matches_with(root, **columns), root=root)
    assert note in summary.notes[0] and "matches.parquet" in summary.notes[0]
    assert list(pd.read_parquet(summary.path)["ra_manga"]) == list(before["ra_manga"][rows])


@pytest.mark.parametrize(
    ("columns", "ra", "note"),
    [
        ({"ra": [10.0, np.nan, 0.0]}, [10.0, np.nan, 0.0], "1 of 3 rows has no ra (first: row 1)"),
        ({"ra": ["10", "far", "0"]}, [10.0, np.nan, 0.0], "1 of 3 rows has text in ra that is no angle"),
        ({"ra": [10.0, 11.0, 0.0]}, [10.0, 11.0, 0.0], "1 of 3 rows have (ra, dec) more than 60 arcsec from"),
    ],
)
def test_positions_that_cannot_be_are_named_and_get_no_gz2_votes(root, columns, ra, note):
    summary = build_master(matches_with(root, **columns), root=root, gz2=root / "gz2.parquet")
    master = pd.read_parquet(summary.path)
    assert any(note in line for line in summary.notes)
    np.testing.assert_array_equal(master["ra"], ra)
    assert list(master["bar-gz2_yes"].fillna(-1)) == [-1, -1, 7]


@pytest.mark.parametrize("column", ["ra", "ra_manga"])
def test_hours_for_degrees_are_refused(root, column):
    values = pd.read_parquet(root / "matches.parquet")[column]
    with pytest.raises(CatalogError, match=rf"matches\.parquet: {column} of 2 of 3 rows is in hours"):
        build_master(matches_with(root, **{column: [10.0 / 15, 10.0 / 15, values[2]]}), root=root)


def test_positions_of_another_equinox_are_refused(root):
    with pytest.raises(CatalogError, match=r"matches\.parquet: positions of the equinox 1950.* by column EQUINOX"):
        build_master(matches_with(root, EQUINOX=1950), root=root)


def test_tables_without_what_they_are_for_are_refused(root):
    with pytest.raises(CatalogError, match="no row has dr8_id and file_name"):
        build_master(matches_with(root, dr8_id=None), root=root)
    votes = pd.read_parquet(root / "gz2.parquet").drop(columns="bar-gz2_yes")
    write_parquet(root / "gz2.parquet", votes)
    with pytest.raises(CatalogError, match=r"gz2\.parquet: no column of votes such as bar-gz2_yes"):
        build_master(matches_with(root, dr8_id="1_1"), root=root, gz2=root / "gz2.parquet")


def test_names_that_a_table_lacks_or_repeats_are_counted(root):
    summary = build_master(root / "matches.parquet", root=root, desi=[root / "desi.parquet"])
    lacks, repeats = summary.notes
    assert lacks.endswith("desi.parquet: 1 of 3 rows of the catalogue are not in it, by dr8_id")
    assert repeats.endswith("desi.parquet: 1 of its rows repeat a dr8_id, such as 100_1; the first of each counts")


def test_what_a_killed_run_left_is_removed(root):
    (root / "data").mkdir()
    leftover = root / "data" / f".{Path(DEFAULT_MASTER).name}.abc.part"
    leftover.touch()
    build_master(root / "matches.parquet", root=root)
    assert not leftover.exists()


def test_paths_must_start_where_the_catalogue_lies(root, tmp_path):
    with pytest.raises(CatalogError, match="paths in it are relative to"):
        build_master(root / "matches.parquet", root / "elsewhere" / "m.parquet", root=root)
    assert build_master(root / "matches.parquet", root / "m.csv", root=root).path == root / "m.csv"


def test_pixscale_is_measured_estimated_or_missing():
    frame = pd.DataFrame(
        {
            "est_dr5_pixscale": [0.3, None, None, None, None],
            "petro_th50": [1.0, 5.0, None, 1.0, None],
            "petro_th90": [1.0, 9.0, None, None, None],
            "est_petro_th50": [1.0, 1.0, 10.0, 1.0, "?"],
        }
    )
    found = add_pixscale(frame)["est_dr5_pixscale"].to_numpy()
    assert found == pytest.approx([0.3, 0.18, 0.4, 0.1, np.nan], nan_ok=True)


def test_units_of_radii_hold():
    frame = pd.DataFrame({"petro_th50": [0.1], "petro_th90": [18.0]})
    frame.attrs["units"] = {"petro_th50": "arcmin", "petro_th90": "arcsec"}
    found = add_pixscale(frame)  # 0.04 x 6 arcsec, 0.02 x 18 arcsec: the smaller
    assert found["est_dr5_pixscale"].tolist() == pytest.approx([0.24])
    assert found.attrs["units"]["est_dr5_pixscale"] == "arcsec"


def test_a_table_without_the_name_is_refused(root):
    frame = pd.DataFrame({"dr8_id": ["1_1"]})
    pd.DataFrame({"id": [1], "x": [2]}).to_csv(root / "t.csv", index=False)
    with pytest.raises(CatalogError, match=r"t\.csv: no column dr8_id"):
        join_columns(frame, root / "t.csv", "dr8_id")
    with pytest.raises(CatalogError, match=r"desi\.parquet: no column spam"):
        join_columns(frame, root / "desi.parquet", "dr8_id", ["spam"])
    assert join_columns(frame, root / "desi.parquet", "dr8_id")["est_petro_th50"].isna().all()
