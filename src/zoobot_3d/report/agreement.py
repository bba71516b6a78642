"""How well two measurements of the same galaxies agree: tables joined by name, and r, bias and scatter.

Nothing is fitted: no free factor and no offset. Knows tables; draws nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.errors import CatalogError
from zoobot_3d.io import read_table

__all__ = ["Agreement", "agreement", "read_pairs"]

NAMES = ("id", "dr8_id", "name", "objid")
"""Columns that name galaxies, the first that a table has counts."""

_MISSING = (-99, -999, -9999)
"""What stands for a missing number in catalogues."""


@dataclass(frozen=True)
class Agreement:
    """How well two columns agree; NaN below three pairs.

    Attributes
    ----------
    compared, of : int
        Galaxies with both numbers, and with the reference.
    r : float
        Pearson's correlation.
    bias, scatter : float
        Median of measured minus reference, and 1.4826 times the median absolute deviation from it.
    """

    compared: int
    of: int
    r: float = np.nan
    bias: float = np.nan
    scatter: float = np.nan

    def __str__(self) -> str:
        """Say it in the lines that figures show."""
        words = f"{self.compared} of {self.of}"
        if np.isfinite(self.bias):
            words += f"\nr = {self.r:.2f}\nbias {self.bias:+.2f}, scatter {self.scatter:.2f}"
        return words


def agreement(reference: Sequence[float] | pd.Series[float], measured: Sequence[float] | pd.Series[float]) -> Agreement:
    """Compare two columns; a pair without one of the numbers is left out."""
    theirs, ours = np.asarray(reference, float), np.asarray(measured, float)
    known = np.isfinite(theirs) & np.isfinite(ours)
    counts = int(known.sum()), int(np.isfinite(theirs).sum())
    if counts[0] < 3:
        return Agreement(*counts)
    theirs, ours = theirs[known], ours[known]
    off = ours - theirs
    constant = np.ptp(theirs) == 0 or np.ptp(ours) == 0
    r = np.nan if constant else float(np.corrcoef(theirs, ours)[0, 1])
    return Agreement(*counts, r, float(np.median(off)), float(1.4826 * np.median(np.abs(off - np.median(off)))))


def read_pairs(
    measured: str | os.PathLike[str], reference: str | os.PathLike[str], column: str, reference_column: str
) -> pd.DataFrame:
    """Join a table of measurements with a reference by the names of the galaxies.

    Parameters
    ----------
    measured, reference : path
        Tables with a column that names galaxies: one of `NAMES`. A folder is taken for results of SpArcFiRe, as
        `zoobot_3d.sources.sparcfire.read_sparcfire_folder` reads them.
    column, reference_column : str
        What is compared. Standard errors are read from the columns of these names with ``_err``, if there are any.
        Where both tables record a unit, the reference is converted; -99, -999 and -9999 there are no numbers.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``theirs``, ``theirs_err``, ``ours``, ``ours_err``: a row for each galaxy of the reference that was
        measured, with NaN where there is no number.

    Raises
    ------
    BadFileError
        If a table cannot be read, or a folder has no results of SpArcFiRe.
    CatalogError
        If a column is missing, a name is twice in a table, or the tables have no galaxy in common.
    """
    ours = _columns(measured, column, "ours")
    theirs = _columns(reference, reference_column, "theirs", ours.attrs["unit"])
    pairs = theirs.merge(ours, on="id")
    if pairs.empty:
        raise CatalogError(
            f"{os.fspath(measured)} and {os.fspath(reference)} have no galaxy in common, such as "
            f"{ours['id'].iloc[0]!r} and {theirs['id'].iloc[0]!r}; give the same names in the column id"
        )
    return pairs[["id", "theirs", "theirs_err", "ours", "ours_err"]]


def _columns(path: str | os.PathLike[str], column: str, label: str, unit: str = "") -> pd.DataFrame:
    if Path(path).is_dir():
        from zoobot_3d.sources.sparcfire import read_sparcfire_folder, sparcfire_table

        table = sparcfire_table(*read_sparcfire_folder(path))
    else:
        table = read_table(path)
    name = next((each for each in NAMES if each in table), None)
    if name is None or column not in table:
        missing = f"{column}, or one of {', '.join(NAMES)}" if name is None else column
        raise CatalogError(f"{os.fspath(path)}: no column {missing}; it has {', '.join(map(str, table.columns[:12]))}")
    if table.empty:
        raise CatalogError(f"{os.fspath(path)}: no rows")
    names = table[name].astype(str).str.strip()
    if names.duplicated().any():
        raise CatalogError(f"{os.fspath(path)}: {names[names.duplicated()].iloc[0]} is there twice; keep one row each")
    recorded = table.attrs.get("units", {})

    def numbers(name: str) -> pd.Series[float]:
        if unit and recorded.get(name):
            values = pd.Series(quantity(table, name, unit, os.fspath(path)), index=table.index)
        else:
            values = pd.to_numeric(table[name], errors="coerce").astype(float)
        return values.mask(pd.to_numeric(table[name], errors="coerce").isin(_MISSING))

    errors = numbers(f"{column}_err") if f"{column}_err" in table else np.nan
    found = pd.DataFrame({"id": names, label: numbers(column), f"{label}_err": errors})
    found.attrs["unit"] = str(recorded.get(column, ""))
    return found
