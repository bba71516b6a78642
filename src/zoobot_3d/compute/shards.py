"""Work on a table in shards: in this process, on this machine's cores, or on a cluster, with Dask.

A shard is a few rows of the table; whichever process works on it writes the result as one file in a working folder, so
only counts travel back, a killed process loses only the shards it held, and the same call again goes on from the files
that are there. Knows nothing of what is computed; importing this module imports no Dask.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d.compute.cluster import Workers, check_cluster, open_cluster, parse_cluster
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.progress import count_rows, progress_bar
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError, Zoobot3DError
from zoobot_3d.io import write_parquet

__all__ = ["DIED", "Batch", "check_cluster", "sharded"]

SHARDS_PER_SLOT = 4
"""Shards that wait at the scheduler for each that runs: enough that no worker idles, few enough for any scheduler."""

DIED = "the worker process died on it"
"""The error of a row that kills its worker: a crash in a library, or more memory than there is."""

_PATIENCE = 20.0  # seconds between looks at the cluster: jobs that their time limit ended, workers that are new


@dataclass(frozen=True)
class Batch:
    """How a table is worked on, and what the screen says of it.

    Attributes
    ----------
    what, unit : str
        Label and unit of the progress bar.
    cluster : str
        See `check_cluster`. One shard, or none, is worked on in this process where that is ``local``.
    shard_size : int
        Rows in a shard.
    groups : str
        Column of which neighbours of one value make a shard, instead of ``shard_size``.
    progress : bool
        Show the bar.
    """

    what: str = "working"
    unit: str = "galaxies"
    cluster: str = "local"
    shard_size: int = 64
    progress: bool = True
    groups: str = ""

    def cuts(self, table: pd.DataFrame) -> list[tuple[int, int]]:
        """First row of each shard, and the row after its last."""
        if self.groups:
            values = table[self.groups].to_numpy()
            starts = [i for i in range(len(table)) if i == 0 or values[i] != values[i - 1]]
        else:
            starts = list(range(0, len(table), self.shard_size))
        return list(zip(starts, [*starts[1:], len(table)], strict=True)) if starts else []


# The shards


@dataclass(frozen=True)
class _Shard:
    """Some rows, and the file that their result goes to."""

    rows: pd.DataFrame
    part: Path
    is_piece: bool = False
    """One row of a shard on which a process died."""

    def split(self, name: Callable[[pd.DataFrame], str]) -> list[_Shard]:
        """One shard for each row."""
        rows = [self.rows.iloc[[i]].reset_index(drop=True) for i in range(len(self.rows))]
        return [_Shard(row, self.part.with_name(name(row)), is_piece=True) for row in rows]


@contextlib.contextmanager
def sharded(
    function: Callable[..., pd.DataFrame],
    table: pd.DataFrame,
    work: str | os.PathLike[str],
    *,
    key: str = "",
    options: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | None = None,
    batch: Batch | None = None,
    id_column: str = "id",
    finished: Callable[[pd.DataFrame, pd.DataFrame], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """Run a function over the rows of a table, a shard at a time, and yield all results in the table's order.

    Parameters
    ----------
    function : callable
        ``function(rows, **options)`` returns a frame with one or more rows for each row, with columns ``id_column`` and
        ``error`` (None where all is well) among them, of values that Parquet holds. It stands at the top level of a
        module that the workers can import, and may run twice on the same rows.
    table : pandas.DataFrame
        What to work on; its index plays no part.
    work : str or os.PathLike
        Folder for the results of shards, one for each use; on a cluster every worker sees it under the same path. It
        is removed when the with-block ends well: write the final product inside the block.
    key : str
        Whatever else the results depend on, e.g. the options as text; a part of another key is not used.
    options : mapping or callable, optional
        Keywords of ``function``, or what makes them from the number of shards that may run at a time (to divide a
        request rate by).
    batch : Batch, optional
        Where to work, in what pieces, and what to call it.
    id_column : str
        Column, of ``table`` and of results, that names a row to people.
    finished : callable, optional
        Called in this process with the rows and the results of each shard, as soon as they are there.

    Yields
    ------
    pandas.DataFrame
        The results, in the order of ``table``; ``error`` is None where all is well. The types of the columns are those
        of all shards together, however they were cut. Without rows: no rows, and only the columns ``id_column`` and
        ``error``. A row on which the worker process died has only these two filled in.

    Raises
    ------
    ConfigError
        If the cluster cannot be used, or its workers do not see ``work``.
    BadFileError
        If another run is using ``work``.
    CatalogError
        If ``table`` has no ``id_column``.
    Exception
        What ``function`` raised, after all other shards were done; a note says on which rows.
    """
    batch = batch or Batch()
    place = parse_cluster(batch.cluster)
    if id_column not in table:
        raise CatalogError(f"a table to work on has no column {id_column}; it has {', '.join(map(str, table.columns))}")
    with _owned(Path(os.path.abspath(work))) as (folder, token):  # noqa: PTH100 - keeps links, resolve() not
        prefix = f"{function.__module__}.{function.__qualname__}\0{key}\0{id_column}\0"
        names = _Names(prefix, table)
        shards = [
            _Shard(table.iloc[start:stop].reset_index(drop=True), folder / names[start, stop])
            for start, stop in batch.cuts(table)
        ]
        there = {path.name for path in folder.glob("part-*.parquet")}
        left = list({shard.part: shard for shard in shards if shard.part.name not in there}.values())
        with progress_bar(batch.what, len(table), unit=batch.unit, show=batch.progress) as advance:
            advance(sum(len(shard.rows) for shard in shards) - sum(len(shard.rows) for shard in left))
            job = _Job(function, id_column, token, names.of, advance, finished, batch.progress)
            for shard in shards:
                if shard.part.name in there:
                    job.tell(shard)
            if place.kind == "local" and len(shards) <= 1:
                for shard in left:
                    job.run_here(shard, _fill(options, 1))
            elif left:
                with open_cluster(place, len(left)) as workers:
                    job.run_on(workers, left, _fill(options, min(workers.slots, len(left))))
        yield _together([shard.part for shard in shards], id_column)
        _clean(folder, "part-*.parquet", ".part-*.part", "owner")
    with contextlib.suppress(OSError):  # not empty: somebody else's files
        folder.rmdir()


def _fill(options: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | None, slots: int) -> dict[str, Any]:
    return dict(options(slots) if callable(options) else options or {})


class _Names:
    """Names of result files: a hash of the function, the key and the content of the rows."""

    def __init__(self, prefix: str, table: pd.DataFrame) -> None:
        self.prefix = prefix + "\0".join(f"{column}:{table[column].dtype}" for column in table.columns)
        self.hashes = self._hash(table)

    def __getitem__(self, cut: tuple[int, int]) -> str:
        start, stop = cut
        return self._name(self.hashes[start:stop])

    def of(self, rows: pd.DataFrame) -> str:
        return self._name(self._hash(rows))

    def _name(self, hashes: np.ndarray) -> str:
        return f"part-{hashlib.sha256(self.prefix.encode() + hashes.tobytes()).hexdigest()[:32]}.parquet"

    @staticmethod
    def _hash(table: pd.DataFrame) -> np.ndarray:
        plain = {}
        for column in table.columns:
            values = table[column]
            # Pandas would shorten long arrays within cells, and not tell 1 from "1".
            plain[column] = values.map(_spell) if values.dtype == object else values
        hashed = pd.util.hash_pandas_object(pd.DataFrame(plain, index=table.index), index=False)
        return hashed.to_numpy(np.uint64)


def _spell(value: object) -> str:
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


# The working folder


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[tuple[Path, str]]:
    """Lock the folder against a second run, remove what a killed one left half-written, and mark it with a token."""
    with folder_lock(folder, "another command", "lock"):
        _clean(folder, ".part-*.part")
        token = uuid.uuid4().hex
        (folder / "owner").write_text(token)
        yield folder, token


def _clean(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _together(parts: list[Path], id_column: str) -> pd.DataFrame:
    """Read parts as one frame; a column that is empty in one part takes its type from the others."""
    tables = []
    for part in parts:
        try:
            # The pandas notes in a part tell the types of that part alone.
            tables.append(pq.ParquetFile(part).read(use_threads=False).replace_schema_metadata(None))
        except (OSError, pa.ArrowException) as error:
            part.unlink(missing_ok=True)
            what = " ".join(str(error).split())
            raise BadFileError(part, f"cannot be read ({what}); removed", "run the same command again") from None
    if not tables:
        return pd.DataFrame({id_column: pd.Series(dtype=object), "error": pd.Series(dtype=object)})
    frame = pa.concat_tables(_without_types_of_nothing(tables), promote_options="permissive").to_pandas()
    errors = frame["error"].astype(object)
    frame["error"] = errors.where(errors.notna(), None)
    return frame


def _without_types_of_nothing(tables: list[pa.Table]) -> list[pa.Table]:
    """Drop the type of a column in tables where it holds nothing: NaN for text is a double, and fits no text."""
    types: dict[str, pa.DataType] = {}  # of columns that are empty everywhere
    for table in tables:
        for field in table.schema:
            if not pa.types.is_null(field.type):
                types.setdefault(field.name, field.type)
    empty = [[name for name in table.column_names if table[name].null_count == len(table)] for table in tables]
    for table, names in zip(tables, empty, strict=True):
        types |= dict.fromkeys(set(table.column_names).difference(names), pa.null())
    typed = []
    for table, names in zip(tables, empty, strict=True):
        for name in names:
            nothing = pa.nulls(len(table), types.get(name, pa.null()))
            table = table.set_column(table.column_names.index(name), name, nothing)
        typed.append(table)
    return typed


# The work


def _run_shard(
    function: Callable[..., pd.DataFrame], rows: pd.DataFrame, options: dict[str, Any], part: Path, id_column: str
) -> None:
    """Work on one shard and write its part."""
    result = function(rows, **options)
    if lacking := [column for column in (id_column, "error") if column not in result]:
        raise TypeError(f"{function.__qualname__} returned no column {', '.join(lacking)}")
    if not (found := rows[id_column].isin(result[id_column])).all():
        raise ValueError(f"{function.__qualname__} returned no row for {rows[id_column][~found].iloc[0]}")
    write_parquet(part, result)


def _run_remote(
    function: Callable[..., pd.DataFrame],
    rows: pd.DataFrame,
    options: dict[str, Any],
    part: Path,
    id_column: str,
    token: str,
) -> None:
    """`_run_shard` on a worker, which may be on another machine and have lost its first try's answer."""
    try:
        seen = (part.parent / "owner").read_text()
    except OSError:
        seen = ""
    if seen != token:
        raise _NotSharedError(
            f"{part.parent}: the worker on {socket.gethostname()} does not see this folder as the command does; "
            "keep the data on a file system that all machines share, under one path"
        )
    if not part.exists():
        _run_shard(function, rows, options, part, id_column)


class _NotSharedError(ConfigError):
    """A worker that does not see the working folder: nothing else can succeed there either."""


@dataclass(frozen=True)
class _Job:
    """One function over many shards."""

    function: Callable[..., pd.DataFrame]
    id_column: str
    token: str
    name: Callable[[pd.DataFrame], str]
    advance: Callable[[int], None]
    finished: Callable[[pd.DataFrame, pd.DataFrame], None] | None = None
    shown: bool = False

    def tell(self, shard: _Shard) -> None:
        """Say that the results of a shard are there."""
        if self.finished is not None and not shard.is_piece:
            self.finished(shard.rows, _together([shard.part], self.id_column))

    def run_here(self, shard: _Shard, options: dict[str, Any]) -> None:
        counted = 0

        def count(rows: int) -> None:
            nonlocal counted
            counted += rows
            self.advance(rows)

        try:
            with count_rows(count) if self.shown else contextlib.nullcontext():
                _run_shard(self.function, shard.rows, options, shard.part, self.id_column)
        except Exception as error:
            error.add_note(self._where(shard))
            raise
        self.tell(shard)
        self.advance(len(shard.rows) - counted)

    def run_on(self, workers: Workers, shards: list[_Shard], options: dict[str, Any]) -> None:
        """Keep every slot busy until all shards are done; find the rows that kill their worker."""
        from distributed import wait
        from distributed.scheduler import KilledWorker

        waiting, suspects = deque(shards), deque[_Shard]()
        running: dict[Any, tuple[_Shard, bool]] = {}
        split: list[tuple[_Shard, list[_Shard]]] = []
        failures: list[tuple[_Shard, BaseException]] = []

        def submit(shard: _Shard, alone: bool) -> None:
            arguments = (self.function, shard.rows, options, shard.part, self.id_column, self.token)
            running[workers.client.submit(_run_remote, *arguments, pure=False)] = shard, alone

        slots, looked = workers.slots, time.monotonic()
        while waiting or running or suspects:
            if time.monotonic() - looked > _PATIENCE:
                slots, looked = max(workers.slots, workers.tend()), time.monotonic()
            while waiting and len(running) < SHARDS_PER_SLOT * slots:
                submit(waiting.popleft(), False)
            if not running:
                # Dask blames a death on all that was at the worker, so a row is condemned only when it ran alone.
                submit(suspects.popleft(), True)
            try:
                with workers.client.as_current():
                    done = wait(list(running), timeout=_PATIENCE, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            except CancelledError:
                raise Zoobot3DError("the Dask scheduler went away; start it and run the same command again") from None
            for future in done:
                shard, alone = running.pop(future)
                error = future.exception() if future.status == "error" else None  # asking takes a round trip
                if error is None:
                    self.tell(shard)
                    self.advance(len(shard.rows))
                elif isinstance(error, _NotSharedError):
                    raise error
                elif not isinstance(error, KilledWorker):
                    failures.append((shard, error))
                elif len(shard.rows) > 1:
                    rows = shard.split(self.name)
                    split.append((shard, rows))
                    new = {row.part: row for row in rows if not row.part.exists()}
                    waiting.extend(new.values())
                    self.advance(len(rows) - len(new))
                elif alone:
                    ids = shard.rows[self.id_column]
                    write_parquet(shard.part, pd.DataFrame({self.id_column: ids, "error": DIED}))
                    self.tell(shard)
                    self.advance(1)
                else:
                    suspects.append(shard)
        if failures:
            shard, error = failures[0]
            error.add_note(self._where(shard) + (f" and {len(failures) - 1} more shards" if failures[1:] else ""))
            raise error
        for shard, rows in split:
            # Parts of single rows stay: an equal row of another shard may share them.
            write_parquet(shard.part, _together([row.part for row in rows], self.id_column))
            self.tell(shard)

    def _where(self, shard: _Shard) -> str:
        ids = [str(value) for value in shard.rows[self.id_column]]
        return f"in {self.function.__qualname__} for {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
