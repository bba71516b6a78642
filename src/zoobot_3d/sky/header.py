"""What a FITS header says of its image's place on the sky: positions in ICRS, and how the image lies.

Reads world coordinates with Astropy, after checks that Astropy does not make, and raises `GridError` alone. Must not
know files or pixel values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from astropy.coordinates import (
    FK4,
    FK5,
    ICRS,
    BarycentricMeanEcliptic,
    BaseCoordinateFrame,
    FK4NoETerms,
    Galactic,
    SkyCoord,
    Supergalactic,
    UnitSphericalRepresentation,
)
from astropy.io.fits import Header
from astropy.time import Time
from astropy.units import deg
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray

from zoobot_3d.errors import GridError
from zoobot_3d.quiet import quiet_libraries

__all__ = ["Lie", "SkyImage", "axes_at", "is_wcs_card", "read_wcs", "tangent_offsets"]

_NUMBERS = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)[12]|(PC|CD)[12]_[12]|PV[12]_\d\d?|LONPOLE|LATPOLE|EQUINOX|EPOCH|(A|B|AP|BP)_(ORDER|\d_\d)"
)
"""Cards of the first two axes that must be numbers; of a longer matrix the rest is no matter of the sky."""

_WORDS = re.compile(r"(CTYPE|CUNIT)[12]|RADESYS|RADECSYS|(CPDIS|D2IMDIS|CQDIS)[12]|PS[12]_\d\d?")
_MIXED = re.compile(r"(PC|CD)([12]_[3-9]|[3-9]_[12])")
_EQUINOXES = (1800.0, 2200.0)
_HIGHEST_ORDER = 9  # of SIP polynomials, by the convention


def is_wcs_card(keyword: str) -> bool:
    """Tell whether a keyword says where the first two axes of an image lie."""
    return any(kind.fullmatch(keyword) for kind in (_NUMBERS, _WORDS, _MIXED))


def read_wcs(header: Header) -> WCS | None:
    """Read the celestial world coordinates of an image's first two axes.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of the image; further axes, such as bands, are left out.

    Returns
    -------
    astropy.wcs.WCS or None
        None if the header says nothing of world coordinates.

    Raises
    ------
    GridError
        If it says something that is no position on the sky, or that cannot be understood.
    """
    try:
        with quiet_libraries():
            return _read_wcs(header)
    except GridError:
        raise
    except Exception as error:  # Astropy and wcslib raise almost any class on bad cards
        raise _not_understood(error) from None


def _not_understood(error: Exception) -> GridError:
    lines = [line for line in str(error).strip().splitlines() if line and not line.startswith("ERROR ")]
    first = lines[0].strip() if lines else type(error).__name__
    return GridError(f"the header's world coordinates cannot be understood ({first}); correct or remove them")


def _read_wcs(header: Header) -> WCS | None:
    cards = _celestial_cards(header)
    types = [str(cards.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2)]
    if not any(types) and not any(cards.get(f"CRVAL{axis}") for axis in (1, 2)):
        return None
    _check_types(types)
    _check_sip(cards, types)
    wcs = WCS(_with_polynomials(cards, types))
    if {wcs.wcs.lng, wcs.wcs.lat} != {0, 1}:
        told = " and ".join(repr(name) for name in types)
        raise GridError(f"no celestial axes: CTYPE1 and CTYPE2 are {told}; give RA---TAN and DEC--TAN")
    longitude = wcs.wcs.crval[wcs.wcs.lng]
    if not -180 <= longitude <= 360:
        raise GridError(f"CRVAL is {longitude:g} deg of longitude; correct the header")
    return wcs


def _celestial_cards(header: Header) -> Header:
    """Copy what matters for the first two axes, and refuse what Astropy would silently take for zero."""
    cards = Header([("NAXIS", 2), ("WCSAXES", 2)])
    for keyword in dict.fromkeys(header):
        if not is_wcs_card(keyword):
            continue
        number = _NUMBERS.fullmatch(keyword)
        try:
            value = header[keyword]
        except Exception:  # a card that is no FITS, such as a bare NaN
            value = header.cards[keyword].image[10:].split("/")[0].strip(" '")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
        if number and not is_number:
            raise GridError(f"{keyword} is {value!r}, not a number; correct the header")
        if _MIXED.fullmatch(keyword):
            if value != 0:
                raise GridError(f"{keyword} mixes the sky with another axis; cut the image out of its cube first")
            continue
        cards[keyword] = value
    for name in ("NAXIS1", "NAXIS2"):
        if name in header:
            cards[name] = header[name]
    return cards


def _check_types(types: list[str]) -> None:
    """Refuse projections of which Astropy would read a part, or that are none."""
    for axis, name in enumerate(types, 1):
        kind = re.fullmatch(r"[A-Z][A-Z0-9-]{3}-([A-Z]{3})(-[A-Z]+)?", name)
        if kind and (kind[1] in ("TNX", "ZPX") or kind[2] not in (None, "-SIP")):
            raise GridError(f"CTYPE{axis} is {name!r}, a distortion that is not understood; reproject the image first")
        if name in ("RA", "DEC", "GLON", "GLAT", "ELON", "ELAT"):
            raise GridError(f"CTYPE{axis} is {name!r} without a projection; give one such as RA---TAN")


def _check_sip(cards: Header, types: list[str]) -> None:
    """Refuse SIP coefficients that CTYPE does not name, and more of them than there can be."""
    found = [keyword for keyword in cards if re.fullmatch(r"[AB]_(ORDER|\d_\d)", keyword)]
    if found and not all(name.endswith("-SIP") for name in types):
        raise GridError("SIP coefficients without -SIP in CTYPE: is the image distorted? Correct CTYPE or remove them")
    for keyword in ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"):
        if not 0 <= cards.get(keyword, 0) <= _HIGHEST_ORDER:
            raise GridError(f"{keyword} is {cards[keyword]}; SIP polynomials have orders up to {_HIGHEST_ORDER}")


def _with_polynomials(cards: Header, types: list[str]) -> Header:
    """Write the polynomials of TPV in the one way in which wcslib reads them rightly.

    They act on degrees, and their linear terms are 1 where they are not given. With CDELT, wcslib applies them to
    pixels, and takes missing terms for 0. SCAMP wrote TAN where the name that was registered later is TPV.
    """
    terms = [re.fullmatch(r"PV([12])_(\d+)", keyword) for keyword in cards]
    scamp = any(term and (term[1] == "2" or int(term[2]) > 4) for term in terms)
    if {name[5:8] for name in types} != {"TPV"} and not (scamp and {name[5:8] for name in types} == {"TAN"}):
        return cards
    if any(name.endswith("-SIP") for name in types):
        raise GridError("distortions as SIP and as PV; remove one of them")
    if any(str(cards.get(f"CUNIT{axis}", "deg")).strip() not in ("", "deg") for axis in (1, 2)):
        raise GridError("a TPV projection in other units than degrees; correct CUNIT")
    out, linear = Header(), Header()
    for keyword, value in cards.items():
        (out if not re.match(r"CDELT|CROTA|PC|CD\d", keyword) else linear)[keyword] = value
    for axis, name in enumerate(types, 1):
        out[f"CTYPE{axis}"] = name[:5] + "TPV"
        out.setdefault(f"PV{axis}_1", 1.0)
        linear[f"CTYPE{axis}"] = name[:5] + "TAN"
    matrix = WCS(linear).pixel_scale_matrix
    out.update({f"CD{i + 1}_{j + 1}": float(matrix[i, j]) for i in (0, 1) for j in (0, 1)})
    return out


def axes_at(ra: float, dec: float) -> NDArray[np.float64]:
    """Return unit vectors to the east, to the north and outwards at a position (deg): the columns of a rotation."""
    a, d = np.radians(ra), np.radians(dec)
    east = [-np.sin(a), np.cos(a), 0.0]
    north = [-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)]
    return np.column_stack([east, north, [np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)]])


def tangent_offsets(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> NDArray[np.float64]:
    """Gnomonic offsets (2, ...) of positions, arcsec to the east and north of a tangent point; NaN beyond 90 deg."""
    a, d = np.radians(ra), np.radians(dec)
    unit = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    xi, eta, out = np.tensordot(axes_at(ra0, dec0).T, unit, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.degrees(np.where(out > 0, np.stack([xi, eta]) / out, np.nan)) * 3600


@dataclass(frozen=True)
class Lie:
    """How an image lies about its middle.

    Attributes
    ----------
    ra, dec : float
        Position of the middle, deg (ICRS).
    pixscale : float
        Side of a square of a pixel's area, arcsec.
    matrix : numpy.ndarray
        (2, 2) arcsec to the east and north (rows) for one pixel in x and y of the array as stored (columns).
    """

    ra: float
    dec: float
    pixscale: float
    matrix: NDArray[np.float64]

    @property
    def sides(self) -> NDArray[np.float64]:
        """Longest and shortest arcsec per pixel of any direction."""
        return np.asarray(np.linalg.svd(self.matrix, compute_uv=False), np.float64)

    @property
    def starts_south(self) -> bool:
        """Whether rows run to the north rather than to the south."""
        return bool(self.matrix[1, 1] > 0)

    def words(self) -> list[str]:
        """Say in what it differs from north up, east left; rows may start at either end."""
        from_south = self.matrix if np.linalg.det(self.matrix) < 0 else self.matrix * [1, -1]
        turn = _turn(from_south * [-1, 1])
        mirrored = from_south is not self.matrix and abs(turn) > 90
        if mirrored:
            turn = _turn(self.matrix)
        words = ["mirrored"] if mirrored else []
        if abs(turn) > 0.005:
            words.append(f"rotated by {abs(turn):.3g} deg")
        if self.sides[0] > 1.001 * self.sides[1]:
            words.append("pixels not square, {:.4g} by {:.4g} arcsec".format(*self.sides))
        return words


def _turn(matrix: NDArray[np.float64]) -> float:
    """Return the angle in deg of the rotation that is nearest to a matrix."""
    return float(np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])))


class SkyImage:
    """An image's pixels and their positions in ICRS, whatever the projection, frame and distortions of its WCS.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        With two celestial axes, or a celestial part.
    shape : tuple of int
        Rows and columns.

    Raises
    ------
    GridError
        If the coordinates are of no known frame, or are not finite.
    """

    def __init__(self, wcs: WCS, shape: tuple[int, int]) -> None:
        try:
            with quiet_libraries():
                self.wcs = wcs if wcs.naxis == 2 else wcs.celestial
                if self.wcs.naxis != 2 or {self.wcs.wcs.lng, self.wcs.wcs.lat} != {0, 1}:
                    raise GridError("no celestial axes: give a header with CTYPE RA---TAN and DEC--TAN")
                self.wcs.wcs.set()
                self.frame = _frame(self.wcs)
        except GridError:
            raise
        except Exception as error:
            raise _not_understood(error) from None
        self.shape = (int(shape[0]), int(shape[1]))

    def to_sky(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Convert 0-based pixel coordinates of the array as stored to (2, ...) RA and Dec in deg, or NaN."""
        try:
            with quiet_libraries(), np.errstate(all="ignore"):
                world = self.wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
                lon, lat = (np.asarray(world[axis]) for axis in (self.wcs.wcs.lng, self.wcs.wcs.lat))
                lat = np.where(np.abs(lat) <= 90, lat, np.nan)
                place = self.frame.realize_frame(UnitSphericalRepresentation(lon * deg, lat * deg))
                icrs = place if isinstance(self.frame, ICRS) else place.transform_to(ICRS())
                return np.stack([icrs.ra.deg, icrs.dec.deg])
        except Exception as error:
            raise _not_understood(error) from None

    def to_pixel(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
        """Convert RA and Dec in deg to (2, ...) 0-based pixel coordinates of the array as stored."""
        try:
            with quiet_libraries(), np.errstate(all="ignore"):
                place = SkyCoord(np.asarray(ra) * deg, np.asarray(dec) * deg, frame=ICRS()).transform_to(self.frame)
                spherical = place.data.represent_as(UnitSphericalRepresentation)
                world = [spherical.lon.deg, spherical.lat.deg]
                if self.wcs.wcs.lng == 1:
                    world = world[::-1]
                return np.stack(self.wcs.all_world2pix(*world, 0, quiet=True))
        except Exception as error:
            raise _not_understood(error) from None

    @property
    def written_scale(self) -> float:
        """Arcsec per pixel at the reference pixel, by the header's CDELT, PC or CD: exact where pixels are square."""
        return float(np.mean(proj_plane_pixel_scales(self.wcs)) * 3600)

    @cached_property
    def sample(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """5 x 5 pixels from edge to edge, (2, 25) x and y, and their positions, (2, 25) deg.

        Raises
        ------
        GridError
            If one has no position, or is more than 90 deg from the middle.
        """
        rows, columns = (np.linspace(0, n - 1, 5) for n in self.shape)
        pixels = np.stack(np.meshgrid(columns, rows)).reshape(2, -1)
        sky = self.to_sky(*pixels)
        if not np.isfinite(sky).all():
            raise GridError("parts of the image have no position on the sky; correct the header's world coordinates")
        if not np.isfinite(tangent_offsets(sky[0], sky[1], self.lie.ra, self.lie.dec)).all():
            raise GridError("the image covers more than half the sky; correct the header's world coordinates")
        return pixels, sky

    @cached_property
    def lie(self) -> Lie:
        """How the image lies about its middle.

        Raises
        ------
        GridError
            If the middle has no position, or its pixels no area.
        """
        x, y = (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2
        half = np.array([[0, 0.5, -0.5, 0, 0], [0, 0, 0, 0.5, -0.5]])
        sky = self.to_sky(x + half[0], y + half[1])
        xi, eta = tangent_offsets(sky[0], sky[1], sky[0, 0], sky[1, 0])
        matrix = np.array([[xi[1] - xi[2], xi[3] - xi[4]], [eta[1] - eta[2], eta[3] - eta[4]]])
        if not np.isfinite(matrix).all():
            raise GridError("the middle of the image has no position on the sky; correct its world coordinates")
        scale = float(np.sqrt(abs(np.linalg.det(matrix))))
        if not scale:
            raise GridError("pixels have no area; correct the header's CDELT, PC or CD cards")
        written = self.written_scale
        return Lie(float(sky[0, 0]), float(sky[1, 0]), written if abs(written / scale - 1) < 1e-5 else scale, matrix)

    def coordinates(self) -> list[str]:
        """Say in what the coordinates differ from right ascension and declination in ICRS or of J2000."""
        frame = self.frame
        match frame:
            case ICRS():
                return []
            case FK5() if frame.equinox.jyear == 2000:
                return []
            case FK5():
                return [f"FK5 coordinates (J{frame.equinox.jyear:g})"]
            case FK4() | FK4NoETerms():
                return [f"FK4 coordinates (B{frame.equinox.byear:g})"]
        names: dict[Any, str] = {Galactic: "galactic", Supergalactic: "supergalactic"}
        return [f"{names.get(type(frame), 'ecliptic')} coordinates"]

    def projection(self) -> list[str]:
        """Say in what the projection differs from TAN without distortions."""
        code = self.wcs.wcs.ctype[0][5:8]  # wcslib calls TPV TAN
        words = [] if code == "TAN" else [f"{code} projection"]
        return words if self.wcs.sip is None else [*words, "SIP distortion"]


def _frame(wcs: WCS) -> BaseCoordinateFrame:
    """Tell the frame of celestial coordinates; Astropy would take ecliptic ones for ICRS."""
    kind, system, equinox = wcs.wcs.lngtyp.strip(), wcs.wcs.radesys.strip(), wcs.wcs.equinox
    if np.isfinite(equinox) and not _EQUINOXES[0] <= equinox <= _EQUINOXES[1]:
        raise GridError(f"EQUINOX is {equinox:g}; correct the header")
    if kind == "GLON":
        return Galactic()
    if kind == "SLON":
        return Supergalactic()
    if kind == "ELON" and system in ("", "ICRS", "FK5"):
        return BarycentricMeanEcliptic(equinox=Time(equinox if np.isfinite(equinox) else 2000.0, format="jyear"))
    if kind != "RA":
        raise GridError(f"coordinates {kind} of RADESYS {system!r} are not understood; give RA and Dec")
    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError:
        raise GridError(f"RADESYS {system!r} is not understood; give ICRS, FK5 or FK4") from None
