"""An image with any world coordinates, brought onto a north-up grid about its own middle.

The test is geometric: positions of 5 x 5 pixels by the header against those of the grid. Must not know files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from zoobot_3d.errors import GridError
from zoobot_3d.schema import PIXSCALES
from zoobot_3d.sky.grid import TOLERANCE, PixelGrid, departure
from zoobot_3d.sky.header import SkyImage

__all__ = ["Placement", "north_up", "place"]

_OBLONG = 3.0  # sides of a pixel; beyond, a picture of square pixels is mostly made up or mostly thrown away
_BLOCK = 1 << 20  # pixels at a time, which bounds the memory of coordinates


@dataclass(frozen=True)
class Placement:
    """Where an image lies, and whether its pixels are those of the grid.

    Attributes
    ----------
    grid : PixelGrid
        North up, east left, centred on the middle of the image, of the same shape; of the same scale at the middle.
    image : SkyImage
        The image as stored.
    exact : bool
        Whether the image's pixels, once row 0 is north, are the grid's within 0.05 px. If not, `north_up` makes them.
    note : str
        What is converted; empty if nothing is.
    """

    grid: PixelGrid
    image: SkyImage
    exact: bool
    note: str

    @property
    def starts_south(self) -> bool:
        """Whether row 0 of the image as stored is its southern edge."""
        return self.image.lie.starts_south


def place(wcs: WCS, shape: tuple[int, int]) -> Placement:
    """Find the north-up grid of an image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Of the image, e.g. from `zoobot_3d.sky.header.read_wcs`.
    shape : tuple of int
        Rows and columns.

    Raises
    ------
    GridError
        If the image has no such grid: positions are not finite, of an unknown frame, cannot be inverted, or cover more
        than half the sky, or pixels are three times as long as wide or of a size that no image of a galaxy has, as
        those of 1 deg of a header without a scale.
    """
    image = SkyImage(wcs, shape)
    lie = image.lie
    if lie.sides[0] > _OBLONG * lie.sides[1]:
        raise GridError("pixels are not square: {:.4g} by {:.4g} arcsec; reproject the image first".format(*lie.sides))
    grid = PixelGrid(image.shape, lie.pixscale, lie.ra, lie.dec)
    frame = image.coordinates()
    apart = departure(grid, image)
    if not PIXSCALES[0] <= lie.pixscale <= PIXSCALES[1]:
        raise GridError(f"pixels of {lie.pixscale:.4g} arcsec by the header's CDELT, PC or CD cards; correct them")
    if apart < TOLERANCE:
        return Placement(grid, image, True, f"{frame[0]}: position converted to ICRS" if frame else "")
    pixels, sky = image.sample
    if not np.abs(image.to_pixel(*sky) - pixels).max() < TOLERANCE:
        raise GridError("the header's distortion cannot be inverted; reproject the image first")
    words = [*frame, *image.projection(), *lie.words()] or ["distorted, or far from its tangent point"]
    return Placement(grid, image, False, f"{', '.join(words)}: resampled to north up")


def north_up(array: NDArray[Any], placement: Placement) -> tuple[NDArray[np.float32], float]:
    """Interpolate an image onto its placement's grid, linearly.

    Parameters
    ----------
    array : numpy.ndarray
        (C, H, W) as stored.
    placement : Placement
        From `place`.

    Returns
    -------
    image : numpy.ndarray
        (C, H, W) float32, row 0 north; 0 where the image has no pixels.
    covered : float
        Fraction of the grid's pixels that lie in the image.
    """
    height, width = placement.grid.shape
    out = np.zeros(array.shape, np.float32)
    covered = 0
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        y, x = np.mgrid[rows, :width]
        x_in, y_in = placement.image.to_pixel(*placement.grid.pixel_to_sky(x, y))
        with np.errstate(invalid="ignore"):
            inside = (x_in >= -0.5) & (x_in <= width - 0.5) & (y_in >= -0.5) & (y_in <= height - 0.5)
        at = np.where(inside, np.stack([y_in, x_in]), 0)
        for plane, target in zip(array, out, strict=True):
            target[rows] = np.where(inside, map_coordinates(plane, at, order=1, mode="nearest"), 0)
        covered += int(inside.sum())
    return out, covered / (height * width)
