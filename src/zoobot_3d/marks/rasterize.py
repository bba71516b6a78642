"""Volunteers' outlines to counts per pixel: the hot loop of the data side, compiled.

Knows polygons and pixel centres. Must not know galaxies, files, skies or classes: whoever calls brings the affine that
takes the marks to the output's pixels. The compiled functions trust their input; `rasterize_marks` checks it first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zoobot_3d.errors import BadMarksError
from zoobot_3d.marks.polygons import compiled, self_intersecting

__all__ = ["FlatPaths", "rasterize_marks"]

_MAX_COORDINATE = 1e9
"""Pixels. Beyond this a vertex is a broken number: float64 could no longer tell a ten-millionth of a pixel."""

_MAX_COUNT = 65535
"""The largest count that uint16 holds."""


@dataclass(frozen=True, eq=False)
class FlatPaths:
    """Everybody's paths in three flat arrays: what the compiled code reads, and quick to build from a file.

    Attributes
    ----------
    vertices : ndarray, (V, 2) float64
        x and y of every vertex of every path, one path after the other, pixels (centre of the first pixel is 0, 0).
    path_start : ndarray, (P + 1,) int64
        Path ``p`` is ``vertices[path_start[p]:path_start[p + 1]]``; it starts with 0 and ends with V.
    volunteer : ndarray, (P,) int64
        Whose path it is, from 0; never decreasing.
    """

    vertices: npt.NDArray[np.float64]
    path_start: npt.NDArray[np.int64]
    volunteer: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check that the arrays fit each other.

        Raises
        ------
        BadMarksError
            If they do not.
        """
        # Contiguous and writeable: another kind of array would have numba compile, and wait, once more.
        object.__setattr__(self, "vertices", np.require(self.vertices, np.float64, ["C", "W"]))
        object.__setattr__(self, "path_start", np.require(self.path_start, np.int64, ["C", "W"]))
        object.__setattr__(self, "volunteer", np.require(self.volunteer, np.int64, ["C", "W"]))
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 2:
            raise BadMarksError(f"vertices have shape {self.vertices.shape}; give an (N, 2) array of x and y")
        start, volunteer = self.path_start, self.volunteer
        fits = start.ndim == volunteer.ndim == 1 and len(start) == len(volunteer) + 1
        if not fits or start[0] != 0 or start[-1] != len(self.vertices) or np.any(start[1:] < start[:-1]):
            raise BadMarksError("path_start must rise from 0 to the number of vertices, with one value more than paths")
        if len(volunteer) and (volunteer[0] < 0 or np.any(volunteer[1:] < volunteer[:-1])):
            raise BadMarksError("volunteer must count up from 0: give the paths sorted by volunteer")

    @classmethod
    def from_nested(cls, paths_by_volunteer: Iterable[Iterable[npt.ArrayLike]]) -> FlatPaths:
        """Build from volunteers -> paths -> (N, 2) vertices; a volunteer or a path may be empty.

        Parameters
        ----------
        paths_by_volunteer : iterable of iterable of (N, 2) array-like
            One entry per volunteer.

        Returns
        -------
        FlatPaths

        Raises
        ------
        BadMarksError
            If the nesting is wrong; the message names volunteer and path.
        """
        arrays: list[npt.NDArray[np.float64]] = []
        volunteer: list[int] = []
        for v, paths in enumerate(_each(paths_by_volunteer, "paths_by_volunteer must be a list of volunteers")):
            for p, path in enumerate(_each(paths, f"volunteer {v}: give a list of paths")):
                arrays.append(_vertices(path, v, p))
                volunteer.append(v)
        start = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(a) for a in arrays], out=start[1:])
        vertices = np.concatenate(arrays) if arrays else np.empty((0, 2))
        return cls(vertices, start, np.array(volunteer, np.int64))

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self.volunteer)

    def __eq__(self, other: object) -> bool:
        """Tell whether two hold the same paths by the same volunteers, vertex for vertex."""
        if not isinstance(other, FlatPaths):
            return NotImplemented
        return (
            np.array_equal(self.vertices, other.vertices)
            and np.array_equal(self.path_start, other.path_start)
            and np.array_equal(self.volunteer, other.volunteer)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def nested(self, n_volunteers: int | None = None) -> list[list[npt.NDArray[np.float64]]]:
        """Return the paths as volunteers -> paths -> (N, 2) float64 views.

        Parameters
        ----------
        n_volunteers : int, optional
            Length of the result; volunteers who drew nothing are empty lists. Default: up to the last who drew.

        Returns
        -------
        list of list of ndarray, (N, 2) float64
        """
        last = int(self.volunteer[-1]) + 1 if len(self) else 0
        result: list[list[npt.NDArray[np.float64]]] = [
            [] for _ in range(last if n_volunteers is None else n_volunteers)
        ]
        for p, v in enumerate(self.volunteer):
            result[v].append(self.vertices[self.path_start[p] : self.path_start[p + 1]])
        return result

    def check(self, vertices: npt.NDArray[np.float64] | None = None) -> None:
        """Raise on the first vertex that is not a place.

        Parameters
        ----------
        vertices : ndarray, (V, 2) float64, optional
            Look at these, the transformed ones, instead of `vertices`.

        Raises
        ------
        BadMarksError
            If a vertex is NaN, infinite or beyond 1e9 px; the message names volunteer and path.
        """
        moved = vertices is not None
        vertices = self.vertices if vertices is None else vertices
        good = np.abs(vertices) <= _MAX_COORDINATE  # False for NaN
        if good.all():
            return
        row = int(np.argmin(good.all(axis=1)))
        path = int(np.searchsorted(self.path_start, row, side="right")) - 1
        x, y = vertices[row]
        raise BadMarksError(
            f"{self.where(path)}: vertex {row - int(self.path_start[path])} is ({x:g}, {y:g})"
            f"{' after the transform' if moved else ''}; "
            f"coordinates must be finite and within {_MAX_COORDINATE:g} px"
        )

    def where(self, path: int) -> str:
        """Name path number ``path`` for a person, e.g. ``"volunteer 3, path 1"`` (both from 0)."""
        v = self.volunteer[path]
        return f"volunteer {v}, path {path - int(np.searchsorted(self.volunteer, v))}"


def rasterize_marks(
    paths_by_volunteer: FlatPaths | Iterable[Iterable[npt.ArrayLike]],
    shape: tuple[int, int],
    *,
    transform: npt.ArrayLike | None = None,
    count: Literal["volunteers", "paths"] = "volunteers",
    drop_self_intersecting: bool = False,
) -> npt.NDArray[np.uint16]:
    """Count, for every pixel, the volunteers (or the paths) that enclose its centre.

    A pixel's centre, column x and row y, is at (x, y). Inside is decided by the even-odd rule, and a centre that lies
    exactly on an edge as ``matplotlib.path.Path.contains_points`` decides it, since the official masks do. Paths are
    closed by themselves; fewer than three vertices enclose nothing. What lies outside the image is cut off.

    Parameters
    ----------
    paths_by_volunteer : FlatPaths or iterable of iterable of (N, 2) array-like
        For each volunteer the paths drawn, each a list of (x, y) vertices in pixels. Either may be empty.
    shape : (int, int)
        Height and width of the result.
    transform : (2, 3) array-like, optional
        Affine from the marks' pixels to the result's: ``x' = t[0, 0] x + t[0, 1] y + t[0, 2]``, likewise ``y'``. This
        is how masks are made at any cutout's scale.
    count : {"volunteers", "paths"}
        ``"volunteers"`` counts a person once in a pixel however many paths cover it (union); ``"paths"`` counts each.
    drop_self_intersecting : bool
        Leave out the paths that `zoobot_3d.marks.polygons.self_intersecting` finds in the vertices as drawn. With
        ``count="paths"`` this is the rule of the official masks.

    Returns
    -------
    ndarray, (H, W) uint16
        Counts, indexed ``[y, x]``.

    Raises
    ------
    BadMarksError
        If a vertex is NaN, infinite or absurdly far, or the nesting is wrong; the message names volunteer and path.
    ValueError
        If `shape`, `transform` or `count` is not as above.
    """
    if count not in ("volunteers", "paths"):
        raise ValueError(f'count={count!r}; use "volunteers" or "paths"')
    height, width = (int(n) for n in shape)
    if height < 1 or width < 1:
        raise ValueError(f"shape={tuple(shape)}; use (height, width) of at least one pixel")
    flat = paths_by_volunteer
    if not isinstance(flat, FlatPaths):
        flat = FlatPaths.from_nested(flat)
    if len(flat) and max(len(flat), int(flat.volunteer[-1]) + 1) > _MAX_COUNT:
        raise BadMarksError(f"more than {_MAX_COUNT} paths or volunteers cannot be counted; rasterize them in parts")
    flat.check()
    keep = np.diff(flat.path_start) >= 3
    if drop_self_intersecting:
        keep &= ~self_intersecting(flat.vertices, flat.path_start)
    vertices = flat.vertices
    if transform is not None:
        affine = np.asarray(transform, np.float64)
        if affine.shape != (2, 3) or not np.isfinite(affine).all():
            raise ValueError(f"transform of shape {affine.shape}; use a (2, 3) affine of finite numbers")
        vertices = np.ascontiguousarray(vertices @ affine[:, :2].T + affine[:, 2])
        flat.check(vertices)
    out = np.zeros((height, width), np.uint16)
    groups = np.arange(len(flat) + 1)
    if count == "volunteers":
        groups = np.append(np.flatnonzero(np.diff(flat.volunteer, prepend=-1)), len(flat))
    _fill(vertices, flat.path_start, groups, keep, out)
    return out


def _each(value: Any, what: str) -> Iterable[Any]:
    """Return `value` if it can be looped over as a list, else raise with `what`."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
        raise BadMarksError(f"{what}, not {type(value).__name__}")
    return value


def _vertices(path: Any, v: int, p: int) -> npt.NDArray[np.float64]:
    """Return one path as (N, 2) float64."""
    try:
        if type(path) is list and set(map(len, path)) == {2}:  # marks fresh from JSON: twice as quick as asarray
            return np.fromiter(chain.from_iterable(path), np.float64, 2 * len(path)).reshape(-1, 2)
    except (TypeError, ValueError):
        pass  # what is wrong is said below
    try:
        array = np.asarray(path, np.float64)
    except (TypeError, ValueError):
        array = None
    if array is not None and array.size == 0 and array.ndim <= 2:
        return np.empty((0, 2))
    if array is None or array.ndim != 2 or array.shape[1] != 2:
        got = "values that are not numbers or not pairs" if array is None else f"an array of shape {array.shape}"
        raise BadMarksError(
            f"volunteer {v}, path {p}: must be (N, 2) vertices x, y, found {got}; "
            "give a list of volunteers, each a list of paths, each a list of [x, y]"
        )
    return array


@compiled
def _fill(vertices, path_start, group_start, keep, out):  # type: ignore[no-untyped-def]
    """Add to `out`, for each group of paths, 1 where a pixel centre is inside any of its kept paths.

    By scanline. Of each crossing of an edge with a row only the first pixel right of it matters, an integer. A row's
    crossings are sorted for the whole group; walking along them, each path flips between inside and outside at its own,
    and the union begins where the first path is entered and ends where the last is left. Only these two ends are
    written, +1 and -1 (uint16 wraps round): one running sum over the image makes them counts.

    On a centre that lies on an edge the rule is that of matplotlib, which the official masks follow: an edge crosses
    the rows low < y <= high, and going to larger y it is right of the centres on it, going back it is not.
    """
    height, width = out.shape
    crossings = np.empty(4096, np.int64)  # (pixel << 32) + path within the group
    row_end = np.empty(height, np.int64)
    # The first row with a larger y than each vertex, within the image: an edge crosses the rows between its ends'.
    rows = np.empty(len(vertices), np.int64)
    for i in range(len(vertices)):
        rows[i] = _within(np.floor(vertices[i, 1]) + 1.0, height)
    first_row, last_row = height, 0
    for g in range(group_start.size - 1):
        begin, end = group_start[g], group_start[g + 1]
        top, bottom = height, 0
        for p in range(begin, end):
            if keep[p]:
                for i in range(path_start[p], path_start[p + 1]):
                    top, bottom = min(top, rows[i]), max(bottom, rows[i])
        if top >= bottom:
            continue
        first_row, last_row = min(first_row, top), max(last_row, bottom)

        total = _count_crossings(rows, path_start[begin : end + 1], keep[begin:end], row_end, top, bottom)
        if total > crossings.size:
            crossings = np.empty(2 * total, np.int64)
        _find_crossings(vertices, rows, path_start[begin : end + 1], keep[begin:end], row_end, crossings, width)
        _mark_ends(crossings, row_end, end - begin, top, bottom, out)

    for row in range(first_row, last_row):
        count = np.uint16(0)
        line = out[row]
        for x in range(width):
            count = np.uint16(count + line[x])
            line[x] = count


@compiled
def _count_crossings(rows, path_start, keep, row_end, top, bottom):  # type: ignore[no-untyped-def]
    """Count the crossings of each row, and so tell where its crossings begin (into `row_end`); return all of them."""
    row_end[top:bottom] = 0
    for p in range(keep.size):
        if keep[p]:
            before = path_start[p + 1] - 1
            for i in range(path_start[p], path_start[p + 1]):
                for row in range(min(rows[before], rows[i]), max(rows[before], rows[i])):
                    row_end[row] += 1
                before = i
    total = 0
    for row in range(top, bottom):
        row_end[row], total = total, total + row_end[row]
    return total


@compiled
def _find_crossings(vertices, rows, path_start, keep, row_end, crossings, width):  # type: ignore[no-untyped-def]
    """List the first pixel right of each crossing, with its path; `row_end` comes to be where the next row begins."""
    for p in range(keep.size):
        if keep[p]:
            before = path_start[p + 1] - 1
            for i in range(path_start[p], path_start[p + 1]):
                if rows[before] != rows[i]:
                    x0, y0, x1, y1 = vertices[before, 0], vertices[before, 1], vertices[i, 0], vertices[i, 1]
                    slope = (x1 - x0) / (y1 - y0)
                    for row in range(min(rows[before], rows[i]), max(rows[before], rows[i])):
                        near = np.floor(x0 + (row - y0) * slope + 0.5)
                        # Division rounds; whether that centre is left of the edge is asked without it.
                        left = ((y1 - row) * (x0 - x1) >= (x1 - near) * (y0 - y1)) == (y1 > y0)
                        pixel = _within(near + 1.0 if left else near, width)
                        crossings[row_end[row]] = (pixel << 32) + p
                        row_end[row] += 1
                before = i


@compiled
def _mark_ends(crossings, row_end, n_paths, top, bottom, out):  # type: ignore[no-untyped-def]
    """Write +1 where a row enters the union of the paths, and -1 where it leaves it."""
    width = out.shape[1]
    inside = np.zeros(n_paths, np.bool_)
    k = 0
    for row in range(top, bottom):
        _sort(crossings, k, row_end[row])
        entered = 0
        for m in range(k, row_end[row]):
            pixel, p = crossings[m] >> 32, crossings[m] & 0xFFFFFFFF
            inside[p] = not inside[p]
            if inside[p]:
                entered += 1
                if entered == 1 and pixel < width:
                    out[row, pixel] += np.uint16(1)
            else:
                entered -= 1
                if entered == 0 and pixel < width:
                    out[row, pixel] -= np.uint16(1)
        k = row_end[row]


@compiled
def _within(value, size):  # type: ignore[no-untyped-def]
    """Return a whole float as an integer within 0..size; limited first, as a huge float has no integer."""
    return int(min(max(value, 0.0), float(size)))


@compiled
def _sort(values, begin, end):  # type: ignore[no-untyped-def]
    """Sort ``values[begin:end]`` in place; rows have a few crossings, unless somebody scribbled."""
    if end - begin > 48:
        values[begin:end].sort()
        return
    for i in range(begin + 1, end):
        value = values[i]
        j = i - 1
        while j >= begin and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
