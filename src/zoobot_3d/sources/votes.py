"""Volunteers' votes of Galaxy Zoo campaigns, read from published tables into this package's columns.

Columns become ``<question>-<campaign>_<answer>``, whole numbers of people. Knows tables; nothing of where they come
from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d import schema
from zoobot_3d.catalog.pairs import TableCatalogue
from zoobot_3d.catalog.positions import read_positions, require_columns
from zoobot_3d.errors import CatalogError
from zoobot_3d.io import read_table, table_columns

__all__ = ["FIRST_VOTES", "combine_desi_votes", "hart_columns", "read_desi_votes", "read_gz2_votes"]

FIRST_VOTES = tuple(f"smooth-or-featured_{answer}" for answer in schema.GZ_DESI_QUESTIONS[0].answers)
"""Columns that every table of GZ DECaLS and GZ DESI votes has: the first question is asked of everybody."""

_START = (schema.COL_ID, schema.COL_RA, schema.COL_DEC)
_RADIUS = 3.0
"""Arcsec: the knee of matches against radius for galaxies of these surveys."""


# GZ DESI and GZ DECaLS


def read_desi_votes(path: str | os.PathLike[str], campaign: str) -> pd.DataFrame:
    """Read volunteers' votes of one GZ DECaLS or GZ DESI campaign.

    Parameters
    ----------
    path : path
        A table of Zenodo 8360385 or 4573248: votes in ``<question>_<answer>``, beside fractions and totals.
    campaign : str
        ``dr12`` (GZD-1 and -2), ``dr5`` or ``dr8``: what the columns are named after.

    Returns
    -------
    pandas.DataFrame
        ``dr8_id`` (missing where the table has none), ``ra``, ``dec`` (deg; NaN where unusable), and int32
        ``<question>-<campaign>_<answer>`` with the answers that this campaign offered.

    Raises
    ------
    BadFileError, CatalogError
        If the file cannot be read, has no votes, or has numbers of votes that cannot be.
    """
    questions = "|".join(re.escape(question.name) for question in schema.GZ_DESI_QUESTIONS)
    is_votes = re.compile(rf"({questions})_(?!total)[^_]+").fullmatch
    have = table_columns(path)
    votes = [name for name in have if is_votes(name)]
    require_columns(have, (schema.COL_RA, schema.COL_DEC, *FIRST_VOTES), os.fspath(path))
    frame = read_table(path, [name for name in (schema.COL_ID, schema.COL_RA, schema.COL_DEC, *votes) if name in have])
    if schema.COL_ID not in frame:
        frame.insert(0, schema.COL_ID, None)
    names = {name: name.replace("_", f"-{campaign}_", 1) for name in votes}
    return _as_votes(frame, schema.COL_ID, names, os.fspath(path))


def combine_desi_votes(tables: Iterable[pd.DataFrame], names: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Put the votes of several campaigns into one table, a row for each galaxy.

    Parameters
    ----------
    tables : iterable of pandas.DataFrame
        From `read_desi_votes`.
    names : path, optional
        Parquet table with ``dr8_id``, ``ra`` and ``dec``: rows without ``dr8_id`` get that of the nearest galaxy there
        within 3 arcsec. It is streamed, and may be as long as GZ DESI.

    Returns
    -------
    pandas.DataFrame
        ``dr8_id`` (missing where unknown), ``ra``, ``dec`` (deg, of the first table that has the galaxy), and int32
        votes of campaigns dr12, dr5 and dr8, 0 where a galaxy was not in one; rows of one ``dr8_id`` are added up.
    """
    frame = pd.concat(tables, ignore_index=True)
    if names is not None:
        frame[schema.COL_ID] = _name(frame, names)
    columns = [
        column
        for campaign in ("dr12", "dr5", "dr8")
        for question in schema.CAMPAIGNS[campaign]
        for column in question.vote_columns(campaign)
    ]
    columns += sorted(set(frame.columns) - {*_START, *columns})
    frame = frame.reindex(columns=[*_START, *columns])
    frame[columns] = frame[columns].fillna(0).astype("int32")
    unnamed = frame[schema.COL_ID].isna()
    if frame.loc[~unnamed, schema.COL_ID].duplicated().any():
        group = frame[schema.COL_ID].where(~unnamed, frame.index.to_series())
        how = dict.fromkeys(_START, "first") | dict.fromkeys(columns, "sum")
        frame = frame.groupby(group.to_numpy(), sort=False).agg(how).reset_index(drop=True)
        frame[columns] = frame[columns].astype("int32")
    return frame


def _name(frame: pd.DataFrame, path: str | os.PathLike[str]) -> pd.Series:
    """``dr8_id`` of rows that have none, from the nearest position in another table."""
    where = np.flatnonzero(frame[schema.COL_ID].isna() & frame[schema.COL_RA].notna())
    ids = frame[schema.COL_ID].astype(object)
    if not where.size:
        return ids
    sky = TableCatalogue(Path(path), ra=schema.COL_RA, dec=schema.COL_DEC, ra_unit="deg")
    sky.keep([schema.COL_ID])
    position = frame.iloc[where][[schema.COL_RA, schema.COL_DEC]].to_numpy(np.float64)
    pairs = sky.find(position[:, 0], position[:, 1], _RADIUS, ra_factor=1.0, step=lambda rows: None)
    galaxy, first = np.unique(pairs.galaxy, return_index=True)  # pairs are sorted by separation
    ids.iloc[where[galaxy]] = sky.take(pairs.row[first], [schema.COL_ID])[schema.COL_ID].astype(object).to_numpy()
    return ids


# GZ2

_HART_ANSWERS = {
    "smooth-or-featured": ("t01_smooth_or_features", ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact")),
    "disk-edge-on": ("t02_edgeon", ("a04_yes", "a05_no")),
    "bar": ("t03_bar", ("a06_bar", "a07_no_bar")),
    "has-spiral-arms": ("t04_spiral", ("a08_spiral", "a09_no_spiral")),
    "bulge-size": (
        "t05_bulge_prominence",
        ("a10_no_bulge", "a11_just_noticeable", "a12_obvious", "a13_dominant"),
    ),
    "how-rounded": ("t07_rounded", ("a16_completely_round", "a17_in_between", "a18_cigar_shaped")),
    "bulge-shape": ("t09_bulge_shape", ("a25_rounded", "a26_boxy", "a27_no_bulge")),
    "spiral-winding": ("t10_arms_winding", ("a28_tight", "a29_medium", "a30_loose")),
    "spiral-arm-count": ("t11_arms_number", ("a31_1", "a32_2", "a33_3", "a34_4", "a36_more_than_4", "a37_cant_tell")),
}
"""Task and answers in the columns of Hart et al. 2016, in the order of `schema.GZ2_QUESTIONS`' answers."""


def hart_columns() -> dict[str, str]:
    """Columns of votes in the table of Hart et al. 2016, without their ending ``_count``, to those of this package."""
    return {
        f"{_HART_ANSWERS[question.name][0]}_{theirs}": ours
        for question in schema.GZ2_QUESTIONS
        for theirs, ours in zip(_HART_ANSWERS[question.name][1], question.vote_columns("gz2"), strict=True)
    }


def read_gz2_votes(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read volunteers' votes of Galaxy Zoo 2.

    Parameters
    ----------
    path : path
        CSV (gzipped or not), Parquet or FITS, in the columns of Hart et al. 2016 (``t04_spiral_a08_spiral_count``) or
        in those of this package (``has-spiral-arms-gz2_yes``).

    Returns
    -------
    pandas.DataFrame
        ``dr7objid`` (int64), ``ra``, ``dec`` (deg; NaN where unusable), and int32 ``<question>-gz2_<answer>``.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    CatalogError
        If columns are missing, no position is usable, or numbers of votes or identifiers cannot be.
    """
    have = table_columns(path)
    hart = {f"{theirs}_count": ours for theirs, ours in hart_columns().items()}
    names = hart if any(name in have for name in hart) else {ours: ours for ours in hart.values()}
    wanted = ["dr7objid", schema.COL_RA, schema.COL_DEC, *names]
    require_columns(have, wanted, os.fspath(path))
    frame = read_table(path, wanted)
    frame["dr7objid"] = _whole(frame["dr7objid"], os.fspath(path))
    return _as_votes(frame, "dr7objid", names, os.fspath(path))


# Both


def _as_votes(frame: pd.DataFrame, id_column: str, names: dict[str, str], source: str) -> pd.DataFrame:
    """Rename columns of votes and make them integers; check that they can be numbers of people."""
    ra = dec = np.empty(0)
    if len(frame):  # nobody may have been asked
        positions = read_positions(frame, name=source)
        ra, dec = positions.ra, positions.dec
    votes = {}
    for column, name in names.items():
        counts = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = ~((counts >= 0) & (counts < 1e5) & (counts == np.floor(counts)))
        if bad.any():
            raise CatalogError(
                f"{source}: {bad.sum()} of {len(frame)} rows have no whole number of votes in {column} "
                f"(first: row {int(np.argmax(bad))}); fetch it again, or drop them"
            )
        votes[name] = counts.astype(np.int32)
    start = {id_column: frame[id_column], schema.COL_RA: ra, schema.COL_DEC: dec}
    return pd.DataFrame({**start, **votes})


def _whole(column: pd.Series, source: str) -> pd.Series:
    """Make identifiers of 18 digits int64; those that were floating point are refused, as they were rounded."""
    if column.dtype.kind in "iu" or column.empty:
        return column.astype("int64")
    text = column.astype(str).str.strip()
    bad = ~text.str.fullmatch(r"\d{1,18}").to_numpy(np.bool_)
    if bad.any():
        raise CatalogError(
            f"{source}: {bad.sum()} of {len(column)} rows have no whole {column.name} (first: row "
            f"{int(np.argmax(bad))}); read identifiers as integers, floating point loses their last digits"
        )
    return text.astype("int64")
