"""What an eye can see in a picture: contrast of arms and bars, the body of the galaxy, stars. Pixels only.

Works on the picture alone, plus where to look; it never learns how bright the recipe made a thing. Contrast is in units
of the just-noticeable difference (JND): a grey step that most people see half of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating]

GREY_JND = 2.0
"""Smallest step, in 8-bit grey levels, seen on black: a screen's own limit of about one part in a hundred."""
WEBER = 0.012
"""Further step seen, as a fraction of the grey level under it (Weber's law on display values)."""
_EYE_SIGMA = 2.0  # px: the picture is oversampled 4 times, so the eye loses nothing here and noise goes down
PROFILE_STEP = 4.0
_COARSE = 4  # the body and the stars are looked for on the picture shrunk by this much


@dataclass(frozen=True)
class Trace:
    """The middle line of a lane of light in picture pixels.

    Attributes
    ----------
    x, y : numpy.ndarray
        (n,) pixel coordinates, from the inner to the outer end.
    half_width : numpy.ndarray
        (n,) half width of the lane in pixels.
    inner : float
        Pixels along the line, from its beginning, that lead to the lane from the nucleus and are not part of it.
    """

    x: Array
    y: Array
    half_width: Array
    inner: float = 0.0

    def reversed(self) -> Trace:
        """Return the same line from the other end."""
        return Trace(self.x[::-1], self.y[::-1], self.half_width[::-1])

    def steps(self) -> Array:
        """Arc length from the first point to each, (n,) pixels."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(self.x), np.diff(self.y)))])

    def normals(self) -> tuple[Array, Array]:
        """Return the unit vectors to the left of the line, each (n,)."""
        dx, dy = np.gradient(self.x), np.gradient(self.y)
        length = np.maximum(np.hypot(dx, dy), 1e-9)
        return -dy / length, dx / length

    def resampled(self, step: float) -> Trace:
        """Return the line with points about every ``step`` pixels of arc, at least 8."""
        arc = self.steps()
        at = np.linspace(0, arc[-1], max(8, int(arc[-1] / step) + 1))
        x, y, half_width = (np.interp(at, arc, values) for values in (self.x, self.y, self.half_width))
        return Trace(x, y, half_width, self.inner)


@dataclass(frozen=True)
class Body:
    """The galaxy as a bright ellipse in the picture.

    Attributes
    ----------
    x, y : float
        Its middle, pixels.
    semi_major, semi_minor : float
        Pixels; those of the ellipse with the second moments of the lit area.
    angle : float
        Radians from +x towards +y of the major axis.
    core_ratio : float
        Axis ratio of the inner, bright part: low when the bulge is elongated.
    core_angle : float
        Direction of the inner part, radians as ``angle``.
    core_semi_major : float
        Its size, pixels.
    """

    x: float
    y: float
    semi_major: float
    semi_minor: float
    angle: float
    core_ratio: float
    core_angle: float
    core_semi_major: float


@dataclass(frozen=True)
class View:
    """A picture as an eye takes it in.

    Attributes
    ----------
    grey : numpy.ndarray
        (H, W) float32 grey levels, 0-255, slightly smoothed.
    noise : float
        Standard deviation of ``grey`` on empty sky.
    body : Body
        The galaxy in the middle.
    profile : numpy.ndarray
        (n,) median grey level on ellipses of the body, by elliptical radius in steps of `PROFILE_STEP` pixels.
    others : numpy.ndarray
        (H / 4, W / 4) float32, 1 where another object is lit: stars and neighbours apart from the galaxy.
    """

    grey: NDArray[np.float32]
    noise: float
    body: Body
    profile: Array
    others: NDArray[np.float32]

    def smooth_level(self, x: Array, y: Array) -> Array:
        """Grey level that a smooth galaxy of the same body and profile would have at pixel coordinates."""
        radius = np.hypot(*_body_frame(self.body, x, y))
        return np.interp(radius, PROFILE_STEP * (np.arange(len(self.profile)) + 0.5), self.profile)


def look(picture: NDArray[np.uint8]) -> View:
    """Take in a (H, W, 3) uint8 picture: grey levels, noise of the sky, and the galaxy's body."""
    luminance = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = np.asarray(cv2.GaussianBlur(luminance, (0, 0), _EYE_SIGMA), np.float32)
    margin = max(4, grey.shape[0] // 12)
    edge = np.concatenate([grey[:margin:2, ::2].ravel(), grey[-margin::2, ::2].ravel()])
    sky = float(np.median(edge))
    noise = max(0.3, 1.4826 * float(np.median(np.abs(edge - sky))))
    coarse = _shrink(grey)
    body, others = _find_body(coarse, sky, noise)
    return View(grey, noise, body, _median_profile(coarse, body), others)


def contrast_along(view: View, trace: Trace) -> Array:
    """How much a lane stands out against both of its sides, along its length.

    The lane's own light (the inner 0.5 of its half width) is compared with the mean of the two sides, 1.5-2.5 half
    widths away, which cancels the slope of the disk below it. Both are taken above the galaxy's own smooth profile, or
    the major axis of an inclined disk would pass for a lane. What counts as noticeable grows with the grey level and
    with the sky noise left after averaging over a stretch of one width.

    Parameters
    ----------
    view : View
        The picture.
    trace : Trace
        The lane.

    Returns
    -------
    numpy.ndarray
        (n,) contrast in JND, smoothed along the lane over about two half widths; 0 outside the picture and on stars
        or neighbours, which people know for what they are.
    """
    normal_x, normal_y = trace.normals()
    offsets = np.array([-0.5, 0.0, 0.5, -2.5, -2.0, -1.5, 1.5, 2.0, 2.5])[:, None] * np.maximum(trace.half_width, 2.0)
    x, y = trace.x + offsets * normal_x, trace.y + offsets * normal_y
    levels = _sample(view.grey, x, y)
    above = levels - view.smooth_level(x, y)
    difference = above[:3].mean(0) - above[3:].mean(0)
    independent = np.maximum(1.0, trace.half_width / _EYE_SIGMA)  # samples in a stretch one width long
    noticeable = np.sqrt((GREY_JND + WEBER * levels[:3].mean(0)) ** 2 + view.noise**2 / independent)
    step = max(float(np.median(np.hypot(np.diff(trace.x), np.diff(trace.y)))), 1e-6)
    window = int(np.clip(round(2 * float(np.median(trace.half_width)) / step), 1, len(trace.x) // 2 * 2 - 1)) | 1
    contrast = difference / noticeable
    contrast[_sample(view.others, (trace.x + 0.5) / _COARSE - 0.5, (trace.y + 0.5) / _COARSE - 0.5) > 0.5] = 0
    padded = np.pad(contrast, window // 2, mode="edge")
    return np.convolve(padded, np.ones(window) / window, "valid")


def bar_contrast(view: View, corners: Array) -> tuple[float, float]:
    """How much a bar stands out, and how much of its length does.

    At each radius the light on the bar is compared with that elsewhere on the same ellipse of the galaxy's body, 40-140
    degrees away in the body's plane: an inclined disk or a round bulge alone gives none.

    Parameters
    ----------
    view : View
        The picture.
    corners : numpy.ndarray
        (4, 2) pixel corners in order around the bar; the longer pair of sides gives its direction.

    Returns
    -------
    contrast : float
        JND, mean over the parts beyond the bulge (0.4-0.9 of the semi-length), the weaker half counted twice.
    length : float
        Fraction of the semi-length out to which the bar can be told from its surroundings, 0.5-1.
    """
    middle, along, semi_length, semi_width = bar_axes(corners)
    across = np.array([-along[1], along[0]]) * max(0.3 * semi_width, 1.0)
    body = view.body
    cos, sin, flat = np.cos(body.angle), np.sin(body.angle), body.semi_minor / body.semi_major
    t = np.linspace(0.3, 1.1, 17)
    reach = np.concatenate([t, -t]) * semi_length
    own_x, own_y = reach * along[0], reach * along[1]
    own = np.mean(
        [_sample(view.grey, middle[0] + own_x + k * across[0], middle[1] + own_y + k * across[1]) for k in (-1, 0, 1)],
        axis=0,
    )
    u, v = own_x * cos + own_y * sin, (-own_x * sin + own_y * cos) / flat
    radius, angle = np.hypot(u, v), np.arctan2(v, u) + np.radians([[40], [65], [90], [115], [140]])
    u, v = radius * np.cos(angle), radius * np.sin(angle) * flat
    others = _sample(view.grey, middle[0] + u * cos - v * sin, middle[1] + u * sin + v * cos)
    noticeable = np.sqrt((GREY_JND + WEBER * own) ** 2 + view.noise**2 / 3)
    contrast = ((own - others.mean(0)) / noticeable).reshape(2, len(t))
    beyond_bulge = (t >= 0.4) & (t <= 0.9)
    halves, profile = contrast[:, beyond_bulge].mean(1), contrast.mean(0)
    seen = t[profile > 0.3 * max(float(profile[beyond_bulge].max()), 1e-6)]
    return float((halves.sum() + halves.min()) / 3), float(np.clip(seen.max() if seen.size else 0.5, 0.5, 1.0))


def bar_axes(corners: Array) -> tuple[Array, Array, float, float]:
    """Middle (2,), unit direction (2,), semi-length and semi-width in pixels of a bar given by 4 corners (4, 2)."""
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    long, short = (first, second) if np.hypot(*first) >= np.hypot(*second) else (second, first)
    length = float(np.hypot(*long))
    return corners.mean(0), long / max(length, 1e-9), length / 2, float(np.hypot(*short)) / 2


def find_stars(view: View, limit: int = 12) -> Array:
    """Find compact lights outside the galaxy, brightest first.

    Returns
    -------
    numpy.ndarray
        (n, 3): x, y in pixels and height above the surroundings in JND.
    """
    coarse = _shrink(view.grey)
    height = coarse - cv2.GaussianBlur(coarse, (0, 0), 8)
    peak = (height == cv2.dilate(height, np.ones((7, 7), np.uint8))) & (height > 3 * GREY_JND + 3 * view.noise)
    y, x = np.nonzero(peak)
    px, py = (x + 0.5) * _COARSE - 0.5, (y + 0.5) * _COARSE - 0.5
    body = view.body
    outside = np.hypot(*_body_frame(body, px, py)) > 1.1 * max(body.semi_major, 10.0)
    stars = np.column_stack([px, py, height[y, x] / GREY_JND])[outside]
    return stars[np.argsort(-stars[:, 2], kind="stable")][:limit]


def stretches(seen: NDArray[np.bool_], step: float, gap: float, shortest: float) -> list[slice]:
    """Find runs of True, after bridging short gaps and dropping short runs.

    Parameters
    ----------
    seen : numpy.ndarray
        (n,) bool along a line.
    step : float
        Pixels between points.
    gap, shortest : float
        Pixels: gaps up to the first are bridged, then runs below the second are dropped.

    Returns
    -------
    list of slice
        In order along the line.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    runs: list[list[int]] = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if runs and (start - runs[-1][1]) * step <= gap:
            runs[-1][1] = stop
        else:
            runs.append([start, stop])
    return [slice(start, stop) for start, stop in runs if (stop - start) * step >= shortest]


def _sample(grey: NDArray[np.float32], x: Array, y: Array) -> Array:
    """Grey levels at pixel coordinates, linear, 0 outside."""
    levels = cv2.remap(grey, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(levels, np.float64).reshape(x.shape)


def _body_frame(body: Body, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Coordinates along the body's major axis, and across it stretched so that its outline is a circle."""
    dx, dy = x - body.x, y - body.y
    cos, sin = np.cos(body.angle), np.sin(body.angle)
    return dx * cos + dy * sin, (dy * cos - dx * sin) * (body.semi_major / body.semi_minor)


def _median_profile(coarse: NDArray[np.float32], body: Body) -> Array:
    """Median grey level on ellipses, by elliptical radius; rings without pixels take their neighbour's."""
    y, x = (np.indices(coarse.shape) + 0.5) * _COARSE - 0.5
    radius = np.hypot(*_body_frame(body, x, y)).ravel()
    return median_of_rings(coarse, (radius / PROFILE_STEP).astype(int))


def median_of_rings(image: Floats, ring: NDArray[np.int64]) -> Array:
    """Median of an image's values on each ring; rings without pixels take their neighbours'.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W).
    ring : numpy.ndarray
        As many integers from 0: the ring of each pixel.

    Returns
    -------
    numpy.ndarray
        (largest ring + 1,).
    """
    values, ring = image.ravel(), ring.ravel()
    order = np.lexsort((values, ring))
    counts = np.bincount(ring)
    middle = np.cumsum(counts) - counts + counts // 2
    filled = np.flatnonzero(counts)
    return np.interp(np.arange(len(counts)), filled, values[order][middle[filled]])


def _shrink(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (n // _COARSE for n in grey.shape)
    return np.asarray(
        cv2.resize(grey[: rows * _COARSE, : columns * _COARSE], (columns, rows), interpolation=cv2.INTER_AREA)
    )


def _find_body(coarse: NDArray[np.float32], sky: float, noise: float) -> tuple[Body, NDArray[np.float32]]:
    """Ellipses of the lit area around the middle and of its brighter half, and a mask of the other lit areas."""
    row, column = coarse.shape[0] // 2, coarse.shape[1] // 2
    peak = float(coarse[row - 4 : row + 5, column - 4 : column + 5].max())
    lit, others = _lit_area(coarse, max(sky + 4 * noise + GREY_JND, sky + 0.08 * (peak - sky)))
    outer, inner = mask_ellipse(lit), mask_ellipse(_lit_area(coarse, sky + 0.6 * (peak - sky))[0])
    x, y, semi_major, semi_minor = (value * _COARSE for value in outer[:4])
    shift = 0.5 * _COARSE - 0.5  # from the middle of a coarse pixel to those of fine ones
    body = Body(
        x + shift, y + shift, semi_major, semi_minor, outer[4], inner[3] / inner[2], inner[4], inner[2] * _COARSE
    )
    return body, cv2.dilate(others, np.ones((3, 3), np.uint8)).astype(np.float32)


def _lit_area(coarse: NDArray[np.float32], level: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Mask of the connected area above a level in the middle (at least the middle itself), and of all other areas."""
    above = (coarse > level).astype(np.uint8)
    _, labels = cv2.connectedComponents(above, connectivity=8)
    row, column = coarse.shape[0] // 2, coarse.shape[1] // 2
    near = labels[row - 3 : row + 4, column - 3 : column + 4]
    near = near[near > 0]
    if near.size == 0:
        lit = np.zeros_like(above)
        lit[row, column] = 1
        return lit, above
    lit = (labels == np.bincount(near).argmax()).astype(np.uint8)
    return lit, above - lit


def mask_ellipse(mask: NDArray[np.uint8]) -> tuple[float, float, float, float, float]:
    """Middle x, y, semi-axes a, b (pixels) and angle (rad) of the ellipse with a mask's second moments."""
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    # A pixel is a square, not a point: 1/12 is its own second moment.
    xx, yy, xy = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12, moments["mu11"] / area
    mean, spread = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
    semi_major, semi_minor = 2 * float(np.sqrt(mean + spread)), 2 * float(np.sqrt(max(mean - spread, 1 / 12)))
    angle = 0.5 * float(np.arctan2(2 * xy, xx - yy))
    return moments["m10"] / area, moments["m01"] / area, semi_major, semi_minor, angle
