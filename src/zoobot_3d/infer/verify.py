"""Checks a folder of predictions: every shard read, its rows counted, every mask decoded.

A prediction that is run again compares checksums alone. This module reads what is inside. Must not know networks.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d import io
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.errors import BadFileError, Zoobot3DError
from zoobot_3d.infer.predictions import read_run
from zoobot_3d.infer.shards import ShardLog, shard_files

__all__ = ["VerifySummary", "verify"]

_NEEDED = {"id", "error", "height", "width"}
_SHOWN = 20  # problems that are listed in full


@dataclass
class VerifySummary:
    """What a check found; as text, a few lines to read.

    Attributes
    ----------
    shards : int
        Shards that are as they were written.
    galaxies : int
        Rows of these shards.
    failed : int
        Rows of them without masks, which say why.
    pictures : int
        PNG images that were decoded.
    problems : dict
        File name of each shard that is damaged or missing, and what is wrong.
    removed : int
        Shards that were removed.
    """

    shards: int = 0
    galaxies: int = 0
    failed: int = 0
    pictures: int = 0
    problems: dict[str, str] = dataclass_field(default_factory=dict)
    removed: int = 0

    def __str__(self) -> str:
        """Say what is good, what is not, and what to do."""
        lines = [
            f"{self.shards:,} shards as they were written: {self.galaxies:,} galaxies, {self.failed:,} of them without "
            f"masks; {self.pictures:,} PNG images decoded"
        ]
        shown = list(self.problems.items())[:_SHOWN]
        lines += [f"  {name}: {problem}" for name, problem in shown]
        if more := len(self.problems) - len(shown):
            lines.append(f"  and {more:,} more")
        if self.problems:
            removed = f"{self.removed:,} damaged shards removed; " if self.removed else ""
            needed = any(problem != _MISSING for problem in self.problems.values()) and not self.removed
            lines.append(f"  {removed}{_REPAIR if needed else _AGAIN}")
        return "\n".join(lines)


_MISSING = "missing"
_AGAIN = "run the same zoobot3d predict again, which makes them anew"
_REPAIR = "remove the damaged shards with --repair, then run the same zoobot3d predict again"


def verify(
    folder: str | os.PathLike[str], *, repair: bool = False, progress: Callable[[int], None] | None = None
) -> VerifySummary:
    """Read every shard of a prediction and decode every mask.

    A shard is damaged if its checksum is not the one that was noted when it was written, if it cannot be read, if its
    rows are not the galaxies that were noted, if a galaxy is also in an earlier shard, if it was made with other
    bundles or options than the folder, or if a picture cannot be decoded or has another size than its row says.

    Parameters
    ----------
    folder : path
        What `zoobot_3d.predict` wrote.
    repair : bool
        Remove damaged shards. The same prediction makes them again, from the same pictures.
    progress : callable, optional
        Called with the number of shards checked since the last call.

    Returns
    -------
    VerifySummary

    Raises
    ------
    BadFileError
        If the folder holds no predictions; with ``repair``, if a prediction is running there.
    """
    path = Path(folder)
    with folder_lock(path, "a prediction") if repair else contextlib.nullcontext():
        log, there = ShardLog(path), shard_files(path)
        gone = log.missing(there.values())
        if not there and not gone:
            raise BadFileError(folder, "no shards of predictions here", "run zoobot3d predict first")
        summary = VerifySummary(problems=dict.fromkeys(gone, _MISSING))
        run = _made_with(read_run(path))
        seen: dict[str, str] = {}
        for shard in there.values():
            problem = _checked(shard, log, run, seen, summary)
            if problem and not repair:  # a prediction that is running may have written it anew
                log = ShardLog(path)
                problem = _checked(shard, log, run, seen, summary)
            if problem:
                summary.problems[shard.name] = problem
            if problem and repair:
                shard.unlink(missing_ok=True)
                summary.removed += 1
            if progress is not None:
                progress(1)
    summary.problems = dict(sorted(summary.problems.items()))
    return summary


def _made_with(run: dict[str, Any] | None) -> dict[str, Any]:
    return {name: (run or {}).get(name, False) for name in ("bundle", "tta", "uncertainty", "ids")}


def _checked(
    shard: Path, log: ShardLog, run: dict[str, Any], seen: dict[str, str], summary: VerifySummary
) -> str | None:
    """Say what is wrong with a shard, or count it."""
    try:
        table = pq.read_table(shard)
        intact = log.is_intact(shard)
    except (OSError, ValueError, pa.ArrowException):
        return "cannot be read: truncated or overwritten"
    if absent := _NEEDED - set(table.column_names):
        return f"has no column {min(absent)}"
    if not intact:
        return "not as it was written: its checksum differs"
    frame = table.to_pandas()
    frame["id"] = frame["id"].astype(str)
    problem = _wrong_rows(frame, shard, log, seen) or _wrong_run(table, run)
    if problem:
        return problem
    try:
        pictures = _decode(table, shard.name)
    except Zoobot3DError as error:
        return str(error).removeprefix(f"{shard.name}: ")
    seen |= dict.fromkeys(frame["id"], shard.name)
    summary.shards += 1
    summary.galaxies += len(frame)
    summary.failed += int(frame["error"].notna().sum())
    summary.pictures += pictures
    return None


def _wrong_rows(frame: pd.DataFrame, shard: Path, log: ShardLog, seen: dict[str, str]) -> str | None:
    """Compare the galaxies of a shard with those that were noted, and with those of the shards before it."""
    noted = log.stamps(shard.name)  # empty where the log was lost
    names = set(frame["id"])
    if noted and (len(frame) != len(noted) or names != set(noted)):
        return f"holds {len(frame):,} rows, not those of the {len(noted):,} galaxies that the log names"
    if len(names) < len(frame):
        return f"{frame['id'][frame['id'].duplicated()].iloc[0]} has two rows"
    if twice := next((name for name in frame["id"] if name in seen), None):
        return f"{twice} is in {seen[twice]} already"
    return None


def _wrong_run(table: pa.Table, run: dict[str, Any]) -> str | None:
    """Compare what a shard was made with with what the folder's were."""
    try:
        told = _made_with(json.loads((table.schema.metadata or {})[b"run"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "does not say what it was made with"
    differs = [name for name in run if told[name] != run[name]]
    return f"made with other {', '.join(differs)} than the folder's run.json says" if differs else None


def _decode(table: pa.Table, name: str) -> int:
    """Decode every picture of a shard; return how many.

    Raises
    ------
    BadFileError
        If one is broken, missing or of another size than its row says.
    """
    count = 0
    rows = table.select(["id", "error", "height", "width"]).to_pylist()
    for column in (column for column in table.column_names if column.endswith("_png")):
        for row, content in zip(rows, table.column(column).to_pylist(), strict=True):
            where = f"{name}: {row['id']}, {column}"
            if (row["error"] is None) == (content is None):
                raise BadFileError(where, "no picture, and no error" if content is None else "a picture and an error")
            if content is None:
                continue
            height, width = io.decode_mask_png(content, where).shape
            if (height, width) != (row["height"], row["width"]):
                told = f"its row says {row['width']} x {row['height']} px"
                raise BadFileError(where, f"a picture of {width} x {height} px; {told}")
            count += 1
    return count
