"""Names of a table's rows: those of a column or, where there is none, the positions, as the IAU recommends."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from zoobot_3d.catalog.positions import PositionReader, check_equinox, position_columns
from zoobot_3d.errors import CatalogError
from zoobot_3d.schema import id_column

__all__ = ["POSITION_DIGITS", "integer_ids", "position_names", "row_names", "text_names"]

_EXACT = 2.0**53  # whole numbers beyond are rounded in a float
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_SHORTENED = re.compile(r"-?\d[.,]\d+E\+(0?[89]|[1-9]\d)")

POSITION_DIGITS = 7
"""Decimals of a position in degrees: 0.4 mas, and it is the same after a trip through a text file."""


def position_names(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> list[str]:
    """Name positions as the IAU recommends: ``J105624.00+123000.0``, cut and not rounded.

    Parameters
    ----------
    ra, dec : numpy.ndarray
        (N,) deg, ICRS.

    Returns
    -------
    list of str
        Empty where the position is not finite.
    """
    there = np.isfinite(ra) & np.isfinite(dec)
    places = SkyCoord(np.where(there, ra, 0.0) * u.deg, np.where(there, dec, 0.0) * u.deg)
    hours = places.ra.to_string(u.hour, sep="", precision=3, pad=True)
    degrees = places.dec.to_string(u.deg, sep="", precision=2, pad=True, alwayssign=True)
    words = zip(there, hours, degrees, strict=True)
    return [f"J{hour[:-1]}{degree[:-1]}" if good else "" for good, hour, degree in words]


def row_names(frame: pd.DataFrame, name: str) -> tuple[list[str], str]:
    """Names of a table's rows, and what they are from.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    name : str
        What to call it in messages: the file.

    Returns
    -------
    names : list of str
        From the column of names, else from the positions; empty where there is neither.
    source : str
        The column, or ``"position"``.

    Raises
    ------
    CatalogError
        If there is no column of names and none of positions.
    """
    column = id_column(list(frame.columns))
    if column is not None:
        return text_names(frame[column]), column
    ra_name, dec_name = position_columns(frame.columns, name)
    check_equinox(frame, name)
    reader = PositionReader(name, frame.columns, ra=ra_name, dec=dec_name, units=frame.attrs.get("units"))
    ra, dec = reader.read(frame[ra_name], frame[dec_name])
    return position_names(np.round(ra, POSITION_DIGITS), np.round(dec, POSITION_DIGITS)), "position"


def text_names(column: pd.Series) -> list[str]:
    """Names as text; whole numbers that a missing value has made floats are whole again, missing ones are empty.

    Raises
    ------
    CatalogError
        If such numbers are so long that a float, or a spreadsheet (``1.23765E+18``), has lost their last digits.
    """

    def text(value: object) -> str:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, float) and _EXACT < abs(value) < np.inf:
            raise CatalogError(
                f"column {column.name} holds identifiers as floating-point numbers, such as {value:.0f}, whose last "
                "digits are lost; write it as integers or text"
            )
        words = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        if _SHORTENED.fullmatch(words):
            raise CatalogError(
                f"column {column.name} holds identifiers such as {words}, whose last digits a spreadsheet has left "
                "out; export it anew as text or integers"
            )
        return words

    return ["" if missing else text(value) for value, missing in zip(column, column.isna(), strict=True)]


def integer_ids(names: pd.Series, table: pd.DataFrame, column: str) -> pd.Series:
    """Turn the names of galaxies back into integers, if their column holds integers, all of them present.

    Parameters
    ----------
    names : pandas.Series
        Names as text.
    table : pandas.DataFrame
        From `zoobot_3d.catalog.reading.read_catalog`.
    column : str
        Its column of names. Integers are those of a column of integers; in delimited text, those of a column of nothing
        but digits and signs in the usual spelling: 17, but not 017 or +17.

    Returns
    -------
    pandas.Series
        int64; uint64, if the column is, or if a value is 2**63 or more; as given, if one name is no integer.
    """
    numbers = pd.api.types.is_integer_dtype(table[column].dtype)
    if not (numbers or table.attrs.get("delimited")) or not len(names) or not all(map(_INTEGER.fullmatch, names)):
        return names
    values = [int(name) for name in names]
    unsigned = str(table[column].dtype).lower().startswith("uint64")
    if not unsigned and min(values) >= -(2**63) and max(values) < 2**63:
        return pd.Series(values, index=names.index, dtype=np.int64)
    if min(values) >= 0 and max(values) < 2**64:
        return pd.Series(values, index=names.index, dtype=np.uint64)
    return names
