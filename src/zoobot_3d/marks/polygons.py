"""Which outlines cross or touch themselves; and how this package compiles its loops.

Knows arrays of vertices. Must not know pixels, volunteers or files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["compiled", "self_intersecting"]

_TOUCH = 1e-9
"""Pixels. Closer than this two pieces of an outline touch: far below the marks' 0.1 px steps, far above rounding."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call; keep the machine code on disk, unless no folder at all can be written (containers)."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def self_intersecting(vertices: npt.NDArray[np.float64], path_start: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which paths cross or touch themselves: those the official masks of Galaxy Zoo: 3D leave out.

    A path counts when, as it was drawn (without the edge that would close it), it meets itself anywhere but where
    neighbouring edges join or the end returns to the start. Folding straight back counts, repeated vertices do not.
    That is "not simple" in the OGC Simple Features, the test of the GZ3D pipeline (Masters et al. 2021).

    Parameters
    ----------
    vertices : ndarray, (V, 2) float64
        Finite, pixels; pieces closer than 1e-9 px touch.
    path_start : ndarray, (P + 1,) int64
        Where each path begins, as in `zoobot_3d.marks.rasterize.FlatPaths`.

    Returns
    -------
    ndarray, (P,) bool
    """
    result = np.zeros(len(path_start) - 1, np.bool_)
    _find_self_intersecting(vertices, path_start, result)
    return result


@compiled
def _find_self_intersecting(vertices, path_start, result):  # type: ignore[no-untyped-def]
    """Set ``result[p]`` for paths whose drawn line is not simple."""
    for p in range(result.size):
        first, last = path_start[p], path_start[p + 1]
        points = np.empty((last - first, 2))
        n = 0
        for i in range(first, last):
            if n == 0 or vertices[i, 0] != points[n - 1, 0] or vertices[i, 1] != points[n - 1, 1]:
                points[n] = vertices[i]
                n += 1
        if n > 2:
            result[p] = not _is_simple(points[:n])


@compiled
def _is_simple(points):  # type: ignore[no-untyped-def]
    """Tell whether a polyline without repeated neighbours meets itself nowhere but at its joints.

    Edges are taken from left to right, and each is held against those that begin before it ends.
    """
    n = len(points) - 1  # edges
    closed = points[0, 0] == points[n, 0] and points[0, 1] == points[n, 1]
    left = np.minimum(points[:-1, 0], points[1:, 0]) - _TOUCH
    right = np.maximum(points[:-1, 0], points[1:, 0]) + _TOUCH
    order = np.argsort(left)
    for k in range(n):
        i = order[k]
        for m in range(k + 1, n):
            j = order[m]
            if left[j] > right[i]:
                break
            a, b = min(i, j), max(i, j)
            if b == a + 1:
                meets = _folds_back(points, a, b)
            elif closed and a == 0 and b == n - 1:
                meets = False  # they join; if one ran back along the other, its other neighbour would touch that too
            else:
                meets = _meet(points, a, b)
            if meets:
                return False
    return True


@compiled
def _side(points, edge, c):  # type: ignore[no-untyped-def]
    """Return on which side of an edge's line the point c lies: 1, -1, or 0 within `_TOUCH` of it."""
    x, y = points[edge, 0], points[edge, 1]
    dx, dy = points[edge + 1, 0] - x, points[edge + 1, 1] - y
    product = dx * (points[c, 1] - y) - dy * (points[c, 0] - x)  # distance times the edge's length
    if product * product <= _TOUCH * _TOUCH * (dx * dx + dy * dy):
        return 0
    return 1 if product > 0 else -1


@compiled
def _folds_back(points, a, b):  # type: ignore[no-untyped-def]
    """Tell whether the edge b runs straight back along the edge a, which ends where b begins."""
    if _side(points, a, b + 1) != 0:
        return False
    forth_x, forth_y = points[a + 1, 0] - points[a, 0], points[a + 1, 1] - points[a, 1]
    back_x, back_y = points[b + 1, 0] - points[b, 0], points[b + 1, 1] - points[b, 1]
    return forth_x * back_x + forth_y * back_y < 0


@compiled
def _meet(points, a, b):  # type: ignore[no-untyped-def]
    """Tell whether the edges a and b, from points[a] to points[a + 1] and likewise, share a point."""
    for axis in range(2):
        a0, a1, b0, b1 = points[a, axis], points[a + 1, axis], points[b, axis], points[b + 1, axis]
        if min(a0, a1) > max(b0, b1) + _TOUCH or min(b0, b1) > max(a0, a1) + _TOUCH:
            return False
    # With boxes that overlap, edges miss only if one lies wholly on one side of the other's line.
    return _side(points, a, b) * _side(points, a, b + 1) <= 0 and _side(points, b, a) * _side(points, b, a + 1) <= 0
