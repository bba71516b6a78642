"""Logarithmic spirals fitted to the ridges of an arm mask, on profiles across them. Knows arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.measure.ridges import JOIN_GAP, N_ANGLES, PROMINENCE, ROW_STEP, Floats, PolarMap, Ridge

__all__ = ["Spiral", "fit_spiral"]

_CONVERGED = 0.002  # rad of pitch, between steps of a fit


@dataclass(frozen=True)
class Spiral:
    """A logarithmic spiral fitted to a ridge, and the ridge across it.

    Attributes
    ----------
    start, winding : float
        The angle is ``start + winding * log_radius``, rad.
    log_radius, angle : numpy.ndarray
        Points on the spiral, ln px and rad.
    off, height, width : numpy.ndarray
        At each point, across the spiral: distance of the ridge and its width at half height, both over the radius; and
        its height, 0 where it does not stand out.
    """

    start: float
    winding: float
    log_radius: Floats
    angle: Floats
    off: Floats
    height: Floats
    width: Floats

    @property
    def pitch(self) -> float:
        """Rad."""
        return float(np.arctan2(1.0, abs(self.winding)))


def fit_spiral(polar: PolarMap, ridge: Ridge, level: float, prominence: float = PROMINENCE) -> Spiral | None:
    """Fit a logarithmic spiral to a ridge on profiles across it.

    Circles cut an arm askew: where an arm fades, the highest point on a circle is off its ridge. So the spiral through
    the points of ``ridge`` is a start alone. Across it, on axes of angle and ln r, which keep angles, the ridge is
    found again, and a straight line through it, weighted by height and length, turns and shifts the spiral; its
    ends move to where the ridge falls below the level.

    Parameters
    ----------
    polar : PolarMap
        The mask.
    ridge : Ridge
        Where to begin.
    level : float
        Height at the ends.
    prominence : float
        See `trace_ridges`.

    Returns
    -------
    Spiral or None
        None if nothing is left.
    """
    start, winding = ridge.line()
    first, last = ridge.log_radius[0], ridge.log_radius[-1]
    reach = float(np.clip(0.8 * np.median(ridge.width) * np.sin(np.arctan2(1.0, abs(winding))), 0.1, 0.5))
    spiral = None
    for step in range(6):
        slack = 0.15 if step > 1 else 0.0  # by which it may grow at each end
        spiral = _across(polar.twice_around, polar, (start, winding), (first - slack, last + slack), reach, prominence)
        kept = _lit_part(spiral, (first + last) / 2, level)
        if kept is None:
            return None
        spiral = Spiral(
            start,
            winding,
            *(values[kept] for values in (spiral.log_radius, spiral.angle, spiral.off, spiral.height, spiral.width)),
        )
        first, last = float(spiral.log_radius[0]), float(spiral.log_radius[-1])
        if step == 5 or len(spiral.off) < 5:
            break
        before = np.arctan2(1.0, abs(winding))
        start, winding = _turned(spiral)
        if step > 2 and abs(np.arctan2(1.0, abs(winding)) - before) < _CONVERGED:
            break
    return spiral


def _turned(spiral: Spiral) -> tuple[float, float]:
    """Turn and shift a spiral to the straight line through the ridge across it."""
    hand = 1.0 if spiral.winding >= 0 else -1.0
    pitch = spiral.pitch
    along = spiral.log_radius / np.sin(pitch)  # distance on axes of angle and ln r
    weight = spiral.height * np.exp(spiral.log_radius - spiral.log_radius.max())
    kept = np.ones(len(along), bool)
    for _ in range(2):
        part = weight * kept / (weight @ kept)
        mean_s, mean_t = part @ along, part @ spiral.off
        slope = part @ ((along - mean_s) * (spiral.off - mean_t)) / (part @ (along - mean_s) ** 2)
        left = spiral.off - mean_t - slope * (along - mean_s)
        kept = np.abs(left) <= max(2.5 * float(np.sqrt(part @ left**2)), 0.01)
    slope = float(np.clip(slope, -0.5, 0.5))
    turned = float(np.clip(pitch + np.arctan(slope), 0.02, np.pi / 2 - 0.02))
    # The point in the middle moves across by mean_t: outward, and back in angle.
    u = mean_s * np.sin(pitch) + mean_t * np.cos(pitch)
    angle = spiral.start + spiral.winding * mean_s * np.sin(pitch) - hand * mean_t * np.sin(pitch)
    winding = hand / np.tan(turned)
    return float(angle - winding * u), float(winding)


def _across(
    smooth: NDArray[np.float32],
    polar: PolarMap,
    line: tuple[float, float],
    span: tuple[float, float],
    reach: float,
    prominence: float,
) -> Spiral:
    """Find the ridge on profiles across a spiral."""
    start, winding = line
    hand, pitch = (1.0 if winding >= 0 else -1.0), np.arctan2(1.0, abs(winding))
    low, high = polar.log_radius[0], polar.log_radius[-1]
    count = max(8, int((min(span[1], high) - max(span[0], low)) / np.sin(pitch) / 0.03))
    u = np.linspace(max(span[0], low), min(span[1], high), min(count, 400))
    angle = start + winding * u
    t = np.linspace(-reach, reach, 41)
    at_u = u[:, None] + t * np.cos(pitch)
    at_angle = angle[:, None] - hand * t * np.sin(pitch)
    x = (at_angle % (2 * np.pi)) * N_ANGLES / (2 * np.pi) + N_ANGLES // 2
    y = (at_u - low) / ROW_STEP
    profile = cv2.remap(
        smooth, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    # The maximum nearest to the spiral: a small price on distance keeps it from a neighbour.
    peak = (profile * (1 - 0.3 * (t / reach) ** 2)).argmax(1)
    rows = np.arange(len(u))
    height = profile[rows, peak].astype(float)
    below = profile < 0.5 * height[:, None]
    index = np.arange(len(t))
    left = np.where(below & (index < peak[:, None]), index, -1).max(1) + 1
    right = np.where(below & (index > peak[:, None]), index, len(t)).min(1) - 1
    inside = (index >= left[:, None]) & (index <= right[:, None])
    weight = np.where(inside, np.clip(profile - 0.6 * height[:, None], 0, None), 0)
    off = (weight * t).sum(1) / np.maximum(weight.sum(1), 1e-9)
    # A shoulder is no ridge: to both sides it must go down.
    lowest_left = np.where(index <= peak[:, None], profile, np.inf).min(1)
    lowest_right = np.where(index >= peak[:, None], profile, np.inf).min(1)
    height[height - np.maximum(lowest_left, lowest_right) < prominence * height] = 0
    return Spiral(start, winding, u, angle, off, height, (right - left + 1) * (t[1] - t[0]))


def _lit_part(spiral: Spiral, middle: float, level: float) -> slice | None:
    """Return the part of a spiral about a radius that is lit, over gaps of up to `JOIN_GAP`."""
    lit = np.flatnonzero(spiral.height >= level)
    if len(lit) < 4:
        return None
    steps = np.diff(spiral.log_radius[lit])
    parts = np.split(lit, np.flatnonzero(steps > JOIN_GAP) + 1)
    nearest = min(parts, key=lambda part: float(np.abs(spiral.log_radius[part] - middle).min()))
    return slice(int(nearest[0]), int(nearest[-1]) + 1) if len(nearest) >= 4 else None
