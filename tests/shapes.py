"""Masks whose measurements can be worked out by hand: rectangles and logarithmic spirals."""

import numpy as np

FINE = 4  # samples of a pixel to each side


def offsets(size: int, fine: int = FINE):
    """Offsets east and north of the middle of a size x size picture, px, on a finer grid."""
    at = (np.arange(size * fine) + 0.5) / fine - size / 2
    return -at[None, :], -at[:, None]


def binned(inside: np.ndarray, fine: int = FINE) -> np.ndarray:
    """Fractions of pixels from samples within them."""
    size = inside.shape[0] // fine
    return inside.reshape(size, fine, size, fine).mean((1, 3)).astype(np.float32)


def rectangle(size: int, length: float, width: float, pa: float, at: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A bar of a length and width in px at a position angle (deg), ``at`` px east and north of the middle."""
    east, north = offsets(size)
    east, north = east - at[0], north - at[1]
    s, c = np.sin(np.radians(pa)), np.cos(np.radians(pa))
    return binned((np.abs(east * s + north * c) <= length / 2) & (np.abs(east * c - north * s) <= width / 2))


def spiral(
    size: int,
    pitch: float,
    *,
    starts: tuple[float, ...] = (20.0, 200.0),
    radii: tuple[float, float] = (20.0, 90.0),
    width: float = 8.0,
    anticlockwise: bool = True,
    inclination: float = 0.0,
    pa: float = 0.0,
    gap: tuple[float, float] | None = None,
) -> np.ndarray:
    """Arms ``width`` px wide between radii in px; each begins at an angle (deg) from the line of nodes at ``pa``.

    A point of an arm at radius r is at ``start + ln(r / radii[0]) / tan(pitch)``, counted north through east, which is
    anticlockwise on a picture. Between the radii of ``gap`` there is none.
    """
    east, north = offsets(size)
    s, c = np.sin(np.radians(pa)), np.cos(np.radians(pa))
    u, v = east * s + north * c, (east * c - north * s) / np.cos(np.radians(inclination))
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    turn = np.log(np.maximum(radius, 1e-6) / radii[0]) / np.tan(np.radians(pitch))
    inside = np.zeros(radius.shape, bool)
    for start in starts:
        away = angle - np.radians(start) - (turn if anticlockwise else -turn)
        away = np.abs((away + np.pi) % (2 * np.pi) - np.pi) * radius * np.sin(np.radians(pitch))
        inside |= away <= width / 2
    inside &= (radius >= radii[0]) & (radius <= radii[1])
    if gap is not None:
        inside &= (radius < gap[0]) | (radius > gap[1])
    return binned(inside)
