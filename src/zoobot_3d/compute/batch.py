"""What a batch over files leaves behind: a summary, a list of failures, and no temporary files.

Shared by the steps that turn files into other files. Knows nothing of what is in them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from zoobot_3d import io
from zoobot_3d.errors import BadFileError, Zoobot3DError

__all__ = [
    "ExtractSummary",
    "file_stamp",
    "new_and_kept",
    "reason_for",
    "remove_leftovers",
    "stacked",
    "stamp_of",
    "summarize",
    "table_stem",
]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that reading never has."""

_LINES = 10  # reasons in a summary's text; all are in the list of failures


@dataclass(frozen=True)
class ExtractSummary:
    """What a batch over files did; as text, a few lines to read.

    Attributes
    ----------
    done, skipped, failed : int
        Made now; there before; not possible.
    reasons : dict
        Why not, and how many, most frequent first.
    out : pathlib.Path
        What was made: a folder or a table.
    failed_csv : pathlib.Path or None
        Table of ``file`` and ``reason``; None if nothing failed.
    """

    done: int
    skipped: int
    failed: int
    reasons: dict[str, int]
    out: Path
    failed_csv: Path | None

    def __str__(self) -> str:
        """Say how many, why not, and where to look."""
        lines = [f"{self.out}: {self.done:,} made, {self.skipped:,} were there, {self.failed:,} failed"]
        lines += [f"  {count:,} x {reason}" for reason, count in list(self.reasons.items())[:_LINES]]
        if self.failed_csv:
            lines.append(f"  failed files with reasons: {self.failed_csv}; the same command tries them again")
        return "\n".join(lines)


def summarize(out: Path, rows: pd.DataFrame, skipped: int, failed_csv: Path) -> ExtractSummary:
    """Count what a batch did, and write its failures, or remove an earlier list if there are none.

    Parameters
    ----------
    out : pathlib.Path
        What was made.
    rows : pandas.DataFrame
        Results with ``id`` and ``error``, a row a file.
    skipped : int
        Files that needed no work.
    failed_csv : pathlib.Path
        The list: ``file`` and ``reason``.
    """
    bad = rows[rows["error"].notna()]
    remove_leftovers(failed_csv.parent, f".{failed_csv.name}.")
    if len(bad):
        with io.atomic_path(failed_csv) as temporary:
            failed = pd.DataFrame({"file": bad["id"], "reason": bad["error"]})
            failed.to_csv(temporary, index=False, lineterminator="\n")
    else:
        failed_csv.unlink(missing_ok=True)
    reasons = Counter(_kind(str(reason)) for reason in bad["error"])
    ordered = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return ExtractSummary(len(rows) - len(bad), skipped, len(bad), ordered, out, failed_csv if len(bad) else None)


def reason_for(error: Exception, path: str, name: str) -> str:
    """Say in a line why one galaxy or file of a batch failed, so that the batch can go on with the others.

    Parameters
    ----------
    error : Exception
        What was raised, of whatever type. One that is not the package's own is a library's or a bug: its type is named,
        and its first line.
    path, name : str
        The file, and how the user's tables name it: relative, the same wherever the data lie.

    Raises
    ------
    BadFileError
        If the error is of the disk that is written to, and the others would fail as well.
    """
    if isinstance(error, OSError) and error.errno in _DISK:
        what = f"{error.strerror or error}"
        raise BadFileError(error.filename or name or path, what, "make space; the same command goes on") from error
    first = next(iter(str(error).strip().splitlines()), "")
    if not isinstance(error, Zoobot3DError):
        first = f"{type(error).__name__}: {first}".removesuffix(": ")
        first = f"{name}: {first}" if path and path not in first else first
    return first.replace(path, name) if path else first


def _kind(reason: str) -> str:
    """Leave the file, details and advice out of a reason, so that equal ones count together."""
    return re.sub(r" \(.*?\)", "", reason.split(": ", 1)[-1].split("; ")[0])


def file_stamp(path: Path) -> str:
    """Return what changes when a file does, size and time; "" if there is none. For jobs, never for results."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat, and there are 100,000 files
    except (OSError, ValueError):  # a name that no file can have
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def stamp_of(*told: object) -> str:
    """Return what changes when one of these does. Numbers and text only: it is made of how they are written."""
    return hashlib.blake2b(repr(told).encode(errors="backslashreplace"), digest_size=12).hexdigest()


def new_and_kept(jobs: pd.DataFrame, there: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the jobs that have to be done, and the rows of an earlier run that hold; both have a column ``stamp``."""
    kept = there[there["stamp"].isin(jobs["stamp"])]
    return jobs[~jobs["stamp"].isin(kept["stamp"])], kept


def stacked(*frames: pd.DataFrame) -> pd.DataFrame:
    """Put tables below each other, except empty ones, whose types would spoil those of the others."""
    return pd.concat([frame for frame in frames if len(frame)] or [frames[-1]], ignore_index=True)


def remove_leftovers(folder: Path, prefix: str = ".") -> None:
    """Remove the temporary files that a killed run left in a folder, those of names that start with ``prefix``."""
    if folder.is_dir():
        for name in os.listdir(folder):  # noqa: PTH208 - only names are needed
            if name.startswith(prefix) and name.endswith(".part"):
                (folder / name).unlink(missing_ok=True)


def table_stem(path: Path) -> str:
    """Return a table's name without its ending, ``.csv.gz`` among them."""
    return re.sub(r"(\.csv)?\.\w+$", "", path.name)
