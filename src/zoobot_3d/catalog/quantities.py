"""Columns of numbers in the unit that is needed, whatever unit the table records.

Knows units of columns (``attrs["units"]`` of `zoobot_3d.io.read_table`); nothing of what the numbers are for.
"""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.errors import CatalogError

__all__ = ["quantity"]

_KNOWN = {'"': "arcsec", "''": "arcsec", "arcsecs": "arcsec", "arcseconds": "arcsec", "'": "arcmin", "degrees": "deg"}
"""Units as people write them, beside those that Astropy reads."""


def quantity(frame: pd.DataFrame, column: str, unit: str, name: str) -> NDArray[np.float64]:
    """Read a column of numbers.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    column : str
        A column of it.
    unit : str
        Unit of the result, as `astropy.units` reads it; empty for a number without a unit. Numbers are taken to be in
        this unit where the table records none, nor the column's own name in brackets, as ``pixscale (arcmin)``.
    name : str
        What to call the table in messages: the file.

    Returns
    -------
    numpy.ndarray
        (N,) float64; NaN where there is no number.

    Raises
    ------
    CatalogError
        If the table records a unit of another kind.
    """
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan, copy=True)
    recorded = str(frame.attrs.get("units", {}).get(column, "")).strip() or _in_brackets(column)
    return numbers * _factor(recorded, unit, column, name) if recorded else numbers


def _in_brackets(column: str) -> str:
    """Return the unit at the end of a column's name; empty where there is none, or a word that is no unit."""
    match = re.search(r"[\[(]\s*([^\])]+?)\s*[\])]\s*$", column)
    if match is None:
        return ""
    try:
        u.Unit(_KNOWN.get(match[1].lower(), match[1]))
    except (ValueError, TypeError):
        return ""
    return match[1]


def _factor(recorded: str, unit: str, column: str, name: str) -> float:
    """Return what numbers are multiplied with; a length per pixel is a length."""
    try:
        given = u.Unit(_KNOWN.get(recorded.lower(), recorded.replace('"', "arcsec")))
        wanted = u.Unit(unit)
        return float((given if given.is_equivalent(wanted) else given * u.pix).to(wanted))
    except (ValueError, TypeError, u.UnitsError):
        needed = f"numbers in {unit}" if unit else "numbers without a unit"
        raise CatalogError(
            f"{name}: column {column} has the unit {recorded!r}, where {needed} are needed; convert it, or give "
            "another column"
        ) from None
