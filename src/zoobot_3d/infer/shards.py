"""The shards of a folder of predictions, and the log that tells whether they are as they were written.

``log/shards.jsonl`` has a line for each shard that was written: its checksum, and a stamp of what each of its rows was
made of. Of several lines on one shard the last counts. Must not know networks, or what stands in a shard.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d import io
from zoobot_3d.compute.batch import remove_leftovers
from zoobot_3d.errors import BadFileError

__all__ = [
    "SHARDS",
    "ShardLog",
    "checked_shards",
    "checksum_of",
    "clean_shards",
    "publish_shard",
    "shard_files",
    "shard_name",
    "start_date",
    "write_shard",
]

SHARDS = "shards"
"""Subfolder with nothing but the shards, so that Parquet readers take it as one table."""

LOG, START = "log/shards.jsonl", "log/start.json"
_AGAIN = "run the same zoobot3d predict again, which makes it anew"


def shard_files(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """Find the shards of a folder by their names, in order; nothing is read."""
    found = {}
    for path in (Path(folder) / SHARDS).glob("shard-*.parquet"):
        if match := re.fullmatch(r"shard-(\d{5,})\.parquet", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class _Entry:
    checksum: str
    stamps: Mapping[str, str]


class ShardLog:
    """What a folder's log says of its shards.

    Parameters
    ----------
    folder : pathlib.Path
        Of the prediction. A log that is missing says nothing; lines that are torn are passed over.

    Notes
    -----
    Of shards that are written from here on only the checksums stay in memory, which would grow with every galaxy else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, _Entry] = {}
        try:
            lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return
        for line in lines:
            try:
                told = json.loads(line)
                name, checksum = str(told["shard"]), str(told["blake2b"])
                self._entries[name] = _Entry(checksum, {str(key): str(stamp) for key, stamp in told["rows"].items()})
                if not checksum:
                    del self._entries[name]
            except (ValueError, KeyError, TypeError, AttributeError):
                continue

    def checksum(self, name: str) -> str:
        """Return what a shard's checksum is to be; "" if the log does not know the shard."""
        entry = self._entries.get(name)
        return "" if entry is None else entry.checksum

    def stamps(self, name: str) -> Mapping[str, str]:
        """Return what the rows of a shard were made of, by ``id``, when the log was read; empty if not known."""
        entry = self._entries.get(name)
        return {} if entry is None else entry.stamps

    def missing(self, there: Collection[Path]) -> list[str]:
        """Name the shards that were written and are gone; without a log, gaps in the numbers tell."""
        told = set(self._entries) or {shard_name(number) for number in range(max(map(_number, there), default=-1))}
        return sorted(told - {path.name for path in there})

    def is_intact(self, path: Path) -> bool:
        """Tell whether a shard is as it was written; of one that the log does not know, whether it can be read."""
        expected = self.checksum(path.name)
        try:
            if expected:
                return checksum_of(path) == expected
            return {"id", "error"} <= set(pq.read_table(path).column_names)
        except (OSError, ValueError, pa.ArrowException):
            return False

    def write(self, name: str, checksum: str, stamps: Mapping[str, str]) -> None:
        """Add a line on a shard, so that it is on the disk when this returns; without a checksum, the shard is gone."""
        file = self.folder / LOG
        file.parent.mkdir(exist_ok=True)
        line = json.dumps({"shard": name, "blake2b": checksum, "rows": dict(stamps)}).encode() + b"\n"
        with file.open("a+b") as log:
            if log.tell():
                log.seek(-1, os.SEEK_END)
                if log.read(1) != b"\n":  # a killed run left half a line
                    line = b"\n" + line
            log.write(line)
            log.flush()
            os.fsync(log.fileno())
        self._entries.pop(name, None)
        if checksum:
            self._entries[name] = _Entry(checksum, {})


def shard_name(number: int) -> str:
    """Name of a shard's file."""
    return f"shard-{number:05d}.parquet"


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("shard-"))


def checksum_of(path: Path) -> str:
    """Checksum of a shard's file, as the log has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_shard(log: ShardLog, number: int, frame: pd.DataFrame, notes: dict[str, str]) -> Path:
    """Write a shard whole, and a line of the log: the column ``stamp`` goes there, as stamps tell times of files."""
    path = log.folder / SHARDS / shard_name(number)
    io.write_parquet(path, frame.drop(columns="stamp"), notes)
    log.write(path.name, checksum_of(path), dict(zip(frame["id"].astype(str), frame["stamp"], strict=True)))
    return path


def publish_shard(log: ShardLog, number: int, made: Path, checksum: str, stamps: Mapping[str, str]) -> None:
    """Move a shard that another process has written whole to its place, and write a line of the log."""
    path = log.folder / SHARDS / shard_name(number)
    path.parent.mkdir(exist_ok=True)
    made.replace(path)
    log.write(path.name, checksum, stamps)


def clean_shards(log: ShardLog) -> tuple[dict[int, Path], list[str]]:
    """Find the shards that are as they were written, and remove those that are not.

    The log goes on to name what is removed, so that its loss shows until it is made again or given up, see
    `ShardLog.write`.

    Returns
    -------
    intact : dict
        Number to path.
    damaged : list of str
        File names of shards that are truncated, changed, swapped or gone.
    """
    remove_leftovers(log.folder / SHARDS)
    there = shard_files(log.folder)
    damaged = log.missing(there.values())
    intact = {number: path for number, path in there.items() if log.is_intact(path)}
    for number in there.keys() - intact.keys():
        damaged.append(there[number].name)
        there[number].unlink()
    for path in intact.values():
        if not log.checksum(path.name):  # the log was lost, or the run was killed before it could write this line
            log.write(path.name, checksum_of(path), {})
    return intact, sorted(damaged)


def checked_shards(folder: str | os.PathLike[str]) -> Iterator[tuple[Path, str]]:
    """Yield the shards in order, each compared with its checksum as it is reached, and the checksum.

    Raises
    ------
    BadFileError
        If there are none, or one is missing or not as it was written.
    """
    log, there = ShardLog(Path(folder)), shard_files(folder)
    gone = log.missing(there.values())
    if not there and not gone:
        raise BadFileError(folder, "no shards of predictions here", "run zoobot3d predict first")
    if gone:
        raise BadFileError(folder, f"{len(gone)} shards are missing, the first is {gone[0]}", _AGAIN)
    for path in there.values():
        if not log.is_intact(path):
            log = ShardLog(Path(folder))  # a prediction that is running may have written it anew
            if not log.is_intact(path):
                raise BadFileError(path, "the shard is damaged: it is not as it was written", _AGAIN)
        yield path, log.checksum(path.name) or checksum_of(path)


def start_date(folder: Path, *, begin: bool = False) -> str:
    """Return the day on which a prediction began, as ``2026-01-31``; "" if that is not known.

    Parameters
    ----------
    folder : pathlib.Path
        Of the prediction.
    begin : bool
        Write down today, if nothing is written yet.
    """
    path = folder / START
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["date"])
    except (OSError, ValueError, KeyError, TypeError):
        if not begin:
            return ""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    io.write_atomic(path, json.dumps({"date": today}))
    return today
