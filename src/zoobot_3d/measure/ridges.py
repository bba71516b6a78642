"""Ridges of an arm mask on log-polar axes: found row by row, linked outward, and joined over gaps.

On axes of angle and logarithm of radius a logarithmic spiral is a straight line. The pitch that most of the mask shares
is found first (as Puerari & Dottori 1992, A&AS 93, 469, and Davis et al. 2012, ApJS 199, 33, do with Fourier modes),
and the map is sheared by it: arms stand upright, at angles of their own, also where they touch. Knows arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from zoobot_3d.measure.disk import Disk

__all__ = [
    "FAINT_PROMINENCE",
    "JOIN_GAP",
    "N_ANGLES",
    "PROMINENCE",
    "ROW_STEP",
    "Floats",
    "PolarMap",
    "Ridge",
    "common_winding",
    "polar_map",
    "slant",
    "trace_ridges",
]

Floats = NDArray[np.float64]

N_ANGLES = 360
ROW_STEP = 0.025  # of ln r
_LEAST_RADIUS = 3.0  # px
_STEEPEST, _FLATTEST = 60.0, 4.0  # deg of pitch
_MODES = 12
_SMOOTH_ANGLE, _SMOOTH_ROWS = 3.0, 1.0  # columns, rows
PROMINENCE, FAINT_PROMINENCE = 0.2, 0.07
"""Part of its height by which a ridge stands out on both sides; and where the winding is known already."""

_STEP = 0.22  # rad that a ridge may move from a row to the next
_GAP = 0.15  # of ln r that tracing goes on over
JOIN_GAP, _JOIN_ANGLE = 0.7, 0.40  # of ln r, rad: pieces of one arm
_LEAST_ROWS = 4
_MOST = 10  # ridges, longest first: galaxies have fewer arms


@dataclass(frozen=True)
class PolarMap:
    """A mask in the plane of a disk.

    Attributes
    ----------
    values : numpy.ndarray
        (rows, N_ANGLES) fractions; 0 where nothing is known.
    known : numpy.ndarray
        (rows, N_ANGLES), False outside the field.
    log_radius : numpy.ndarray
        (rows,) ln of the radius in px.
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    log_radius: Floats

    @cached_property
    def twice_around(self) -> NDArray[np.float32]:
        """The values, a little smoothed, with half a turn more at either side: (rows, 2 N_ANGLES)."""
        half = N_ANGLES // 2
        padded = np.concatenate([self.values[:, -half:], self.values, self.values[:, :half]], axis=1)
        return np.asarray(cv2.GaussianBlur(padded, (0, 0), 1.5), np.float32)


@dataclass
class Ridge:
    """Points of a ridge, from inside outward.

    Attributes
    ----------
    log_radius, angle, height, width : list of float
        ln of the radius in px; rad from the line of nodes, going on through full turns; fraction of volunteers; and
        width of the ridge at half of its height along the circle, rad.
    """

    log_radius: list[float] = field(default_factory=list)
    angle: list[float] = field(default_factory=list)
    height: list[float] = field(default_factory=list)
    width: list[float] = field(default_factory=list)

    def add(self, log_radius: float, angle: float, height: float, width: float) -> None:
        """Append a point."""
        self.log_radius.append(log_radius)
        self.angle.append(angle)
        self.height.append(height)
        self.width.append(width)

    def line(self, last: int | None = None) -> tuple[float, float]:
        """Angle at ln r = 0, and its change with ln r, of a weighted straight line through all or the last points."""
        part = slice(None) if last is None else slice(-last, None)
        u, angle, weight = (np.asarray(values[part]) for values in (self.log_radius, self.angle, self.height))
        weight = weight * np.exp(u - u.max())  # by length
        weight = weight / weight.sum()
        mean_u, mean_angle = weight @ u, weight @ angle
        spread = weight @ (u - mean_u) ** 2
        slope = weight @ ((u - mean_u) * (angle - mean_angle)) / spread if spread > 0 else 0.0
        return float(mean_angle - slope * mean_u), float(slope)


def polar_map(
    mask: NDArray[np.float32], field_: NDArray[np.bool_], centre: tuple[float, float], disk: Disk, inner: float
) -> PolarMap | None:
    """Sample a mask on log-polar axes in the plane of the disk.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) fractions.
    field_ : numpy.ndarray
        (H, W), True where they are known.
    centre : tuple of float
        (x, y), px.
    disk : Disk
        Its plane.
    inner : float
        Radius in the plane to begin at, px.

    Returns
    -------
    PolarMap or None
        None if the mask is 0 beyond ``inner``.
    """
    rows, columns = np.nonzero(mask > 0)
    if not len(rows):
        return None
    radius = np.hypot(*disk.to_plane(columns - centre[0], rows - centre[1]))
    first, last = np.log(max(inner, _LEAST_RADIUS)), np.log(max(radius.max(), 1.0))
    if last - first < _LEAST_ROWS * ROW_STEP:
        return None
    log_radius = np.arange(first, last, ROW_STEP)
    angle = np.arange(N_ANGLES) * 2 * np.pi / N_ANGLES
    r = np.exp(log_radius)[:, None]
    dx, dy = disk.to_sky(r * np.cos(angle), r * np.sin(angle))
    x, y = (dx + centre[0]).astype(np.float32), (dy + centre[1]).astype(np.float32)
    values = np.asarray(cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderValue=0), np.float32)
    known = cv2.remap(field_.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderValue=0) > 0
    return PolarMap(values, known, log_radius)


def common_winding(polar: PolarMap, level: float) -> float:
    """Return the change of angle with ln r that most of a mask shares: the cotangent of its pitch, signed.

    The power of Fourier modes in angle, summed along lines of each winding over all modes. Positive winds outward in
    the sense of the angle.
    """
    light = np.clip(polar.values - 0.5 * level, 0, level)
    # A step of ln r is as long on the sky as the radius is large.
    modes = np.fft.rfft(light, axis=1)[:, 1 : _MODES + 1] * np.exp(polar.log_radius)[:, None]
    pitches = np.radians(np.geomspace(_FLATTEST, _STEEPEST, 45))
    windings = np.concatenate([-1 / np.tan(pitches), 1 / np.tan(pitches[::-1])])
    u = polar.log_radius - polar.log_radius.mean()
    orders = np.arange(1, modes.shape[1] + 1)
    power = np.empty(len(windings))
    for index, winding in enumerate(windings):
        power[index] = (np.abs((modes * np.exp(1j * winding * u[:, None] * orders)).sum(0)) ** 2).sum()
    return float(windings[int(power.argmax())])


def slant(polar: PolarMap) -> tuple[float, float]:
    """Tell which way a whole mask winds, from the directions of its gradients; no ridge need be found.

    From the structure tensor (Bigun & Granlund 1987) on axes of angle and ln r.

    Parameters
    ----------
    polar : PolarMap
        The mask.

    Returns
    -------
    slant : float
        The component that is odd in the angle over the trace, -1 to 1; positive winds outward in the sense of the
        angle.
    winding : float
        Change of angle with ln r along the mean direction of the mask.
    """
    margin = 12
    padded = np.concatenate([polar.values[:, -margin:], polar.values, polar.values[:, :margin]], axis=1)
    smooth = np.asarray(cv2.GaussianBlur(padded, (0, 0), 1.5), float)
    by_row, by_angle = np.gradient(smooth, ROW_STEP, 2 * np.pi / N_ANGLES)
    # A step of angle and one of ln r are as long on the sky as the radius is large.
    weight = np.exp(2 * (polar.log_radius - polar.log_radius[-1]))[:, None]
    inside = slice(margin, -margin)
    rows, angles, both = (
        float((weight * one[:, inside] * other[:, inside]).sum())
        for one, other in ((by_row, by_row), (by_angle, by_angle), (by_row, by_angle))
    )
    if rows + angles <= 0:
        return 0.0, 0.0
    across = 0.5 * np.arctan2(2 * both, angles - rows)  # from the axis of angles, of the steepest gradient
    return -2 * both / (rows + angles), -float(np.tan(across))


def trace_ridges(
    polar: PolarMap, level: float, winding: float | None = None, prominence: float = PROMINENCE
) -> list[Ridge]:
    """Find the ridges of a mask above a level.

    Parameters
    ----------
    polar : PolarMap
        The mask.
    level : float
        Ridges are at least as high.
    winding : float, optional
        Of the arms; `common_winding` by default.
    prominence : float
        Part of its height by which a ridge stands out on both sides.

    Returns
    -------
    list of Ridge
        Longest first, at most ten. Pieces of one arm are one ridge.
    """
    winding = common_winding(polar, level) if winding is None else winding
    shift = winding * (polar.log_radius - polar.log_radius[0])
    upright = _sheared(polar.values, shift)
    smooth = gaussian_filter1d(upright, _SMOOTH_ANGLE, axis=1, mode="wrap")
    smooth = gaussian_filter1d(smooth, _SMOOTH_ROWS, axis=0, mode="nearest")
    pieces = _linked(smooth, polar.log_radius, level, prominence)
    joined = _joined([piece for piece in pieces if len(piece.angle) >= _LEAST_ROWS])
    for ridge in joined:
        turned = np.asarray(ridge.angle) + winding * (np.asarray(ridge.log_radius) - polar.log_radius[0])
        ridge.angle = turned.tolist()
    return sorted(joined, key=lambda ridge: -len(ridge.angle))[:_MOST]


def _sheared(values: NDArray[np.float32], shift: Floats) -> NDArray[np.float32]:
    """Turn each row back by an angle, rad, with linear interpolation."""
    columns = np.arange(N_ANGLES) + shift[:, None] * (N_ANGLES / (2 * np.pi))
    low = np.floor(columns).astype(int)
    part = (columns - low).astype(np.float32)
    rows = np.arange(len(values))[:, None]
    return values[rows, low % N_ANGLES] * (1 - part) + values[rows, (low + 1) % N_ANGLES] * part


@numba.njit(cache=True, nogil=True)
def _peaks(row, level, prominence):  # type: ignore[no-untyped-def]
    """Angle (rad), height, and width at half height (rad) of the maxima of a row that closes on itself, (n, 3).

    A maximum stands out by its height over the higher one of the lowest values between it and a higher maximum to
    either side, as `scipy.signal.peak_prominences` has it.
    """
    n = len(row)
    start = int(row.argmin())  # no maximum is cut there
    turned = np.concatenate((row[start:], row[:start]))
    step = 2 * np.pi / n
    found = np.empty((n // 2, 3))
    count = 0
    for place in range(1, n - 1):
        height = turned[place]
        if height < level or turned[place - 1] >= height or turned[place + 1] > height:
            continue
        lowest_left = lowest_right = height
        at = place
        while at > 0 and turned[at - 1] <= height:
            at -= 1
            lowest_left = min(lowest_left, turned[at])
        at = place
        while at < n - 1 and turned[at + 1] <= height:
            at += 1
            lowest_right = min(lowest_right, turned[at])
        if height - max(lowest_left, lowest_right) < prominence * height:
            continue
        half, slack = height / 2, 1e-3 * height
        left = right = place
        while left > 0 and turned[left] > half and turned[left - 1] <= turned[left] + slack:
            left -= 1
        while right < n - 1 and turned[right] > half and turned[right + 1] <= turned[right] + slack:
            right += 1
        # The centroid of the upper half is steadier than the highest pixel.
        total = moment = 0.0
        for near in range(max(left, place - 12), min(right, place + 12) + 1):
            weight = max(turned[near] - half, 0.0)
            total += weight
            moment += weight * near
        found[count, 0] = (moment / max(total, 1e-9) + start) * step
        found[count, 1] = height
        found[count, 2] = (right - left) * step
        count += 1
    return found[:count]


def _linked(smooth: NDArray[np.float32], log_radius: Floats, level: float, prominence: float) -> list[Ridge]:
    """Follow maxima from row to row."""
    done: list[Ridge] = []
    active: list[Ridge] = []
    for row, u in zip(smooth, log_radius, strict=True):
        still = [ridge for ridge in active if u - ridge.log_radius[-1] <= _GAP]
        done += [ridge for ridge in active if u - ridge.log_radius[-1] > _GAP]
        peaks = _peaks(row, level, prominence).tolist()
        pairs = []
        for r, ridge in enumerate(still):
            expected = _expected(ridge, float(u))
            for p, (angle, _, _) in enumerate(peaks):
                off = (angle - expected + np.pi) % (2 * np.pi) - np.pi
                if abs(off) < _STEP:
                    pairs.append((abs(off), r, p, expected + off))
        used_ridges: set[int] = set()
        used_peaks: set[int] = set()
        for _, r, p, angle in sorted(pairs):
            if r not in used_ridges and p not in used_peaks:
                used_ridges.add(r)
                used_peaks.add(p)
                still[r].add(float(u), angle, *peaks[p][1:])
        for p, peak in enumerate(peaks):
            if p not in used_peaks:
                fresh = Ridge()
                fresh.add(float(u), *peak)
                still.append(fresh)
        active = still
    return done + active


def _expected(ridge: Ridge, log_radius: float) -> float:
    """Angle where a ridge is to go on: on the line through its last points, or straight up."""
    if len(ridge.angle) < 8:
        return ridge.angle[-1]
    start, slope = ridge.line(16)
    on_line = start + slope * log_radius
    return 0.5 * (ridge.angle[-1] + on_line)


def _joined(pieces: list[Ridge]) -> list[Ridge]:
    """Join pieces whose lines meet in the gap between them, nearest first."""
    pieces = list(pieces)
    while True:
        best: tuple[float, int, int, float] | None = None
        for i, inner in enumerate(pieces):
            for j, outer in enumerate(pieces):
                gap = outer.log_radius[0] - inner.log_radius[-1]
                if i == j or not -2 * ROW_STEP < gap < JOIN_GAP:
                    continue
                off, turns = _mismatch(inner, outer)
                if abs(off) < _JOIN_ANGLE and (best is None or abs(off) + gap < best[0]):
                    best = (abs(off) + gap, i, j, turns)
        if best is None:
            return pieces
        _, i, j, turns = best
        inner, outer = pieces[i], pieces[j]
        together = Ridge(
            inner.log_radius + outer.log_radius,
            inner.angle + [angle + turns for angle in outer.angle],
            inner.height + outer.height,
            inner.width + outer.width,
        )
        pieces = [piece for index, piece in enumerate(pieces) if index not in (i, j)] + [together]


def _mismatch(inner: Ridge, outer: Ridge) -> tuple[float, float]:
    """Angle between two pieces in the middle of the gap, and the full turns to add to the outer one (rad)."""
    middle = (inner.log_radius[-1] + outer.log_radius[0]) / 2
    ends = []
    for piece, end in ((inner, -1), (outer, 0)):
        last = min(len(piece.angle), 16)
        part = piece if end == -1 else Ridge(*(values[:last] for values in vars(piece).values()))
        _, slope = part.line(last)
        # In upright arms slopes are small; a short piece's own slope says little.
        trust = min(1.0, last / 16)
        ends.append(piece.angle[end] + trust * slope * (middle - piece.log_radius[end]))
    off = ends[1] - ends[0]
    wrapped = (off + np.pi) % (2 * np.pi) - np.pi
    return wrapped, wrapped - off
