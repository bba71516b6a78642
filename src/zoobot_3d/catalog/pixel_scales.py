"""Pixel scales of galaxies' pictures: those that a table gives, and Galaxy Zoo's, which follow from a galaxy's size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.schema import PIXSCALES

__all__ = ["gz_pixscale", "read_pixscales"]


def gz_pixscale(th50: ArrayLike, th90: ArrayLike | None = None) -> NDArray[np.float64]:
    """Scale of the Galaxy Zoo DECaLS picture of a galaxy, by its size (Walmsley et al. 2022, MNRAS 509, 3966).

    Parameters
    ----------
    th50, th90 : array_like
        Petrosian radii that hold half and 90% of the light, arcsec. Where ``th90`` is not known (None or NaN), the
        half-light radius decides alone.

    Returns
    -------
    numpy.ndarray
        Arcsec per pixel of the 424 px picture, at least 0.1; NaN where ``th50`` is not a positive number.
    """
    half = np.asarray(th50, np.float64)
    most = np.full(half.shape, np.nan) if th90 is None else np.asarray(th90, np.float64)
    scale = np.maximum(np.fmin(0.04 * half, np.where(most > 0, 0.02 * most, np.nan)), 0.1)
    return np.where(half > 0, scale, np.nan)


def read_pixscales(frame: pd.DataFrame, scale: str, name: str) -> tuple[NDArray[np.float64], list[str]]:
    """Pixel scales of a column, NaN where there is none that can be used, and what is wrong with those."""
    column, scales = frame[scale], quantity(frame, scale, "arcsec", name)
    good = (scales >= PIXSCALES[0]) & (scales <= PIXSCALES[1])
    scales[~good] = np.nan
    bad = ~good & column.notna().to_numpy() & (column.astype(str).str.strip() != "").to_numpy()
    words = zip(column.astype(str), bad, strict=True)
    return scales, [
        f"its {column.name} {text[:20]!r} is no pixel scale: it is unknown" if row else "" for text, row in words
    ]
