"""grz nanomaggies to the RGB picture that Galaxy Zoo volunteers saw. Arrays only: no files, no grids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import BadPictureError

__all__ = ["rgb_from_grz"]

# The "DR2 style" of the Legacy Surveys viewer as Galaxy Zoo DECaLS used it (Walmsley et al. 2022, MNRAS 509, 3966).
_SCALES = np.array([0.019, 0.014, 0.008], np.float32)  # nanomaggies for z -> R, r -> G, g -> B
_LIMITS = np.arcsinh(np.array([-0.5, 300.0], np.float32))
_MAX_COLOUR = 2.5  # a band this many times the mean of the three is taken to be an artefact


def rgb_from_grz(cube: NDArray[Any]) -> NDArray[np.uint8]:
    """Make the Galaxy Zoo picture of a cutout.

    Each band is scaled and stretched with arcsinh between fixed limits; pixels that one band dominates lose colour.

    Parameters
    ----------
    cube : numpy.ndarray
        (3, H, W) nanomaggies, bands g, r, z, in **FITS row order** (row 0 south), as `astropy.io.fits` returns it. For
        an array that is row 0 north already, as `zoobot_3d.io.read_cutout` returns it, pass ``cube[:, ::-1]``.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.

    Raises
    ------
    BadPictureError
        If the array is not (3, H, W).
    """
    cube = np.asarray(cube)
    if cube.ndim != 3 or cube.shape[0] != 3:
        raise BadPictureError(f"expected (3, H, W) nanomaggies in bands g, r, z, got {cube.shape}")
    zrg = np.nan_to_num(cube[::-1, ::-1].astype(np.float32))
    low, high = _LIMITS
    rgb = np.arcsinh(zrg / _SCALES[:, None, None])
    rgb = (rgb - low) / (high - low)  # not clipped yet: values beyond the limits still steer the colour
    mean = rgb.mean(0)
    mean[mean == 0] = 1
    grey_weight = 1 - np.clip((rgb / mean).max(0) / _MAX_COLOUR, 0, 1)
    colour = np.sin(grey_weight * (np.pi / 2))
    rgb = rgb * colour + mean * (1 - colour) + mean * (1 - colour) ** 2 * rgb
    return np.ascontiguousarray(np.moveaxis(np.clip(rgb, 0, 1) * 255, 0, -1).astype(np.uint8))
