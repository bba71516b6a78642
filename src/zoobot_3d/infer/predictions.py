"""A folder of predictions: what made them, and reading them back.

``run.json`` says which bundle was asked and how; every shard says so too. Must not know networks.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.picture import outside_field_of
from zoobot_3d.infer.rows import SIGMA_FULL
from zoobot_3d.infer.shards import checked_shards, shard_files
from zoobot_3d.schema import CLASSES

__all__ = [
    "count_rows",
    "has_sigma",
    "masks_of_shard",
    "read_masks",
    "read_masks_and_sigma",
    "read_rows",
    "read_run",
    "read_run_of_shards",
    "run_root",
    "write_run",
]

RUN = "run.json"


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
        if isinstance(run, dict) and isinstance(run.get("bundle"), str):
            return run
    except (OSError, ValueError, RecursionError):
        pass
    return read_run_of_shards(folder)


def read_run_of_shards(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read what a folder's shards were made with from the first that can be read; None if there is none."""
    for shard in shard_files(folder).values():
        try:
            run = json.loads((pq.read_schema(shard).metadata or {})[b"run"])
        except (OSError, ValueError, KeyError, RecursionError, pa.ArrowException):
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


# Reading


def has_sigma(folder: str | os.PathLike[str]) -> bool:
    """Tell whether predictions hold uncertainty; of a folder that holds none at all, False."""
    shard = next(iter(shard_files(folder).values()), None)
    try:
        return shard is not None and f"{CLASSES[0]}_sigma_png" in pq.read_schema(shard).names
    except (OSError, ValueError, pa.ArrowException):
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
        for shard, _ in checked_shards(folder)
    ]
    return pd.concat(frames, ignore_index=True)


def count_rows(folder: str | os.PathLike[str]) -> int:
    """Count the galaxies in the shards that can be read."""
    count = 0
    for shard in shard_files(folder).values():
        with contextlib.suppress(OSError, ValueError, pa.ArrowException):
            count += pq.read_metadata(shard).num_rows
    return count


def read_masks(
    folder: str | os.PathLike[str], ids: Collection[object] | None = None, *, outside: float = 0.0
) -> Iterator[tuple[pd.Series, NDArray[np.float32] | None]]:
    """Read predictions back, a galaxy at a time.

    Parameters
    ----------
    folder : path
        What `zoobot_3d.predict` wrote.
    ids : collection, optional
        Galaxies wanted; all by default.
    outside : float
        Value of pixels outside the field that the networks saw, whose place the columns ``field_top``, ``field_left``,
        ``field_height`` and ``field_width`` tell. NaN tells them from pixels without arms and bars.

    Yields
    ------
    row : pandas.Series
        All columns but the masks' bytes. ``id`` is an integer where the catalogue's is.
    masks : numpy.ndarray or None
        (2, H, W) float32 in 0-1, to 1/255, row 0 north; None where ``row.error`` says why.

    Raises
    ------
    BadFileError
        If the folder holds no shards, or one is missing or damaged.
    """
    for row, masks in _decoded(folder, ids, "mask"):
        yield row, _filled(masks, outside)


def read_masks_and_sigma(
    folder: str | os.PathLike[str], ids: Collection[object] | None = None, *, outside: float = 0.0
) -> Iterator[tuple[pd.Series, NDArray[np.float32] | None, NDArray[np.float32] | None]]:
    """Read predictions with their uncertainty back, a galaxy at a time.

    Parameters
    ----------
    folder : path
        What `zoobot_3d.predict` wrote with ``uncertainty=True``.
    ids, outside
        As for `read_masks`.

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
        yield row, _filled(masks, outside), _filled(None if sigma is None else sigma * np.float32(SIGMA_FULL), outside)


def _filled(maps: NDArray[np.float32] | None, outside: float) -> NDArray[np.float32] | None:
    """Put a value in the place of NaN."""
    return None if maps is None else np.nan_to_num(maps, nan=outside)


def _decoded(folder: str | os.PathLike[str], ids: Collection[object] | None, *kinds: str) -> Iterator[Any]:
    """Yield each galaxy's row without its pictures, and its planes of each kind, (2, H, W) in 0-1, or None."""
    wanted = None if ids is None else {str(name) for name in ids}
    for shard, _ in checked_shards(folder):
        yield from masks_of_shard(shard, wanted, *kinds)


def masks_of_shard(shard: Path, ids: Collection[str] | None, *kinds: str) -> Iterator[Any]:
    """Yield what one shard holds.

    Parameters
    ----------
    shard : pathlib.Path
        Its file.
    ids : collection of str or None
        Galaxies wanted, as text also where ids are integers; None for all.
    *kinds : {"mask", "sigma"}
        Which pictures.

    Yields
    ------
    row : pandas.Series
        All columns but the pictures' bytes.
    *planes : numpy.ndarray or None
        (2, H, W) float32 in 0-1 for each of `kinds`, NaN outside the field.

    Raises
    ------
    BadFileError
        If a column or a picture is missing or broken.
    """
    frame = pd.read_parquet(shard)
    if absent := [kind for kind in kinds if f"{CLASSES[0]}_{kind}_png" not in frame]:
        raise BadFileError(shard, f"holds no {absent[0]} pictures", "predict into another folder, with --uncertainty")
    if ids is not None:
        frame = frame[frame["id"].astype(str).isin(ids)]
    values = frame.drop(columns=[name for name in frame if str(name).endswith("_png")])
    for index, row in values.iterrows():
        failed = not pd.isna(row["error"])
        planes: list[Any] = [None if failed else [frame.at[index, f"{c}_{k}_png"] for c in CLASSES] for k in kinds]
        name = f"{shard.name}: {row['id']}"
        yield row, *(pair and _within_field(pair, name, dict(row)) for pair in planes)


def _within_field(planes: Sequence[bytes], name: str, row: Mapping[str, Any]) -> NDArray[np.float32]:
    """Decode the pictures of the classes; NaN outside the field that the networks saw."""
    maps = np.stack([io.decode_mask_png(plane, name) for plane in planes])
    maps[:, outside_field_of(row, maps.shape[1:])] = np.nan
    return maps
