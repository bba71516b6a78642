"""Pixels that are compared at the same radius: weights whose distribution over radius is that of other weights.

This is post-stratification by radius: within each thin ring, the weights that are offered are scaled so that their sum
is that of the weights that are wanted. Knows nothing of light, masks or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError

__all__ = ["radius_matched"]

_LEAST_OFFER = 0.1


def radius_matched(
    wanted: NDArray[np.floating],
    offered: NDArray[np.floating],
    radius: NDArray[np.floating],
    width: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scale weights so that they have the distribution over radius of others.

    Parameters
    ----------
    wanted, offered : numpy.ndarray
        Weights of the same shape, none negative; those of arms, and those of what lies between them.
    radius : numpy.ndarray
        Radius of each pixel, of any unit; a pixel of radius NaN has no weight.
    width : float
        Width of the rings in which sums are made equal, of the unit of ``radius``.

    Returns
    -------
    weights : numpy.ndarray
        ``offered``, scaled: in each ring the sum is that of ``wanted``.
    matched : numpy.ndarray of bool
        Pixels in rings with a match. A ring in which the sum of ``offered`` is less than a tenth of that of ``wanted``
        has none, and its weights are 0.

    Raises
    ------
    ConfigError
        If the width is not positive, or the shapes differ.
    """
    if not (np.isfinite(width) and width > 0) or not wanted.shape == offered.shape == radius.shape:
        raise ConfigError("radii are matched in rings of a positive width, over arrays of one shape")
    known = np.isfinite(radius)
    ring = np.where(known, radius / width, 0).astype(np.int64)
    sums = [
        np.bincount(ring.ravel(), np.where(known, weights, 0).ravel().astype(np.float64))
        for weights in (wanted, offered)
    ]
    has_match = (sums[1] > 0) & (sums[1] >= _LEAST_OFFER * sums[0])
    factor = np.divide(sums[0], sums[1], out=np.zeros_like(sums[0]), where=has_match)
    matched = has_match[ring] & known
    return np.where(matched, offered * factor[ring], 0.0), matched
