"""Surface brightness of a recipe: bulge, disk, bar, arms, rings, dust and knots at any positions on the sky.

Knows nothing of pixels, seeing or noise, nor of how recipes are drawn. Brightness is in nanomaggies per square arcsec,
bands g, r, z, and follows from the recipe alone, so the same galaxy looks the same on any grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, k1

from zoobot_3d.simulate.recipe import Arm, Bar, Dust, Galaxy, Ring

Floats = NDArray[np.float32]

EXTINCTION = np.array([1.35, 1.0, 0.55], np.float32)
"""A_g / A_r, 1, A_z / A_r of Milky Way dust (Schlafly & Finkbeiner 2011, ApJ 737, 103, DECam bands)."""

_YOUNG_COLOUR = (0.55, 0.40)  # mag in g-r and r-z by which a wholly young population is bluer than the disk
_SHAPE_FIELD = (96, 256)  # of the noise in (ln radius, angle) that gives floccules and dust patches
_LN_RADIUS = (-3.5, 2.5)  # range of ln(radius / disk_scale) that field covers


def band_ratios(g_r: float, r_z: float) -> Floats:
    """Flux in g, r, z relative to r for a colour in magnitudes."""
    return np.array([10 ** (-0.4 * g_r), 1.0, 10 ** (0.4 * r_z)], np.float32)


@dataclass(frozen=True)
class Photometry:
    """What integrating a recipe's light gives.

    Attributes
    ----------
    flux : tuple of float
        Total in g, r, z, nanomaggies.
    petro_th50, petro_th90 : float
        Petrosian radii in r, arcsec.
    extent : float
        Radius (arcsec) beyond which the azimuthal mean in r is below `FAINTEST`.
    """

    flux: tuple[float, float, float]
    petro_th50: float
    petro_th90: float
    extent: float


FAINTEST = 4e-3
"""Nanomaggies per square arcsec in r: a fifth of a grey level of a picture. Galaxies end there."""


def surface_brightness(galaxy: Galaxy, xi: NDArray[np.floating], eta: NDArray[np.floating]) -> Floats:
    """Light of the galaxy alone, without its neighbours, seeing or noise.

    Parameters
    ----------
    galaxy : Galaxy
        The recipe.
    xi, eta : numpy.ndarray
        Offsets from its centre, arcsec east and north, of one shape.

    Returns
    -------
    numpy.ndarray
        (3, ...) float32, nanomaggies per square arcsec in g, r, z.
    """
    xi, eta = np.asarray(xi, np.float32), np.asarray(eta, np.float32)
    bulge, disk, bar = _components(galaxy, xi, eta)
    norm_disk, norm_bar = _normalisation(galaxy)
    return bulge + norm_disk * disk + norm_bar * bar


def photometry(galaxy: Galaxy) -> Photometry:
    """Integrate a recipe: total fluxes and Petrosian radii (Blanton et al. 2001, AJ 121, 2358; ratio 0.2, 2 r_P)."""
    radius, area, xi, eta = _rings_on_sky(galaxy)
    light = surface_brightness(galaxy, xi, eta).mean(-1).astype(np.float64)
    flux = light @ area
    growth = np.cumsum(light[1] * area)
    ratio = light[1] * np.cumsum(area) / growth
    below = np.nonzero(ratio < 0.2)[0]
    aperture = min(2 * radius[below[0]] if len(below) else radius[-1], radius[-1])
    edges = np.sqrt(np.cumsum(area) / np.pi)
    total = np.interp(aperture, edges, growth)
    th50, th90 = np.interp([0.5 * total, 0.9 * total], growth, edges)
    bright = np.nonzero(light[1] > FAINTEST)[0]
    extent = radius[min(bright[-1] + 1, len(radius) - 1)] if len(bright) else galaxy.disk_scale
    return Photometry((float(flux[0]), float(flux[1]), float(flux[2])), float(th50), float(th90), float(extent))


def disk_ratio(galaxy: Galaxy, xi: NDArray[np.floating], eta: NDArray[np.floating]) -> Floats:
    """Light of disk and bar over that of the same disk with nothing in it, where the disk is not invisibly faint.

    Parameters
    ----------
    galaxy : Galaxy
        The recipe.
    xi, eta : numpy.ndarray
        Offsets from its centre, arcsec east and north, of one shape.

    Returns
    -------
    numpy.ndarray
        (3, ...) float32 for g, r, z: 1 where arms, bar, rings, dust and floccules neither add nor take light. Knots are
        left out.
    """
    xi, eta = np.asarray(xi, np.float32), np.asarray(eta, np.float32)
    bare = replace(galaxy, bar=None, arms=(), rings=(), flocculence=0.0, dust=Dust())
    _, disk, bar = _components(galaxy, xi, eta)
    _, plain, _ = _components(bare, xi, eta)
    norm_disk, norm_bar = _normalisation(galaxy)
    there = plain > np.float32(1e-6) * plain.max()
    light = disk + bar * np.float32(norm_bar / norm_disk)
    return np.where(there, light / np.where(there, plain, 1), np.float32(1))


@lru_cache(maxsize=16)
def extent(galaxy: Galaxy) -> float:
    """Radius of the circle on the sky beyond which the galaxy is invisible, arcsec."""
    return photometry(galaxy).extent


def _rings_on_sky(galaxy: Galaxy) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Rings of points about the centre: mid-radius and area of each, offsets (ring, point)."""
    edges = np.concatenate([[0], np.geomspace(0.02, 12, 110) * max(galaxy.disk_scale, 0.8 * galaxy.bulge_radius)])
    radius = (edges[1:] + edges[:-1]) / 2
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    xi, eta = np.outer(radius, np.sin(angle)), np.outer(radius, np.cos(angle))
    return radius, np.pi * np.diff(edges**2), xi, eta


@lru_cache(maxsize=16)
def _normalisation(galaxy: Galaxy) -> tuple[float, float]:
    """Factors that give disk and bar their share of the r-band light."""
    total = 10 ** (-0.4 * (galaxy.mag_r - 22.5))
    _, area, xi, eta = _rings_on_sky(galaxy)
    _, disk, bar = _components(galaxy, xi.astype(np.float32), eta.astype(np.float32))
    share_bar = galaxy.bar.strength if galaxy.bar else 0.0
    share_disk = 1 - galaxy.bulge_fraction - share_bar
    disk_flux = float(disk[1].mean(-1) @ area)
    bar_flux = float(bar[1].mean(-1) @ area)
    return (
        total * share_disk / disk_flux if disk_flux > 0 else 0.0,
        total * share_bar / bar_flux if bar_flux > 0 else 0.0,
    )


def _components(galaxy: Galaxy, xi: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
    """Bulge in nanomaggies per square arcsec; disk and bar without their normalisation."""
    u, v = galaxy.to_plane(xi, eta)
    old = band_ratios(*galaxy.colour_old)[:, None, None]
    bulge = _bulge(galaxy, xi, eta) * old
    none = np.zeros_like(bulge)
    if galaxy.kind == "elliptical":
        return bulge, none, none
    if galaxy.is_edge_on:
        lane, disk = _edge_on(galaxy, u, v * galaxy.axis_ratio)
        return bulge * lane, disk * lane, none
    radius = np.hypot(u, v) + np.float32(1e-4)
    angle = np.arctan2(v, u)
    optical_depth = np.zeros_like(radius)
    disk = _disk(galaxy, radius, angle, optical_depth)
    bar = none
    if galaxy.bar:
        bar = _bar(galaxy.bar, u, v, galaxy.dust.lanes, optical_depth) * _bar_colour(galaxy, galaxy.bar)
    dimming = np.exp(-optical_depth * EXTINCTION[:, None, None])
    if (
        galaxy.dust.layer > 0
    ):  # the disk's far half is seen through nothing, the bulge behind its near half through dust
        near = 0.5 + 0.5 * np.tanh(v / (0.3 * galaxy.disk_scale))
        bulge = bulge * np.exp(-(galaxy.dust.layer * near) * EXTINCTION[:, None, None])
    return bulge, disk * dimming, bar * dimming


def _bulge(galaxy: Galaxy, xi: Floats, eta: Floats) -> Floats:
    """Sersic profile; b_n after Ciotti & Bertin 1999, A&A 352, 447."""
    n = galaxy.bulge_index
    pa = np.radians(galaxy.bulge_pa)
    s, c = np.float32(np.sin(pa)), np.float32(np.cos(pa))
    along, across = xi * s + eta * c, (xi * c - eta * s) / np.float32(galaxy.bulge_axis_ratio)
    b = 2 * n - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2)
    flux = galaxy.bulge_fraction * 10 ** (-0.4 * (galaxy.mag_r - 22.5))
    scale = flux / (
        2 * np.pi * n * b ** (-2 * n) * gamma(2 * n) * np.exp(b) * galaxy.bulge_radius**2 * galaxy.bulge_axis_ratio
    )
    # A core of a twentieth of the radius: a cusp has no brightness at its very centre.
    reduced = np.sqrt((along**2 + across**2) / galaxy.bulge_radius**2 + 2.5e-3)
    return np.float32(scale) * np.exp(np.float32(-b) * (reduced ** np.float32(1 / n) - 1))


def _disk(galaxy: Galaxy, radius: Floats, angle: Floats, optical_depth: Floats) -> Floats:
    """Disk with arms, rings and floccules, (3, ...); adds its dust to ``optical_depth``."""
    h = galaxy.disk_scale
    shift, direction = galaxy.lopsidedness
    # Tides pull on the outer disk most.
    pull = np.float32(shift) * np.clip(radius / np.float32(2 * h), 0.3, 1.6)
    stretched = radius * (1 - pull * np.cos(angle - np.float32(np.radians(direction))))
    beyond = np.clip(stretched - galaxy.disk_break, 0, None)
    smooth = np.exp(-(np.sqrt(stretched**2 + np.float32(galaxy.core**2)) + (galaxy.break_factor - 1) * beyond) / h)
    old, young = np.ones_like(radius), np.zeros_like(radius)
    log_radius = np.log(radius)
    for ring in galaxy.rings:
        _add_ring(ring, radius, angle, old, young)
    if galaxy.flocculence > 0 or galaxy.dust.patches > 0:
        floccules, patches = _shape_noise(galaxy, log_radius - np.float32(np.log(h)), angle)
        outside = np.clip(radius / np.float32(0.5 * h), 0, 1)  # the texture fades towards the bulge
        texture = np.exp(np.float32(galaxy.flocculence) * floccules * outside)
        young += np.clip(texture - 1, 0, None)
        old *= np.minimum(texture, 1)
        optical_depth += np.float32(galaxy.dust.patches) * np.clip(patches - 0.3, 0, 2) * np.exp(-radius / (2 * h))
    for arm in galaxy.arms:
        _add_arm(arm, radius, log_radius, angle, old, young, optical_depth, galaxy.dust.lanes)
    disk = band_ratios(*galaxy.colour_disk)[:, None, None]
    blue = disk * band_ratios(-_YOUNG_COLOUR[0], -_YOUNG_COLOUR[1])[:, None, None]
    return smooth * (disk * old + blue * young)


def _add_arm(
    arm: Arm,
    radius: Floats,
    log_radius: Floats,
    angle: Floats,
    old: Floats,
    young: Floats,
    optical_depth: Floats,
    lanes: float,
) -> None:
    """Add an arm's light and its dust lane, in place, as fractions of the smooth disk."""
    turns = log_radius - np.float32(np.log(arm.r_start))
    along = turns / np.float32(np.log(arm.r_end / arm.r_start))
    amplitude, cycles, start = arm.wobble
    pitch = np.radians(arm.pitch)
    centre = np.float32(arm.handedness / np.tan(pitch)) * turns + np.float32(np.radians(arm.phase))
    centre += np.float32(np.radians(amplitude)) * np.sin(np.float32(2 * np.pi * cycles) * along + np.float32(start))
    offset = angle - centre
    offset -= np.float32(2 * np.pi) * np.round(offset / np.float32(2 * np.pi))
    # Distance across the arm, positive outside it: with handedness +1, behind the ridge in angle.
    across = radius * offset * np.float32(-arm.handedness * np.sin(pitch))
    width = np.float32(arm.width) * np.sqrt(radius / np.float32(arm.r_start))
    # Shocks make the inner edge of an arm the sharper one.
    ridge = np.exp(-0.5 * np.where(across < 0, across / (0.85 * width), across / (1.15 * width)) ** 2)
    # Rises over the first tenth, fades over the outer third, and gains on the disk outwards.
    run = _ramp(along, -0.06, 0.08) * _ramp(-along, -1.1, -0.6) * np.exp(0.6 * np.clip(along, 0, 1) - 0.3)
    run *= 1 - np.float32(arm.gap[1]) * np.exp(-(((along - np.float32(arm.gap[0])) / 0.06) ** 2))
    light = np.float32(arm.strength) * run * ridge
    place, branch = arm.spur
    if branch > 0:  # a spur leaves outward, three times as open
        beyond = along - np.float32(place)
        lead = beyond * np.float32(np.log(arm.r_end / arm.r_start) * (1 - 1 / 3) / np.tan(pitch) * arm.handedness)
        twist = offset + lead
        distance = radius * twist * np.float32(np.sin(np.arctan(3 * np.tan(pitch)))) / (0.7 * width)
        light += (
            np.float32(arm.strength * branch)
            * np.exp(-0.5 * distance**2)
            * (_ramp(beyond, 0.0, 0.05) * _ramp(-beyond, -0.4, -0.15))
        )
    fraction = np.float32(min(arm.blueness / _YOUNG_COLOUR[0], 1.0))
    young += fraction * light
    old += (1 - fraction) * light
    if lanes > 0:
        lane = np.exp(-0.5 * ((across + 1.3 * width) / (0.45 * width)) ** 2)
        optical_depth += np.float32(lanes) * run * lane


def _add_ring(ring: Ring, radius: Floats, angle: Floats, old: Floats, young: Floats) -> None:
    """Add a ring's light, in place, as a fraction of the smooth disk."""
    turn = angle - np.float32(np.radians(ring.angle))
    stretch = np.sqrt(np.cos(turn) ** 2 + (np.sin(turn) / np.float32(ring.axis_ratio)) ** 2)
    excess = (radius * stretch - np.float32(ring.radius)) / np.float32(ring.width)
    if ring.kind == "lens":
        old += np.float32(ring.strength) * (0.5 - 0.5 * np.tanh(excess))
        return
    if ring.gap > 0:
        # The dark annulus of an outer ring: emptied by the bar between its end and the ring.
        empty = (radius * stretch / np.float32(ring.radius) - 0.72) / 0.14
        old *= 1 - np.float32(ring.gap) * np.exp(-0.5 * empty**2)
    light = np.float32(ring.strength) * np.exp(-0.5 * excess**2) * (1 + np.float32(ring.modulation) * np.cos(2 * turn))
    fraction = np.float32(min(ring.blueness / _YOUNG_COLOUR[0], 1.0))
    young += fraction * light
    old += (1 - fraction) * light


def _bar_colour(galaxy: Galaxy, bar: Bar) -> Floats:
    """Flux ratios (3, 1, 1) of a bar's light, between those of bulge and disk."""
    (g_r, r_z), disk = galaxy.colour_old, galaxy.colour_disk
    return band_ratios(g_r + bar.youth * (disk[0] - g_r), r_z + bar.youth * (disk[1] - r_z))[:, None, None]


def _bar(bar: Bar, u: Floats, v: Floats, lanes: float, optical_depth: Floats) -> Floats:
    """Light of a bar, not normalised; adds the lanes along its leading edges to ``optical_depth``."""
    turn = np.radians(bar.angle)
    s, c = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    along = np.abs(u * c + v * s) / np.float32(bar.intrinsic_length)
    signed = (v * c - u * s) * np.sign(u * c + v * s) / np.float32(bar.intrinsic_length * bar.axis_ratio)
    across = np.abs(signed)
    near = (along < 1.4) & (across < 3)
    light = np.zeros_like(u)
    x, y = along[near], across[near]
    k = np.float32(bar.boxiness)
    m = (x**k + y**k) ** (1 / k)
    if bar.profile == "ferrers":  # index 1; Ferrers 1877
        profile = np.clip(1 - m**2, 0, None)
    elif bar.profile == "flat":
        profile = np.exp(-0.5 * (y / np.float32(0.55)) ** 2) * (0.5 - 0.5 * np.tanh((x - 0.88) / 0.11))
    else:
        profile = np.exp(-1.8 * m) * (0.5 - 0.5 * np.tanh((m - 0.92) / 0.08))
    if bar.ansae > 0:
        profile += np.float32(bar.ansae) * np.exp(-0.5 * (((x - 0.86) / 0.09) ** 2 + (y / 0.5) ** 2))
    light[near] = profile
    if lanes > 0:
        edge = np.exp(-0.5 * ((signed - 0.45) / 0.2) ** 2) * _ramp(along, 0.1, 0.25) * _ramp(-along, -1.0, -0.8)
        optical_depth += np.float32(0.7 * lanes) * edge
    return light


def _edge_on(galaxy: Galaxy, along: Floats, height: Floats) -> tuple[Floats, Floats]:
    """Dimming by the dust lane and light of an edge-on disk (van der Kruit & Searle 1981, A&A 95, 105)."""
    h, z0 = np.float32(galaxy.disk_scale), np.float32(2 * galaxy.thickness * galaxy.disk_scale)
    # An inclination short of 90 deg thickens the projected disk and shifts the lane to the near side.
    tilt = np.float32(np.cos(np.radians(galaxy.inclination)))
    z0 = np.hypot(z0, h * tilt)
    x = np.abs(along) / h + np.float32(1e-3)
    beyond = np.clip(np.abs(along) - galaxy.disk_break, 0, None) / h
    light = x * k1(x) * np.exp(-2 * beyond) / np.cosh(np.clip(height / z0, -20, 20)) ** 2
    lane_width = np.hypot(np.float32(0.3) * z0, np.float32(0.2) * h * tilt)
    lane = galaxy.dust.layer * np.exp(-0.5 * ((height - 0.5 * h * tilt) / lane_width) ** 2 - (x / 2.2) ** 2)
    return (
        np.exp(-lane * EXTINCTION[:, None, None]).astype(np.float32),
        (light * band_ratios(*galaxy.colour_disk)[:, None, None]).astype(np.float32),
    )


@lru_cache(maxsize=16)
def _noise_fields(seed: int) -> NDArray[np.float32]:
    """Two unit-variance noise fields (2, ln radius, angle): floccules, drawn out along the angle, and patches."""
    rng = np.random.default_rng([seed, 1])
    fields = rng.standard_normal((2, *_SHAPE_FIELD), np.float32)
    for plane, (across, along) in zip(fields, ((1.5, 3.0), (2.5, 4.0)), strict=True):
        padded = np.concatenate([plane[:, -64:], plane, plane[:, :64]], axis=1)  # the angle wraps
        # Clouds within clouds: two scales of much the same variance.
        small, large = (cv2.GaussianBlur(padded, (0, 0), sigmaX=k * along, sigmaY=k * across) for k in (1.0, 2.2))
        plane[:] = (small / small.std() + 0.8 * large / large.std())[:, 64:-64]
        plane /= plane.std()
    return fields


def _shape_noise(galaxy: Galaxy, log_radius: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Floccules and dust patches at positions in the disk, sheared as differential rotation does."""
    rows, columns = _SHAPE_FIELD
    sheared = angle - log_radius * np.float32(1 / np.tan(np.radians(galaxy.flocculence_pitch)))
    column = (sheared * np.float32(columns / (2 * np.pi))) % columns
    row = (log_radius - np.float32(_LN_RADIUS[0])) * np.float32((rows - 1) / (_LN_RADIUS[1] - _LN_RADIUS[0]))
    row = np.clip(row, 0, rows - 1)
    fields = [np.concatenate([plane, plane[:, :1]], axis=1) for plane in _noise_fields(galaxy.seed)]
    floccules, patches = (
        np.asarray(cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
        for field in fields
    )
    return floccules, patches


def _ramp(x: NDArray[Any], start: float, end: float) -> Floats:
    """0 below ``start``, 1 above ``end``, smooth between (cubic)."""
    t = np.clip((x - np.float32(start)) / np.float32(end - start), 0, 1)
    return t * t * (3 - 2 * t)
