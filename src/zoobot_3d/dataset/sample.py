"""One labelled galaxy of a catalogue as arrays: its picture, and the votes of its marks, on the grid a network sees.

Reads files; nothing here is random, and nothing knows of torch, batches or networks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.catalog.galaxy_files import GalaxyFiles
from zoobot_3d.errors import BadFileError, BadPictureError, CatalogError
from zoobot_3d.io import read_cutout, read_mask, read_picture
from zoobot_3d.marks.gz3d import gz3d_grid
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.schema import COL_FITS, COL_JPG, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid, resample
from zoobot_3d.sky.rgb import rgb_from_grz

__all__ = [
    "MASK_VOLUNTEERS",
    "HalfVotes",
    "Sample",
    "check_masks",
    "read_half_votes",
    "read_sample",
]

_LOOKED_AT = 64  # masks, before a training

MASK_VOLUNTEERS = 15
"""Volunteers that a mask picture's 255 stands for: every GZ3D task seen was shown to 15."""


@dataclass(frozen=True)
class Sample:
    """A galaxy decoded.

    Attributes
    ----------
    image : numpy.ndarray
        (3, S, S) uint8, RGB, row 0 north.
    votes : numpy.ndarray
        (2, S, S) uint8, spiral then bar: how many volunteers enclosed each pixel.
    asked : numpy.ndarray
        (2,) uint8: how many were asked; 0 without marks.
    shown_rows, shown_columns : numpy.ndarray
        (S,) bool: which rows and columns lie in the frame that volunteers were shown.
    """

    image: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    asked: NDArray[np.uint8]
    shown_rows: NDArray[np.bool_]
    shown_columns: NDArray[np.bool_]

    @property
    def n_asked(self) -> NDArray[np.uint8]:
        """(2, S, S) uint8: how many volunteers were asked about each pixel; 0 outside the frame they were shown."""
        return self.asked[:, None, None] * (self.shown_rows[:, None] & self.shown_columns)

    @classmethod
    def blank(cls, size: int) -> Sample:
        """Make a black picture of `size` pixels about which nobody was asked."""
        shown = np.ones(size, bool)
        image, votes = np.zeros((3, size, size), np.uint8), np.zeros((2, size, size), np.uint8)
        return cls(image, votes, np.zeros(2, np.uint8), shown, shown)


class HalfVotes(NamedTuple):
    """Votes (2, S, S) and volunteers asked (2,) of each half."""

    votes_a: NDArray[np.uint16]
    asked_a: NDArray[np.int64]
    votes_b: NDArray[np.uint16]
    asked_b: NDArray[np.int64]


def read_sample(galaxy: GalaxyFiles, input_size: int, field_fraction: float) -> Sample:
    """Decode a galaxy's picture and rasterize its marks straight onto what the network sees of it.

    Parameters
    ----------
    galaxy : GalaxyFiles
        What to read.
    input_size : int
        S, pixels.
    field_fraction : float
        Central part of the picture to show, as a fraction of its side.

    Raises
    ------
    Zoobot3DError
        Any of its files is missing or corrupt; the message names it.
    """
    source = galaxy.picture or galaxy.cutout
    if source is None:
        raise CatalogError(f"no picture: neither {COL_JPG} nor {COL_FITS} is filled; fetch it first")
    picture = read_picture(source) if galaxy.picture else rgb_from_grz(read_cutout(source)[0][:, ::-1])
    image = _view(picture, source, input_size, field_fraction)
    view = _view_grid(galaxy, input_size, field_fraction)
    frame = gz3d_grid(*galaxy.marked_at) if galaxy.marked_at else view
    asked = np.zeros(2, np.int64)
    if galaxy.marks is not None:
        marks = VolunteerMarks.from_json(galaxy.marks)
        frame, votes, asked = marks.grid, marks.votes(view), marks.n_asked_array
    else:
        votes = np.zeros((2, *view.shape), np.uint16)
        for index, path in enumerate(galaxy.masks):
            if path is not None:
                mask = _view(np.rint(255 * read_mask(path)).astype(np.uint8), path, input_size, field_fraction)
                votes[index], asked[index] = np.rint(mask * (MASK_VOLUNTEERS / 255)), MASK_VOLUNTEERS
    return Sample(
        np.ascontiguousarray(image.transpose(2, 0, 1)),
        np.minimum(votes, 255).astype(np.uint8),
        np.minimum(asked, 255).astype(np.uint8),
        *_shown(view, frame),
    )


def check_masks(galaxies: Sequence[GalaxyFiles], catalogue: str) -> None:
    """Refuse a catalogue whose mask pictures cannot be fractions of volunteers; some are looked at.

    Raises
    ------
    CatalogError
        If all that can be read are of one value, or none has more than two.
    """
    files = [path for galaxy in galaxies if galaxy.marks is None for path in galaxy.masks if path is not None]
    levels = []
    for path in files[:: max(1, len(files) // _LOOKED_AT)]:
        with contextlib.suppress(BadFileError):  # said when it is its turn
            levels.append(len(np.unique(read_mask(path))))
    if levels and max(levels) < 2:
        raise CatalogError(f"{catalogue}: all of {len(levels)} masks looked at are empty; zoobot3d check tells more")
    if levels and max(levels) == 2:
        raise CatalogError(
            f"{catalogue}: none of {len(levels)} masks looked at has more than two values, where fractions of "
            "volunteers are expected; if they are one person's yes and no, set data.binary_masks to true"
        )


def read_half_votes(
    galaxy: GalaxyFiles, input_size: int, field_fraction: float, rng: np.random.Generator
) -> HalfVotes | None:
    """Split a galaxy's volunteers into two random halves and rasterize each; see `read_sample`.

    Returns
    -------
    HalfVotes or None
        None where labels are mask pictures, which do not tell volunteers apart.

    Raises
    ------
    BadFileError
        The marks cannot be read.
    """
    if galaxy.marks is None:
        return None
    view = _view_grid(galaxy, input_size, field_fraction)
    halves = VolunteerMarks.from_json(galaxy.marks).split_half(rng)
    (votes_a, asked_a), (votes_b, asked_b) = ((half.votes(view), half.n_asked_array) for half in halves)
    return HalfVotes(votes_a, asked_a, votes_b, asked_b)


def _view_grid(galaxy: GalaxyFiles, input_size: int, field_fraction: float) -> PixelGrid:
    """Grid of what the network sees; the picture's own number of pixels does not matter to its field."""
    ra, dec = galaxy.position or (None, None)
    field = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), galaxy.pixscale, ra, dec)
    return field.resize(input_size, field_fraction=field_fraction)


def _view(picture: NDArray[np.uint8], path: Path, input_size: int, field_fraction: float) -> NDArray[np.uint8]:
    """Resample a picture, or a mask on its pixels, to what the network sees: uint8 (S, S[, 3])."""
    height, width = picture.shape[:2]
    if height != width:
        raise BadPictureError(f"{path}: is {height} x {width} pixels, not square; cut it square about the galaxy")
    grid = PixelGrid((height, width), 1.0)  # floating, so that all pictures of one size share their weights
    return np.rint(resample(picture, grid, grid.resize(input_size, field_fraction=field_fraction))).astype(np.uint8)


def _shown(view: PixelGrid, frame: PixelGrid) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows and columns of pixel centres of `view` lie in `frame`.

    Apart, as the turn of north between two tangent points arcseconds apart is far below a pixel.
    """
    affine = view.affine_to(frame)
    inside = []
    for axis, other in ((1, 0), (0, 1)):  # y and rows, then x and columns
        at = (
            affine[axis, axis] * np.arange(view.shape[other])
            + affine[axis, other] * view.middle[other]
            + affine[axis, 2]
        )
        inside.append((at >= -0.5) & (at < frame.shape[other] - 0.5))
    return inside[0], inside[1]
