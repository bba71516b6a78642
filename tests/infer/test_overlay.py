"""Mask files lie on the cutouts that they were predicted from, as astropy and reproject see it."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from reproject import reproject_interp

import zoobot_3d
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.infer.export import export_masks
from zoobot_3d.infer.predict import predict

SIZE = 96


@pytest.fixture(scope="module")
def files(tiny_bundle, tmp_path_factory):
    """A cutout with noise, and the masks that were exported of it."""
    folder = tmp_path_factory.mktemp("overlay")
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 60.0})  # far north
    header.update({"CRPIX1": (SIZE + 1) / 2, "CRPIX2": (SIZE + 1) / 2, "CD1_1": -0.5 / 3600, "CD2_2": 0.5 / 3600})
    cube = np.random.default_rng(0).normal(0.05, 0.02, (3, SIZE, SIZE)).astype(np.float32)
    (folder / "cutouts").mkdir()
    fits.PrimaryHDU(cube, header).writeto(folder / "cutouts" / "g.fits")
    segmenter = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=2)
    predict(list_galaxies(folder / "cutouts"), segmenter, folder / "out")
    export_masks(folder / "out", "fits")
    return folder / "cutouts" / "g.fits", folder / "out" / "masks" / "g_masks.fits"


def test_the_corners_are_where_astropy_sees_them(files):
    cutout, masks = (WCS(fits.getheader(path, ext), naxis=2) for path, ext in zip(files, (0, 1), strict=True))
    x, y = np.array([0, SIZE - 1, 0, SIZE - 1, 40.3]), np.array([0, 0, SIZE - 1, SIZE - 1, 7.7])
    back = masks.world_to_pixel(cutout.pixel_to_world(x, y))
    np.testing.assert_allclose(back, (x, y), atol=0.1)


def test_a_mask_reprojected_onto_its_cutout_stays_in_place(files):
    with fits.open(files[1]) as told:
        values = np.indices((SIZE, SIZE))[0] + 2.0 * np.indices((SIZE, SIZE))[1]  # a ramp shows a shift of any part
        header = told[1].header
    target = WCS(fits.getheader(files[0]), naxis=2)
    moved, seen = reproject_interp((values, WCS(header, naxis=2)), target, shape_out=(SIZE, SIZE))
    inside = seen > 0
    assert inside.mean() > 0.95
    assert np.abs(moved - values)[inside].max() < 0.1
