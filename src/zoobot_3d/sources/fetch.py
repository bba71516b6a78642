"""What every fetch shares: how politely to ask, the ledger of what is there, what failed, and work cut into shards.

A fetch fills one folder and keeps two tables in it: ``fetched.parquet``, the ledger, a row for each file that is there
and was verified, and ``failed.csv``, the rows that failed with their reason, which the same command takes to try again.
Both follow from what was fetched alone: no dates, no order of arrival. Must not know of any service.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.progress import row_done, say, somebody_watches
from zoobot_3d.compute.shards import Batch, sharded
from zoobot_3d.errors import BadFileError, ConfigError, FetchError, Zoobot3DError
from zoobot_3d.io import atomic_path, read_table, write_parquet
from zoobot_3d.sources.http import Client, Patience

__all__ = [
    "FAILED",
    "LEDGER",
    "FetchOptions",
    "FetchSummary",
    "count_reasons",
    "fetch_each",
    "fetch_shards",
    "file_sizes",
    "filling",
    "read_ledger",
    "remove_leftovers",
    "write_failed",
    "write_ledger",
]

LEDGER, FAILED = "fetched.parquet", "failed.csv"
"""Names of the two tables in a folder that a fetch fills."""

_WORK, _LOCK = ".fetch-", ".fetch.lock"
_TEXT_LINES = 8


@dataclass(frozen=True)
class FetchOptions:
    """How politely, and how stubbornly, a service is asked.

    Parameters
    ----------
    connections : int
        At the same time, all workers together.
    rate : float
        Requests per second to a host, all workers together; 0 is no limit.
    attempts : int
        Tries for each file, in all.
    timeout : float
        Seconds without a byte before a try is given up.
    first_wait : float
        Seconds before the second try; later waits grow from there.
    connect : float
        Seconds for a connection to come about.

    Raises
    ------
    ConfigError
        If a number makes no sense.
    """

    connections: int = 4
    rate: float = 5.0
    attempts: int = 6
    timeout: float = 60.0
    first_wait: float = 1.0
    connect: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, low in (
            ("connections", 1),
            ("attempts", 1),
            ("rate", 0),
            ("timeout", 0),
            ("first_wait", 0),
            ("connect", 0),
        ):
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name}={getattr(self, name)} of a fetch: give at least {low}")

    def share(self, n_workers: int) -> FetchOptions:
        """Part of one of ``n_workers`` workers, so that together they keep to the limits; a connection at least."""
        return replace(self, connections=max(1, self.connections // n_workers), rate=self.rate / n_workers)

    def client(self, *, tells: bool = False) -> Client:
        """Client that keeps to these limits, and tells on stderr why it waits, if it shall; a context manager."""
        return Client(
            connections=self.connections,
            rate=self.rate,
            patience=Patience(self.attempts, self.timeout, self.connect, self.first_wait),
            tell=say if tells else None,
        )


@dataclass(frozen=True)
class FetchSummary:
    """What a fetch did; as text, a few lines to read.

    Attributes
    ----------
    done, skipped, failed : int
        Fetched now; good before, at no cost; not to be had.
    reasons : dict
        Why there is no file, and for how many rows, most frequent first.
    failed_csv : pathlib.Path or None
        The failed rows with their reasons, for the same command to try again; None if nothing failed.
    ledger : pathlib.Path
        Table of what is there and verified.
    notes : tuple of str
        Other lines worth reading, e.g. about the catalogue.
    unit : str
        What is counted.
    """

    done: int
    skipped: int
    failed: int
    reasons: dict[str, int]
    failed_csv: Path | None
    ledger: Path
    notes: tuple[str, ...] = ()
    unit: str = field(default="files", kw_only=True)

    def __str__(self) -> str:
        """Say how many, then why not, then what to do."""
        lines = [*self.notes, f"{self.unit}: {self.done} fetched, {self.skipped} were there, {self.failed} failed"]
        lines += [f"  {count} x {reason}" for reason, count in list(self.reasons.items())[:_TEXT_LINES]]
        if len(self.reasons) > _TEXT_LINES:
            lines.append(f"  and {len(self.reasons) - _TEXT_LINES} other reasons")
        if self.failed_csv:
            lines.append(f"  failed rows with reasons: {self.failed_csv}; the same command takes it to try again")
        return "\n".join([*lines, f"  what is there: {self.ledger}"])


def count_reasons(reasons: Sequence[str]) -> dict[str, int]:
    """Count equal reasons, most frequent first, then by text."""
    return dict(sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0])))


# The ledger and the list of failures


def read_ledger(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a ledger; an absent one is empty.

    Parameters
    ----------
    path : pathlib.Path
        ``fetched.parquet``.
    columns : mapping
        Names and dtypes.

    Raises
    ------
    BadFileError
        If it cannot be read, or is another table.
    """
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    fix = "delete it; what is there will be verified or fetched again"
    try:
        return read_table(path)[list(columns)].astype(dict(columns))
    except BadFileError as error:
        raise BadFileError(path, error.what, fix) from None
    except (KeyError, ValueError, TypeError) as error:
        raise BadFileError(path, f"not a ledger of this version ({' '.join(str(error).split())})", fix) from None


def write_ledger(path: Path, frame: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Write a ledger: these columns, sorted by ``id``; the same rows are always the same bytes."""
    ordered = frame[list(columns)].astype(dict(columns)).sort_values("id", kind="stable", ignore_index=True)
    write_parquet(path, ordered)


def write_failed(path: Path, rows: pd.DataFrame, urls: Sequence[str], reasons: Sequence[str]) -> Path | None:
    """Write the rows that failed with ``url`` and ``reason``, or remove the list of an earlier run if there are none.

    Returns
    -------
    pathlib.Path or None
        The file, if there is one now.
    """
    if not len(rows):
        path.unlink(missing_ok=True)
        return None
    # The rows may come from such a list themselves.
    frame = rows.drop(columns=["url", "reason"], errors="ignore").assign(url=list(urls), reason=list(reasons))
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
    return path


# The folder


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Keep other fetches out of a folder: each would take the other's temporary files for leftovers.

    Raises
    ------
    BadFileError
        If another fetch is filling it, or nothing can be written there.
    """
    with folder_lock(folder, "a fetch", _LOCK):
        yield


def file_sizes(folder: Path) -> dict[str, int]:
    """Names and sizes (bytes) of the files in a folder, from one scan; of an absent folder, none."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def remove_leftovers(folder: Path, names: Collection[str], keep: Collection[str] = ()) -> None:
    """Remove the temporary files of a run that was killed.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.
    names : collection of str
        Files in it, from `file_sizes`.
    keep : collection of str
        Files whose partial downloads, ``.NAME.part`` and ``.NAME.part.json``, are to be resumed.
    """
    for name in names:
        if name.startswith(".") and name.endswith((".part", ".part.json")):
            final = name.removeprefix(".").removesuffix(".json").removesuffix(".part")
            if final not in keep:
                (folder / name).unlink(missing_ok=True)


# The work


@contextlib.contextmanager
def fetch_shards(
    function: Callable[..., pd.DataFrame],
    rows: pd.DataFrame,
    folder: Path,
    arguments: Mapping[str, Any],
    *,
    options: FetchOptions,
    batch: Batch,
) -> Iterator[pd.DataFrame]:
    """Fetch rows by `zoobot_3d.compute.shards.sharded`; write what follows from the results inside the with-block.

    A run that was killed goes on if rows and arguments are the same. If they are not, its shards are void, as a later
    run may have replaced the files that they vouch for.

    Parameters
    ----------
    function : callable
        ``function(rows, options=FetchOptions, **arguments)``, top-level; returns what `fetch_each` does.
    rows : pandas.DataFrame
        What to fetch, with a unique ``id``; may be empty.
    folder : pathlib.Path
        The folder that is filled.
    arguments : mapping
        For every call; plain values.
    options : FetchOptions
        Limits of all workers together.
    batch : Batch
        What it is called, and where to work.

    Yields
    ------
    pandas.DataFrame
        ``id``, ``error`` (None: good), ``url``, and what ``function`` adds, in the order of ``rows``.
    """
    digest = hashlib.sha256(json.dumps([function.__name__, arguments], sort_keys=True).encode())
    digest.update(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    work = folder / f"{_WORK}{digest.hexdigest()[:16]}"
    for other in folder.glob(f"{_WORK}*"):
        if other != work or rows.empty:
            shutil.rmtree(other, ignore_errors=True)
    if rows.empty:
        yield pd.DataFrame({"id": [], "error": [], "url": []}, dtype=object)
        return
    if batch.cluster == "local" and options.connections < (os.cpu_count() or 1):
        batch = replace(batch, cluster=f"local:{options.connections}")  # without a connection a worker has no work
    with sharded(
        function,
        rows,
        work,
        options=lambda n_workers: {"options": options.share(n_workers), **arguments},
        batch=batch,
    ) as results:
        yield results


def fetch_each(
    rows: pd.DataFrame, fetch: Callable[[Mapping[Hashable, Any], Client], Mapping[str, Any]], options: FetchOptions
) -> pd.DataFrame:
    """Fetch the rows of one shard, as many at the same time as there are connections.

    Parameters
    ----------
    rows : pandas.DataFrame
        With ``id`` and ``url``.
    fetch : callable
        Fetches one row with the client, and returns what to record.
    options : FetchOptions
        Limits of this worker.

    Returns
    -------
    pandas.DataFrame
        A row for each: ``id``, ``error`` (the reason if it failed, else None), ``url``, and what ``fetch`` returned.
    """

    def one(row: Mapping[Hashable, Any]) -> dict[str, Any]:
        result = {"id": row["id"], "error": None, "url": row["url"]}
        try:
            return {**result, **fetch(row, client)}
        except FetchError as error:
            return {**result, "error": error.what, "url": error.url}
        except Zoobot3DError as error:
            return {**result, "error": str(error)}

    results = []
    with options.client(tells=somebody_watches()) as client, ThreadPoolExecutor(options.connections) as pool:
        try:
            for result in pool.map(one, rows.to_dict("records")):
                results.append(result)
                row_done()
            return pd.DataFrame(results)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C, or a full disk: the rest need not be tried
            raise
