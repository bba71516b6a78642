"""Where the parts of a recipe lie on the sky: centre-lines of arms and the corners of a bar.

Truth only: what people draw follows what they can see, and is the business of `volunteers`. Knows nothing of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.simulate.recipe import Galaxy, sin_cos


@dataclass(frozen=True)
class Ridge:
    """The centre-line of an arm on the sky, from its inner to its outer end.

    Attributes
    ----------
    xi, eta : numpy.ndarray
        Offsets from the galaxy's centre, arcsec east and north.
    half_width : numpy.ndarray
        From the centre-line to the visible edge, measured across the projected arm, arcsec. Without seeing.
    n_inner : int
        Points at the beginning that lead from near the nucleus to where the arm shines: along the bar if there is one,
        otherwise along the arm's own spiral carried on inward.
    """

    xi: NDArray[np.float64]
    eta: NDArray[np.float64]
    half_width: NDArray[np.float64]
    n_inner: int = 0


_ALONG_BAR = np.arange(0.15, 0.99, 0.07)  # radii of the inner points, over that where the arm begins to shine
_INWARD = np.arange(0.3, 0.99, 0.06)
_EDGE_SIGMAS = 1.4  # where a Gaussian ridge has fallen to 0.38 of its peak: about where people place an outline


def arm_ridges(galaxy: Galaxy, *, n_points: int = 80) -> list[Ridge]:
    """Give the centre-line of every arm, faint ones too; none for an edge-on galaxy.

    Parameters
    ----------
    galaxy : Galaxy
        The recipe.
    n_points : int
        Points along the arm itself, evenly spaced in the logarithm of the radius.
    """
    ridges = []
    inner = _ALONG_BAR if galaxy.bar else _INWARD
    for arm in galaxy.arms:
        radius = np.concatenate([inner * arm.r_start, np.geomspace(arm.r_start, arm.r_end, n_points)])
        angle = arm.ridge_angle(np.maximum(radius, arm.r_start) if galaxy.bar else radius)
        u, v = radius * np.cos(angle), radius * np.sin(angle)
        du, dv = np.gradient(u), np.gradient(v)
        norm = np.hypot(du, dv)
        reach = _EDGE_SIGMAS * arm.half_width(np.maximum(radius, 0.5 * arm.r_start))
        xi, eta = galaxy.to_sky(u, v)
        # The edge of the arm, projected, measured across the projected centre-line.
        xi_edge, eta_edge = galaxy.to_sky(u - dv / norm * reach, v + du / norm * reach)
        dxi, deta = np.gradient(xi), np.gradient(eta)
        across = np.abs((xi_edge - xi) * deta - (eta_edge - eta) * dxi) / np.hypot(dxi, deta)
        ridges.append(Ridge(xi.astype(float), eta.astype(float), across, len(inner)))
    return ridges


def bar_outline(galaxy: Galaxy) -> NDArray[np.float64] | None:
    """Give the corners of the bar's bounding rectangle in the disk's plane, projected on the sky.

    Returns
    -------
    numpy.ndarray or None
        (4, 2) offsets (xi, eta) in arcsec, in order around the bar; None without a bar.
    """
    bar = galaxy.bar
    if bar is None:
        return None
    s, c = sin_cos(bar.angle)
    along = bar.intrinsic_length * np.array([1, 1, -1, -1])
    across = bar.intrinsic_length * bar.axis_ratio * np.array([1, -1, -1, 1])
    return np.column_stack(galaxy.to_sky(along * c - across * s, along * s + across * c)).astype(float)
