"""A picture as networks take it: what it must be, and the part of it that they see. Must not know networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import BadPictureError

__all__ = ["check_picture", "outside_field"]

_SMALLEST = 32  # px; below this no arm or bar can be told


def outside_field(shape: tuple[int, int], field_fraction: float) -> NDArray[np.bool_]:
    """Find the pixels of a picture that lie outside the central field that a network sees.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the picture.
    field_fraction : float
        Side of the field as a fraction of the picture's side.

    Returns
    -------
    numpy.ndarray
        (H, W) bool: True where the pixel's centre lies outside the field, or on its edge.
    """
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) >= field_fraction * n / 2 - 1e-9 * n for n in shape)
    return rows[:, None] | columns


def check_picture(picture: Any, name: str = "picture") -> None:
    """Refuse what is not a picture of a galaxy.

    Raises
    ------
    BadPictureError
        If the array is not (H, W, 3) uint8, not square, too small, or the same everywhere.
    """
    if not isinstance(picture, np.ndarray):
        raise BadPictureError(f"{name}: expected a NumPy array, got {type(picture).__name__}")
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise BadPictureError(f"{name}: expected shape (H, W, 3), got {picture.shape}")
    if picture.dtype != np.uint8:
        raise BadPictureError(
            f"{name}: expected uint8 in 0-255, got {picture.dtype}; make it with zoobot_3d.rgb_from_grz"
        )
    height, width = picture.shape[:2]
    if height != width:
        raise BadPictureError(
            f"{name}: expected a square, got {height} x {width} pixels; cut it square about the galaxy"
        )
    if height < _SMALLEST:
        raise BadPictureError(f"{name}: {height} pixels a side is too small; give at least {_SMALLEST}")
    if picture.min() == picture.max():
        raise BadPictureError(f"{name}: blank, every pixel is {picture.min()}; is it outside the survey's footprint?")
