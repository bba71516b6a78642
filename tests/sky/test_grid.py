"""Grids: a shift of half a pixel or a flip must not survive these tests."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zoobot_3d.errors import GridError
from zoobot_3d.sky.grid import PixelGrid, resample

GZ3D_HEADER = {
    "NAXIS": 2, "NAXIS1": 525, "NAXIS2": 525, "CRPIX1": 262.5, "CRPIX2": 262.5, "PC1_1": -2.75e-5, "PC2_2": -2.75e-5,
    "CDELT1": 1.0, "CDELT2": 1.0, "CUNIT1": "deg", "CUNIT2": "deg", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
}  # fmt: skip


def gz3d_grid(ra, dec):
    return PixelGrid.from_header(fits.Header({**GZ3D_HEADER, "CRVAL1": ra, "CRVAL2": dec}))


def test_gz3d_grid_has_its_reference_half_a_pixel_off_the_middle():
    grid = gz3d_grid(150.0, 2.0)
    assert grid.shape == (525, 525)
    assert grid.pixscale == pytest.approx(0.099)
    assert grid.reference_pixel == (261.5, 261.5)
    assert grid.middle == (262.0, 262.0)


def test_north_is_up_and_east_is_left():
    grid = PixelGrid((11, 11), 1.0, ra=10.0, dec=0.0)
    ra, dec = grid.pixel_to_sky([5, 0, 5], [5, 5, 0])
    np.testing.assert_allclose(ra, [10, 10 + 5 / 3600, 10], atol=1e-9)
    np.testing.assert_allclose(dec, [0, 0, 5 / 3600], atol=1e-9)


def test_offsets_run_east_and_north():
    x, y = PixelGrid((11, 11), 0.5).offset_to_pixel(1.0, 2.0)
    assert (x, y) == (3.0, 1.0)


@pytest.mark.parametrize("dec", [0.0, 60.0, -89.0])
def test_sky_and_pixels_round_trip(dec):
    grid = PixelGrid((424, 424), 0.2, ra=359.999, dec=dec)
    x, y = np.array([0.0, 423.0, 17.3]), np.array([5.0, 400.0, 423.0])
    back = grid.sky_to_pixel(*grid.pixel_to_sky(x, y))
    np.testing.assert_allclose(back, [x, y], atol=1e-6)


@pytest.mark.parametrize("dec", [0.0, 60.0])
def test_affine_agrees_with_two_wcs(dec):
    marks = gz3d_grid(150.0, dec)
    cutout = PixelGrid((424, 424), 0.17, ra=150.0 + 6 / 3600, dec=dec - 4 / 3600)
    x, y = np.meshgrid([0.0, 131.0, 524.0], [0.0, 300.0, 524.0])
    expected = cutout.sky_to_pixel(*marks.pixel_to_sky(x, y))
    affine = marks.affine_to(cutout)
    got = np.einsum("ij,jyx->iyx", affine[:, :2], np.stack([x, y])) + affine[:, 2, None, None]
    np.testing.assert_allclose(got, expected, atol=2e-3)


def asymmetric_pattern(grid, ra, dec):
    """Three blobs of unlike brightness at fixed places on the sky."""
    yy, xx = np.indices(grid.shape)
    image = np.zeros(grid.shape)
    for east, north, peak in ((10.0, 3.0, 3.0), (-6.0, 12.0, 2.0), (2.0, -14.0, 1.0)):
        x, y = grid.sky_to_pixel(ra + east / 3600 / np.cos(np.radians(dec)), dec + north / 3600)
        image += peak * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) * grid.pixscale**2 / (2 * 1.0**2))
    return image


def centroids(image, grid, ra, dec):
    yy, xx = np.indices(image.shape)
    out = []
    for east, north in ((10.0, 3.0), (-6.0, 12.0), (2.0, -14.0)):
        x, y = grid.sky_to_pixel(ra + east / 3600 / np.cos(np.radians(dec)), dec + north / 3600)
        near = image * (np.hypot(xx - x, yy - y) < 4 / grid.pixscale)
        out.append([(near * xx).sum() / near.sum() - x, (near * yy).sum() / near.sum() - y])
    return np.abs(out).max()


@pytest.mark.parametrize("dec", [0.0, 60.0])
@pytest.mark.parametrize("pixscale", [0.099, 0.16, 0.3])
def test_gz3d_and_legacy_grids_line_up_to_a_tenth_of_a_pixel(dec, pixscale):
    ra = 150.0
    gz3d = gz3d_grid(ra, dec)
    legacy = PixelGrid((424, 424), pixscale, ra=ra + 1.5 / 3600, dec=dec - 0.7 / 3600)  # MaNGA and DESI centres differ
    pattern = asymmetric_pattern(gz3d, ra, dec)
    assert centroids(resample(pattern, gz3d, legacy), legacy, ra, dec) < 0.1
    assert centroids(resample(asymmetric_pattern(legacy, ra, dec), legacy, gz3d), gz3d, ra, dec) < 0.1


def test_header_is_for_the_flipped_array():
    grid = PixelGrid((4, 6), 0.5, ra=20.0, dec=-30.0, center=(1.0, 0.5))
    wcs = WCS(grid.to_header())
    # The pixel at row 0 of the picture is at row 3 of the file.
    np.testing.assert_allclose(wcs.all_pix2world(2.0, 3.0, 0), grid.pixel_to_sky(2.0, 0.0), atol=1e-9)
    again = PixelGrid.from_wcs(wcs, (4, 6))
    assert again.reference_pixel == pytest.approx(grid.reference_pixel)
    assert again.pixscale == pytest.approx(0.5)


def test_resize_keeps_the_field_and_crop_keeps_the_pixels():
    grid = PixelGrid((424, 424), 0.2, ra=20.0, dec=5.0, center=(210.0, 212.0))
    small = grid.resize(106)
    assert small.pixscale == pytest.approx(0.8)
    assert small.field_of_view == pytest.approx(grid.field_of_view)
    np.testing.assert_allclose(small.pixel_to_sky(52.5, 52.5), grid.pixel_to_sky(211.5, 211.5), atol=1e-9)
    half = grid.resize(106, field_fraction=0.5)
    assert half.pixscale == pytest.approx(0.4)
    np.testing.assert_allclose(half.pixel_to_sky(52.5, 52.5), grid.pixel_to_sky(211.5, 211.5), atol=1e-9)
    cropped = grid.crop((200, 100))
    np.testing.assert_allclose(cropped.pixel_to_sky(0, 0), grid.pixel_to_sky(162, 112), atol=1e-9)


def test_resample_by_two_is_the_mean_of_blocks_inside_and_fill_outside():
    grid = PixelGrid((4, 4), 1.0)
    array = np.arange(16.0).reshape(4, 4)
    wide = resample(array, grid, PixelGrid((8, 8), 1.0), fill=-1)
    np.testing.assert_array_equal(wide[2:6, 2:6], array)
    assert (wide[0] == -1).all() and (wide[:, -1] == -1).all()
    # Weights of a triangle of half-width 2 at -1.5, -0.5, 0.5, 1.5 from its centre: 1, 3, 3, 1, cut at the edge.
    rows = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7
    np.testing.assert_allclose(resample(array, grid, grid.resize(2)), rows @ array @ rows.T, rtol=1e-6)


def test_resample_keeps_the_axes_of_pictures_and_maps():
    grid, half = PixelGrid((8, 8), 1.0), PixelGrid((8, 8), 1.0).resize(4)
    assert resample(np.ones((8, 8, 3), np.uint8), grid, half).shape == (4, 4, 3)
    np.testing.assert_allclose(resample(np.ones((2, 8, 8)), grid, half), np.ones((2, 4, 4)), rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": (0, 5), "pixscale": 1}, "positive"),
        ({"shape": 5, "pixscale": 1}, "rows, columns"),
        ({"shape": (5, 5), "pixscale": -1}, "pixscale"),
        ({"shape": (5, 5), "pixscale": 1, "ra": 3.0}, "both"),
        ({"shape": (5, 5), "pixscale": 1, "ra": 3.0, "dec": 91.0}, "no such position"),
    ],
)
def test_impossible_grids(wrong, message):
    with pytest.raises(GridError, match=message):
        PixelGrid(**wrong)


def test_errors_name_the_fix():
    with pytest.raises(GridError, match="give ra and dec"):
        _ = PixelGrid((3, 3), 1).wcs
    with pytest.raises(GridError, match="does not lie on a grid"):
        resample(np.zeros((3, 4)), PixelGrid((3, 3), 1), PixelGrid((3, 3), 1))
    rotated = WCS(naxis=2)
    rotated.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    rotated.wcs.cd = np.array([[-0.8, 0.6], [0.6, 0.8]]) / 3600
    with pytest.raises(GridError, match="rotated"):
        PixelGrid.from_wcs(rotated, (3, 3))
    oblong = WCS(naxis=2)
    oblong.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    oblong.wcs.cdelt = [-1 / 3600, 2 / 3600]
    with pytest.raises(GridError, match="not square"):
        PixelGrid.from_wcs(oblong, (3, 3))


def test_grids_survive_json():
    grid = gz3d_grid(150.0, 2.0)
    assert PixelGrid.from_dict(grid.to_dict()) == grid


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (PixelGrid((424, 300), 0.262), "PixelGrid(424 x 300 px, 0.262 arcsec/px, no position)"),
        (PixelGrid((9, 9), 1.5, -10, 2.5), "PixelGrid(9 x 9 px, 1.5 arcsec/px, RA 350.00000 deg, Dec +2.50000 deg)"),
        (
            PixelGrid((9, 9), 1.5, 10, -2.5, (1, 2)),
            "PixelGrid(9 x 9 px, 1.5 arcsec/px, RA 10.00000 deg, Dec -2.50000 deg at x 1.00, y 2.00)",
        ),
    ],
)
def test_a_grid_says_in_one_line_where_it_is(grid, told):
    assert repr(grid) == told


# Far tangent points


def exact_pixels(here, there, x, y):
    """By two Astropy WCS, with nothing of ours between."""
    return np.stack(there.wcs.all_world2pix(*here.wcs.all_pix2world(x, y, 0), 0))


@pytest.mark.parametrize("dec", [0.0, 40.0, 85.0, -89.5])
@pytest.mark.parametrize("degrees", [0.0, 0.003, 0.05, 0.5, 5.0])
def test_affine_between_far_tangent_points_is_exact_or_refused(dec, degrees):
    here = PixelGrid((96, 96), 0.4, 150.0, dec)
    centre = here.pixel_to_sky(47.5 + degrees * 9000, 47.5) if degrees < 1 else (150.0, dec - np.sign(dec + 1) * 5)
    there = PixelGrid((96, 96), 0.3, float(centre[0]), float(centre[1]))
    x, y = (values.ravel() for values in np.meshgrid([-0.5, 30.0, 95.5], [-0.5, 60.0, 95.5]))
    try:
        affine = here.affine_to(there)
    except GridError as error:
        assert "too far apart for an affine" in str(error) and degrees >= 0.5
        return
    got = affine[:, :2] @ [x, y] + affine[:, 2:]
    assert np.hypot(*(got - exact_pixels(here, there, x, y))).max() < 0.05


def test_resample_moves_what_it_can_move_rightly_and_refuses_a_turn():
    here = PixelGrid((96, 96), 0.4, 150.0, 40.0)
    near = PixelGrid((96, 96), 0.4, 150.0 + 5 / 3600, 40.0)
    image = asymmetric_pattern(here, 150.0, 40.0)
    assert centroids(resample(image, here, near), near, 150.0, 40.0) < 0.05
    far = PixelGrid((96, 96), 0.4, 150.2, 40.0)  # north turns by 0.13 deg
    with pytest.raises(GridError, match="north turns between"):
        resample(image, here, far)
    with pytest.raises(GridError, match="opposite sides of the sky"):
        here.affine_to(PixelGrid((96, 96), 0.4, 330.0, -40.0))


# Unknown scales


def test_an_unknown_scale_is_nan_and_never_becomes_a_number():
    grid = PixelGrid((8, 8), np.nan)
    assert not grid.scaled and np.isnan(grid.resize(4).pixscale)
    assert repr(grid) == "PixelGrid(8 x 8 px, no pixel scale, no position)"
    assert grid.to_dict()["pixscale"] is None and not PixelGrid.from_dict(grid.to_dict()).scaled
    with pytest.raises(GridError, match="pixel scale is unknown"):
        grid.affine_to(PixelGrid((8, 8), 1.0))
    with pytest.raises(GridError, match="pixscale"):
        PixelGrid((8, 8), np.nan, 10.0, 20.0)


@pytest.mark.parametrize("dec", [90.0, -90.0, 89.9999])
def test_grids_about_a_pole_are_one_thing_to_astropy_to_headers_and_to_affines(dec):
    pole = PixelGrid((96, 96), 0.4, 30.0, dec)
    near = PixelGrid((96, 96), 0.4, 30.0, np.sign(dec) * 89.999)
    x, y = np.array([10.0, 80.0, 47.0]), np.array([20.0, 30.0, 90.0])
    affine = pole.affine_to(near)
    np.testing.assert_allclose(affine[:, :2] @ [x, y] + affine[:, 2:], exact_pixels(pole, near, x, y), atol=0.01)
    sky = WCS(pole.to_header()).pixel_to_world(x, 95 - y)
    np.testing.assert_allclose(pole.sky_to_pixel(sky.ra.deg, sky.dec.deg), [x, y], atol=1e-6)
