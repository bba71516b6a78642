"""FITS cutouts. This file and `zoobot_3d.io.masks` are the only places where rows are flipped.

In memory row 0 is north; FITS files start in the south unless their WCS says otherwise.
"""

from __future__ import annotations

import contextlib
import gzip
import io as _io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError, Zoobot3DError
from zoobot_3d.io.cube_images import TOO_LARGE, image_of, inverse_variance
from zoobot_3d.io.files import check_regular, write_atomic
from zoobot_3d.io.pictures import most_pixels
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.schema import PIXSCALES
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.header import read_wcs
from zoobot_3d.sky.light import band_names, bands_of, nanomaggies_per_unit
from zoobot_3d.sky.placement import Placement, north_up, place

__all__ = ["MAX_CUTOUT_PIXELS", "BandImage", "Cutout", "open_bands", "open_cutout", "read_cutout", "write_cutout"]

MAX_CUTOUT_PIXELS = 7_000_000
"""Pixels of an image in three bands that are read by default, 2,600 a side. The environment variable
``ZOOBOT3D_MAX_PIXELS`` comes before it."""

_OTHER_PACKERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x1f\x9d": "compress"}


@dataclass(frozen=True)
class Cutout:
    """An image as the networks take it, and what was done to make it so.

    Attributes
    ----------
    cube : numpy.ndarray
        (3, H, W) float32 nanomaggies, bands g, r, z, row 0 **north**; pixels without data are 0.
    grid : PixelGrid
        North up, centred on the middle of the image. Floating if the header has no WCS, and with a scale of NaN if it
        has no ``PIXSCALE`` either.
    notes : tuple of str
        What was converted or is not known; empty for a cutout of the Legacy Surveys.
    """

    cube: NDArray[np.float32]
    grid: PixelGrid
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BandImage:
    """An image in its own bands, for photometry.

    Attributes
    ----------
    planes : numpy.ndarray
        (bands, H, W) float32 nanomaggies per pixel, row 0 **north**; NaN where there are no data. A value of exactly 0
        is none: the cutout service of the Legacy Surveys writes it outside their footprint.
    bands : tuple of str
        Their names.
    invvar : numpy.ndarray or None
        (bands, H, W) inverse variances, nanomaggies^-2, if the file has them: in an image of the same shape named
        ``INVVAR`` or ``IVAR``, or whose card ``IMTYPE`` or ``IMAGETYP`` says so.
    grid : PixelGrid
        As of `Cutout`.
    calibrated : bool
        Whether unit or zero point are known.
    notes : tuple of str
        What was converted or is not known.
    """

    planes: NDArray[np.float32]
    bands: tuple[str, ...]
    invvar: NDArray[np.float32] | None
    grid: PixelGrid
    calibrated: bool
    notes: tuple[str, ...]


def open_cutout(path: str | os.PathLike[str], max_pixels: int | None = None) -> Cutout:
    """Read an image in FITS, convert its bands, units and place to those of the package, and say what was converted.

    Parameters
    ----------
    path : str or os.PathLike
        FITS file, plain, gzipped or fpacked. Its first image is read, (bands, H, W) or (H, W), but for those whose HDU
        or ``IMTYPE`` is named after weights, errors or masks. Bands may also have an image each, if their HDUs say so,
        see `zoobot_3d.io.cube_images.image_of`.
    max_pixels : int, optional
        Size of an image in three bands above which it is not read; of more bands, in proportion. `MAX_CUTOUT_PIXELS` by
        default.

    Raises
    ------
    BadFileError
        If the file is missing, truncated, not FITS, too large, or if its bands, units or world coordinates cannot be
        understood.
    """
    max_values = 3 * (most_pixels(MAX_CUTOUT_PIXELS) if max_pixels is None else max_pixels)
    with _opened(path, max_values) as (hdus, n_bytes):
        planes, header, notes = image_of(path, hdus, n_bytes, max_values)
        return _understood(planes, header, notes)


def open_bands(path: str | os.PathLike[str]) -> BandImage:
    """Read an image in FITS in its own bands, with its inverse variance if it has one.

    Parameters
    ----------
    path : path
        As for `open_cutout`.

    Raises
    ------
    BadFileError
        As from `open_cutout`.
    """
    max_values = 3 * most_pixels(MAX_CUTOUT_PIXELS)
    with _opened(path, max_values) as (hdus, n_bytes):
        planes, header, notes = image_of(path, hdus, n_bytes, max_values)
        bands, about_bands = band_names(header, len(planes))
        invvar = inverse_variance(hdus, planes.shape)
        grid, placement, about_scale = _grid_of(header, (planes.shape[1], planes.shape[2]))
        factor, about_units = nanomaggies_per_unit(header, grid.pixscale)
        planes = np.where(np.isfinite(planes) & (planes != 0), planes, np.float32(np.nan)) * np.float32(factor)
        if invvar is not None:
            invvar = np.where(invvar > 0, invvar, 0).astype(np.float32) / np.float32(factor) ** 2
            planes = np.where(invvar > 0, planes, np.float32(np.nan))
        about_place = [placement.note] if placement and placement.note else []
        if placement and not placement.exact:
            planes = north_up(planes, placement)[0]
            planes[planes == 0] = np.nan  # outside the image as stored
            invvar = None if invvar is None else north_up(invvar, placement)[0]
        elif placement is None or placement.starts_south:
            planes, invvar = planes[:, ::-1], None if invvar is None else invvar[:, ::-1]
        calibrated = not any("taken as nanomaggies" in note for note in about_units)
        said = (*notes, *about_bands, *about_units, *about_place, *about_scale)
        return BandImage(planes, bands, invvar, grid, calibrated, said)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], max_values: int) -> Iterator[tuple[fits.HDUList, int]]:
    """Open a FITS file of a bearable size; whatever is raised within becomes one line. Yields its size, too."""
    content = _content(path, max_values)
    try:
        # Truncation is found below, in one line.
        with (
            quiet_libraries(),
            np.errstate(all="ignore"),
            fits.open(_io.BytesIO(content), memmap=False, lazy_load_hdus=True) as hdus,
        ):
            yield hdus, len(content)
    except BadFileError:
        raise
    except Zoobot3DError as error:
        raise BadFileError(path, str(error)) from None
    except Exception as error:  # Astropy raises almost any class on corrupt bytes
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadFileError(path, f"truncated or not a FITS file ({first})", "download it again") from None


def read_cutout(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], PixelGrid]:
    """Read a cutout in FITS; `open_cutout` says what was converted, too.

    Parameters
    ----------
    path : str or os.PathLike
        FITS file, see `open_cutout`.

    Returns
    -------
    cube : numpy.ndarray
        (3, H, W) float32 nanomaggies, bands g, r, z, row 0 **north**; pixels without data are 0.
    grid : PixelGrid
        Where it is on the sky; floating if the header has no WCS, with a scale of NaN if that is unknown.

    Raises
    ------
    BadFileError
        As from `open_cutout`.
    """
    cutout = open_cutout(path)
    return cutout.cube, cutout.grid


def _content(path: str | os.PathLike[str], max_values: int) -> bytes:
    """Read a file, and unpack it if it is gzipped, up to a limit."""
    check_regular(path)
    limit = 8 * max_values + (1 << 24)  # an image of the widest type, headers and small tables
    try:
        with Path(path).open("rb") as file:
            start = file.read(6)
            file.seek(0)
            for magic, name in _OTHER_PACKERS.items():
                if start.startswith(magic):
                    raise BadFileError(path, f"packed with {name}", "unpack it, or pack it with gzip or fpack")
            if start.startswith(b"\x1f\x8b"):
                with gzip.open(file) as unpacked:
                    content = unpacked.read(limit + 1)
            else:
                content = file.read(limit + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFileError(path, f"truncated or broken gzip file ({error})", "download it again") from None
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    if len(content) > limit:
        raise BadFileError(path, f"larger than {limit / 1e6:.0f} MB", TOO_LARGE)
    if not content:
        raise BadFileError(path, "empty file", "download it again")
    return content


def _understood(planes: NDArray[np.float32], header: fits.Header, notes: list[str]) -> Cutout:
    """Convert planes as stored to nanomaggies in g, r, z, row 0 north."""
    weights, about_bands = bands_of(header, len(planes))
    grid, placement, about_scale = _grid_of(header, (planes.shape[1], planes.shape[2]))
    factor, about_units = nanomaggies_per_unit(header, grid.pixscale)
    about_place = [placement.note] if placement and placement.note else []
    if placement and not placement.exact:
        planes, covered = north_up(planes, placement)
        if covered < 0.99:
            about_place[0] += f", {1 - covered:.0%} of it is empty"
    elif placement is None or placement.starts_south:
        planes = planes[:, ::-1]
    planes = np.nan_to_num(planes, nan=0, posinf=0, neginf=0)
    if factor != 1 or not np.array_equal(weights, np.eye(3)):
        planes = np.tensordot(weights * np.float32(factor), planes, 1)
    return Cutout(planes, grid, (*notes, *about_bands, *about_units, *about_place, *about_scale))


def _grid_of(header: fits.Header, shape: tuple[int, int]) -> tuple[PixelGrid, Placement | None, list[str]]:
    """Find where an image lies by its world coordinates or, without, its scale by a card."""
    wcs = read_wcs(header)
    placement = None if wcs is None else place(wcs, shape)
    scale, about_scale = _card_scale(header, placement)
    return PixelGrid(shape, scale) if placement is None else placement.grid, placement, about_scale


def _card_scale(header: fits.Header, placement: Placement | None) -> tuple[float, list[str]]:
    """Read the card PIXSCALE, arcsec per pixel; NaN if it is not there."""
    if "PIXSCALE" not in header:
        return np.nan, []
    try:
        scale = float(header["PIXSCALE"])
    except (TypeError, ValueError):
        scale = np.nan
    if not PIXSCALES[0] <= scale <= PIXSCALES[1]:
        return np.nan, [f"PIXSCALE {header['PIXSCALE']!r} is no scale in arcsec, so it is left out"]
    if placement is not None and abs(placement.grid.pixscale / scale - 1) > 0.01:
        by_wcs = f"{placement.grid.pixscale:.4g}"
        return scale, [f"PIXSCALE {scale:g} is not that of the WCS, {by_wcs}: the WCS is taken"]
    return scale, []


def write_cutout(path: str | os.PathLike[str], cube: NDArray[np.floating[Any]], grid: PixelGrid, **cards: Any) -> None:
    """Write a grz cutout as the Legacy Surveys service does: float32, row 0 south, WCS.

    Parameters
    ----------
    path : str or os.PathLike
        File to write.
    cube : numpy.ndarray
        (3, H, W) nanomaggies, bands g, r, z, row 0 north.
    grid : PixelGrid
        Where it is.
    **cards
        Further header cards, e.g. ``VERSION="DR9"``.
    """
    hdu = fits.PrimaryHDU(np.ascontiguousarray(cube[:, ::-1], np.float32))
    hdu.header["BANDS"] = "grz"
    for index, band in enumerate("grz"):
        hdu.header[f"BAND{index}"] = band
    hdu.header.update(cards)
    _write_fits(path, hdu, grid)


def add_place(hdu: fits.PrimaryHDU | fits.ImageHDU, grid: PixelGrid) -> None:
    """Add what is known of where an image lies."""
    if grid.ra is not None:
        hdu.header.update(grid.to_header())
    elif grid.scaled:
        hdu.header["PIXSCALE"] = (grid.pixscale, "arcsec per pixel; position unknown")


def _write_fits(path: str | os.PathLike[str], hdu: fits.PrimaryHDU, grid: PixelGrid) -> None:
    add_place(hdu, grid)
    buffer = _io.BytesIO()
    hdu.writeto(buffer)
    write_atomic(path, buffer.getvalue())
