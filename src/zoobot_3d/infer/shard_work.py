"""The work on the galaxies of one shard, in whichever process: pictures read, networks asked, the shard written.

The process that plans a prediction (`zoobot_3d.infer.predict`) keeps the log and moves shards to their places. Must not
know where the work is done, or what the other shards are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import __version__, io
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.infer.export import MASKS
from zoobot_3d.infer.field import FIELDS, Field
from zoobot_3d.infer.mask_files import MaskFiles, MaskFormat, quantized
from zoobot_3d.infer.plan import replaced
from zoobot_3d.infer.rows import SIGMA_FULL, Picture, failure_row, read_galaxy, success_row, typed
from zoobot_3d.infer.segmenter import Segmenter, SegmenterSettings
from zoobot_3d.infer.shards import SHARDS, checksum_of, shard_name
from zoobot_3d.infer.uncertainty import Found
from zoobot_3d.schema import CLASSES

__all__ = ["ShardWork", "as_shards", "predict_shard", "records_of"]

_Answer: TypeAlias = tuple[Callable[[], Found], dict[str, float]]
"""What is found in a picture, and its vote fractions."""


@dataclass(frozen=True)
class ShardWork:
    """How the galaxies of a shard are worked on.

    Attributes
    ----------
    folder : pathlib.Path
        Of the prediction.
    told : mapping
        What is in its ``run.json``.
    date : str
        When it began.
    masks : {"none", "png", "fits"}
        Mask files that are written too, in ``folder / "masks"``.
    uncertainty : bool
        Write standard deviations too.
    threads : int
        Threads that read and write pictures beside the network.
    """

    folder: Path
    told: Mapping[str, Any]
    date: str
    masks: MaskFormat
    uncertainty: bool
    threads: int

    @property
    def files(self) -> MaskFiles:
        """The mask files, where they are asked for."""
        return MaskFiles(self.masks, None, self.uncertainty, {**self.told, "date": self.date})

    @property
    def notes(self) -> dict[str, str]:
        """Metadata of a shard."""
        notes = {"zoobot_3d": __version__, "classes": ",".join(CLASSES), "run": json.dumps(self.told, sort_keys=True)}
        return notes | ({"sigma_full": str(SIGMA_FULL)} if self.uncertainty else {})

    def records(
        self, rows: Iterable[Any], segmenter: Segmenter, progress: Callable[[int], None] | None = None
    ) -> list[dict[str, Any]]:
        """Predict galaxies, and write their mask files if asked for; return their rows, `typed` not yet."""
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            return _Asking(self, segmenter, pool, progress or (lambda count: None)).records(list(rows))

    def failure(self, row: Any, reason: str, segmenter: Segmenter) -> dict[str, Any]:
        """Make the row of a galaxy without masks."""
        return failure_row(row, reason, segmenter.vote_names, tta=segmenter.tta, uncertainty=self.uncertainty)


@dataclass(frozen=True)
class _Asking:
    """A network at work on some galaxies, and threads that read and write beside it."""

    work: ShardWork
    segmenter: Segmenter
    pool: ThreadPoolExecutor
    progress: Callable[[int], None]

    def records(self, rows: list[Any]) -> list[dict[str, Any]]:
        """Predict all: while the network works on a batch, the pool reads the next and finishes the one before."""
        size = self.segmenter.batch_size
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        reading = [self.pool.submit(read_galaxy, row) for row in batches[0]]
        records: list[dict[str, Any]] = []
        finishing: list[Future[dict[str, Any]]] = []
        for number, batch in enumerate(batches):
            galaxies = [future.result() for future in reading]
            if number + 1 < len(batches):
                reading = [self.pool.submit(read_galaxy, row) for row in batches[number + 1]]
            answers = iter(self._ask([galaxy for galaxy in galaxies if isinstance(galaxy, Picture)]))
            told = [galaxy if isinstance(galaxy, str) else next(answers) for galaxy in galaxies]
            records += self._done(finishing)  # one batch waits at most
            finishing = [self.pool.submit(self._finish, *each) for each in zip(batch, galaxies, told, strict=True)]
        return records + self._done(finishing)

    def _done(self, finishing: list[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Wait for the rows of a batch, and count them."""
        records = [future.result() for future in finishing]
        if records:
            self.progress(len(records))
        return records

    def _finish(self, row: Any, galaxy: Picture | str, told: _Answer | Exception | str) -> dict[str, Any]:
        """Make the row of a galaxy and, if they are asked for, its mask files."""
        try:
            if isinstance(told, Exception):
                raise told
            if isinstance(told, str) or isinstance(galaxy, str):
                return self.work.failure(row, str(told), self.segmenter)
            place, votes = told
            found = place()
            record = success_row(row, galaxy, found, votes)
        except Exception as error:  # one galaxy must not stop the others
            return self.work.failure(row, reason_for(error, row.file, row.path), self.segmenter)
        if self.work.masks != "none":
            sigma = None if found.sigma is None else quantized(found.sigma / SIGMA_FULL) * SIGMA_FULL
            folder = self.work.folder / MASKS
            problem = self.work.files.save(folder, record, quantized(found.masks), sigma)
            record["warning"] = "; ".join(filter(None, (record["warning"], problem))) or None
        return record

    def _ask(self, good: list[Picture]) -> list[_Answer | Exception]:
        """Return what is found in each picture, or what one of them raised."""
        answers: dict[int, _Answer | Exception] = {}
        for field in FIELDS:
            chosen = [index for index, galaxy in enumerate(good) if galaxy.field == field]
            told = self._answers([good[index].picture for index in chosen], field)
            answers |= dict(zip(chosen, told, strict=True))
        return [answers[index] for index in range(len(good))]

    def _answers(self, pictures: list[NDArray[Any]], field: Field) -> list[_Answer | Exception]:
        """Ask about pictures that show their galaxies in one way; if one fails, one by one."""
        try:
            places = self.segmenter.ask(pictures, field, uncertain=self.work.uncertainty)
            votes = self.segmenter.vote_fractions(pictures, field)
        except Exception as error:  # one galaxy must not stop the others
            if len(pictures) == 1:
                return [error]
            return [self._answers([picture], field)[0] for picture in pictures]
        return [
            (place, {name: float(column[index]) for name, column in votes.items()})
            for index, place in enumerate(places)
        ]


# On a worker


def as_shards(todo: Iterable[tuple[int, pd.DataFrame]], there: Mapping[int, Path]) -> pd.DataFrame:
    """Write down which galaxies make which shard, for `predict_shard`: one table, with a shard's galaxies together.

    Parameters
    ----------
    todo : iterable
        Shards to write, each a number and its galaxies.
    there : mapping
        Shards of earlier runs, in which rows are replaced.
    """
    frames = [
        rows.assign(shard=number, of=len(rows), again=number in there, file=[_absolute(file) for file in rows["file"]])
        for number, rows in todo
    ]
    return pd.concat(frames, ignore_index=True)


def _absolute(file: str) -> str:
    """Make a path that holds in any process; links stay."""
    return str(Path.cwd() / file) if file else ""


@functools.lru_cache(maxsize=1)
def _segmenter(settings: SegmenterSettings) -> Segmenter:
    """Load the networks once in a process."""
    return settings.load()


def predict_shard(rows: pd.DataFrame, work: ShardWork, settings: SegmenterSettings, desk: str) -> pd.DataFrame:
    """Predict the galaxies of a shard and write it whole into a folder, on a worker.

    Parameters
    ----------
    rows : pandas.DataFrame
        Galaxies of one shard, from `as_shards`; or a single one, where its shard has killed a process.
    work : ShardWork
        How.
    settings : SegmenterSettings
        The networks.
    desk : str
        The folder.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``error``, ``warning`` and the ``checksum`` of the shard's file; of a single galaxy, the whole row.
    """
    records = work.records(rows.itertuples(index=False), _segmenter(settings))
    if len(rows) < rows["of"].iloc[0]:
        return pd.DataFrame(records)
    name = shard_name(int(rows["shard"].iloc[0]))
    earlier = pd.read_parquet(work.folder / SHARDS / name) if rows["again"].iloc[0] else None
    fresh = typed(records, work.told).drop(columns="stamp")
    if not Path(desk).is_dir():  # the run that asked was stopped, and the next one has cleaned up
        return rows[["id"]].assign(error="the run has ended")
    io.write_parquet(Path(desk) / name, replaced(earlier, fresh), work.notes)
    said = {word: [record[word] for record in records] for word in ("error", "warning")}
    return pd.DataFrame({"id": rows["id"], **said, "checksum": checksum_of(Path(desk) / name)})


def records_of(
    rows: pd.DataFrame, results: pd.DataFrame, failure: Callable[[Any, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Make the rows of galaxies that were tried one by one from what `predict_shard` returned.

    Parameters
    ----------
    rows, results : pandas.DataFrame
        The galaxies and their results, in one order. A result without ``file_stem`` is of a galaxy that killed its
        process.
    failure : callable
        Makes the row of such a galaxy from its row and its error.
    """
    records = []
    found: dict[str, Any]
    for row, found in zip(rows.itertuples(index=False), results.to_dict("records"), strict=True):  # type: ignore[assignment]
        if not isinstance(found.get("file_stem"), str):
            records.append(failure(row, str(found["error"])))
            continue
        words = ("error", "warning", *(name for name in found if name.endswith("_png")))
        missing = {name: None for name in words if not isinstance(found[name], str | bytes)}  # tables make them NaN
        records.append(found | missing)
    return records
