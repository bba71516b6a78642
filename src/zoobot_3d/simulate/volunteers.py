"""Imperfect people who mark a simulated picture: who sees what, and what they decide to draw.

They look at the picture only (`zoobot_3d.simulate.visibility`): a lane is drawn where it stands out more than the
person needs, however bright the recipe made it. The habits were read off two real GZ3D files and ten real galaxies:
outlines of all widths, straight-sided polygons, one line for the whole spiral, circles around everything, scribbles,
single points, the outline of the IFU marked as a bar. Knows nothing of files or of galaxy recipes; how a hand moves is
in `strokes`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.simulate.galaxies import Ridge
from zoobot_3d.simulate.strokes import STEP, Hand, box, circle_around, freehand, joined, polygon, ribbon, scribble
from zoobot_3d.simulate.visibility import (
    Array,
    Body,
    Trace,
    View,
    bar_axes,
    bar_contrast,
    contrast_along,
    find_stars,
    look,
    stretches,
)
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["draw_bar_paths", "draw_marks", "draw_spiral_paths"]

ARM_THRESHOLD, ARM_SPREAD = 2.5, 0.5
"""Median contrast in JND from which a person marks an arm, and scatter of its logarithm between people."""
FOLLOW = 0.3
"""Once an arm has caught the eye it is followed as far as this part of the contrast that it took."""
BAR_THRESHOLD, BAR_SPREAD = 2.5, 0.5
SHORTEST_BAR = 15.0
"""Semi-length in pixels (1.5 arcsec) up to which nobody tells a bar from a nucleus; at twice this everybody could."""
BLANK = 0.06
"""Fraction who mark nothing whatever there is: hurried, lost, or another idea of the question."""
SINGLE_POINT = 0.02
WHIM = 0.012
"""Chance of a mark with no ground in the picture."""
TRACE_OUTLINE = 0.006
"""Chance that the outline of the IFU is marked as the bar (seen in 2 of 10 real galaxies, about 1 of 150 people)."""
SEEING_HALF_WIDTH = 0.65
"""Arcsec by which the seeing of SDSS (1.3 arcsec FWHM) widens what is seen of a lane, added in quadrature."""
_EDGE_ON = 0.35  # axis ratio below which people know that they look at a disk's edge
_STYLES = ("freehand", "polygon", "one line", "encircle", "scribble")
_STYLE_SHARES = (0.65, 0.15, 0.07, 0.07, 0.06)
_FIRST_DAY, _DAYS = dt.datetime(2017, 12, 1), 260.0
_FIRST_ID, _IDS = 80_900_000, 41_000_000  # classification ids of the real project over those days

Path = list[list[float]]


@dataclass(frozen=True)
class Person:
    """How one volunteer looks and draws.

    Attributes
    ----------
    threshold : float
        Contrast in JND from which they see a lane.
    style : str
        One of freehand, polygon, one line, encircle, scribble.
    hand : Hand
        How their outlines come out.
    most : int
        Arms they are willing to draw.
    inward : float
        Chance to carry an arm on to the nucleus.
    """

    threshold: float
    style: str
    hand: Hand
    most: int
    inward: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Person:
        """Pick someone."""
        return cls(
            threshold=ARM_THRESHOLD * float(np.exp(ARM_SPREAD * rng.standard_normal())),
            style=str(rng.choice(_STYLES, p=_STYLE_SHARES)),
            hand=Hand.draw(rng),
            most=int(rng.choice((1, 2, 3, 9), p=(0.12, 0.33, 0.15, 0.40))),
            inward=float(rng.choice((0.3, 0.95), p=(0.25, 0.75))),
        )


@dataclass(frozen=True)
class Structure:
    """What there is to mark in a galaxy.

    Attributes
    ----------
    ridges : sequence of Ridge
        Where arms run: ``xi``, ``eta``, ``half_width`` arrays in arcsec, from the inside out.
    bar_corners : numpy.ndarray or None
        (4, 2) corners (xi, eta) of the bar in arcsec, or None.
    rings : sequence of Ridge
        Closed lanes that some people take for arms.
    position : tuple of float, optional
        Position (ra, dec) in degrees that the offsets are counted from; the picture's own by default.
    """

    ridges: Sequence[Ridge]
    bar_corners: Array | None
    rings: Sequence[Ridge] = ()
    position: tuple[float, float] | None = None


def draw_marks(
    structure: Structure,
    picture: NDArray[np.uint8],
    grid: PixelGrid,
    rng: np.random.Generator,
    *,
    outline: Array | None = None,
    n_volunteers: int = 15,
) -> VolunteerMarks:
    """Let volunteers mark arms, bar, centre and stars on a picture.

    Parameters
    ----------
    structure : Structure
        Arms, bar and rings.
    picture : numpy.ndarray
        (H, W, 3) uint8, row 0 north, as shown to the volunteers but without the IFU's outline.
    grid : PixelGrid
        Of the picture.
    rng : numpy.random.Generator
        The only source of chance.
    outline : numpy.ndarray, optional
        (n, 2) pixel corners of the IFU's outline, which a few mark as the bar.
    n_volunteers : int
        Usual number of people asked; now and then a task has some more or less.

    Returns
    -------
    VolunteerMarks
        In pixels of ``grid``, nothing outside the picture.
    """
    view = look(picture)
    # The grid with its reference pixel on the galaxy: offsets in arcsec turn into this picture's pixels there.
    local = grid if structure.position is None else _centred_on(grid, structure.position)
    asked = n_volunteers + rng.choice((0, -1, 1, 2), size=3, p=(0.86, 0.05, 0.06, 0.03))
    lanes, closed = ([_trace(ridge, local) for ridge in which] for which in (structure.ridges, structure.rings))
    spiral = draw_spiral_paths(view, lanes, rng, n_asked=int(asked[0]), rings=closed)
    corners = structure.bar_corners
    if corners is not None:
        corners = np.column_stack(local.offset_to_pixel(*np.asarray(corners, float).T))
    bar = draw_bar_paths(view, corners, rng, n_asked=int(asked[1]), outline=outline)
    center, star = _draw_points(view, rng, int(asked[2]), local.reference_pixel)
    ids, times = zip(*(_classifications(int(n), rng) for n in asked), strict=True)
    return VolunteerMarks(
        grid=grid,
        spiral=PathTask.from_nested(spiral, ids[0], times[0]),
        bar=PathTask.from_nested(bar, ids[1], times[1]),
        points=PointTask.from_nested(center, star, ids[2], times[2]),
        metadata={},
    )


def draw_spiral_paths(
    view: View, lanes: Sequence[Trace], rng: np.random.Generator, *, n_asked: int = 15, rings: Sequence[Trace] = ()
) -> list[list[Path]]:
    """Draw outlines of spiral arms by each of ``n_asked`` people.

    Parameters
    ----------
    view : View
        The picture as seen.
    lanes : sequence of Trace
        True arms, in pixels, from the inside out.
    rng : numpy.random.Generator
        Source of chance.
    n_asked : int
        People.
    rings : sequence of Trace
        Closed lanes; about one person in five takes a visible one for an arm.

    Returns
    -------
    list
        For each person a list of paths, each a list of ``[x, y]``; an empty list is a blank.
    """
    lanes = [lane.resampled(STEP) for lane in lanes if len(lane.x) > 2]
    seen = [(lane, contrast_along(view, lane)) for lane in lanes]
    ring_seen = [(ring, contrast_along(view, ring)) for ring in (ring.resampled(STEP) for ring in rings)]
    chance_lanes = _look_for_lanes(view, rng)
    people: list[list[Path]] = []
    for _ in range(n_asked):
        person = Person.draw(rng)
        if rng.random() < BLANK:
            people.append([])
            continue
        parts = _visible_parts(person, seen, rng)
        if rng.random() < 0.2:
            parts += _visible_parts(person, ring_seen, rng)
        if not parts and rng.random() < 0.12:
            parts = _visible_parts(person, chance_lanes, rng)[:2]
        if not parts and rng.random() < WHIM:
            parts = [_whim(view.body, rng)]
        people.append(_draw_parts(person, parts, view, rng))
    return people


def draw_bar_paths(
    view: View, corners: Array | None, rng: np.random.Generator, *, n_asked: int = 15, outline: Array | None = None
) -> list[list[Path]]:
    """Draw corners of the bar by each of ``n_asked`` people.

    Parameters
    ----------
    view : View
        The picture as seen.
    corners : numpy.ndarray or None
        (4, 2) pixel corners of the true bar, or None.
    rng : numpy.random.Generator
        Source of chance.
    n_asked : int
        People.
    outline : numpy.ndarray, optional
        (n, 2) pixel corners of the IFU's outline.

    Returns
    -------
    list
        For each person a list with at most one path of 4 corners, unclosed.
    """
    contrast, reach = (0.0, 1.0) if corners is None else bar_contrast(view, corners)
    if corners is not None:  # what is hardly longer than the seeing looks like a nucleus
        contrast *= float(np.clip((bar_axes(corners)[2] - SHORTEST_BAR) / SHORTEST_BAR, 0, 1))
    body = view.body
    # An elongated bulge can pass for a bar; an edge-on disk does not.
    elongated = float(np.clip((0.72 - body.core_ratio) / 0.4, 0, 1)) * (body.semi_minor > _EDGE_ON * body.semi_major)
    people: list[list[Path]] = []
    for _ in range(n_asked):
        threshold = BAR_THRESHOLD * float(np.exp(BAR_SPREAD * rng.standard_normal()))
        luck = rng.random()
        if outline is not None and rng.random() < TRACE_OUTLINE:
            drawn = [_inside(outline + rng.normal(0, 1.5, outline.shape), view)]
        elif luck < SINGLE_POINT * 0.5:
            drawn = [_inside(rng.normal((body.x, body.y), 6, (1, 2)), view)]
        elif luck < BLANK:
            drawn = []
        elif corners is not None and contrast > threshold:
            middle, along, semi_length, semi_width = bar_axes(corners)
            drawn = [_inside(box(middle, along, semi_length * reach, semi_width, rng), view)]
        elif luck > 1 - WHIM - 0.07 * elongated:
            direction = np.array([np.cos(body.core_angle), np.sin(body.core_angle)])
            size = body.core_semi_major * rng.uniform(0.9, 1.5)
            drawn = [_inside(box(np.array([body.x, body.y]), direction, size, 0.5 * size, rng), view)]
        else:
            drawn = []
        people.append(drawn)
    return people


# Seeing


def _visible_parts(person: Person, seen: Sequence[tuple[Trace, Array]], rng: np.random.Generator) -> list[Trace]:
    """List the stretches of lanes one person sees, the strongest lanes first, as many as they care to draw."""
    found = []
    for lane, contrast in seen:
        step = lane.steps()[-1] / (len(lane.x) - 1)
        width = float(np.median(lane.half_width))
        needed = person.threshold * np.exp(0.2 * rng.standard_normal())
        for run in stretches(contrast > FOLLOW * needed, step, gap=4 * width, shortest=max(5 * width, 14.0)):
            if np.count_nonzero(contrast[run] > needed) * step < 3 * width:
                continue
            spare = rng.integers(-1, 4, 2) * width / step  # people stop a little early or carry on a little
            first = int(lane.inner / step)
            inward = _goes_on_inward(run.start - first, step, person, rng)
            start = 0 if inward else max(first, int(run.start - spare[0]))
            stop = min(len(lane.x), int(run.stop + spare[1]))
            part = slice(start, max(stop, start + 4))
            if len(lane.x[part]) >= 4:
                weight = float(contrast[part].sum() * step)
                found.append((weight, Trace(lane.x[part], lane.y[part], lane.half_width[part])))
    found.sort(key=lambda pair: -pair[0])
    return [part for _, part in found[: person.most]]


def _goes_on_inward(start: int, step: float, person: Person, rng: np.random.Generator) -> bool:
    """Tell whether a person carries a lane, seen from ``start`` steps after its beginning on, back to the nucleus."""
    return start * step < 90 and rng.random() < person.inward


def _look_for_lanes(view: View, rng: np.random.Generator, tries: int = 8) -> list[tuple[Trace, Array]]:
    """Try arcs at random inside the body: patchy disks and shells hold some that stand out, smooth galaxies none."""
    body = view.body
    if body.semi_minor < _EDGE_ON * body.semi_major:
        return []
    found = []
    for _ in range(tries):
        handed, length, phase = rng.choice((-1, 1)), rng.uniform(1.0, 2.2), rng.uniform(0, 2 * np.pi)
        start, pitch = rng.uniform(0.25, 0.7), np.radians(rng.uniform(5, 30))
        width = rng.uniform(0.05, 0.09) * body.semi_major
        if width < 3:
            continue
        angle = np.linspace(0, length, 40)
        radius = start * np.exp(np.tan(pitch) * angle)
        lane = _on_body(body, radius, phase + handed * angle, width).resampled(STEP)
        contrast = contrast_along(view, lane)
        if contrast.max() > 1.5:
            found.append((lane, contrast))
    return found


def _whim(body: Body, rng: np.random.Generator) -> Trace:
    """Make an arc along the body that nothing in the picture suggests."""
    angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(0.8, 2.5), 40)
    return _on_body(body, np.full(40, rng.uniform(0.3, 0.9)), angle, max(4.0, 0.1 * body.semi_major)).resampled(STEP)


def _on_body(body: Body, radius: Array, angle: Array, half_width: float) -> Trace:
    """Place polar coordinates, in units of the body's ellipse, on the picture."""
    u, v = body.semi_major * radius * np.cos(angle), body.semi_minor * radius * np.sin(angle)
    cos, sin = np.cos(body.angle), np.sin(body.angle)
    return Trace(body.x + u * cos - v * sin, body.y + u * sin + v * cos, np.full(len(u), half_width))


# Drawing


def _draw_parts(person: Person, parts: list[Trace], view: View, rng: np.random.Generator) -> list[Path]:
    """Draw one person's paths for the lanes they decided to mark."""
    hand = person.hand
    if not parts:
        return []
    if rng.random() < SINGLE_POINT:
        first = parts[0]
        return [_inside(np.array([[first.x[0], first.y[0]]]) + rng.normal(0, 6, (1, 2)), view)]
    if person.style == "encircle":
        return [_inside(circle_around(parts, hand, rng), view)]
    if person.style == "one line" and len(parts) > 1:
        parts = [joined(parts[0], parts[1])]
    paths = []
    for part in parts:
        off_x, off_y = rng.normal(0, 0.18 * float(np.median(part.half_width)) + 0.8, 2)
        shifted = Trace(part.x + off_x, part.y + off_y, part.half_width)
        outline = scribble(shifted, hand, rng) if person.style == "scribble" else ribbon(shifted, hand, rng)
        points = polygon(outline, rng) if person.style == "polygon" else freehand(outline, hand, rng)
        paths.append(_inside(points, view))
    return paths


def _inside(points: Array, view: View) -> Path:
    """Keep points on the picture, as the web page does, rounded to 0.1 px."""
    height, width = view.grey.shape
    return np.round(np.clip(points, 0, (width - 1, height - 1)), 1).tolist()


# Points, and the paper work


def _draw_points(
    view: View, rng: np.random.Generator, n_asked: int, middle: tuple[float, float]
) -> tuple[list[Path], list[Path]]:
    """Draw centre and star points of each person."""
    stars = find_stars(view)
    chance = 0.85 * (1 - np.exp(-stars[:, 2] / 25)) if len(stars) else np.zeros(0)
    centres, all_stars = [], []
    for _ in range(n_asked):
        offset = rng.normal(0, 2.0, 2)  # each screen shifts all of one person's points alike
        count = int(rng.choice((0, 1, 2), p=(0.04, 0.93, 0.03)))
        centres.append(_inside(np.array(middle) + offset + rng.normal(0, 3.0, (count, 2)), view) if count else [])
        busy = rng.random() > 0.15
        marked = stars[rng.random(len(stars)) < chance, :2] if busy else stars[:0, :2]
        all_stars.append(_inside(marked + offset + rng.normal(0, 1.5, marked.shape), view) if len(marked) else [])
    return centres, all_stars


def _classifications(n: int, rng: np.random.Generator) -> tuple[list[int], list[str]]:
    """Draw ids and time stamps of n classifications, in order, between December 2017 and August 2018."""
    when = np.sort(rng.random(n))
    ids = (_FIRST_ID + when * _IDS).astype(int) + np.arange(n)
    stamps = [_FIRST_DAY + dt.timedelta(days=float(fraction) * _DAYS) for fraction in when]
    return ids.tolist(), [f"{stamp:%Y-%m-%d %H:%M:%S} UTC" for stamp in stamps]


def _centred_on(grid: PixelGrid, position: tuple[float, float]) -> PixelGrid:
    """Return the same pixels with the reference pixel at another position of the sky."""
    point = PixelGrid((1, 1), grid.pixscale, *position)
    x, y = point.affine_to(grid)[:, 2]
    return PixelGrid(grid.shape, grid.pixscale, *position, center=(float(x), float(y)))


def _trace(ridge: Ridge, grid: PixelGrid) -> Trace:
    """Move a lane from arcsec on the sky to the picture's pixels, as wide as seeing leaves it."""
    x, y = grid.offset_to_pixel(ridge.xi, ridge.eta)
    half_width = np.hypot(ridge.half_width, SEEING_HALF_WIDTH) / grid.pixscale
    trace = Trace(x, y, np.broadcast_to(half_width, x.shape))
    return replace(trace, inner=float(trace.steps()[ridge.n_inner]))
