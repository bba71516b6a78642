"""Masks beside cubes: which cube is which galaxy's, and a FITS file of masks on the spaxels of each.

Resumable, and one bad galaxy stops none. The masks are brought onto spaxels by `zoobot_3d.measure.spaxels`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d import __version__, io
from zoobot_3d.catalog.listing import CUBES
from zoobot_3d.catalog.naming import text_names
from zoobot_3d.compute.batch import (
    ExtractSummary,
    file_stamp,
    new_and_kept,
    remove_leftovers,
    stacked,
    stamp_of,
    summarize,
)
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.io.spaxels import read_spaxel_grid, write_spaxel_maps
from zoobot_3d.measure.sources import GalaxyMasks, Job, Source, each_galaxy, list_masks
from zoobot_3d.measure.spaxels import masks_on_spaxels
from zoobot_3d.schema import CLASSES, id_column

__all__ = ["SPAXEL_ENDING", "SpaxelSummary", "match_cubes", "write_spaxel_masks"]

SPAXEL_ENDING = "_spaxels.fits"
"""What the files of masks on spaxels end in."""

_LIST = "spaxels.parquet"
_FILE_COLUMNS = ("file", "cube", "path", "filename", "file_name")
_WORDS = re.compile(r"[-_. ]")
_LEAST_NAME = 4  # characters of a name that is found within that of a file
_MOST_WORDS = 24


@dataclass(frozen=True)
class SpaxelSummary(ExtractSummary):
    """What a run did, counted in cubes; as text, a few lines to read.

    Attributes
    ----------
    without : int
        Galaxies of the masks that have no cube.
    """

    without: int

    def __str__(self) -> str:
        """Say how many, and why not."""
        more = f"\n  {self.without:,} galaxies with masks have no cube" if self.without else ""
        return f"{super().__str__()}{more}"


def write_spaxel_masks(
    source: Source,
    cubes: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    fwhm: float = 0.0,
    cluster: str = "local",
    progress: bool = True,
    shard_size: int = 16,
) -> SpaxelSummary:
    """Write masks on the spaxels of cubes: for each cube a FITS file with its world coordinates and spatial shape.

    A file ``<galaxy>_spaxels.fits`` has the images ``SPIRAL`` and ``BAR``, mean fractions of volunteers over the part
    of each spaxel that lies in the field of the masks, and ``FOOTPRINT``, how large that part is. The table
    ``spaxels.parquet`` beside them lists galaxies, cubes, files and warnings.

    Parameters
    ----------
    source : path or sequence of paths
        A folder that `zoobot_3d.predict` wrote; or FITS files of masks.
    cubes : path
        Folder of cubes or maps; or a table with names of galaxies and a column ``file``, from the table's folder.
    out : path
        Folder to write.
    fwhm : float
        Of the cubes' point spread function, arcsec; 0 convolves nothing.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.
    shard_size : int
        Galaxies worked on at a time; no result depends on it.

    Returns
    -------
    SpaxelSummary
        Cubes that could not be used are in ``spaxels_failed.csv``.

    Raises
    ------
    BadFileError
        If there are no masks or no cubes.
    CatalogError
        If no cube is of a galaxy with masks, or the table lacks columns.
    ConfigError
        If the FWHM is impossible.
    """
    check_cluster(cluster)
    if not (np.isfinite(fwhm) and fwhm >= 0):
        raise ConfigError(f"a FWHM of {fwhm} arcsec is not possible; give 0 or more")
    masks, made_by, _ = list_masks(source)
    matches = match_cubes(list(masks["id"]), Path(cubes))
    jobs = _jobs(masks, matches, json.dumps([__version__, made_by, fwhm]))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    there = _there(folder)
    new, kept = new_and_kept(jobs, there)
    batch = Batch("masks on spaxels", cluster=cluster, shard_size=shard_size, progress=progress)
    options = {"folder": os.path.realpath(folder), "fwhm": fwhm}
    with sharded(_written, new, folder / f".{_LIST}.work", key=repr(options), options=options, batch=batch) as rows:
        made = rows[rows["error"].isna()]
        every = stacked(kept, made).reindex(columns=list(_TYPES))
        if len(made) or len(kept) < len(there) or not (folder / _LIST).exists():
            _write_list(folder / _LIST, every.sort_values("id", kind="stable"))
        unmatched = matches.loc[~matches["id"].isin(masks["id"]), ["cube", "id", "warning"]]
        missing = pd.DataFrame({"id": unmatched["cube"], "error": [_unmatched(*row) for row in unmatched.to_numpy()]})
        failed = rows.assign(id=rows["cube"] if "cube" in rows else rows["id"])
        done = summarize(folder, pd.concat([failed, missing]), len(kept), folder / "spaxels_failed.csv")
    return SpaxelSummary(**vars(done), without=len(masks) - len(jobs))


# Which cube is which galaxy's


def match_cubes(names: list[str], cubes: Path) -> pd.DataFrame:
    """Find the cubes of galaxies, by a table or by the names of files.

    Parameters
    ----------
    names : list of str
        Galaxies with masks.
    cubes : pathlib.Path
        A table with a column of names and a column ``file``; or a folder, whose files are named after galaxies: with
        the name alone, or with it between ``-``, ``_`` and ``.``, as in ``manga-8485-1901-LOGCUBE.fits.gz``.

    Returns
    -------
    pandas.DataFrame
        ``cube``: path; ``id``: the galaxy, or a name that no galaxy has; ``warning``: what to know of the match. One
        row a galaxy, and one for each cube that is no galaxy's.

    Raises
    ------
    BadFileError
        If there are no cubes, or the table cannot be read.
    CatalogError
        If the table lacks columns, or no cube is of one of the galaxies.
    """
    if not cubes.exists():
        raise BadFileError(cubes, "no such file or folder", "give the folder of cubes, or a table of names and files")
    found = _of_folder(names, cubes) if cubes.is_dir() else _of_table(cubes)
    if not found["id"].isin(names).any():
        raise CatalogError(
            f"{cubes}: none of {len(found):,} cubes is of a galaxy with masks, the first is {found['cube'].iloc[0]}; "
            "give a table with columns id, as in the predictions, and file"
        )
    first = found.drop_duplicates("id") if cubes.is_dir() else found
    if (twice := found.loc[found["id"].duplicated() & found["id"].isin(names), "id"]).any():
        if not cubes.is_dir():
            raise CatalogError(f"{cubes}: names galaxy {twice.iloc[0]} twice; keep one of its cubes")
        count = found["id"].value_counts()
        told = [
            f"{count[name]} files of this galaxy; the first is taken" if count[name] > 1 else "" for name in first["id"]
        ]
        first = first.assign(warning=told)
    return first.reset_index(drop=True)


def _of_folder(names: list[str], folder: Path) -> pd.DataFrame:
    files = sorted(
        Path(parent) / name
        for parent, _, inside in os.walk(folder)
        for name in inside
        if name.lower().endswith(CUBES)
        and not name.startswith(".")
        and not name.endswith((SPAXEL_ENDING, "_masks.fits"))
    )
    if not files:
        raise BadFileError(folder, "no FITS files in this folder", "give the folder of cubes or maps")
    known = {io.file_stem(name).casefold(): name for name in names} | {name.casefold(): name for name in names}
    return pd.DataFrame(
        [(str(file), _named(file.name, known), "") for file in files], columns=["cube", "id", "warning"]
    )


def _named(file: str, known: dict[str, str]) -> str:
    """Find the longest known name that a file's name is, or holds between marks; the file's name if it has none."""
    stem = re.sub(r"\.(fits|fit)(\.gz|\.fz)?$", "", file, flags=re.IGNORECASE).casefold()
    if stem in known:
        return known[stem]
    cuts = [-1, *(mark.start() for mark in _WORDS.finditer(stem)), len(stem)][:_MOST_WORDS]
    parts = sorted((stem[a + 1 : b] for a, b in combinations(cuts, 2)), key=len, reverse=True)
    return next((known[part] for part in parts if len(part) >= _LEAST_NAME and part in known), file)


def _of_table(path: Path) -> pd.DataFrame:
    table = io.read_table(path)
    by_lower = {str(name).strip().lower(): str(name) for name in table.columns}
    column = next((by_lower[name] for name in _FILE_COLUMNS if name in by_lower), None)
    label = id_column([name for name in table.columns if name != column])
    if label is None or column is None:
        what = "names of galaxies (id)" if label is None else "files (file)"
        raise CatalogError(f"{path}: no column of {what}; it has {', '.join(map(str, table.columns[:12]))}")
    table = table[table[column].notna() & (table[column].astype(str).str.strip() != "")]
    if table.empty:
        raise CatalogError(f"{path}: its column {column} is empty; fill in the cubes' files")
    files = [str(path.resolve().parent / str(name).strip()) for name in table[column]]
    return pd.DataFrame({"cube": files, "id": text_names(table[label]), "warning": ""})


def _unmatched(cube: str, name: str, warning: str) -> str:
    return f"{cube}: no masks of a galaxy {name!r}; predict it, or name it in a table of id and file"


# What to do


_TYPES = dict.fromkeys(("id", "file", "cube", "warning"), pa.string()) | {
    "rows": pa.int64(),
    "columns": pa.int64(),
    "covered": pa.float64(),
    "fwhm": pa.float64(),
    "stamp": pa.string(),
}
"""Columns of the list; ``covered`` is the fraction of the grid that lies in the field of the masks."""


def _jobs(masks: pd.DataFrame, matches: pd.DataFrame, key: str) -> pd.DataFrame:
    jobs = masks[["id", "masks", "stamp"]]
    jobs = jobs.assign(stem=io.unique_stems(jobs["id"])).merge(matches, on="id")
    words = jobs[["id", "stem", "cube", "stamp"]].itertuples(index=False)
    return jobs.assign(stamp=[stamp_of(*row, file_stamp(Path(row[2])), key) for row in words])


def _there(folder: Path) -> pd.DataFrame:
    """List what was made before and is still there."""
    try:
        rows = pd.read_parquet(folder / _LIST)
        return rows[[(folder / str(name)).is_file() for name in rows["file"]]][list(_TYPES)]
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return pd.DataFrame(columns=list(_TYPES))  # none, or damaged: made again


def _write_list(path: Path, rows: pd.DataFrame) -> None:
    table = pa.table({name: pa.array(rows[name], kind, from_pandas=True) for name, kind in _TYPES.items()})
    with io.atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


# The work


def _written(rows: pd.DataFrame, folder: str, fwhm: float) -> pd.DataFrame:
    """Write the files of one shard of galaxies."""
    work = partial(_write_one, folder=Path(folder), fwhm=fwhm)
    return each_galaxy(rows, "cube", work, _row).reindex(columns=["error", *_TYPES])


def _row(job: Job, _: GalaxyMasks, error: str | None) -> dict[str, Any]:
    return {name: job[name] for name in ("id", "cube", "stamp")} | {"error": error}


def _write_one(job: Job, found: GalaxyMasks, folder: Path, fwhm: float) -> dict[str, Any]:
    if found.planes is None:
        raise CatalogError(f"{found.name}: no masks: {found.error}")
    masks, _, grid = found.planes
    spaxels = read_spaxel_grid(job["cube"])
    laid = masks_on_spaxels(masks, grid, spaxels.wcs, spaxels.shape, fwhm=fwhm)
    meaning = "mean fraction of volunteers over the spaxel"
    maps = {name.upper(): (plane, meaning) for name, plane in zip(CLASSES, laid.masks, strict=True)}
    maps["FOOTPRINT"] = (laid.footprint, "part of the spaxel in the field of the masks")
    cards = {
        "OBJECT": (found.name, "galaxy"),
        "CUBE": (Path(job["cube"]).name, "file whose spaxels these are"),
        "CUBEHDU": (spaxels.hdu, "HDU with their WCS"),
        "MASKFWHM": (fwhm, "[arcsec] of the Gaussian on the masks"),
        "CREATOR": (f"{io.MASK_CREATOR} {__version__}", "software"),
    }
    name = f"{job['stem']}{SPAXEL_ENDING}"
    write_spaxel_maps(folder / name, maps, spaxels, cards)
    warnings = [str(text) for text in (job["warning"], found.told.get("warning")) if isinstance(text, str) and text]
    size = {"rows": spaxels.shape[0], "columns": spaxels.shape[1], "covered": float((laid.footprint > 0).mean())}
    return _row(job, found, None) | {"file": name, "warning": "; ".join(warnings), "fwhm": fwhm, **size}
