"""A folder of predictions on disk: what made them, its shards with their checksums, and reading them back.

``run.json`` says which bundle was asked and how. ``log/shards.jsonl`` has a line for each shard that was written: its
checksum, and a stamp of what each of its rows was made of. Of several lines on one shard the last counts. Must not know
networks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.rows import SIGMA_FULL
from zoobot_3d.schema import CLASSES

__all__ = [
    "SHARDS",
    "has_sigma",
    "intact_shards",
    "read_masks",
    "read_masks_and_sigma",
    "read_rows",
    "read_run",
    "run_root",
    "shard_path",
    "shard_stamps",
    "write_run",
    "write_shard",
]

SHARDS = "shards"
"""Subfolder with nothing but the shards, so that Parquet readers take it as one table."""

RUN, LOG = "run.json", "log/shards.jsonl"
_AGAIN = "run the same zoobot3d predict again, which makes it anew"


# What made them


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write down what a folder's shards are made with."""
    io.write_atomic(folder / RUN, json.dumps(dict(run), indent=1))


def read_run(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read what a folder's shards were made with, from ``run.json`` or, if that is gone or broken, from a shard.

    Returns
    -------
    dict or None
        None if there are no predictions.
    """
    try:
        run = json.loads((Path(folder) / RUN).read_text(encoding="utf-8"))
        if isinstance(run, dict):
            return run
    except (OSError, ValueError):
        pass
    for shard in sorted((Path(folder) / SHARDS).glob("shard-*.parquet")):
        try:
            run = json.loads((pq.read_schema(shard).metadata or {})[b"run"])
        except (OSError, ValueError, KeyError, pa.ArrowException):
            continue
        if isinstance(run, dict):
            return run
    return None


def run_root(folder: str | os.PathLike[str]) -> Path:
    """Find the folder that the ``path`` column of predictions starts from.

    Raises
    ------
    BadFileError
        If the folder holds no predictions.
    """
    run = read_run(folder)
    if run is None or not isinstance(run.get("pictures"), str):
        raise BadFileError(folder, "no predictions here (no run.json)", "run zoobot3d predict first")
    return Path(folder) / str(run["pictures"])


# Shards


def shard_path(folder: Path, number: int) -> Path:
    """Path of a shard."""
    return folder / SHARDS / f"shard-{number:05d}.parquet"


def write_shard(folder: Path, number: int, frame: pd.DataFrame, notes: dict[str, str]) -> None:
    """Write a shard whole; its checksum and the column ``stamp`` go to the log, as stamps tell times of files."""
    path = shard_path(folder, number)
    io.write_parquet(path, frame.drop(columns="stamp"), notes)
    line = json.dumps({"shard": path.name, "blake2b": _checksum(path), "stamps": list(frame["stamp"])})
    (folder / LOG).parent.mkdir(exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(line + "\n")
        log.flush()
        os.fsync(log.fileno())


def intact_shards(folder: Path) -> tuple[dict[int, Path], list[str]]:
    """Find the shards that are as they were written, and name those that are not.

    Returns
    -------
    intact : dict
        Number to path.
    damaged : list of str
        File names of shards that are truncated, changed, swapped or gone.
    """
    told = {name: checksum for name, (checksum, _) in _log(folder).items()}
    intact: dict[int, Path] = {}
    damaged = []
    there = {path.name: path for path in sorted((folder / SHARDS).glob("shard-*.parquet"))}
    for name in sorted({*there, *told}):
        path = there.get(name)
        if path is None or not _is_intact(path, told.get(name)):
            damaged.append(name)
        else:
            intact[int(path.stem.removeprefix("shard-"))] = path
    return intact, damaged


def _is_intact(path: Path, checksum: str | None) -> bool:
    if checksum is not None:
        return _checksum(path) == checksum
    try:  # a run of an earlier release, or one killed between shard and checksum
        pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException):
        return False
    return True


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def shard_stamps(folder: Path) -> dict[str, list[str]]:
    """Read the stamps of each shard's rows, in their order."""
    return {name: stamps for name, (_, stamps) in _log(folder).items()}


def _log(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Read checksum and stamps by shard; a torn last line is passed over."""
    told: dict[str, tuple[str, list[str]]] = {}
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return told
    for line in lines:
        try:
            entry = json.loads(line)
            told[str(entry["shard"])] = str(entry["blake2b"]), [str(stamp) for stamp in entry["stamps"]]
        except (ValueError, KeyError, TypeError):
            continue
    return told


def _checked_shards(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the shards in order, each compared with its checksum as it is reached.

    Raises
    ------
    BadFileError
        If there are none, or one is missing or not as it was written.
    """
    where = Path(folder)
    told = {name: checksum for name, (checksum, _) in _log(where).items()}
    shards = sorted((where / SHARDS).glob("shard-*.parquet"))
    if not shards and not told:
        raise BadFileError(folder, "no shards of predictions here", "run zoobot3d predict first")
    if gone := sorted(set(told) - {path.name for path in shards}):
        raise BadFileError(folder, f"{len(gone)} shards are missing, the first is {gone[0]}", _AGAIN)
    for path in shards:
        if not _is_intact(path, told.get(path.name)):
            raise BadFileError(path, "the shard is damaged: it is not as it was written", _AGAIN)
        yield path


# Reading


def has_sigma(folder: str | os.PathLike[str]) -> bool:
    """Tell whether predictions hold uncertainty; of a folder that holds none at all, False."""
    shard = next((Path(folder) / SHARDS).glob("shard-*.parquet"), None)
    try:
        return shard is not None and f"{CLASSES[0]}_sigma_png" in pq.read_schema(shard).names
    except (OSError, pa.ArrowException):
        return False  # damaged: whoever reads it will say so


def read_rows(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read every column of the predictions but the masks' bytes, all galaxies at once.

    Raises
    ------
    BadFileError
        If the folder holds no shards, or one is missing or damaged.
    """
    frames = [
        pd.read_parquet(shard, columns=[name for name in pq.read_schema(shard).names if not name.endswith("_png")])
        for shard in _checked_shards(folder)
    ]
    return pd.concat(frames, ignore_index=True)


def read_masks(
    folder: str | os.PathLike[str], ids: Collection[object] | None = None
) -> Iterator[tuple[pd.Series, NDArray[np.float32] | None]]:
    """Read predictions back, a galaxy at a time.

    Parameters
    ----------
    folder : path
        What `zoobot_3d.predict` wrote.
    ids : collection, optional
        Galaxies wanted; all by default.

    Yields
    ------
    row : pandas.Series
        All columns but the masks' bytes.
    masks : numpy.ndarray or None
        (2, H, W) float32 in 0-1, to 1/255, row 0 north; None where ``row.error`` says why. 0 outside the field that
        the network saw.

    Raises
    ------
    BadFileError
        If the folder holds no shards, or one is missing or damaged.
    """
    yield from _decoded(folder, ids, "mask")


def read_masks_and_sigma(
    folder: str | os.PathLike[str], ids: Collection[object] | None = None
) -> Iterator[tuple[pd.Series, NDArray[np.float32] | None, NDArray[np.float32] | None]]:
    """Read predictions with their uncertainty back, a galaxy at a time.

    Parameters
    ----------
    folder : path
        What `zoobot_3d.predict` wrote with ``uncertainty=True``.
    ids : collection, optional
        Galaxies wanted; all by default.

    Yields
    ------
    row, masks
        As from `read_masks`.
    sigma : numpy.ndarray or None
        (2, H, W) float32 in 0-0.5, to `SIGMA_FULL` / 255: standard deviation of each pixel of the masks.

    Raises
    ------
    BadFileError
        As `read_masks`, or if the shards hold no uncertainty.
    """
    for row, masks, sigma in _decoded(folder, ids, "mask", "sigma"):
        yield row, masks, None if sigma is None else sigma * np.float32(SIGMA_FULL)


def _decoded(folder: str | os.PathLike[str], ids: Collection[object] | None, *kinds: str) -> Iterator[Any]:
    """Yield each galaxy's row without its pictures, and its planes of each kind, (2, H, W) in 0-1, or None."""
    wanted = None if ids is None else {str(name) for name in ids}
    for shard in _checked_shards(folder):
        frame = pd.read_parquet(shard)
        if absent := [kind for kind in kinds if f"{CLASSES[0]}_{kind}_png" not in frame]:
            raise BadFileError(
                shard, f"holds no {absent[0]} pictures", "predict into another folder, with --uncertainty"
            )
        if wanted is not None:
            frame = frame[frame["id"].isin(wanted)]
        values = frame.drop(columns=[name for name in frame if str(name).endswith("_png")])
        for index, row in values.iterrows():
            failed = not pd.isna(row["error"])
            planes: list[Any] = [None if failed else [frame.at[index, f"{c}_{k}_png"] for c in CLASSES] for k in kinds]
            name = f"{shard.name}: {row['id']}"
            yield row, *(pair and np.stack([io.decode_mask_png(plane, name) for plane in pair]) for pair in planes)
