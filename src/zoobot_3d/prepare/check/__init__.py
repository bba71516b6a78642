"""Does a catalogue hold together? Every file read once and compared with its rows, before a night is spent on training.

`zoobot_3d.prepare.check.file_facts` says what is in each file, `zoobot_3d.prepare.check.faults` compares. Finds, never
mends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from zoobot_3d import io
from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.compute.batch import file_stamp, remove_leftovers
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.prepare.check.faults import KINDS, find_faults, named_files
from zoobot_3d.prepare.check.file_facts import FACTS, read_facts
from zoobot_3d.schema import COL_ID, COL_JPG, GZ_FIELD_PX

__all__ = ["KINDS", "CheckReport", "Tolerances", "check_catalog"]


@dataclass(frozen=True)
class CheckReport:
    """What `check_catalog` found.

    Attributes
    ----------
    n_galaxies : int
        Rows of the catalogue.
    n_files : int
        Files that were there and read.
    problems : pandas.DataFrame
        A row each: ``id`` (the galaxy, "" for the catalogue), ``column``, ``file``, ``kind`` (of `KINDS`), ``detail``.
    """

    n_galaxies: int
    n_files: int
    problems: pd.DataFrame

    @property
    def counts(self) -> pd.Series:
        """Number of problems by kind and column, most frequent first."""
        return self.problems.groupby(["kind", "column"]).size().sort_values(ascending=False, kind="stable")

    def table(self) -> list[list[str]]:
        """Return `counts` as text with an example of each; the first row names the columns."""
        lines = [["problem", "column", "count", "first", "detail"]]
        for (kind, column), same in self.problems.groupby(["kind", "column"], sort=False):
            lines.append([str(kind), str(column), f"{len(same):,}", same["id"].iloc[0], same["detail"].iloc[0]])
        lines[1:] = sorted(lines[1:], key=lambda line: -int(line[2].replace(",", "")))
        return lines if len(lines) > 1 else [*lines, ["none", "", "0", "", ""]]


@dataclass(frozen=True)
class Tolerances:
    """How far things may be apart.

    Attributes
    ----------
    px : float
        In pixels of the file, a cutout's middle from the row's ``ra``, ``dec``, or the frame that volunteers saw from
        ``ra_manga``, ``dec_manga``.
    arcsec : float
        That frame from the picture.
    """

    px: float = 2.0
    arcsec: float = 5.0


def check_catalog(
    catalogue: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    size: int = GZ_FIELD_PX,
    tolerances: Tolerances | None = None,
    cluster: str = "local",
    report: str | os.PathLike[str] | None = None,
    progress: bool = True,
    shard_size: int = 256,
) -> CheckReport:
    """Read every file of a catalogue once, and list what is missing, unreadable, of another size or off-centre.

    Parameters
    ----------
    catalogue : path
        CSV, Parquet or FITS, with the columns of a master catalogue; those that it lacks are not compared.
    root : path, optional
        Folder that its paths start from; found beside the catalogue by default.
    size : int
        Expected side of pictures and cutouts, px.
    tolerances : Tolerances, optional
        How far pictures and frames may be from where the catalogue says.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    report : path, optional
        CSV or Parquet to write the problems to.
    progress : bool
        Show a bar.
    shard_size : int
        Files read at a time; no result depends on it.

    Returns
    -------
    CheckReport

    Raises
    ------
    BadFileError
        If the catalogue cannot be read, or `report` is of no known kind.
    CatalogError
        If it is empty or has no column of files at all.
    ConfigError
        If `cluster` makes no sense.
    """
    check_cluster(cluster)
    limits = tolerances or Tolerances()
    if report is not None and not str(report).lower().endswith(io.TABLES):
        raise BadFileError(report, "unknown kind of table", "use .csv, .parquet or .fits")
    if report is not None:
        remove_leftovers(Path(report).parent, f".{Path(report).name}.")
    frame = read_catalog(catalogue).reset_index(drop=True)
    uses = named_files(frame)
    if uses is None:
        raise CatalogError(f"{os.fspath(catalogue)}: no column of files, e.g. {COL_JPG}; there is nothing to check")
    base = Path(root) if root is not None else catalog_root(catalogue)
    files = uses.drop_duplicates("key")[["key", "what", "path"]].rename(columns={"key": "id", "path": "file"})
    files["stamp"] = [file_stamp(base / file) for file in files["file"]]
    there = files[files["stamp"] != ""]
    with _work_folder(Path(report if report is not None else catalogue)) as work:
        options = {"root": str(base.resolve())}
        batch = Batch("checking", "files", cluster, shard_size, progress)
        with sharded(read_facts, there, work, options=options, batch=batch) as facts:
            found = facts.reindex(columns=list(FACTS))
    faults = find_faults(frame, uses, found, size, limits.px, limits.arcsec)
    result = CheckReport(len(frame), len(there), _named(faults, frame))
    if report is not None:
        io.write_table(report, result.problems)
    return result


# The report


def _named(faults: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Put galaxies' names, or row numbers, in the place of rows."""
    names = [f"row {row}" for row in range(len(frame))]
    if COL_ID in frame:
        names = [row if pd.isna(name) else str(name) for name, row in zip(frame[COL_ID], names, strict=True)]
    faults.insert(0, "id", [names[row] if row >= 0 else "" for row in faults["row"]])
    return faults.drop(columns="row").astype(str)


@contextmanager
def _work_folder(beside: Path) -> Iterator[Path]:
    """Yield a folder for results in between: beside a file, so that a killed check goes on, or where there is room."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    if os.access(beside.parent, os.W_OK):
        yield beside.with_name(f".{beside.name}.check")
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "check"
