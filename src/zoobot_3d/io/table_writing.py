"""Tables written: Parquet, CSV and FITS, whole or not at all."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.files import atomic_path, write_atomic

__all__ = ["as_one_kind", "write_parquet", "write_table"]


def write_parquet(path: str | os.PathLike[str], frame: pd.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a Parquet table, zstd-compressed, atomically, with text metadata in its schema."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if metadata:
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), **{k.encode(): v.encode() for k, v in metadata.items()}}
        )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def as_one_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """Make text of columns that mix kinds, as a long CSV file read in pieces can: Arrow and FITS hold one kind."""
    mixed = [
        name
        for name, column in frame.items()
        if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True).startswith("mixed")
    ]
    return frame.assign(**{str(name): frame[name].map(str, na_action="ignore") for name in mixed})


def write_table(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """Write a table of numbers and text as its extension says; the same rows are always the same bytes.

    Parameters
    ----------
    path : path
        ``.csv``, ``.csv.gz``, ``.parquet`` or ``.fits``.
    frame : pandas.DataFrame
        The rows; text that is missing becomes empty in FITS.

    Raises
    ------
    BadFileError
        If the extension is none of these.
    """
    name, frame = Path(path).name.lower(), as_one_kind(frame)
    if name.endswith((".parquet", ".pq")):
        write_parquet(path, frame)
    elif name.endswith((".csv", ".csv.gz")):
        text = frame.to_csv(index=False, lineterminator="\n").encode()
        write_atomic(path, gzip.compress(text, mtime=0) if name.endswith(".gz") else text)
    elif name.endswith((".fits", ".fit")):
        from astropy.table import Table

        words = [label for label, column in frame.items() if not pd.api.types.is_numeric_dtype(column.dtype)]
        plain = frame.assign(**{str(label): frame[label].fillna("").astype(str).astype(object) for label in words})
        with atomic_path(path) as temporary:
            Table.from_pandas(plain).write(temporary, format="fits", overwrite=True)
    else:
        raise BadFileError(path, "unknown kind of table", "use .csv, .parquet or .fits")
