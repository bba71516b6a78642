"""Maps that are measured: what they must be. Knows nothing of what is measured on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import GridError
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["check_fractions", "planes_of_fractions", "planes_on"]

_OVERSHOOT = 1e-3  # of interpolated masks


def check_fractions(array: NDArray[Any], name: str = "mask") -> None:
    """Refuse maps whose values are not in 0-1, or NaN.

    Parameters
    ----------
    array : numpy.ndarray
        Numbers or truth values, of any shape.
    name : str
        For the message.

    Raises
    ------
    GridError
        Naming the smallest and the largest value.
    """
    real = array.dtype.kind == "f"
    known: Any = ~np.isnan(array) if real else True
    low = float(np.min(array, initial=0, where=known))
    high = float(np.max(array, initial=0, where=known))
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        fix = "divide them by 255" if low >= 0 and 100 < high <= 255 else "give fractions of volunteers"
        raise GridError(f"{name}: expected fractions in 0-1, got values from {low:g} to {high:g}; {fix}")


def planes_on(maps: Any, grid: PixelGrid, name: str) -> NDArray[np.floating]:
    """Check that maps are a plane for spiral and one for bar on a grid; what is masked becomes NaN.

    Raises
    ------
    GridError
        If they are not, or the grid is none.
    """
    if not isinstance(grid, PixelGrid):
        raise GridError(f"expected a PixelGrid, got {type(grid).__name__}; give PixelGrid(shape, pixscale)")
    array: NDArray[Any]
    array = np.ma.filled(np.ma.asarray(maps, np.float32), np.nan) if np.ma.isMA(maps) else np.asarray(maps)
    if array.shape != (2, *grid.shape) or array.dtype.kind not in "fiub":
        told = f"{array.dtype} of shape {array.shape}"
        raise GridError(f"{name}: expected numbers of shape {(2, *grid.shape)}, spiral and bar on the grid, got {told}")
    return array


def planes_of_fractions(masks: Any, grid: PixelGrid, name: str = "masks") -> NDArray[np.floating]:
    """Check that masks are fractions of volunteers on a grid, as `planes_on` and `check_fractions` do."""
    array = planes_on(masks, grid, name)
    check_fractions(array, name)
    return array
