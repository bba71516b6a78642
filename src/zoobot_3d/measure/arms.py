"""Spiral arms: pitch angle, hand, extent and width of each, and what they have in common.

Works on one array of fractions and its pixel grid. The ridges come from `zoobot_3d.measure.ridges`, and the
spirals fitted to them from `zoobot_3d.measure.spirals`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import GridError
from zoobot_3d.measure.disk import FACE_ON, Disk
from zoobot_3d.measure.flags import bits
from zoobot_3d.measure.maps import check_fractions
from zoobot_3d.measure.ridges import FAINT_PROMINENCE, PolarMap, polar_map, slant, trace_ridges
from zoobot_3d.measure.spirals import Spiral, fit_spiral
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["ARM_LEVEL", "WINDINGS", "Arm", "Arms", "measure_arms", "trace_arm"]

Hand = Literal["S", "Z", ""]

WINDINGS: dict[str, str] = {"S": "outward clockwise", "Z": "outward anticlockwise", "": ""}
"""What the hand of an arm means on a picture with north up and east to the left: the way that one turns when one
follows the arm from the centre outward. The letters S and Z are drawn in these senses."""

ARM_LEVEL = 0.35
"""Where an arm ends, as a fraction of the mask's peak."""

LEAST_PEAK, FAINT = 0.2, 0.45
"""Masks whose peak is below the first show nothing; arms in those below the second are flagged as faint."""

_SWEEP = (0.25, 0.50)
_LIT = 0.15  # of the highest value: what is lit
_WITHOUT_BAR = 0.2  # of the outer radius: within, arms cannot be told from a nucleus
_BAR_REACH = 0.9  # of the bar's semi-length in the plane: arms begin there
_LEAST_TURN = np.radians(20.0)
# What is steeper is a blob or the end of a bar: of 137 spirals that Galaxy Builder (Lingard et al. 2021) fitted to
# the lines of volunteers in 75 galaxies, 5 are; so are 14 of 24 false arms of simulated galaxies.
_STEEPEST = 45.0
_LEAST_LENGTH = 0.25  # of the outer radius of the arms
_LEAST_SHARE = 0.15  # of the longest arm's length times height
_ALIKE = 1.5  # ratio of the pitch angles of a faint arm and the others
_CLOSED = 0.92  # of a circle
_RING_PITCH, _RING_TURN = np.radians(4.0), np.radians(300.0)
# Chosen so that 68% of simulated galaxies lie within the error of the mean pitch, see benchmarks/measure.py: factors of
# the error of the fits, whose residuals are not independent, and of the scatter over levels; and the least error (deg).
_FIT_FACTOR, _SWEEP_FACTOR, _PITCH_FLOOR = 2.4, 1.8, 0.2
# A mask of fraction p is the vote of about 15 volunteers: relative error sqrt((1 - p) / 15 p). Arms that turn by 90 deg
# in all have 20 deg of error in pitch for each unit of it, those that turn by more have less.
_VOTERS, _VOTE_FACTOR = 15, 20.0
_LEAST_SLANT = 0.1  # above, the hand of nine in ten simulated galaxies whose ridges cannot be traced is right


@dataclass(frozen=True)
class Arm:
    """One arm in the plane of the disk, as a logarithmic spiral.

    Attributes
    ----------
    pitch, pitch_err : float
        Pitch angle, deg: 0 is a circle, 90 a radius.
    hand : {"S", "Z"}
        ``"S"``: followed outward it turns clockwise on a picture with north up and east to the left; ``"Z"``:
        anticlockwise.
    r_inner, r_outer : float
        Radii of its ends, arcsec.
    angle_inner : float
        Angle of its inner end in the plane of the disk from the line of nodes, deg north through east, 0-360.
    turn : float
        Angle between its ends about the centre, deg.
    length : float
        Along the arm, arcsec.
    width, width_inner, width_outer : float
        Width across the arm at half of its height, mean over all of it and over its inner and outer half, arcsec.
    height : float
        Mean fraction of volunteers along the ridge.
    rms : float
        Scatter of the ridge about the spiral, deg of angle about the centre.
    """

    pitch: float
    pitch_err: float
    hand: Hand
    r_inner: float
    r_outer: float
    angle_inner: float
    turn: float
    length: float
    width: float
    width_inner: float
    width_outer: float
    height: float
    rms: float

    @property
    def winding(self) -> str:
        """The hand in words, see `WINDINGS`."""
        return WINDINGS[self.hand]

    def row(self) -> dict[str, Any]:
        """Return the columns of a table of arms."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"winding": self.winding}


@dataclass(frozen=True)
class Arms:
    """All arms of a galaxy; NaN where there is no answer.

    Attributes
    ----------
    arms : tuple of Arm
        Longest first.
    pitch, pitch_err : float
        Mean pitch angle, deg, weighted by the length of the arms, over those of the majority's hand.
    hand : {"S", "Z", ""}
        That of the longer arms together; without arms that of the mask as a whole, if it has one.
    n_arms : int
        Arms of the majority's hand.
    n_arms_err : float
        Scatter of their number over levels.
    has_ring : bool
        Whether the mask closes about the centre.
    peak : float
        98th percentile of what is lit of the mask.
    flags : int
        See `zoobot_3d.measure.flags`.
    """

    arms: tuple[Arm, ...] = ()
    pitch: float = np.nan
    pitch_err: float = np.nan
    hand: Hand = ""
    n_arms: int = 0
    n_arms_err: float = np.nan
    has_ring: bool = False
    peak: float = np.nan
    flags: int = 0

    def row(self) -> dict[str, Any]:
        """Return the columns of a table of galaxies; without the flags."""
        return {
            "n_arms": self.n_arms,
            "n_arms_err": self.n_arms_err,
            "pitch": self.pitch,
            "pitch_err": self.pitch_err,
            "hand": self.hand,
            "winding": WINDINGS[self.hand],
            "arm_length_total": float(sum(arm.length for arm in self.arms)) if self.arms else np.nan,
            "arm_peak": self.peak,
        }


def measure_arms(
    mask: NDArray[np.floating],
    grid: PixelGrid,
    *,
    disk: Disk | None = None,
    bar_semi_major: float = 0.0,
    sigma: NDArray[np.floating] | None = None,
    centre: tuple[float, float] | None = None,
) -> Arms:
    """Measure the arms in a mask.

    The mask is deprojected onto axes of angle and ln r, its ridges are traced, and a straight line, weighted by length
    and the fraction of volunteers, is fitted to each: its slope is the tangent of the pitch angle. Ridges that touch
    stay apart, and pieces on one spiral are one arm. All levels are relative to the mask's peak: a fainter mask of the
    same shape has the same arms, with larger errors. Where no ridge can be traced, the mask as a whole may have a hand.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) fractions of volunteers in 0-1, row 0 north, column 0 east; NaN outside the field.
    grid : PixelGrid
        Its pixels. Without a pixel scale, lengths in arcsec are NaN; angles are not concerned.
    disk : Disk, optional
        To deproject with; face-on by default.
    bar_semi_major : float
        Semi-length in the plane of the disk of the bar, if there is one, px; arms are looked for beyond it.
    sigma : numpy.ndarray, optional
        (H, W) standard deviation of each pixel; the change of the mean pitch by it becomes a part of the error.
    centre : tuple of float, optional
        (x, y) of the galaxy's centre, px; the grid's reference pixel by default.

    Returns
    -------
    Arms

    Raises
    ------
    GridError
        If the mask does not have the shape of its grid, or its values are no fractions.
    """
    array = np.asarray(mask, np.float32)
    if array.shape != grid.shape:
        raise GridError(f"a mask of shape {array.shape} does not lie on a grid of {grid.shape}")
    check_fractions(array)
    field = np.isfinite(array)
    known = np.where(field, array, np.float32(0))
    at = grid.reference_pixel if centre is None else centre
    plane = disk or FACE_ON
    highest = float(np.asarray(cv2.blur(known, (3, 3))).max())
    if highest < LEAST_PEAK:
        return Arms(peak=highest, flags=bits("no_arms"))
    peak = float(np.percentile(known[known > _LIT * highest], 98))
    faint = ["arms_faint"] if highest < FAINT else []
    found = _arms_at(known, field, at, plane, bar_semi_major, ARM_LEVEL * peak)
    if found is None or not found[0]:
        _, closed, tilt = found or ([], False, 0.0)
        flags = bits("arms_untraced", *faint, *(["ring"] if closed else []))
        return Arms(peak=peak, hand=_hand_of(tilt), has_ring=closed, flags=flags)
    arms, closed, _ = found
    hand, pitch, pitch_err = _mean(arms)
    own = [arm for arm in arms if arm.hand == hand]
    swept = [_arms_at(known, field, at, plane, bar_semi_major, level * peak) for level in _SWEEP]
    others = [other[0] for other in swept if other is not None and other[0]]
    changed = []
    for sign in (-1, 1) if sigma is not None else ():
        moved = np.clip(known + sign * np.nan_to_num(np.asarray(sigma, np.float32)), 0, 1)
        other = _arms_at(moved, field, at, plane, bar_semi_major, ARM_LEVEL * peak)
        changed += [_mean(other[0])[1] - pitch] if other is not None and other[0] else []
    scatter = [_mean(other)[1] - pitch for other in others]
    parts = [
        pitch_err,
        _SWEEP_FACTOR * _rms(scatter),
        _rms(changed),
        _of_disk(own, plane),
        _of_votes(own, highest),
    ]
    counts = [sum(arm.hand == hand for arm in other) for other in others]
    is_cut = _is_cut(known, field, ARM_LEVEL * peak)
    flagged = {"arms_cut": is_cut, "arms_both_hands": len(own) < len(arms), "ring": closed}
    return Arms(
        tuple(_scaled(arm, grid.pixscale) for arm in arms),
        pitch,
        float(np.sqrt(np.square(parts).sum())),
        hand,
        len(own),
        float(np.sqrt(np.mean([(count - len(own)) ** 2 for count in counts]))) if counts else np.nan,
        closed,
        peak,
        bits(*faint, *(name for name, holds in flagged.items() if holds)),
    )


def trace_arm(
    pitch: float, hand: str, radii: tuple[float, float], angle_inner: float, disk: Disk = FACE_ON, *, count: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the logarithmic spiral of an arm on the sky.

    Parameters
    ----------
    pitch : float
        Pitch angle, deg, above 0 and below 90.
    hand : {"S", "Z"}
        See `Arm`.
    radii : tuple of float
        Of its ends in the plane of the disk, inner first.
    angle_inner : float
        Angle of its inner end in the plane from the line of nodes, deg north through east.
    disk : Disk
        The plane; face-on by default.
    count : int
        Points; by default one for every 4 deg that it turns.

    Returns
    -------
    dx, dy : numpy.ndarray
        (count,) offsets from the centre to the west and to the south, in the unit of `radii`.
    """
    end = float(np.log(radii[1] / radii[0]))
    slope = 1 / float(np.tan(np.radians(pitch)))
    log_radius = np.linspace(0, end, count or max(8, int(np.degrees(end * slope) / 4) + 2))
    radius, angle = (
        radii[0] * np.exp(log_radius),
        np.radians(angle_inner) + (1 if hand == "Z" else -1) * log_radius * slope,
    )
    return disk.to_sky(radius * np.cos(angle), radius * np.sin(angle))


def _rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0


def _hand_of(tilt: float) -> Hand:
    """Hand of a mask whose ridges cannot be traced."""
    if abs(tilt) < _LEAST_SLANT:
        return ""
    return "Z" if tilt > 0 else "S"


def _of_votes(arms: list[Arm], peak: float) -> float:
    """Error of the mean pitch that a few volunteers leave: the larger, the less the arms turn (deg)."""
    share = min(peak, 1.0)
    return _VOTE_FACTOR * float(np.sqrt((1 - share) / (_VOTERS * share))) * 90 / sum(arm.turn for arm in arms)


def _of_disk(arms: list[Arm], disk: Disk) -> float:
    """Error of the mean pitch from those of the disk: the same arms on the sky, deprojected otherwise (deg)."""
    if not (disk.inclination_err or disk.pa_err):
        return 0.0
    weight = np.array([arm.length for arm in arms])
    changes = []
    for other in disk.variants():
        pitches = []
        for arm in arms:
            on_sky = trace_arm(arm.pitch, arm.hand, (arm.r_inner, arm.r_outer), arm.angle_inner, disk, count=40)
            x, y = other.to_plane(*on_sky)
            radius = np.hypot(x, y)
            slope = np.polyfit(np.log(radius), np.unwrap(np.arctan2(y, x)), 1, w=np.sqrt(radius))[0]
            pitches.append(float(np.degrees(np.arctan2(1, abs(slope)))) - arm.pitch)
        changes.append(float(np.average(pitches, weights=weight)))
    return float(np.sqrt(np.square(changes).sum() / 2))  # each cause to both sides


def _is_cut(mask: NDArray[np.float32], field: NDArray[np.bool_], level: float) -> bool:
    """Tell whether arms reach the edge of what is known."""
    inner = np.zeros_like(field)
    inner[1:-1, 1:-1] = field[1:-1, 1:-1]
    inside = cv2.erode(inner.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return bool(((mask >= level) & ~inside).any())


def _arms_at(
    mask: NDArray[np.float32],
    field: NDArray[np.bool_],
    at: tuple[float, float],
    disk: Disk,
    bar_semi_major: float,
    level: float,
) -> tuple[list[Arm], bool, float] | None:
    """Trace and fit the arms above a level, in px; tell whether there is a ring, and the slant of the whole mask.

    None if the mask is empty there. Arms that wind against the slant are none.
    """
    shown = np.where(mask >= 0.5 * level, mask, 0).astype(np.float32)
    inner = _BAR_REACH * bar_semi_major
    polar = polar_map(shown, field, at, disk, inner)
    if polar is None:
        return None
    outer = float(np.exp(polar.log_radius[-1]))
    rows = np.exp(polar.log_radius) >= max(inner, _WITHOUT_BAR * outer)
    if rows.sum() < 4:
        return None
    polar = PolarMap(polar.values[rows], polar.known[rows], polar.log_radius[rows])
    tilt, winding = slant(polar)
    arms, closed = _agreeing(polar, level, outer, tilt)
    if not arms and not closed and tilt:
        arms, closed = _agreeing(polar, level, outer, tilt, winding)
    return sorted(arms, key=lambda arm: -arm.length), closed or _has_ring(polar, level), tilt


def _agreeing(
    polar: PolarMap, level: float, outer: float, tilt: float, winding: float | None = None
) -> tuple[list[Arm], bool]:
    """Describe the arms that are long enough, if they wind as the slant says; tell whether one of them is a ring."""
    arms, closed = [], False
    for arm in (_described(spiral) for spiral in _spirals(polar, level, winding)):
        if np.radians(arm.pitch) < _RING_PITCH and np.radians(arm.turn) > _RING_TURN:
            closed = True
        elif arm.pitch <= _STEEPEST and np.radians(arm.turn) >= _LEAST_TURN and arm.length >= _LEAST_LENGTH * outer:
            arms.append(arm)
    if arms:
        strongest = max(arm.length * arm.height for arm in arms)
        arms = [arm for arm in arms if arm.length * arm.height >= _LEAST_SHARE * strongest]
    if arms and (_mean(arms)[0] == "Z") != (tilt > 0):
        arms = []
    return arms, closed


def _spirals(polar: PolarMap, level: float, first: float | None) -> list[Spiral]:
    """Fit the ridges that stand out and, as arms of a galaxy wind alike, fainter ones with the same winding.

    ``first`` is a winding to begin with; by default it is that of the Fourier modes.
    """
    found = [fit_spiral(polar, ridge, level) for ridge in trace_ridges(polar, level, first)]
    spirals = _distinct([spiral for spiral in found if spiral is not None])
    if not spirals:
        return []
    lengths = np.array([_length(spiral) for spiral in spirals])
    positive = np.array([spiral.winding > 0 for spiral in spirals])
    hand = bool(lengths[positive].sum() >= lengths[~positive].sum())
    own = positive == hand
    pitch = float(np.average([spiral.pitch for spiral in spirals], weights=lengths * own))
    winding = (1 if hand else -1) / np.tan(pitch)
    faint = trace_ridges(polar, level, winding, FAINT_PROMINENCE)
    for found_one in (fit_spiral(polar, ridge, level, FAINT_PROMINENCE) for ridge in faint):
        if found_one is not None and (found_one.winding > 0) == hand and _ALIKE > found_one.pitch / pitch > 1 / _ALIKE:
            spirals = _distinct([*spirals, found_one])
    return spirals


def _distinct(spirals: list[Spiral]) -> list[Spiral]:
    """Leave out spirals that run along a longer one: pieces of one ridge that grew together."""
    kept: list[Spiral] = []
    for spiral in sorted(spirals, key=lambda one: -_length(one)):
        if not any(_overlap(spiral, other) > 0.5 for other in kept):
            kept.append(spiral)
    return kept


def _length(spiral: Spiral) -> float:
    return float((np.exp(spiral.log_radius[-1]) - np.exp(spiral.log_radius[0])) / np.sin(spiral.pitch))


def _overlap(spiral: Spiral, other: Spiral) -> float:
    """Part of a spiral's length that lies within the half width of another."""
    along = (spiral.log_radius >= other.log_radius[0]) & (spiral.log_radius <= other.log_radius[-1])
    apart = spiral.angle - other.start - other.winding * spiral.log_radius
    apart = np.abs((apart + np.pi) % (2 * np.pi) - np.pi) * np.sin(other.pitch)
    near = along & (apart < 0.5 * float(np.median(other.width)))
    weight = np.exp(spiral.log_radius)
    return float(weight[near].sum() / weight.sum())


def _has_ring(polar: PolarMap, level: float) -> bool:
    """Tell whether circles are closed that have darker ones within them."""
    lit = (polar.values >= level).mean(1)
    closed = np.flatnonzero(lit >= _CLOSED)
    return bool(len(closed) and (lit[: closed[0]] < 0.7).sum() >= 4)


def _scaled(arm: Arm, pixscale: float) -> Arm:
    """Turn an arm in px into one in arcsec; NaN without a pixel scale."""
    lengths = ("r_inner", "r_outer", "length", "width", "width_inner", "width_outer")
    return replace(arm, **{name: getattr(arm, name) * pixscale for name in lengths})


def _described(spiral: Spiral) -> Arm:
    """Turn a fitted spiral into an arm in px and deg."""
    radius, pitch = np.exp(spiral.log_radius), spiral.pitch
    weight = spiral.height * radius
    off = spiral.off - np.average(spiral.off, weights=weight)
    scatter = float(np.sqrt(np.average(off**2, weights=weight)))  # over the radius
    length = float((radius[-1] - radius[0]) / np.sin(pitch))
    lit = spiral.height > 0
    across = radius[lit] * spiral.width[lit]
    # Points closer together than the arm is wide are not independent.
    independent = max(3.0, length / max(float(np.mean(across)), 1.0))
    along = spiral.log_radius / np.sin(pitch)
    spread = float(np.sqrt(np.average((along - np.average(along, weights=weight)) ** 2, weights=weight)))
    error = _FIT_FACTOR * scatter / (max(spread, 1e-3) * np.sqrt(independent))
    half = len(across) // 2
    return Arm(
        float(np.degrees(pitch)),
        float(np.hypot(np.degrees(error), _PITCH_FLOOR)),
        "Z" if spiral.winding > 0 else "S",
        float(radius[0]),
        float(radius[-1]),
        float(np.degrees(spiral.angle[0]) % 360),
        float(np.degrees(abs(spiral.angle[-1] - spiral.angle[0]))),
        length,
        float(across.mean()),
        float(across[:half].mean()),
        float(across[half:].mean()),
        float(spiral.height[lit].mean()),
        float(np.degrees(scatter / np.sin(pitch))),
    )


def _mean(arms: list[Arm]) -> tuple[Hand, float, float]:
    """Hand of the longer arms together, their mean pitch by length, and its error (deg)."""
    signed = {hand: sum(arm.length for arm in arms if arm.hand == hand) for hand in ("S", "Z")}
    hand: Hand = "Z" if signed["Z"] >= signed["S"] else "S"
    own = [arm for arm in arms if arm.hand == hand]
    pitch, error, length = (np.array([getattr(arm, name) for arm in own]) for name in ("pitch", "pitch_err", "length"))
    weight = length / length.sum()
    mean = float((weight * pitch).sum())
    formal = float(np.sqrt((weight**2 * error**2).sum()))
    return hand, mean, formal
