"""Positions from a table's columns: degrees where they can be used, NaN and a reason where they cannot.

Finds the columns under their usual names, honours their units, reads text in every notation of
`zoobot_3d.catalog.angles`, and finds what goes wrong in real catalogues: absent columns, NaN, values off the sky, hours
taken for degrees. Knows nothing of files or matching; a long table may come in pieces (`PositionReader`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import astropy.units as u
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.angles import Axis, parse_angle
from zoobot_3d.errors import CatalogError, ConfigError

__all__ = [
    "PositionReader",
    "Positions",
    "RaUnit",
    "check_equinox",
    "position_columns",
    "read_positions",
    "require_columns",
]

RaUnit: TypeAlias = Literal["deg", "hour"]
DEG_PER_UNIT: Mapping[str, float] = {"deg": 1.0, "hour": 15.0}

_PAIRS = (
    ("ra", "dec"),
    ("ra", "de"),
    ("ra", "decl"),
    ("ra_deg", "dec_deg"),
    ("ra_hours", "dec_deg"),
    ("ra_hours", "dec"),
    ("ra_rad", "dec_rad"),
    ("radeg", "decdeg"),
    ("ra_d", "dec_d"),
    ("raj2000", "dej2000"),
    ("_raj2000", "_dej2000"),
    ("raj2000", "decj2000"),
    ("ra_j2000", "dec_j2000"),
    ("ra2000", "dec2000"),
    ("ra_icrs", "de_icrs"),
    ("ra_icrs", "dec_icrs"),
    ("alpha_j2000", "delta_j2000"),
    ("alpha", "delta"),
    ("right_ascension", "declination"),
    ("rightascension", "declination"),
    ("ra_obj", "dec_obj"),
    ("objra", "objdec"),
    ("ra_manga", "dec_manga"),
    ("nsa_ra", "nsa_dec"),
    ("ra_1", "dec_1"),
    ("target_ra", "target_dec"),
    ("plug_ra", "plug_dec"),
)
"""Names of the two columns of a position, in small letters, those that are sought first at the beginning."""

_UNITS_BESIDE = "deg|degs|degree|degrees|°|h|hr|hrs|hour|hours|hourangle|rad|radian|radians|arcsec|arcmin"
_SAID_BESIDE = rf"{_UNITS_BESIDE}|j2000|j2000\.0|icrs|fk5"
"""What headers say in brackets."""
_UNIT_IN_NAME = re.compile(rf"(?:\s*[\[(]\s*({_UNITS_BESIDE})\s*[\])]|_(hours?|rad|radians))$")

_HOURS_ROWS, _HOURS_SPAN = 10, 12.0
"""Fewer rows, or right ascensions in a narrower band, say nothing about the unit."""
_LAST_B = 1975.9  # a year before 1976 is an equinox of Besselian catalogues, a later one may be that of an observation


@dataclass(frozen=True)
class Positions:
    """Positions of a table's rows.

    Attributes
    ----------
    ra, dec : numpy.ndarray
        (N,) float64, deg, ra in 0-360; both NaN where a row has no usable position.
    problems : list of str
        One line for each kind of problem, with the number of rows and the first of them (rows count from 0); empty when
        every row is good.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) True where the row has a position."""
        return np.isfinite(self.ra)


def position_columns(
    columns: Iterable[object], name: str, ra: str | None = None, dec: str | None = None
) -> tuple[str, str]:
    """Find the columns of right ascension and declination.

    Parameters
    ----------
    columns : iterable
        Those of the table.
    name : str
        What to call the table in messages: the file.
    ra, dec : str, optional
        Names that the user gave; in any case of letters. By default the usual ones are sought: RA and Dec, RAJ2000 and
        DEJ2000, ra_deg and dec_deg, and others.

    Returns
    -------
    ra, dec : str
        As the table spells them.

    Raises
    ------
    CatalogError
        If there are none, or only one of the two was given and the other is not found.
    """
    have = [str(column) for column in columns]
    by_lower: dict[str, str] = {}
    for spelling in (str.lower, plain_name):  # a column of just this name counts before one that is like it
        for column in have:
            by_lower.setdefault(spelling(column.strip()), column)

    def spelled(wanted: str) -> str:
        if wanted not in have and wanted.lower() in by_lower:
            return by_lower[wanted.lower()]
        require_columns(have, (wanted,), name)
        return wanted

    if ra is not None and dec is not None:
        return spelled(ra), spelled(dec)
    if (ra is None) != (dec is None):
        raise CatalogError(
            f"{name}: only one column of the position is given; name both right ascension and declination"
        )
    for pair in _PAIRS:
        if all(one in by_lower for one in pair):
            return by_lower[pair[0]], by_lower[pair[1]]
    for column in by_lower:  # of a SkyCoord, as Astropy writes it: coord.ra, coord.dec
        if column.endswith(".ra") and f"{column[:-3]}.dec" in by_lower:
            return by_lower[column], by_lower[f"{column[:-3]}.dec"]
    require_columns(have, ("ra", "dec"), name)
    raise AssertionError("require_columns has raised")


def plain_name(column: str) -> str:
    """Return a header's name in small letters without what it says beside: ``RA (deg)`` and ``R.A.`` are ``ra``."""
    name = re.sub(rf"\s*[\[(]\s*({_SAID_BESIDE})\s*[\])]$", "", column.lower())
    return re.sub(r"[\s-]+", "_", re.sub(r"\.(?=.?\.?$)", "", name)).strip("_")


def read_positions(
    frame: pd.DataFrame, *, name: str, ra: str = "ra", dec: str = "dec", ra_unit: RaUnit = "deg"
) -> Positions:
    """Read the positions of a table that fits memory.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    name : str
        What to call it in messages: the file.
    ra, dec : str
        Columns.
    ra_unit : {"deg", "hour"}
        Unit of numbers in ``ra``, where the table itself does not tell; ``dec`` is then in degrees.

    Raises
    ------
    CatalogError
        If a column is absent (the message names those like it), or no row has a usable position.
    ConfigError
        If the unit is none of those known.
    """
    check_equinox(frame, name)
    units = frame.attrs.get("units", {})
    reader = PositionReader(name, list(frame.columns), ra=ra, dec=dec, ra_unit=ra_unit, units=units)
    right_ascension, declination = reader.read(frame[ra], frame[dec])
    reader.require_some()
    return Positions(right_ascension, declination, reader.problems())


def check_equinox(frame: pd.DataFrame, name: str) -> None:
    """Refuse positions that a table says are of another equinox than 2000: half a degree or more from their places.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table. Its column ``equinox`` counts, its column ``epoch`` if that is before 1976, as that of proper motions
        is not, and ``attrs["equinox"]``.
    name : str
        What to call it in messages: the file.

    Raises
    ------
    CatalogError
        If one row is of another equinox.
    """
    said = [("its header", pd.Series([frame.attrs.get("equinox")]), 9999.0)]
    for column in frame.columns:
        kind = str(column).strip().lower()
        if kind in ("equinox", "epoch"):
            said.append((f"column {column}", frame[column], _LAST_B if kind == "epoch" else 9999.0))
    for where, values, last in said:
        text = values.map(lambda value: value.decode("ascii", "replace") if isinstance(value, bytes) else value)
        years = pd.to_numeric(text.astype(str).str.strip().str.upper().str.lstrip("BJ"), errors="coerce")
        other = (years.between(1800, 2200) & (years != 2000) & (years <= last)).to_numpy(np.bool_)
        if other.any():
            raise CatalogError(
                f"{name}: positions of the equinox {text[other].iloc[0]} by {where}; convert them to J2000, as with "
                "astropy.coordinates.SkyCoord"
            )


def require_columns(columns: Iterable[object], wanted: Iterable[str], name: str) -> None:
    """Check that a table has columns.

    Parameters
    ----------
    columns : iterable
        Those that it has.
    wanted : iterable of str
        Those that are needed.
    name : str
        What to call the table: the file.

    Raises
    ------
    CatalogError
        If one is absent; the message names it and those like it.
    """
    have = [str(column) for column in columns]
    for column in wanted:
        if column not in have:
            near = _near(column, have)
            some = f"it has {', '.join(have[:12])}{', ...' if len(have) > 12 else ''}" if have else "it has none"
            numbers = [other for other in have if re.fullmatch(r"[+-]?\d+\.?\d*(e[+-]?\d+)?", other.strip().lower())]
            if 2 * len(numbers) > len(have):
                raise CatalogError(
                    f"{name}: its first line holds numbers ({some}); add a line of column names above it"
                )
            hint = f"did you mean {' or '.join(near)}? Say so, or rename it" if near else "name or add the column"
            raise CatalogError(f"{name}: no column {column} ({some}); {hint}")


def _near(column: str, have: list[str]) -> list[str]:
    lower = column.lower()
    near = [other for other in have if other.lower() == lower]
    near += [other for other in have if lower in re.split(r"[^a-z0-9]+", other.lower())]
    by_lower = {other.lower(): other for other in have}
    if len(lower) > 3:  # two-letter names are close to everything
        near += [by_lower[match] for match in difflib.get_close_matches(lower, by_lower, 3, 0.75)]
    return list(dict.fromkeys(near))[:4]


class PositionReader:
    """Reads positions piece by piece and counts what is wrong over all pieces.

    Parameters
    ----------
    name : str
        What to call the table in messages: the file.
    columns : iterable of str
        Columns of the table.
    ra, dec : str
        Those that hold the position.
    ra_unit : {"deg", "hour"}
        Unit of numbers in ``ra``, where the table itself does not tell.
    units : mapping, optional
        Unit of each column as the table's format records it (TUNIT of FITS), as text that astropy understands.

    Raises
    ------
    CatalogError
        If a column is absent, or its unit is no angle.
    ConfigError
        If the unit is none of those known.
    """

    def __init__(
        self,
        name: str,
        columns: Iterable[object],
        *,
        ra: str = "ra",
        dec: str = "dec",
        ra_unit: RaUnit = "deg",
        units: Mapping[str, str] | None = None,
    ) -> None:
        if ra_unit not in DEG_PER_UNIT:
            raise ConfigError(f"unknown unit {ra_unit!r} of right ascension; use deg or hour")
        require_columns(columns, (ra, dec), name)
        self.name, self.ra_name, self.dec_name, self.ra_unit = name, ra, dec, ra_unit
        recorded = {column: (units or {}).get(column) or unit_in_name(column) for column in (ra, dec)}
        told = {column: _degrees_per_unit(text, column, name) for column, text in recorded.items() if text}
        self._factors = {ra: told.get(ra, DEG_PER_UNIT[ra_unit]), dec: told.get(dec, 1.0)}
        self._told = ra in told
        self.n_rows = self.n_usable = 0
        self._counts: dict[str, tuple[int, int]] = {}  # what is wrong -> rows, first row
        self.ra_range = (np.inf, -np.inf)  # deg, of the usable rows read

    def read(self, ra: pd.Series[Any], dec: pd.Series[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read the next rows.

        Parameters
        ----------
        ra, dec : pandas.Series
            (N,) as the file has them.

        Returns
        -------
        ra, dec : numpy.ndarray
            (N,) float64, deg, ra in 0-360; both NaN where the row cannot be used.
        """
        right_ascension, ra_sixties = self._degrees(ra, self.ra_name, "ra")
        declination, dec_sixties = self._degrees(dec, self.dec_name, "dec")
        both = np.isfinite(right_ascension) & np.isfinite(declination)
        mixed = both & (ra_sixties != dec_sixties)
        self._count(f"{self.ra_name} and {self.dec_name} in different notations, decimal and sexagesimal", mixed)
        right_ascension[mixed] = np.nan
        top = "360 deg" if self._factors[self.ra_name] == 1 else "24 hours"
        with np.errstate(invalid="ignore"):
            negative = (right_ascension < 0) & (right_ascension >= -180)
            off_ra = np.isfinite(right_ascension) & ~((right_ascension >= -180) & (right_ascension <= 360))
            off_dec = np.isfinite(declination) & (np.abs(declination) > 90)
        self._count(f"a negative {self.ra_name}, taken as 360 deg more", negative)
        right_ascension[negative] += 360.0
        self._count(f"{self.ra_name} outside 0 to {top}", off_ra)
        self._count(f"{self.dec_name} outside -90 to 90 deg", off_dec)
        bad = off_ra | off_dec | ~np.isfinite(right_ascension) | ~np.isfinite(declination)
        right_ascension[bad] = np.nan
        declination[bad] = np.nan
        self.n_rows += bad.size
        usable = bad.size - int(bad.sum())
        self.n_usable += usable
        if usable:
            low, high = self.ra_range
            self.ra_range = (
                min(low, float(np.nanmin(right_ascension))),
                max(high, float(np.nanmax(right_ascension))),
            )
        return np.where(right_ascension == 360, 0.0, right_ascension), declination

    @property
    def maybe_hours(self) -> bool:
        """Whether the rows read may hold hours for degrees: none beyond 24, spread over half of that or more."""
        low, high = self.ra_range
        return not self._told and self.n_usable >= _HOURS_ROWS and high <= 24 and high - low >= _HOURS_SPAN

    def problems(self) -> list[str]:
        """One line for each kind of problem in all rows read."""
        lines = []
        for what, (rows, first) in self._counts.items():
            have = "has" if rows == 1 else "have"
            lines.append(f"{self.name}: {rows} of {self.n_rows} rows {have} {what} (first: row {first})")
        if self.ra_unit == "deg" and self.maybe_hours:
            lines.append(
                f"{self.name}: no {self.ra_name} of {self.n_usable} rows is beyond 24: if these are hours, say so with "
                "the unit, or multiply them by 15"
            )
        return lines

    def require_some(self) -> None:
        """Check that a row could be used.

        Raises
        ------
        CatalogError
            If none could; the message says what is wrong with them.
        """
        if not self.n_usable:
            why = "; ".join(line.removeprefix(f"{self.name}: ") for line in self.problems()) or "the table has no rows"
            raise CatalogError(f"{self.name}: no row has a usable position: {why}")

    def _degrees(
        self, values: pd.Series[Any], column: str, axis: Axis
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Degrees of a column, and which rows were sexagesimal; what has no meaning is counted and NaN."""
        factor = self._factors[column]
        sixties = np.zeros(len(values), np.bool_)
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            numbers = values.to_numpy(np.float64, na_value=np.nan, copy=True)
            self._count(f"no {column}", np.isnan(numbers))
            if values.dtype == np.float32:
                everywhere = np.ones(numbers.size, np.bool_)
                self._count(f"{column} in single precision, good to 0.05 arcsec at best", everywhere)
            numbers *= factor
        else:
            numbers, sixties = self._from_text(values, column, axis)
        infinite = np.isinf(numbers)
        self._count(f"an infinite {column}", infinite)
        numbers[infinite] = np.nan
        return numbers, sixties

    def _from_text(
        self, values: pd.Series[Any], column: str, axis: Axis
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        # Byte strings are what SAMI's FITS download has.
        text = values.map(lambda value: value.decode("ascii", "replace") if isinstance(value, bytes) else value)
        text = text.map(lambda value: str(value) if isinstance(value, bool | np.bool_) else value)
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, na_value=np.nan, copy=True)
        numbers *= self._factors[column]
        words = text.fillna("").astype(str).str.strip()
        lost = np.isnan(numbers)
        empty = words.str.lower().isin(["", "nan", "null", "none", "--"]).to_numpy(np.bool_)
        self._count(f"no {column}", lost & empty)
        sixties, comma, other = (np.zeros(len(numbers), np.bool_) for _ in range(3))
        for index in np.flatnonzero(lost & ~empty):
            try:
                numbers[index], sixties[index] = parse_angle(words.iloc[index], axis)
            except ValueError as error:
                (comma if "decimal comma" in str(error) else other)[index] = True
        self._count(f"a decimal comma in {column}: write a point", comma)
        example = words[other].iloc[0][:30] if other.any() else ""
        kind = f"text in {column} that is no angle"
        known = next((key for key in self._counts if key.startswith(kind)), None)
        self._count(known or f"{kind}, such as '{example}'", other)
        return numbers, sixties

    def _count(self, what: str, where: NDArray[np.bool_]) -> None:
        rows = int(np.count_nonzero(where))
        if rows:
            before, first = self._counts.get(what, (0, self.n_rows + int(np.argmax(where))))
            self._counts[what] = (before + rows, first)


def unit_in_name(column: str) -> str:
    """Return the unit that a header says itself: ``RA (hours)``, ``ra_rad``."""
    match = _UNIT_IN_NAME.search(column.strip().lower())
    return (match[1] or match[2]) if match else ""


def _degrees_per_unit(text: str, column: str, name: str) -> float:
    """Degrees in one unit of a column.

    Raises
    ------
    CatalogError
        If the text is no unit of angle.
    """
    known = {**dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "hourangle"), "radians": "rad"}
    known |= dict.fromkeys(("degs", "degrees", "°"), "deg")
    words = text.strip().lower()
    if '"' in words or ":" in words:  # "h:m:s" tells how text is written, not what a number means
        return 1.0
    if known.get(words, words) == "hourangle":
        return DEG_PER_UNIT["hour"]  # Astropy's is 2e-15 less
    try:
        return float(u.Unit(known.get(words, text.strip())).to(u.deg))
    except (ValueError, TypeError, u.UnitsError):
        raise CatalogError(
            f"{name}: column {column} has the unit {text!r}, which is no angle; give the columns of the position"
        ) from None
