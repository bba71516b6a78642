"""The folder of fetched catalogues: which files are there and verified, in a small ledger beside them.

Shared by the sources of catalogues. Knows files, sizes and checksums; nothing of services or of what the tables mean.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d.errors import BadFileError
from zoobot_3d.sources.fetch import LEDGER, read_ledger, write_ledger

__all__ = ["FOLDER", "CatalogueFile", "CatalogueFolder", "check_parquet", "checksum"]

FOLDER = "catalogues"
"""Under the data root."""
_LEDGER_COLUMNS = {"id": "str", "size": "int64", "sha256": "str", "rows": "int64", "columns": "int64", "origin": "str"}
"""A row a file, ``id`` its name; size in bytes; origin without address or date, so that it is the same in every run."""


@dataclass(frozen=True)
class CatalogueFile:
    """One catalogue that a fetch left behind.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    rows, columns : int
        What it holds.
    fetched : bool
        False if it was there and good, so nothing was downloaded.
    problems : tuple of str
        Rows that were left out and why, one line for each kind of problem.
    """

    path: Path
    rows: int
    columns: int
    fetched: bool
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for the terminal."""
        there = "" if self.fetched else " (was there)"
        return f"{self.path}: {self.rows:,} rows, {self.columns} columns{there}"


class CatalogueFolder:
    """The folder ``catalogues`` of a data root, and its ledger.

    Parameters
    ----------
    root : path
        Data root; the folder is made.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.path = Path(root) / FOLDER
        self.path.mkdir(parents=True, exist_ok=True)

    def verified(self, name: str, origins: Collection[str] | None = None) -> CatalogueFile | None:
        """Look for a file that an earlier fetch verified and that has not changed since.

        Parameters
        ----------
        name : str
            Of the file.
        origins : collection of str, optional
            Only if it came from one of these.

        Returns
        -------
        CatalogueFile or None
            None if it is not there, was never verified, came from elsewhere, or differs in size or SHA-256.

        Raises
        ------
        BadFileError
            If the ledger cannot be read.
        """
        path, ledger = self.path / name, self._ledger()
        rows = ledger[ledger["id"] == name]
        if rows.empty or not path.is_file():
            return None
        row = rows.iloc[0]
        if origins is not None and row["origin"] not in origins:
            return None
        if path.stat().st_size != row["size"] or checksum(path, "sha256") != row["sha256"]:
            return None
        return CatalogueFile(path, int(row["rows"]), int(row["columns"]), fetched=False)

    def unknown(self, name: str) -> bool:
        """Tell whether a file is there that no fetch noted: the user's own, or of a run killed just before its note."""
        return (self.path / name).is_file() and name not in set(self._ledger()["id"])

    def record(
        self, name: str, rows: int, columns: int, origin: str, *, fetched: bool = True, problems: Iterable[str] = ()
    ) -> CatalogueFile:
        """Note in the ledger that a file is there and good.

        Parameters
        ----------
        name : str
            Of the file.
        rows, columns : int
            What it holds.
        origin : str
            Where it comes from, the same in every run (no address of a mirror, no date).
        fetched, problems
            Of the answer.

        Returns
        -------
        CatalogueFile
        """
        path, ledger = self.path / name, self._ledger()
        values = (name, path.stat().st_size, checksum(path, "sha256"), rows, columns, origin)
        row = pd.DataFrame([dict(zip(_LEDGER_COLUMNS, values, strict=True))])
        write_ledger(
            self.path / LEDGER, pd.concat([ledger[ledger["id"] != name], row], ignore_index=True), _LEDGER_COLUMNS
        )
        return CatalogueFile(path, rows, columns, fetched, tuple(problems))

    def sweep(self, *names: str) -> None:
        """Remove what a killed run left of its half-written tables and ledger; partial downloads stay, to go on."""
        for name in (*names, LEDGER):
            for leftover in self.path.glob(f".{name}.?*.part"):
                leftover.unlink(missing_ok=True)

    def _ledger(self) -> pd.DataFrame:
        return read_ledger(self.path / LEDGER, _LEDGER_COLUMNS)


def checksum(path: str | os.PathLike[str], algorithm: str) -> str:
    """Hash a file of any size, as hexadecimal text.

    Parameters
    ----------
    path : path
        The file.
    algorithm : str
        As `hashlib` names it, e.g. ``"md5"``.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check_parquet(path: str | os.PathLike[str], columns: Iterable[str]) -> tuple[int, int]:
    """Check that a Parquet file opens and has columns; only its footer is read.

    Parameters
    ----------
    path : path
        The file.
    columns : iterable of str
        Those that are needed.

    Returns
    -------
    rows, columns : int
        What it holds.

    Raises
    ------
    BadFileError
        If it is no Parquet file, or lacks a column (the message names them).
    """
    try:
        with pq.ParquetFile(path) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        what = f"not a readable Parquet file ({error})".replace("\n", " ")
        raise BadFileError(path, what, "remove it and fetch it again") from None
    missing = [name for name in columns if name not in names]
    if missing:
        some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise BadFileError(path, f"no column {some}", "the service may have published another version: see its record")
    return int(rows), len(names)
