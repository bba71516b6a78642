"""A bundle and a list of galaxies to shards of masks: resumable, and no galaxy stops the others.

Reads pictures, asks the network (`zoobot_3d.infer.segmenter`), writes rows (`zoobot_3d.infer.shards`) and mask files
(`zoobot_3d.infer.mask_files`). `zoobot_3d.infer.plan` says what is to be done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from zoobot_3d import __version__
from zoobot_3d.compute.batch import remove_leftovers
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError
from zoobot_3d.infer.export import MASKS, write_missing
from zoobot_3d.infer.mask_files import FileRecord, MaskFormat
from zoobot_3d.infer.plan import Plan, known_rows, make_plan, replaced, with_stamps
from zoobot_3d.infer.predictions import (
    has_sigma,
    read_masks,
    read_masks_and_sigma,
    read_run,
    read_run_of_shards,
    run_root,
    write_run,
)
from zoobot_3d.infer.rows import ROW_SCHEMA, SIGMA_FULL, TEXT_IDS, id_type, ids_fit, typed
from zoobot_3d.infer.shard_work import ShardWork, as_shards, predict_shard, records_of
from zoobot_3d.infer.shards import (
    SHARDS,
    ShardLog,
    clean_shards,
    publish_shard,
    shard_files,
    shard_name,
    start_date,
    write_shard,
)

if TYPE_CHECKING:
    from zoobot_3d.infer.bundle import Bundle, StoredBundle
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = [
    "SIGMA_FULL",
    "PredictSummary",
    "Where",
    "has_sigma",
    "predict",
    "read_masks",
    "read_masks_and_sigma",
    "run_root",
]

_WORK = ".predict.work"  # subfolder for what workers write


@dataclass(frozen=True)
class Where:
    """Where a prediction is worked on; the predictions do not depend on it.

    Attributes
    ----------
    cluster : str
        Empty: in this process. Else see `zoobot_3d.compute.shards.check_cluster`.
    threads : int
        Threads that read and write pictures beside the network, in each process.
    """

    cluster: str = ""
    threads: int = 2


_TOLD = 5  # warnings that a summary shows


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
    warnings : dict
        Warnings in the rows of galaxies predicted now, and how many have each, most frequent first.
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
    warnings: dict[str, int] = dataclass_field(default_factory=dict)

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
        lines += [f"  {count:,} with a warning: {warning}" for warning, count in list(self.warnings.items())[:_TOLD]]
        return "\n".join(lines)


def predict(
    galaxies: pd.DataFrame,
    segmenter: Segmenter,
    out: str | os.PathLike[str],
    *,
    masks: MaskFormat = "none",
    shard_size: int = 1000,
    where: Where | None = None,
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
        From `zoobot_3d.catalog.listing.list_galaxies`. Where a column ``field`` is ``"auto"``, the picture shows any
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
    where : Where, optional
        In which processes; by default in this one. On a cluster each worker loads the bundles and writes whole shards;
        this process starts no network, keeps the folder's lock and log, and moves shards to their places.
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
        If ``out`` holds predictions of other bundles, with other options or ids of another type; if there is nothing to
        tell the uncertainty from, see `zoobot_3d.infer.segmenter.Segmenter.check_uncertainty`; or if the cluster cannot
        be used, or its workers cannot see ``out``.
    CatalogError
        If two galaxies have one name.
    BadFileError
        If another prediction is running in ``out``, or nothing can be written there.
    Zoobot3DError
        If not one galaxy could be predicted.
    """
    if uncertainty:
        segmenter.check_uncertainty()
    where = where or Where()
    if where.cluster:
        check_cluster(where.cluster)
    folder = Path(out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(folder, "a prediction"))
        if masks != "none":
            stack.enter_context(folder_lock(folder / MASKS, "a prediction"))
        try:
            run = _Run(segmenter, folder, masks, where, uncertainty, progress)
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
        where: Where,
        uncertainty: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.segmenter, self.folder, self.masks, self.uncertainty = segmenter, folder, masks, uncertainty
        self.where = where
        self.progress = progress or (lambda count: None)
        self.log = ShardLog(folder)
        self.record: FileRecord | None = None
        self.reasons: Counter[str] = Counter()
        self.warned: Counter[str] = Counter()
        self.predicted = self.repaired = 0

    def of(self, galaxies: pd.DataFrame, shard_size: int) -> PredictSummary:
        """Find out what is to be done, do it, and count."""
        told, date = self._claim(galaxies), start_date(self.folder, begin=True)
        self.work = ShardWork(self.folder, told, date, self.masks, self.uncertainty, self.where.threads)
        self.there, damaged = clean_shards(self.log)
        losses = {name for shard in damaged for name in self.log.stamps(shard)}
        self.plan = plan = make_plan(galaxies, known_rows(self.log, self.there), shard_size)
        self.progress(plan.kept)
        shutil.rmtree(self.folder / _WORK, ignore_errors=True)
        if self.masks != "none":
            remove_leftovers(self.folder / MASKS)
            self.record = FileRecord(self.folder / MASKS, self.folder, self.work.files)
        if self.where.cluster and plan.todo:
            self._on_cluster()
        else:
            for number, rows in plan.todo:
                self._in_this_process(number, rows)
        for name in damaged:
            if not (self.folder / SHARDS / name).exists():
                self.log.write(name, "", {})  # given up: the input has no galaxies for it
        if self.predicted + plan.kept == 0:
            most = next((reason for reason, _ in self.reasons.most_common(1)), "no galaxies")
            raise Zoobot3DError(
                f"none of {len(galaxies)} galaxies could be predicted; most often: {most}; see {self.folder}"
            )
        return self._summary(plan, len(damaged), len(losses - plan.names - set(plan.known.index)))

    def _summary(self, plan: Plan, damaged: int, lost: int) -> PredictSummary:
        """Write mask files that are missing, clean up after workers of an earlier run, and count."""
        shutil.rmtree(self.folder / _WORK, ignore_errors=True)
        unwritten = 0
        if self.record is not None:
            unwritten = len(write_missing(self.folder, self.record.files, self.folder / MASKS).failed)
        return PredictSummary(
            self.predicted,
            self.reasons.total(),
            plan.kept,
            len(shard_files(self.folder)),
            dict(self.reasons.most_common()),
            changed=plan.changed,
            repaired=self.repaired,
            damaged=damaged,
            lost=lost,
            left=plan.left,
            unwritten=unwritten,
            warnings=dict(self.warned.most_common()),
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

    def _in_this_process(self, number: int, galaxies: pd.DataFrame) -> None:
        """Predict and write a shard."""
        self._write(number, self.work.records(galaxies.itertuples(index=False), self.segmenter, self.progress))

    def _on_cluster(self) -> None:
        """Let workers predict shards and write them into a working folder, and move each to its place."""
        desk = self.folder / _WORK / uuid.uuid4().hex  # a worker of a run that was killed may still write in its own
        desk.mkdir(parents=True)

        def finished(rows: pd.DataFrame, results: pd.DataFrame) -> None:
            number = int(rows["shard"].iloc[0])
            made = desk / shard_name(number)
            if made.exists():
                self._publish(number, made, rows, results)
            else:
                self._write(number, records_of(rows, results, self._failure))
            self.progress(len(rows))

        options = {"work": replace(self.work, folder=self.folder.absolute()), "settings": self.segmenter.settings}
        table = as_shards(self.plan.todo, self.there)
        batch = Batch(cluster=self.where.cluster, groups="shard", progress=False)
        with sharded(
            predict_shard,
            table,
            desk.parent,
            options=options | {"desk": str(desk.absolute())},
            batch=batch,
            finished=finished,
        ):
            shutil.rmtree(desk, ignore_errors=True)

    def _failure(self, row: Any, reason: str) -> dict[str, Any]:
        return self.work.failure(row, reason, self.segmenter)

    def _publish(self, number: int, made: Path, rows: pd.DataFrame, results: pd.DataFrame) -> None:
        """Take a shard that a worker has written."""
        said = ([text if isinstance(text, str) else None for text in results[name]] for name in ("error", "warning"))
        told = zip(rows["id"], rows["stamp"], rows["file_stem"], *said, strict=True)
        records = [dict(zip(("id", "stamp", "file_stem", "error", "warning"), each, strict=True)) for each in told]
        path, name = self.there.get(number), shard_name(number)
        if self._count(records) and path is not None:
            return
        has_files = self._has_files(path, name)
        stamps: dict[str, str] = dict(zip(rows["id"], rows["stamp"], strict=True))
        if path is not None:
            earlier = pd.read_parquet(path, columns=["id"])["id"].astype(str)
            before = self.plan.known["stamp"].reindex(earlier.to_numpy()).fillna("")
            stamps = {str(key): str(stamp) for key, stamp in before.items()} | stamps
        publish_shard(self.log, number, made, str(results["checksum"].iloc[0]), stamps)
        self._note_files(name, records, has_files)

    def _write(self, number: int, records: list[dict[str, Any]]) -> None:
        """Write a shard, new or with rows replaced, unless all is as it was."""
        path, name = self.there.get(number), shard_name(number)
        if self._count(records) and path is not None:
            return
        has_files = self._has_files(path, name)
        earlier = None if path is None else with_stamps(path, self.plan.known["stamp"])
        write_shard(self.log, number, replaced(earlier, typed(records, self.work.told)), self.work.notes)
        self._note_files(name, records, has_files)

    def _count(self, records: list[dict[str, Any]]) -> bool:
        """Count what was done, and tell whether it is all as it was: failures that failed in the same way."""
        names = [record["id"] for record in records]
        as_before = self.plan.known.reindex(names).astype(object).fillna("").to_dict("list")
        for record in records:
            if record["error"] is not None:
                self.reasons[_kind(record["error"])] += 1
                continue
            self.warned.update([record["warning"]] if record["warning"] else [])
            self.predicted += 1
            self.repaired += record["id"] in self.plan.failed
        said = zip(as_before["error"], as_before["stamp"], strict=True)
        return all((record["error"], record["stamp"]) == told for record, told in zip(records, said, strict=True))

    def _has_files(self, path: Path | None, name: str) -> bool:
        """Tell whether all mask files of a shard will be there when its new rows have theirs."""
        return self.record is not None and (path is None or self.record.is_current(name, self.log.checksum(name)))

    def _note_files(self, name: str, records: list[dict[str, Any]], has_files: bool) -> None:
        """Note that the mask files of a shard are there."""
        if self.record is not None and has_files:
            self.record.remove(record["file_stem"] for record in records if record["error"] is not None)
            self.record.note(name, self.log.checksum(name))


_NO_MATTER = ("training", "graph_sha256")


def _identity(bundles: Iterable[Bundle | StoredBundle]) -> str:
    """Return a hash of all that masks depend on: ``bundle.json`` without its training, nor its graph's checksum.

    The graph is the network that ``bundle.json`` names, and stays it when ``upgrade-bundle`` writes it anew.
    """
    told = [json.loads((bundle.path / "bundle.json").read_text(encoding="utf-8")) for bundle in bundles]
    used = [{name: value for name, value in info.items() if name not in _NO_MATTER} for info in told]
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
    example = next((name for name in map(str, ids) if not re.fullmatch(r"0|-?[1-9]\d*", name)), ids.iloc[0])
    raise ConfigError(
        f"{folder}: the ids of its predictions are {words.get(kind, kind)}, and those of this input are "
        f"{words.get(own, own)} (such as {example}); give another --out, or ids as before"
    )


def _kind(error: str) -> str:
    """Leave the file and the advice out of a reason, so that equal reasons count together."""
    return error.split(": ", 1)[-1].split(";")[0]
