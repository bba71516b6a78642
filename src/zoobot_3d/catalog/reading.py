"""Catalogues: a row a galaxy. Reading them, joining others to them, and the folder that their paths start from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads

from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import read_table, table_columns

__all__ = ["catalog_root", "join_columns", "nullable_integers", "read_catalog"]


def read_catalog(path: str | os.PathLike[str], required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a catalogue (CSV, Parquet or FITS) and check that it has the columns a step needs.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    CatalogError
        If it is empty or misses columns; the message names them.
    """
    frame = read_table(path)
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise CatalogError(
            f"{os.fspath(path)}: no column {', '.join(missing)} (it has {', '.join(map(str, frame.columns[:12]))}"
            f"{', ...' if len(frame.columns) > 12 else ''}); rename or add the column"
        )
    if frame.empty:
        raise CatalogError(f"{os.fspath(path)}: the catalogue has no rows")
    return frame


def join_columns(
    frame: pd.DataFrame,
    table: str | os.PathLike[str],
    on: str,
    columns: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Add the columns of another table to a catalogue, by a name that both have; only the rows needed are kept.

    Parameters
    ----------
    frame : pandas.DataFrame
        The catalogue.
    table : path
        CSV, Parquet or FITS; a Parquet table is streamed, so it may be as large as GZ DESI.
    on : str
        Column of names, compared as text.
    columns : sequence of str, optional
        Columns to add; by default all that ``frame`` does not have.
    notes : list of str, optional
        Lines on rows that are not in the table, or are there twice, are appended to it.

    Returns
    -------
    pandas.DataFrame
        The rows of ``frame`` in their order; missing values where the table has no such name. Of a name that the
        table has twice, the first row counts.

    Raises
    ------
    BadFileError
        If the table cannot be read.
    CatalogError
        If it, or the catalogue, lacks a column.
    """
    units = dict(frame.attrs.get("units", {}))
    if on not in frame:
        raise CatalogError(f"the catalogue has no column {on} to find its galaxies in {os.fspath(table)} by; add it")
    names = table_columns(table)
    wanted = [name for name in (names if columns is None else columns) if name not in frame.columns]
    missing = [name for name in (on, *wanted) if name not in names]
    if missing:
        raise CatalogError(f"{os.fspath(table)}: no column {', '.join(missing)}; rename or add the column")
    keys = frame[on].astype(str)
    if Path(table).name.lower().endswith((".parquet", ".pq")):
        named = pads.field(on).cast("string").isin(keys)
        try:
            other = pads.dataset(table).to_table(columns=[on, *wanted], filter=named).to_pandas()
        except (OSError, pa.ArrowException) as error:
            what = f"damaged Parquet file ({error})".replace("\n", " ")
            raise BadFileError(table, what, "make or fetch it again") from None
    else:
        other = read_table(table, [on, *wanted])
        units = other.attrs.get("units", {}) | units
    other = other[other[on].notna()]
    other = other.assign(**{on: other[on].astype(str)})
    repeat = other[on].isin(keys) & other[on].duplicated()
    if notes is not None:
        if n := int((~keys.isin(other[on])).sum()):
            notes.append(f"{os.fspath(table)}: {n} of {len(frame)} rows of the catalogue are not in it, by {on}")
        if n := int(repeat.sum()):
            example = f"{on}, such as {other[on][repeat].iloc[0]}"
            notes.append(f"{os.fspath(table)}: {n} of its rows repeat a {example}; the first of each counts")
    other = other.drop_duplicates(on).set_index(on)
    added = nullable_integers(other).reindex(keys.to_numpy())
    joined = frame.reset_index(drop=True).join(added.reset_index(drop=True))
    joined.attrs["units"] = units
    return joined


def nullable_integers(frame: pd.DataFrame) -> pd.DataFrame:
    """Let integer columns hold missing values, so that object identifiers do not become floats and lose digits."""
    return frame.astype(dict.fromkeys(frame.columns[[kind.kind in "iu" for kind in frame.dtypes]], "Int64"))


def catalog_root(path: str | os.PathLike[str]) -> Path:
    """Find the folder that a catalogue's relative paths hang on: the survey that holds it.

    A master catalogue lies in ``<root>/data``, and the record of a fetch in ``<root>/images``; any other lies in its
    root.
    """
    path = Path(path)
    folder = path.resolve().parent
    below = folder.name == "data" or (folder.name == "images" and path.name == "fetched.parquet")
    return folder.parent if below else folder
