"""Mask files from the shards of a prediction, later than the prediction or again. Asks no network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoobot_3d.compute.batch import remove_leftovers
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.mask_files import FileRecord, Files, MaskFiles
from zoobot_3d.infer.predictions import has_sigma, masks_of_shard, read_run
from zoobot_3d.infer.rows import SIGMA_FULL
from zoobot_3d.infer.shards import checked_shards, start_date

__all__ = ["MASKS", "ExportSummary", "export_files", "export_masks", "write_missing"]

MASKS = "masks"
"""Subfolder of a prediction for mask files."""


@dataclass(frozen=True)
class ExportSummary:
    """What an export did; as text, a few lines to read.

    Attributes
    ----------
    written, skipped : int
        Galaxies whose files were written now, and whose files were there.
    without : int
        Galaxies that have no masks.
    out : pathlib.Path
        Folder of the files.
    failed : dict
        Galaxies whose files could not be written, and why.
    """

    written: int
    skipped: int
    without: int
    out: Path
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say how many, and why not."""
        lines = [
            f"{self.out}: files of {self.written:,} galaxies written, {self.skipped:,} were there, "
            f"{self.without:,} galaxies have no masks"
        ]
        lines += [f"  {name}: {reason}" for name, reason in list(self.failed.items())[:10]]
        if len(self.failed) > 10:
            lines.append(f"  and {len(self.failed) - 10:,} more whose files could not be written")
        return "\n".join(lines)


def export_masks(
    predictions: str | os.PathLike[str],
    kind: str,
    *,
    out: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write mask files from the shards of a prediction.

    Files that are there, and whose shard has not changed since, are left alone.

    Parameters
    ----------
    predictions : path
        Folder that `zoobot_3d.predict` wrote.
    kind : {"fits", "png", "npz"}
        See `zoobot_3d.infer.mask_files.save_masks`.
    out : path, optional
        Folder for the files; by default ``masks`` in `predictions`, or ``masks_0.2`` for a threshold of 0.2.
    threshold : float, optional
        Write binary masks.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    ExportSummary

    Raises
    ------
    BadFileError
        If there are no shards, one is damaged, or nothing can be written.
    ConfigError
        If the threshold is not within 0 to 1, or the folder holds masks that were made otherwise.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"--threshold {threshold:g}: give a fraction of volunteers above 0 and up to 1, such as 0.2")
    files = MaskFiles(kind, threshold, has_sigma(predictions) and threshold is None, _told(predictions))
    default = MASKS if threshold is None else f"{MASKS}_{threshold:g}"
    return export_files(predictions, files, Path(out) if out is not None else Path(predictions) / default, progress)


def export_files(
    predictions: str | os.PathLike[str], files: Files, folder: Path, progress: Callable[[int], None] | None = None
) -> ExportSummary:
    """Write files of any kind from the shards of a prediction; those that are there are left alone.

    Raises
    ------
    BadFileError
        If there are no shards, one is damaged, or nothing can be written.
    ConfigError
        If the folder holds files of this kind that were made otherwise.
    """
    next(checked_shards(predictions))  # nothing is made if there are none
    with folder_lock(folder, "an export of masks"):
        try:
            return write_missing(predictions, files, folder, progress)
        except OSError as error:
            raise BadFileError(folder, error.strerror or str(error), "make space or choose another folder") from None


def _told(predictions: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what made a prediction, and when."""
    return (read_run(predictions) or {}) | {"date": start_date(Path(predictions))}


def write_missing(
    predictions: str | os.PathLike[str], files: Files, folder: Path, progress: Callable[[int], None] | None = None
) -> ExportSummary:
    """Do the work of `export_files` in a folder that is locked."""
    remove_leftovers(folder)
    return _Export(folder, FileRecord(folder, predictions, files), files).of(predictions, progress or (lambda _: None))


@dataclass(frozen=True)
class _Export:
    folder: Path
    record: FileRecord
    files: Files

    def of(self, predictions: str | os.PathLike[str], progress: Callable[[int], None]) -> ExportSummary:
        """Write what is missing, a shard at a time."""
        there = set(os.listdir(self.folder))  # noqa: PTH208 - only names are needed
        written = skipped = without = 0
        failed: dict[str, str] = {}
        for shard, checksum in checked_shards(predictions):
            rows = pd.read_parquet(shard, columns=["id", "error", "file_stem"])
            good = rows[rows["error"].isna()]
            current = self.record.is_current(shard.name, checksum)
            missing = {
                str(name)
                for name, stem in zip(good["id"], good["file_stem"], strict=True)
                if not current or not there.issuperset(self.files.names(str(stem)))
            }
            progress(len(rows) - len(missing))
            if missing:
                failed |= self._write(shard, missing, progress)
            if not current:
                self.record.remove(rows.loc[rows["error"].notna(), "file_stem"])
                self.record.note(shard.name, checksum)
            written += len(missing)
            skipped += len(good) - len(missing)
            without += len(rows) - len(good)
        return ExportSummary(written - len(failed), skipped, without, self.folder, failed)

    def _write(self, shard: Path, ids: set[str], progress: Callable[[int], None]) -> dict[str, str]:
        """Write the files of some galaxies of a shard; return why some could not be written."""
        failed = {}
        for row, masks, *sigma in masks_of_shard(shard, ids, "mask", *(("sigma",) if self.files.sigma else ())):
            deviations = sigma[0] * np.float32(SIGMA_FULL) if sigma else None
            if problem := self.files.save(self.folder, row, masks, deviations):
                failed[str(row["id"])] = problem
            progress(1)
        return failed
