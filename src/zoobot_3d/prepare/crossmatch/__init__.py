"""Cross-match of galaxies with a catalogue: who is whom, who is left over, and whether the radius is right.

An engine (`zoobot_3d.catalog.pairs`, `zoobot_3d.prepare.crossmatch.hats`) finds the pairs; here the nearest wins,
repeated observations are told apart, and the tables and the histogram are written. Must not know what the columns mean.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.pairs import Catalogue, Pairs, TableCatalogue
from zoobot_3d.catalog.positions import (
    DEG_PER_UNIT,
    PositionReader,
    RaUnit,
    check_equinox,
    require_columns,
    unit_in_name,
)
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.errors import CatalogError, ConfigError
from zoobot_3d.io import read_table, write_table
from zoobot_3d.prepare.crossmatch.outputs import (
    OutputFiles,
    plot_separations,
    separation_histogram,
    write_unmatched,
)

__all__ = ["CATALOGUE_IDS", "GALAXY_IDS", "CrossmatchOptions", "CrossmatchSummary", "SkyColumns", "crossmatch"]

CATALOGUE_IDS = ("dr8_id", "id_str", "dr7objid", "brickid", "objid", "CATID", "mangaid", "MANGAID", "id")
"""Columns that are kept without being asked for; the first of them that there is names the rows."""

GALAXY_IDS = ("id", "mangaid", "MANGAID", "file_name", "CATID", "dr8_id", "dr7objid", "id_str", "objid", "IAUNAME")
"""Columns that may name galaxies; the first whose values are all different does, else the first that there is."""

_HISTOGRAM_ARCSEC = 10.0
_LARGEST_RADIUS = 600.0  # arcsec; beyond, pairs are no matches and there are too many to hold
_HARDLY, _HOURS_GAIN, _HOURS_SHARE = 0.1, 10, 0.1
"""A unit is wrong if fewer than the first share of the galaxies match, ten times more in hours, and the last share."""


@dataclass(frozen=True)
class CrossmatchSummary:
    """What `crossmatch` found and wrote.

    Attributes
    ----------
    matches, duplicates, unmatched_galaxies, unmatched_catalogue, histogram, plot : pathlib.Path
        The files.
    n_galaxies, n_catalogue : int
        Rows read.
    n_matched, n_duplicates, n_unmatched : int
        Galaxies with a row of their own; whose row is nearer to another galaxy; without any, or without a position.
    n_unmatched_catalogue : int
        Catalogue rows that no galaxy got.
    radius : float
        Arcsec.
    median_separation : float
        Of the matches, arcsec; NaN without any.
    expected_by_chance : float
        Galaxies that would have an unrelated row within the radius.
    problems : tuple of str
        What is wrong with the input, a line each.
    """

    matches: Path
    duplicates: Path
    unmatched_galaxies: Path
    unmatched_catalogue: Path
    histogram: Path
    plot: Path
    n_galaxies: int
    n_catalogue: int
    n_matched: int
    n_duplicates: int
    n_unmatched: int
    n_unmatched_catalogue: int
    radius: float
    median_separation: float
    expected_by_chance: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        """Several lines for the terminal."""
        return "\n".join(
            [
                *self.problems,
                f"{self.n_matched:,} of {self.n_galaxies:,} galaxies match one of {self.n_catalogue:,} rows within "
                f"{self.radius:g} arcsec (median {self.median_separation:.2f}; {self.expected_by_chance:.1f} expected "
                "by chance)",
                f"{self.n_duplicates:,} more have a row that is nearer to another: {self.duplicates.name}",
                f"{self.n_unmatched:,} are unmatched: {self.unmatched_galaxies.name}; in the catalogue "
                f"{self.n_unmatched_catalogue:,}: {self.unmatched_catalogue.name}",
                f"is the radius right? {self.plot.name}",
                str(self.matches),
            ]
        )


@dataclass(frozen=True)
class SkyColumns:
    """Columns of a table that say where its rows are, and who they are.

    Attributes
    ----------
    ra, dec : str
        Right ascension and declination; declinations are in deg.
    ra_unit : {"deg", "hour", ...}
        Of right ascension, where the table does not say.
    name : str, optional
        Names of the rows; by default the first of `GALAXY_IDS` or `CATALOGUE_IDS` that is there, as they say.
    """

    ra: str = "ra"
    dec: str = "dec"
    ra_unit: RaUnit = "deg"
    name: str | None = None


@dataclass(frozen=True)
class CrossmatchOptions:
    """How galaxies are found in a catalogue.

    Attributes
    ----------
    radius : float
        Largest separation of a match, arcsec.
    engine : {"tree", "lsdb"}
        KD-trees in this process, or LSDB on Dask for catalogues that do not fit one machine.
    columns : sequence of str, optional
        Columns of the catalogue to keep beside its position and names (`CATALOGUE_IDS`); ``["all"]`` keeps all.
    galaxies, catalogue : SkyColumns
        Columns of the two tables. Rows of the catalogue with the same name are one object.
    suffix : str
        Appended to columns of the galaxies that the catalogue (or ``separation``) also has.
    keep_duplicates : bool
        Galaxies whose row is nearer to another galaxy (repeated observations) stay in the matches; the column
        ``duplicate_of`` then names that other galaxy, and is empty for those who won.
    """

    radius: float = 3.0
    engine: Literal["tree", "lsdb"] = "tree"
    columns: Sequence[str] | None = None
    galaxies: SkyColumns = field(default_factory=SkyColumns)
    catalogue: SkyColumns = field(default_factory=SkyColumns)
    suffix: str = "_galaxy"
    keep_duplicates: bool = False

    def __post_init__(self) -> None:
        """Refuse a radius that cannot be meant, and columns whose name would say another unit than the output has."""
        if not 0 < self.radius <= _LARGEST_RADIUS:
            raise ConfigError(
                f"radius {self.radius:g} arcsec is not within 0 to {_LARGEST_RADIUS:g}; matches need about 3"
            )
        for name in (self.galaxies.ra, self.galaxies.dec, self.catalogue.ra, self.catalogue.dec):
            unit = unit_in_name(name)
            if unit and not unit.startswith(("deg", "°")):
                raise ConfigError(
                    f"column {name!r}: positions are written in degrees, but its name says {unit}; rename it"
                )


def crossmatch(
    galaxies: str | os.PathLike[str],
    catalogue: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    options: CrossmatchOptions | None = None,
    progress: bool = True,
) -> CrossmatchSummary:
    """Find each galaxy in a catalogue by position: the nearest row within the radius.

    Parameters
    ----------
    galaxies : path
        Table that fits memory: .csv, .parquet or .fits.
    catalogue : path
        Table to find them in. Parquet is streamed and may be of any length; of .csv and .fits the needed columns are
        held in memory. For the engine ``lsdb`` the folder of a HATS catalogue.
    out : path
        Matches: .csv, .parquet or .fits. The other tables go beside it, under its stem.
    options : CrossmatchOptions, optional
        Radius, columns, engine.
    progress : bool
        Show a bar.

    Returns
    -------
    CrossmatchSummary

    Raises
    ------
    BadFileError
        If a file cannot be read.
    CatalogError
        If columns are missing, no row has a usable position, or right ascensions are in hours.
    ConfigError
        If an option does not fit, or LSDB is not installed.

    Notes
    -----
    Written, each whole or not at all, the matches last:

    - ``out``: all columns of the galaxies, the kept ones of the catalogue, ``separation`` (arcsec); positions in deg.
    - ``<stem>_duplicates``: galaxies that lost their row to a nearer one; ``duplicate_of``, ``separation_winner``.
    - ``<stem>_unmatched_galaxies``: with ``reason`` and ``separation`` to the nearest row at any distance (LSDB: only
      as far as the histogram goes).
    - ``<stem>_unmatched_catalogue.parquet``: row number (from 0), name, position.
    - ``<stem>_separations.csv``, ``.png``: nearest separations, and those expected by chance from the density of rows
      farther from the galaxies than the radius.

    Equal separations: the row, or the galaxy, that comes first in its file wins.
    """
    options = options or CrossmatchOptions()
    files = OutputFiles.beside(Path(out), (galaxies, catalogue))
    sky = _open(Path(catalogue), options)
    wanted, name_column = _wanted(sky, options)
    ours = _Galaxies.read(galaxies, options, wanted)
    sky.keep(wanted)
    pairs, best = _find(sky, ours, options, progress)
    taken = sky.take(best["row"].to_numpy(), wanted)
    taken_names = taken[name_column] if name_column else None
    best["key"] = _keys(taken_names, best["row"])
    best["winner"] = _winners(best)
    matches, duplicates = _matched(ours, taken, best, options)
    unmatched = _unmatched(ours, best, pairs, options)
    histogram, chance = separation_histogram(pairs, options.radius, _reach(options))

    # All has gone well: from here on, matches that are there are these.
    files.remove_old()
    with progress_bar("listing unmatched rows", sky.n_rows or None, unit="rows", show=progress) as step:
        rows = np.unique(best["row"].to_numpy())
        n_left, repeats = write_unmatched(files.unmatched_catalogue, sky, name_column, rows, taken_names, step)
    write_table(files.unmatched_galaxies, unmatched)
    write_table(files.duplicates, duplicates)
    write_table(files.histogram, histogram)
    plot_separations(files.plot, histogram, options.radius, chance)
    write_table(files.matches, matches)
    problems = ours.reader.problems() + ours.naming + sky.problems()
    if repeats:
        problems.append(f"{sky.name}: {repeats} of {sky.n_rows} rows repeat a {name_column}; the nearest row wins")
    return CrossmatchSummary(
        **{name: getattr(files, name) for name in OutputFiles.__dataclass_fields__},
        n_galaxies=len(ours.frame),
        n_catalogue=sky.n_rows,
        n_matched=len(best) - len(duplicates),
        n_duplicates=len(duplicates),
        n_unmatched=len(unmatched),
        n_unmatched_catalogue=n_left,
        radius=options.radius,
        median_separation=float(matches["separation"].median()),
        expected_by_chance=chance,
        problems=tuple(problems),
    )


# What goes in


@dataclass(frozen=True)
class _Galaxies:
    """The galaxies to find."""

    frame: pd.DataFrame
    reader: PositionReader
    names: pd.Series
    naming: list[str]
    """What is wrong with the names."""
    renamed: pd.DataFrame
    usable: NDArray[np.intp]
    ra: NDArray[np.float64]
    """Of the usable ones, deg; so is ``dec``."""
    dec: NDArray[np.float64]

    @classmethod
    def read(cls, path: str | os.PathLike[str], options: CrossmatchOptions, wanted: list[str]) -> _Galaxies:
        frame, columns, name = read_table(path), options.galaxies, os.fspath(path)
        check_equinox(frame, name)
        units = frame.attrs.get("units")
        reader = PositionReader(
            name, frame.columns, ra=columns.ra, dec=columns.dec, ra_unit=columns.ra_unit, units=units
        )
        frame[columns.ra], frame[columns.dec] = reader.read(frame[columns.ra], frame[columns.dec])
        reader.require_some()
        frame.attrs["units"] = (units or {}) | dict.fromkeys((columns.ra, columns.dec), "deg")
        names, naming = _galaxy_names(frame, columns.name, name)
        renamed = _renamed(frame, wanted, options.suffix)
        usable = np.flatnonzero(frame[columns.ra].notna())
        ra, dec = (frame[column].to_numpy()[usable] for column in (columns.ra, columns.dec))
        return cls(frame, reader, names, naming, renamed, usable, ra, dec)


def _open(path: Path, options: CrossmatchOptions) -> Catalogue:
    columns = options.catalogue
    if options.engine == "tree":
        if path.is_dir():
            raise ConfigError(f"{path}: a folder; if it is a HATS catalogue use the engine lsdb, else give the file")
        return TableCatalogue(path, ra=columns.ra, dec=columns.dec, ra_unit=columns.ra_unit)
    if options.engine == "lsdb":
        from zoobot_3d.prepare.crossmatch.hats import HatsCatalogue

        return HatsCatalogue(path, ra=columns.ra, dec=columns.dec, ra_unit=columns.ra_unit)
    raise ConfigError(f"unknown engine {options.engine!r}; use tree or lsdb")


def _wanted(sky: Catalogue, options: CrossmatchOptions) -> tuple[list[str], str | None]:
    """Columns of the catalogue to keep, in its order, and the one that names its rows."""
    columns, name_column = options.columns, options.catalogue.name
    asked = sky.columns if columns and list(columns) == ["all"] else list(columns or ())
    require_columns(sky.columns, [*asked, *([name_column] if name_column else ())], sky.name)
    known = [name for name in CATALOGUE_IDS if name in sky.columns]
    if name_column is None:
        # Alone, a number within a brick names nothing.
        name_column = next((name for name in known if not (name in ("brickid", "objid") and "brickid" in known)), None)
    keep = {*asked, *known, sky.ra, sky.dec, *([name_column] if name_column else ())}
    return [name for name in sky.columns if name in keep], name_column


def _galaxy_names(frame: pd.DataFrame, column: str | None, name: str) -> tuple[pd.Series, list[str]]:
    """Names of the galaxies, row numbers if no column has any, and what is wrong with them."""
    if column is not None:
        require_columns(frame.columns, [column], name)
    known = [column] if column else [candidate for candidate in GALAXY_IDS if candidate in frame]
    if not known:
        return pd.Series(np.arange(len(frame)), index=frame.index), []
    chosen = next((candidate for candidate in known if frame[candidate].is_unique), known[0])
    repeated = int(frame[known[0]].duplicated().sum())
    first = int(np.argmax(frame[known[0]].duplicated()))
    lines = [f"{name}: {repeated} of {len(frame)} rows repeat a {known[0]} (first: row {first})"] if repeated else []
    return frame[chosen], lines


def _renamed(frame: pd.DataFrame, wanted: list[str], suffix: str) -> pd.DataFrame:
    """Galaxies, with the suffix on columns that the outputs have for something else."""
    taken = {*wanted, "separation", "duplicate_of", "separation_winner", "reason"}
    new = {name: f"{name}{suffix}" for name in frame.columns if name in taken}
    clash = [name for name in new.values() if name in taken or name in frame.columns]
    if clash:
        raise ConfigError(f"suffix {suffix!r} makes a column {clash[0]} that is there already; choose another suffix")
    return frame.rename(columns=new)


def _refuse_hours(sky: Catalogue, ours: _Galaxies, options: CrossmatchOptions, matched: int) -> None:
    """Raise if the galaxies match when one side's right ascensions are taken for hours."""
    tries: list[tuple[str, str, float, float]] = []
    if ours.reader.ra_unit == "deg" and ours.reader.ra_range[1] <= 24:
        tries.append((ours.reader.name, "--ra-unit", DEG_PER_UNIT["hour"], 1.0))
    if options.catalogue.ra_unit == "deg" and sky.ra_range[1] <= 24:
        tries.append((sky.name, "--catalogue-ra-unit", 1.0, DEG_PER_UNIT["hour"]))
    n = ours.usable.size
    for name, option, our_factor, their_factor in tries:
        ra = (ours.ra * our_factor) % 360
        pairs = sky.find(ra, ours.dec, options.radius, ra_factor=their_factor, step=lambda rows: None)
        found = np.unique(pairs.galaxy).size
        if found > _HOURS_GAIN * matched and found >= max(2, _HOURS_SHARE * n):
            raise CatalogError(
                f"{name}: its right ascension is in hours: {matched} of {n} galaxies match as degrees, {found} as "
                f"hours; give {option} hour"
            )


# Who wins


def _reach(options: CrossmatchOptions) -> float:
    """How far pairs are looked for, arcsec."""
    return max(_HISTOGRAM_ARCSEC, 2 * options.radius)


def _find(sky: Catalogue, ours: _Galaxies, options: CrossmatchOptions, progress: bool) -> tuple[Pairs, pd.DataFrame]:
    """Find all pairs, and the nearest row of each galaxy within the radius; galaxies by their row."""
    with progress_bar("finding pairs", sky.n_rows or None, unit="rows", show=progress) as step:
        pairs = sky.find(ours.ra, ours.dec, _reach(options), ra_factor=1.0, step=step)
        best = _nearest_within(pairs, options.radius)
        if len(best) < _HARDLY * ours.usable.size:
            _refuse_hours(sky, ours, options, len(best))
    best["galaxy"] = ours.usable[best["galaxy"]]
    return pairs, best


def _nearest_within(pairs: Pairs, radius: float) -> pd.DataFrame:
    """For each galaxy that has one its nearest row: ``galaxy``, ``row``, ``separation``, in order of galaxy."""
    near = np.flatnonzero(pairs.separation <= radius)
    first = near[np.unique(pairs.galaxy[near], return_index=True)[1]]
    return pd.DataFrame({"galaxy": pairs.galaxy[first], "row": pairs.row[first], "separation": pairs.separation[first]})


def _keys(names: pd.Series | None, rows: pd.Series) -> NDArray[np.int64]:
    """Give each object a number: rows of one name are one object; a row without name is one of its own."""
    if names is None:
        return rows.to_numpy()
    codes = pd.factorize(names)[0].astype(np.int64)
    return np.where(codes < 0, -1 - rows.to_numpy(), codes)


def _winners(best: pd.DataFrame) -> NDArray[np.int64]:
    """For each match the galaxy that gets its object: the nearest, then the first."""
    ranked = best.sort_values(["key", "separation", "galaxy"])
    return ranked.groupby("key")["galaxy"].transform("first").reindex(best.index).to_numpy()


# What goes out


def _matched(
    ours: _Galaxies, taken: pd.DataFrame, best: pd.DataFrame, options: CrossmatchOptions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of matches, and of galaxies that lost their row to a nearer one."""
    merged = pd.concat([ours.renamed.iloc[best["galaxy"]].reset_index(drop=True), taken], axis=1)
    merged["separation"] = best["separation"].to_numpy()
    lost = (best["winner"] != best["galaxy"]).to_numpy()
    winners = best["winner"][lost]
    duplicates = merged[lost].assign(
        duplicate_of=ours.names.iloc[winners].to_numpy(),
        separation_winner=best.set_index("galaxy")["separation"].reindex(winners).to_numpy(),
    )
    if not options.keep_duplicates:
        return merged[~lost], duplicates
    winner = ours.names.iloc[best["winner"]].astype(str).reset_index(drop=True)
    return merged.assign(duplicate_of=winner.where(lost, "")), duplicates


def _unmatched(ours: _Galaxies, best: pd.DataFrame, pairs: Pairs, options: CrossmatchOptions) -> pd.DataFrame:
    """Table of galaxies without a row, with the distance of the nearest and the reason."""
    nearest = np.full(len(ours.frame), np.nan)
    nearest[ours.usable] = pairs.nearest
    lonely = np.setdiff1d(np.arange(len(ours.frame)), best["galaxy"])
    reason = np.where(np.isin(lonely, ours.usable), f"nothing within {options.radius:g} arcsec", "no usable position")
    return ours.renamed.iloc[lonely].assign(separation=nearest[lonely], reason=reason)
