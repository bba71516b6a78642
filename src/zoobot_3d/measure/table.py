"""A folder of predictions, or mask files, to a table of measurements: in shards, resumable, one bad galaxy stops none.

Reads masks and pictures, measures each galaxy (`zoobot_3d.measure.galaxy`), writes one row for it and one for each arm.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import __version__, io
from zoobot_3d.catalog.naming import row_names
from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.catalog.reading import CUBES
from zoobot_3d.compute.batch import file_stamp, reason_for, remove_leftovers, table_stem
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.infer.predictions import masks_of_shard, read_run, run_root
from zoobot_3d.infer.rows import SIGMA_FULL, TEXT_IDS, id_type
from zoobot_3d.infer.shards import checked_shards
from zoobot_3d.io.masks import read_mask_fits
from zoobot_3d.measure.columns import ARM_COLUMNS, GALAXY_COLUMNS, typed, with_ids, write_measurements
from zoobot_3d.measure.flags import bits, decode_flags
from zoobot_3d.measure.galaxy import COSMOLOGIES, Given, measure_masks
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["MeasureOptions", "MeasureSummary", "arms_path", "check_table_name", "measure_table", "read_measurements"]

_KEY = "measured_with"
_GIVEN = ("redshift", "inclination", "pa")
_UNITS = {"redshift": "", "inclination": "deg", "pa": "deg"}
_REDSHIFTS = ("redshift", "z_spec", "zspec", "spec_z", "specz", "nsa_z", "z_best", "z_tonry", "z")
"""Columns of redshifts, in small letters, those that are preferred first; z beside g or r is a magnitude."""
_HIGHEST_REDSHIFT = 10.0


@dataclass(frozen=True)
class MeasureOptions:
    """How galaxies are measured.

    Attributes
    ----------
    cosmology : str
        For lengths in kpc: one of `zoobot_3d.measure.galaxy.COSMOLOGIES`.
    isophotes : bool
        Measure the outer isophotes on the picture. Without them, only galaxies whose inclination and position angle are
        given are deprojected.
    redshift, inclination, pa : str
        Columns of the table of galaxies, in any case of letters. Where there is no column ``redshift``, those called
        ``z_spec``, ``z`` and alike count.

    Raises
    ------
    ConfigError
        If there is no such cosmology.
    """

    cosmology: str = "Planck18"
    isophotes: bool = True
    redshift: str = "redshift"
    inclination: str = "inclination"
    pa: str = "pa"

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        if self.cosmology not in COSMOLOGIES:
            raise ConfigError(f"no cosmology {self.cosmology!r}; choose from {', '.join(COSMOLOGIES)}")


@dataclass(frozen=True)
class MeasureSummary:
    """What a run did; as text, a few lines to read.

    Attributes
    ----------
    done, skipped, failed : int
        Galaxies measured now, measured before, and without masks.
    arms : int
        Arms in the table of arms.
    bars, pitches : int
        Galaxies with a bar length, and with a pitch angle.
    flags : dict
        How many galaxies have each flag, most frequent first.
    out, arms_out : pathlib.Path
        The two tables.
    notes : tuple of str
        What was taken from the table of galaxies.
    """

    done: int
    skipped: int
    failed: int
    arms: int
    bars: int
    pitches: int
    flags: dict[str, int]
    out: Path
    arms_out: Path
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say how many, and where."""
        lines = [
            f"{self.out}: {self.done:,} measured, {self.skipped:,} measured before, {self.failed:,} without masks",
            f"  {self.bars:,} bar lengths, {self.pitches:,} pitch angles; {self.arms:,} arms in {self.arms_out}",
        ]
        lines += [f"  {note}" for note in self.notes]
        told = ", ".join(f"{count:,} {name}" for name, count in self.flags.items())
        return "\n".join([*lines, f"  flags: {told}"] if told else lines)


def arms_path(out: str | os.PathLike[str]) -> Path:
    """Return where the table of arms goes: ``table_arms.parquet`` beside ``table.parquet``."""
    return Path(out).with_name(f"{table_stem(Path(out))}_arms.parquet")


def measure_table(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    galaxies: str | os.PathLike[str] | None = None,
    options: MeasureOptions | None = None,
    cluster: str = "local",
    progress: bool = True,
    shard_size: int = 64,
) -> MeasureSummary:
    """Measure the galaxies of a prediction, or of FITS files of masks, and write two tables.

    A galaxy without masks has a row with the reason in ``error``. The same call again measures what is missing: after a
    kill, the shards that were not done; later, galaxies that are new or whose masks or given numbers have changed.

    Parameters
    ----------
    source : path or sequence of paths
        A folder that `zoobot_3d.predict` wrote; or FITS files of masks (HDUs ``SPIRAL`` and ``BAR``).
    out : path
        The table of galaxies, ``.parquet``. That of arms goes to `arms_path`.
    galaxies : path, optional
        Table with a column of names, as those of the predictions (or positions, if they are named after these), and
        columns of redshift, inclination and position angle, see `MeasureOptions`; those that it does not have are not
        used.
    options : MeasureOptions, optional
        How to measure.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.
    shard_size : int
        Galaxies worked on at a time; no result depends on it.

    Returns
    -------
    MeasureSummary

    Raises
    ------
    BadFileError
        If there are no masks, a shard is damaged, or a file cannot be read.
    CatalogError
        If the table of galaxies has no names, none of the columns, or no galaxy of the predictions.
    ConfigError
        If ``out`` is no Parquet file, or the options are wrong.
    """
    check_cluster(cluster)
    asked = options or MeasureOptions()
    target = check_table_name(out)
    jobs, made_by, ids = _jobs(source)
    jobs, given_notes = _with_given(jobs, galaxies, asked)
    key = json.dumps({"version": __version__, "options": asdict(asked), "masks": made_by}, sort_keys=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, f".{target.name}.")
    remove_leftovers(target.parent, f".{arms_path(target).name}.")
    old, old_arms = _there(target, key)
    kept = old[old["stamp"].isin(jobs["stamp"])]
    new = jobs[~jobs["stamp"].isin(kept["stamp"])]
    given = {"cosmology": asked.cosmology, "isophotes": asked.isophotes}
    batch = Batch("measuring", cluster=cluster, shard_size=shard_size, progress=progress)
    work = target.with_name(f".{target.name}.work")
    with sharded(_measured, new, work, key=key, options=given, batch=batch) as found:
        rows, arms = _split(found)
        rows = pd.concat([frame for frame in (kept, rows) if len(frame)] or [rows], ignore_index=True)
        arms = pd.concat([frame for frame in (old_arms[old_arms["id"].isin(kept["id"])], arms) if len(frame)] or [arms])
        rows = rows.set_index("stamp").loc[jobs["stamp"]].reset_index()
        order = dict(zip(rows["id"], range(len(rows)), strict=True))
        arms = arms.iloc[np.lexsort((arms["arm"], arms["id"].map(order)))]
        notes = {_KEY: key, "zoobot_3d": __version__}
        if len(new) or len(kept) < len(old) or not target.exists():
            for path, table, columns in ((arms_path(target), arms, ARM_COLUMNS), (target, rows, GALAXY_COLUMNS)):
                write_measurements(path, *with_ids(typed(table, columns), columns, ids), notes)
        return replace(_summary(rows, arms, len(new), len(kept), target), notes=given_notes)


def check_table_name(out: str | os.PathLike[str]) -> Path:
    """Return the path of a table of measurements.

    Raises
    ------
    ConfigError
        If its name is not that of a Parquet file.
    """
    if Path(out).suffix not in (".parquet", ".pq"):
        raise ConfigError(
            f"{os.fspath(out)}: units and definitions are kept in Parquet; give a name that ends in .parquet, and "
            "write other formats with astropy.table.QTable"
        )
    return Path(out)


def read_measurements(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the tables of galaxies and of arms; `astropy.table.QTable.read` reads them with units.

    Raises
    ------
    BadFileError
        If one of them is missing or damaged.
    """
    return io.read_table(path), io.read_table(arms_path(path))


def _summary(rows: pd.DataFrame, arms: pd.DataFrame, n_new: int, n_kept: int, target: Path) -> MeasureSummary:
    failed = int((rows["error"].fillna("") != "").sum())
    told = Counter(name for names in decode_flags(rows["flags"].to_numpy(np.int64)) for name in names)
    return MeasureSummary(
        max(n_new - failed, 0),
        n_kept,
        failed,
        len(arms),
        int(rows["bar_length_px"].notna().sum()),
        int(rows["pitch"].notna().sum()),
        dict(told.most_common()),
        target,
        arms_path(target),
    )


# What to measure


def _jobs(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[pd.DataFrame, str, str]:
    """List the galaxies, their ids as text, and say what made their masks, and of which type their ids are."""
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(path) for path in source]
    if len(paths) == 1 and paths[0].is_dir():
        return _prediction_jobs(paths[0])
    return _file_jobs(paths)


def _prediction_jobs(folder: Path) -> tuple[pd.DataFrame, str, str]:
    frames = []
    for shard, checksum in checked_shards(folder):
        names = pq.read_schema(shard).names
        rows = pd.read_parquet(shard, columns=[name for name in names if not name.endswith("_png")])
        frames.append(rows.assign(file=os.path.realpath(shard), checksum=checksum))
    rows = pd.concat(frames, ignore_index=True)
    root = os.path.realpath(run_root(folder))
    paths = [os.path.join(root, str(path)) for path in rows["path"].fillna("")]  # noqa: PTH118 - text, many
    jobs = pd.DataFrame({"id": rows["id"].astype(str), "file": rows["file"], "image": paths})
    jobs["stamp"] = rows["checksum"].astype(str)
    return jobs, str((read_run(folder) or {}).get("bundle", "")), id_type(rows["id"])


def _file_jobs(paths: list[Path]) -> tuple[pd.DataFrame, str, str]:
    if not paths:
        raise BadFileError("input", "the list of mask files is empty", "give at least one")
    for path in paths:
        if not path.exists():
            raise BadFileError(path, "no such file or folder", "check the path")
    names = [path.name.removesuffix(".gz").removesuffix(".fits").removesuffix("_masks") for path in paths]
    files = [os.path.realpath(path) for path in paths]
    stamps = [f"{file}:{file_stamp(Path(file))}" for file in files]
    jobs = pd.DataFrame({"id": io.unique_stems(names, ()), "file": files, "image": "", "stamp": stamps})
    return jobs, "files", TEXT_IDS


def _with_given(
    jobs: pd.DataFrame, galaxies: str | os.PathLike[str] | None, options: MeasureOptions
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add redshift, inclination and position angle, and make stamps that change with them; say what was taken."""
    for name in _GIVEN:
        jobs[name] = np.nan
    notes: list[str] = []
    if galaxies is not None:
        table, file = io.read_table(galaxies), os.fspath(galaxies)
        columns = _given_columns(table, options)
        if not columns:
            raise CatalogError(
                f"{file}: no column of {', '.join(getattr(options, name) for name in _GIVEN)}; it has "
                f"{', '.join(map(str, table.columns[:12]))}; give one of them with --redshift, --inclination or --pa"
            )
        rows = pd.Index(row_names(table, file)[0])
        if not jobs["id"].isin(rows).any():
            raise CatalogError(
                f"{file}: names no galaxy of the masks: it has {rows[0]!r}, they have {jobs['id'].iloc[0]!r}; "
                "rename one"
            )
        for name, column in columns.items():
            values = pd.Series(quantity(table, column, _UNITS[name], file), index=rows)
            values = values[~rows.duplicated()].reindex(jobs["id"])
            if name == "redshift" and (beyond := int((values > _HIGHEST_REDSHIFT).sum())):
                notes.append(f"{beyond:,} numbers in column {column} are above {_HIGHEST_REDSHIFT:g}: no redshifts")
                values = values.where(values <= _HIGHEST_REDSHIFT)
            jobs[name] = values.to_numpy(float)
            notes.append(f"{name} from column {column} of {file}: {int(values.notna().sum()):,} of {len(jobs):,}")
    words = jobs[["id", "stamp", *_GIVEN]].itertuples(index=False)
    stamps = [hashlib.blake2b(repr(tuple(row)).encode(), digest_size=12).hexdigest() for row in words]
    return jobs.assign(stamp=stamps), tuple(notes)


def _given_columns(table: pd.DataFrame, options: MeasureOptions) -> dict[str, str]:
    """Find the columns of redshift, inclination and position angle, as the table spells them."""
    by_lower = {str(column).strip().lower(): str(column) for column in reversed(list(table.columns))}
    found = {}
    for name in _GIVEN:
        asked = getattr(options, name)
        wanted = _REDSHIFTS if asked == name == "redshift" else (asked.lower(),)
        if asked in table:
            found[name] = asked
        elif known := [by_lower[word] for word in wanted if word in by_lower and not _is_magnitude(word, by_lower)]:
            found[name] = known[0]
    return found


def _is_magnitude(word: str, columns: Collection[str]) -> bool:
    return word == "z" and any(band in columns for band in ("g", "r", "i"))


def _there(target: Path, key: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what was measured in the same way before, without failures."""
    nothing = (
        pd.DataFrame(columns=[c.name for c in GALAXY_COLUMNS]),
        pd.DataFrame(columns=[c.name for c in ARM_COLUMNS]),
    )
    try:
        if not target.exists() or (pq.read_schema(target).metadata or {}).get(_KEY.encode(), b"").decode() != key:
            return nothing
        rows, arms = pd.read_parquet(target), pd.read_parquet(arms_path(target))
    except (OSError, ValueError, pa.ArrowException):
        return nothing  # damaged: made again
    rows, arms = (frame.assign(id=frame["id"].astype(str)) for frame in (rows, arms))
    return rows[rows["error"] == ""], arms


# The work


def _measured(rows: pd.DataFrame, cosmology: str, isophotes: bool) -> pd.DataFrame:
    """Measure one shard of galaxies; arms are in a column of JSON."""
    records: dict[str, dict[str, Any]] = {}
    for file, some in rows.groupby("file", sort=False):
        asked: dict[str, dict[str, Any]] = {str(row["id"]): dict(row) for row in some.to_dict("records")}  # type: ignore[arg-type]
        records |= dict(_of_file(str(file), asked, cosmology, isophotes))
    return pd.DataFrame([records[name] for name in rows["id"]])


def _of_file(
    file: str, asked: dict[str, dict[str, Any]], cosmology: str, isophotes: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure the galaxies of one file of masks; yield names and records."""
    for name, job in asked.items() if not file.endswith(".parquet") else ():
        try:
            masks, sigma, grid = read_mask_fits(file)
            record = _record(job, (masks, sigma, grid), {}, cosmology, isophotes)
        except Exception as error:  # one galaxy must not stop the others
            record = _failure(job, reason_for(error, file, Path(file).name))
        yield name, record
    if not file.endswith(".parquet"):
        return
    kinds = ("mask", "sigma") if "spiral_sigma_png" in pq.read_schema(file).names else ("mask",)
    for row, masks, *others in masks_of_shard(Path(file), asked.keys(), *kinds):
        name = str(row["id"])
        job = asked[name]
        told = {"ra": row["ra"], "dec": row["dec"], "warning": row["warning"]}
        if masks is None:
            yield name, _failure(job, str(row["error"])) | told
            continue
        try:
            sigma = others[0] * np.float32(SIGMA_FULL) if others else None
            place = (row["ra"], row["dec"]) if np.isfinite([row["ra"], row["dec"], row["pixscale"]]).all() else ()
            grid = PixelGrid(masks.shape[1:], row["pixscale"], *place)
            yield name, _record(job, (masks, sigma, grid), told, cosmology, isophotes)
        except Exception as error:  # one galaxy must not stop the others
            yield name, _failure(job, reason_for(error, job["image"], str(row["path"]))) | told


def _record(
    job: dict[str, Any],
    found: tuple[NDArray[np.float32], NDArray[np.float32] | None, PixelGrid],
    told: dict[str, Any],
    cosmology: str,
    isophotes: bool,
) -> dict[str, Any]:
    """Measure one galaxy."""
    masks, sigma, grid = found
    image, problem = _image(job["image"], grid.shape) if isophotes and job["image"] else (None, "")
    given = Given(*(float(job[name]) for name in _GIVEN))
    measured = measure_masks(masks, grid, image=image, given=given, sigma=sigma, cosmology=cosmology)
    place = {"ra": np.nan if grid.ra is None else grid.ra, "dec": np.nan if grid.dec is None else grid.dec}
    words = "; ".join(text for text in (told.get("warning"), problem) if isinstance(text, str) and text)
    record = {"id": job["id"], "error": None} | place | told | measured.row() | {"warning": words}
    arms = [{"id": job["id"], **arm} for arm in measured.arm_rows()]
    return record | {"cosmology": cosmology, "stamp": job["stamp"], "arms": json.dumps(arms)}


def _failure(job: dict[str, Any], reason: str) -> dict[str, Any]:
    names = ("id", "stamp", "redshift")
    return {name: job[name] for name in names} | {"error": reason, "flags": bits("no_masks"), "arms": "[]"}


def _image(path: str, shape: tuple[int, int]) -> tuple[NDArray[Any] | None, str]:
    """Read the galaxy's light, or say why its isophotes cannot be measured."""
    try:
        image: NDArray[Any]
        image = io.read_cutout(path)[0].mean(0) if path.lower().endswith(CUBES) else io.read_picture(path)
    except Exception as error:  # the masks can be measured without it
        return None, f"no isophotes: {reason_for(error, path, Path(path).name)}"
    if image.shape[:2] != shape:
        return None, f"no isophotes: the picture has {image.shape[:2]} pixels, the masks {shape}"
    return image, ""


def _split(found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the arms out of the results, as a table of their own."""
    arms = [arm for text in found.get("arms", pd.Series(dtype=str)).dropna() for arm in json.loads(text)]
    return typed(found, GALAXY_COLUMNS), typed(pd.DataFrame(arms), ARM_COLUMNS)
