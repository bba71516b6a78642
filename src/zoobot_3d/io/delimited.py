"""Delimited text as people and programs write it: what stands between fields, the header, units, comments.

Must not know what the columns mean, but for the names of identifiers.
"""

from __future__ import annotations

import csv
import io as _io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.table_content import decoded
from zoobot_3d.schema import is_identifier

__all__ = ["DelimitedText", "parse_text", "read_text"]

_MISSING = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "<NA>", "--")
"""Of numbers; identifiers are never missing but where they are empty."""
_SNIFFED_ROWS = 30
_UNIT_WORDS = {
    "deg", "degs", "degree", "degrees", "arcsec", "arcmin", "arcsec/pix", "arcsec/pixel", "rad", "radian", "radians",
    "h", "hr", "hour", "hours", "hourangle", "h:m:s", '"h:m:s"', "d:m:s", '"d:m:s"', "hms", "dms", "mag", "pc", "kpc",
    "mpc", "km/s", "pix", "px", "pixel",
}  # fmt: skip
"""What a line of units below the header holds, in small letters."""


@dataclass(frozen=True)
class DelimitedText:
    """Delimited text, decoded, from its header line on; units and comments are taken off."""

    lines: str
    separator: str
    columns: list[str]
    units: dict[str, str]


def parse_text(path: Path, content: bytes | None) -> DelimitedText:
    """Decode a delimited table; find its header and what stands between its fields.

    Raises
    ------
    BadFileError
        If it cannot be decoded, has no header, or names a column twice.
    """
    try:
        text = decoded(path.read_bytes() if content is None else content)
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(path, f"cannot be read as text ({error})", "save it as UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    comments, body = _comments_above(text)
    head = body.split("\n", _SNIFFED_ROWS)[:_SNIFFED_ROWS]
    sample = [line for line in head if line.strip()]
    if not sample:
        if comments and re.search(r"[\s,;|\t]", comments[-1]):  # a commented header and no rows
            body, sample, comments = comments[-1] + "\n", [comments[-1]], []
        else:
            raise BadFileError(path, "has no header and no rows", "give a table with a header")
    separator = _separator(sample)
    columns = _fields(sample[0], separator)
    if comments and all(_is_number(field) for field in columns[:2]) and len(columns) > 1:
        # The header is the last comment, as NumPy and TOPCAT write it.
        names = _fields(comments[-1], separator)
        if len(names) == len(columns):
            body, columns = comments[-1] + "\n" + body, names
    columns = [name.strip().lstrip("#").strip() for name in columns]
    if len(columns) == 1 and path.name.lower().endswith((".parquet", ".pq", ".fits", ".fit", ".fits.gz")):
        raise BadFileError(path, "text, not the kind of table that its name says", "make or fetch it again")
    _check_columns(path, columns)
    body, units = _without_units(body, separator, columns)
    return DelimitedText(_without_comments(path, body, separator, len(columns)), separator, columns, units)


def _comments_above(text: str) -> tuple[list[str], str]:
    """Cut off the comments and empty lines that a text begins with; the comments come without their ``#``."""
    comments: list[str] = []
    start = len(sep.group()) if (sep := re.match(r"sep=.\n", text)) else 0  # as spreadsheets write it
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end].strip()
        if line and not line.startswith("#"):
            break
        if line:
            comments.append(line.lstrip("#").strip())
        start = end
    return comments, text[start:]


def _without_units(body: str, separator: str, columns: list[str]) -> tuple[str, dict[str, str]]:
    """Take off lines of units and of dashes below the header, as VizieR and spreadsheets write them."""
    header, *lines = body.split("\n", 3)
    fields = [[field.strip().lower() for field in _fields(line, separator)] for line in lines[:2]]
    ruled = next((index for index, line in enumerate(fields) if any(line) and not "".join(line).strip("-")), None)
    if ruled is None:
        words = {field for field in fields[0] if field} if fields else set()
        if not words or not words <= _UNIT_WORDS:
            return body, {}
    units, taken = (fields[0], 1) if ruled is None else (fields[0] if ruled == 1 else [], ruled + 1)
    told = {name: unit for name, unit in zip(columns, units, strict=False) if unit in _UNIT_WORDS}
    return "\n".join([header, *lines[taken:]]), told


def _without_comments(path: Path, body: str, separator: str, n_columns: int) -> str:
    """Take off comments below the header, and rows of nothing but separators, as spreadsheets leave them."""
    blank = re.compile(rf'[\s"{re.escape(separator)}]+')
    if "\n#" not in body and not re.search(rf'\n[ "\t]*{re.escape(separator)}[\s"{re.escape(separator)}]*(\n|$)', body):
        return body
    header, *lines = body.split("\n")
    within = _within_quotes(lines, separator)
    comments = [index for index, line in enumerate(lines) if line.startswith("#") and not within[index]]
    if 2 * len(comments) > len(lines):  # names that begin so
        comments = []
    if rows := sum(len(_fields(lines[index], separator)) == n_columns > 1 for index in comments):
        warnings.warn(f"{path}: {rows} rows that begin with # are left out, as comments", stacklevel=2)
    left_out = set(comments)
    kept = [
        line for index, line in enumerate(lines) if within[index] or not (index in left_out or blank.fullmatch(line))
    ]
    return "\n".join([header, *kept]) + "\n"


def _within_quotes(lines: list[str], separator: str) -> list[bool]:
    """Tell which lines begin within a quoted field that an earlier line has opened."""
    within, is_open = [], False
    for line in lines:
        within.append(is_open)
        if '"' in line:  # an open field takes the next line in, so that both are one row
            is_open = len(list(csv.reader(['"' * is_open + line, ""], delimiter=separator))) == 1
    return within


def _check_columns(path: Path, columns: list[str]) -> None:
    twice = [name for i, name in enumerate(columns) if name and name in columns[:i]]
    if twice:
        raise BadFileError(path, f"the header names column {twice[0]!r} twice", "rename one of them")
    if sum(not name for name in columns) > 1:
        raise BadFileError(path, "its first line has fields without names", "remove titles above the column names")
    if all(_is_number(name) for name in columns):
        raise BadFileError(path, "has no header: its first line holds only numbers", "add a line of column names")


def _separator(lines: list[str]) -> str:
    """Find what stands between fields: the mark that cuts all lines alike, into the most fields."""
    best, most = ",", 1
    for mark in (",", ";", "\t", "|"):
        counts = [len(_fields(line, mark)) for line in lines]
        if counts[0] > most and sum(count == counts[0] for count in counts) >= 0.8 * len(counts):
            best, most = mark, counts[0]
    if most == 1:
        counts = [len(line.split()) for line in lines]
        if counts[0] > 1 and len(lines) > 1 and all(count == counts[0] for count in counts):
            return " "
        for mark in (",", ";", "\t", "|"):  # ragged: the reader will name the row
            if mark in lines[0]:
                return mark
    return best


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator), [])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_text(path: Path, text: DelimitedText, columns: list[str] | None) -> pd.DataFrame:
    """Make a pandas table of delimited text: identifiers are text, all else is as pandas reads it.

    Raises
    ------
    BadFileError
        If a column is missing, or rows do not fit the header.
    """
    if columns is not None and (missing := [name for name in columns if name not in text.columns]):
        raise BadFileError(path, f"no column {', '.join(missing)}", "rename or add the column")
    as_text = [name for name in text.columns if is_identifier(name)]
    missing_marks = {name: list(_MISSING) for name in text.columns if name not in as_text}
    separator: Any = {"sep": r"\s+"} if text.separator == " " else {"sep": text.separator}

    def read() -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop or move fields
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            return pd.read_csv(
                _io.StringIO(text.lines), names=text.columns, header=0, index_col=False, usecols=columns,
                dtype=dict.fromkeys(as_text, str), keep_default_na=False, na_values=missing_marks, low_memory=False,
                skipinitialspace=text.separator in ",;|", **separator,
            )  # fmt: skip

    try:
        frame = read()
    except pd.errors.ParserWarning:
        raise BadFileError(path, "rows have more fields than the header", "quote fields with separators") from None
    except (pd.errors.ParserError, csv.Error) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise BadFileError(path, f"rows do not fit the header ({reason})", "mend the row") from None
    except Exception as error:
        raise BadFileError(path, f"cannot be read as a table ({' '.join(str(error).split())[:200]})") from None
    for name in set(as_text) & set(frame.columns):
        frame[name] = frame[name].fillna("").str.strip()
    if text.units:
        frame.attrs["units"] = {name: unit for name, unit in text.units.items() if name in frame}
    return frame
