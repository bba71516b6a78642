"""Volunteers' masks as files, for people who want files: training rasterizes the marks itself.

A batch over marks with `zoobot_3d.compute.shards`. Knows marks, grids and catalogues; must not know GZ3D files or
networks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zoobot_3d import io, schema
from zoobot_3d.catalog.galaxy_files import galaxy_files
from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.compute.batch import ExtractSummary, file_stamp, reason_for, remove_leftovers, stacked, summarize
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.schema import COL_BAR_MASK, COL_MARKS, COL_PIXSCALE, COL_SPIRAL_MASK, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["MaskOptions", "make_masks"]

COL_MASK_FITS = "relative_mask_fits_loc"
_PLACES = {"png": (COL_SPIRAL_MASK, COL_BAR_MASK), "fits": (COL_MASK_FITS,)}


@dataclass(frozen=True)
class MaskOptions:
    """What masks are made.

    Attributes
    ----------
    grid : {"picture", "frame"}, optional
        ``picture``, the default for a catalogue: each galaxy's Galaxy Zoo picture, as its ``est_dr5_pixscale`` and
        position say; these are what ``relative_spiral_mask_loc`` and ``relative_bar_mask_loc`` of a catalogue are for.
        ``frame``, the default for a folder: what volunteers saw, 525 px of 0.099 arcsec.
    size : int, optional
        Side in pixels, of the same field; 424 for pictures, and that of the frame, by default.
    format : {"png", "fits"}
        Kind of file.
    rule : {"volunteers", "official"}
        ``official`` counts paths and leaves out those that cross themselves, as the masks in GZ3D files do; more paths
        than volunteers count as all volunteers.

    Raises
    ------
    ConfigError
        If there are no such masks.
    """

    grid: Literal["picture", "frame"] | None = None
    size: int | None = None
    format: Literal["png", "fits"] = "png"
    rule: Literal["volunteers", "official"] = "volunteers"

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        known = self.grid in (None, "picture", "frame") and self.format in _PLACES
        if not known or self.rule not in ("volunteers", "official"):
            raise ConfigError(f"no masks of grid={self.grid}, format={self.format}, rule={self.rule}; see MaskOptions")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"masks cannot be {self.size} px wide; give a size of 1 or more")


def make_masks(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] = "masks",
    *,
    options: MaskOptions | None = None,
    root: str | os.PathLike[str] | None = None,
    cluster: str = "local",
    progress: bool = True,
    shard_size: int = 64,
) -> ExtractSummary:
    """Write masks, the fraction of volunteers who enclosed each pixel; those that are there are left alone.

    Files are named like the marks: ``<marks>_spiral.png`` and ``<marks>_bar.png`` (8-bit grey, 255 = all volunteers, no
    file for a class nobody was asked about), or ``<marks>.fits`` (float32, both classes, WCS). On the frame that
    volunteers saw, names end in ``_frame_spiral.png``, ``_frame_bar.png`` and ``_frame.fits``, so that they are never
    taken for masks on a picture's pixels. A table beside them, ``masks.parquet`` (``masks_fits.parquet``,
    ``masks_frame.parquet``, ``masks_frame_fits.parquet``), has places, volunteers asked, and grids.

    Parameters
    ----------
    source : path
        A catalogue with marks in ``relative_segmap_json_loc``, or a folder of marks (JSON).
    out : path
        Folder to write.
    options : MaskOptions, optional
        On which pixels, counted how, in what files.
    root : path, optional
        Folder that paths in catalogue and table start from; by default found from the catalogue, or the folder above
        `out`. If `out` is not below it, paths in the table start from `out`.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.
    shard_size : int
        Galaxies worked on at a time; no result depends on it.

    Returns
    -------
    ExtractSummary
        Marks that cannot be used are in ``<table>_failed.csv``.

    Raises
    ------
    BadFileError
        If there are no marks in the folder, or the catalogue cannot be read.
    CatalogError
        If the catalogue lacks columns, or names no marks.
    ConfigError
        If a folder of marks is to give masks of pictures, or `out` holds masks made with another size or rule.
    """
    check_cluster(cluster)
    of_folder = Path(source).is_dir()
    asked = options or MaskOptions()
    grid = asked.grid or ("frame" if of_folder else "picture")
    if of_folder and grid == "picture":
        raise ConfigError(f"{os.fspath(source)}: a folder of marks does not say where pictures are; give a catalogue")
    folder = Path(out).resolve()
    found = Path(root) if root is not None else folder.parent if of_folder else catalog_root(source)
    jobs = _folder_jobs(Path(source)) if of_folder else _catalogue_jobs(source, found, grid)
    base = found.resolve() if folder.is_relative_to(found.resolve()) else folder
    jobs[COL_MARKS] = [_below(base, Path(path)) for path in jobs["path"]]
    name = "masks" + ("_frame" if grid == "frame" else "") + ("_fits" if asked.format == "fits" else "")
    how = {"grid": grid, "size": str(asked.size or "default"), "rule": asked.rule, "format": asked.format}
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    table = folder / f"{name}.parquet"
    there, keys = _masks_there(table, how, base), ["id", COL_MARKS, "marks_bytes", *_grid_columns(grid)]
    known = jobs.merge(there, on=keys, how="left", indicator="found")
    is_new = (known["found"] == "left_only").to_numpy()
    with sharded(
        _write_masks,
        jobs[is_new],
        folder / f".{name}.work",
        key=json.dumps(how),
        options={"folder": str(folder), "base": str(base), "how": how, "size": asked.size},
        batch=Batch("masks", cluster=cluster, shard_size=shard_size, progress=progress),
    ) as rows:
        made = rows[rows["error"].isna()]
        kept = known[~is_new]
        if len(made) or len(kept) < len(there):
            every = stacked(kept, made).reindex(columns=list(_types(asked.format)))
            every = every.set_index("id").loc[[name for name in jobs["id"] if name in set(every["id"])]].reset_index()
            _write_list(table, every, how)
        return summarize(folder, rows, len(kept), folder / f"{name}_failed.csv")


# What to do


def _folder_jobs(folder: Path) -> pd.DataFrame:
    """List the marks in a folder."""
    files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    if not files:
        raise BadFileError(folder, "no marks (.json) in this folder", "make them with zoobot3d extract-marks")
    return _jobs(files, [(np.nan, np.nan, np.nan)] * len(files))


def _catalogue_jobs(source: str | os.PathLike[str], root: Path, grid: str) -> pd.DataFrame:
    """List the marks that a catalogue names, with centre and scale of their galaxy's picture."""
    frame = read_catalog(source, [schema.COL_ID] + [COL_PIXSCALE] * (grid == "picture"))
    scales = pd.to_numeric(frame.get(COL_PIXSCALE, pd.Series(np.nan, frame.index)), errors="coerce").to_numpy(float)
    galaxies = galaxy_files(frame.assign(**{COL_PIXSCALE: 1.0}), root)  # a bad scale must not stop the others
    marked = [(galaxy, scale) for galaxy, scale in zip(galaxies, scales, strict=True) if galaxy.marks is not None]
    if not marked:
        raise CatalogError(
            f"{os.fspath(source)}: no row names marks ({COL_MARKS}); run build-master after extract-marks"
        )
    nowhere = (np.nan, np.nan)
    places = [
        (*(galaxy.position or nowhere), scale) if grid == "picture" else (*nowhere, np.nan) for galaxy, scale in marked
    ]
    return _jobs([galaxy.marks for galaxy, _ in marked if galaxy.marks is not None], places)


def _jobs(files: list[Path], places: list[tuple[float, float, float]]) -> pd.DataFrame:
    """Make the table to work on: ``id``, the name of the files to write, ``path``, and the picture's place or NaN."""
    jobs = pd.DataFrame(places, columns=["ra", "dec", "pixscale"], dtype=float)
    jobs.insert(0, "path", [str(file.resolve()) for file in files])
    jobs = jobs.drop_duplicates(ignore_index=True)
    stems = jobs["path"].map(lambda path: io.file_stem(Path(path).stem))
    repeat = stems.groupby(stems).cumcount()  # one galaxy's marks on several pictures
    jobs.insert(0, "id", stems.where(repeat == 0, stems + "-" + (repeat + 1).astype(str)))
    stamps = [file_stamp(Path(path)) for path in jobs["path"]]
    return jobs.assign(stamp=stamps, marks_bytes=[int(stamp.partition("-")[0] or -1) for stamp in stamps])


def _below(base: Path, path: Path) -> str:
    """Return a path relative to a folder; of one elsewhere, the name alone."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


# One shard


def _write_masks(rows: pd.DataFrame, folder: str, base: str, how: dict[str, str], size: int | None) -> pd.DataFrame:
    """Write the masks of one shard; return the rows of the list."""
    results = []
    for row in rows.to_dict("records"):
        result: dict[str, Any] = {"id": row["id"], "error": None, COL_MARKS: row[COL_MARKS]}
        try:
            result |= {"marks_bytes": row["marks_bytes"], **_write_one(row, Path(folder), Path(base), how, size)}
        except Exception as reason:  # one file must not stop the others
            result["error"] = reason_for(reason, row["path"], row[COL_MARKS])
        results.append(result)
    return pd.DataFrame(results).reindex(columns=["error", *_types(how["format"])])


def _write_one(
    row: Mapping[Any, Any], folder: Path, base: Path, how: dict[str, str], size: int | None
) -> dict[str, Any]:
    marks = VolunteerMarks.from_json(row["path"])
    if how["grid"] == "frame":
        grid = marks.grid if size is None else marks.grid.resize(size)
    elif not row["pixscale"] > 0:
        raise CatalogError(f"{row['id']}: no positive {COL_PIXSCALE}; fill it")
    else:
        position = (row["ra"], row["dec"]) if np.isfinite([row["ra"], row["dec"]]).all() else (None, None)
        grid = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), row["pixscale"], *position).resize(size or GZ_FIELD_PX)
    if how["rule"] == "official":
        votes = marks.votes(grid, count="paths", drop_self_intersecting=True)
    else:
        votes = marks.votes(grid)
    asked = marks.n_asked_array
    masks = np.minimum(votes / np.maximum(asked, 1)[:, None, None], 1).astype(np.float32)
    stem = row["id"] + ("_frame" if how["grid"] == "frame" else "")
    result: dict[str, Any] = {"side": grid.shape[0]}
    if how["format"] == "fits":
        cards: dict[str, Any] = {f"NASKED{index}": int(n) for index, n in enumerate(asked)}
        io.write_mask_fits(folder / f"{stem}.fits", masks, grid, cards={"RULE": how["rule"], **cards})
        result[COL_MASK_FITS] = _below(base, folder / f"{stem}.fits")
    else:
        for name, column, mask, n in zip(schema.CLASSES, _PLACES["png"], masks, asked, strict=True):
            path = folder / f"{stem}_{name}.png"
            result[column] = _below(base, path) if n else None
            if n:
                io.write_mask_png(path, mask)
    shown = (row["ra"], row["dec"], row["pixscale"]) if how["grid"] == "picture" else (grid.ra, grid.dec, grid.pixscale)
    result |= dict(zip(("ra", "dec", "pixscale"), shown, strict=True))
    for what, counts in (("asked", marks.n_asked), ("marked", marks.n_marked)):
        result |= {f"n_{what}_{name}": n for name, n in counts.items()}
    return result


# The list


def _types(format: str) -> dict[str, pa.DataType]:
    """Columns of the list and their types."""
    counts = [f"n_{what}_{name}" for what in ("asked", "marked") for name in schema.CLASSES]
    return (
        dict.fromkeys(("id", COL_MARKS, *_PLACES[format]), pa.string())
        | dict.fromkeys(counts, pa.int64())
        | dict.fromkeys(("ra", "dec", "pixscale"), pa.float64())
        | {"side": pa.int64(), "marks_bytes": pa.int64()}
    )


def _write_list(path: Path, frame: pd.DataFrame, how: dict[str, str]) -> None:
    """Write the list, with how the masks were made among its metadata."""
    types = _types(how["format"])
    arrays = [
        pa.array(frame[name].where(frame[name].notna(), None), kind, from_pandas=True) for name, kind in types.items()
    ]
    table = pa.table(dict(zip(types, arrays, strict=True)))
    with io.atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(how), temporary, compression="zstd")


def _masks_there(path: Path, how: dict[str, str], base: Path) -> pd.DataFrame:
    """Read the list of an earlier run, without those whose files are gone."""
    if not path.exists():
        return pd.DataFrame(columns=list(_types(how["format"])))
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadFileError(path, f"cannot be read ({error})".replace("\n", " "), "remove it") from None
    before = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if differs := [f"{key} {before.get(key)}" for key, value in how.items() if before.get(key) != value]:
        raise ConfigError(f"{path.parent}: holds masks of {', '.join(differs)}; give another --out or remove them")
    frame = table.to_pandas()
    names = set(os.listdir(path.parent))  # noqa: PTH208 - only names are needed
    is_there = np.ones(len(frame), bool)
    for column in _PLACES[how["format"]]:
        is_there &= (
            frame[column].isna() | frame[column].map(os.path.basename, na_action="ignore").isin(names)
        ).to_numpy()
    return frame[is_there]


def _grid_columns(grid: str) -> list[str]:
    """Columns that tell the grids of a galaxy apart; the frame is part of the marks."""
    return ["ra", "dec", "pixscale"] if grid == "picture" else []
