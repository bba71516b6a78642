import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import QTable

from made_predictions import SCALE, SIZE, masks_of, write_prediction
from zoobot_3d.cli import main
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import open_bands, write_cutout, write_mask_fits
from zoobot_3d.marks.gz3d import gz3d_grid
from zoobot_3d.measure import light_rows as light_rows_module
from zoobot_3d.measure.columns import LIGHT_COLUMNS
from zoobot_3d.measure.flags import decode_flags
from zoobot_3d.measure.table import MeasureOptions, light_path, measure_table
from zoobot_3d.sky.grid import PixelGrid

GRID = PixelGrid((SIZE, SIZE), SCALE, 150.0, 2.0)
Y, X = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
LIGHT = MeasureOptions(isophotes=False, light=True)


def cube(pa: float, colour: float = 0.5) -> np.ndarray:
    """A disk of 1, arms of 2 and a bar of 3 in r; g is fainter by a colour, z brighter by 0.3 mag."""
    arm, bar = (masks_of(pa) > 0.5).astype(float)
    r = np.where(np.hypot(X, Y) < 80, 1 + arm + 2 * bar * (1 - arm), 0)
    noise = np.random.default_rng(1).normal(0, 1e-3, (3, SIZE, SIZE))
    return np.stack([r * 10 ** (-0.4 * colour), r, r * 10**0.12]) + noise


def read(path) -> pd.DataFrame:
    return pd.read_parquet(path).set_index(["id", "band"])


@pytest.fixture
def survey(tmp_path):
    """Predictions of pictures, and a table that names images in FITS beside them."""
    prediction = write_prediction(tmp_path / "masks", {"a": 20.0, "b": 70.0, "c": 130.0}, failed=("c",))
    for name, pa in (("a", 20.0), ("b", 70.0)):
        write_cutout(tmp_path / "fits" / f"{name}.fits", cube(pa), GRID)
    files = ["fits/a.fits", "fits/b.fits", ""]
    pd.DataFrame({"id": ["a", "b", "c"], "relative_desi_fits_loc": files}).to_csv(tmp_path / "g.csv", index=False)
    return prediction, tmp_path / "g.csv"


def test_pictures_have_their_light_measured_in_the_images_that_a_table_names(survey, tmp_path):
    prediction, table = survey
    summary = measure_table(prediction, tmp_path / "t.parquet", galaxies=table, options=LIGHT, progress=False)
    assert (summary.lights, summary.light_out) == (2, tmp_path / "t_light.parquet")
    rows = read(tmp_path / "t_light.parquet")
    assert list(rows.index) == [("a", "g"), ("a", "r"), ("a", "z"), ("b", "g"), ("b", "r"), ("b", "z"), ("c", "")]
    r = rows.loc[("b", "r")]
    # Masks have soft edges of a pixel, which the image has not.
    assert r["contrast"] == pytest.approx(2, rel=0.03) and r["contrast_err"] < 0.1
    assert r["bar_brightness"] == pytest.approx(3 / SCALE**2, rel=0.03)
    assert rows.loc[("b", "g"), "arm_colour"] == pytest.approx(0.5, abs=0.01)
    assert rows.loc[("b", "r"), "bar_colour"] == pytest.approx(0.3, abs=0.01)
    assert list(rows.loc["b", "redder"]) == ["r", "z", ""] and np.isnan(rows.loc[("b", "z"), "arm_colour"])
    assert rows.loc[("b", "r"), "image"] == "b.fits" and "no_disk" in decode_flags(int(r["flags"]))
    assert rows.loc[("c", ""), "error"] == "the picture is cut"
    assert decode_flags(int(rows.loc[("c", ""), "flags"])) == ("no_masks",)


def test_units_and_definitions_are_in_the_table(survey, tmp_path):
    prediction, table = survey
    measure_table(prediction, tmp_path / "t.parquet", galaxies=table, options=LIGHT, progress=False)
    schema, found = pq.read_schema(tmp_path / "t_light.parquet"), QTable.read(tmp_path / "t_light.parquet")
    assert schema.names == found.colnames == [column.name for column in LIGHT_COLUMNS]
    for column in LIGHT_COLUMNS:
        assert (schema.field(column.name).metadata.get(b"unit", b"")).decode() == column.unit
    first = found[0]
    assert first["arm_flux"].unit == units.nmgy
    assert (first["arm_brightness"] * first["arm_area"]).to_value("nmgy") == pytest.approx(first["arm_flux"].value)


def test_light_is_measured_again_when_an_image_changes_and_not_otherwise(survey, tmp_path):
    prediction, table = survey
    out = tmp_path / "t.parquet"
    measure_table(prediction, out, galaxies=table, options=LIGHT, progress=False)
    before = light_path(out).read_bytes()
    again = measure_table(prediction, out, galaxies=table, options=LIGHT, progress=False)
    assert (again.skipped, again.lights) == (2, 2) and light_path(out).read_bytes() == before
    write_cutout(tmp_path / "fits" / "b.fits", 2 * cube(70.0), GRID)
    summary = measure_table(prediction, out, galaxies=table, options=LIGHT, progress=False)
    assert (summary.done, summary.skipped, summary.failed) == (1, 1, 1)
    rows = read(light_path(out))
    assert rows.loc[("b", "r"), "bar_brightness"] == pytest.approx(6 / SCALE**2, rel=0.03)
    assert rows.loc[("a", "r"), "bar_brightness"] == pytest.approx(3 / SCALE**2, rel=0.03)


def test_pictures_alone_have_no_light_and_are_told_so(survey, tmp_path, capsys):
    prediction, table = survey
    command = ["measure", str(prediction), "--out", str(tmp_path / "t.parquet"), "--light"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "light and colours need images in FITS, not pictures" in error and "relative_desi_fits_loc" in error
    assert main([*command, "--galaxies", str(table), "--images", "cutout"]) == 2
    assert "no column cutout of images" in capsys.readouterr().err
    assert main([*command, "--galaxies", str(table), "--no-isophotes"]) == 0
    assert "2 galaxies with an arm/inter-arm contrast" in capsys.readouterr().out


def test_one_bad_image_stops_none(survey, tmp_path):
    prediction, table = survey
    path = tmp_path / "fits" / "a.fits"
    path.write_bytes(path.read_bytes()[:9000])
    measure_table(prediction, tmp_path / "t.parquet", galaxies=table, options=LIGHT, progress=False)
    rows = read(tmp_path / "t_light.parquet")
    assert "a.fits: truncated" in rows.loc[("a", ""), "error"]
    assert decode_flags(int(rows.loc[("a", ""), "flags"])) == ("light_no_image",)
    assert rows.loc[("b", "r"), "contrast"] == pytest.approx(2, rel=0.03)
    assert pd.read_parquet(tmp_path / "t.parquet").set_index("id").loc["a", "error"] == ""  # its bar is measured


def test_masks_go_to_the_pixels_of_another_image_of_the_same_sky(tmp_path):
    write_mask_fits(tmp_path / "x_masks.fits", masks_of(35.0), GRID, cards={"CREATOR": "zoobot-3d"})
    fine = PixelGrid((2 * SIZE, 2 * SIZE), SCALE / 2, 150.0, 2.0)
    doubled = cube(35.0).repeat(2, axis=1).repeat(2, axis=2) / 4  # a quarter of the flux in each pixel
    doubled += np.random.default_rng(2).normal(0, 1e-3, doubled.shape)
    write_cutout(tmp_path / "x.fits", doubled, fine)
    pd.DataFrame({"id": ["x"], "cutout": ["x.fits"]}).to_csv(tmp_path / "g.csv", index=False)
    options = MeasureOptions(isophotes=False, light=True, images="cutout")
    table = tmp_path / "t.parquet"
    measure_table([tmp_path / "x_masks.fits"], table, galaxies=tmp_path / "g.csv", options=options, progress=False)
    row = read(light_path(table)).loc[("x", "r")]
    assert row["contrast"] == pytest.approx(2, rel=0.04)
    assert row["bar_brightness"] == pytest.approx(3 / SCALE**2, rel=0.03)
    assert row["bar_area"] == pytest.approx(60 * 14 * SCALE**2, rel=0.02)


def test_stars_of_volunteers_are_left_out(survey, tmp_path, monkeypatch):
    prediction, table = survey

    class Marks:
        grid = gz3d_grid(150.0, 2.0)
        star_mask = np.zeros(grid.shape)

    Marks.star_mask[:262] = 5  # the northern half of 52 arcsec
    monkeypatch.setattr(light_rows_module, "read_gz3d", lambda path: Marks)
    frame = pd.read_csv(table).assign(relative_gz3d_fits_loc=["gz3d/a.fits", "", ""])
    frame.to_csv(table, index=False)
    measure_table(prediction, tmp_path / "t.parquet", galaxies=table, options=LIGHT, progress=False)
    rows = read(tmp_path / "t_light.parquet")
    assert rows.loc[("a", "r"), "arm_left_out"] == pytest.approx(0.5, abs=0.05)
    assert rows.loc[("b", "r"), "arm_left_out"] == 0
    monkeypatch.undo()
    measure_table(prediction, tmp_path / "u.parquet", galaxies=table, options=LIGHT, progress=False)
    row = read(tmp_path / "u_light.parquet").loc[("a", "r")]
    assert "stars are not left out: " in row["warning"] and "no such file" in row["warning"]


def test_bands_keep_their_names_their_gaps_and_their_inverse_variance(tmp_path):
    values = np.arange(1.0, 25.0).reshape(2, 3, 4)
    values[0, 0, 0], values[1, 2, 3] = 0, np.nan
    header = PixelGrid((3, 4), 0.262, 150.0, 2.0).to_header()
    header["BANDS"] = "gi"
    image = fits.PrimaryHDU(values.astype(np.float32), header)
    fits.HDUList([image, fits.ImageHDU(np.full((2, 3, 4), 4.0, np.float32), name="INVVAR")]).writeto(
        tmp_path / "a.fits"
    )
    found = open_bands(tmp_path / "a.fits")
    assert found.bands == ("g", "i") and found.calibrated
    np.testing.assert_array_equal(found.planes, np.where(values == 0, np.nan, values)[:, ::-1])  # row 0 north
    np.testing.assert_array_equal(found.invvar, np.full((2, 3, 4), 4.0))
    header["BANDS"], header["BUNIT"], header["MAGZERO"] = "r", "adu", 25.0
    one = fits.PrimaryHDU(values[1].astype(np.float32), header)
    fits.HDUList([one, fits.ImageHDU(np.full((3, 4), 4.0), name="IVAR")]).writeto(tmp_path / "b.fits")
    found = open_bands(tmp_path / "b.fits")
    assert found.bands == ("r",) and found.planes[0, 2, 1] == pytest.approx(values[1, 0, 1] * 0.1)
    assert found.invvar[0, 0, 0] == pytest.approx(400)
    del header["MAGZERO"], header["BANDS"]
    fits.writeto(tmp_path / "c.fits", values[1].astype(np.float32), header)
    found = open_bands(tmp_path / "c.fits")
    assert (found.bands, found.calibrated, found.invvar) == (("unknown",), False, None)
    with pytest.raises(BadFileError, match="no such file"):
        open_bands(tmp_path / "d.fits")


def test_a_table_without_any_image_is_refused(survey, tmp_path):
    prediction, table = survey
    pd.DataFrame({"id": ["a"], "redshift": [0.02]}).to_csv(table, index=False)
    with pytest.raises(CatalogError, match="no galaxy has an image in FITS"):
        measure_table(prediction, tmp_path / "t.parquet", galaxies=table, options=LIGHT, progress=False)
