"""Where masks come from: the shards of a prediction, or FITS files of masks. Lists galaxies and reads them.

One galaxy that cannot be read is told as such, and stops none. Must not know what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.compute.batch import file_stamp, reason_for
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.predictions import masks_of_shard, read_run, run_root
from zoobot_3d.infer.rows import SIGMA_FULL, TEXT_IDS, id_type
from zoobot_3d.infer.shards import checked_shards
from zoobot_3d.io.masks import read_mask_fits
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["GalaxyMasks", "Source", "each_galaxy", "list_masks", "read_galaxies"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A folder that `zoobot_3d.predict` wrote; or FITS files of masks (HDUs ``SPIRAL`` and ``BAR``)."""


@dataclass(frozen=True)
class GalaxyMasks:
    """The masks of one galaxy, or why there are none.

    Attributes
    ----------
    name : str
    planes : tuple or None
        Masks (2, H, W), NaN outside the field that the networks saw; their standard deviations or None; their grid.
    error : str
        Why ``planes`` is None.
    told : dict
        What the prediction says: ``ra``, ``dec`` and ``warning``; empty for mask files.
    """

    name: str
    planes: tuple[NDArray[np.float32], NDArray[np.float32] | None, PixelGrid] | None
    error: str = ""
    told: dict[str, Any] = field(default_factory=dict)


def list_masks(source: Source) -> tuple[pd.DataFrame, str, str]:
    """List the galaxies, and say what made their masks, and of which type their ids are.

    Returns
    -------
    jobs : pandas.DataFrame
        ``id``; ``masks``, the file that has them; ``image`` that they were predicted on, or empty; ``stamp``, which
        changes with the masks.
    made_by : str
        Hash of the bundle, or ``files``.
    ids : str
        As of `zoobot_3d.infer.rows.id_type`; in ``jobs`` they are text.

    Raises
    ------
    BadFileError
        If there are no masks, or a shard is damaged.
    """
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(path) for path in source]
    if len(paths) == 1 and paths[0].is_dir():
        return _of_prediction(paths[0])
    return _of_files(paths)


def _of_prediction(folder: Path) -> tuple[pd.DataFrame, str, str]:
    frames = []
    for shard, checksum in checked_shards(folder):
        names = pq.read_schema(shard).names
        rows = pd.read_parquet(shard, columns=[name for name in names if not name.endswith("_png")])
        frames.append(rows.assign(masks=os.path.realpath(shard), checksum=checksum))
    rows = pd.concat(frames, ignore_index=True)
    root = os.path.realpath(run_root(folder))
    paths = [os.path.join(root, str(path)) for path in rows["path"].fillna("")]  # noqa: PTH118 - text, many
    jobs = pd.DataFrame({"id": rows["id"].astype(str), "masks": rows["masks"], "image": paths})
    jobs["stamp"] = rows["checksum"].astype(str)
    return jobs, str((read_run(folder) or {}).get("bundle", "")), id_type(rows["id"])


def _of_files(paths: list[Path]) -> tuple[pd.DataFrame, str, str]:
    if not paths:
        raise BadFileError("input", "the list of mask files is empty", "give at least one")
    for path in paths:
        if not path.exists():
            raise BadFileError(path, "no such file or folder", "check the path")
    names = [path.name.removesuffix(".gz").removesuffix(".fits").removesuffix("_masks") for path in paths]
    files = [os.path.realpath(path) for path in paths]
    stamps = [f"{file}:{file_stamp(Path(file))}" for file in files]
    jobs = pd.DataFrame({"id": io.unique_stems(names, ()), "masks": files, "image": "", "stamp": stamps})
    return jobs, "files", TEXT_IDS


def read_galaxies(file: str, names: Collection[str]) -> Iterator[GalaxyMasks]:
    """Read galaxies of one file of masks.

    Parameters
    ----------
    file : str
        A shard (``.parquet``), or a FITS file of masks, from `list_masks`.
    names : collection of str
        Galaxies wanted; of a FITS file, what its galaxy is called.

    Raises
    ------
    BadFileError
        If a shard cannot be read at all.
    """
    if not file.endswith(".parquet"):
        for name in names:
            try:
                yield GalaxyMasks(name, read_mask_fits(file))
            except Exception as error:  # one galaxy must not stop the others
                yield GalaxyMasks(name, None, reason_for(error, file, Path(file).name))
        return
    kinds = ("mask", "sigma") if "spiral_sigma_png" in pq.read_schema(file).names else ("mask",)
    for row, masks, *others in masks_of_shard(Path(file), names, *kinds):
        name = str(row["id"])
        told = {"ra": row["ra"], "dec": row["dec"], "warning": row["warning"]}
        if masks is None:
            yield GalaxyMasks(name, None, str(row["error"]), told)
            continue
        try:
            sigma = others[0] * np.float32(SIGMA_FULL) if others else None
            place = (row["ra"], row["dec"]) if np.isfinite([row["ra"], row["dec"], row["pixscale"]]).all() else ()
            yield GalaxyMasks(name, (masks, sigma, PixelGrid(masks.shape[1:], row["pixscale"], *place)), "", told)
        except Exception as error:  # one galaxy must not stop the others
            yield GalaxyMasks(name, None, reason_for(error, "", name), told)


Job = dict[str, Any]
"""One row of `list_masks`, with what a caller added."""


def each_galaxy(
    jobs: pd.DataFrame,
    about: str,
    work: Callable[[Job, GalaxyMasks], dict[str, Any]],
    failure: Callable[[Job, GalaxyMasks, str], dict[str, Any]],
) -> pd.DataFrame:
    """Work on one shard of galaxies, each with its masks; one that fails stops none.

    Parameters
    ----------
    jobs : pandas.DataFrame
        From `list_masks`, with further columns.
    about : str
        The column of the file that an error is about.
    work : callable
        Makes a row of the result.
    failure : callable
        Makes one where `work` raised, for the reason given.

    Returns
    -------
    pandas.DataFrame
        A row for each job, in the order of `jobs`.
    """
    records: dict[str, dict[str, Any]] = {}
    for file, some in jobs.groupby("masks", sort=False):
        asked: dict[str, Job] = {str(job["id"]): dict(job) for job in some.to_dict("records")}  # type: ignore[arg-type]
        for found in read_galaxies(str(file), asked.keys()):
            job = asked[found.name]
            try:
                records[found.name] = work(job, found)
            except Exception as error:  # one galaxy must not stop the others
                reason = reason_for(error, job[about], Path(job[about]).name)
                records[found.name] = failure(job, found, reason)
    return pd.DataFrame([records[name] for name in jobs["id"]])
