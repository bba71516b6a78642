"""Bars: length, position angle and axis ratio of the region of a bar mask through the galaxy's centre.

A mask is the fraction of volunteers, each of whom draws a bar of a length of their own. The length is that of a uniform
bar with the same mean distance from its middle; it needs no threshold. The outline, at a quarter of the mask's peak,
gives the region, its width and the error. Works on one array of fractions and its pixel grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import GridError
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.flags import bits
from zoobot_3d.measure.maps import check_fractions
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["BAR_LEVEL", "FAINT", "LEAST_PEAK", "Bar", "measure_bar"]

BAR_LEVEL = 0.25
"""Where the outline of a bar is, as a fraction of the mask's peak."""

LEAST_PEAK, FAINT = 1 / 3, 0.5
"""Masks whose peak is below the first show nothing; bars in those below the second are flagged as faint. Masters et al.
2012 (MNRAS 424, 2180) take galaxies as strongly barred where half of the volunteers see a bar."""

_SWEEP = (0.15, 0.20, 0.30, 0.40)  # of the peak: other outlines, whose scatter is part of the error
_CENTRAL_LEVEL = 0.2  # of the highest value: the region through the centre
_AXIS_LEVEL, _TAIL_LEVEL = 0.1, 0.02  # of the peak: direction, and length, are of all that lies above
_LEAST_AXIS_LEVEL = 0.05
_INTERPOLATION_PX = 0.3
_DARK = 1 / 512  # below any level, and below the steps of stored masks
_INNER = 1 / 3  # of width and length: where ends and sides are looked for
_LEAST_PX = 6.0
_ROUND = 0.8
_OFF_CENTRE = 0.25  # of the length
# Chosen so that 68% of simulated galaxies lie within the error, see benchmarks/measure.py: the factor of the scatter
# over outlines, and what is added to it (a fraction of the length; deg for a bar without width; a fraction of the axis
# ratio). An end that is uncertain by a part of the length is so to the side as well: the fatter the bar, the more the
# position angle is off.
_SWEEP_FACTOR = {"length": 1.9, "pa": 1.6, "axis_ratio": 1.0}
_FLOOR = {"length": 0.011, "pa": 0.7, "axis_ratio": 0.05}
# A mask of fraction p is the vote of about 15 volunteers: relative error sqrt((1 - p) / 15 p), of which the length has
# this part.
_VOTERS, _VOTE_FACTOR = 15, 0.7


@dataclass(frozen=True)
class Bar:
    """What was measured of a bar; NaN where there is no answer.

    Attributes
    ----------
    length, length_err : float
        Full length on the sky, arcsec: of a uniform bar with the same mean distance from its middle along the bar,
        over the inner third of its width.
    semi_major, semi_major_err : float
        Half of it, arcsec.
    pa, pa_err : float
        Position angle, deg north through east, 0-180.
    axis_ratio, axis_ratio_err : float
        Width over length on the sky.
    length_deprojected, length_deprojected_err : float
        Full length in the plane of the disk, arcsec (a line, Martin 1995, AJ 109, 2428).
    angle_deprojected : float
        Angle between the bar and the line of nodes in the plane of the disk, deg north through east, 0-180.
    offset : float
        From the galaxy's centre to that of the bar, arcsec.
    peak : float
        Highest value of the mask in the bar, smoothed over 3 x 3 pixels.
    n_regions : int
        Regions of the mask above the level of the outline.
    length_px, x, y : float
        Full length, and the bar's centre (0-based column and row), px.
    flags : int
        See `zoobot_3d.measure.flags`.
    """

    length: float = np.nan
    length_err: float = np.nan
    semi_major: float = np.nan
    semi_major_err: float = np.nan
    pa: float = np.nan
    pa_err: float = np.nan
    axis_ratio: float = np.nan
    axis_ratio_err: float = np.nan
    length_deprojected: float = np.nan
    length_deprojected_err: float = np.nan
    angle_deprojected: float = np.nan
    offset: float = np.nan
    peak: float = np.nan
    n_regions: int = 0
    length_px: float = np.nan
    x: float = np.nan
    y: float = np.nan
    flags: int = 0

    def row(self) -> dict[str, Any]:
        """Return the columns of a table, whose names begin with ``bar_``; without the flags."""
        return {f"bar_{field.name}": getattr(self, field.name) for field in fields(self) if field.name != "flags"}


@dataclass(frozen=True)
class _Shape:
    """A region: px, and deg of position angle."""

    length: float
    outline: float
    """Length at the level of the outline."""
    width: float
    pa: float
    x: float
    y: float
    n_regions: int
    is_cut: bool

    @property
    def axis_ratio(self) -> float:
        return min(self.width / self.length, 1.0) if self.length > 0 else np.nan


def measure_bar(
    mask: NDArray[np.floating],
    grid: PixelGrid,
    *,
    disk: Disk | None = None,
    disk_semi_major: float = np.nan,
    sigma: NDArray[np.floating] | None = None,
    members: Sequence[NDArray[np.floating]] = (),
    centre: tuple[float, float] | None = None,
) -> Bar:
    """Measure the bar in a mask.

    The outline is at a quarter of the mask's peak (`BAR_LEVEL`), and only the region through, or next to, the centre is
    taken. Along it, over the inner third of its width, the mean distance of the mask from the middle is a quarter of
    the length. Its position angle is that of the second moments of the mask above a tenth of the peak.
    The error is the scatter over outlines from 0.15 to 0.4 of the peak, scaled and with a floor, both calibrated on
    simulated galaxies, together with the scatter over ``members`` or the change by one ``sigma``.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) fractions of volunteers in 0-1, row 0 north, column 0 east; NaN outside the field.
    grid : PixelGrid
        Its pixels. Without a pixel scale, lengths in arcsec are NaN.
    disk : Disk, optional
        To deproject with; without it, deprojected numbers are NaN.
    disk_semi_major : float
        Of the galaxy's outer isophote, px, to compare the bar with.
    sigma : numpy.ndarray, optional
        (H, W) standard deviation of each pixel.
    members : sequence of numpy.ndarray
        Masks of the members of an ensemble, each (H, W).
    centre : tuple of float, optional
        (x, y) of the galaxy's centre, px; the grid's reference pixel by default.

    Returns
    -------
    Bar

    Raises
    ------
    GridError
        If the mask does not have the shape of its grid, or its values are no fractions.
    """
    known, field = _checked(mask, grid)
    centre = grid.reference_pixel if centre is None else centre
    others = [np.nan_to_num(np.asarray(member, np.float32)) for member in members]
    if sigma is not None:
        change = np.nan_to_num(np.asarray(sigma, np.float32))
        others += [np.clip(known + sign * change, 0, 1) for sign in (-1, 1)]
    box = _lit_box([known, *others])  # the rest is empty, and costs time alone
    known, field, others = known[box], field[box], [other[box] for other in others]
    at = centre[0] - box[1].start, centre[1] - box[0].start
    found = _outline(known, field, at, BAR_LEVEL)
    if isinstance(found, Bar):
        return found
    shape, peak = found
    if shape.length < _LEAST_PX:
        return Bar(peak=peak, n_regions=shape.n_regions, flags=bits("bar_small"))
    errors = _errors(known, field, at, shape, others, _VOTE_FACTOR * _doubt(peak))
    offset = float(np.hypot(shape.x - at[0], shape.y - at[1]))
    flagged = {
        "bar_faint": peak < FAINT,
        "bar_several": shape.n_regions > 1,
        "bar_off_centre": offset > _OFF_CENTRE * shape.length,
        "bar_cut": shape.is_cut,
        "bar_beyond_disk": shape.length / 2 > disk_semi_major,
        "bar_round": shape.axis_ratio > _ROUND,
    }
    length, length_err = shape.length * grid.pixscale, errors["length"] * grid.pixscale
    return Bar(
        length,
        length_err,
        length / 2,
        length_err / 2,
        shape.pa,
        errors["pa"],
        shape.axis_ratio,
        errors["axis_ratio"],
        *_deprojected(length, length_err, shape.pa, errors["pa"], disk),
        offset * grid.pixscale,
        peak,
        shape.n_regions,
        shape.length,
        shape.x + box[1].start,
        shape.y + box[0].start,
        bits(*(name for name, holds in flagged.items() if holds)),
    )


def _checked(mask: NDArray[np.floating], grid: PixelGrid) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a mask without NaN, and where it is known."""
    array = np.asarray(mask, np.float32)
    if array.shape != grid.shape:
        raise GridError(f"a mask of shape {array.shape} does not lie on a grid of {grid.shape}")
    check_fractions(array)
    field = np.isfinite(array)
    return np.where(field, array, np.float32(0)), field


def _lit_box(masks: Sequence[NDArray[np.float32]]) -> tuple[slice, slice]:
    """Return the rows and columns where any mask is above 0, with a margin that is empty unless the array ends."""
    lit = np.maximum.reduce(masks) > _DARK
    spans = []
    for axis in (1, 0):
        told, size = np.flatnonzero(lit.any(axis)), lit.shape[1 - axis]
        spans.append(slice(max(told[0] - 4, 0), min(told[-1] + 5, size)) if len(told) else slice(0, size))
    return spans[0], spans[1]


def _outline(
    mask: NDArray[np.float32], field: NDArray[np.bool_], at: tuple[float, float], level: float
) -> tuple[_Shape, float] | Bar:
    """Find the bar's peak, and its shape at a fraction of it; or say why there is none."""
    smooth = np.asarray(cv2.blur(mask, (3, 3)))
    highest = float(smooth.max())
    if highest < LEAST_PEAK:
        return Bar(peak=highest, flags=bits("no_bar"))
    region, _ = _central(mask, _CENTRAL_LEVEL * highest, at)
    peak = float(smooth[region].max()) if region is not None else 0.0
    if peak < LEAST_PEAK:
        return Bar(peak=highest, flags=bits("bar_elsewhere"))
    least = max(min(level, _AXIS_LEVEL * level / BAR_LEVEL), _LEAST_AXIS_LEVEL) * peak
    shape = _shape(mask, field, at, level * peak, least)
    return Bar(peak=highest, flags=bits("bar_elsewhere")) if shape is None else (shape, peak)


def _central(mask: NDArray[np.float32], level: float, at: tuple[float, float]) -> tuple[NDArray[np.bool_] | None, int]:
    """Return the region above a level that holds the centre or is nearest to it, and how many regions there are."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask >= level).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count < 2:
        return None, 0
    rows, columns = np.nonzero(labels)
    away = np.hypot(columns - at[0], rows - at[1])
    nearest = int(away.argmin())
    label = int(labels[rows[nearest], columns[nearest]])
    # Specks of less than a twentieth of the bar are no other regions.
    others = int((areas >= 0.05 * areas[label - 1]).sum())
    side = stats[label, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    if away[nearest] > 0.5 * float(np.hypot(*side)):
        return None, others
    return labels == label, others


def _shape(
    mask: NDArray[np.float32], field: NDArray[np.bool_], at: tuple[float, float], level: float, least: float
) -> _Shape | None:
    """Measure the region about the centre above a level; its direction above ``least``, which is lower."""
    region, n_regions = _central(mask, level, at)
    if region is None:
        return None
    rows, columns = np.nonzero(region)
    low, high = (rows.min(), columns.min()), (rows.max(), columns.max())
    edge = low[0] == 0 or low[1] == 0 or high[0] == mask.shape[0] - 1 or high[1] == mask.shape[1] - 1
    direction, size, width, (x, y) = _moments(mask, region)
    # What lies outside the region is 0 on its bar's own axes.
    kept = np.where(cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, mask, 0).astype(np.float32)
    wide, tail = (_around(mask, lower, at, region) for lower in (least, _TAIL_LEVEL / _AXIS_LEVEL * least))
    direction = _moments(mask, wide)[0]
    outline, (x, y) = _extent(kept, level, (x, y), direction, size, width)
    width, _ = _extent(kept, level, (x, y), np.array([-direction[1], direction[0]]), width, outline)
    length = _uniform_length(np.where(tail, mask, np.float32(0)), (x, y), direction, outline, width)
    near = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    pa = float(np.degrees(np.arctan2(-direction[0], -direction[1])) % 180)
    return _Shape(length, outline, width, pa, x, y, n_regions, bool(edge or (near & ~field).any()))


def _sampled(
    mask: NDArray[np.float32],
    at: tuple[float, float],
    direction: NDArray[np.float64],
    along: NDArray[np.float64],
    across: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Sample a mask on a turned grid: (across, along)."""
    x = at[0] + along[None, :] * direction[0] - across[:, None] * direction[1]
    y = at[1] + along[None, :] * direction[1] + across[:, None] * direction[0]
    return np.asarray(
        cv2.remap(mask, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderValue=0), np.float32
    )


def _around(
    mask: NDArray[np.float32], level: float, at: tuple[float, float], region: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the region about the centre above a lower level than that of ``region``."""
    found, _ = _central(mask, level, at)
    return region if found is None else found


def _moments(
    mask: NDArray[np.float32], region: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float, float, tuple[float, float]]:
    """Direction of the major axis, length and width of a rectangle with the same moments, and the centre (x, y).

    Pixels weigh as their fraction: the edge of a soft mask, which is the least certain, counts for little.
    """
    rows, columns = np.nonzero(region)
    weight = mask[rows, columns].astype(float)
    covariance = np.cov(np.stack([columns, rows]), aweights=weight, bias=True) + np.eye(2) / 12
    values, vectors = np.linalg.eigh(covariance)
    centre = float(np.average(columns, weights=weight)), float(np.average(rows, weights=weight))
    return vectors[:, 1], float(np.sqrt(12 * values[1])), float(np.sqrt(12 * values[0])), centre


def _extent(
    mask: NDArray[np.float32],
    level: float,
    at: tuple[float, float],
    direction: NDArray[np.float64],
    size: float,
    width: float,
) -> tuple[float, tuple[float, float]]:
    """Length of a region along a direction, over the inner third of its width, and its middle."""
    reach = 1.5 * size + 3
    along = np.linspace(-reach, reach, 2 * int(2 * reach) + 1)
    across = np.linspace(-0.5 * _INNER * width, 0.5 * _INNER * width, 9)
    profile = _sampled(mask, at, direction, along, across).mean(0)
    middle = int(np.argmax(profile * (np.abs(along) <= 0.25 * size)))
    ends = []
    for sign in (-1, 1):
        line, place = profile[middle::sign], along[middle::sign]
        below = int(np.argmax(line < level)) if (line < level).any() else len(line) - 1
        if below == 0:
            ends.append(place[0])
            continue
        part = (line[below - 1] - level) / max(line[below - 1] - line[below], 1e-9)
        ends.append(place[below - 1] + min(part, 1.0) * (place[below] - place[below - 1]))
    shift = (ends[0] + ends[1]) / 2
    return float(ends[1] - ends[0]), (at[0] + shift * direction[0], at[1] + shift * direction[1])


def _uniform_length(
    mask: NDArray[np.float32],
    at: tuple[float, float],
    direction: NDArray[np.float64],
    outline: float,
    width: float,
) -> float:
    """Length of a uniform bar that is as far from its middle, on average, along a direction."""
    reach = 1.5 * outline + 3
    along = np.linspace(-reach, reach, 2 * int(2 * reach) + 1)
    across = np.linspace(-0.5 * _INNER * width, 0.5 * _INNER * width, 9)
    profile = _sampled(mask, at, direction, along, across).mean(0)
    total = float(profile.sum())
    return 4 * float((profile * np.abs(along)).sum()) / total if total > 0 else outline


def _errors(
    mask: NDArray[np.float32],
    field: NDArray[np.bool_],
    at: tuple[float, float],
    shape: _Shape,
    others: Sequence[NDArray[np.float32]],
    doubt: float,
) -> dict[str, float]:
    """Errors of length (px), position angle (deg) and axis ratio.

    ``others`` are masks that might be true as well; ``doubt`` is what few volunteers add to the relative error.
    """
    swept = [found[0] for level in _SWEEP if not isinstance(found := _outline(mask, field, at, level), Bar)]
    varied = [found[0] for other in others if not isinstance(found := _outline(other, field, at, BAR_LEVEL), Bar)]
    sideways = shape.axis_ratio / max(1 - shape.axis_ratio**2, 0.1)
    floor = {
        "length": np.hypot(_FLOOR["length"], doubt) * shape.length,
        "pa": np.hypot(_FLOOR["pa"] / max(1 - shape.axis_ratio, 0.05), np.degrees(doubt * sideways)),
        "axis_ratio": _FLOOR["axis_ratio"] * shape.axis_ratio,
    }
    errors = {}
    ratio = min(shape.axis_ratio, 0.95)
    spread = {name: _spread(swept, shape, name) for name in floor}
    # Outlines of a mask of 0 and 1 differ by interpolation alone.
    spread["length"] = max(_spread(swept, shape, "outline") - _INTERPOLATION_PX, 0.0)
    spread["pa"] += float(np.degrees(spread["length"] / shape.length * ratio / (1 - ratio**2)))
    for name, least in floor.items():
        scatter = _SWEEP_FACTOR[name] * spread[name]
        errors[name] = float(np.sqrt(scatter**2 + _spread(varied, shape, name) ** 2 + least**2))
    errors["pa"] = min(errors["pa"], 52.0)  # that of no knowledge: uniform within 180 deg
    return errors


def _doubt(peak: float) -> float:
    """Relative error of the fraction of volunteers at the peak."""
    share = min(peak, 1.0)
    return float(np.sqrt((1 - share) / (_VOTERS * share)))


def _spread(shapes: list[_Shape], about: _Shape, name: str) -> float:
    """Root mean square of the departures of other shapes."""
    departures = np.array([getattr(shape, name) - getattr(about, name) for shape in shapes] or [0.0])
    if name == "pa":
        departures = (departures + 90) % 180 - 90
    return float(np.sqrt(np.mean(departures**2)))


def _deprojected(
    length: float, length_err: float, pa: float, pa_err: float, disk: Disk | None
) -> tuple[float, float, float]:
    """Length in the plane with its error, and angle to the line of nodes."""
    if disk is None:
        return np.nan, np.nan, np.nan
    angle, stretch = disk.deproject_line(pa)
    changes = [other.deproject_line(pa)[1] - stretch for other in disk.variants()]
    changes += [disk.deproject_line(pa + sign * pa_err)[1] - stretch for sign in (-1, 1)]
    spread = np.sqrt(np.square(changes).sum() / 2)  # each cause to both sides
    return length * stretch, float(np.hypot(length_err * stretch, length * spread)), angle
