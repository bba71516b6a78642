"""Right ascensions and declinations written as text, in every notation that has one meaning.

Understood are decimal degrees (``164.1``, ``164.1d``, ``164.1 deg``, ``164.1°``), decimal hours with their unit
(``10.94h``), and sexagesimal text with colons, blanks or units (``10:56:24``, ``10 56 24``, ``10h56m24s``, ``12d30m``,
``12°30′00″``). Sexagesimal text without a unit is hours in right ascension and degrees in declination, as the IAU
recommends. A comma or semicolon may stand between the two; so may nothing, if the declination has a sign. Text that can
be read in two ways is refused. Knows nothing of tables.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from typing import Literal

from zoobot_3d.errors import ConfigError

__all__ = ["Position", "clean_text", "parse_angle", "parse_position", "parse_positions", "wrap_ra"]

Axis = Literal["ra", "dec"]

_SAME = {
    **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-"),
    **dict.fromkeys("\ufe62\uff0b", "+"),
    **dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f\u3000\t\r\n", " "),
    **dict.fromkeys("\u00b0\u00ba\u02da", "d"),
    **dict.fromkeys("\u2032\u2019\u02b9\u00b4", "'"),
    **dict.fromkeys("\u2033\u201d\u02ba", '"'),
    **dict(zip("\u02b0\u1d48\u1d50\u02e2", "hdms", strict=True)),
    **dict.fromkeys("\u200b\u200e\u200f\ufeff", ""),
}
_DASHES = str.maketrans(_SAME)
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_DECIMAL = re.compile(
    rf"([+-]?)\s*({_NUMBER})\s*(degrees|degree|degs|deg|d|hours|hour|hourangle|hrs|hr|h|radians|rad)?"
)
_FIELD = r"(\d+(?:\.\d*)?|\.\d+)"
_HOURS, _DEGREES = r"(hours|hour|hrs|hr|h)", r"(degrees|degree|degs|deg|d)"
_MINUTES, _SECONDS = r"(?:minutes|minute|mins|min|m)", r"(?:seconds|second|secs|sec|s)"
_ARC = (rf"(?:arcmin|{_MINUTES}|')", rf"(?:arcsec|{_SECONDS}|\"|'')")
_SEXAGESIMAL = (
    re.compile(rf"([+-]?)\s*{_FIELD}()\s*:\s*{_FIELD}(?:\s*:\s*{_FIELD})?"),
    re.compile(rf"([+-]?)\s*{_FIELD}()\s+{_FIELD}(?:\s+{_FIELD})?"),
    re.compile(rf"([+-]?)\s*{_FIELD}\s*{_HOURS}\s*{_FIELD}\s*{_MINUTES}\s*(?:{_FIELD}\s*{_SECONDS}?)?"),
    re.compile(rf"([+-]?)\s*{_FIELD}\s*{_DEGREES}\s*{_FIELD}\s*{_ARC[0]}\s*(?:{_FIELD}\s*{_ARC[1]}?)?"),
)
_ONE_FIELD = re.compile(r"[+-]?[\d.:]*\d[\d.:]*(?:e[+-]?\d+)?")
_UNIT_WORD = re.compile(rf"{_HOURS}|{_DEGREES}|{_ARC[0]}|{_ARC[1]}|hourangle|radians|rad")
_PER_UNIT = {"": 1.0, "d": 1.0, "h": 15.0, "r": math.degrees(1.0)}


@dataclass(frozen=True)
class Position:
    """A position as it was understood.

    Attributes
    ----------
    ra, dec : float
        Degrees, ra in 0-360.
    note : str
        What a reader should know of how it was understood; empty if it was written plainly.
    """

    ra: float
    dec: float
    note: str = ""


def clean_text(text: str) -> str:
    """Write every kind of minus, blank, degree sign and prime in ASCII."""
    return " ".join(text.translate(_DASHES).split())


def parse_angle(text: str, axis: Axis) -> tuple[float, bool]:
    """Read one right ascension or declination.

    Parameters
    ----------
    text : str
        In any notation of this module.
    axis : {"ra", "dec"}
        Decides what sexagesimal text without a unit means: hours or degrees.

    Returns
    -------
    degrees : float
        Not yet checked to lie on the sky.
    sexagesimal : bool
        Whether it was written in fields of 60.

    Raises
    ------
    ValueError
        If it is none of these; the message says what is wrong.
    """
    words = clean_text(text).lower()
    if match := _DECIMAL.fullmatch(words):
        sign, number, unit = match.groups()
        unit = (unit or "")[:1]
        if unit == "h" and axis == "dec":
            raise ValueError(f"{text!r} has hours in a declination")
        value = float(number) * _PER_UNIT[unit]
        return (-value if sign == "-" else value), False
    for pattern in _SEXAGESIMAL:
        if match := pattern.fullmatch(words):
            sign, first, unit, minutes, seconds = match.groups()
            value, in_hours = _sixties(text, first, minutes, seconds), unit.startswith("h")
            if in_hours and axis == "dec":
                raise ValueError(f"{text!r} has hours in a declination")
            if in_hours or (not unit and axis == "ra"):
                value *= 15.0
            return (-value if sign == "-" else value), True
    if re.fullmatch(r"[+-]?\d+,\d+", words):
        raise ValueError(f"{text!r} has a decimal comma; write a point")
    raise ValueError(f"{text!r} is no angle")


def _sixties(text: str, first: str, minutes: str, seconds: str | None) -> float:
    whole = [first] if seconds is None else [first, minutes]
    if any("." in field for field in whole):
        raise ValueError(f"{text!r} has a fraction before its last field")
    if float(minutes) >= 60 or float(seconds or 0) >= 60:
        raise ValueError(f"{text!r} has minutes or seconds of 60 or more")
    return float(first) + float(minutes) / 60 + float(seconds or 0) / 3600


def wrap_ra(ra: float) -> float:
    """Bring a right ascension of -180 to 0 deg, as some tables count, into 0-360.

    Raises
    ------
    ValueError
        If it lies beyond -180 to 360 deg.
    """
    if not -180 <= ra <= 360:
        raise ValueError(f"right ascension {ra:.10g} deg is outside 0 to 360")
    return ra % 360


def parse_position(text: str) -> Position:
    """Read a right ascension and a declination from one text.

    Parameters
    ----------
    text : str
        Both in the same kind of notation, apart by blanks, a comma, a semicolon or the sign of the declination.

    Returns
    -------
    Position

    Raises
    ------
    ConfigError
        If the text has no meaning, or more than one.
    """
    words = clean_text(text)
    reasons: list[str] = []
    found: list[Position] = []
    for ra_text, dec_text in _halves(words):
        try:
            found.append(_pair(ra_text, dec_text))
        except ValueError as error:
            reasons.append(str(error))
    if _GLUED_COMMA.search(words):
        found += _readings(_GLUED_COMMA.sub(".", words))  # what decimal commas would make of it
    distinct = [place for index, place in enumerate(found) if place not in found[:index]]
    decimal_comma = _GLUED_COMMA.search(words) and not _readings(words)
    if len(distinct) == 1 and not decimal_comma:
        return distinct[0]
    if decimal_comma:
        reason = "it has decimal commas; write points"
    elif distinct:
        reason = "it can be read in two ways; write the declination with its sign, or use colons"
    else:
        reason = _foreign(words) or _likeliest(reasons)
    raise ConfigError(
        f"{text!r}: not a position ({reason}); write 'RA Dec' in degrees, '164.1 12.5', or '10:56:24 +12:30:00'"
    )


_GLUED_COMMA = re.compile(r"(?<=\d),(?=\d)")
_GLUED_SIGN = re.compile(r"(?<=[\d.dhms'\"])(?<!\de)(?=[+-][\d.])", re.IGNORECASE)


def _readings(words: str) -> list[Position]:
    """Every meaning that a text can have."""
    found = []
    for halves in _halves(words):
        with contextlib.suppress(ValueError):
            found.append(_pair(*halves))
    return found


def _halves(words: str) -> list[tuple[str, str]]:
    """Every way to cut a text into a right ascension and a declination."""
    for mark in (";", ","):
        if words.count(mark) == 1:
            left, right = (half.strip() for half in words.split(mark))
            if mark == "," and re.fullmatch(r"[+-]?\d+,\d+", words):
                return []  # 164,1 may be a number with a decimal comma
            return [(left, right)] if left and right else []
        if mark in words:
            return []
    tokens = words.split(" ")
    if len(tokens) == 1:
        tokens = _GLUED_SIGN.sub(" ", words).split(" ")
    return [(" ".join(tokens[:cut]), " ".join(tokens[cut:])) for cut in range(1, len(tokens))]


def _foreign(words: str) -> str:
    """Name the first word that belongs to no notation."""
    for token in re.split(r"[\s,;]+", words):
        rest = _ONE_FIELD.sub(" ", token.lower())
        if any(not _UNIT_WORD.fullmatch(word) for word in rest.replace("+", " ").replace("-", " ").split()):
            return f"{token!r} is no angle"
    return ""


def _likeliest(reasons: list[str]) -> str:
    """Choose what to say of a text that has no meaning: the split in the middle is the likeliest one to be meant."""
    return reasons[len(reasons) // 2] if reasons else "it needs a right ascension and a declination"


def _pair(ra_text: str, dec_text: str) -> Position:
    ra, ra_sexagesimal = parse_angle(ra_text, "ra")
    dec, dec_sexagesimal = parse_angle(dec_text, "dec")
    has_unit = re.compile(r"[a-z'\"]", re.IGNORECASE)
    if ra_sexagesimal != dec_sexagesimal and not (has_unit.search(ra_text) and has_unit.search(dec_text)):
        raise ValueError("decimal and sexagesimal notation are mixed")
    if abs(dec) > 90:
        raise ValueError(f"declination {dec:.10g} deg is outside -90 to 90")
    if ra_sexagesimal and not -180 <= ra <= 360 and not has_unit.search(ra_text):
        raise ValueError(f"right ascension {ra_text!r} is more than 24 hours; write 'd' for degrees")
    wrapped = wrap_ra(ra)
    note = f"right ascension {ra:.10g} deg is taken as {wrapped:.10g}" if ra < 0 else ""
    return Position(wrapped, dec, note)


def parse_positions(words: list[str]) -> list[Position]:
    """Read positions from the words of a command line, each position quoted or not.

    Parameters
    ----------
    words : list of str
        ``["164.1 12.5"]``, ``["164.1", "12.5"]``, or several positions.

    Returns
    -------
    list of Position

    Raises
    ------
    ConfigError
        If they have no meaning, or more than one.
    """
    readings: list[list[Position]] = []
    first: ConfigError | None = None
    ways = [[" ".join(words)], words]
    if len(words) % 2 == 0:
        ways.append([" ".join(words[i : i + 2]) for i in range(0, len(words), 2)])
    for texts in ways:
        try:
            readings.append([parse_position(text) for text in texts])
        except ConfigError as error:
            first = first or error
    distinct = [reading for i, reading in enumerate(readings) if reading not in readings[:i]]
    if len(distinct) == 1:
        return distinct[0]
    if distinct:
        raise ConfigError(f"{' '.join(words)!r}: can be read as one position or as several; quote each position")
    assert first is not None
    raise first
