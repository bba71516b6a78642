"""What stands around a simulated galaxy and in it: stars, background galaxies, companions, star-forming knots.

Everything follows from the recipe's seed, in arcsec from the galaxy's centre, so that it is there on every grid. Knows
nothing of instruments; `sky` blurs what is painted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.simulate.light import band_ratios
from zoobot_3d.simulate.recipe import Galaxy

Floats = NDArray[np.float32]

_REACH = 0.75  # scenery ends this fraction of a Galaxy Zoo field from the centre: just beyond its corners
# Visible sources per square arcmin, and the slope of log counts with magnitude (Smail et al. 1995, ApJ 449, L105).
_GALAXIES, _GALAXY_SLOPE, _GALAXY_MAGS = 17.0, 0.35, (16.5, 24.0)
_STARS, _STAR_SLOPE, _STAR_MAGS = 4.0, 0.2, (13.5, 23.0)
_SPIKES_BRIGHTER = 16.0  # r magnitude of stars that show a halo and diffraction spikes


@dataclass(frozen=True)
class Sources:
    """Small things to paint.

    Attributes
    ----------
    xi, eta : numpy.ndarray
        (n,) offsets from the galaxy, arcsec east and north.
    flux : numpy.ndarray
        (n, 3) nanomaggies in g, r, z.
    size : numpy.ndarray
        (n,) scale along the major axis, arcsec; 0 is a point.
    axis_ratio, pa : numpy.ndarray
        (n,) of the isophotes; deg north through east.
    profile : numpy.ndarray
        (n,) 0: Gaussian (size is sigma); 1: exponential (size is the scale length); 2: the halo and spikes of a star
        (size is the radius at which they end).
    """

    xi: Floats
    eta: Floats
    flux: Floats
    size: Floats
    axis_ratio: Floats
    pa: Floats
    profile: NDArray[np.int64]


@lru_cache(maxsize=16)
def scenery(galaxy: Galaxy) -> Sources:
    """Everything around the galaxy, and the knots in it."""
    rng = np.random.default_rng([galaxy.seed, 2])
    reach = _REACH * 424 * galaxy.pixscale
    parts = [_stars(rng, reach), _background(rng, reach), _companions(rng, galaxy), _knots(rng, galaxy)]
    *numbers, profile = _joined(*parts)
    xi, eta, flux, size, axis_ratio, pa = (column.astype(np.float32) for column in numbers)
    return Sources(xi, eta, flux, size, axis_ratio, pa, profile.astype(np.int64))


_Columns = tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]


def _joined(*parts: _Columns) -> _Columns:
    xi, eta, flux, size, axis_ratio, pa, profile = (np.concatenate(column) for column in zip(*parts, strict=True))
    return xi, eta, flux, size, axis_ratio, pa, profile


def _place(rng: np.random.Generator, n: int, reach: float) -> tuple[NDArray, NDArray]:
    radius, angle = reach * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    return radius * np.sin(angle), radius * np.cos(angle)


def _magnitudes(rng: np.random.Generator, n: int, slope: float, limits: tuple[float, float]) -> NDArray:
    """Magnitudes whose counts grow as ``10**(slope * m)`` between the limits."""
    low, high = 10 ** (slope * np.array(limits))
    return np.log10(low + rng.random(n) * (high - low)) / slope


def _fluxes(mag: NDArray, g_r: NDArray, r_z: NDArray) -> NDArray:
    ratios = np.stack([10 ** (-0.4 * g_r), np.ones_like(g_r), 10 ** (0.4 * r_z)], axis=1)
    return 10 ** (-0.4 * (mag - 22.5))[:, None] * ratios


def _stars(rng: np.random.Generator, reach: float) -> _Columns:
    density = _STARS * np.exp(0.6 * rng.standard_normal())  # the galactic latitude
    n = rng.poisson(density * np.pi * (reach / 60) ** 2)
    xi, eta = _place(rng, n, reach)
    mag = _magnitudes(rng, n, _STAR_SLOPE, _STAR_MAGS)
    # Two heaps: turn-off stars and M dwarfs, the latter ever more in r-z.
    cool = rng.random(n) < 0.55
    g_r = np.where(cool, rng.normal(1.4, 0.08, n), rng.normal(0.55, 0.2, n))
    r_z = np.where(cool, rng.uniform(0.8, 2.0, n), 0.55 * g_r - 0.05)
    flux = _fluxes(mag, g_r, r_z)
    point: _Columns = (xi, eta, flux, np.zeros(n), np.ones(n), np.zeros(n), np.zeros(n))
    bright = mag < _SPIKES_BRIGHTER
    m = int(bright.sum())
    size = 8.0 * 10 ** (0.15 * (_SPIKES_BRIGHTER - mag[bright]))
    halo = (xi[bright], eta[bright], 0.03 * flux[bright], size, np.ones(m), np.full(m, 45.0), np.full(m, 2.0))
    return _joined(point, halo)


def _background(rng: np.random.Generator, reach: float) -> _Columns:
    n = rng.poisson(_GALAXIES * np.exp(0.25 * rng.standard_normal()) * np.pi * (reach / 60) ** 2)
    xi, eta = _place(rng, n, reach)
    mag = _magnitudes(rng, n, _GALAXY_SLOPE, _GALAXY_MAGS)
    flux = _fluxes(mag, np.clip(rng.normal(0.8, 0.45, n), 0.0, 1.9), np.clip(rng.normal(0.7, 0.35, n), 0.0, 1.6))
    size = 0.32 * 10 ** (-0.12 * (mag - 22.5)) * np.exp(0.35 * rng.standard_normal(n))
    return xi, eta, flux, size, rng.uniform(0.25, 1.0, n), rng.uniform(0, 180, n), np.ones(n)


def _companions(rng: np.random.Generator, galaxy: Galaxy) -> _Columns:
    """Sometimes a galaxy of its own kind nearby, as a bulge and a disk; rarely two."""
    n = int(rng.random() < 0.10) + int(rng.random() < 0.02)
    distance, angle = galaxy.petro_th50 * rng.uniform(3.0, 8.0, n), rng.uniform(0, 2 * np.pi, n)
    xi, eta = distance * np.sin(angle), distance * np.cos(angle)
    size = galaxy.petro_th50 * rng.uniform(0.15, 0.5, n)
    mag = galaxy.mag_r - 5 * np.log10(size / (0.6 * galaxy.petro_th50)) + rng.normal(0.3, 0.4, n)
    flux = _fluxes(mag, rng.normal(0.6, 0.15, n), rng.normal(0.45, 0.12, n))
    axis_ratio, pa = rng.uniform(0.25, 0.95, n), rng.uniform(0, 180, n)
    red = _fluxes(mag + rng.uniform(1.0, 2.5, n), np.full(n, 0.8), np.full(n, 0.65))
    disk = (xi, eta, flux, size, axis_ratio, pa, np.ones(n))
    bulge = (xi, eta, red, 0.25 * size, np.sqrt(axis_ratio), pa, np.ones(n))
    return _joined(disk, bulge)


def _knots(rng: np.random.Generator, galaxy: Galaxy) -> _Columns:
    """Star-forming knots: mostly along arms and rings, else anywhere in the disk; blue, some pink with H-alpha."""
    n, share = galaxy.knots
    h = galaxy.disk_scale
    radius = h * rng.gamma(3.0, 0.55, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    hosts = [*galaxy.arms, *(ring for ring in galaxy.rings if ring.kind in ("inner", "outer") and ring.blueness > 0.2)]
    for i in range(n if hosts else 0):
        if rng.random() > 0.8:
            continue
        host = hosts[rng.integers(len(hosts))]
        if host in galaxy.arms:
            arm = galaxy.arms[galaxy.arms.index(host)]
            radius[i] = arm.r_start * (arm.r_end / arm.r_start) ** rng.uniform(0.05, 0.85)
            width = arm.half_width(radius[i : i + 1])[0]
            angle[i] = arm.ridge_angle(radius[i : i + 1])[0] + 0.6 * width * rng.standard_normal() / radius[i]
        else:
            ring = galaxy.rings[galaxy.rings.index(host)]
            turn = angle[i] - np.radians(ring.angle)
            radius[i] = ring.radius / np.hypot(np.cos(turn), np.sin(turn) / ring.axis_ratio)
            radius[i] += 0.6 * ring.width * rng.standard_normal()
    xi, eta = galaxy.to_sky(radius * np.cos(angle), radius * np.sin(angle))
    weight = rng.lognormal(0.0, 0.7, n) * np.exp(-radius / (1.5 * h))
    weight /= max(weight.sum(), 1e-9)
    total = share * (1 - galaxy.bulge_fraction) * 10 ** (-0.4 * (galaxy.mag_g - 22.5))
    pink = rng.random(n) < 0.25
    ratios = np.where(pink[:, None], band_ratios(0.35, -0.25), band_ratios(0.05, 0.05))
    flux = total * weight[:, None] * ratios / ratios[:, :1]
    size = h * rng.uniform(0.03, 0.08, n)
    return xi, eta, flux, size, rng.uniform(0.5, 1.0, n), rng.uniform(0, 180, n), np.zeros(n)


def paint(image: Floats, sources: Sources, x0: float, y0: float, pixscale: float, unit_pixel: float) -> None:
    """Add sources to an image, in place.

    Parameters
    ----------
    image : numpy.ndarray
        (3, H, W) nanomaggies per unit pixel, row 0 north.
    sources : Sources
        What to add.
    x0, y0 : float
        Pixel of the galaxy's centre.
    pixscale, unit_pixel : float
        Arcsec per pixel of the image, and of the pixel its values refer to.
    """
    unit = (unit_pixel / pixscale) ** 2
    x, y = x0 - sources.xi / pixscale, y0 - sources.eta / pixscale
    pa = np.radians(sources.pa)
    _paint(
        image,
        x.astype(np.float64),
        y.astype(np.float64),
        sources.flux * np.float32(unit),
        sources.size / np.float32(pixscale),
        sources.axis_ratio,
        np.column_stack([np.sin(pa), np.cos(pa)]),
        sources.profile,
    )


@numba.njit(cache=True, nogil=True)
def _paint(image, x, y, flux, size, axis_ratio, direction, profile):  # type: ignore[no-untyped-def]
    """Spread each source over its pixels, with its whole flux whatever the sampling."""
    _, height, width = image.shape
    patch = np.empty((1024, 1024), np.float32)
    for i in range(x.size):
        scale = size[i]
        if profile[i] == 2:
            reach = scale
        elif profile[i] == 1:
            scale = max(scale, 0.35)
            reach = 6.0 * scale
        else:
            scale = max(scale, 0.35)
            reach = 3.5 * scale
        reach = min(reach + 1.0, 511.0)
        sin_pa, cos_pa = direction[i, 0], direction[i, 1]
        left, top = int(np.floor(x[i] - reach)), int(np.floor(y[i] - reach))
        n = int(2 * reach) + 2
        if left >= width or top >= height or left + n <= 0 or top + n <= 0:
            continue
        total = 0.0
        for row in range(n):
            for column in range(n):
                # East is to the left and north up.
                xi, eta = x[i] - (left + column), y[i] - (top + row)
                along = xi * sin_pa + eta * cos_pa
                across = xi * cos_pa - eta * sin_pa
                if profile[i] == 2:
                    r = np.sqrt(xi * xi + eta * eta)
                    if r > scale:
                        value = 0.0
                    else:
                        fade = (1.0 - r / scale) ** 2
                        spikes = np.exp(-0.5 * (across / 0.6) ** 2) + np.exp(-0.5 * (along / 0.6) ** 2)
                        value = fade * (0.15 + 1.2 * spikes) / (r + 3.0) + 0.3 * fade / (1.0 + 0.15 * r * r)
                else:
                    m2 = (along * along + across * across / axis_ratio[i] ** 2) / (scale * scale)
                    value = np.exp(-np.sqrt(m2)) if profile[i] == 1 else np.exp(-0.5 * m2)
                patch[row, column] = value
                total += value
        for row in range(max(0, -top), min(n, height - top)):
            for column in range(max(0, -left), min(n, width - left)):
                value = patch[row, column] / total
                for band in range(3):
                    image[band, top + row, left + column] += flux[i, band] * value
