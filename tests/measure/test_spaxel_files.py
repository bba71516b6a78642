import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from made_predictions import SCALE, SIZE, masks_of, write_prediction
from zoobot_3d.cli import main
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import write_mask_fits
from zoobot_3d.io.spaxels import read_spaxel_grid
from zoobot_3d.measure.spaxel_files import match_cubes, write_spaxel_masks
from zoobot_3d.sky.grid import PixelGrid


def header(side: int, ra: float = 150.0) -> fits.Header:
    """As MaNGA's: a CD matrix of three axes."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "WAVE-LOG", "CRVAL1": ra, "CRVAL2": 2.0}
    cards |= {"CRVAL3": 3.6e-7, "CRPIX1": side / 2 + 0.5, "CRPIX2": side / 2 + 0.5, "CRPIX3": 1.0, "CD3_3": 8.3e-11}
    cards |= {"CD1_1": -0.5 / 3600, "CD2_2": 0.5 / 3600, "CUNIT3": "m", "RADESYS": "FK5", "EQUINOX": 2000.0}
    return fits.Header(cards)


def write_maps(path, side: int = 44, ra: float = 150.0):
    """As MaNGA's MAPS: nothing in the first HDU, and channels on spaxels in the second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = fits.ImageHDU(np.zeros((2, side, side), np.float32), header(side, ra), name="SPX_SKYCOO")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    return path


def write_sami(path):
    """As SAMI's: 50 x 50 spaxels in the first HDU, CDELT."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "Wavelength", "CRVAL1": 150.0, "CRVAL2": 2.0}
    cards |= {"CRPIX1": 25.5, "CRPIX2": 25.5, "CDELT1": -0.5 / 3600, "CDELT2": 0.5 / 3600, "CUNIT3": "Angstrom"}
    fits.writeto(path, np.zeros((3, 50, 50), np.float32), fits.Header(cards))


@pytest.fixture
def prediction(tmp_path):
    return write_prediction(tmp_path / "masks", {"8485-1901": 20.0, "9177": 70.0, "bad1": 130.0}, failed=("bad1",))


def test_files_open_beside_their_cubes(prediction, tmp_path, capsys):
    maps = write_maps(tmp_path / "cubes" / "deep" / "manga-8485-1901-MAPS.fits.gz")
    write_sami(tmp_path / "cubes" / "9177_A_cube_blue.fits")
    write_maps(tmp_path / "cubes" / "bad1.fits")
    write_maps(tmp_path / "cubes" / "8485-1902.fits")
    (tmp_path / "cubes" / "9177_A_cube_red.fits").write_bytes(b"SIMPLE")
    command = ["spaxels", str(prediction), "--cubes", str(tmp_path / "cubes"), "--out", str(tmp_path / "on")]
    assert main(command) == 0
    assert "2 made, 0 were there, 2 failed" in capsys.readouterr().out
    with fits.open(tmp_path / "on" / "8485-1901_spaxels.fits") as hdus, fits.open(maps) as cube:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SPIRAL", "BAR", "FOOTPRINT"]
        bar, footprint = hdus["BAR"].data, hdus["FOOTPRINT"].data
        assert bar.shape == cube[1].data.shape[1:]
        ours, theirs = WCS(hdus["BAR"].header), WCS(cube[1].header).celestial
        assert ours.wcs.compare(theirs.wcs, 1)  # 1: ancillary cards may differ
        assert ours.wcs.radesys == theirs.wcs.radesys == "FK5"
        assert (hdus[0].header["CUBE"], hdus[0].header["CUBEHDU"]) == (maps.name, "SPX_SKYCOO")
    np.testing.assert_allclose(footprint, 1, atol=1e-4)  # 22 arcsec in a field of 60
    # The bar is 60 x 14 px of 0.3 arcsec at 20 deg, north through east: an area of 302 spaxels, leaning to the left.
    assert bar.sum() == pytest.approx(60 * 14 * SCALE**2 / 0.25, rel=0.01)
    y, x = np.indices(bar.shape) - 21.5
    angle = np.arctan2(2 * (bar * -x * y).sum(), (bar * (y**2 - x**2)).sum()) / 2
    assert np.degrees(angle) == pytest.approx(20, abs=1)
    listed = pd.read_parquet(tmp_path / "on" / "spaxels.parquet").set_index("id")
    assert listed.loc["9177", "warning"] == "2 files of this galaxy; the first is taken"
    assert (listed.loc["9177", "rows"], listed.loc["8485-1901", "columns"]) == (50, 44)
    failed = pd.read_csv(tmp_path / "on" / "spaxels_failed.csv")
    assert sum("no masks: the picture is cut" in reason for reason in failed["reason"]) == 1
    assert sum("no masks of a galaxy '8485-1902.fits'" in reason for reason in failed["reason"]) == 1
    assert CCDData.read(tmp_path / "on" / "9177_spaxels.fits", hdu="SPIRAL", unit="").shape == (50, 50)


def test_what_is_there_is_kept_and_what_changed_is_made_again(prediction, tmp_path):
    cubes, out = tmp_path / "cubes", tmp_path / "on"
    for name in ("8485-1901", "9177"):
        write_maps(cubes / f"{name}.fits")
    assert write_spaxel_masks(prediction, cubes, out, progress=False).done == 2
    before = (out / "9177_spaxels.fits").stat().st_mtime_ns
    again = write_spaxel_masks(prediction, cubes, out, progress=False)
    assert (again.done, again.skipped) == (0, 2) and (out / "9177_spaxels.fits").stat().st_mtime_ns == before
    (out / "9177_spaxels.fits").unlink()
    os.utime(cubes / "8485-1901.fits", ns=(1, 1))
    assert write_spaxel_masks(prediction, cubes, out, progress=False).done == 2
    assert write_spaxel_masks(prediction, cubes, out, fwhm=2.0, progress=False).done == 2
    assert fits.getval(out / "9177_spaxels.fits", "MASKFWHM", "BAR") == 2.0


def test_a_table_names_cubes_and_a_bad_one_stops_none(tmp_path):
    grid = PixelGrid((SIZE, SIZE), SCALE, 150.0, 2.0)
    for name in "xyz":
        write_mask_fits(tmp_path / f"{name}_masks.fits", masks_of(35.0), grid, cards={"CREATOR": "zoobot-3d"})
    write_maps(tmp_path / "c" / "one.fits")
    write_maps(tmp_path / "c" / "far.fits", ra=151.0)
    (tmp_path / "c" / "cut.fits").write_bytes((tmp_path / "c" / "one.fits").read_bytes()[:4000])
    table = pd.DataFrame({"id": ["x", "y", "z", "w"], "file": ["c/one.fits", "c/far.fits", "c/cut.fits", "c/no.fits"]})
    table.to_csv(tmp_path / "cubes.csv", index=False)
    masks = [tmp_path / f"{name}_masks.fits" for name in "xyz"]
    summary = write_spaxel_masks(masks, tmp_path / "cubes.csv", tmp_path / "on", progress=False)
    assert (summary.done, summary.failed, summary.without) == (1, 3, 0)
    reasons = list(pd.read_csv(tmp_path / "on" / "spaxels_failed.csv")["reason"])
    assert "the cube of another galaxy?" in reasons[0] and "cut.fits" in reasons[1] and "named" not in reasons[2]
    assert (tmp_path / "on" / "x_spaxels.fits").exists()


def test_cubes_are_found_by_whole_words_of_their_names(tmp_path):
    names = ["8485-1901", "8485-190", "12345", "7"]
    for file in ("manga-8485-1901-LOGCUBE.fits.gz", "8485-19011.fits", "12345_A_cube.fits", "part-7.fits", "7.fits"):
        (tmp_path / file).write_bytes(b"")
    found = match_cubes(names, tmp_path)
    assert {Path(cube).name: name for cube, name in zip(found["cube"], found["id"], strict=True)} == {
        "manga-8485-1901-LOGCUBE.fits.gz": "8485-1901",
        "8485-19011.fits": "8485-19011.fits",
        "12345_A_cube.fits": "12345",
        "part-7.fits": "part-7.fits",  # too short a name to be found in another
        "7.fits": "7",
    }
    with pytest.raises(CatalogError, match="none of 5 cubes"):
        match_cubes(["other"], tmp_path)
    pd.DataFrame({"id": ["7", "7"], "file": ["a.fits", "b.fits"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(CatalogError, match="names galaxy 7 twice"):
        match_cubes(names, tmp_path / "t.csv")
    pd.DataFrame({"id": ["7"], "where": ["a.fits"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(CatalogError, match=r"no column of files \(file\)"):
        match_cubes(names, tmp_path / "t.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match="no FITS files"):
        match_cubes(names, tmp_path / "empty")


def test_a_file_without_celestial_axes_is_refused_by_name(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((5, 5)))
    with pytest.raises(BadFileError, match=r"a\.fits: HDU PRIMARY: no celestial axes"):
        read_spaxel_grid(tmp_path / "a.fits")
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "b.fits")
    with pytest.raises(BadFileError, match="no HDU of two or more axes"):
        read_spaxel_grid(tmp_path / "b.fits")
