import os

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.cosmology import FlatLambdaCDM, Planck18
from astropy.io import fits
from astropy.table import QTable

import zoobot_3d.measure.table as table_module
from made_predictions import SCALE, SIZE, masks_of, write_prediction
from zoobot_3d.cli import main
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.io import write_mask_fits
from zoobot_3d.measure.columns import ARM_COLUMNS, GALAXY_COLUMNS
from zoobot_3d.measure.flags import decode_flags
from zoobot_3d.measure.galaxy import kpc_per_arcsec
from zoobot_3d.measure.table import MeasureOptions, arms_path, measure_table, read_measurements
from zoobot_3d.simulate.galaxies import draw_galaxy, render
from zoobot_3d.sky.grid import PixelGrid

FLAT = MeasureOptions(isophotes=False)


@pytest.fixture
def prediction(tmp_path):
    return write_prediction(tmp_path / "masks", {"a": 20.0, "b": 70.0, "c": 130.0}, failed=("c",))


def test_a_prediction_becomes_two_tables(prediction, tmp_path):
    summary = measure_table(prediction, tmp_path / "t.parquet", progress=False)
    assert (summary.done, summary.failed, summary.bars, summary.pitches) == (2, 1, 2, 2)
    rows, arms = read_measurements(tmp_path / "t.parquet")
    assert list(rows["id"]) == ["a", "b", "c"]
    np.testing.assert_allclose(rows["bar_pa"][:2], [20, 70], atol=1)
    np.testing.assert_allclose(rows["bar_length"][:2], 60 * SCALE, rtol=0.03)
    assert list(arms["id"]) == ["a", "a", "b", "b"] and list(arms["arm"]) == [1, 2, 1, 2]
    assert rows["error"][2] == "the picture is cut" and decode_flags(int(rows["flags"][2])) == ("no_masks",)
    assert np.isnan(rows["bar_length"][2])


def test_the_disk_is_that_of_the_isophotes_unless_it_is_given(tmp_path):
    prediction = write_prediction(tmp_path / "masks", {"a": 20.0, "b": 70.0, "c": 130.0}, failed=("c",), ratio=0.6)
    pd.DataFrame({"id": ["a"], "inclination": [40.0], "pa": [10.0]}).to_csv(tmp_path / "g.csv", index=False)
    measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", progress=False)
    rows, _ = read_measurements(tmp_path / "t.parquet")
    assert list(rows["disk_source"][:2]) == ["given", "isophotes"]
    np.testing.assert_allclose(rows["disk_inclination"], [40, rows["isophote_inclination"][1], np.nan])
    np.testing.assert_allclose(rows["isophote_pa"][:2], 90, atol=2)  # both are kept
    np.testing.assert_allclose(rows["isophote_axis_ratio"][:2], 0.6, atol=0.03)
    measure_table(prediction, tmp_path / "f.parquet", options=MeasureOptions(isophotes=False), progress=False)
    rows, _ = read_measurements(tmp_path / "f.parquet")
    assert list(rows["disk_source"][:2]) == ["none", "none"] and "no_disk" in decode_flags(int(rows["flags"][0]))
    assert rows["pitch"][0] == pytest.approx(20, abs=1)


def test_lengths_in_kpc_follow_the_cosmology(prediction, tmp_path):
    pd.DataFrame({"dr8_id": ["a", "b"], "z": [0.03, -1]}).to_csv(tmp_path / "g.csv", index=False)
    options = MeasureOptions(cosmology="WMAP9", redshift="z")
    measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", options=options, progress=False)
    rows, arms = read_measurements(tmp_path / "t.parquet")
    assert rows["bar_length_kpc"][0] == pytest.approx(rows["bar_length"][0] * kpc_per_arcsec(0.03, "WMAP9"))
    assert np.isnan(rows["bar_length_kpc"][1]) and "no_redshift" in decode_flags(int(rows["flags"][1]))
    assert arms["length_kpc"][0] == pytest.approx(arms["length"][0] * rows["kpc_per_arcsec"][0])
    assert rows["cosmology"][0] == "WMAP9"


def test_a_kpc_is_a_kpc():
    assert kpc_per_arcsec(0.03) == pytest.approx(1 / Planck18.arcsec_per_kpc_proper(0.03).value)
    # Close by, Hubble's law: 300 km/s over H0, seen under an arcsec.
    near = FlatLambdaCDM(H0=Planck18.H0, Om0=0.3).luminosity_distance(0.001).to_value("kpc") / 206265
    assert kpc_per_arcsec(0.001) == pytest.approx(near, rel=0.003)
    assert np.isnan(kpc_per_arcsec(np.nan))
    with pytest.raises(ConfigError, match="no cosmology 'flat'"):
        kpc_per_arcsec(0.1, "flat")


def test_every_column_has_its_unit_and_definition(prediction, tmp_path):
    measure_table(prediction, tmp_path / "t.parquet", progress=False)
    for path, columns in ((tmp_path / "t.parquet", GALAXY_COLUMNS), (tmp_path / "t_arms.parquet", ARM_COLUMNS)):
        schema, table = pq.read_schema(path), QTable.read(path)
        assert schema.names == table.colnames == [column.name for column in columns]
        for column in columns:
            told = schema.field(column.name).metadata
            assert told[b"description"].decode().startswith(column.meaning)
            assert told.get(b"unit", b"").decode() == column.unit
            assert table[column.name].info.description.startswith(column.meaning)
            assert not column.unit or table[column.name].unit == units.Unit(column.unit)
    assert QTable.read(tmp_path / "t.parquet")["bar_length"][0].to_value("arcmin") == pytest.approx(0.3, rel=0.03)
    assert pd.read_parquet(tmp_path / "t.parquet")["hand"][0] == "Z"


def test_what_was_measured_is_kept_and_what_changed_is_measured_again(prediction, tmp_path):
    out = tmp_path / "t.parquet"
    measure_table(prediction, out, options=FLAT, progress=False)
    before = out.read_bytes(), arms_path(out).read_bytes()
    again = measure_table(prediction, out, options=FLAT, progress=False)
    assert (again.done, again.skipped, again.failed) == (0, 2, 1)
    assert (out.read_bytes(), arms_path(out).read_bytes()) == before
    write_prediction(prediction, {"a": 20.0, "b": 75.0, "c": 130.0, "d": 10.0})  # another angle, c repaired, and d
    summary = measure_table(prediction, out, options=FLAT, progress=False)
    assert summary.done == 4 and summary.failed == 0
    rows, arms = read_measurements(out)
    np.testing.assert_allclose(rows["bar_pa"], [20, 75, 130, 10], atol=1)
    assert list(dict.fromkeys(arms["id"])) == list("abcd") and arms["id"].is_monotonic_increasing
    pd.DataFrame({"id": ["b"], "redshift": [0.02]}).to_csv(tmp_path / "g.csv", index=False)
    summary = measure_table(prediction, out, galaxies=tmp_path / "g.csv", options=FLAT, progress=False)
    assert (summary.done, summary.skipped) == (1, 3)
    other = measure_table(prediction, out, options=MeasureOptions(cosmology="WMAP7"), progress=False)
    assert other.done == 4


def test_a_run_that_is_stopped_leaves_no_table_and_nothing_behind_in_the_end(prediction, tmp_path, monkeypatch):
    out, measured = tmp_path / "t.parquet", []
    honest = table_module.measure_masks

    def dying(*args, **options):
        if len(measured) == 1:
            raise KeyboardInterrupt
        measured.append(1)
        return honest(*args, **options)

    monkeypatch.setattr(table_module, "measure_masks", dying)
    with pytest.raises(KeyboardInterrupt):
        measure_table(prediction, out, progress=False)
    assert not out.exists() and not arms_path(out).exists()
    monkeypatch.setattr(table_module, "measure_masks", honest)
    assert measure_table(prediction, out, progress=False).done == 2
    assert not list(tmp_path.glob(".t.parquet.*"))


def test_a_damaged_table_is_made_again(prediction, tmp_path):
    out = tmp_path / "t.parquet"
    measure_table(prediction, out, progress=False)
    os.truncate(out, 500)
    assert measure_table(prediction, out, progress=False).done == 2


def test_mask_files_are_measured_and_a_bad_one_stops_none(tmp_path):
    grid = PixelGrid((SIZE, SIZE), SCALE, 150.0, 2.0)
    sigma = np.full((2, SIZE, SIZE), 0.02, np.float32)
    cards = {"CREATOR": "zoobot-3d"}
    write_mask_fits(tmp_path / "x_masks.fits", masks_of(35.0), grid, sigma=sigma, cards=cards)
    write_mask_fits(tmp_path / "y_masks.fits", masks_of(80.0), PixelGrid((SIZE, SIZE), np.nan), cards=cards)
    (tmp_path / "z_masks.fits").write_bytes((tmp_path / "x_masks.fits").read_bytes()[:9000])
    files = [tmp_path / f"{name}_masks.fits" for name in "xyz"]
    summary = measure_table(files, tmp_path / "t.parquet", progress=False)
    assert (summary.done, summary.failed) == (2, 1)
    rows, _ = read_measurements(tmp_path / "t.parquet")
    assert list(rows["id"]) == ["x", "y", "z"]
    np.testing.assert_allclose(rows["bar_pa"][:2], [35, 80], atol=1)
    assert np.isnan(rows["bar_length"][1]) and rows["bar_length_px"][1] == pytest.approx(60, rel=0.03)
    assert "no_scale" in decode_flags(int(rows["flags"][1]))
    assert "z_masks.fits" in rows["error"][2]


def test_input_that_cannot_be_used_is_one_line(prediction, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.parquet"):
        measure_table(prediction, tmp_path / "t.csv", progress=False)
    with pytest.raises(BadFileError, match="no shards of predictions here"):
        measure_table(tmp_path, tmp_path / "t.parquet", progress=False)
    pd.DataFrame({"id": ["q"], "redshift": [0.1]}).to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(CatalogError, match="names no galaxy of the masks"):
        measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", progress=False)
    pd.DataFrame({"id": ["a"], "zed": [0.1]}).to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(CatalogError, match="no column of redshift, inclination, pa"):
        measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", progress=False)
    with pytest.raises(ConfigError, match="no cosmology"):
        MeasureOptions(cosmology="flat")


def test_a_picture_that_is_gone_costs_the_isophotes_alone(prediction, tmp_path):
    (prediction / "images" / "a.jpg").unlink()
    measure_table(prediction, tmp_path / "t.parquet", progress=False)
    rows, _ = read_measurements(tmp_path / "t.parquet")
    assert "no isophotes" in rows["warning"][0] and rows["disk_source"][0] == "none"
    assert rows["bar_length"][0] == pytest.approx(60 * SCALE, rel=0.03)


def test_the_command_measures(prediction, tmp_path, capsys):
    out = tmp_path / "t.parquet"
    assert main(["measure", str(prediction), "--out", str(out), "--cluster", "local:1"]) == 0
    assert "2 bar lengths, 2 pitch angles; 4 arms in" in capsys.readouterr().out
    assert main(["measure", str(prediction), "--out", str(out), "--cosmology", "flat"]) == 2
    assert "no cosmology 'flat'" in capsys.readouterr().err


def test_an_image_of_one_band_is_predicted_and_measured_with_a_warning(tmp_path, capsys):
    rng = np.random.default_rng(4)
    galaxy = draw_galaxy(rng, ra=150.0, dec=2.0, kind="spiral")
    grid = PixelGrid((128, 128), galaxy.pixscale * 424 / 128, 150.0, 2.0)
    header = grid.to_header()
    header["BUNIT"], header["FILTER"] = "nanomaggy", "r"
    fits.writeto(tmp_path / "one.fits", render(galaxy, grid, rng)[1, ::-1], header)  # FITS rows start in the south
    assert main(["measure", str(tmp_path / "one.fits"), "--out", str(tmp_path / "t.parquet")]) == 0
    rows, _ = read_measurements(tmp_path / "t.parquet")
    assert "one band (r): shown in grey" in rows["warning"][0] and rows["disk_source"][0] == "isophotes"
    assert (tmp_path / "t_predictions" / "shards").is_dir()


@pytest.mark.parametrize("column", ["z", "Z_SPEC", "zspec", "Redshift"])
def test_redshifts_are_found_under_their_usual_names(prediction, tmp_path, column):
    pd.DataFrame({"name": ["a", "b"], column: [0.03, 15.2]}).to_csv(tmp_path / "g.csv", index=False)
    summary = measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", progress=False)
    rows, _ = read_measurements(tmp_path / "t.parquet")
    assert rows["redshift"][0] == 0.03 and rows["redshift"][1:].isna().all()
    assert summary.notes[0] == f"1 numbers in column {column} are above 10: no redshifts"
    assert f"redshift from column {column} of" in summary.notes[1] and summary.notes[1] in str(summary)


def test_z_beside_other_bands_is_a_magnitude(prediction, tmp_path):
    pd.DataFrame({"name": ["a"], "g": [15.0], "r": [14.2], "z": [13.9]}).to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(
        CatalogError, match=r"no column of redshift, inclination, pa; .* give one of them with --redshift"
    ):
        measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", progress=False)


def test_units_of_given_numbers_are_honoured(prediction, tmp_path):
    table = QTable(
        {"name": ["a"], "inclination": [0.5] * units.rad, "pa": [10.0] * units.deg, "cz": [9e3] * units.km / units.s}
    )
    table.write(tmp_path / "g.ecsv")
    measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.ecsv", progress=False)
    rows, _ = read_measurements(tmp_path / "t.parquet")
    assert rows["disk_inclination"][0] == pytest.approx(np.degrees(0.5))
    with pytest.raises(CatalogError, match="column cz has the unit 'km / s', where numbers without a unit are needed"):
        measure_table(
            prediction, tmp_path / "u.parquet", galaxies=tmp_path / "g.ecsv", options=MeasureOptions(redshift="cz")
        )


def test_galaxies_may_be_named_after_their_positions(tmp_path):
    prediction = write_prediction(tmp_path / "masks", {"J105624.00+123000.0": 20.0})
    pd.DataFrame({"RA": [164.1], "DEC": [12.5], "z": [0.03]}).to_csv(tmp_path / "g.csv", index=False)
    measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", options=FLAT, progress=False)
    assert read_measurements(tmp_path / "t.parquet")[0]["redshift"][0] == 0.03


def test_names_that_do_not_meet_are_shown(prediction, tmp_path):
    pd.DataFrame({"name": ["NGC 1"], "z": [0.03]}).to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(CatalogError, match="names no galaxy of the masks: it has 'NGC 1', they have 'a'"):
        measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", progress=False)


def test_marks_of_missing_numbers_are_told_and_left_out(prediction, tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "redshift": [-9999, 0.03], "inclination": [60, 95], "pa": [-9999, 20]})
    table.to_csv(tmp_path / "g.csv", index=False)
    found = measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", options=FLAT, progress=False)
    rows = read_measurements(tmp_path / "t.parquet")[0].set_index("id")
    assert rows["disk_source"].tolist()[:2] == ["none", "none"]
    assert rows.loc[["a", "b"], ["redshift", "given_inclination", "given_pa"]].isna().to_numpy().tolist() == [
        [True, False, True],
        [False, True, False],
    ]
    for told in (
        "1 numbers in column redshift, such as -9999, are no redshifts",
        "1 numbers in column inclination are above 90: no inclinations",
        "1 numbers in column pa, such as -9999, are no position angles",
    ):
        assert told in found.notes


def test_repeated_names_and_text_for_numbers_are_told(prediction, tmp_path):
    (tmp_path / "g.csv").write_text('id,redshift\na,0.03\na,0.5\nb,"0,02"\nelsewhere,\n')
    found = measure_table(prediction, tmp_path / "t.parquet", galaxies=tmp_path / "g.csv", options=FLAT, progress=False)
    rows = read_measurements(tmp_path / "t.parquet")[0].set_index("id")
    assert rows.loc["a", "redshift"] == 0.03
    assert np.isnan(rows.loc["b", "redshift"])
    assert f"1 rows of {tmp_path / 'g.csv'} repeat a name, such as a: the first of each counts" in found.notes
    assert "1 values in column redshift, such as '0,02', are no numbers" in found.notes


def test_inclinations_that_look_like_radians_are_told():
    notes = []
    table_module._possible(pd.Series(np.linspace(0.1, 1.5, 12)), "inclination", "incl", notes)
    assert notes == ["no number in column incl is above 1.5: are they radians? Taken as degrees"]
