"""Which images of a FITS file show a galaxy's light: planes as stored, and the header that describes them.

Bands lie in one cube, or each in an HDU of its own. Must not know the package's row order or its bands g, r, z.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError
from zoobot_3d.sky.header import SkyImage, is_wcs_card, read_wcs
from zoobot_3d.sky.light import BAND_CARDS, band_said, nanomaggies_per_unit

__all__ = ["TOO_LARGE", "image_of", "inverse_variance"]

TOO_LARGE = "cut the galaxy out first, or set ZOOBOT3D_MAX_PIXELS"

_MOST_HDUS = 64
_BESIDE_LIGHT = {
    "INVVAR", "IVAR", "WEIGHT", "WEIGHTS", "WHT", "MASK", "MASKBITS", "DQ", "ERR", "ERROR", "UNCERT", "UNCERTAINTY",
    "SIGMA", "RMS", "VAR", "VARIANCE", "STDDEV", "NEXP", "EXPOSURE", "EXPMAP", "PSF", "SEGMENTATION", "SEGMAP",
}  # fmt: skip
"""What names of HDUs and ``IMTYPE`` call images that lie beside that of the light."""

_BEYOND_ALL = 1e20  # in any unit that is read: a mark of pixels without data, or damage
_SENTINELS = (-99.0, -999.0, -9999.0, -99999.0, -999999.0, -32768.0, float(np.float32(-(2**31))))
_MOST_BANDS, _FEWEST_ROWS = 9, 16  # an image whose last axis is as short, and whose others are not, has its bands last
_APART = 0.1  # of a pixel: images of bands that lie farther apart are not on the same pixels


def image_of(
    path: str | os.PathLike[str], hdus: fits.HDUList, n_bytes: int, max_values: int
) -> tuple[NDArray[np.float32], fits.Header, list[str]]:
    """Read the image of the light in a FITS file.

    That is the first with several planes; else images of one plane, if two or more say of which band they are
    (``EXTNAME``, ``BAND`` or ``FILTER``), as the planes of one; else the first image.

    Parameters
    ----------
    path : path
        For messages.
    hdus : astropy.io.fits.HDUList
        The file.
    n_bytes : int
        Its size.
    max_values : int
        Values above which an image is not read.

    Returns
    -------
    planes : numpy.ndarray
        (n, H, W) as stored; planes of several HDUs in the unit of the first.
    header : astropy.io.fits.Header
        Of the image, with what the file's first header adds to it; of several HDUs that of the first, with ``FILTERS``.
    notes : list of str
        Which images were taken, and what in them is no light.

    Raises
    ------
    BadFileError
        If there is no image of light, if it is truncated, too large or no (bands, H, W), or if images of bands are not
        on the same pixels.
    """
    images = [index for index, hdu in zip(range(_MOST_HDUS), hdus, strict=False) if hdu.is_image and len(hdu.shape) > 1]
    if not images:
        raise BadFileError(path, "no image in this FITS file", "give an image of the galaxy in bands g, r, z")
    light = [index for index in images if not _kinds(hdus[index]) & _BESIDE_LIGHT]
    if not light:
        kind = min(_kinds(hdus[images[0]]) & _BESIDE_LIGHT)
        raise BadFileError(path, f"HDU {images[0]} is said to be {kind}, and no image is of light", "give the image")
    cube = next((index for index in light if np.prod(hdus[index].shape[:-2], dtype=object) > 1), None)
    bands = {} if cube is not None else _bands_apart(hdus, light)
    if len(bands) > 1:
        return _stacked(path, hdus, bands, n_bytes, max_values)
    taken = light[0] if cube is None else cube
    planes, header, told = _one(path, hdus, taken, n_bytes, max_values)
    notes = [f"{len(images)} images in the file: that of HDU {taken} is taken"] if len(images) > 1 else []
    return planes, header, [*notes, *told]


def inverse_variance(hdus: fits.HDUList, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Find an image of inverse variances; None if there is none of this shape."""
    for _, hdu in zip(range(_MOST_HDUS), hdus, strict=False):
        there = hdu.is_image and {"INVVAR", "IVAR"} & _kinds(hdu)
        if there and int(np.prod(hdu.shape, dtype=object)) == np.prod(shape):
            return np.asarray(hdu.data, np.float32).reshape(shape)
    return None


def _kinds(hdu: Any) -> set[str]:
    """Return the words with which an HDU says what kind of image it holds."""
    told = " ".join(str(name) for name in (hdu.name, hdu.header.get("IMTYPE"), hdu.header.get("IMAGETYP")))
    return set(re.split(r"[^A-Z]+", told.upper()))


def _bands_apart(hdus: fits.HDUList, light: list[int]) -> dict[str, int]:
    """Return the first HDU of each band that HDUs of one plane name."""
    bands: dict[str, int] = {}
    for index in light:
        band = band_said(hdus[index].header, str(hdus[index].name))
        if band:
            bands.setdefault(band, index)
    return bands


def _stacked(
    path: str | os.PathLike[str], hdus: fits.HDUList, bands: dict[str, int], n_bytes: int, max_values: int
) -> tuple[NDArray[np.float32], fits.Header, list[str]]:
    """Read images of single bands as the planes of one, in the unit of the first."""
    notes = [f"bands {', '.join(bands)} of HDUs {', '.join(map(str, bands.values()))}"]
    planes: list[NDArray[np.float32]] = []
    first, unit = fits.Header(), 1.0
    for band, index in bands.items():
        plane, header, told = _one(path, hdus, index, n_bytes, max_values // len(bands))
        place = _place(header, plane.shape[1:])
        factor, _ = nanomaggies_per_unit(header, np.nan if place is None else place.lie.pixscale)
        if not planes:
            first, unit = header, factor
        elif why := _apart(plane.shape[1:], planes[0].shape, place, _place(first, planes[0].shape)):
            raise BadFileError(path, f"HDU {index} (band {band}) {why}", "give bands on the same pixels")
        if factor != unit:
            notes.append(f"band {band} has another unit or zero point: converted")
        planes.append(plane[0] * np.float32(factor / unit))
        notes += [f"band {band}: {note}" for note in told]
    if any({"INVVAR", "IVAR"} & _kinds(hdu) for _, hdu in zip(range(_MOST_HDUS), hdus, strict=False)):
        notes.append("inverse variances of single bands are not read")
    for card in BAND_CARDS:
        first.remove(card, ignore_missing=True, remove_all=True)
    first["FILTERS"] = "".join(bands)  # not BANDS, which says that it is a cutout of the Legacy Surveys, in nanomaggies
    return np.stack(planes), first, notes


def _place(header: fits.Header, shape: tuple[int, ...]) -> SkyImage | None:
    wcs = read_wcs(header)
    return None if wcs is None else SkyImage(wcs, (shape[0], shape[1]))


def _apart(shape: tuple[int, ...], wanted: tuple[int, ...], place: SkyImage | None, first: SkyImage | None) -> str:
    """Say why an image is not on the pixels of the first; empty if it is."""
    if shape != wanted:
        return f"has {shape[0]} x {shape[1]} pixels, the first {wanted[0]} x {wanted[1]}"
    if place is None or first is None:
        return "" if place is first else "and the first do not both have world coordinates"
    x, y = np.array([[0, wanted[1] - 1, 0, wanted[1] - 1], [0, 0, wanted[0] - 1, wanted[0] - 1]])
    far = float(np.max(np.abs(first.to_pixel(*place.to_sky(x, y)) - [x, y])))
    return "" if far <= _APART else f"lies up to {far:.3g} pixels from the first"


def _one(
    path: str | os.PathLike[str], hdus: fits.HDUList, taken: int, n_bytes: int, max_values: int
) -> tuple[NDArray[np.float32], fits.Header, list[str]]:
    """Return the planes of an image, (n, H, W) as stored, its header, and what in it is no light."""
    hdu = hdus[taken]
    shape = tuple(hdu.shape)
    n_values = int(np.prod(shape, dtype=object))
    if not n_values:
        raise BadFileError(path, f"HDU {taken} has an image of shape {shape}", "download it again")
    if n_values > max_values:
        raise BadFileError(path, f"an image of {n_values:,} values, more than {max_values:,}", TOO_LARGE)
    if sum(length > 1 for length in shape[:-2]) > 1:
        raise BadFileError(path, f"HDU {taken} has an image of shape {shape}, not (bands, H, W)", "cut it out first")
    if shape[-1] <= _MOST_BANDS and len(shape) > 2 and min(shape[-3:-1]) >= _FEWEST_ROWS:
        what = f"HDU {taken} has an image of shape {shape}: its bands are the last axis"
        raise BadFileError(path, what, "write it as (bands, H, W)")
    at = hdus.fileinfo(taken)
    packed = isinstance(hdu, fits.CompImageHDU)
    if at["datLoc"] + (at["datSpan"] if packed else n_values * abs(hdu.header["BITPIX"]) // 8) > n_bytes:
        raise BadFileError(path, "truncated FITS image", "download it again")
    header = _with_first(hdu.header, hdus[0].header)  # before the data are read, which changes it
    planes, told = _without_marks(np.asarray(hdu.data, np.float32).reshape(-1, *shape[-2:]))
    return planes, header, told


def _without_marks(planes: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[str]]:
    """Make NaN of numbers that stand for missing values: one such as -9999 far below all others, and 1e30."""
    notes = []
    with np.errstate(invalid="ignore"):
        missing = np.isfinite(planes) & (np.abs(planes) >= _BEYOND_ALL)
        if missing.any():
            notes.append(f"{np.count_nonzero(missing):,} values beyond {_BEYOND_ALL:g} taken as missing")
            planes = np.where(missing, np.float32(np.nan), planes)
        lowest = float(np.min(planes, initial=0, where=np.isfinite(planes)))
        if lowest in _SENTINELS and not ((planes > lowest) & (planes < lowest / 2)).any():
            missing = planes == np.float32(lowest)
            notes.append(f"{np.count_nonzero(missing):,} values of {lowest:g} taken as missing")
            planes = np.where(missing, np.float32(np.nan), planes)
    return planes, notes


def _with_first(header: fits.Header, first: fits.Header) -> fits.Header:
    """Copy an image's header, with what a file's first header says for all of it: not of places on the sky."""
    more = [keyword for keyword in dict.fromkeys(first) if keyword not in header and not is_wcs_card(keyword)]
    header = header.copy()
    header.extend(first.cards[keyword] for keyword in more if keyword not in ("", "COMMENT", "HISTORY"))
    return header
