"""A bundle and a list of galaxies to shards of masks: resumable, and no galaxy stops the others.

Reads pictures, asks the network (`zoobot_3d.infer.segmenter`), writes rows (`zoobot_3d.infer.predictions`) and mask
files (`zoobot_3d.infer.mask_files`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import __version__
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.infer.mask_files import MASKS, MaskFormat, export_masks, quantized, save_masks
from zoobot_3d.infer.predictions import (
    has_sigma,
    intact_shards,
    read_masks,
    read_masks_and_sigma,
    read_run,
    run_root,
    shard_path,
    shard_stamps,
    write_run,
    write_shard,
)
from zoobot_3d.infer.rows import SIGMA_FULL, Picture, failure_row, read_galaxy, stamped, success_row, typed
from zoobot_3d.schema import CLASSES

if TYPE_CHECKING:
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["SIGMA_FULL", "PredictSummary", "has_sigma", "predict", "read_masks", "read_masks_and_sigma", "run_root"]


@dataclass(frozen=True)
class PredictSummary:
    """What a run did; as text, a few lines to read.

    Attributes
    ----------
    predicted : int
        Galaxies predicted now, ``changed`` and ``repaired`` among them.
    failed : int
        Galaxies without masks, whose rows say why.
    skipped : int
        Galaxies that were predicted before and have not changed.
    shards : int
        Shards in the folder.
    reasons : dict
        Why galaxies failed, and how many, most frequent first.
    changed : int
        Galaxies whose picture, position or scale had changed since they were predicted.
    damaged : int
        Shards that were found damaged or missing, and made again.
    left : int
        Galaxies predicted before that the input no longer names; they stay.
    """

    predicted: int
    failed: int
    skipped: int
    shards: int
    reasons: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    damaged: int = 0
    left: int = 0

    def __str__(self) -> str:
        """Say how many, why not, and what was unusual."""
        lines = [f"{self.predicted} predicted, {self.skipped} done before, {self.failed} failed"]
        if self.changed:
            lines.append(f"  {self.changed} predicted again: their picture, position or scale has changed")
        if self.damaged:
            lines.append(f"  {self.damaged} shards were damaged or missing and have been made again")
        if self.left:
            lines.append(f"  {self.left} galaxies of an earlier run are no longer in the input; their rows stay")
        lines += [f"  {count} x {reason}" for reason, count in self.reasons.items()]
        return "\n".join(lines)


def predict(
    galaxies: pd.DataFrame,
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    masks: MaskFormat = "none",
    shard_size: int = 512,
    threads: int = 2,
    uncertainty: bool = False,
    progress: Callable[[int], None] | None = None,
) -> PredictSummary:
    """Predict masks for a list of galaxies into a folder of shards.

    A shard holds up to ``shard_size`` galaxies and appears whole or not at all. The same call again predicts what is
    missing: new galaxies, galaxies whose picture, position or scale has changed, and those of damaged shards. A galaxy
    that cannot be predicted has a row with the reason in ``error`` and no masks.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        From `zoobot_3d.catalog.reading.list_galaxies`.
    segmenter : Segmenter
        From `zoobot_3d.load_segmenter`.
    out : path
        Folder for ``shards/shard-00000.parquet`` and on (``pandas.read_parquet(out / "shards")`` reads all), and
        ``masks/`` if asked for.
    masks : {"none", "png", "fits"}
        Write masks as files too; see `zoobot_3d.infer.mask_files.save_masks`. `zoobot_3d.infer.mask_files.export_masks`
        writes them later.
    shard_size : int
        Galaxies a shard.
    threads : int
        Threads that read and write pictures beside the network.
    uncertainty : bool
        Write the standard deviation of each mask's pixels too: ``spiral_sigma_png`` and ``bar_sigma_png``, 8-bit PNG
        in which 255 is `SIGMA_FULL` (also in the shards' metadata, as ``sigma_full``), and beside the files of
        ``masks``. Outside the field the network sees it is 0, as the masks are.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    PredictSummary

    Raises
    ------
    ConfigError
        If ``out`` holds predictions of other bundles or with other options; or if there is nothing to tell the
        uncertainty from, see `zoobot_3d.infer.segmenter.Segmenter.check_uncertainty`.
    BadFileError
        If another prediction is running in ``out``, or nothing can be written there.
    Zoobot3DError
        If not one galaxy could be predicted.
    """
    if uncertainty:
        segmenter.check_uncertainty()
    run = _Run(segmenter, Path(out), masks, threads, uncertainty, progress)
    with folder_lock(out, "a prediction"):
        try:
            return run.of(galaxies, shard_size)
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadFileError(out, reason, "make space or choose another folder; the same command goes on") from None


class _Run:
    """One call of `predict`."""

    def __init__(
        self,
        segmenter: Segmenter,
        folder: Path,
        masks: MaskFormat,
        threads: int,
        uncertainty: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.segmenter, self.folder, self.masks, self.uncertainty = segmenter, folder, masks, uncertainty
        self.threads = max(1, threads)
        self.progress = progress or (lambda count: None)
        self.told: dict[str, Any] = {}

    def of(self, galaxies: pd.DataFrame, shard_size: int) -> PredictSummary:
        """Find out what is to be done, do it, and count."""
        self.told = self._claim(galaxies)
        shards, damaged = intact_shards(self.folder)
        before = _known(self.folder, shards)
        galaxies = stamped(galaxies, {n: s for n, s in zip(before["id"], before["file_stem"], strict=True) if s})
        old = before.set_index("id").reindex(galaxies["id"].to_numpy())
        is_new = old["shard"].isna().to_numpy()
        is_changed = ~is_new & (old["stamp"].to_numpy() != galaxies["stamp"].to_numpy())
        kept = galaxies[~is_new & ~is_changed]
        self.progress(len(kept))

        errors = list(old["error"][~is_new & ~is_changed].dropna())
        predicted = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for number, rows in self._plan(galaxies, old, is_new, is_changed, set(shards), shard_size):
                records = self._records(rows, pool)
                earlier = _with_stamps(shards[number], before) if number in shards else None
                write_shard(self.folder, number, _replaced(earlier, typed(records)), self._notes())
                failed = [record["error"] for record in records if record["error"] is not None]
                predicted += len(records) - len(failed)
                errors += failed
        skipped = len(kept) - int(old["error"][~is_new & ~is_changed].notna().sum())
        reasons = dict(Counter(_kind(reason) for reason in errors).most_common())
        if predicted + skipped == 0:
            most = next(iter(reasons), "no galaxies")
            raise Zoobot3DError(
                f"none of {len(galaxies)} galaxies could be predicted; most often: {most}; see {self.folder}"
            )
        if self.masks != "none":
            export_masks(self.folder, self.masks)  # those of galaxies done before, if files are missing
        n_shards = len(list(shard_path(self.folder, 0).parent.glob("shard-*.parquet")))
        left = len(set(before["id"]) - set(galaxies["id"]))
        changed = int(is_changed.sum())
        return PredictSummary(predicted, len(errors), skipped, n_shards, reasons, changed, len(damaged), left)

    def _claim(self, galaxies: pd.DataFrame) -> dict[str, Any]:
        """Write down what this folder's shards are made with, or check that an earlier run meant the same."""
        bundles = self.segmenter.bundles
        infos = b"".join((bundle.path / "bundle.json").read_bytes() for bundle in bundles)
        asked = {
            "bundle": hashlib.sha256(infos).hexdigest(),  # they name the weights and the calibration
            "tta": self.segmenter.tta,
            "uncertainty": self.uncertainty,
        }
        before = read_run(self.folder)
        if before is not None:
            known = {"tta": False, "uncertainty": False} | before  # as runs were before these
            if differs := [name for name, value in asked.items() if known.get(name) != value]:
                raise ConfigError(
                    f"{self.folder}: holds predictions made with other {', '.join(differs)}; "
                    "give another --out or remove it"
                )
        root = os.path.realpath(galaxies.attrs.get("root", "."))
        run = asked | {
            "model": ", ".join(bundle.info.model_name for bundle in bundles),
            "field_fraction": max(bundle.info.field_fraction for bundle in bundles),
            "zoobot_3d": __version__,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            # Not absolute: the two may move together.
            "pictures": os.path.relpath(root, os.path.realpath(self.folder)),
        }
        if before is not None:
            run |= {name: before[name] for name in ("date", "zoobot_3d") if name in before}
        write_run(self.folder, run)
        return run

    def _notes(self) -> dict[str, str]:
        notes = {"zoobot_3d": __version__, "classes": ",".join(CLASSES), "run": json.dumps(self.told, sort_keys=True)}
        return notes | ({"sigma_full": str(SIGMA_FULL)} if self.uncertainty else {})

    @staticmethod
    def _plan(
        galaxies: pd.DataFrame,
        old: pd.DataFrame,
        is_new: NDArray[Any],
        is_changed: NDArray[Any],
        there: set[int],
        shard_size: int,
    ) -> Iterator[tuple[int, list[Any]]]:
        """Yield shards to write: those with changed rows, and new ones under the numbers that are free."""
        home = old["shard"].to_numpy()
        for number in sorted({int(value) for value in home[is_changed]}):
            yield number, list(galaxies[is_changed & (home == number)].itertuples(index=False))
        new = galaxies[is_new]
        number = 0
        for start in range(0, len(new), shard_size):
            while number in there:
                number += 1
            yield number, list(new.iloc[start : start + shard_size].itertuples(index=False))
            number += 1

    def _records(self, rows: list[Any], pool: ThreadPoolExecutor) -> list[dict[str, Any]]:
        """Predict one shard: the pool reads the next batch while the network works on this one."""
        size = self.segmenter.batch_size
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        reading = [pool.submit(read_galaxy, row) for row in batches[0]]
        records: list[dict[str, Any]] = []
        writing: list[tuple[dict[str, Any], Future[str]]] = []
        for number, batch in enumerate(batches):
            galaxies = [future.result() for future in reading]
            if number + 1 < len(batches):
                reading = [pool.submit(read_galaxy, row) for row in batches[number + 1]]
            answers = iter(self._ask([galaxy for galaxy in galaxies if isinstance(galaxy, Picture)]))
            for row, galaxy in zip(batch, galaxies, strict=True):
                if isinstance(galaxy, str):
                    records.append(failure_row(row, galaxy, self.uncertainty, self.segmenter.vote_names))
                    continue
                mask, sigma, votes = next(answers)
                record = success_row(row, galaxy, mask, sigma, votes)
                records.append(record)
                if self.masks != "none":
                    planes = quantized(mask), None if sigma is None else quantized(sigma / SIGMA_FULL) * SIGMA_FULL
                    job = pool.submit(save_masks, self.folder / MASKS, record, planes, self.told, self.masks)
                    writing.append((record, job))
            self.progress(len(batch))
        for record, future in writing:
            if problem := future.result():
                record["warning"] = "; ".join(filter(None, (record["warning"], problem)))
        return records

    def _ask(self, good: list[Picture]) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None, dict[str, float]]]:
        """Yield masks, deviations if asked for, and vote fractions of each picture."""
        pictures = [galaxy.picture for galaxy in good]
        found: Iterator[tuple[NDArray[Any], NDArray[Any] | None]] = (
            iter(self.segmenter.segment_checked_with_uncertainty(pictures))
            if self.uncertainty
            else ((mask, None) for mask in self.segmenter.segment_checked(pictures))
        )
        votes = self.segmenter.vote_fractions(pictures)
        for index, (mask, sigma) in enumerate(found):
            yield mask, sigma, {name: float(column[index]) for name, column in votes.items()}


def _known(folder: Path, shards: dict[int, Path]) -> pd.DataFrame:
    """Read what earlier runs have predicted: ``id``, ``stamp``, ``file_stem``, ``error`` and the shard's number."""
    columns = ["id", "stamp", "file_stem", "error", "shard"]
    frames, stamps = [], shard_stamps(folder)
    for number, path in shards.items():
        there = [name for name in columns if name in pq.read_schema(path).names]
        frame = pd.read_parquet(path, columns=there).assign(shard=number)
        told = stamps.get(path.name, [])
        frames.append(frame.assign(stamp=told if len(told) == len(frame) else ""))
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    known = pd.concat(frames, ignore_index=True).reindex(columns=columns).drop_duplicates("id", keep="last")
    return known.astype({"stamp": object, "file_stem": object}).fillna({"stamp": "", "file_stem": ""})


def _with_stamps(path: Path, before: pd.DataFrame) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    return frame.assign(stamp=before.set_index("id")["stamp"].reindex(frame["id"].to_numpy()).to_numpy())


def _replaced(earlier: pd.DataFrame | None, fresh: pd.DataFrame) -> pd.DataFrame:
    """Put fresh rows in the place of those of the same galaxies."""
    if earlier is None:
        return fresh
    places = dict(zip(fresh["id"], range(len(fresh)), strict=True))
    order = [places.get(name) for name in earlier["id"]]
    both = pd.concat([earlier, fresh], ignore_index=True)
    rows = [index if place is None else len(earlier) + place for index, place in enumerate(order)]
    return both.iloc[rows].astype(fresh.dtypes.to_dict()).reset_index(drop=True)


def _kind(error: str) -> str:
    """Leave the file and the advice out of a reason, so that equal reasons count together."""
    return error.split(": ", 1)[-1].split(";")[0]
