"""A picture as networks take it: what it must be, and the part of it that they see. Must not know networks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoobot_3d import io
from zoobot_3d.catalog.listing import CUBES
from zoobot_3d.errors import BadPictureError
from zoobot_3d.sky.rgb import rgb_from_grz

__all__ = [
    "FIELD_COLUMNS",
    "SMALLEST_PX",
    "PictureLike",
    "as_picture",
    "beyond_field",
    "check_picture",
    "exposure",
    "field_box",
    "outside_field",
    "outside_field_of",
]

PictureLike: TypeAlias = NDArray[np.uint8] | str | os.PathLike[str] | Image.Image
"""A picture in memory, row 0 north, or the file of one: JPEG, PNG and others, or a grz cutout in FITS."""

FIELD_COLUMNS = ("field_top", "field_left", "field_height", "field_width")
"""Columns of a prediction that say which of the picture's pixels the networks saw, px."""

SMALLEST_PX = 32
"""Side of the smallest picture in which an arm or bar can be told."""

_BRIGHT_SKY, _DARKER, _FLAT, _EMPTY_PART = 128, 30, 2, 0.1
"""Of 2,000 real pictures, none has a sky above 82, and four more than 1% of empty rows or columns."""

_SAMPLED_PX = 200
_DARK, _BRIGHT, _CLIPPED = 40, 254, 0.1
"""Of 600 real pictures, the brightest thousandth of the pixels is above 100 in all, and 5% are clipped in the worst."""


def as_picture(given: PictureLike) -> NDArray[np.uint8]:
    """Read a picture if it was given as a file, and turn one of Pillow's into an array.

    Parameters
    ----------
    given : numpy.ndarray, path or PIL.Image.Image
        A path that ends as those of FITS files do is read as a grz cutout (`zoobot_3d.read_cutout`), any other as a
        picture (`zoobot_3d.read_picture`).

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north. Anything else that was given is returned as it is; `check_picture` judges it.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        if os.fspath(given).lower().endswith(CUBES):
            return rgb_from_grz(io.read_cutout(given)[0][:, ::-1])  # it takes FITS row order
        return io.read_picture(given)
    return np.asarray(given.convert("RGB")) if isinstance(given, Image.Image) else given


def outside_field(shape: tuple[int, int], field_fraction: float) -> NDArray[np.bool_]:
    """Find the pixels of a picture that lie outside the central field that a network sees.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the picture.
    field_fraction : float
        Side of the field as a fraction of the picture's side.

    Returns
    -------
    numpy.ndarray
        (H, W) bool: True where the pixel's centre lies outside the field, or on its edge.
    """
    rows, columns = (beyond_field(n, field_fraction) for n in shape)
    return rows[:, None] | columns


def beyond_field(n: int, field_fraction: float) -> NDArray[np.bool_]:
    """Find the rows, or columns, of a picture with `n` of them that lie outside the field; see `outside_field`."""
    return np.asarray(np.abs(np.arange(n) - (n - 1) / 2) >= field_fraction * n / 2 - 1e-9 * n)


def exposure(picture: NDArray[np.uint8]) -> str:
    """Say what is wrong with the brightness of a picture: nearly black or saturated, a negative, or empty in parts.

    Values of another unit or zero point make pictures black or saturated.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8 RGB.

    Returns
    -------
    str
        Empty if nothing is.
    """
    if min(picture.shape[:2]) >= _SAMPLED_PX:  # a quarter of the pixels tells as much
        picture = np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST), np.uint8)
    red, green, blue = cv2.split(picture)
    brightest = cv2.max(cv2.max(red, green), blue)
    counts = np.bincount(brightest.ravel(), minlength=256)
    total = counts.sum()
    if (level := int(np.searchsorted(np.cumsum(counts), 0.999 * total))) < _DARK:
        return f"nearly black: 99.9% of the pixels are at most {level} of 255"
    height, width = picture.shape[:2]
    middle = picture[height * 7 // 16 : height * 9 // 16 + 1, width * 7 // 16 : width * 9 // 16 + 1]
    rim = np.median(np.concatenate([picture[[0, 1, -2, -1]].reshape(-1, 3), picture[:, [0, 1, -2, -1]].reshape(-1, 3)]))
    if rim > _BRIGHT_SKY and np.median(middle) < rim - _DARKER:
        return f"the sky is bright, {rim:.0f} of 255, and the middle darker: a negative? Invert it"
    if (clipped := counts[_BRIGHT:].sum() / total) > _CLIPPED:
        return f"saturated: {clipped:.0%} of the pixels are clipped"
    ranges = [brightest.max(axis) - brightest.min(axis) for axis in (0, 1)]
    flat = max(float(np.mean(steps <= _FLAT)) for steps in ranges)
    if flat > _EMPTY_PART:
        return f"{flat:.0%} of the rows or columns are of one colour: an empty part, a frame, or a sky that is cut off"
    return ""


def field_box(masks: NDArray[np.floating[Any]]) -> dict[str, int]:
    """Tell which pixels of masks (K, H, W) are known, those that are not NaN: a rectangle, by `FIELD_COLUMNS`."""
    known = np.isfinite(masks[0])
    rows, columns = (np.flatnonzero(known.any(axis)) for axis in (1, 0))
    if not len(rows):
        return dict.fromkeys(FIELD_COLUMNS, 0)
    box = (rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    return dict(zip(FIELD_COLUMNS, map(int, box), strict=True))


def outside_field_of(row: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Find the pixels that a row of a prediction says the networks did not see; (H, W) bool."""
    if FIELD_COLUMNS[0] not in row:  # predictions made before the columns were there
        return outside_field(shape, float(row.get("field", 1.0)))
    top, left, height, width = (int(row[name]) for name in FIELD_COLUMNS)
    outside = np.ones(shape, bool)
    outside[top : top + height, left : left + width] = False
    return outside


def check_picture(picture: Any, name: str = "picture", *, square: bool = True) -> None:
    """Refuse what is not a picture of a galaxy.

    Parameters
    ----------
    picture : any
        What was given.
    name : str
        For messages.
    square : bool
        Refuse what is not square: it cannot show a Galaxy Zoo field.

    Raises
    ------
    BadPictureError
        If the array is not (H, W, 3) uint8, not square, too small, or the same everywhere.
    """
    if not isinstance(picture, np.ndarray):
        several = "; for several pictures call segment_batch" if isinstance(picture, list | tuple) else ""
        raise BadPictureError(f"{name}: expected a NumPy array or a file, got {type(picture).__name__}{several}")
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise BadPictureError(f"{name}: expected shape (H, W, 3), got {picture.shape}")
    if picture.dtype != np.uint8:
        raise BadPictureError(
            f"{name}: expected uint8 in 0-255, got {picture.dtype}; make it with zoobot_3d.rgb_from_grz"
        )
    height, width = picture.shape[:2]
    if square and height != width:
        raise BadPictureError(
            f"{name}: expected a square, got {height} x {width} pixels; cut it square about the galaxy, or "
            "use the field 'auto'"
        )
    if min(height, width) < SMALLEST_PX:
        raise BadPictureError(f"{name}: {min(height, width)} pixels a side is too small; give at least {SMALLEST_PX}")
    if picture.min() == 255:
        raise BadPictureError(f"{name}: white all over; are its values in nanomaggies, and is the sky subtracted?")
    if picture.min() == picture.max():
        raise BadPictureError(f"{name}: blank, every pixel is {picture.min()}; is it outside the survey's footprint?")
