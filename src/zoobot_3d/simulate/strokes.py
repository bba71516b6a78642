"""How a hand draws on a picture: outlines, polygons, scribbles, circles, boxes. Pixels only.

What is worth drawing is decided elsewhere (`zoobot_3d.simulate.volunteers`). Habits and numbers are those of the real
marks of 1-304336 and 1-379196: 14 to 550 points a path, steps of 1 to 14 pixels, mostly closed, half of them crossing
themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoobot_3d.simulate.visibility import Array, Trace

STEP = 3.0
"""Pixels between points of a lane while it is thought about."""
_QUANTA = (1.0, 1.0, 0.8, 1.35, 0.5, 2.0)  # picture pixels per screen pixel, on one device or another


@dataclass(frozen=True)
class Hand:
    """How one person's outlines come out.

    Attributes
    ----------
    width : float
        Half width of their outlines, in half widths of the light.
    wobble : float
        Slow drift of the line, pixels.
    quantum : float
        Picture pixels per screen pixel: freehand moves in these.
    """

    width: float
    wobble: float
    quantum: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Hand:
        """Pick one."""
        return cls(
            width=float(np.clip(1.5 * np.exp(0.38 * rng.standard_normal()), 0.6, 3.2)),
            wobble=float(rng.uniform(0.8, 3.0)),
            quantum=float(rng.choice(_QUANTA)),
        )


def ribbon(part: Trace, hand: Hand, rng: np.random.Generator) -> Array:
    """Draw the outline (n, 2) of a lane: one side out, round the tip, the other side back."""
    n = len(part.x)
    along = np.linspace(0, 1, n)
    blunt = rng.uniform(0.03, 0.25, 2)  # how far from each end the outline narrows
    taper = np.sqrt(np.clip(along / blunt[0], 0.02, 1) * np.clip((1 - along) / blunt[1], 0.02, 1))
    width = hand.width * np.exp(0.15 * rng.standard_normal())
    half = np.maximum(width * part.half_width, 2.5) * taper
    normal_x, normal_y = part.normals()
    drift = hand.wobble * _slow_noise(n, rng), hand.wobble * _slow_noise(n, rng)
    left = np.column_stack([part.x + (half + drift[0]) * normal_x, part.y + (half + drift[0]) * normal_y])
    right = np.column_stack([part.x - (half + drift[1]) * normal_x, part.y - (half + drift[1]) * normal_y])
    outline = np.concatenate([left, right[::-1]])
    return np.roll(outline, -int(rng.integers(len(outline))) if rng.random() < 0.3 else 0, axis=0)


def scribble(part: Trace, hand: Hand, rng: np.random.Generator) -> Array:
    """Make a line (n, 2) that runs up and down the lane, crossing itself."""
    passes = int(rng.integers(2, 5))
    points = []
    normal_x, normal_y = part.normals()
    for number in range(passes):
        across = 0.8 * hand.width * part.half_width * _slow_noise(len(part.x), rng, knots=7)
        line = np.column_stack([part.x + across * normal_x, part.y + across * normal_y])
        points.append(line[::-1] if number % 2 else line)
    return np.concatenate(points)


def circle_around(parts: list[Trace], hand: Hand, rng: np.random.Generator) -> Array:
    """Draw a rough ellipse (n, 2) around all that is seen, or around its inner part."""
    x, y = np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
    middle = x.mean(), y.mean()
    covariance = np.cov(np.stack([x, y])) + np.eye(2)
    values, vectors = np.linalg.eigh(covariance)
    size = np.sqrt(2 * values) * rng.choice((0.6, 1.15, 1.4))
    angle = rng.uniform(0, 2 * np.pi) + rng.choice((-1, 1)) * np.linspace(0, 2 * np.pi, 90)
    radius = 1 + 0.07 * _slow_noise(90, rng, knots=8)
    circle = (radius * np.stack([np.cos(angle), np.sin(angle)])).T * size @ vectors.T + middle
    return freehand(circle, hand, rng)


def joined(first: Trace, second: Trace) -> Trace:
    """Join two lanes, from the tip of the first through the middle to that of the second."""
    back = first.reversed()
    pairs = ((back.x, second.x), (back.y, second.y), (back.half_width, second.half_width))
    x, y, half_width = (np.concatenate(pair) for pair in pairs)
    return Trace(x, y, half_width).resampled(STEP)


def freehand(outline: Array, hand: Hand, rng: np.random.Generator) -> Array:
    """Trace the outline as a mouse or finger leaves it: uneven steps on the screen's own pixels, mostly closed.

    The stroke often runs on past its start, which is how most self-crossings of real paths come about.
    """
    closed = np.concatenate([outline, outline[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    pace = float(np.clip(np.exp(rng.normal(1.1, 0.5)), 1.0, 9.0))
    n = int(np.clip(arc[-1] / pace, 24, 420))
    steps = rng.gamma(2.0, size=n)
    at = np.cumsum(steps) * arc[-1] / steps.sum()
    points = np.column_stack([np.interp(at, arc, closed[:, 0]), np.interp(at, arc, closed[:, 1])])
    ending = rng.random()
    if ending < 0.6:  # runs on past the start
        more = points[: int(rng.integers(3, 9))] + rng.normal(0, 2.0, 2)
        points = np.concatenate([points, more])
    elif ending < 0.72:  # lets go early
        points = points[: int(n * rng.uniform(0.9, 0.98))]
    points = (np.round(points / hand.quantum) + rng.random(2)) * hand.quantum
    keep = np.concatenate([[True], np.any(np.diff(points, axis=0) != 0, axis=1)])
    points = points[keep]
    return np.concatenate([points, points[:1]]) if rng.random() < 0.85 else points


def polygon(outline: Array, rng: np.random.Generator) -> Array:
    """Trace the outline as straight sides between a few clicked corners, with points along them, closed."""
    corners = outline[np.linspace(0, len(outline), int(rng.integers(9, 17)), endpoint=False).astype(int)]
    corners = np.concatenate([corners + rng.normal(0, 1.5, corners.shape), corners[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    at = np.union1d(arc, np.arange(0, arc[-1], rng.uniform(12, 40)))
    points = np.column_stack([np.interp(at, arc, corners[:, 0]), np.interp(at, arc, corners[:, 1])])
    points[-1] = points[0]
    return points


def box(middle: Array, along: Array, semi_length: float, semi_width: float, rng: np.random.Generator) -> Array:
    """Place the four corners (4, 2), in order, of a bar as one person clicks them."""
    turn = rng.normal(0, np.radians(4) + 0.04 * semi_width / max(semi_length, 1.0))
    cos, sin = np.cos(turn), np.sin(turn)
    direction = np.array([cos * along[0] - sin * along[1], sin * along[0] + cos * along[1]])
    across = np.array([-direction[1], direction[0]])
    length = semi_length * np.exp(rng.normal(0.0, 0.14))
    width = float(np.clip(semi_width, 0.14 * length, 0.3 * length) * np.exp(rng.normal(0.3, 0.28)))
    signs = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])[:: rng.choice((-1, 1))]
    corners = middle + rng.normal(0, 1.5, 2) + signs[:, :1] * length * direction + signs[:, 1:] * width * across
    corners += rng.normal(0, 0.04 * length + 0.6, corners.shape)
    return np.roll(corners, int(rng.integers(4)), axis=0)


def _slow_noise(n: int, rng: np.random.Generator, knots: int = 9) -> Array:
    """Draw smooth noise of unit scatter at the knots, (n,)."""
    at = np.linspace(0, knots - 1, n)
    left = np.minimum(at.astype(int), knots - 2)
    blend = (1 - np.cos(np.pi * (at - left))) / 2
    values = rng.standard_normal(knots)
    return np.asarray(values[left] * (1 - blend) + values[left + 1] * blend)
