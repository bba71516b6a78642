import numpy as np
import pytest

from shapes import rectangle, spiral
from zoobot_3d.errors import GridError
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.flags import decode_flags
from zoobot_3d.measure.light import measure_light
from zoobot_3d.sky.grid import PixelGrid

SIZE, SCALE = 200, 0.5
GRID = PixelGrid((SIZE, SIZE), SCALE)
AREA = SCALE**2
Y, X = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
R = np.hypot(X, Y)
ARM = (spiral(SIZE, 20, radii=(15, 55), width=8) > 0.5).astype(float)
BAR = (rectangle(SIZE, 24, 8, 30) > 0.5).astype(float)
ARM *= 1 - BAR
MASKS = np.stack([ARM, BAR])
DISK = np.where(R < 60, 1.0, 0.0)


def noise(level: float = 1e-4, seed: int = 0, n: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, (n, SIZE, SIZE))


def star(x: float, y: float, height: float) -> np.ndarray:
    return height * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 2 / 1.5**2)  # a FWHM of 1.8 arcsec


def names(light) -> set[str]:
    return set(decode_flags(light.flags))


def test_an_arm_on_a_disk_of_known_brightness_has_their_contrast():
    image = noise() + DISK + 0.5 * ARM + 1.5 * BAR + 0.3  # 0.3 of sky in every pixel
    found = measure_light(image, ["r"], MASKS, GRID)["r"]
    told = found.values
    assert told["sky"] == pytest.approx(0.3 / AREA, rel=1e-3)
    assert told["arm_brightness"] == pytest.approx(1.5 / AREA, rel=1e-4)
    assert told["interarm_brightness"] == pytest.approx(1.0 / AREA, rel=1e-4)
    assert told["bar_brightness"] == pytest.approx(2.5 / AREA, rel=1e-4)
    assert told["contrast"] == pytest.approx(1.5, rel=1e-4)
    assert told["arm_flux"] == pytest.approx(1.5 * ARM.sum(), rel=1e-4)
    assert told["bar_flux"] == pytest.approx(2.5 * BAR.sum(), rel=1e-4)
    assert told["arm_area"] == pytest.approx(ARM.sum() * AREA)
    assert told["arm_left_out"] == 0 and told["arm_matched"] == 1
    assert names(found) == {"no_disk"}


@pytest.mark.parametrize("inclination", [0.0, 60.0])
def test_arms_are_compared_at_their_own_radii_in_the_plane(inclination):
    disk = Disk(inclination, 40.0)
    radius = np.hypot(*disk.to_plane(X, Y))
    arm = spiral(SIZE, 20, radii=(15, 55), width=8, inclination=inclination, pa=40.0)
    light = np.exp(-radius / 12) * (1 + 0.6 * (arm > 0.5))
    masks = np.stack([(arm > 0.5).astype(float), np.zeros_like(arm)])
    told = measure_light(light + noise(1e-6), ["r"], masks, GRID, disk=disk)["r"].values
    assert told["contrast"] == pytest.approx(1.6, rel=0.01)
    face_on = measure_light(light + noise(1e-6), ["r"], masks, GRID)["r"].values
    assert (abs(face_on["contrast"] - 1.6) < 0.02) == (inclination == 0)


def test_fractions_are_weights():
    soft = np.stack([0.5 * ARM, np.zeros_like(ARM)])
    image = noise() + DISK + 0.5 * ARM
    told = measure_light(image, ["r"], soft, GRID)["r"].values
    assert told["arm_flux"] == pytest.approx(0.5 * 1.5 * ARM.sum(), rel=1e-4)
    assert told["arm_brightness"] == pytest.approx(1.5 / AREA, rel=1e-4)
    # An arm pixel is half an inter-arm one: in a ring where a part f is arm, the mean is 1 + 0.5 * f/2 / (1 - f/2).
    ring = R.astype(int)
    f = np.bincount(ring.ravel(), ARM.ravel()) / np.bincount(ring.ravel())
    expected = np.average((1 + 0.5 * (f / 2) / (1 - f / 2))[ring], weights=ARM)
    assert told["interarm_brightness"] == pytest.approx(expected / AREA, rel=1e-3)
    faint = measure_light(image, ["r"], 0.09 * soft, GRID)["r"]
    assert "light_no_arms" in names(faint)  # tails of a mask have no weight


def test_colours_are_those_of_the_nanomaggies():
    ratio = 10 ** (0.4 * 0.7)  # g - r = 0.7 mag
    r = DISK + 0.5 * ARM + BAR
    g = DISK / ratio + 0.5 * ARM / 10 ** (0.4 * 0.2) + BAR / 10 ** (0.4 * 0.9)
    z = r * 10 ** (0.4 * 0.3)
    light = measure_light(np.stack([z, g, r]) + noise(1e-5, n=3), ["z", "g", "r"], MASKS, GRID)
    arm_g = 1 / ratio + 0.5 / 10 ** (0.4 * 0.2)
    assert (light["g"].redder, light["r"].redder, light["z"].redder) == ("r", "z", "")
    assert light["g"].values["interarm_colour"] == pytest.approx(0.7, abs=1e-3)
    assert light["g"].values["arm_colour"] == pytest.approx(-2.5 * np.log10(arm_g / 1.5), abs=1e-3)
    bar = -2.5 * np.log10((1 / ratio + 10 ** (-0.4 * 0.9)) / 2)
    assert light["g"].values["bar_colour"] == pytest.approx(bar, abs=1e-3)
    assert light["r"].values["arm_colour"] == pytest.approx(0.3, abs=1e-3)
    assert "arm_colour" not in light["z"].values


def test_a_neighbour_on_the_arm_and_one_in_the_sky_are_left_out():
    y, x = np.argwhere(ARM * (np.abs(R - 40) < 1.5))[0]
    clean = noise() + DISK + 0.5 * ARM
    image = clean + star(X[y, x], Y[y, x], 200.0) + star(80.0, 80.0, 50.0)
    found = measure_light(image, ["r"], MASKS, GRID)
    assert found.left_out[y, x] and found.left_out[180, 180] and not found.left_out[100, 100]
    assert 0 < found["r"].values["arm_left_out"] < 0.2
    for name in ("contrast", "arm_brightness", "sky"):
        before = measure_light(clean, ["r"], MASKS, GRID)["r"].values[name]
        assert found["r"].values[name] == pytest.approx(before, rel=0.01, abs=1e-3)
    quiet = measure_light(clean + BAR, ["r"], MASKS, GRID).left_out
    assert not (quiet & (R < 60)).any() and quiet.mean() < 0.01  # neither arms nor bar are, and little of the noise


def test_stars_that_are_given_are_left_out():
    image = noise() + DISK + 0.5 * ARM
    spot = (X > 0) & (ARM > 0)
    image[:, spot] += 0.3  # too faint to be found
    given = measure_light(image, ["r"], MASKS, GRID, left_out=spot)["r"]
    assert given.values["arm_brightness"] == pytest.approx(1.5 / AREA, rel=1e-3)
    assert given.values["arm_left_out"] == pytest.approx(spot.sum() / ARM.sum())
    assert "light_left_out" in names(given)


def test_errors_by_the_inverse_variance_are_those_of_a_sum():
    image = noise(0.1) + DISK + 0.5 * ARM
    invvar = np.full(image.shape, 1 / 0.2**2)
    light = measure_light(image, ["r"], MASKS, GRID, invvar=invvar)["r"]
    by_hand = np.hypot(0.2 * np.sqrt(light.sky.correlation / ARM.sum()), light.sky.level_err)
    assert light.values["arm_brightness_err"] == pytest.approx(by_hand / AREA, rel=1e-6)
    assert light.errors_from == "invvar"


def test_errors_by_the_sky_cover_the_scatter():
    measured = []
    for seed in range(12):
        told = measure_light(noise(0.2, seed) + DISK + 0.5 * ARM, ["r"], MASKS, GRID)["r"].values
        measured.append((told["contrast"], told["contrast_err"]))
    values, errors = np.array(measured).T
    assert values.mean() == pytest.approx(1.5, abs=4 * errors.mean() / np.sqrt(12))
    assert 0.5 < errors.mean() / values.std(ddof=1) < 2


def test_noise_that_is_correlated_makes_larger_errors():
    white = noise(0.2)
    smooth = (white + np.roll(white, 1, 1) + np.roll(white, 1, 2) + np.roll(white, (1, 1), (1, 2))) / 2  # same variance
    found = measure_light(smooth + DISK, ["r"], MASKS, GRID)["r"]
    assert found.sky.correlation == pytest.approx(4, rel=0.3)  # 2 x 2 pixels say the same
    assert found.values["noise"] == pytest.approx(0.2 / AREA, rel=0.05)


def test_an_answer_that_depends_on_the_threshold_has_an_error_that_says_so():
    wide = np.maximum(ARM, 0.3 * (spiral(SIZE, 20, radii=(15, 55), width=20) > 0.5) * (1 - BAR))
    image = noise() + DISK + 0.5 * ARM
    told = measure_light(image, ["r"], np.stack([wide, BAR]), GRID)["r"].values
    low = (ARM + (wide == np.float64(0.3)) * 0).sum() * 0.5 / (wide >= 0.2).sum() + 1  # mean above 0.2
    assert told["arm_brightness_err"] == pytest.approx((1.5 - low) / 2 / AREA, rel=0.01)


def test_what_has_no_answer_is_nan_and_a_flag():
    dark = measure_light(noise(0.1), ["r"], MASKS, GRID)["r"]
    below = measure_light(noise(0.1) - 0.5 * ARM, ["r"], MASKS, GRID)["r"]
    assert "light_negative" in names(below) and np.isnan(below.values["contrast"])
    assert np.isfinite(dark.values["arm_flux"]) and dark.values["arm_flux_err"] > 0
    no_bar = measure_light(noise() + DISK, ["r"], np.stack([ARM, 0 * BAR]), GRID)["r"]
    assert "light_no_bar" in names(no_bar) and np.isnan(no_bar.values["bar_flux"])
    assert np.isfinite(no_bar.values["contrast"])
    ring = ((R > 20) & (R < 50)).astype(float)
    filled = measure_light(noise() + DISK, ["r"], np.stack([ring, 0 * BAR]), GRID)["r"]
    assert {"light_no_interarm", "light_unmatched"} <= names(filled) and np.isnan(filled.values["contrast"])
    assert filled.values["arm_brightness"] == pytest.approx(1 / AREA, rel=1e-3)


def test_a_band_without_data_costs_no_other():
    image = np.stack([DISK + 0.5 * ARM, DISK + 0.5 * ARM]) + noise(n=2)
    image[0, :, :120] = np.nan
    light = measure_light(image, ["g", "r"], MASKS, GRID)
    assert "light_no_data" in names(light["g"]) and light["g"].values == {}
    assert light["r"].values["contrast"] == pytest.approx(1.5, rel=1e-3)


def test_without_a_scale_or_a_sky_there_are_fluxes_and_contrasts():
    image = noise() + DISK + 0.5 * ARM
    told = measure_light(image, ["r"], MASKS, PixelGrid((SIZE, SIZE), np.nan))["r"]
    assert "no_scale" in names(told) and np.isnan(told.values["arm_brightness"])
    assert told.values["contrast"] == pytest.approx(1.5, rel=1e-3)
    cut = slice(50, 150)  # the disk fills the image
    small = measure_light(image[:, cut, cut], ["r"], MASKS[:, cut, cut], PixelGrid((100, 100), SCALE))["r"]
    assert "light_no_sky" in names(small) and small.sky.level == 0 and small.errors_from == "none"
    assert np.isnan(small.values["arm_flux_err"])
    with pytest.raises(GridError, match="image does not lie on the grid"):
        measure_light(image, ["g", "r"], MASKS, GRID)
