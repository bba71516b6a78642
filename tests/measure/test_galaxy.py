"""What `measure_masks` takes and what it refuses."""

import astropy.units as u
import numpy as np
import pytest

from zoobot_3d.errors import ConfigError, GridError
from zoobot_3d.measure.arms import measure_arms
from zoobot_3d.measure.bars import measure_bar
from zoobot_3d.measure.flags import decode_flags
from zoobot_3d.measure.galaxy import Given, kpc_per_arcsec, measure_masks
from zoobot_3d.sky.grid import PixelGrid

N = 64
GRID = PixelGrid((N, N), 0.5)
MASKS = np.zeros((2, N, N), np.float32)
MASKS[1, 30:34, 22:42] = 0.8  # a bar of 20 px, 10 arcsec, along the row

REFUSED = {
    "0 to 255": (MASKS * 255, "masks: expected fractions in 0-1, got values from 0 to 204; divide them by 255"),
    "uint8": ((MASKS * 255).astype(np.uint8), "divide them by 255"),
    "above 1": (MASKS * 1.5, "from 0 to 1.2; give fractions"),
    "negative": (-MASKS, "from -0.8 to"),
    "infinite": (np.where(MASKS > 0, np.inf, 0), "from 0 to inf"),
    "one plane": (
        MASKS[:1],
        r"masks: expected numbers of shape \(2, 64, 64\), spiral and bar on the grid, got float32",
    ),
    "no planes": (MASKS[1], "of shape \\(64, 64\\)"),
    "planes last": (np.moveaxis(MASKS, 0, -1), r"of shape \(64, 64, 2\)"),
    "nothing": (None, "got object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_are_no_fractions_on_the_grid_is_refused(name):
    masks, message = REFUSED[name]
    with pytest.raises(GridError, match=message):
        measure_masks(masks, GRID)


@pytest.mark.parametrize("kind", [np.float64, ">f4", np.float16])
def test_any_type_of_fractions_is_measured(kind):
    assert measure_masks(MASKS.astype(kind), GRID).bar.length_px == pytest.approx(20, abs=0.5)


def test_what_is_masked_is_outside_the_field():
    hidden = np.zeros(MASKS.shape, bool)
    hidden[..., :32] = True
    as_nan = measure_masks(np.where(hidden, np.nan, MASKS), GRID).row()
    assert measure_masks(np.ma.masked_array(MASKS, hidden), GRID).row()["bar_length"] == as_nan["bar_length"]


def test_a_mask_alone_is_checked_too():
    with pytest.raises(GridError, match="from 0 to 204"):
        measure_bar(MASKS[1] * 255, GRID)
    with pytest.raises(GridError, match="from 0 to 204"):
        measure_arms(MASKS[1] * 255, GRID)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image": np.ones((32, 32))}, r"an image of shape \(32, 32\) does not lie on a grid of \(64, 64\)"),
        ({"image": np.ones((3, N, N))}, r"an image of shape \(3, 64, 64\)"),
        ({"sigma": MASKS[1]}, "sigma: expected numbers of shape"),
        ({"members": [MASKS[:, :32]]}, "members: expected numbers of shape"),
        ({"centre": (np.nan, 3)}, r"centre is \(nan, 3\)"),
    ],
)
def test_what_does_not_fit_the_masks_is_refused(more, message):
    with pytest.raises(GridError, match=message):
        measure_masks(MASKS, GRID, **more)


def test_a_scale_is_no_grid():
    with pytest.raises(GridError, match="expected a PixelGrid, got float"):
        measure_masks(MASKS, 0.5)


def test_quantities_are_converted():
    given = Given(0.03 * u.one, np.pi / 3 * u.rad, 600 * u.arcmin)
    assert (given.redshift, given.inclination, given.pa) == pytest.approx((0.03, 60, 10))
    assert given.disk.inclination == pytest.approx(60)


@pytest.mark.parametrize(
    ("name", "value"),
    [("redshift", 9000 * u.km / u.s), ("redshift", "0.03"), ("inclination", 3 * u.kpc), ("pa", None), ("pa", True)],
)
def test_what_is_no_number_of_its_unit_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} is .*; give a number"):
        Given(**{name: value})


@pytest.mark.parametrize("redshift", [-9999.0, -1.0, 0.0, 99.0, 9000.0, np.inf, np.nan])
def test_what_is_no_redshift_gives_no_kpc(redshift):
    measured = measure_masks(MASKS, GRID, given=Given(redshift))
    assert np.isnan(measured.kpc_per_arcsec) and np.isnan(kpc_per_arcsec(redshift))
    assert "no_redshift" in decode_flags(measured.flags)


@pytest.mark.parametrize("pa", [-9999.0, -999.0, -99.0, 400.0, np.nan])
def test_a_mark_of_a_missing_position_angle_is_none(pa):
    # -9999 is 81 deg after division by 180, and was taken for it.
    assert Given(inclination=60, pa=pa).disk is None
    assert Given(inclination=60, pa=-100).disk.pa == 80
