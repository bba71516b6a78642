"""What a FITS header says of its image's light: which plane is which band, and how to make nanomaggies of its values.

Raises `BadPictureError` for what cannot be understood. Must not know files.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from zoobot_3d.errors import BadPictureError
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.sky.rgb import GREY

__all__ = ["BAND_CARDS", "WAVELENGTHS", "band_names", "band_said", "bands_of", "nanomaggies_per_unit"]

WAVELENGTHS = {"u": 355, "g": 475, "r": 625, "i": 770, "z": 910, "y": 970, "j": 1250, "h": 1650, "k": 2150}
"""Bands that are known, and their wavelengths in nm."""

BAND_CARDS = ("BANDS", "BAND0", "BAND", "FILTER", "FILTERS", "FILTER1", "BAND1")
"""Cards that may name the band of a single plane, those that are preferred first."""

_PLACES = ("g", "r", "z")
_ZERO_POINTS = (
    "MAGZERO", "MAGZPT", "MAGZP", "MAGZEROP", "MAG_ZP", "PHOTZP", "PHOT_ZP", "ZP", "ZPT", "ZEROPNT", "ZEROPT", "ZP_AB",
)  # fmt: skip
_COUNTS = re.compile(r"(adu|dn|counts?|cts?|electrons?|e-?|photons?|ph)([ /*]*(per )?(s|sec|second)(\^?-1|\*\*-1)?)?")
_PER_PIXEL = re.compile(r"\s*(/|per|\s)\s*pix(el)?s?(\^?-1|\*\*-1)?$", re.IGNORECASE)
_SPELLINGS = (
    (r"magg?(y|ies?)\b|mgy\b", "mgy"),
    (r"jansk(y|ies|ys)\b|jy\b", "Jy"),
    (r"\bnano\s*(?=mgy|Jy)", "n"),
    (r"\bmilli\s*(?=mgy|Jy)", "m"),
    (r"(\bmicro|\bmu|µ|μ)\s*(?=mgy|Jy)", "u"),
)
"""What people write, and what Astropy reads."""

_BAND_ZERO_POINT = re.compile(r"(MAGZ(ERO|P|PT)?|MAG_?ZP|PHOT_?ZP|ZP|ZPT|ZEROP|ZEROPOINT)_?[UGRIZYJHK]")
"""Cards of a zero point for each band."""
_NO_BANDS = ("WAVE", "AWAV", "FREQ", "ENER", "WAVN", "VELO", "VRAD", "VOPT", "ZOPT", "STOKES")
"""What ``CTYPE3`` says of planes that are no bands."""

_AB = u.zero_point_flux(3631 * u.Jy)
_NANOMAGGY_ZERO_POINT = 22.5


def bands_of(header: Header, n_planes: int) -> tuple[NDArray[np.float32], list[str]]:
    """Tell how planes make the bands g, r, z.

    Parameters
    ----------
    header : astropy.io.fits.Header
        With ``BANDS``, such as ``grz``, or ``BAND0``, ``BAND1`` and so on; or the same as ``FILTER``.
    n_planes : int
        Planes of the image.

    Returns
    -------
    weights : numpy.ndarray
        (3, n_planes): g, r, z are ``weights @ planes``.
    notes : list of str
        Bands that stand in for others.

    Raises
    ------
    BadPictureError
        If the bands are unknown, repeated, or not as many as planes.
    """
    if n_planes == 1:
        name = _single_band(header)
        return GREY[:, None].astype(np.float32), [f"one band{f' ({name})' if name else ''}: shown in grey"]
    bands = _named_bands(header, n_planes)
    if bands is None:
        if n_planes != 3:
            raise BadPictureError(f"{n_planes} planes and no BANDS card; add one such as BANDS = 'griz'")
        return np.eye(3, dtype=np.float32), ["no BANDS card: planes taken as g, r, z"]
    return _weights(bands)


def band_names(header: Header, n_planes: int) -> tuple[tuple[str, ...], list[str]]:
    """Tell which band each plane is.

    Parameters
    ----------
    header : astropy.io.fits.Header
        With ``BANDS``, such as ``grz``, or ``BAND0``, ``BAND1`` and so on; of a single plane, ``BAND`` or ``FILTER``.
    n_planes : int
        Planes of the image.

    Returns
    -------
    names : tuple of str
        In the order of the planes, in small letters; ``unknown`` for a single plane that nothing names.
    notes : list of str
        What is taken for granted.

    Raises
    ------
    BadPictureError
        If the bands are unknown, repeated, or not as many as planes.
    """
    if n_planes == 1:
        name = _single_band(header).lower()
        return (name or "unknown",), [] if name else ["no card names the band"]
    bands = _named_bands(header, n_planes)
    if bands is None:
        if n_planes != 3:
            raise BadPictureError(f"{n_planes} planes and no BANDS card; add one such as BANDS = 'griz'")
        return _PLACES, ["no BANDS card: planes taken as g, r, z"]
    return tuple(bands), []


def band_said(header: Header, name: str = "") -> str:
    """Return the letter of the band that an image of one plane says it is of.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of the image.
    name : str
        Its ``EXTNAME``, such as ``G`` or ``IMAGE_R``; the cards of the header count first.

    Returns
    -------
    str
        A key of `WAVELENGTHS`, or empty.
    """
    for said in (*(str(header.get(card, "")) for card in BAND_CARDS), name.replace("_", " ")):
        if (band := _band(said.strip().lower())) in WAVELENGTHS:
            return band
    return ""


def _single_band(header: Header) -> str:
    names = [str(header.get(key, "")).strip() for key in ("BANDS", "BAND0", "BAND", "FILTER")]
    return next((name for name in names if name), "")


def _check_bands(bands: list[str], n_planes: int, card: str) -> None:
    """Refuse what the planes cannot be."""
    told = f"{card} {''.join(bands)!r}"
    if len(bands) != n_planes:
        raise BadPictureError(f"{told} for {n_planes} planes; {'correct' if card == 'BANDS' else 'add'} the card BANDS")
    if unknown := [band for band in bands if band not in WAVELENGTHS]:
        raise BadPictureError(f"{told}: {unknown[0]!r} is no known band; give BANDS of {''.join(WAVELENGTHS)}")
    if len(set(bands)) < len(bands):
        raise BadPictureError(f"{told}: a band is there twice; correct the card")


def _named_bands(header: Header, n_planes: int) -> list[str] | None:
    """Read the bands from every card that names them, and check that they agree; None if there is none.

    Raises
    ------
    BadPictureError
        If they cannot be the bands of these planes.
    """
    found: dict[str, list[str]] = {}
    for card in ("BANDS", "FILTERS", "FILTER", "BAND"):
        if said := str(header.get(card, "")).strip().lower():
            if found and card in ("FILTER", "BAND"):
                break  # they may name the band that the file was sorted by
            found[card] = _listed(said)
    for card in ("BAND", "FILTER"):
        first = 0 if f"{card}0" in header else 1
        single = [str(header.get(f"{card}{first + index}", "")).strip().lower() for index in range(n_planes)]
        if all(single):
            found[f"{card}{first}"] = [_band(name) for name in single]
    if not found:
        if (kind := str(header.get("CTYPE3", "")).strip().upper()[:6]).startswith(_NO_BANDS):
            raise BadPictureError(f"CTYPE3 is {kind!r}, so planes are no bands; add up a band, or name them in BANDS")
        return None
    (card, bands), *others = found.items()
    _check_bands(bands, n_planes, card)
    for other, names in others:
        if names != bands:
            told = ", ".join(names)
            raise BadPictureError(f"{card} is {''.join(bands)!r}, but {other} and so on are {told}; correct the header")
    return bands


def _listed(said: str) -> list[str]:
    """Take a list of bands apart: with marks or blanks between them, or a letter each."""
    apart = r"[,;|+]" if re.search(r"[,;|+]", said) else r"[\s-]+"
    names = [name for name in re.split(apart, said.strip("[]()")) if name.strip()]
    return [_band(name) for name in names] if len(names) > 1 else list(said)


def _band(name: str) -> str:
    """Return the letter of a band as surveys write it, such as ``sdss_g``, ``r.MegaCam`` or ``z DECam``."""
    letters = [word for word in re.split(r"[\s._'\"/-]+", name) if word in WAVELENGTHS or word == "ks"]
    return letters[0][0] if len(letters) == 1 else name.strip()


def _weights(bands: list[str]) -> tuple[NDArray[np.float32], list[str]]:
    """Put bands into the places of g, r, z: their own or, in order of wavelength, those that are nearest."""
    weights = np.zeros((3, len(bands)), np.float32)
    ordered = sorted(bands, key=WAVELENGTHS.__getitem__)
    if len(bands) == 2:
        weights[0, bands.index(ordered[0])] = weights[2, bands.index(ordered[1])] = 1
        weights[1] = 0.5
        shown = f"{ordered[0]}, their mean and {ordered[1]}"
        return weights, [f"two bands: {shown} stand in for g, r, z, so colours are not those of Galaxy Zoo"]
    chosen = min(combinations(ordered, 3), key=lambda some: sum(map(_apart, some, _PLACES)))
    for place, band in enumerate(chosen):
        weights[place, bands.index(band)] = 1
    if chosen == _PLACES:
        return weights, []
    return weights, [f"bands {', '.join(chosen)} stand in for g, r, z: colours are not those of Galaxy Zoo"]


def _apart(band: str, place: str) -> float:
    return abs(WAVELENGTHS[band] - WAVELENGTHS[place])


def nanomaggies_per_unit(header: Header, pixscale: float) -> tuple[float, list[str]]:
    """Tell what one unit of an image's values is in nanomaggies (AB, per pixel).

    Parameters
    ----------
    header : astropy.io.fits.Header
        With ``BUNIT``, a zero point such as ``MAGZERO``, or neither.
    pixscale : float
        Arcsec per pixel, for units of surface brightness; NaN if unknown.

    Returns
    -------
    factor : float
        Nanomaggies.
    notes : list of str
        What is converted, or not known.

    Raises
    ------
    BadPictureError
        If the unit is not one of brightness, such as a flux per wavelength, or the zero point is impossible.
    """
    unit = str(header.get("BUNIT", "")).strip()
    zero_point, card = _zero_point(header)
    by_zero_point = 10 ** (0.4 * (_NANOMAGGY_ZERO_POINT - zero_point))
    bare = _PER_PIXEL.sub("", unit)
    if not bare or _COUNTS.fullmatch(bare.lower()):
        if card:
            told = f"{unit or 'values'} with zero point {zero_point:g} mag ({card}): converted to nanomaggies"
            return by_zero_point, [told] if unit or abs(by_zero_point - 1) > 1e-3 else []
        if unit:
            return 1.0, [f"BUNIT {unit!r} and no zero point: taken as nanomaggies, brightness is unknown"]
        if header.get("BITPIX") == 8 and not {"BSCALE", "BZERO"} & {*header}:
            raise BadPictureError("8-bit values and no BUNIT: a picture, not nanomaggies; give it as PNG or JPEG")
        known = any(key in header for key in ("BANDS", "BAND0"))  # the Legacy Surveys' own cutouts say no more
        return 1.0, [] if known else ["no BUNIT and no zero point: taken as nanomaggies"]
    factor = _by_unit(bare, pixscale)
    if factor is None:
        fix = "convert the image to nanomaggies"
        raise BadPictureError(f"BUNIT {unit!r} cannot be made nanomaggies; {fix}")
    notes = [] if factor == 1 else [f"{unit} converted to nanomaggies"]
    if card and abs(np.log10(by_zero_point / factor)) > 0.01:
        notes.append(f"zero point {zero_point:g} mag ({card}) is not that of {unit}: BUNIT is believed")
    return factor, notes


def _zero_point(header: Header) -> tuple[float, str]:
    """Read the zero point, in AB magnitudes, and its card; NaN and "" if there is none."""
    if several := [card for card in header if _BAND_ZERO_POINT.fullmatch(card)]:
        raise BadPictureError(f"zero points of single bands ({several[0]}) are not read; convert it to nanomaggies")
    found: dict[str, float] = {}
    for card in (*_ZERO_POINTS, "FLUXMAG0"):
        if (value := header.get(card)) is None or value == "":
            continue
        number = _number(value)
        if card == "FLUXMAG0":
            number = 2.5 * np.log10(number) if number > 0 else np.nan
        if not 0 < number < 50:
            raise BadPictureError(f"zero point {card} is {value!r}; correct the card")
        found[card] = float(number)
    if not found:
        return np.nan, ""
    if max(found.values()) - min(found.values()) > 0.01:
        raise BadPictureError(f"zero points {', '.join(f'{k} {v:g}' for k, v in found.items())} differ; keep one")
    for card in ("MAGSYS", "PHOTSYS", "ZPSYS", "MAGSYSTM"):
        if "vega" in str(header.get(card, "")).lower():
            raise BadPictureError(f"{card} says that the zero point is in the Vega system; give an AB zero point")
    card = next(iter(found))
    return found[card], card


def _number(value: Any) -> float:
    try:
        return np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return np.nan


def _by_unit(text: str, pixscale: float) -> float | None:
    """Nanomaggies of a unit of flux density, or of one of surface brightness in a pixel; None if it is neither."""
    for written, read in _SPELLINGS:
        text = re.sub(written, read, text, flags=re.IGNORECASE)
    if text == "nmgy":
        return 1.0
    area = (pixscale * u.arcsec) ** 2 if np.isfinite(pixscale) else None
    try:
        with quiet_libraries():
            unit = u.Unit(text)
        for one in (1 * unit, None if area is None else 1 * unit * area):
            if one is not None and one.unit.is_equivalent(u.nmgy, _AB):
                factor = float(one.to_value(u.nmgy, _AB))
                return factor if np.isfinite(factor) and factor > 0 else None
    except Exception:  # Astropy raises several classes for units it does not know
        return None
    return None
