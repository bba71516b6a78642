"""Files of predicted masks, FITS and PNG, and telling them from other pictures by their content."""

from __future__ import annotations

import io as _io
import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.cubes import add_place
from zoobot_3d.io.files import check_regular, write_atomic
from zoobot_3d.io.pictures import encode_mask_png
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.header import read_wcs

__all__ = ["MASK_CREATOR", "fits_card", "is_mask_file", "read_mask_fits", "write_mask_fits", "write_mask_png"]

MASK_CREATOR = "zoobot-3d"
"""What the card ``CREATOR`` of FITS masks starts with, and the text ``Software`` of PNG masks."""

_MASK_NAME = re.compile(rf"_(masks\.fits|({'|'.join(CLASSES)})(_sigma)?\.png)$", re.IGNORECASE)


def write_mask_fits(
    path: str | os.PathLike[str],
    masks: NDArray[np.floating[Any]],
    grid: PixelGrid,
    *,
    sigma: NDArray[np.floating[Any]] | None = None,
    meaning: str = "fraction of volunteers who would enclose the pixel",
    cards: Mapping[str, Any] | None = None,
) -> None:
    """Write masks (class, H, W), row 0 north, as FITS: an image HDU a class, row 0 south, each with the grid's WCS.

    Parameters
    ----------
    path : path
        File to write.
    masks : numpy.ndarray
        (2, H, W) fractions, spiral then bar; NaN where nothing is known.
    grid : PixelGrid
        Where they lie; a floating grid gives no WCS, and one without a pixel scale no ``PIXSCALE`` either.
    sigma : numpy.ndarray, optional
        (2, H, W) standard deviations of the masks, for two more HDUs.
    meaning : str
        Comment of the card ``BUNIT`` of the masks; at most 57 characters.
    cards : mapping, optional
        Further header cards of every HDU: values, or pairs of value and comment. Other characters than printable
        ASCII become ``?``, and what a card cannot hold is cut.

    Notes
    -----
    HDU 0 holds the same cards and WCS, and no image. The others are named ``SPIRAL``, ``BAR``, and with ``sigma``
    ``SPIRAL_SIGMA``, ``BAR_SIGMA``.
    """
    further = [fits_card(name, value) for name, value in (cards or {}).items()]
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.extend(further)
    add_place(hdus[0], grid)
    planes = [(name.upper(), plane, meaning) for name, plane in zip(CLASSES, masks, strict=True)]
    if sigma is not None:
        planes += [
            (f"{name.upper()}_SIGMA", plane, "standard deviation of the fraction")
            for name, plane in zip(CLASSES, sigma, strict=True)
        ]
    for name, plane, what in planes:
        hdu = fits.ImageHDU(np.ascontiguousarray(plane[::-1], np.float32), name=name)
        hdu.header["BUNIT"] = ("", what)
        hdu.header.extend(further)
        add_place(hdu, grid)
        hdus.append(hdu)
    buffer = _io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    write_atomic(path, buffer.getvalue())


def read_mask_fits(
    path: str | os.PathLike[str],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, PixelGrid]:
    """Read masks in FITS, as `write_mask_fits` writes them.

    Returns
    -------
    masks : numpy.ndarray
        (2, H, W) fractions, spiral then bar, row 0 **north**.
    sigma : numpy.ndarray or None
        (2, H, W) standard deviations, if the file has them.
    grid : PixelGrid
        Where they lie; floating without a WCS, and with a scale of NaN without ``PIXSCALE``.

    Raises
    ------
    BadFileError
        If the file is missing, truncated or not FITS, or has no images ``SPIRAL`` and ``BAR`` of one shape.
    """
    check_regular(path)
    names = [name.upper() for name in CLASSES]
    try:
        with quiet_libraries(), fits.open(path, memmap=False) as hdus:
            there = {hdu.name: hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2}
            if not set(names) <= set(there):
                raise BadFileError(path, f"no images {' and '.join(names)}", "give masks that this package wrote")
            planes = {name: np.asarray(there[name].data[::-1], np.float32) for name in there}
            header = there[names[0]].header
    except BadFileError:
        raise
    except Exception as error:  # Astropy raises almost any class on corrupt bytes
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadFileError(path, f"truncated or not a FITS file ({first})", "write it again") from None
    masks = [planes[name] for name in names]
    if masks[0].shape != masks[1].shape:
        raise BadFileError(path, f"masks of shapes {masks[0].shape} and {masks[1].shape}", "write it again")
    shape = (masks[0].shape[0], masks[0].shape[1])
    scale = float(header.get("PIXSCALE", np.nan))
    grid = PixelGrid(shape, scale) if read_wcs(header) is None else PixelGrid.from_header(header)
    deviations = [planes.get(f"{name}_SIGMA") for name in names]
    told = [plane for plane in deviations if plane is not None and plane.shape == shape]
    return np.stack(masks), np.stack(told) if len(told) == len(names) else None, grid


def fits_card(keyword: str, content: Any) -> fits.Card:
    """Make a header card that fits its 80 characters, whatever the text."""
    value, comment = content if isinstance(content, tuple) else (content, "")
    if isinstance(value, str):
        value = "".join(c if " " <= c <= "~" else "?" for c in value)
        while len(value.replace("'", "''")) > 68:  # a quote counts twice
            value = value[:-1]
        comment = comment[: max(0, 67 - max(20, len(value.replace("'", "''")) + 2))]
    return fits.Card(keyword, value, comment)


def write_mask_png(path: str | os.PathLike[str], mask: NDArray[np.floating[Any]]) -> None:
    """Write fractions (H, W) in 0-1, row 0 north, as an 8-bit grey PNG; 255 is 1, and NaN is 0."""
    content = encode_mask_png(mask)
    text = b"tEXtSoftware\0" + MASK_CREATOR.encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    header = 8 + 25  # the signature, and IHDR, which comes first
    write_atomic(path, content[:header] + chunk + content[header:])


def is_mask_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a mask that this package wrote: by its name and, as a galaxy may have any name, its start.

    Parameters
    ----------
    path : path
        Any file; one that cannot be read is none.
    """
    if not _MASK_NAME.search(os.fspath(path)) or not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            start = file.read(2880)
    except OSError:
        return False
    return b"tEXtSoftware\0" + MASK_CREATOR.encode() in start[:80] or f"CREATOR = '{MASK_CREATOR}".encode() in start
