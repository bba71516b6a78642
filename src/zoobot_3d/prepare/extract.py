"""Galaxy Zoo: 3D files to marks (JSON, or one table) and to a catalogue.

Each is a batch over files with `zoobot_3d.compute.shards`: resumable, and a broken file is a row in a list with the
reason. Must not know where files were fetched from, nor what is learned from them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from zoobot_3d import io, schema
from zoobot_3d.compute.batch import ExtractSummary, file_stamp, reason_for, remove_leftovers, summarize, table_stem
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.marks.gz3d import read_gz3d
from zoobot_3d.marks.gz3d_summary import read_gz3d_summary
from zoobot_3d.marks.gz3d_writer import METADATA_COLUMNS
from zoobot_3d.marks.table import COLUMNS, marks_row, write_marks_table

__all__ = ["ExtractSummary", "catalog", "extract_marks"]

_COUNTS = tuple(f"n_{what}_{name}" for what in ("asked", "marked") for name in schema.CLASSES)
_FITS = (".fits.gz", ".fits")

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


# Marks


def extract_marks(
    gz3d: Paths,
    out: str | os.PathLike[str],
    *,
    cluster: str = "local",
    progress: bool = True,
    shard_size: int = 64,
) -> ExtractSummary:
    """Take the volunteers' marks out of GZ3D FITS files; what is there already is left alone.

    Parameters
    ----------
    gz3d : path or sequence of paths
        Folders of ``gz3d_*.fits.gz``, or files.
    out : path
        A folder: one JSON a galaxy (`zoobot_3d.marks.volunteer_marks.VolunteerMarks.to_json`), named like the FITS
        file. Or a ``.parquet``: all in one table, see `zoobot_3d.marks.table`; it holds these files and no others.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.
    shard_size : int
        Files worked on at a time; no result depends on it.

    Returns
    -------
    ExtractSummary
        Broken files are in ``failed.csv`` in the folder, or ``<table>_failed.csv`` beside the table.

    Raises
    ------
    BadFileError
        If there is no file, or a table that is there cannot be read.
    CatalogError
        If two files have one name.
    ConfigError
        If `cluster` makes no sense.
    """
    check_cluster(cluster)
    jobs, target = _gz3d_jobs(gz3d), Path(out)
    batch = Batch("extracting", "files", cluster, shard_size, progress)
    if target.name.endswith((".parquet", ".pq")):
        remove_leftovers(target.parent, f".{target.name}.")
        there = io.read_table(target, ["file"])["file"] if target.exists() else pd.Series([], dtype=str)
        new = jobs[~jobs["id"].isin(there)]
        with sharded(_marks_rows, new, target.with_name(f".{target.name}.work"), batch=batch) as rows:
            good, kept = rows[rows["error"].isna()], there.isin(jobs["id"])
            if len(good) or not kept.all():
                old = pd.read_parquet(target)[kept.to_numpy()] if len(there) else pd.DataFrame(columns=list(COLUMNS))
                write_marks_table(target, pd.concat([old, good.reindex(columns=list(COLUMNS))], ignore_index=True))
            return summarize(target, rows, int(kept.sum()), target.with_name(f"{table_stem(target)}_failed.csv"))
    target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    # Files here appear whole or not at all, so one that is there is good.
    is_new = ~jobs["stem"].add(".json").isin([path.name for path in target.iterdir()])
    options = {"out": str(target.resolve())}
    with sharded(_write_marks, jobs[is_new], target / ".work", options=options, batch=batch) as rows:
        return summarize(target, rows, int((~is_new).sum()), target / "failed.csv")


def _write_marks(rows: pd.DataFrame, out: str) -> pd.DataFrame:
    """Write the JSON files of one shard."""
    results = []
    for row in rows.to_dict("records"):
        error = None
        try:
            read_gz3d(row["path"]).marks.to_json(Path(out) / f"{row['stem']}.json")
        except Exception as reason:  # one file must not stop the others
            error = reason_for(reason, row["path"], row["id"])
        results.append({"id": row["id"], "error": error})
    return pd.DataFrame(results)


def _marks_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the table of marks for one shard."""
    results: list[dict[str, Any]] = []
    for row in rows.to_dict("records"):
        try:
            results.append({"id": row["id"], "error": None, **marks_row(row["id"], read_gz3d(row["path"]).marks)})
        except Exception as reason:  # one file must not stop the others
            results.append({"id": row["id"], "error": reason_for(reason, row["path"], row["id"]), "file": row["id"]})
    return pd.DataFrame(results)


def _gz3d_jobs(gz3d: Paths) -> pd.DataFrame:
    """List the files: ``id`` (name), ``stem``, ``path`` and, so that a changed file is read anew, ``stamp``."""
    files: list[Path] = []
    for path in map(Path, [gz3d] if isinstance(gz3d, (str, os.PathLike)) else gz3d):
        if not path.exists() and not path.name.endswith(_FITS):  # a file that is gone is a failure of its own
            raise BadFileError(path, "no such folder", "give the folder of GZ3D files, see zoobot3d fetch gz3d")
        files += [f for f in path.glob("gz3d_*.fits*") if f.name.endswith(_FITS)] if path.is_dir() else [path]
    if not files:
        raise BadFileError(
            ", ".join(map(str, [gz3d] if isinstance(gz3d, (str, os.PathLike)) else gz3d)) or "input",
            "no gz3d_*.fits.gz here",
            "give the folder of GZ3D files, see zoobot3d fetch gz3d",
        )
    files = sorted({file.resolve(): file for file in files}, key=lambda file: file.name)
    jobs = pd.DataFrame({"id": [f.name for f in files], "path": [str(f) for f in files]})
    jobs["stem"] = jobs["id"].str.removesuffix(".gz").str.removesuffix(".fits")
    if (twice := jobs["stem"].duplicated()).any():
        raise CatalogError(f"two files are named {jobs['id'][twice].iloc[0]}; give them one at a time")
    return jobs.assign(stamp=[file_stamp(f) for f in files])


# Catalogue

_METADATA = {name: {"S": "str", "f": "float64", "i": "int64"}[kind.lstrip(">")[0]] for name, kind in METADATA_COLUMNS}


def catalog(
    gz3d: Paths,
    out: str | os.PathLike[str],
    *,
    cluster: str = "local",
    progress: bool = True,
    shard_size: int = 256,
) -> ExtractSummary:
    """Make a table of GZ3D FITS files: HDU 5 of each, and how many volunteers were asked and marked something.

    Parameters
    ----------
    gz3d : path or sequence of paths
        Folders of ``gz3d_*.fits.gz``, or files.
    out : path
        Table to write, anew each time: ``.csv``, ``.parquet`` or ``.fits``. Sorted by ``file_name``.
    cluster, progress, shard_size
        See `extract_marks`.

    Returns
    -------
    ExtractSummary
        Broken files are in ``<table>_failed.csv`` beside the table.

    Raises
    ------
    BadFileError
        If there is no file, or `out` is of no known kind.
    CatalogError
        If two files have one name.
    ConfigError
        If `cluster` makes no sense.
    """
    check_cluster(cluster)
    jobs, target = _gz3d_jobs(gz3d), Path(out)
    if not target.name.lower().endswith(io.TABLES):
        raise BadFileError(target, "unknown kind of table", "use .csv, .parquet or .fits")
    remove_leftovers(target.parent, f".{target.name}.")
    batch = Batch("reading", "files", cluster, shard_size, progress)
    with sharded(_catalog_rows, jobs, target.with_name(f".{target.name}.work"), batch=batch) as rows:
        good = rows[rows["error"].isna()]
        types = _METADATA | {"file_name": "str"} | dict.fromkeys(_COUNTS, "int64")
        if len(good):
            io.write_table(target, good[list(types)].astype(types))
        return summarize(target, rows, 0, target.with_name(f"{table_stem(target)}_failed.csv"))


def _catalog_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the catalogue for one shard."""
    results: list[dict[str, Any]] = []
    for row in rows.to_dict("records"):
        result = {"id": row["id"], "error": None, "file_name": row["id"]}
        try:
            galaxy = read_gz3d_summary(row["path"])
            result |= {name: galaxy.metadata[name] for name in _METADATA}
            result |= {f"n_asked_{name}": n for name, n in galaxy.n_asked.items()}
            result |= {f"n_marked_{name}": n for name, n in galaxy.n_marked.items()}
        except Exception as reason:  # one file must not stop the others
            result["error"] = reason_for(reason, row["path"], row["id"])
        results.append(result)
    return pd.DataFrame(results)
