"""The master catalogue: a row for each marked galaxy, with its sizes, votes, files and split.

Joins tables and looks which files are there. Must not know how the files came, nor what is learned from them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord, angular_separation
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from zoobot_3d import io, schema
from zoobot_3d.catalog.pixel_scales import gz_pixscale
from zoobot_3d.catalog.positions import DEG_PER_UNIT, PositionReader, check_equinox, read_positions
from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.catalog.reading import catalog_root, join_columns, nullable_integers, read_catalog
from zoobot_3d.catalog.splits import SPLITS, assign_split
from zoobot_3d.compute.batch import remove_leftovers
from zoobot_3d.errors import CatalogError
from zoobot_3d.schema import (
    COL_DEC,
    COL_DEC_MANGA,
    COL_ID,
    COL_MANGAID,
    COL_PIXSCALE,
    COL_RA,
    COL_RA_MANGA,
    GZ_FIELD_PX,
)
from zoobot_3d.sources.fetch import LEDGER, read_ledger

__all__ = ["MasterSummary", "add_pixscale", "build_master"]

_FROM_GZ3D = {"MANGAID": COL_MANGAID, "IAUNAME": "iauname"}
_REQUIRED = (COL_ID, COL_RA, COL_DEC, COL_RA_MANGA, COL_DEC_MANGA, "file_name")
_RADII = (("petro_th50", "petro_th90"), ("est_petro_th50", "est_petro_th90"))  # measured, else estimated; arcsec
_APART = 60.0  # arcsec between a galaxy's two positions, beyond which they are not of one galaxy
_PICTURES = {"id": "str", "ra": "float64", "dec": "float64", "pixscale": "float64", "size": "int64", "status": "str"}
"""Columns of the record of downloaded cutouts that are read here."""


@dataclass(frozen=True)
class MasterSummary:
    """What `build_master` wrote.

    Attributes
    ----------
    path : pathlib.Path
        The catalogue.
    n_rows, n_galaxies : int
        Observations, and galaxies among them.
    counts : dict
        Rows with each thing: pictures, marks, a known scale, votes.
    splits : dict
        Rows in train, val and test.
    notes : tuple of str
        What the user should know, a line each.
    """

    path: Path
    n_rows: int
    n_galaxies: int
    counts: dict[str, int]
    splits: dict[str, int]
    notes: tuple[str, ...]


def build_master(
    matches: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] = ".",
    desi: Sequence[str | os.PathLike[str]] = (),
    gz2: str | os.PathLike[str] | None = None,
    radius: float = 3.0,
) -> MasterSummary:
    """Join everything that is known of the marked galaxies into one table.

    Parameters
    ----------
    matches : path
        The cross-match of the GZ3D galaxies (`zoobot_3d.prepare.extract.catalog`) with GZ DESI: one row an observation.
    out : path, optional
        Table to write, by extension; ``data/gz3d_and_desi_master_catalog.parquet`` in ``root`` by default.
    root : path
        Data root: its ``gz3d``, ``images``, ``marks`` and ``masks`` are looked through, and paths are relative to it.
    desi : sequence of path
        Further tables with a column ``dr8_id``, e.g. predicted fractions, photometry, volunteers' votes; their other
        columns are added. Of a column that two tables have, the first stays.
    gz2 : path, optional
        Galaxy Zoo 2 votes (`zoobot_3d.sources.galaxy_zoo`); matched by position.
    radius : float
        Of that match, arcsec.

    Returns
    -------
    MasterSummary

    Raises
    ------
    BadFileError
        If a table cannot be read.
    CatalogError
        If one misses columns, no row has a name and a position, right ascensions are in hours, or the output would not
        lie where its relative paths start from.

    Notes
    -----
    The split is a hash of the galaxy's ``dr8_id`` (`zoobot_3d.catalog.splits.assign_split`), so it stays when rows are
    added, and repeated observations of a galaxy are in one split. ``ra``, ``dec`` and ``est_dr5_pixscale`` are those of
    the picture where one has been fetched, for pixels are placed on the sky by them.
    """
    root = Path(root)
    out = root / schema.DEFAULT_MASTER if out is None else Path(out)
    if catalog_root(out) != root.resolve():
        raise CatalogError(f"{out}: paths in it are relative to {root}; write it into {root / 'data'} or {root} itself")
    remove_leftovers(out.parent, f".{out.name}.")
    notes: list[str] = []
    frame = _named(read_catalog(matches, _REQUIRED).rename(columns=_FROM_GZ3D), os.fspath(matches), notes)
    frame = _placed(frame, os.fspath(matches), notes)
    for table in desi:
        frame = join_columns(frame, table, COL_ID, notes=notes)
    if gz2 is not None:
        frame = _add_gz2(frame, gz2, radius, notes)
    frame = add_pixscale(frame)
    frame = _add_files(frame, root)
    frame = _place_pictures(frame, root)
    frame["split"] = _split(frame, notes)
    frame = _ordered(frame)
    io.write_table(out, frame)
    return _summary(out, frame, notes)


def add_pixscale(frame: pd.DataFrame) -> pd.DataFrame:
    """Add ``est_dr5_pixscale`` where it is missing, from Petrosian radii (`zoobot_3d.catalog.pixel_scales`).

    Parameters
    ----------
    frame : pandas.DataFrame
        With ``est_dr5_pixscale``, or ``petro_th50`` and ``petro_th90``, or ``est_petro_th50`` (and ``_th90``), in
        arcsec or the unit that ``attrs["units"]`` has.

    Returns
    -------
    pandas.DataFrame
        A copy; NaN where no radius is known.
    """
    scale = _numbers(frame, COL_PIXSCALE)
    for half, most in _RADII:
        scale = np.where(scale > 0, scale, gz_pixscale(_numbers(frame, half), _numbers(frame, most)))
    found = frame.assign(**{COL_PIXSCALE: scale})
    found.attrs["units"] = frame.attrs.get("units", {}) | {COL_PIXSCALE: "arcsec"}
    return found


def _numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    if column not in frame:
        return np.full(len(frame), np.nan)
    return quantity(frame, column, "arcsec", "the catalogue")


def _named(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Leave out rows that no galaxy or file names, and observations that are there twice."""
    bad = (
        (f"no {COL_ID}", frame[COL_ID].isna() | frame[COL_ID].astype(str).str.strip().eq("")),
        ("no file_name", frame["file_name"].isna()),
        ("the file_name of an earlier row", frame["file_name"].notna() & frame["file_name"].duplicated()),
    )
    keep = np.ones(len(frame), np.bool_)
    for what, where in bad:
        lost = where.to_numpy(np.bool_)
        if n := int(lost.sum()):
            have = "has" if n == 1 else "have"
            first = int(np.argmax(lost))
            notes.append(f"{name}: {n} of {len(frame)} rows {have} {what} (first: row {first}) and are left out")
        keep &= ~lost
    if not keep.any():
        raise CatalogError(f"{name}: no row has {COL_ID} and file_name; make it with zoobot3d crossmatch")
    frame = frame[keep].reset_index(drop=True)
    return frame.assign(**{COL_ID: frame[COL_ID].astype(str)})


def _placed(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Read both positions of each row as degrees, NaN where they cannot be, and see that they are of one galaxy."""
    check_equinox(frame, name)
    for ra, dec in ((COL_RA, COL_DEC), (COL_RA_MANGA, COL_DEC_MANGA)):
        units = frame.attrs.get("units", {})
        reader = PositionReader(name, frame.columns, ra=ra, dec=dec, units=units)
        frame[ra], frame[dec] = reader.read(frame[ra], frame[dec])
        frame.attrs["units"] = units | {ra: "deg", dec: "deg"}
        reader.require_some()
        notes += reader.problems()
    far = _apart(frame) > _APART
    for column in (COL_RA, COL_RA_MANGA):
        turned = frame.assign(**{column: frame[column] * DEG_PER_UNIT["hour"] % 360})
        hours = int((far & (_apart(turned) <= _APART)).sum())
        if 2 * hours > far.sum():
            raise CatalogError(f"{name}: {column} of {hours} of {len(frame)} rows is in hours; multiply it by 15")
    if far.any():
        what = f"({COL_RA}, {COL_DEC}) more than {_APART:g} arcsec from ({COL_RA_MANGA}, {COL_DEC_MANGA})"
        notes.append(f"{name}: {int(far.sum())} of {len(frame)} rows have {what} (first: row {int(np.argmax(far))})")
    return frame


def _apart(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Arcsec between the two positions of each row; NaN where one is not known."""
    positions = frame[[COL_RA, COL_DEC, COL_RA_MANGA, COL_DEC_MANGA]].to_numpy(np.float64).T
    return np.asarray(np.degrees(angular_separation(*np.radians(positions))) * 3600, np.float64)


def _add_gz2(frame: pd.DataFrame, path: str | os.PathLike[str], radius: float, notes: list[str]) -> pd.DataFrame:
    """Add the votes of the nearest GZ2 galaxy within ``radius``."""
    table = read_catalog(path, (COL_RA, COL_DEC))
    if not any("-gz2_" in str(name) for name in table.columns):
        raise CatalogError(f"{os.fspath(path)}: no column of votes such as bar-gz2_yes; see zoobot3d fetch gz2")
    theirs = read_positions(table, name=os.fspath(path))
    notes += theirs.problems
    table, there = table[theirs.usable], _sky(theirs.ra[theirs.usable], theirs.dec[theirs.usable])
    placed = np.flatnonzero(frame[COL_RA].notna())
    here = _sky(frame[COL_RA].to_numpy()[placed], frame[COL_DEC].to_numpy()[placed])
    index, separation, _ = here.match_to_catalog_sky(there)
    chosen = np.full(len(frame), -1)
    chosen[placed] = np.where(separation.arcsec <= radius, index, -1)
    votes = table.drop(columns=[COL_RA, COL_DEC, *frame.columns.intersection(table.columns)], errors="ignore")
    votes = nullable_integers(votes).reset_index(drop=True)
    return frame.join(votes.reindex(chosen).reset_index(drop=True))


def _sky(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> SkyCoord:
    return SkyCoord(ra * u.deg, dec * u.deg)


def _add_files(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Add the places of each row's files, where they are there."""
    observation = frame["file_name"].astype(str).str.removesuffix(".gz").str.removesuffix(".fits")
    galaxy = frame[COL_ID].map(io.file_stem)
    layout = (
        (schema.COL_GZ3D, "gz3d", frame["file_name"].astype(str)),
        (schema.COL_FITS, "images/fits", galaxy + ".fits"),
        (schema.COL_JPG, "images/jpg", galaxy + ".jpg"),
        (schema.COL_MARKS, "marks", observation + ".json"),
        (schema.COL_SPIRAL_MASK, "masks", observation + "_spiral.png"),
        (schema.COL_BAR_MASK, "masks", observation + "_bar.png"),
    )
    added = {}
    for column, folder, names in layout:
        there = {entry.name for entry in os.scandir(root / folder)} if (root / folder).is_dir() else set()
        added[column] = (folder + "/" + names).where(names.isin(there), None)
    return frame.assign(**added)


def _place_pictures(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Take centre and scale of the pictures from the record of their download."""
    fetched = read_ledger(root / "images" / LEDGER, _PICTURES).drop_duplicates("id").set_index("id")
    # Of the standard picture: one of fewer pixels shows the same field.
    fetched["pixscale"] *= fetched["size"] / GZ_FIELD_PX
    shown = frame[COL_ID].isin(fetched.index[fetched["status"] == "good"])
    frame = frame.copy()
    for column, of_picture in ((COL_RA, "ra"), (COL_DEC, "dec"), (COL_PIXSCALE, "pixscale")):
        frame.loc[shown, column] = fetched.loc[frame.loc[shown, COL_ID], of_picture].to_numpy()
    return frame


def _split(frame: pd.DataFrame, notes: list[str]) -> NDArray[np.str_]:
    """Split by galaxy; rows that a dr8_id or a mangaid connects, be it through others, go with the nearest match."""
    galaxy = frame[COL_ID]
    if COL_MANGAID in frame:
        of_sky, of_manga = pd.factorize(galaxy)[0], pd.factorize(frame[COL_MANGAID].replace("", None))[0]
        known = np.flatnonzero(of_manga >= 0)
        n_sky, n_manga = of_sky.max() + 1, of_manga.max() + 1
        pairs = np.ones(known.size), (of_sky[known], n_sky + of_manga[known])
        graph = coo_array(pairs, shape=(n_sky + n_manga,) * 2)
        one = pd.Series(connected_components(graph, directed=False)[1][of_sky], frame.index)
        nearest = frame.sort_values("separation", kind="stable").index if "separation" in frame else frame.index
        own = galaxy[nearest].groupby(one[nearest]).transform("first")[frame.index]
        if n := int((own != galaxy).sum()):
            notes.append(f"{n} rows share a mangaid with a nearer match of another dr8_id; they follow its split")
        galaxy = own
    return assign_split(galaxy)


_FIRST = (
    COL_ID, COL_MANGAID, "iauname", COL_RA, COL_DEC, COL_RA_MANGA, COL_DEC_MANGA, "separation", COL_PIXSCALE, "split",
    "n_asked_spiral", "n_asked_bar", schema.COL_GZ3D, schema.COL_FITS, schema.COL_JPG, schema.COL_MARKS,
    schema.COL_SPIRAL_MASK, schema.COL_BAR_MASK,
)  # fmt: skip


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Put what people look for first."""
    first = [name for name in _FIRST if name in frame]
    return frame[first + [name for name in frame.columns if name not in first]]


def _summary(out: Path, frame: pd.DataFrame, notes: list[str]) -> MasterSummary:
    counts = {
        "picture": schema.COL_JPG,
        "FITS cutout": schema.COL_FITS,
        "marks": schema.COL_MARKS,
        "scale": COL_PIXSCALE,
    }
    for label, question in (("GZ DESI fractions", "_fraction"), ("GZ2 votes", "-gz2_")):
        column = next((name for name in frame.columns if question in name), None)
        if column is not None:
            counts[label] = column
    return MasterSummary(
        out,
        len(frame),
        int(frame[COL_ID].nunique()),
        {label: int(frame[column].notna().sum()) for label, column in counts.items()},
        {name: int((frame["split"] == name).sum()) for name in SPLITS},
        tuple(notes),
    )
