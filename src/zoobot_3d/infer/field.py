"""Where a galaxy lies in a picture of any field, and how large it is: the field that networks were trained on, found.

Networks learn from Galaxy Zoo's pictures, whose side is set by the galaxy's size. Here that size is measured on the
picture itself, and a window is cut about the galaxy that shows as much of it. Knows no networks and no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
from astropy.stats import sigma_clipped_stats
from numpy.typing import NDArray
from photutils.segmentation import detect_sources
from scipy.ndimage import gaussian_filter

from zoobot_3d.errors import BadPictureError
from zoobot_3d.infer.picture import SMALLEST_PX
from zoobot_3d.quiet import quiet_libraries

__all__ = ["FIELDS", "FIELD_RADII", "Field", "Galaxy", "Window", "galaxy_window", "measure_galaxy"]

Field: TypeAlias = Literal["picture", "auto"]
"""``"picture"``: a picture shows a whole Galaxy Zoo field; ``"auto"``: of any field, so the galaxy is measured."""

FIELDS: tuple[Field, ...] = get_args(Field)

FIELD_RADII = 5.0
"""Side of Galaxy Zoo's pictures in Petrosian radii, as `measure_galaxy` measures them: the median of the first 200
pictures of Galaxy Zoo DECaLS; 68% lie within a factor of 1.4 (``pytest tests/infer/test_field.py -k galaxy_zoo``)."""

PETROSIAN_RATIO = 0.2
"""Mean brightness at the Petrosian radius over that within it (Petrosian 1976, ApJ 209, L1), as SDSS takes it
(Blanton et al. 2001, AJ 121, 2358)."""

_WORK_PX = 212  # side of the picture that is measured: half of Galaxy Zoo's, which smooths noise
_SMOOTH_PX = 1.5
_LEAST_PX = 30  # of a source
_ABOVE_SKY = 2.0  # standard deviations of the sky, and steps of brightness of 255
_FRAME = 8  # brightness may differ so much within a frame without a picture: JPEG's ringing
_CENTRAL = 0.15  # of the side: a source at the middle is more likely the one that is meant
_LARGEST = 4.0  # window over picture
_INNERMOST_PX = 2  # rings within are too few pixels


@dataclass(frozen=True)
class Galaxy:
    """Place and size of a galaxy in a picture.

    Attributes
    ----------
    x, y : float
        Column and row of its centre, px; the first pixel's centre is (0, 0).
    petrosian_radius : float
        Petrosian radius of the picture's brightness in circles, px; or the distance to the picture's farthest corner,
        if the brightness does not fall so far.
    """

    x: float
    y: float
    petrosian_radius: float


@dataclass(frozen=True)
class Window:
    """A square of a picture's own pixels, which may reach beyond it.

    Attributes
    ----------
    row, column : int
        Of the window's first pixel in the picture; negative if it begins beyond.
    side : int
        Rows and columns.
    """

    row: int
    column: int
    side: int

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the window, (side, side, 3); where it reaches beyond the picture, it shows the sky."""
        sky = np.array([sigma_clipped_stats(picture[::4, ::4, c], sigma=2.5)[1] for c in range(picture.shape[2])])
        out = np.empty((self.side, self.side, picture.shape[2]), picture.dtype)
        out[:] = sky.astype(picture.dtype)
        here, there = self._overlap(picture.shape[:2])
        out[here] = picture[there]
        return out

    def put_back(self, maps: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return maps (K, side, side) of the window on the picture's pixels, (K, H, W); NaN where it does not reach."""
        out = np.full((len(maps), *shape), np.nan, np.float32)
        here, there = self._overlap(shape)
        out[(slice(None), *there)] = maps[(slice(None), *here)]
        return out

    def _overlap(self, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of the window, and of a picture, that show the same pixels."""
        here, there = [], []
        for first, size in zip((self.row, self.column), shape, strict=True):
            low, high = max(0, first), min(size, first + self.side)
            here.append(slice(low - first, high - first))
            there.append(slice(low, high))
        return (here[0], here[1]), (there[0], there[1])


def measure_galaxy(picture: NDArray[np.uint8]) -> Galaxy:
    """Find the galaxy nearest the middle of a picture, and measure its Petrosian radius.

    The sources above the sky are told apart; that with the most light, weighted by nearness to the middle, is the
    galaxy. Other sources are left out of its profile. Frames without a picture around it are left out too.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8, of any shape.

    Returns
    -------
    Galaxy

    Raises
    ------
    BadPictureError
        If nothing stands out from the sky.
    """
    grey = picture.mean(axis=2, dtype=np.float32)
    top, left, grey = _without_frame(grey)
    factor = min(1.0, _WORK_PX / max(grey.shape))
    size = (max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor)))
    small: NDArray[np.float32] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    sky, noise = _sky(small)
    smooth = gaussian_filter(small - sky, _SMOOTH_PX)
    with quiet_libraries():
        sources = detect_sources(smooth, max(_ABOVE_SKY * noise, _ABOVE_SKY), n_pixels=_LEAST_PX)
    if sources is None:
        raise BadPictureError(
            "no galaxy stands out from the sky, so that its size cannot be measured; use the field 'picture'"
        )
    rows, columns = np.indices(small.shape)
    near = np.exp(
        -((columns - (size[0] - 1) / 2) ** 2 + (rows - (size[1] - 1) / 2) ** 2) / (2 * (_CENTRAL * max(size)) ** 2)
    )
    labels = np.asarray(sources.data)
    light = np.bincount(labels.ravel(), (near * smooth).ravel())
    light[0] = 0
    own = labels == light.argmax()
    peak = np.where(own, gaussian_filter(smooth, 2 * _SMOOTH_PX) * near, 0)
    row, column = (float(place) for place in np.unravel_index(int(peak.argmax()), peak.shape))
    radius = _petrosian(small - sky, (column, row), (labels > 0) & ~own)
    scale = grey.shape[1] / size[0]
    return Galaxy((column + 0.5) * scale - 0.5 + left, (row + 0.5) * scale - 0.5 + top, radius * scale)


def galaxy_window(picture: NDArray[np.uint8], zoom: float = 1.0) -> Window:
    """Return the window about a picture's galaxy that shows as much of it as Galaxy Zoo's pictures show.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8, of any shape.
    zoom : float
        Above 1 the window is smaller, and the galaxy fills more of it.

    Raises
    ------
    BadPictureError
        As in `measure_galaxy`; or if the galaxy is too small.
    """
    galaxy = measure_galaxy(picture)
    side = round(min(_LARGEST * max(picture.shape[:2]), FIELD_RADII * galaxy.petrosian_radius / zoom))
    if side < SMALLEST_PX:
        raise BadPictureError(
            f"the galaxy has a Petrosian radius of {galaxy.petrosian_radius:.1f} px, which is too small to see arms or "
            f"bars; at least {SMALLEST_PX / FIELD_RADII:.0f} px are needed"
        )
    return Window(round(galaxy.y - (side - 1) / 2), round(galaxy.x - (side - 1) / 2), side)


def _without_frame(grey: NDArray[np.float32]) -> tuple[int, int, NDArray[np.float32]]:
    """Cut rows and columns of one brightness off the edges; return the first row and column left, and the rest."""
    spans = []
    for axis in (1, 0):
        told = np.flatnonzero(np.ptp(grey, axis=axis) > _FRAME)
        spans.append((int(told[0]), int(told[-1]) + 1) if len(told) > 8 else (0, grey.shape[1 - axis]))
    (top, bottom), (left, right) = spans
    return top, left, grey[top:bottom, left:right]


def _sky(small: NDArray[np.float32]) -> tuple[float, float]:
    """Level and scatter of the sky: those of the edges, if they are darker than the whole."""
    rim = max(2, min(small.shape) // 16)
    edge = np.concatenate([part.ravel() for part in (small[:rim], small[-rim:], small[:, :rim], small[:, -rim:])])
    told: list[Any] = [sigma_clipped_stats(pixels, sigma=2.5)[1:] for pixels in (small, edge)]
    level = min(float(median) for median, _ in told)
    return level, min(float(scatter) for _, scatter in told)


def _petrosian(light: NDArray[np.float32], centre: tuple[float, float], others: NDArray[np.bool_]) -> float:
    """Petrosian radius in circles about a centre (x, y), px."""
    rows, columns = np.indices(light.shape)
    ring = np.hypot(columns - centre[0], rows - centre[1]).astype(int)
    pixels = np.bincount(ring[~others], minlength=ring.max() + 1)
    profile = np.bincount(ring[~others], light[~others], minlength=ring.max() + 1) / np.maximum(pixels, 1)
    inner = np.arange(len(profile))
    area = 2 * inner + 1  # of each ring, in units of pi
    within = np.cumsum(profile * area) / np.cumsum(area)
    low = np.flatnonzero((profile < PETROSIAN_RATIO * within) & (inner >= _INNERMOST_PX))
    return float(low[0] + 0.5 if len(low) else len(profile))
