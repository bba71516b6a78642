"""All galaxies' marks in one Parquet file: written in sorted groups of rows, so that one galaxy is found quickly.

Knows VolunteerMarks and Parquet. Must not know where marks come from; `zoobot_3d.prepare.extract` brings them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import atomic_path
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.schema import CLASSES

__all__ = ["COLUMNS", "marks_from_table", "marks_row", "read_marks_table", "write_marks_table"]

_GROUP = 64
"""Galaxies in a row group: what is read to get at one of them, about 1.5 MB of text."""

_SCHEMA = pa.schema(
    [("file", pa.string()), ("mangaid", pa.string()), ("ra", pa.float64()), ("dec", pa.float64())]
    + [(f"n_{what}_{name}", pa.int64()) for what in ("asked", "marked") for name in CLASSES]
    + [("marks", pa.large_string())]
)
COLUMNS = tuple(_SCHEMA.names)
"""Columns of the table: GZ3D file, MaNGA target, position in deg, volunteers asked and marked, and marks as JSON."""

_FIX = "make it with zoobot3d extract-marks --out FILE.parquet"


def marks_row(file: str, marks: VolunteerMarks) -> dict[str, object]:
    """Return a galaxy's row of the table.

    Parameters
    ----------
    file : str
        Name of the GZ3D file.
    marks : VolunteerMarks
        What is in it.
    """
    counts = {f"n_asked_{name}": n for name, n in marks.n_asked.items()}
    counts |= {f"n_marked_{name}": n for name, n in marks.n_marked.items()}
    galaxy = {"mangaid": marks.metadata.get("MANGAID"), "ra": marks.grid.ra, "dec": marks.grid.dec}
    return {"file": file, **galaxy, **counts, "marks": marks.to_json()}


def write_marks_table(path: str | os.PathLike[str], rows: pd.DataFrame) -> None:
    """Write the table, atomically, sorted by file.

    Parameters
    ----------
    path : str or os.PathLike
        A ``.parquet``.
    rows : pandas.DataFrame
        With `COLUMNS`, from `marks_row`.
    """
    rows = rows[list(COLUMNS)].sort_values("file", kind="stable")
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        for start in range(0, len(rows), _GROUP):  # a group at a time: all of the text once in memory is enough
            writer.write_table(pa.Table.from_pandas(rows[start : start + _GROUP], _SCHEMA, preserve_index=False))


def read_marks_table(path: str | os.PathLike[str]) -> Iterator[tuple[str, VolunteerMarks]]:
    """Read all galaxies, a group at a time.

    Parameters
    ----------
    path : str or os.PathLike
        What `write_marks_table` wrote.

    Yields
    ------
    str, VolunteerMarks
        Name of the GZ3D file, and the marks.

    Raises
    ------
    BadFileError
        If the file is missing or no such table.
    """
    with _open(path) as table:
        for group in range(table.num_row_groups):
            for file, text in zip(*_texts(path, _read_group(path, table, group, ["file", "marks"])), strict=True):
                yield file, _marks(path, file, text)


def marks_from_table(path: str | os.PathLike[str], name: str) -> VolunteerMarks:
    """Read one galaxy's marks.

    Parameters
    ----------
    path : str or os.PathLike
        What `write_marks_table` wrote.
    name : str
        Name of the GZ3D file, with or without ``.fits.gz``; or the MaNGA id, e.g. ``"1-379196"``.

    Returns
    -------
    VolunteerMarks

    Raises
    ------
    BadFileError
        If the file is missing or no such table.
    CatalogError
        If it has no such galaxy, or several files of it.
    """
    with _open(path) as table:
        group_of: list[int] = []
        names: list[str] = []
        for group in range(table.num_row_groups):
            rows = _read_group(path, table, group, ["file", "mangaid"])
            here = pc.or_(
                pc.is_in(rows["file"], pa.array([name, f"{name}.fits.gz", f"{name}.fits"])),
                pc.equal(rows["mangaid"], name).fill_null(False),
            )
            names += _texts(path, rows.filter(here))[0]
            group_of += [group] * (len(names) - len(group_of))
        if len(names) != 1:
            raise CatalogError(
                f"{os.fspath(path)}: {name} is in {len(names)} rows"
                + (f" ({', '.join(names[:5])}); name one of these files" if names else "; give a file or a mangaid")
            )
        rows = _read_group(path, table, group_of[0], ["file", "marks"])
        _, (text,) = _texts(path, rows.filter(pc.equal(rows["file"], names[0])))
        return _marks(path, names[0], text)


def _open(path: str | os.PathLike[str]) -> pq.ParquetFile:
    try:
        table = pq.ParquetFile(path)
        missing = set(COLUMNS) - set(table.schema_arrow.names)
    except FileNotFoundError:
        raise BadFileError(path, "no such file", _FIX) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadFileError(path, f"cannot be read as Parquet ({error})".replace("\n", " "), _FIX) from None
    if missing:
        table.close()
        raise BadFileError(path, f"no table of marks: it has no column {min(missing)}", _FIX)
    return table


def _read_group(path: str | os.PathLike[str], table: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
    try:
        return table.read_row_group(group, columns=columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadFileError(path, f"corrupt Parquet ({error})".replace("\n", " "), _FIX) from None


def _texts(path: str | os.PathLike[str], rows: pa.Table) -> list[list[str]]:
    """Columns of text as lists."""
    try:
        return [["" if text is None else str(text) for text in column.to_pylist()] for column in rows.columns]
    except ValueError as error:  # bytes that are no text
        raise BadFileError(path, f"corrupt Parquet ({error})", _FIX) from None


def _marks(path: str | os.PathLike[str], file: str, text: str) -> VolunteerMarks:
    """Read a cell; text that is no JSON would be taken for the name of a file."""
    if not text.lstrip().startswith("{"):
        raise BadFileError(path, f"the marks of {file} are no JSON", _FIX)
    return VolunteerMarks.from_json(text)
