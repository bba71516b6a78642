"""Tables of any common format: told by their content, not by their name, and read so that no identifier changes.

Read are CSV and other delimited text (comma, semicolon, tab, bar or blanks between fields; UTF-8, UTF-16 or Latin-1;
CasJobs' ``#Table1`` line; commented headers), Parquet, FITS (the first table, whatever its HDU), ECSV and VOTable, each
also gzipped. Identifiers in text stay text as written; whole numbers in typed tables keep every digit. Must not know
what the columns mean, but for the names of identifiers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.delimited import parse_text, read_text
from zoobot_3d.io.table_content import kind_and_content
from zoobot_3d.io.typed_tables import fits_columns, parquet_columns, read_astropy, read_fits, read_parquet

__all__ = ["TABLES", "read_table", "table_columns"]

TABLES = (".csv", ".csv.gz", ".tsv", ".dat", ".ecsv", ".vot", ".votable", ".xml", ".parquet", ".pq", ".fits", ".fit")
"""What a table's name usually ends in; the content decides how it is read."""


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : path
        Delimited text, Parquet, FITS, ECSV or VOTable, gzipped or not.
    columns : sequence of str, optional
        Columns to read; all by default.

    Returns
    -------
    pandas.DataFrame
        Identifiers (`zoobot_3d.schema.is_identifier`) of delimited text are text as written. Whole numbers keep their
        digits beside missing values. ``attrs["units"]`` has the units that FITS, ECSV and VOTable record, by column,
        and those of a line of units below the header of delimited text, whose comments and empty rows are left out;
        ``attrs["delimited"]`` is set for delimited text, where nothing says what is text and what a number;
        ``attrs["equinox"]`` is what the header of a FITS table or of ECSV says.

    Raises
    ------
    BadFileError
        If the file is missing, cannot be read, or is no table; the message says what it is instead.
    """
    return _read(Path(path), None if columns is None else list(columns))


def table_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of a table's columns, without reading its rows where the format allows.

    Raises
    ------
    BadFileError
        As in `read_table`.
    """
    path = Path(path)
    kind, content = kind_and_content(path)
    with _in_one_line(path):
        if kind == "parquet":
            return parquet_columns(path)
        if kind == "fits":
            return fits_columns(path, content)
        if kind == "text":
            return parse_text(path, content).columns
    return [str(name) for name in _read(path, None).columns]


def _read(path: Path, columns: list[str] | None) -> pd.DataFrame:
    kind, content = kind_and_content(path)
    with _in_one_line(path):
        if kind == "parquet":
            return read_parquet(path, columns)
        if kind == "fits":
            frame = read_fits(path, content, columns)
        elif kind == "text":
            frame = read_text(path, parse_text(path, content), columns)
            frame.attrs["delimited"] = True
        else:
            frame = read_astropy(content or path.read_bytes(), kind, columns)
    if columns is not None and (missing := [name for name in columns if name not in frame.columns]):
        raise BadFileError(path, f"no column {', '.join(missing)}", "rename or add the column")
    return frame if columns is None else frame[columns]


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """Make one line of whatever a library's reader raises."""
    try:
        yield
    except BadFileError:
        raise
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except MemoryError:
        raise BadFileError(path, "does not fit in memory", "read it as Parquet, or fewer columns") from None
    except Exception as error:  # libraries raise whatever they like on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadFileError(path, f"cannot be read as a table ({reason[:200]})") from None
