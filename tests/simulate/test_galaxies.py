"""Light of the simulated survey: fluxes, places, angles and noise must be what the recipe says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from zoobot_3d.errors import ConfigError
from zoobot_3d.simulate.galaxies import (
    DECALS,
    KINDS,
    SDSS,
    Arm,
    Bar,
    Dust,
    Galaxy,
    Instrument,
    arm_ridges,
    bar_outline,
    draw_galaxy,
    render,
)
from zoobot_3d.simulate.light import photometry, surface_brightness
from zoobot_3d.simulate.scene import Sources, paint, scenery
from zoobot_3d.simulate.sky import UNIT_PIXEL, _moffat
from zoobot_3d.sky.grid import PixelGrid

SHARP = Instrument("sharp", 0.262, (0.5, 0.5, 0.5), (1e-9, 1e-9, 1e-9), (1.0, 1.0, 1.0))


def plain_galaxy(**changes) -> Galaxy:
    """A smooth face-on disk of scale 4 arcsec with a small round bulge and nothing else."""
    galaxy = Galaxy(
        kind="spiral",
        seed=1,
        ra=150.0,
        dec=2.0,
        redshift=0.03,
        inclination=0.0,
        pa=0.0,
        mag_g=15.6,
        mag_r=15.0,
        mag_z=14.5,
        bulge_fraction=0.05,
        bulge_radius=0.8,
        bulge_index=1.0,
        bulge_axis_ratio=1.0,
        bulge_pa=0.0,
        disk_scale=4.0,
        disk_break=100.0,
        break_factor=1.0,
        core=0.0,
        colour_old=(0.6, 0.5),
        colour_disk=(0.6, 0.5),
        lopsidedness=(0.0, 0.0),
        flocculence=0.0,
        flocculence_pitch=20.0,
        knots=(0, 0.0),
        thickness=0.15,
        petro_th50=6.5,
        petro_th90=15.0,
    )
    return replace(galaxy, **changes)


def arm(**changes) -> Arm:
    return replace(
        Arm(20.0, 1, 30.0, 4.0, 12.0, 3.0, 0.5, 0.0, (0.5, 0.0), (0.3, 0.0), (0.0, 1.0, 0.0)),
        **changes,
    )


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take neighbours and stars out of the scene."""
    empty = np.zeros(0, np.float32)
    nothing = Sources(empty, empty, np.zeros((0, 3), np.float32), empty, empty, empty, np.zeros(0, np.int64))
    monkeypatch.setattr("zoobot_3d.simulate.sky.scenery", lambda galaxy: nothing)


def moments(image: np.ndarray, grid: PixelGrid) -> tuple[float, float, float]:
    """East and north offset of the centroid (arcsec) and PA of the major axis (deg, 0-180)."""
    y, x = np.indices(image.shape)
    x0, y0 = grid.reference_pixel
    xi, eta = (x0 - x) * grid.pixscale, (y0 - y) * grid.pixscale
    w = image / image.sum()
    mx, my = (w * xi).sum(), (w * eta).sum()
    xx, yy, xy = (w * (xi - mx) ** 2).sum(), (w * (eta - my) ** 2).sum(), (w * (xi - mx) * (eta - my)).sum()
    return float(mx), float(my), float(np.degrees(0.5 * np.arctan2(2 * xy, yy - xx)) % 180)


@pytest.mark.parametrize("pixscale", [0.15, 0.262, 0.5])
def test_the_flux_of_a_cutout_is_the_galaxys_magnitude_at_any_pixel_scale(monkeypatch, pixscale):
    alone(monkeypatch)
    galaxy = plain_galaxy(inclination=50.0, pa=30.0)
    n = int(90 / pixscale)
    image = render(galaxy, PixelGrid((n, n), pixscale, 150.0, 2.0), None)
    flux = image.sum((1, 2)) * (pixscale / UNIT_PIXEL) ** 2
    # All parts have one colour: g - r = 0.6, r - z = 0.5.
    assert 22.5 - 2.5 * np.log10(flux) == pytest.approx([15.6, 15.0, 14.5], abs=0.02)


def test_drawn_magnitudes_are_those_of_the_light():
    for seed in range(8):
        galaxy = draw_galaxy(np.random.default_rng(seed), ra=10.0, dec=0.0)
        mags = 22.5 - 2.5 * np.log10(photometry(galaxy).flux)
        assert mags == pytest.approx([galaxy.mag_g, galaxy.mag_r, galaxy.mag_z], abs=0.1)
        assert mags[0] - mags[1] == pytest.approx(galaxy.mag_g - galaxy.mag_r, abs=0.02)


def test_petrosian_radii_of_an_exponential_disk():
    # I(r) / mean I(<r) = 0.2 at 3.69 scale lengths; half and 90% of the flux within twice that solve to these.
    seen = photometry(plain_galaxy(bulge_fraction=0.0))
    assert seen.petro_th50 / 4.0 == pytest.approx(1.668, rel=0.01)
    assert seen.petro_th90 / 4.0 == pytest.approx(3.82, rel=0.02)


@pytest.mark.parametrize(("th50", "th90", "expected"), [(5.0, 20.0, 0.2), (5.0, 8.0, 0.16), (1.0, 2.0, 0.1)])
def test_pixscale_follows_the_galaxy_zoo_rule(th50, th90, expected):
    assert plain_galaxy(petro_th50=th50, petro_th90=th90).pixscale == pytest.approx(expected)


def test_the_galaxy_sits_at_its_position_on_a_grid_centred_elsewhere(monkeypatch):
    alone(monkeypatch)
    galaxy = plain_galaxy(ra=150.001, dec=2.002, disk_scale=1.0)
    grid = PixelGrid((201, 181), 0.2, 150.0, 2.0)
    xi, eta, _ = moments(render(galaxy, grid, None)[1], grid)
    assert xi == pytest.approx(3.6 * np.cos(np.radians(2.002)), abs=0.02)  # east of the grid's centre: to its left
    assert eta == pytest.approx(7.2, abs=0.02)  # north: above


def test_a_floating_grid_has_the_galaxy_at_its_reference_pixel(monkeypatch):
    alone(monkeypatch)
    grid = PixelGrid((120, 120), 0.2, center=(40.0, 70.0))
    image = render(plain_galaxy(disk_scale=1.0), grid, None)[1]
    assert np.unravel_index(image.argmax(), image.shape) == (70, 40)


@pytest.mark.parametrize("pa", [20.0, 110.0])
def test_position_angle_of_an_inclined_disk(monkeypatch, pa):
    alone(monkeypatch)
    grid = PixelGrid((300, 300), 0.3, 150.0, 2.0)
    assert moments(render(plain_galaxy(inclination=60.0, pa=pa), grid, None)[1], grid)[2] == pytest.approx(pa, abs=0.5)


@pytest.mark.parametrize(("inclination", "angle"), [(0.0, 75.0), (55.0, 40.0)])
def test_bar_position_angle_length_and_corners_in_the_picture(inclination, angle):
    galaxy = plain_galaxy(inclination=inclination, pa=160.0, bulge_fraction=0.0)
    outline_pa, shrink = _projected(angle, galaxy)
    bar = Bar(5.0 * shrink, 5.0, outline_pa, angle, 0.15, 0.3, "flat", 3.0, 0.0)
    grid = PixelGrid((401, 401), 0.1, 150.0, 2.0)
    y, x = np.indices(grid.shape)
    xi, eta = (200 - x) * 0.1, (200 - y) * 0.1
    light = surface_brightness(replace(galaxy, bar=bar), xi, eta)[1]
    smooth = surface_brightness(galaxy, xi, eta)[1]
    excess = np.clip(light - smooth * light[0, 0] / smooth[0, 0], 0, None)  # the disk gave the bar some of its light
    excess[excess < 0.2 * excess.max()] = 0
    assert abs((moments(excess, grid)[2] - bar.pa + 90) % 180 - 90) < 3
    reach = np.hypot(xi, eta)[excess > 0].max()
    assert reach == pytest.approx(bar.length, rel=0.12)
    corners = bar_outline(replace(galaxy, bar=bar))
    ends = (corners[0] + corners[1]) / 2
    assert np.hypot(*ends) == pytest.approx(bar.length, rel=1e-6)
    assert np.degrees(np.arctan2(*ends)) % 180 == pytest.approx(bar.pa, abs=1e-6)


def _projected(angle: float, galaxy: Galaxy) -> tuple[float, float]:
    """PA and shrinkage of a direction in the disk, by projecting a point."""
    xi, eta = galaxy.to_sky(np.cos(np.radians(angle)), np.sin(np.radians(angle)))
    return float(np.degrees(np.arctan2(xi, eta)) % 180), float(np.hypot(xi, eta))


def test_drawn_bars_state_their_projection():
    rng = np.random.default_rng(4)
    galaxies = [draw_galaxy(rng, ra=0.0, dec=0.0, kind="spiral") for _ in range(20)]
    barred = [g for g in galaxies if g.bar]
    assert barred
    for galaxy in barred:
        pa, shrink = _projected(galaxy.bar.angle, galaxy)
        assert galaxy.bar.pa == pytest.approx(pa)
        assert galaxy.bar.length == pytest.approx(galaxy.bar.intrinsic_length * shrink)


@pytest.mark.parametrize(("pitch", "hand"), [(10.0, 1), (35.0, -1)])
def test_pitch_and_hand_are_recovered_along_the_ridge(pitch, hand):
    galaxy = plain_galaxy(inclination=50.0, pa=70.0, arms=(arm(pitch=pitch, handedness=hand),))
    (ridge,) = arm_ridges(galaxy)
    u, v = galaxy.to_plane(ridge.xi[ridge.n_inner :], ridge.eta[ridge.n_inner :])
    slope = np.polyfit(np.log(np.hypot(u, v)), np.unwrap(np.arctan2(v, u)), 1)[0]
    assert np.degrees(np.arctan(1 / slope)) == pytest.approx(hand * pitch, abs=0.1)


def test_a_positive_hand_winds_anticlockwise_on_the_sky():
    (ridge,) = arm_ridges(plain_galaxy(arms=(arm(pitch=15.0),)))
    position_angle = np.unwrap(np.arctan2(ridge.xi, ridge.eta))  # grows from north through east: anticlockwise
    assert np.all(np.diff(position_angle[ridge.n_inner :]) > 0)


def test_a_ridge_leads_from_the_nucleus_along_the_bar_to_the_arm():
    made = arm(pitch=15.0)
    bar = Bar(made.r_start, made.r_start, 0.0, 0.0, 0.2, 0.1, "flat", 3.0, 0.0)
    (ridge,) = arm_ridges(plain_galaxy(inclination=0.0, arms=(made,), bar=bar))
    radius, inner = np.hypot(ridge.xi, ridge.eta), ridge.n_inner
    assert radius[inner] == pytest.approx(made.r_start, rel=1e-5)
    assert radius[0] < 0.2 * made.r_start and np.all(np.diff(radius) > 0)
    direction = np.arctan2(ridge.xi, ridge.eta)
    assert direction[:inner] == pytest.approx(direction[inner], abs=1e-5)


def test_without_a_bar_a_ridge_is_the_same_spiral_all_the_way():
    made = arm(pitch=15.0, wobble=(0.0, 1.0, 0.0))
    (ridge,) = arm_ridges(plain_galaxy(inclination=0.0, arms=(made,)))
    radius, angle = np.hypot(ridge.xi, ridge.eta), np.unwrap(np.arctan2(ridge.xi, ridge.eta))
    assert radius[0] < 0.4 * made.r_start and radius[ridge.n_inner] == pytest.approx(made.r_start, rel=1e-5)
    slope, _ = np.polyfit(np.log(radius), angle, 1)
    assert np.ptp(angle - slope * np.log(radius)) < 1e-4
    assert np.degrees(np.arctan(1 / abs(slope))) == pytest.approx(15.0, abs=0.01)


@pytest.mark.parametrize(("youth", "colour"), [(0.0, (0.9, 0.7)), (0.5, (0.6, 0.45)), (1.0, (0.3, 0.2))])
def test_a_bar_has_a_colour_between_bulge_and_disk(youth, colour):
    bar = Bar(5.0, 5.0, 0.0, 0.0, 0.2, 1.0, "flat", 3.0, 0.0, youth)  # all of the galaxy's light
    galaxy = plain_galaxy(bulge_fraction=0.0, colour_old=(0.9, 0.7), colour_disk=(0.3, 0.2), bar=bar)
    g, r, z = -2.5 * np.log10(photometry(galaxy).flux)
    assert (g - r, r - z) == pytest.approx(colour, abs=1e-3)


@pytest.mark.parametrize("hand", [1, -1])
def test_ridges_lie_on_the_crest_of_the_light(monkeypatch, hand):
    alone(monkeypatch)
    arms = (arm(handedness=hand), arm(handedness=hand, phase=210.0, wobble=(6.0, 1.0, 0.3)))
    galaxy = plain_galaxy(inclination=40.0, pa=25.0, arms=arms)
    grid = PixelGrid((424, 424), 0.1, 150.0, 2.0)
    with_arms = render(galaxy, grid, None, instrument=SHARP)[1]
    ratio = with_arms / render(replace(galaxy, arms=()), grid, None, instrument=SHARP)[1]
    for ridge in arm_ridges(galaxy):
        middle = slice(15, -25)
        xi, eta = ridge.xi[middle], ridge.eta[middle]
        along = np.stack([np.gradient(xi), np.gradient(eta)]) / np.hypot(np.gradient(xi), np.gradient(eta))
        steps = np.arange(-1.0, 1.01, 0.1)  # arcsec across the arm
        x, y = grid.offset_to_pixel(xi + np.outer(steps, along[1]), eta - np.outer(steps, along[0]))
        profile = map_coordinates(ratio, [y, x], order=1)
        assert np.abs(steps[profile.argmax(0)]).mean() < 0.12
        assert np.abs(steps[profile.argmax(0)]).max() < 0.35


def test_half_width_is_that_of_the_arm_face_on():
    (ridge,) = arm_ridges(plain_galaxy(arms=(arm(),)))
    assert ridge.half_width[ridge.n_inner] == pytest.approx(1.4 * 0.5, rel=0.02)
    assert ridge.half_width[-1] == pytest.approx(1.4 * 0.5 * np.sqrt(3), rel=0.02)


@pytest.mark.parametrize("hand", [1, -1])
def test_dust_lanes_redden_the_inner_edge_of_arms(hand):
    dusty = plain_galaxy(arms=(arm(handedness=hand),), dust=Dust(lanes=1.0))
    (ridge,) = arm_ridges(dusty)
    for side, dims in ((0.9, True), (1.1, False)):
        xi, eta = side * ridge.xi[[40]][None], side * ridge.eta[[40]][None]
        g, r, z = surface_brightness(dusty, xi, eta) / surface_brightness(replace(dusty, dust=Dust()), xi, eta)
        assert bool(g < 0.9) == dims
        assert (not dims) or g < r < z


def test_noise_has_the_sigma_asked_for_and_is_white_on_native_pixels(monkeypatch):
    alone(monkeypatch)
    faint = plain_galaxy(mag_r=30.0)
    image = render(faint, PixelGrid((300, 300), 0.262, 150.0, 2.0), np.random.default_rng(3))
    assert image.std((1, 2)) == pytest.approx(DECALS.sigma, rel=0.02)
    band = image[1] - image[1].mean()
    assert abs(np.corrcoef(band[:, 1:].ravel(), band[:, :-1].ravel())[0, 1]) < 0.02


def test_noise_of_a_finely_sampled_cutout_is_correlated(monkeypatch):
    alone(monkeypatch)
    image = render(plain_galaxy(mag_r=30.0), PixelGrid((300, 300), 0.131, 150.0, 2.0), np.random.default_rng(3))
    # Lanczos interpolation loses a little of the variance; the rest is correlated.
    assert image.std((1, 2)) == pytest.approx(0.86 * np.array(DECALS.sigma), rel=0.05)
    band = image[1] - image[1].mean()
    assert np.corrcoef(band[:, 1:].ravel(), band[:, :-1].ravel())[0, 1] == pytest.approx(0.64, abs=0.06)


def test_bright_sources_are_noisier_than_the_sky(monkeypatch):
    alone(monkeypatch)
    grid, galaxy = PixelGrid((61, 61), 0.262, 150.0, 2.0), plain_galaxy(mag_r=10.0)
    clean = render(galaxy, grid, None)
    residual = [render(galaxy, grid, np.random.default_rng(i))[1] - clean[1] for i in range(25)]
    core = np.s_[28:33, 28:33]
    expected = DECALS.sigma[1] * np.sqrt(1 + clean[1][core].mean() / DECALS.sky[1])
    assert np.std([r[core] for r in residual]) == pytest.approx(expected, rel=0.2)


def test_the_scene_is_the_same_on_every_grid():
    galaxy = draw_galaxy(np.random.default_rng(12), ra=150.0, dec=2.0, kind="spiral")
    native = PixelGrid((240, 240), 0.262, 150.0, 2.0)
    fine = PixelGrid((480, 480), 0.131, 150.0, 2.0)
    coarse = render(galaxy, native, None)
    binned = render(galaxy, fine, None).reshape(3, 240, 2, 240, 2).mean((2, 4))
    shifted = render(galaxy, replace(native, center=(109.5, 129.5)), None)
    assert np.corrcoef(coarse[1].ravel(), binned[1].ravel())[0, 1] > 0.999
    # The same pixels, ten columns further left and ten rows further down.
    assert np.allclose(shifted[:, 20:200, 20:200], coarse[:, 10:190, 30:210], atol=0.02 * coarse.max(), rtol=0.02)


def test_the_scene_comes_from_the_seed_alone():
    galaxy = draw_galaxy(np.random.default_rng(6), ra=1.0, dec=1.0)
    first = scenery(galaxy)
    scenery.cache_clear()
    assert np.array_equal(scenery(galaxy).xi, first.xi)
    assert not np.array_equal(scenery(replace(galaxy, seed=galaxy.seed + 1)).xi[:3], first.xi[:3])


def test_only_noise_comes_from_the_generator():
    galaxy = draw_galaxy(np.random.default_rng(5), ra=1.0, dec=1.0)
    grid = PixelGrid((200, 200), galaxy.pixscale, 1.0, 1.0)
    one, again, other = (render(galaxy, grid, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.abs(one - other).max() < 0.5 * max(1.0, one.max())


def test_drawing_is_deterministic_and_makes_what_was_asked():
    for kind in KINDS:
        first, second = (draw_galaxy(np.random.default_rng(9), ra=0.0, dec=0.0, kind=kind) for _ in range(2))
        assert first == second
        assert first.kind == kind
        assert bool(first.arms) == (kind == "spiral")
        assert not (first.bar and kind in ("elliptical", "edge-on", "ellicular"))
        assert np.isfinite(photometry(first).flux).all()
        assert all(np.isscalar(value) for value in first.to_dict().values())


def test_the_disk_of_an_ellicular_galaxy_lies_deep_in_its_spheroid():
    rng = np.random.default_rng(0)
    galaxies = [draw_galaxy(rng, ra=0.0, dec=0.0, kind="ellicular") for _ in range(50)]
    assert all(0.1 < g.disk_scale / g.bulge_radius < 0.65 and g.bulge_fraction >= 0.5 for g in galaxies)
    assert not any(g.arms or g.rings or g.bar for g in galaxies)
    assert all(g.axis_ratio < g.bulge_axis_ratio + 0.2 for g in galaxies)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="no galaxies of kind 'potato': choose from spiral"):
        draw_galaxy(np.random.default_rng(0), ra=0.0, dec=0.0, kind="potato")


def test_the_mix_has_arms_bars_and_neither():
    rng = np.random.default_rng(0)
    galaxies = [draw_galaxy(rng, ra=0.0, dec=0.0) for _ in range(600)]
    assert 0.6 < np.mean([bool(g.arms) for g in galaxies]) < 0.72
    assert 0.3 < np.mean([g.bar is not None for g in galaxies]) < 0.6
    assert 0.15 < np.mean([not g.arms and not g.bar for g in galaxies]) < 0.35


def test_truth_table_row():
    galaxy = plain_galaxy(arms=(arm(pitch=10.0), arm(pitch=20.0)))
    truth = galaxy.to_dict()
    assert truth["n_arms"] == 2
    assert truth["pitch_angle"] == pytest.approx(15.0)
    assert np.isnan(truth["bar_length_arcsec"])
    assert truth["pixscale"] == pytest.approx(0.26)


def test_no_arms_or_bar_have_no_geometry():
    assert arm_ridges(plain_galaxy()) == []
    assert bar_outline(plain_galaxy()) is None


def test_vary_changes_depth_and_seeing_but_not_pixels():
    rng = np.random.default_rng(0)
    fields = [SDSS.vary(rng) for _ in range(200)]
    assert {f.pixscale for f in fields} == {0.396}
    depth = np.log([f.sigma for f in fields]) - np.log(SDSS.sigma)
    assert depth.std(0) == pytest.approx([0.25] * 3, rel=0.2)
    assert np.corrcoef(depth[:, 0], depth[:, 2])[0, 1] > 0.3


def test_moffat_is_well_matched_by_its_gaussians():
    radius = np.linspace(0, 2, 50)  # in FWHM
    alpha = 1 / (2 * np.sqrt(2 ** (1 / 3) - 1))
    moffat = 2 / (np.pi * alpha**2) * (1 + (radius / alpha) ** 2) ** -3
    gaussians = sum(f / (2 * np.pi * s**2) * np.exp(-0.5 * (radius / s) ** 2) for s, f in _moffat(3.0))
    assert gaussians == pytest.approx(moffat, abs=0.02 * moffat[0])


@pytest.mark.parametrize("profile", [0, 1])
def test_painted_sources_keep_their_flux_and_place(profile):
    image = np.zeros((3, 81, 81), np.float32)
    row = [np.array([v], np.float32) for v in (2.0, -1.0)]
    one, flux = np.ones(1, np.float32), np.array([[1.0, 2.0, 4.0]], np.float32)
    paint(image, Sources(*row, flux, one, one * 0.5, one * 30, np.array([profile])), 40.0, 40.0, 0.5, 0.5)
    assert image.sum((1, 2)) == pytest.approx([1, 2, 4], rel=1e-4)
    y, x = np.indices((81, 81))
    assert (image[0] * x).sum() == pytest.approx(36.0, abs=0.05)  # 2 arcsec east: 4 px to the left
    assert (image[0] * y).sum() == pytest.approx(42.0, abs=0.05)  # 1 arcsec south: 2 px down
