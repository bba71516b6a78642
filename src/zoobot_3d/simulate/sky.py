"""From a recipe to a cutout: instruments, neighbours and stars, seeing, sky noise, and the faults of real surveys.

A cutout is made as the Legacy Surveys service makes it: light falls on the instrument's native pixels, where the noise
is, and is then interpolated (Lanczos) to the pixels asked for. Sky noise of a finely sampled cutout is therefore
correlated from pixel to pixel, and values are nanomaggies per 0.262 arcsec pixel whatever the pixels asked for. Knows
nothing of files or volunteers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gamma, roots_genlaguerre

from zoobot_3d.simulate.light import extent, surface_brightness
from zoobot_3d.simulate.recipe import Galaxy
from zoobot_3d.simulate.scene import paint, scenery
from zoobot_3d.sky.grid import PixelGrid

Floats = NDArray[np.float32]

UNIT_PIXEL = 0.262
"""Side in arcsec of the pixel that cutout values refer to: the native pixel of the Legacy Surveys."""


@dataclass(frozen=True)
class Instrument:
    """A telescope, camera and night.

    Attributes
    ----------
    name : str
        For messages and tables.
    pixscale : float
        Native pixels, arcsec.
    fwhm : tuple of float
        Seeing in g, r, z, arcsec.
    sigma : tuple of float
        Sky noise of a native pixel in g, r, z, in nanomaggies per `UNIT_PIXEL`.
    sky : tuple of float
        Brightness of the night sky, nanomaggies per `UNIT_PIXEL`: where a source is as bright, its photons add as much
        variance as the sky's.
    beta : float
        Moffat's exponent of the seeing.
    """

    name: str
    pixscale: float
    fwhm: tuple[float, float, float]
    sigma: tuple[float, float, float]
    sky: tuple[float, float, float]
    beta: float = 3.0

    def vary(self, rng: np.random.Generator, strength: float = 1.0) -> Instrument:
        """Another field: depth scatters by about 25% times ``strength``, seeing by 12%, bands partly together."""
        depth = np.exp(strength * (0.20 * rng.standard_normal() + 0.15 * rng.standard_normal(3)))
        seeing = np.exp(strength * (0.10 * rng.standard_normal() + 0.06 * rng.standard_normal(3)))
        return replace(
            self, sigma=_triple(np.asarray(self.sigma) * depth), fwhm=_triple(np.asarray(self.fwhm) * seeing)
        )


def _triple(values: NDArray[np.floating]) -> tuple[float, float, float]:
    g, r, z = (float(v) for v in values)
    return g, r, z


# Noise: medians over the sky of realdata/desi_fits; seeing and sky: Dey et al. 2019, AJ 157, 168, tables 3 and 4.
DECALS = Instrument("DECaLS", 0.262, (1.29, 1.18, 1.11), (0.0027, 0.0046, 0.0112), (0.11, 0.23, 1.5))
# York et al. 2000, AJ 120, 1579; noise from the 95% point-source depths g 22.2, r 22.2, z 20.5.
SDSS = Instrument("SDSS", 0.396, (1.44, 1.32, 1.30), (0.0075, 0.011, 0.055), (0.11, 0.25, 1.6))


def render(
    galaxy: Galaxy, grid: PixelGrid, rng: np.random.Generator | None, *, instrument: Instrument = DECALS
) -> Floats:
    """Observe a galaxy and what is around it.

    The scene follows from the galaxy alone: two cutouts of it show the same sky. Noise and faults come from ``rng``.

    Parameters
    ----------
    galaxy : Galaxy
        The recipe.
    grid : PixelGrid
        The cutout. Where it floats, the galaxy is at its reference pixel.
    rng : numpy.random.Generator or None
        For sky noise and, in a few of a hundred cutouts, a satellite trail or a dead band. None: neither.
    instrument : Instrument
        Pixels, seeing and depth.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32, bands g, r, z, row 0 north, nanomaggies per `UNIT_PIXEL` (a sum over pixels times
        ``(grid.pixscale / UNIT_PIXEL)**2`` is a flux).
    """
    # Where pixels asked for are coarser than native ones, sampling at them is the same as interpolating to them.
    frame, to_target = _native_frame(grid, max(instrument.pixscale, grid.pixscale))
    image = _scene(galaxy, frame)
    for band, fwhm in zip(image, instrument.fwhm, strict=True):
        band[:] = _blur(band, fwhm / frame.pixscale, instrument.beta)
    if rng is not None:
        _add_noise(image, instrument, rng)
        _add_faults(image, instrument, rng)
    if to_target is None:
        return image
    rows, columns = to_target
    return np.stack([np.ascontiguousarray((columns @ (rows @ band).T).T) for band in image])


def _native_frame(grid: PixelGrid, pixscale: float) -> tuple[PixelGrid, tuple[csr_array, csr_array] | None]:
    """Grid of the native pixels under a cutout, and the interpolation to it; no interpolation where they coincide."""
    if grid.pixscale >= pixscale:
        return grid, None
    ratio = grid.pixscale / pixscale
    shape = tuple(int(np.ceil(n * ratio)) + 8 for n in grid.shape)
    (x, y), (mx, my) = grid.reference_pixel, grid.middle
    center = ((shape[1] - 1) / 2 + (x - mx) * ratio, (shape[0] - 1) / 2 + (y - my) * ratio)
    frame = PixelGrid((shape[0], shape[1]), pixscale, grid.ra, grid.dec, center)
    rows = _lanczos(ratio, grid.shape[0], shape[0])
    columns = rows if grid.shape[0] == grid.shape[1] else _lanczos(ratio, grid.shape[1], shape[1])
    return frame, (rows, columns)


@lru_cache(maxsize=4)
def _lanczos(ratio: float, n_out: int, n_in: int) -> csr_array:
    """Lanczos-3 weights (n_out, n_in) between concentric rows of pixels; an output pixel is ``ratio`` input pixels."""
    at = (np.arange(n_out) - (n_out - 1) / 2) * ratio + (n_in - 1) / 2
    taps = np.floor(at).astype(int)[:, None] + np.arange(-2, 4)
    distance = taps - at[:, None]
    weights = np.sinc(distance) * np.sinc(distance / 3)
    weights /= weights.sum(1, keepdims=True)
    index = np.repeat(np.arange(n_out), taps.shape[1])
    return csr_array((weights.ravel().astype(np.float32), (index, taps.ravel())), shape=(n_out, n_in))


def _scene(galaxy: Galaxy, frame: PixelGrid) -> Floats:
    """Light before the atmosphere, nanomaggies per unit pixel."""
    image = np.zeros((3, *frame.shape), np.float32)
    # The affine of a one-pixel grid at the galaxy says where it is, whether or not the frame has a position.
    if frame.ra is None:
        x0, y0 = frame.reference_pixel
    else:
        x0, y0 = PixelGrid((1, 1), frame.pixscale, galaxy.ra, galaxy.dec).affine_to(frame)[:, 2]
    reach = extent(galaxy) / frame.pixscale + 2
    left, right = (int(np.clip(v, 0, frame.shape[1])) for v in (np.floor(x0 - reach), np.ceil(x0 + reach) + 1))
    top, bottom = (int(np.clip(v, 0, frame.shape[0])) for v in (np.floor(y0 - reach), np.ceil(y0 + reach) + 1))
    if left < right and top < bottom:
        xi = (x0 - np.arange(left, right, dtype=np.float64)) * frame.pixscale
        eta = (y0 - np.arange(top, bottom, dtype=np.float64)) * frame.pixscale
        image[:, top:bottom, left:right] = surface_brightness(galaxy, *np.meshgrid(xi, eta)) * UNIT_PIXEL**2
        _refine_centre(galaxy, image, x0, y0, frame.pixscale)
    paint(image, scenery(galaxy), x0, y0, frame.pixscale, UNIT_PIXEL)
    return image


def _refine_centre(galaxy: Galaxy, image: Floats, x0: float, y0: float, pixscale: float) -> None:
    """Average over the innermost pixels, in place: a bulge's cusp is far from flat within a pixel."""
    half, n = 5, 5
    column, row = round(x0), round(y0)
    if not (half <= column < image.shape[2] - half and half <= row < image.shape[1] - half):
        return
    step = (np.arange((2 * half + 1) * n) + 0.5) / n - half - 0.5
    xi, eta = (x0 - column - step) * pixscale, (y0 - row - step) * pixscale
    fine = surface_brightness(galaxy, *np.meshgrid(xi, eta)) * UNIT_PIXEL**2
    side = 2 * half + 1
    window = np.s_[:, row - half : row + half + 1, column - half : column + half + 1]
    image[window] = fine.reshape(3, side, n, side, n).mean((2, 4))


@lru_cache(maxsize=32)
def _moffat(beta: float, n: int = 4) -> tuple[tuple[float, float], ...]:
    """Moffat's profile as a sum of Gaussians: (sigma / fwhm, share of the flux) of each.

    ``(1 + r^2/a^2)^-beta`` is the mean of ``exp(-t r^2/a^2)`` over a gamma distribution of t, and its flux is spread
    over t by one of index ``beta - 1``; Gauss-Laguerre quadrature makes that a short sum, and Gaussians blur fast.
    """
    t, weight = roots_genlaguerre(n, beta - 2)
    alpha = 1 / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return tuple(zip((alpha / np.sqrt(2 * t)).tolist(), (weight / gamma(beta - 1)).tolist(), strict=True))


def _blur(band: Floats, fwhm: float, beta: float) -> Floats:
    """Convolve with a Moffat of a FWHM in pixels."""
    total = np.zeros_like(band)
    for sigma, share in _moffat(beta):
        total += np.float32(share) * cv2.GaussianBlur(band, (0, 0), sigma * fwhm, borderType=cv2.BORDER_REPLICATE)
    return total


def _add_noise(image: Floats, instrument: Instrument, rng: np.random.Generator) -> None:
    """Photon noise of sky and sources, and the sky subtraction's small error, in place."""
    sigma = np.array(instrument.sigma, np.float32)[:, None, None]
    sky = np.array(instrument.sky, np.float32)[:, None, None]
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= sigma * np.sqrt(1 + np.clip(image, 0, None) / sky)
    image += noise
    # The pipeline takes a little too much: measured on realdata/desi_fits, -0.15 sigma on average.
    image += sigma * np.float32(0.12) * (rng.standard_normal((3, 1, 1), np.float32) - np.float32(1.25))


def _add_faults(image: Floats, instrument: Instrument, rng: np.random.Generator) -> None:
    """Now and then, a satellite's trail in one band, or a band missing over part of the field, in place."""
    trail, dead = rng.random(2) < (0.02, 0.02)
    height, width = image.shape[1:]
    if trail:
        band = rng.integers(3)
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5) * height
        y, x = np.ogrid[:height, :width]
        distance = (x - width / 2) * np.sin(angle) - (y - height / 2) * np.cos(angle) - offset
        along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
        start, length = rng.uniform(-0.6, 0.3) * width, rng.uniform(0.08, 1.2) * width
        brightness = instrument.sigma[band] * rng.uniform(3, 15)
        image[band] += brightness * np.exp(-0.5 * (distance / 0.9) ** 2) * ((along > start) & (along < start + length))
    if dead:
        band, edge = rng.integers(3), int(rng.uniform(0.02, 0.35) * height)
        side = [np.s_[:edge], np.s_[-edge - 1 :]][rng.integers(2)]
        if rng.random() < 0.5:
            image[band, side] = 0
        else:
            image[band, :, side] = 0
