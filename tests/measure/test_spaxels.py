import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from reproject import reproject_exact

from zoobot_3d.errors import ConfigError, GridError
from zoobot_3d.io.spaxels import SpaxelGrid
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.radii import radius_matched
from zoobot_3d.measure.spaxels import SpaxelMasks, masks_on_spaxels, spaxel_radius, split
from zoobot_3d.sky.grid import PixelGrid

RA, DEC = 150.0, 2.0
FIELD = PixelGrid((120, 120), 0.25, RA, DEC)  # 30 arcsec
X, Y = np.meshgrid(np.arange(120), np.arange(120))


def spaxel_wcs(shape, *, turn=0.0, mirror=1, shift=(0.0, 0.0), scale=0.5) -> WCS:
    """Spaxels as in a file, whose y axis points `turn` deg east of north; RA, DEC lie `shift` off the middle."""
    s, c = np.sin(np.radians(turn)), np.cos(np.radians(turn))
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": RA, "CRVAL2": DEC, "RADESYS": "ICRS"})
    header["CRPIX1"], header["CRPIX2"] = (shape[1] + 1) / 2 + shift[0], (shape[0] + 1) / 2 + shift[1]
    cd = np.array([[-c * mirror, s], [s * mirror, c]]) * scale / 3600
    header.update({f"CD{i + 1}_{j + 1}": cd[i, j] for i in range(2) for j in range(2)})
    return SpaxelGrid.from_header(header, shape).wcs


def blob(east: float, north: float, sigma: float = 0.6) -> np.ndarray:
    """A Gaussian spot at offsets from RA, DEC in arcsec, on FIELD: x grows to the west, y to the south."""
    x, y = 59.5 - east / 0.25, 59.5 - north / 0.25
    return np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 2 / (sigma / 0.25) ** 2)


def moments(plane: np.ndarray) -> tuple[float, float, float]:
    y, x = np.indices(plane.shape)
    mean_x, mean_y = np.average(x, weights=plane), np.average(y, weights=plane)
    return mean_x, mean_y, float(np.average((x - mean_x) ** 2, weights=plane))


@pytest.mark.parametrize(("turn", "mirror"), [(0.0, 1), (30.0, 1), (-100.0, 1), (135.0, -1)])
def test_a_shape_without_symmetry_lies_where_rotated_and_offset_spaxels_say(turn, mirror):
    masks = np.stack([blob(5, 3), blob(-2, 6)])  # arms to the north-east, a bar to the north-north-west
    shift = (2.3, -1.4)
    laid = masks_on_spaxels(masks, FIELD, spaxel_wcs((44, 50), turn=turn, mirror=mirror, shift=shift), (44, 50))
    s, c = np.sin(np.radians(turn)), np.cos(np.radians(turn))
    for plane, (east, north) in zip(laid.masks, [(5, 3), (-2, 6)], strict=True):
        x, y = 24.5 + shift[0] + mirror * (-east * c + north * s) / 0.5, 21.5 + shift[1] + (east * s + north * c) / 0.5
        assert moments(np.nan_to_num(plane))[:2] == pytest.approx((x, y), abs=0.1)


def test_a_spaxel_that_an_arm_covers_by_half_has_half_its_fraction():
    arm = (X >= 59).astype(float)  # spaxels are two pixels wide: its edge cuts those of columns 58 and 59
    wcs = spaxel_wcs((20, 20))
    laid = masks_on_spaxels(np.stack([arm, 0.4 * arm]), FIELD, wcs, (20, 20))
    np.testing.assert_allclose(laid.masks[0][7], [0] * 9 + [0.5] + [1] * 10, atol=1e-4)  # 18 of 50 pixels on each side
    np.testing.assert_allclose(laid.masks[1], 0.4 * laid.masks[0], atol=1e-5)
    np.testing.assert_allclose(laid.footprint, 1, atol=1e-5)


@pytest.mark.parametrize(("scale", "side"), [(0.5, 30), (0.1, 50), (1.3, 40)])
def test_means_are_those_of_exact_overlaps_on_the_sphere(scale, side):
    masks = np.random.default_rng(0).random((2, 120, 120))
    masks[:, 40:50, 70:90] = np.nan  # not known: no part of the means
    wcs, shape = spaxel_wcs((side, side + 3), turn=33, mirror=-1, shift=(1.2, 4.1), scale=scale), (side, side + 3)
    laid = masks_on_spaxels(masks, FIELD, wcs, shape)
    known = np.isfinite(masks[0]).astype(float)
    planes, covered = reproject_exact((np.stack([*np.nan_to_num(masks), known]), FIELD.wcs), wcs, shape_out=shape)
    planes = np.nan_to_num(planes)
    seen = laid.footprint > 0
    np.testing.assert_allclose(laid.footprint, planes[2] * covered[2], atol=1.1e-3)  # less than 1e-3 is taken for 0
    np.testing.assert_allclose(laid.masks[:, seen], planes[:2, seen] / planes[2, seen], atol=1e-4)
    assert np.isnan(laid.masks[:, ~seen]).all() and seen.mean() > 0.1


def test_the_footprint_of_the_masks_is_kept_and_what_lies_outside_is_unknown():
    masks = np.ones((2, 120, 120))
    masks[:, :, :21] = np.nan  # the network saw nothing in the east: 10 spaxels and a half
    laid = masks_on_spaxels(masks, FIELD, spaxel_wcs((70, 70)), (70, 70))  # 35 arcsec: 5 spaxels beyond each side
    row = laid.footprint[30]
    np.testing.assert_allclose(row[:17], [0] * 15 + [0.5, 1], atol=1e-4)
    np.testing.assert_allclose(row[64:], [1] + [0] * 5, atol=1e-4)
    assert np.isnan(laid.masks[0][30, :15]).all() and np.isnan(laid.masks[0][30, 65:]).all()
    np.testing.assert_allclose(laid.masks[0][30, 15:65], 1, atol=1e-5)


def test_masks_are_as_wide_as_the_point_spread_function_makes_them():
    masks, wcs = np.stack([blob(1, 2), blob(1, 2)]), spaxel_wcs((50, 50))
    before = moments(masks_on_spaxels(masks, FIELD, wcs, (50, 50)).masks[0])
    after = moments(masks_on_spaxels(masks, FIELD, wcs, (50, 50), fwhm=2.5).masks[0])
    assert after[2] - before[2] == pytest.approx((2.5 / 2.3548 / 0.5) ** 2, rel=0.02)
    assert after[:2] == pytest.approx(before[:2], abs=0.02)
    full = masks_on_spaxels(np.ones((2, 120, 120)), FIELD, wcs, (50, 50), fwhm=2.5)
    np.testing.assert_allclose(full.masks, 1, atol=1e-5)  # also at the edge of the field


def test_ccddata_carries_plane_wcs_and_mask():
    laid = masks_on_spaxels(np.stack([blob(0, 0), blob(3, 0)]), FIELD, spaxel_wcs((70, 70)), (70, 70))
    data = laid.ccddata("bar")
    np.testing.assert_array_equal(data.data, laid.masks[1])
    assert data.mask[0, 0] and not data.mask[35, 35] and data.wcs is laid.wcs
    with pytest.raises(ConfigError, match="no masks of 'arm'"):
        laid.ccddata("arm")


def test_what_cannot_be_laid_is_refused():
    masks, wcs = np.zeros((2, 120, 120)), spaxel_wcs((20, 20))
    with pytest.raises(GridError, match="no position on the sky"):
        masks_on_spaxels(masks, PixelGrid((120, 120), 0.25), wcs, (20, 20))
    with pytest.raises(GridError, match="do not lie on a grid"):
        masks_on_spaxels(masks[:, 1:], FIELD, wcs, (20, 20))
    with pytest.raises(GridError, match="another galaxy"):
        masks_on_spaxels(masks, PixelGrid((120, 120), 0.25, RA + 0.1, DEC), wcs, (20, 20))
    with pytest.raises(ConfigError, match="FWHM of -1"):
        masks_on_spaxels(masks, FIELD, wcs, (20, 20), fwhm=-1)


def on_spaxels(spiral, bar, footprint=None) -> SpaxelMasks:
    masks = np.array([spiral, bar], np.float32)
    known = np.ones(masks.shape[1:]) if footprint is None else np.array(footprint)
    return SpaxelMasks(masks, known.astype(np.float32), spaxel_wcs(masks.shape[1:]))


def test_split_by_hand():
    masks = on_spaxels([[1, 0.5, 0.05], [0, 0, 0]], [[0, 0, 0], [0, 0.5, 1]], [[1, 1, 1], [0.5, 1, 1]])
    found = split([[10.0, 4, 2], [2, 6, 8]], masks, error=[[1.0, 2, 1], [1, 1, 3]])
    assert (found.arm.mean, found.arm.weight, found.arm.n) == pytest.approx(((10 + 2) / 1.5, 1.5, 2))
    assert found.arm.error == pytest.approx(np.sqrt(1 + 1) / 1.5)  # 1 * 1 and 0.5 * 2
    assert (found.bar.mean, found.bar.weight, found.bar.n) == pytest.approx(((3 + 8) / 1.5, 1.5, 2))
    assert found.bar.error == pytest.approx(np.sqrt(0.25 + 9) / 1.5)
    between = 0.5 * 4 + 0.95 * 2 + 0.5 * 2 + 0.5 * 6  # a spaxel half outside the field counts half
    assert found.interarm.mean == pytest.approx(between / 2.45)
    assert (found.interarm.weight, found.interarm.n) == pytest.approx((2.45, 4))


def test_spaxels_without_a_value_are_left_out_and_scatter_gives_errors():
    masks = on_spaxels([[1, 1, 1, 1]], [[0, 0, 0, 0]])
    values = np.ma.array([[1.0, 3.0, 100.0, np.nan]], mask=[[False, False, True, False]])
    found = split(values, masks)
    assert (found.arm.mean, found.arm.n) == (2, 2)
    assert found.arm.error == pytest.approx(np.std([1, 3], ddof=1) / np.sqrt(2))
    assert (found.bar.n, found.bar.weight) == (0, 0) and np.isnan([found.bar.mean, found.bar.error]).all()
    one = split(np.array([[1.0, np.nan, np.nan, np.nan]]), masks)
    assert one.arm.mean == 1 and np.isnan(one.arm.error)
    with pytest.raises(GridError, match="map has"):
        split(np.zeros((2, 2)), masks)


def test_interarm_spaxels_have_the_radii_of_the_arms():
    radius = np.array([[0.5, 0.5, 1.5, 1.5, 2.5, 2.5]])
    masks = on_spaxels([[1, 0, 0.5, 0, 0, 0]], [[0] * 6])
    values = 10 - 2 * np.floor(radius)  # a disk alone: 10, 8, 6
    found = split(values, masks, radius=radius)
    assert found.arm.mean == pytest.approx(found.interarm.mean) == pytest.approx((10 + 0.5 * 8) / 1.5)
    assert found.interarm.weight == pytest.approx(1.5)
    assert split(values, masks).interarm.mean < 8


def test_rings_that_the_arms_fill_have_no_match():
    wanted, offered = np.array([1.0, 1.0, 1.0, 0.5]), np.array([0.0, 0.05, 1.0, 0.5])
    weights, matched = radius_matched(wanted, offered, np.array([0.5, 1.5, 2.5, np.nan]), 1.0)
    assert list(matched) == [False, False, True, False]
    np.testing.assert_allclose(weights, [0, 0, 1, 0])
    with pytest.raises(ConfigError, match="positive width"):
        radius_matched(wanted, offered, wanted, 0.0)


def test_the_radius_of_a_spaxel_is_that_in_the_plane():
    wcs = spaxel_wcs((41, 41), turn=90)  # up is east
    face_on, tilted = spaxel_radius(wcs, (41, 41), RA, DEC), spaxel_radius(wcs, (41, 41), RA, DEC, Disk(60.0, 0.0))
    assert face_on[20, 20] == pytest.approx(0, abs=1e-6) and face_on[30, 20] == pytest.approx(5, abs=1e-4)
    assert tilted[30, 20] == pytest.approx(10, abs=1e-3)  # to the east, across a major axis to the north
    assert tilted[20, 30] == pytest.approx(5, abs=1e-3)
