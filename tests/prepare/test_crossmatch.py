import sys
import warnings

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from distributed import Client, LocalCluster

from zoobot_3d import cli
from zoobot_3d.catalog import pairs
from zoobot_3d.catalog.positions import read_positions
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.io import read_table
from zoobot_3d.prepare import crossmatch as crossmatch_module
from zoobot_3d.prepare.crossmatch import CrossmatchOptions, SkyColumns

ARCSEC = 1 / 3600


def galaxies(*positions):
    """Rows m0, m1, ... at (ra, dec)."""
    ra, dec = zip(*positions, strict=True)
    return pd.DataFrame({"mangaid": [f"m{i}" for i in range(len(ra))], "ra": ra, "dec": dec})


def crossmatch(*paths, progress=True, **flat):
    """Cross-match with options by single names; those of the catalogue's columns begin with ``catalogue_``."""
    sides = []
    for prefix in ("", "catalogue_"):
        given = {name: flat.pop(prefix + name) for name in ("ra", "dec", "ra_unit") if prefix + name in flat}
        name = flat.pop("catalogue_id" if prefix else "galaxy_id", None)
        sides.append(SkyColumns(name=name, **given))
    options = CrossmatchOptions(galaxies=sides[0], catalogue=sides[1], **flat)
    return crossmatch_module.crossmatch(*paths, options=options, progress=progress)


def catalogue(*positions):
    """Rows 0_0, 1_0, ... at (ra, dec), with a magnitude."""
    ra, dec = zip(*positions, strict=True)
    names = [f"{i}_0" for i in range(len(ra))]
    return pd.DataFrame({"dr8_id": names, "ra": ra, "dec": dec, "mag": np.arange(len(ra)) + 15.0})


@pytest.fixture
def match(tmp_path, monkeypatch):
    """Write two tables, cross-match them, read what was written."""

    def run(ours, theirs, kind="parquet", plot=False, **options):
        if not plot:  # most of the time, for nothing
            monkeypatch.setattr(crossmatch_module, "plot_separations", lambda *args: None)
        inputs = []
        for name, table in (("galaxies.csv", ours), ("catalogue.parquet", theirs)):
            inputs.append(tmp_path / name)
            table.to_csv(inputs[-1], index=False) if name.endswith("csv") else table.to_parquet(inputs[-1])
        summary = crossmatch(*inputs, tmp_path / f"m.{kind}", progress=False, **options)
        return summary, read_table(summary.matches)

    return run


def random_sky(n, seed):
    """Positions over the whole sky, crowded at RA 0 and at both poles."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    part = n // 5
    ra[:part] = rng.normal(0, 20 * ARCSEC, part) % 360
    dec[:part] = rng.normal(0, 60 * ARCSEC, part)
    dec[part : 2 * part] = 90 - np.abs(rng.normal(0, 60 * ARCSEC, part))
    dec[2 * part : 3 * part] = -90 + np.abs(rng.normal(0, 60 * ARCSEC, part))
    return ra, dec


def by_astropy(ours, theirs, radius):
    row, separation, _ = SkyCoord(ours.ra, ours.dec, unit="deg").match_to_catalog_sky(
        SkyCoord(theirs.ra, theirs.dec, unit="deg")
    )
    return row, separation.to_value(u.arcsec), separation <= radius * u.arcsec


# Positions


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_astropy_at_ra_0_and_at_the_poles(match, monkeypatch, seed):
    monkeypatch.setattr(pairs, "_TREE_ROWS", 400)  # many trees, as for a long catalogue
    monkeypatch.setattr(pairs, "_READ_ROWS", 150)
    ours = galaxies(*zip(*random_sky(500, seed), strict=True))
    theirs = catalogue(*zip(*random_sky(3000, seed + 10), strict=True))
    row, separation, near = by_astropy(ours, theirs, 5)
    assert 100 < near.sum() < 450
    summary, matches = match(ours, theirs, radius=5, keep_duplicates=True)
    assert matches["mangaid"].tolist() == ours["mangaid"][near].tolist()
    assert matches["dr8_id"].tolist() == theirs["dr8_id"].iloc[row[near]].tolist()
    np.testing.assert_allclose(matches["separation"], separation[near], atol=1e-9)
    # Beyond the radius, too, the nearest is known, at any distance.
    unmatched = pd.read_parquet(summary.unmatched_galaxies)
    np.testing.assert_allclose(unmatched["separation"], separation[~near], rtol=1e-6)
    assert separation[~near].max() > 3600


@pytest.mark.parametrize(
    ("ours", "theirs", "separation"),
    [
        ((359.9999, 0.0), (0.0001, 0.0), 0.72),
        ((0.0, 0.0), (360.0, 0.0), 0.0),
        ((10.0, 89.9998), (190.0, 89.9998), 1.44),  # over the pole
        ((0.0, -90.0), (123.0, -90.0), 0.0),
        ((30.0, 60.0), (30.0004, 60.0), 0.72),
    ],
)
def test_hand_worked_separations(match, ours, theirs, separation):
    _, matches = match(galaxies(ours), catalogue((200.0, 0.0), theirs))
    assert matches["dr8_id"].tolist() == ["1_0"]
    assert matches["separation"].iloc[0] == pytest.approx(separation, abs=1e-6)


def test_the_radius_counts_in(match):
    inside, outside = (10.0, 2.9999 * ARCSEC), (20.0, 3.0001 * ARCSEC)
    _, matches = match(galaxies((10.0, 0.0), (20.0, 0.0)), catalogue(inside, outside))
    assert matches["mangaid"].tolist() == ["m0"]


# Who wins


REPEATS = galaxies((10.0, 0.9 * ARCSEC), (10.0, 0.2 * ARCSEC), (20.0, 0.0), (10.0, -0.5 * ARCSEC))


def test_of_repeated_observations_the_nearest_wins_and_the_others_are_listed(match):
    summary, matches = match(REPEATS, catalogue((10.0, 0.0), (20.0, 0.0)))
    assert matches["mangaid"].tolist() == ["m1", "m2"]
    assert "duplicate_of" not in matches
    losers = pd.read_parquet(summary.duplicates)
    assert losers["mangaid"].tolist() == ["m0", "m3"]
    assert losers["duplicate_of"].tolist() == ["m1", "m1"]
    np.testing.assert_allclose(losers["separation"], [0.9, 0.5])
    np.testing.assert_allclose(losers["separation_winner"], [0.2, 0.2])
    assert (summary.n_matched, summary.n_duplicates, summary.n_unmatched) == (2, 2, 0)


def test_repeated_observations_can_be_kept(match):
    summary, matches = match(REPEATS, catalogue((10.0, 0.0), (20.0, 0.0)), keep_duplicates=True)
    assert matches["mangaid"].tolist() == ["m0", "m1", "m2", "m3"]
    assert matches["duplicate_of"].tolist() == ["m1", "", "", "m1"]
    assert summary.n_matched == 2
    assert summary.n_duplicates == 2


def test_equal_separations_go_to_the_first(match, monkeypatch):
    monkeypatch.setattr(pairs, "_TREE_ROWS", 2)
    monkeypatch.setattr(pairs, "_READ_ROWS", 2)
    twins = catalogue((50.0, 0.0), (10.0, 0.0), (10.0, 0.0), (60.0, 0.0), (10.0, 0.0))
    summary, matches = match(galaxies((10.0, 1 * ARCSEC), (10.0, 1 * ARCSEC)), twins)
    assert matches[["mangaid", "dr8_id"]].to_numpy().tolist() == [["m0", "1_0"]]
    assert pd.read_parquet(summary.duplicates)["mangaid"].tolist() == ["m1"]


def test_catalogue_rows_of_one_name_are_one_object(match):
    theirs = catalogue((10.0, 2 * ARCSEC), (10.0, 0.0), (20.0, 0.0))
    theirs["dr8_id"] = ["7_1", "7_1", "8_1"]
    ours = galaxies((10.0, 1.6 * ARCSEC), (10.0, 0.1 * ARCSEC), (20.0, 0.0))  # m0 is nearest to the other 7_1
    summary, matches = match(ours, theirs, columns=["mag"])
    assert matches["mangaid"].tolist() == ["m1", "m2"]
    assert matches["mag"].tolist() == [16.0, 17.0]
    assert pd.read_parquet(summary.duplicates)["duplicate_of"].tolist() == ["m1"]
    assert "1 of 3 rows repeat a dr8_id; the nearest row wins" in summary.problems[-1]
    assert summary.n_unmatched_catalogue == 0


def test_rows_without_a_name_are_objects_of_their_own(match):
    theirs = catalogue((10.0, 0.0), (20.0, 0.0))
    theirs["dr8_id"] = [None, None]
    summary, matches = match(galaxies((10.0, 0.0), (20.0, 0.0)), theirs)
    assert matches["mangaid"].tolist() == ["m0", "m1"]
    assert summary.n_unmatched_catalogue == 0


def test_a_number_within_a_brick_names_nothing(match):
    theirs = catalogue((10.0, 0.0), (20.0, 0.0)).drop(columns="dr8_id").assign(brickid=[1, 2], objid=[5, 5])
    summary, matches = match(galaxies((10.0, 0.0), (20.0, 0.0)), theirs)
    assert matches["mangaid"].tolist() == ["m0", "m1"]
    assert matches["objid"].tolist() == [5, 5]
    assert summary.problems == ()


# What is written


def test_colliding_columns_of_the_galaxies_get_the_suffix(match):
    ours = galaxies((10.0, 0.0)).assign(mag=12.0, note="a")
    _, matches = match(ours, catalogue((10.0, 0.0)), columns=["mag"], suffix="_manga")
    expected = ["mangaid", "ra_manga", "dec_manga", "mag_manga", "note", "dr8_id", "ra", "dec", "mag", "separation"]
    assert list(matches) == expected
    assert matches[["mag_manga", "mag"]].to_numpy().tolist() == [[12.0, 15.0]]
    with pytest.raises(ConfigError, match="makes a column mag_x that is there already"):
        match(ours.assign(mag_x=1), catalogue((10.0, 0.0)), columns=["mag"], suffix="_x")


def test_all_columns_can_be_kept(match):
    theirs = catalogue((10.0, 0.0)).assign(a=1, b="x")
    _, matches = match(galaxies((10.0, 0.0)), theirs, columns=["all"])
    assert list(matches)[3:] == ["dr8_id", "ra", "dec", "mag", "a", "b", "separation"]


def test_kept_rows_come_from_their_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "_READ_ROWS", 3)
    theirs = catalogue(*((10.0 + i, 0.0) for i in range(40)))
    theirs.to_parquet(tmp_path / "c.parquet", row_group_size=7)
    ours = galaxies(*((10.0 + i, 0.0) for i in (39, 0, 6, 7, 13, 14, 20)))
    ours.to_csv(tmp_path / "g.csv", index=False)
    crossmatch(tmp_path / "g.csv", tmp_path / "c.parquet", tmp_path / "m.csv", columns=["mag"], progress=False)
    assert pd.read_csv(tmp_path / "m.csv")["mag"].tolist() == [54.0, 15.0, 21.0, 22.0, 28.0, 29.0, 35.0]
    left = pd.read_parquet(tmp_path / "m_unmatched_catalogue.parquet")
    assert left["row"].tolist() == sorted(set(range(40)) - {39, 0, 6, 7, 13, 14, 20})
    assert left["dr8_id"].tolist() == [f"{row}_0" for row in left["row"]]


def test_both_unmatched_lists(match):
    ours = galaxies((np.nan, 0.0), (20.0, 0.0), (10.0, 0.0))
    theirs = catalogue((10.0, 0.0), (20.0, 6 * ARCSEC), (400.0, 0.0))
    summary, matches = match(ours, theirs)
    assert matches["mangaid"].tolist() == ["m2"]
    left = pd.read_parquet(summary.unmatched_galaxies)
    assert left["mangaid"].tolist() == ["m0", "m1"]
    assert left["reason"].tolist() == ["no usable position", "nothing within 3 arcsec"]
    np.testing.assert_allclose(left["separation"], [np.nan, 6.0])
    left = pd.read_parquet(summary.unmatched_catalogue)
    assert list(left) == ["row", "dr8_id", "ra", "dec"]
    assert left["row"].tolist() == [1, 2]
    np.testing.assert_array_equal(left["ra"], [20.0, np.nan])
    assert summary.n_unmatched_catalogue == 2
    assert [problem.split(": ", 1)[1] for problem in summary.problems] == [
        "1 of 3 rows has no ra (first: row 0)",
        "1 of 3 rows has ra outside 0 to 360 deg (first: row 2)",
    ]


def test_histogram_of_nearest_separations(match):
    ours = galaxies((10.0, 0.0), (20.0, 0.0), (30.0, 0.0), (40.0, 0.0))
    theirs = catalogue((10.0, 0.5 * ARCSEC), (20.0, 0.55 * ARCSEC), (30.0, 7.1 * ARCSEC), (10.0, 8 * ARCSEC))
    summary, _ = match(ours, theirs, plot=True)
    table = pd.read_csv(summary.histogram)
    assert table["to_arcsec"].iloc[-1] == 10
    assert table.loc[table["galaxies"] > 0, ["from_arcsec", "galaxies"]].to_numpy().tolist() == [[0.4, 2], [7.0, 1]]
    # Two rows in the ring from 5 to 10 arcsec around four galaxies; from 0.6 arcsec on, two galaxies are without.
    density = 2 / (4 * np.pi * 75)
    chance = density * np.pi * (4 * 0.6**2 + 2 * (9 - 0.6**2))
    assert summary.expected_by_chance == pytest.approx(chance)
    assert table["expected_by_chance"].iloc[:15].sum() == pytest.approx(chance, abs=1e-3)
    assert summary.plot.read_bytes()[:4] == b"\x89PNG"


def test_chance_line_gives_the_strangers_found(match):
    rng = np.random.default_rng(3)
    crowd = [(a, d) for a, d in rng.uniform(0, 0.5, (20000, 2))]
    alone = [(a, d) for a, d in rng.uniform(0.05, 0.45, (2000, 2))]
    summary, _ = match(galaxies(*alone), catalogue(*crowd))
    strangers = summary.n_matched + summary.n_duplicates
    assert 200 < strangers < 500
    assert summary.expected_by_chance == pytest.approx(strangers, rel=0.15)


@pytest.mark.parametrize("kind", ["csv", "parquet", "fits"])
def test_every_kind_of_table_in_and_out(tmp_path, kind):
    from astropy.table import Table

    ours = galaxies((10.0, 0.0), (10.0, 1 * ARCSEC), (30.0, 0.0))
    theirs = catalogue((10.0, 0.0), (20.0, 0.0)).assign(objid=[1237648704066879616, 1237648704066879617])
    paths = []
    for name, table in (("g", ours), ("c", theirs)):
        paths.append(tmp_path / f"{name}.{kind}")
        if kind == "csv":
            table.to_csv(paths[-1], index=False)
        elif kind == "parquet":
            table.to_parquet(paths[-1])
        else:
            Table.from_pandas(table.astype({table.columns[0]: object})).write(paths[-1])
    summary = crossmatch(*paths, tmp_path / f"m.{kind}", columns=["mag"], progress=False)
    matches = read_table(summary.matches)
    assert matches["mangaid"].tolist() == ["m0"]
    assert matches["objid"].astype(str).tolist() == ["1237648704066879616"]
    assert matches["mag"].tolist() == [15.0]
    assert read_table(summary.duplicates)["duplicate_of"].tolist() == ["m0"]
    assert read_table(summary.unmatched_galaxies)["reason"].tolist() == ["nothing within 3 arcsec"]
    assert pq.read_table(summary.unmatched_catalogue)["dr8_id"].to_pylist() == ["1_0"]


def test_long_integers_beside_a_null_stay_exact(match):
    theirs = catalogue((10.0, 0.0), (20.0, 0.0))
    theirs["dr7objid"] = pd.array([1237648704066879617, None], dtype="Int64")
    _, matches = match(galaxies((10.0, 0.0), (20.0, 0.0)), theirs)
    assert matches["dr7objid"].astype("Int64").tolist() == [1237648704066879617, pd.NA]


def test_hours_are_read_as_hours_and_written_as_degrees(match):
    ours = galaxies((1.0, 0.0), (10.0, 0.0))
    _, matches = match(ours, catalogue((15.0, 0.0), (150.0, 0.0)), ra_unit="hour")
    np.testing.assert_array_equal(matches["ra_galaxy"], [15.0, 150.0])
    _, matches = match(galaxies((15.0, 0.0)), catalogue((1.0, 0.0)), catalogue_ra_unit="hour")
    np.testing.assert_array_equal(matches["ra"], [15.0])


def test_nothing_matches(match):
    summary, matches = match(galaxies((10.0, 0.0)), catalogue((200.0, 0.0)), plot=True)
    assert len(matches) == 0
    assert list(matches)[-2:] == ["dec", "separation"]
    assert np.isnan(summary.median_separation)
    assert "0 of 1 galaxies match" in str(summary)


# The same command again


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["csv", "parquet", "fits"])
def test_the_same_again_gives_the_same_bytes(match, tmp_path, kind):
    theirs = catalogue((10.0, 0.0), (20.0, 0.0), (30.0, 0.0))
    match(REPEATS, theirs, kind, plot=True)
    first = contents(tmp_path)
    assert len(first) == 2 + 6
    match(REPEATS, theirs, kind, plot=True)
    assert contents(tmp_path) == first


def test_matches_come_last_and_an_interrupted_run_leaves_none(match, tmp_path, monkeypatch):
    theirs = catalogue((10.0, 0.0), (20.0, 0.0))
    match(REPEATS, theirs, plot=True)
    first = contents(tmp_path)
    (tmp_path / ".m.parquet.abc.part").write_text("of a killed run")
    (tmp_path / ".other.parquet.abc.part").write_text("of another command")

    def fail(path, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(crossmatch_module, "plot_separations", fail)
        with pytest.raises(KeyboardInterrupt):
            match(REPEATS, theirs, plot=True)
    assert not (tmp_path / "m.parquet").exists()
    match(REPEATS, theirs, plot=True)
    assert contents(tmp_path) == first | {".other.parquet.abc.part": b"of another command"}


def test_a_run_that_cannot_be_leaves_old_matches_alone(match, tmp_path):
    match(REPEATS, catalogue((10.0, 0.0)))
    with pytest.raises(CatalogError):
        match(REPEATS.drop(columns="dec"), catalogue((10.0, 0.0)))
    assert (tmp_path / "m.parquet").exists()


# Bad input


HOURS = galaxies(*((0.4 + 0.7 * i, 1.0 + i) for i in range(30)))
DEGREES = catalogue(*((15 * (0.4 + 0.7 * i), 1.0 + i) for i in range(30)))


def test_hours_for_degrees_are_found_out_by_the_matches(match):
    with pytest.raises(
        CatalogError, match=r"galaxies\.csv: .* in hours: 0 of 30 .* as degrees, 30 as hours; .*--ra-unit hour"
    ):
        match(HOURS, DEGREES)
    with pytest.raises(CatalogError, match=r"catalogue\.parquet: .* in hours: .*--catalogue-ra-unit hour"):
        match(
            DEGREES.rename(columns={"dr8_id": "mangaid"}).drop(columns="mag"), HOURS.rename(columns={"mangaid": "id"})
        )
    summary, _ = match(HOURS, DEGREES, ra_unit="hour")
    assert summary.n_matched == 30


def test_positions_of_another_equinox_are_refused(match):
    with pytest.raises(CatalogError, match=r"galaxies\.csv: positions of the equinox B1950 by column equinox"):
        match(galaxies((10.0, 20.0)).assign(equinox="B1950"), catalogue((10.0, 20.0)))
    summary, _ = match(galaxies((10.0, 20.0)).assign(equinox="J2000", epoch=2015.5), catalogue((10.0, 20.0)))
    assert summary.n_matched == 1


def test_few_matches_alone_are_no_sign_of_hours(match):
    summary, _ = match(HOURS, catalogue((0.4, 1.0), (300.0, 0.0)))
    assert summary.n_matched == 1
    assert "beyond 24" in summary.problems[0]
    # A few more in hours are none either: these may be chance.
    summary, _ = match(HOURS, pd.concat([DEGREES[:20], HOURS.rename(columns={"mangaid": "dr8_id"})[-2:]]))
    assert summary.n_matched == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ra": "RA"}, r"galaxies\.csv: no column RA .*did you mean ra\?"),
        ({"catalogue_dec": "DEC"}, r"catalogue\.parquet: no column DEC .*did you mean dec\?"),
        ({"columns": ["mags"]}, r"catalogue\.parquet: no column mags .*did you mean mag\?"),
        ({"catalogue_id": "brick"}, r"catalogue\.parquet: no column brick"),
        ({"galaxy_id": "name"}, r"galaxies\.csv: no column name"),
    ],
)
def test_missing_columns(match, change, message):
    with pytest.raises(CatalogError, match=message):
        match(REPEATS, catalogue((10.0, 0.0)), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0}, "radius 0 arcsec"),
        ({"radius": np.nan}, "radius nan arcsec"),
        ({"engine": "astropy"}, "unknown engine 'astropy'"),
        ({"kind": "txt"}, "written as .csv, .parquet or .fits"),
    ],
)
def test_options_that_do_not_fit(match, change, message):
    with pytest.raises(ConfigError, match=message):
        match(REPEATS, catalogue((10.0, 0.0)), **change)


def test_repeated_names_of_galaxies_are_counted_and_another_name_is_used(match):
    ours = REPEATS.assign(mangaid="1-1", file_name=["a", "b", "c", "d"])
    summary, _ = match(ours, catalogue((10.0, 0.0)))
    assert "3 of 4 rows repeat a mangaid (first: row 1)" in summary.problems[0]
    assert pd.read_parquet(summary.duplicates)["duplicate_of"].tolist() == ["b", "b"]


def test_positions_that_are_no_numbers_are_counted(match):
    ours = galaxies((10.0, 0.0), (20.0, 0.0)).astype({"ra": object})
    ours.loc[1, "ra"] = "01:20:00"
    summary, matches = match(ours, catalogue((10.0, 0.0), (20.0, 0.0)))
    assert matches["mangaid"].tolist() == ["m0"]
    assert "1 of 2 rows has ra and dec in different notations" in summary.problems[0]


def test_no_usable_row_at_all(match):
    nowhere = [(np.nan, 0.0), (np.nan, 1.0)]
    with pytest.raises(CatalogError, match=r"galaxies\.csv: no row has a usable position: 2 of 2 rows have no ra"):
        match(galaxies(*nowhere), catalogue((10.0, 0.0)))
    with pytest.raises(CatalogError, match=r"catalogue\.parquet: no row has a usable position: 2 of 2 rows have no ra"):
        match(galaxies((10.0, 0.0)), catalogue(*nowhere))


def test_files_that_cannot_be_read(tmp_path):
    good = tmp_path / "g.csv"
    REPEATS.to_csv(good, index=False)
    for name, content in (("c.parquet", b"PAR1 no"), ("c.fits", b"no"), ("c.csv", b""), ("c.txt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadFileError, match=name):
            crossmatch(good, tmp_path / name, tmp_path / "m.csv", progress=False)
    with pytest.raises(BadFileError, match="no such file"):
        crossmatch(good, tmp_path / "absent.parquet", tmp_path / "m.csv", progress=False)
    with pytest.raises(ConfigError, match="a folder"):
        crossmatch(good, tmp_path, tmp_path / "m.csv", progress=False)
    with pytest.raises(ConfigError, match="is an input"):
        crossmatch(good, tmp_path / "c.parquet", good, progress=False)


# LSDB


@pytest.fixture(scope="module")
def hats(tmp_path_factory):
    """A HATS catalogue of a few pixels without a margin cache, and the same rows as Parquet."""
    lsdb = pytest.importorskip("lsdb")
    folder = tmp_path_factory.mktemp("hats")
    ra, dec = random_sky(3000, 5)
    # Rows just west of the border of two pixels (RA 45, on the equator), whose galaxies lie just east of it.
    theirs = catalogue(*zip(np.append(ra, np.full(40, 45 - 0.5 * ARCSEC)), np.append(dec, BORDER), strict=True))
    theirs.to_parquet(folder / "catalogue.parquet")
    with warnings.catch_warnings(action="ignore"):  # lsdb's own
        lsdb.from_dataframe(
            theirs, ra_column="ra", dec_column="dec", catalog_name="sky", partition_rows=600, margin_threshold=None
        ).write_catalog(folder / "sky", catalog_name="sky", progress_bar=False)
    return folder


BORDER = np.arange(40) * 0.01 - 0.2


@pytest.mark.slow  # hats compiles for 9 s with numba, each time
def test_lsdb_finds_what_astropy_finds_also_at_the_borders_of_pixels(hats, tmp_path):
    ours = galaxies(*zip(*random_sky(400, 6), strict=True), *((45 + 0.5 * ARCSEC, dec) for dec in BORDER))
    ours.to_csv(tmp_path / "g.csv", index=False)
    theirs = pd.read_parquet(hats / "catalogue.parquet")
    row, separation, near = by_astropy(ours, theirs, 5)
    options = {"radius": 5.0, "columns": ["mag"], "progress": False}
    summary = crossmatch(
        tmp_path / "g.csv", hats / "sky", tmp_path / "lsdb.parquet", engine="lsdb", keep_duplicates=True, **options
    )
    matches = pd.read_parquet(summary.matches)
    assert matches["mangaid"].tolist() == ours["mangaid"][near].tolist()
    assert matches["dr8_id"].tolist() == theirs["dr8_id"].iloc[row[near]].tolist()
    np.testing.assert_allclose(matches["separation"], separation[near], atol=1e-9)
    # The same tables as the other engine's, but for the order of the catalogue's rows.
    other = crossmatch(
        tmp_path / "g.csv", hats / "catalogue.parquet", tmp_path / "tree.parquet", keep_duplicates=True, **options
    )
    pd.testing.assert_frame_equal(matches, pd.read_parquet(other.matches))
    pd.testing.assert_frame_equal(pd.read_parquet(summary.duplicates), pd.read_parquet(other.duplicates))
    left, other_left = (pd.read_parquet(s.unmatched_catalogue).set_index("dr8_id") for s in (summary, other))
    pd.testing.assert_frame_equal(left.drop(columns="row").sort_index(), other_left.drop(columns="row").sort_index())
    assert summary.n_unmatched_catalogue == len(left) == len(theirs) - near.sum() + summary.n_duplicates


@pytest.mark.slow  # as above, in a process of its own
def test_lsdb_on_a_cluster_finds_the_same(hats, tmp_path, capsys):
    galaxies(*((45 + 0.5 * ARCSEC, dec) for dec in BORDER)).to_csv(tmp_path / "g.csv", index=False)
    command = ["crossmatch", str(tmp_path / "g.csv"), str(hats / "sky"), "--engine", "lsdb"]
    assert cli.main([*command, "--out", str(tmp_path / "here.csv")]) == 0
    with LocalCluster(n_workers=1, threads_per_worker=1, protocol="tcp", dashboard_address=None) as cluster:
        where = ["--out", str(tmp_path / "there.csv"), "--cluster", cluster.scheduler_address]
        assert cli.main([*command, *where]) == 0
        with Client(cluster) as client:
            assert sum(client.run(lambda dask_worker: dask_worker.state.executed_count).values()) > 0
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert len(pd.read_csv(tmp_path / "there.csv")) == BORDER.size
    assert cli.main([*command[:3], "--out", str(tmp_path / "t.csv"), "--cluster", "local"]) == 2
    assert "--cluster is for --engine lsdb" in capsys.readouterr().err


def test_lsdb_not_installed(match, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lsdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'zoobot-3d\[lsdb\]'"):
        match(REPEATS, catalogue((10.0, 0.0)), engine="lsdb")


def test_not_a_hats_catalogue(hats, tmp_path):
    REPEATS.to_csv(tmp_path / "g.csv", index=False)
    for folder, error, message in (
        (tmp_path, BadFileError, "not a HATS catalogue"),
        (tmp_path / "absent", BadFileError, "no such folder"),
    ):
        with pytest.raises(error, match=message):
            crossmatch(tmp_path / "g.csv", folder, tmp_path / "m.csv", engine="lsdb", progress=False)
    for option, message in (
        ({"catalogue_ra_unit": "hour"}, "in degrees"),
        ({"catalogue_ra": "RA_OBJ"}, "is sorted by ra, dec"),
    ):
        with pytest.raises(ConfigError, match=message):
            crossmatch(tmp_path / "g.csv", hats / "sky", tmp_path / "m.csv", engine="lsdb", progress=False, **option)


def test_units_that_a_table_records_are_not_passed_on_beside_degrees(tmp_path):
    ours = QTable({"id": ["a", "b"], "ra": [10.0, 12.0] * u.hourangle, "dec": [1.0, 2.0] * u.deg})
    ours.write(tmp_path / "a.ecsv")
    pd.DataFrame({"id": ["A"], "RA_C": [150.0], "DEC_C": [1.0]}).to_parquet(tmp_path / "b.parquet")
    options = CrossmatchOptions(catalogue=SkyColumns("RA_C", "DEC_C"))
    crossmatch_module.crossmatch(
        tmp_path / "a.ecsv", tmp_path / "b.parquet", tmp_path / "x.parquet", options=options, progress=False
    )
    for name, expected in (("x", 150.0), ("x_unmatched_galaxies", 180.0)):
        table = read_table(tmp_path / f"{name}.parquet")
        assert read_positions(table, name=name).ra.tolist() == [expected]


def test_a_column_whose_name_would_say_another_unit_than_degrees_is_refused():
    with pytest.raises(ConfigError, match=r"'RA \(hours\)': positions are written in degrees, but its name says hours"):
        CrossmatchOptions(galaxies=SkyColumns("RA (hours)", "Dec (deg)"))
    CrossmatchOptions(galaxies=SkyColumns("RA (deg)", "Dec (deg)"))
