"""grz nanomaggies to the RGB picture that Galaxy Zoo volunteers saw. Arrays only: no files, no grids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import BadPictureError

__all__ = ["GREY", "grz_from_rgb", "rgb_from_grz"]

# The "DR2 style" of the Legacy Surveys viewer as Galaxy Zoo DECaLS used it (Walmsley et al. 2022, MNRAS 509, 3966).
_SCALES = np.array([0.019, 0.014, 0.008], np.float32)  # nanomaggies for z -> R, r -> G, g -> B
GREY = _SCALES[::-1] / _SCALES[1]
"""Nanomaggies in g, r, z of what is grey in the picture, relative to r."""

_BRIGHTEST = 1e6  # nanomaggies per pixel, 7.5 mag: far beyond white, and squares of it are still numbers
_LIMITS = np.arcsinh(np.array([-0.5, 300.0], np.float32))
_MAX_COLOUR = 2.5  # a band this many times the mean of the three is taken to be an artefact
_INVERSIONS = 20  # half steps towards a fixed point
_LEAST_COLOUR = 0.4


def rgb_from_grz(cube: NDArray[Any]) -> NDArray[np.uint8]:
    """Make the Galaxy Zoo picture of a cutout.

    Each band is scaled and stretched with arcsinh between fixed limits; pixels that one band dominates lose colour.

    Parameters
    ----------
    cube : numpy.ndarray
        (3, H, W) nanomaggies, bands g, r, z, in **FITS row order** (row 0 south), as `astropy.io.fits` returns it. For
        an array that is row 0 north already, as `zoobot_3d.io.read_cutout` returns it, pass ``cube[:, ::-1]``. What is
        masked or NaN counts as 0.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.

    Raises
    ------
    BadPictureError
        If the array is not (3, H, W), or uint8, as pictures are.
    """
    cube = np.ma.filled(cube, np.nan) if np.ma.is_masked(cube) else np.asarray(cube)
    if cube.ndim != 3 or cube.shape[0] != 3:
        raise BadPictureError(f"expected (3, H, W) nanomaggies in bands g, r, z, got {cube.shape}")
    if cube.dtype == np.uint8:
        raise BadPictureError("expected nanomaggies, got uint8, the values of a picture; give the FITS image")
    zrg = np.clip(np.nan_to_num(cube[::-1, ::-1]), -_BRIGHTEST, _BRIGHTEST).astype(np.float32)
    low, high = _LIMITS
    rgb = np.arcsinh(zrg / _SCALES[:, None, None])
    rgb = (rgb - low) / (high - low)  # not clipped yet: values beyond the limits still steer the colour
    mean, colour = _mean_and_colour(rgb)
    rgb = rgb * colour + mean * (1 - colour) + mean * (1 - colour) ** 2 * rgb
    return np.ascontiguousarray(np.moveaxis(np.clip(rgb, 0, 1) * 255, 0, -1).astype(np.uint8))


def grz_from_rgb(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Undo `rgb_from_grz` as far as a picture allows.

    Good to the rounding of 8 bits but where a channel was clipped, at 0 or 255, or one band had more than half as much
    again as the mean of the three.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32 nanomaggies, bands g, r, z, in FITS row order (row 0 south), as `rgb_from_grz` takes it.

    Raises
    ------
    BadPictureError
        If the array is not (H, W, 3).
    """
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise BadPictureError(f"expected an (H, W, 3) RGB picture, got {picture.shape}")
    shown = np.moveaxis(picture.astype(np.float32) / 255, -1, 0)
    rgb = shown.copy()
    for _ in range(_INVERSIONS):
        mean, colour = _mean_and_colour(rgb)
        colour = np.maximum(colour, _LEAST_COLOUR)
        back = (shown - mean * (1 - colour)) / (colour + mean * (1 - colour) ** 2)
        rgb = (rgb + np.minimum(back, 2 * mean)) / 2
    low, high = _LIMITS
    zrg = np.sinh(rgb * (high - low) + low) * _SCALES[:, None, None]
    return np.ascontiguousarray(zrg[::-1, ::-1])


def _mean_and_colour(rgb: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean of the stretched bands, (H, W), and how much of its colour each pixel keeps, 0-1."""
    mean = rgb.mean(0)
    mean[mean == 0] = 1
    grey_weight = 1 - np.clip((rgb / mean).max(0) / _MAX_COLOUR, 0, 1)
    return mean, np.sin(grey_weight * (np.pi / 2))
