"""A folder of predictions, or mask files, to a table of measurements: in shards, resumable, one bad galaxy stops none.

Reads masks and pictures, measures each galaxy (`zoobot_3d.measure.galaxy`), writes one row for it and one for each arm.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zoobot_3d import __version__, io
from zoobot_3d.catalog.listing import CUBES
from zoobot_3d.catalog.naming import row_names
from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.compute.batch import new_and_kept, reason_for, remove_leftovers, stacked, stamp_of, table_stem
from zoobot_3d.compute.shards import Batch, check_cluster, sharded
from zoobot_3d.errors import CatalogError, ConfigError
from zoobot_3d.measure.columns import (
    ARM_COLUMNS,
    GALAXY_COLUMNS,
    LIGHT_COLUMNS,
    Column,
    typed,
    with_ids,
    write_measurements,
)
from zoobot_3d.measure.flags import bits, decode_flags
from zoobot_3d.measure.galaxy import COSMOLOGIES, HIGHEST_REDSHIFT, Given, is_position_angle, measure_masks
from zoobot_3d.measure.light_rows import files_of_light, light_rows, lightless
from zoobot_3d.measure.sources import GalaxyMasks, Job, Source, each_galaxy, list_masks
from zoobot_3d.schema import COL_FITS, COL_GZ3D

__all__ = [
    "MeasureOptions",
    "MeasureSummary",
    "arms_path",
    "check_table_name",
    "light_path",
    "measure_table",
    "read_measurements",
]

_KEY = "measured_with"
_GIVEN = ("redshift", "inclination", "pa")
_NOUNS = {"redshift": "redshift", "inclination": "inclination", "pa": "position angle"}
_RADIANS_ROWS = 10  # fewer say nothing
_UNITS = {"redshift": "", "inclination": "deg", "pa": "deg"}
_REDSHIFTS = ("redshift", "z_spec", "zspec", "spec_z", "specz", "nsa_z", "z_best", "z_tonry", "z")
"""Columns of redshifts, in small letters, those that are preferred first; z beside g or r is a magnitude."""


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
    light : bool
        Measure the light of arms, inter-arm and bar in FITS images, for a third table.
    images : str
        Column of the table of galaxies with these images, as paths from its root or folder. Without it, images are
        those that masks were predicted on.
    stars : str
        Likewise, of Galaxy Zoo: 3D files, whose stars are left out.

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
    light: bool = False
    images: str = COL_FITS
    stars: str = COL_GZ3D

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
    light_out : pathlib.Path or None
        The table of light, if it was asked for.
    lights : int
        Galaxies in it with an arm/inter-arm contrast in any band.
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
    light_out: Path | None = None
    lights: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say how many, and where."""
        lines = [
            f"{self.out}: {self.done:,} measured, {self.skipped:,} measured before, {self.failed:,} without masks",
            f"  {self.bars:,} bar lengths, {self.pitches:,} pitch angles; {self.arms:,} arms in {self.arms_out}",
        ]
        if self.light_out is not None:
            lines.append(f"  {self.lights:,} galaxies with an arm/inter-arm contrast in {self.light_out}")
        lines += [f"  {note}" for note in self.notes]
        told = ", ".join(f"{count:,} {name}" for name, count in self.flags.items())
        return "\n".join([*lines, f"  flags: {told}"] if told else lines)


def arms_path(out: str | os.PathLike[str]) -> Path:
    """Return where the table of arms goes: ``table_arms.parquet`` beside ``table.parquet``."""
    return Path(out).with_name(f"{table_stem(Path(out))}_arms.parquet")


def light_path(out: str | os.PathLike[str]) -> Path:
    """Return where the table of light goes: ``table_light.parquet`` beside ``table.parquet``."""
    return Path(out).with_name(f"{table_stem(Path(out))}_light.parquet")


def measure_table(
    source: Source,
    out: str | os.PathLike[str],
    *,
    galaxies: str | os.PathLike[str] | None = None,
    options: MeasureOptions | None = None,
    cluster: str = "local",
    progress: bool = True,
    shard_size: int = 64,
) -> MeasureSummary:
    """Measure the galaxies of a prediction, or of FITS files of masks, and write two tables, or three with light.

    A galaxy without masks has a row with the reason in ``error``. The same call again measures what is missing: after a
    kill, the shards that were not done; later, galaxies that are new or whose masks or given numbers have changed.

    Parameters
    ----------
    source : path or sequence of paths
        A folder that `zoobot_3d.predict` wrote; or FITS files of masks (HDUs ``SPIRAL`` and ``BAR``).
    out : path
        The table of galaxies, ``.parquet``. That of arms goes to `arms_path`, that of light to `light_path`.
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
    jobs, made_by, ids = list_masks(source)
    jobs, given_notes = _with_given(jobs, galaxies, asked)
    key = json.dumps({"version": __version__, "options": asdict(asked), "masks": made_by}, sort_keys=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    sides = {"arms": (arms_path(target), ARM_COLUMNS)}
    if asked.light:
        sides["light"] = (light_path(target), LIGHT_COLUMNS)
    for path in (target, *(path for path, _ in sides.values())):
        remove_leftovers(path.parent, f".{path.name}.")
    old, old_sides = _there(target, key, sides)
    new, kept = new_and_kept(jobs, old)
    given = {"cosmology": asked.cosmology, "isophotes": asked.isophotes, "light": asked.light}
    batch = Batch("measuring", cluster=cluster, shard_size=shard_size, progress=progress)
    work = target.with_name(f".{target.name}.work")
    with sharded(_measured, new, work, key=key, options=given, batch=batch) as found:
        rows = stacked(kept, typed(found, GALAXY_COLUMNS))
        rows = rows.set_index("stamp").loc[jobs["stamp"]].reset_index()
        details = {
            name: _side(found, name, columns, old_sides[name][old_sides[name]["id"].isin(kept["id"])], rows["id"])
            for name, (_, columns) in sides.items()
        }
        notes = {_KEY: key, "zoobot_3d": __version__}
        if len(new) or len(kept) < len(old) or not target.exists():
            tables = [(path, details[name], columns) for name, (path, columns) in sides.items()]
            for path, table, columns in [*tables, (target, typed(rows, GALAXY_COLUMNS), GALAXY_COLUMNS)]:
                write_measurements(path, *with_ids(table, columns, ids), notes)
        return replace(_summary(rows, details, len(new), len(kept), target), notes=given_notes)


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


def _summary(
    rows: pd.DataFrame, details: dict[str, pd.DataFrame], n_new: int, n_kept: int, target: Path
) -> MeasureSummary:
    failed = int((rows["error"].fillna("") != "").sum())
    light = details.get("light")
    told = Counter(name for names in decode_flags(rows["flags"].to_numpy(np.int64)) for name in names)
    return MeasureSummary(
        max(n_new - failed, 0),
        n_kept,
        failed,
        len(details["arms"]),
        int(rows["bar_length_px"].notna().sum()),
        int(rows["pitch"].notna().sum()),
        dict(told.most_common()),
        target,
        arms_path(target),
        light_path(target) if light is not None else None,
        light.loc[light["contrast"].notna(), "id"].nunique() if light is not None else 0,
    )


# What to measure


def _with_given(
    jobs: pd.DataFrame, galaxies: str | os.PathLike[str] | None, options: MeasureOptions
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add redshift, inclination and position angle, and make stamps that change with them; say what was taken."""
    for name in _GIVEN:
        jobs[name] = np.nan
    notes: list[str] = []
    table: pd.DataFrame | None = None
    if galaxies is not None:
        table, file = io.read_table(galaxies), os.fspath(galaxies)
        columns = _given_columns(table, options)
        if not (columns or options.light):
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
        repeats = rows[rows.isin(jobs["id"]) & rows.duplicated()]
        if len(repeats):
            notes.append(
                f"{len(repeats):,} rows of {file} repeat a name, such as {repeats[0]}: the first of each counts"
            )
        for name, column in columns.items():
            values = pd.Series(quantity(table, column, _UNITS[name], file), index=rows)
            _note_words(table[column], values, notes)
            values = values[~rows.duplicated()].reindex(jobs["id"])
            values = _possible(values, name, column, notes)
            jobs[name] = values.to_numpy(float)
            notes.append(f"{name} from column {column} of {file}: {int(values.notna().sum()):,} of {len(jobs):,}")
        table = table.set_axis(rows, axis=0).loc[~rows.duplicated()]
    if options.light:
        jobs = files_of_light(jobs, table, galaxies, options.images, options.stars)
    words = jobs[["id", "stamp", *_GIVEN, *(["light_stamp"] if options.light else [])]].itertuples(index=False)
    return jobs.assign(stamp=[stamp_of(*row) for row in words]), tuple(notes)


def _note_words(column: pd.Series, numbers: pd.Series, notes: list[str]) -> None:
    """Say how many values of a column are text that is no number, such as one with a decimal comma."""
    words = column.astype(str).str.strip().to_numpy(object)
    lost = numbers.isna().to_numpy() & column.notna().to_numpy() & (words != "") & (words != "nan")
    if lost.any():
        notes.append(f"{lost.sum():,} values in column {column.name}, such as {str(words[lost][0])!r}, are no numbers")


def _possible(values: pd.Series, name: str, column: str, notes: list[str]) -> pd.Series:
    """Leave out numbers that cannot be what a column is for, and say how many."""
    good = {
        "redshift": (values > -0.1) & (values <= HIGHEST_REDSHIFT),
        "inclination": (values >= 0) & (values <= 90),
        "pa": values.map(is_position_angle),
    }[name]
    bad = values.notna() & ~good
    if high := int((bad & (values > 0)).sum()):
        limit = {"redshift": HIGHEST_REDSHIFT, "inclination": 90, "pa": 360}[name]
        notes.append(f"{high:,} numbers in column {column} are above {limit:g}: no {_NOUNS[name]}s")
    if low := int((bad & (values <= 0)).sum()):
        example = values[bad & (values <= 0)].iloc[0]
        notes.append(f"{low:,} numbers in column {column}, such as {example:g}, are no {_NOUNS[name]}s")
    given = values[good]
    if name == "inclination" and len(given) >= _RADIANS_ROWS and given.max() <= np.pi / 2:
        notes.append(f"no number in column {column} is above {given.max():.2g}: are they radians? Taken as degrees")
    return values.where(good)


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


def _there(
    target: Path, key: str, sides: dict[str, tuple[Path, tuple[Column, ...]]]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return what was measured in the same way before, without failures, and its rows of arms and of light."""
    nothing = (
        pd.DataFrame(columns=[c.name for c in GALAXY_COLUMNS]),
        {name: pd.DataFrame(columns=[c.name for c in columns]) for name, (_, columns) in sides.items()},
    )
    try:
        if not target.exists() or (pq.read_schema(target).metadata or {}).get(_KEY.encode(), b"").decode() != key:
            return nothing
        rows = pd.read_parquet(target)
        details = {name: pd.read_parquet(path) for name, (path, _) in sides.items()}
    except (OSError, ValueError, pa.ArrowException):
        return nothing  # damaged: made again
    rows = rows.assign(id=rows["id"].astype(str))
    details = {name: frame.assign(id=frame["id"].astype(str)) for name, frame in details.items()}
    return rows[rows["error"] == ""], details


# The work


def _measured(rows: pd.DataFrame, cosmology: str, isophotes: bool, light: bool) -> pd.DataFrame:
    """Measure one shard of galaxies; rows of arms and of light are in columns of JSON."""
    work = partial(_record, cosmology=cosmology, isophotes=isophotes, light=light)
    return each_galaxy(rows, "image", work, _failure)


def _record(job: Job, found: GalaxyMasks, cosmology: str, isophotes: bool, light: bool) -> dict[str, Any]:
    """Measure one galaxy."""
    if found.planes is None:
        return _failure(job, found, found.error)
    masks, sigma, grid = found.planes
    image, problem = _image(job["image"], grid.shape) if isophotes and job["image"] else (None, "")
    given = Given(*(float(job[name]) for name in _GIVEN))
    measured = measure_masks(masks, grid, image=image, given=given, sigma=sigma, cosmology=cosmology)
    place = {"ra": np.nan if grid.ra is None else grid.ra, "dec": np.nan if grid.dec is None else grid.dec}
    words = "; ".join(text for text in (found.told.get("warning"), problem) if isinstance(text, str) and text)
    record = {"id": job["id"], "error": None} | place | found.told | measured.row() | {"warning": words}
    arms = [{"id": job["id"], **arm} for arm in measured.arm_rows()]
    if light:
        record["light"] = json.dumps(light_rows(job, masks, grid, measured.disk))
    return record | {"cosmology": cosmology, "stamp": job["stamp"], "arms": json.dumps(arms)}


def _failure(job: Job, found: GalaxyMasks, reason: str) -> dict[str, Any]:
    names = ("id", "stamp", "redshift")
    record = {name: job[name] for name in names} | {"error": reason, "flags": bits("no_masks"), "arms": "[]"}
    if "light_image" in job:
        record["light"] = json.dumps(lightless(job, reason, "no_masks"))
    return record | found.told


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


def _side(
    found: pd.DataFrame, name: str, columns: tuple[Column, ...], kept: pd.DataFrame, ids: pd.Series[Any]
) -> pd.DataFrame:
    """Take the rows of arms, or of light, out of the results, and add those that were measured before."""
    new = [row for text in found.get(name, pd.Series(dtype=str)).dropna() for row in json.loads(text)]
    rows = stacked(kept, typed(pd.DataFrame(new), columns))
    order = dict(zip(ids, range(len(ids)), strict=True))
    return typed(rows.iloc[np.argsort(rows["id"].map(order).to_numpy(), kind="stable")], columns)
