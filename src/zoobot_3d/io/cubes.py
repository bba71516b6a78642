"""FITS cutouts. This file and `zoobot_3d.io.masks` are the only places where rows are flipped.

In memory row 0 is north; FITS files start in the south unless their WCS says otherwise.
"""

from __future__ import annotations

import io as _io
import os
import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError, GridError
from zoobot_3d.io.files import write_atomic
from zoobot_3d.sky.grid import PixelGrid, starts_south

__all__ = ["read_cutout", "write_cutout"]


def read_cutout(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], PixelGrid]:
    """Read a Legacy Surveys grz cutout.

    Parameters
    ----------
    path : str or os.PathLike
        FITS file with a (3, H, W) image in nanomaggies in its first HDU.

    Returns
    -------
    cube : numpy.ndarray
        (3, H, W) float32, bands g, r, z, row 0 **north**; pixels without data are 0.
    grid : PixelGrid
        Where it is on the sky; floating, at 0.262 arcsec per pixel, if the header has no WCS.

    Raises
    ------
    BadFileError
        If the file is missing, truncated, not FITS, or not three bands.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # truncation is found below, in one line
            with fits.open(path, memmap=False) as hdus:
                header = hdus[0].header
                expected = header.get("BITPIX", 8) // 8
                for axis in range(header.get("NAXIS", 0)):
                    expected *= header[f"NAXIS{axis + 1}"]
                data = hdus[0].data
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, TypeError, ValueError, EOFError) as error:
        raise BadFileError(
            path, f"truncated or not a FITS file ({error})".replace("\n", " "), "download it again"
        ) from None
    if data is None or data.ndim != 3 or data.shape[0] != 3:
        found = "no image" if data is None else f"an image of shape {data.shape}"
        raise BadFileError(
            path, f"HDU 0 holds {found}, not (3, H, W) in bands g, r, z", "ask the service for bands=grz"
        )
    if data.nbytes < abs(expected):
        raise BadFileError(path, "truncated FITS image", "download it again")
    cube = np.nan_to_num(np.asarray(data, np.float32))
    try:
        wcs = WCS(header, naxis=2)
        if not wcs.has_celestial:
            return cube[:, ::-1], PixelGrid(cube.shape[1:], 0.262)
        grid = PixelGrid.from_wcs(wcs, cube.shape[1:])
    except GridError as error:
        raise BadFileError(path, str(error)) from None
    return (cube[:, ::-1] if starts_south(wcs) else cube), grid


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


def place(hdu: fits.PrimaryHDU | fits.ImageHDU, grid: PixelGrid, scaled: bool = True) -> None:
    """Add what is known of where an image lies."""
    if grid.ra is not None:
        hdu.header.update(grid.to_header())
    elif scaled:
        hdu.header["PIXSCALE"] = (grid.pixscale, "arcsec per pixel; position unknown")


def _write_fits(path: str | os.PathLike[str], hdu: fits.PrimaryHDU, grid: PixelGrid) -> None:
    place(hdu, grid)
    buffer = _io.BytesIO()
    hdu.writeto(buffer)
    write_atomic(path, buffer.getvalue())
