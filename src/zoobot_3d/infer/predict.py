"""A bundle and a list of galaxies to shards of masks: resumable, and no galaxy stops the others.

Reads pictures, asks the network (`zoobot_3d.infer.segmenter`), writes rows (`zoobot_3d.infer.shards`) and mask files
(`zoobot_3d.infer.mask_files`). `zoobot_3d.infer.plan` says what is to be done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import __version__
from zoobot_3d.compute.batch import reason_for, remove_leftovers
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.infer.export import MASKS, write_missing
from zoobot_3d.infer.field import FIELDS, Field
from zoobot_3d.infer.mask_files import FileRecord, MaskFiles, MaskFormat, quantized
from zoobot_3d.infer.plan import known_rows, make_plan, replaced, with_stamps
from zoobot_3d.infer.predictions import (
    has_sigma,
    read_masks,
    read_masks_and_sigma,
    read_run,
    read_run_of_shards,
    run_root,
    write_run,
)
from zoobot_3d.infer.rows import (
    ROW_SCHEMA,
    SIGMA_FULL,
    TEXT_IDS,
    Picture,
    failure_row,
    id_type,
    ids_fit,
    read_galaxy,
    success_row,
    typed,
)
from zoobot_3d.infer.shards import SHARDS, ShardLog, clean_shards, shard_files, shard_name, start_date, write_shard
from zoobot_3d.infer.uncertainty import Found
from zoobot_3d.schema import CLASSES

if TYPE_CHECKING:
    from zoobot_3d.infer.bundle import Bundle, StoredBundle
    from zoobot_3d.infer.segmenter import Segmenter

_Answer: TypeAlias = tuple[Found, dict[str, float]]
"""What is found in a picture, and its vote fractions."""

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
    repaired : int
        Galaxies that had failed before and were predicted now.
    damaged : int
        Shards that were found damaged, missing or unfinished, and made again.
    lost : int
        Galaxies of such shards that the input no longer names.
    left : int
        Galaxies predicted before that the input no longer names; they stay.
    unwritten : int
        Galaxies whose mask files could not be written; the ``warning`` of their rows says why.
    """

    predicted: int
    failed: int
    skipped: int
    shards: int
    reasons: dict[str, int] = dataclass_field(default_factory=dict)
    changed: int = 0
    repaired: int = 0
    damaged: int = 0
    lost: int = 0
    left: int = 0
    unwritten: int = 0

    def __str__(self) -> str:
        """Say how many, why not, and what was unusual."""
        lines = [f"{self.predicted:,} predicted, {self.skipped:,} done before, {self.failed:,} failed"]
        if self.changed:
            lines.append(f"  {self.changed:,} done again, as their picture, position or scale has changed")
        if self.repaired:
            lines.append(f"  {self.repaired:,} predicted that had failed before")
        if self.damaged:
            lines.append(f"  {self.damaged:,} shards that were damaged, missing or unfinished made again")
        if self.lost:
            lines.append(f"  {self.lost:,} galaxies of such shards are lost: the input no longer names them")
        if self.left:
            lines.append(f"  {self.left:,} galaxies of an earlier run are no longer in the input; their rows stay")
        if self.unwritten:
            lines.append(f"  {self.unwritten:,} galaxies' mask files could not be written; see warning in their rows")
        lines += [f"  {count:,} x {reason}" for reason, count in self.reasons.items()]
        return "\n".join(lines)


def predict(
    galaxies: pd.DataFrame,
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    masks: MaskFormat = "none",
    shard_size: int = 1000,
    threads: int = 2,
    uncertainty: bool = False,
    progress: Callable[[int], None] | None = None,
) -> PredictSummary:
    """Predict masks for a list of galaxies into a folder of shards.

    A shard holds up to ``shard_size`` galaxies and appears whole or not at all. The same call again predicts what is
    missing: new galaxies, galaxies whose picture, position or scale has changed, those that failed, and those of
    damaged shards. A galaxy that cannot be predicted has a row with the reason in ``error`` and no masks.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        From `zoobot_3d.catalog.reading.list_galaxies`. Where a column ``field`` is ``"auto"``, the picture shows any
        field, and the galaxy is looked for and measured in it (`zoobot_3d.infer.field`); else a Galaxy Zoo field.
    segmenter : Segmenter
        From `zoobot_3d.load_segmenter`.
    out : path
        Folder for ``shards/shard-00000.parquet`` and on (``pandas.read_parquet(out / "shards")`` reads all), and
        ``masks/`` if asked for.
    masks : {"none", "png", "fits"}
        Write masks as files too; see `zoobot_3d.infer.mask_files.save_masks`. `zoobot_3d.infer.export.export_masks`
        writes them later.
    shard_size : int
        Galaxies a shard.
    threads : int
        Threads that read and write pictures beside the network.
    uncertainty : bool
        Write the standard deviation of each mask's pixels too: ``spiral_sigma_png`` and ``bar_sigma_png``, 8-bit PNG
        in which 255 is `SIGMA_FULL` (also in the shards' metadata, as ``sigma_full``), and beside the files of
        ``masks``.
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
    CatalogError
        If two galaxies have one name.
    BadFileError
        If another prediction is running in ``out``, or nothing can be written there.
    Zoobot3DError
        If not one galaxy could be predicted.
    """
    if uncertainty:
        segmenter.check_uncertainty()
    folder = Path(out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(folder, "a prediction"))
        if masks != "none":
            stack.enter_context(folder_lock(folder / MASKS, "a prediction"))
        try:
            run = _Run(segmenter, folder, masks, threads, uncertainty, progress)
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
        self.date = ""
        self.log = ShardLog(folder)
        self.record: FileRecord | None = None

    def of(self, galaxies: pd.DataFrame, shard_size: int) -> PredictSummary:
        """Find out what is to be done, do it, and count."""
        self.told, self.date = self._claim(galaxies), start_date(self.folder, begin=True)
        shards, damaged = clean_shards(self.log)
        losses = {name for shard in damaged for name in self.log.stamps(shard)}
        plan = make_plan(galaxies, known_rows(self.log, shards), shard_size)
        self.progress(plan.kept)
        if self.masks != "none":
            remove_leftovers(self.folder / MASKS)
            files = MaskFiles(self.masks, None, self.uncertainty, self.told | {"date": self.date})
            self.record = FileRecord(self.folder / MASKS, self.folder, files)
        reasons: Counter[str] = Counter()
        predicted = repaired = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for number, rows in plan.todo:
                for name, error in self._shard(number, rows, shards.get(number), plan.known, pool):
                    if error is not None:
                        reasons[_kind(error)] += 1
                        continue
                    predicted += 1
                    repaired += name in plan.failed
        for name in damaged:
            if not (self.folder / SHARDS / name).exists():
                self.log.write(name, "", {})  # given up: the input has no galaxies for it
        if predicted + plan.kept == 0:
            most = next((reason for reason, _ in reasons.most_common(1)), "no galaxies")
            raise Zoobot3DError(
                f"none of {len(galaxies)} galaxies could be predicted; most often: {most}; see {self.folder}"
            )
        unwritten = 0
        if self.record is not None:
            unwritten = len(write_missing(self.folder, self.record.files, self.folder / MASKS).failed)
        return PredictSummary(
            predicted,
            reasons.total(),
            plan.kept,
            len(shard_files(self.folder)),
            dict(reasons.most_common()),
            changed=plan.changed,
            repaired=repaired,
            damaged=len(damaged),
            lost=len(losses - plan.names - set(plan.known.index)),
            left=plan.left,
            unwritten=unwritten,
        )

    def _claim(self, galaxies: pd.DataFrame) -> dict[str, Any]:
        """Write down what this folder's shards are made with, or check that an earlier run meant the same."""
        bundles = self.segmenter.bundles
        asked = {
            "bundle": _identity(bundles),
            "tta": self.segmenter.tta,
            "uncertainty": self.uncertainty,
            "schema": ROW_SCHEMA,
        }
        before, ids = read_run(self.folder), galaxies["id"]
        if before is not None and (_differences(before, asked) or not ids_fit(ids, str(before.get("ids")))):
            before = read_run_of_shards(self.folder) or before  # a broken record yields to the shards
            if differs := _differences(before, asked):
                raise ConfigError(
                    f"{self.folder}: holds predictions made with other {', '.join(differs)}; "
                    "give another --out or remove it"
                )
            _check_ids(ids, str(before.get("ids")), self.folder)
        root = os.path.realpath(galaxies.attrs.get("root", "."))
        run = asked | {
            "ids": id_type(ids) if before is None else before["ids"],
            "model": ", ".join(bundle.info.model_name for bundle in bundles),
            "zoobot_3d": str((before or {}).get("zoobot_3d", __version__)),
            # Not absolute: the two may move together.
            "pictures": os.path.relpath(root, os.path.realpath(self.folder)),
        }
        remove_leftovers(self.folder)
        write_run(self.folder, run)
        return run

    def _shard(
        self, number: int, galaxies: pd.DataFrame, path: Path | None, known: pd.DataFrame, pool: ThreadPoolExecutor
    ) -> list[tuple[str, str | None]]:
        """Predict and write a shard; return names and errors alone, so that no masks stay in memory with the next."""
        records = self._records(list(galaxies.itertuples(index=False)), pool)
        self._write(number, records, path, known)
        return [(record["id"], record["error"]) for record in records]

    def _write(self, number: int, records: list[dict[str, Any]], path: Path | None, known: pd.DataFrame) -> None:
        """Write a shard, new or with rows replaced, unless all is as it was."""
        fresh = typed(records, self.told)
        if path is not None:
            as_before = known.reindex(fresh["id"].astype(str).to_numpy()).astype(object).fillna("").to_dict("list")
            said = zip(as_before["error"], as_before["stamp"], strict=True)
            if all((record["error"], record["stamp"]) == told for record, told in zip(records, said, strict=True)):
                return  # failures that failed in the same way
        name = shard_name(number)
        has_files = self.record is not None and (path is None or self.record.is_current(name, self.log.checksum(name)))
        earlier = None if path is None else with_stamps(path, known["stamp"])
        notes = {"zoobot_3d": __version__, "classes": ",".join(CLASSES), "run": json.dumps(self.told, sort_keys=True)}
        notes |= {"sigma_full": str(SIGMA_FULL)} if self.uncertainty else {}
        write_shard(self.log, number, replaced(earlier, fresh), notes)
        if self.record is not None and has_files:
            self.record.remove(record["file_stem"] for record in records if record["error"] is not None)
            self.record.note(name, self.log.checksum(name))

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
                answer = galaxy if isinstance(galaxy, str) else next(answers)
                if isinstance(answer, Exception):
                    answer = reason_for(answer, row.file, row.path)
                if isinstance(answer, str) or isinstance(galaxy, str):
                    records.append(self._failure(row, str(answer)))
                    continue
                record = success_row(row, galaxy, *answer)
                records.append(record)
                if self.record is not None:
                    mask, sigma, _ = answer[0]
                    planes = quantized(mask), None if sigma is None else quantized(sigma / SIGMA_FULL) * SIGMA_FULL
                    save = self.record.files.save
                    writing.append((record, pool.submit(save, self.folder / MASKS, record, *planes)))
            self.progress(len(batch))
        for record, future in writing:
            if problem := future.result():
                record["warning"] = "; ".join(filter(None, (record["warning"], problem)))
        return records

    def _failure(self, row: Any, reason: str) -> dict[str, Any]:
        """Make the row of a galaxy without masks."""
        names, tta = self.segmenter.vote_names, self.segmenter.tta
        return failure_row(row, reason, names, tta=tta, uncertainty=self.uncertainty)

    def _ask(self, good: list[Picture]) -> list[_Answer | Exception]:
        """Return masks, deviations if asked for, and vote fractions of each picture, or what one of them raised."""
        answers: dict[int, _Answer | Exception] = {}
        for field in FIELDS:
            chosen = [index for index, galaxy in enumerate(good) if galaxy.field == field]
            told = self._answers([good[index].picture for index in chosen], field)
            answers |= dict(zip(chosen, told, strict=True))
        return [answers[index] for index in range(len(good))]

    def _answers(self, pictures: list[NDArray[Any]], field: Field) -> list[_Answer | Exception]:
        """Ask about pictures that show their galaxies in one way; if one fails, one by one."""
        try:
            found = self.segmenter.find(pictures, field, uncertain=self.uncertainty)
            votes = self.segmenter.vote_fractions(pictures, field)
        except Exception as error:  # one galaxy must not stop the others
            if len(pictures) == 1:
                return [error]
            return [self._answers([picture], field)[0] for picture in pictures]
        return [
            (each, {name: float(column[index]) for name, column in votes.items()}) for index, each in enumerate(found)
        ]


def _identity(bundles: Iterable[Bundle | StoredBundle]) -> str:
    """Return a hash of all that masks depend on: ``bundle.json`` without what it tells of the training."""
    told = [json.loads((bundle.path / "bundle.json").read_text(encoding="utf-8")) for bundle in bundles]
    used = [{name: value for name, value in info.items() if name != "training"} for info in told]
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


def _differences(before: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    known = {"tta": False, "uncertainty": False, "schema": 0} | dict(before)  # as runs were before these
    return [name for name, value in asked.items() if known.get(name) != value]


def _check_ids(ids: pd.Series, kind: str, folder: Path) -> None:
    """Refuse ids that are text where a folder's are integers, or the other way round: one column holds one type.

    Raises
    ------
    ConfigError
        Naming an id.
    """
    if ids_fit(ids, kind):
        return
    own = id_type(ids)
    words = {TEXT_IDS: "text"}
    example = next((name for name in ids if not str(name).lstrip("-").isdigit()), ids.iloc[0])
    raise ConfigError(
        f"{folder}: the ids of its predictions are {words.get(kind, kind)}, and those of this input are "
        f"{words.get(own, own)} (such as {example}); give another --out, or ids as before"
    )


def _kind(error: str) -> str:
    """Leave the file and the advice out of a reason, so that equal reasons count together."""
    return error.split(": ", 1)[-1].split(";")[0]
