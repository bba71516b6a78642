"""Spaxel grids of integral-field cubes and maps: reading where they lie, and writing masks that lie beside them.

Arrays on a spaxel grid keep the order of the cube's file, as `astropy.io.fits` gives it: a cube may lie at any angle,
and its arrays are never flipped. Must not know what the masks are.
"""

from __future__ import annotations

import io as _io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError, GridError, Zoobot3DError
from zoobot_3d.io.files import check_regular, write_atomic
from zoobot_3d.io.masks import fits_card
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.sky.header import is_wcs_card, read_wcs

__all__ = ["MOST_SPAXELS", "SpaxelGrid", "read_spaxel_grid", "write_spaxel_maps"]

MOST_SPAXELS = 4_000_000
"""Spaxels of a grid that masks are written on: larger images are no cubes."""


@dataclass(frozen=True, eq=False)
class SpaxelGrid:
    """The two spatial axes of a cube or map.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns, ``(NAXIS2, NAXIS1)``.
    wcs : astropy.wcs.WCS
        Celestial, of these two axes, for arrays in the order of the file.
    cards : astropy.io.fits.Header
        The cards of the file that say so, to be written as they are.
    hdu : str
        Which HDU they are from, for messages: its name, or its number.
    """

    shape: tuple[int, int]
    wcs: WCS
    cards: fits.Header
    hdu: str = ""

    @classmethod
    def from_header(cls, header: fits.Header, shape: tuple[int, int] | None = None, hdu: str = "") -> SpaxelGrid:
        """Take the first two axes of a header.

        Parameters
        ----------
        header : astropy.io.fits.Header
            Of a cube (wavelengths are the third axis), or of a map.
        shape : tuple of int, optional
            Rows and columns; by default ``NAXIS2`` and ``NAXIS1``.
        hdu : str
            Name for messages.

        Raises
        ------
        GridError
            If they are not celestial, mixed with a third axis, or have no size.
        """
        wcs = read_wcs(header)
        if wcs is None:
            raise GridError("no celestial axes: give a header with CTYPE RA---TAN and DEC--TAN")
        if shape is None:
            shape = (int(header.get("NAXIS2", 0)), int(header.get("NAXIS1", 0)))
        if min(shape) < 1 or shape[0] * shape[1] > MOST_SPAXELS:
            raise GridError(f"a spaxel grid of {shape[0]} x {shape[1]}; 1 to {MOST_SPAXELS:,} spaxels can be used")
        wcs.array_shape = shape
        cards = fits.Header()
        for keyword in dict.fromkeys(header):
            if is_wcs_card(keyword) and not _of_third_axis(keyword):
                cards[keyword] = (header[keyword], header.comments[keyword])
        return cls(shape, wcs, cards, hdu)


def _of_third_axis(keyword: str) -> bool:
    return keyword[:2] in ("CD", "PC") and "_" in keyword and set(keyword[2:].split("_")) - {"1", "2"} != set()


def read_spaxel_grid(path: str | os.PathLike[str]) -> SpaxelGrid:
    """Find the spaxel grid of a FITS file: that of the first HDU of two or more axes with celestial world coordinates.

    Parameters
    ----------
    path : path
        Cube or maps, such as ``LOGCUBE`` and ``MAPS`` of MaNGA or cubes of SAMI; plain or gzipped. Only headers are
        read.

    Raises
    ------
    BadFileError
        If the file is missing or not FITS, or no HDU has such axes.
    """
    check_regular(path)
    problem = "no HDU of two or more axes has celestial world coordinates"
    try:
        with quiet_libraries(), fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            for number, hdu in enumerate(hdus):
                if not hdu.is_image or len(hdu.shape) < 2:
                    continue
                name = hdu.name or str(number)
                try:
                    return SpaxelGrid.from_header(hdu.header, (int(hdu.shape[-2]), int(hdu.shape[-1])), name)
                except GridError as error:
                    problem = f"HDU {name}: {error}"
    except Zoobot3DError:
        raise
    except Exception as error:  # Astropy raises almost any class on corrupt bytes
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadFileError(path, f"truncated or not a FITS file ({first})", "download it again") from None
    raise BadFileError(path, problem, "give a cube or map with CTYPE1 RA---TAN and CTYPE2 DEC--TAN")


def write_spaxel_maps(
    path: str | os.PathLike[str],
    maps: Mapping[str, tuple[NDArray[np.floating[Any]], str]],
    grid: SpaxelGrid,
    cards: Mapping[str, Any],
) -> None:
    """Write maps on a spaxel grid as a FITS file with an image HDU for each; HDU 0 has only the cards.

    Parameters
    ----------
    path : path
        File to write; it appears whole or not at all.
    maps : mapping
        Name of each HDU, to its array in the order of the cube's file and the comment of its card ``BUNIT``.
    grid : SpaxelGrid
        Where they lie: its cards are copied.
    cards : mapping
        Further header cards of every HDU: values, or pairs of value and comment.

    Raises
    ------
    GridError
        If a map does not have the shape of the grid.
    """
    further = [fits_card(name, value) for name, value in cards.items()]
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.extend(further)
    for name, (plane, meaning) in maps.items():
        if plane.shape != grid.shape:
            raise GridError(f"map {name} has {plane.shape} spaxels, the grid {grid.shape}")
        hdu = fits.ImageHDU(np.asarray(plane, np.float32), name=name)
        hdu.header["BUNIT"] = ("", meaning)
        hdu.header.extend(grid.cards, update=True)
        hdu.header.extend(further)
        hdus.append(hdu)
    buffer = _io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    write_atomic(path, buffer.getvalue())
