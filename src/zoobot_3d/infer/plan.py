"""What a prediction has to do: which galaxies are new, which have changed, which failed before, and where rows go.

Must not know networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy import units
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from zoobot_3d.infer.rows import stamped
from zoobot_3d.infer.shards import ShardLog

__all__ = ["Plan", "known_rows", "make_plan", "replaced", "with_stamps"]

_SKY = HEALPix(nside=2**12, order="nested")  # pixels of 52 arcsec: a shard of a survey is some square degrees
_KNOWN = ("id", "path", "file_stem", "error")


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes
    ----------
    todo : list
        Shards to write, each a number and the galaxies to predict for it.
    kept : int
        Galaxies of the input whose rows stay.
    known : pandas.DataFrame
        ``stamp`` and ``error`` of all galaxies of earlier runs, by ``id``.
    changed : int
        Galaxies whose picture, position or scale has changed, of those that were predicted before.
    left : int
        Galaxies of earlier runs that the input does not name.
    names : set of str
        All galaxies of the input.
    failed : set of str
        Galaxies of the input that had failed in earlier runs.
    """

    todo: list[tuple[int, pd.DataFrame]]
    kept: int
    known: pd.DataFrame
    changed: int
    left: int
    names: set[str]
    failed: set[str]


def known_rows(log: ShardLog, shards: dict[int, Path]) -> pd.DataFrame:
    """Read what earlier runs have predicted: ``id``, ``path``, ``file_stem``, ``error``, ``stamp`` and ``shard``.

    ``id`` is text, also where it is an integer in the shards. ``stamp`` is empty where it is not known.
    """
    frames = []
    for number, path in shards.items():
        there = [name for name in _KNOWN if name in pq.read_schema(path).names]
        frame = pd.read_parquet(path, columns=there).assign(shard=number)
        stamps = log.stamps(path.name)
        names = frame["id"].astype(str)
        frames.append(frame.assign(id=names, stamp=[stamps.get(name, "") for name in names]))
    columns = [*_KNOWN, "stamp", "shard"]
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    known = pd.concat(frames, ignore_index=True).reindex(columns=columns).drop_duplicates("id", keep="last")
    return known.astype({"stamp": object, "file_stem": object}).fillna({"stamp": "", "file_stem": ""})


def make_plan(galaxies: pd.DataFrame, before: pd.DataFrame, shard_size: int) -> Plan:
    """Compare the galaxies asked for with what is there.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        From `zoobot_3d.catalog.listing.list_galaxies`.
    before : pandas.DataFrame
        From `known_rows`.
    shard_size : int
        Galaxies in a new shard.

    Returns
    -------
    Plan
        New galaxies get new shards, under the numbers that are free; others stay where they are. Those whose position
        is known go by HEALPix pixel, so that a shard is one part of the sky; the others follow. Within a shard they
        keep the order of the input, so that a table that fits in one shard comes back as it was.
    """
    stems = {name: stem for name, stem in zip(before["id"], before["file_stem"], strict=True) if stem}
    galaxies = stamped(_with_earlier_names(galaxies, before), stems)
    old = before.set_index("id").reindex(galaxies["id"].to_numpy())
    is_new = old["shard"].isna().to_numpy()
    failed = ~is_new & old["error"].notna().to_numpy()
    differs = ~is_new & (old["stamp"].to_numpy() != galaxies["stamp"].to_numpy())
    taken = {int(number) for number in before["shard"].unique()}
    known = differs & (old["stamp"].to_numpy() != "")
    again = differs | failed
    return Plan(
        [*_again(galaxies[again], old["shard"].to_numpy()[again]), *_new(galaxies[is_new], taken, shard_size)],
        int((~is_new & ~again).sum()),
        before.set_index("id")[["stamp", "error"]],
        int((known & ~failed).sum()),
        len(set(before["id"]) - set(galaxies["id"])),
        set(galaxies["id"]),
        set(galaxies["id"][failed]),
    )


def _again(galaxies: pd.DataFrame, home: NDArray[Any]) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield shards that hold rows to predict again."""
    shards = home.astype(int)
    for number in np.unique(shards):
        yield int(number), galaxies[shards == number]


def _sky_order(galaxies: pd.DataFrame) -> NDArray[np.intp]:
    """Order galaxies by HEALPix pixel, those without a position last; equal ones keep their order."""
    ra, dec = (galaxies[name].to_numpy(np.float64) for name in ("ra", "dec"))
    known = np.isfinite(ra) & np.isfinite(dec)
    pixels = np.full(len(galaxies), _SKY.npix)
    pixels[known] = _SKY.lonlat_to_healpix(ra[known] * units.deg, dec[known] * units.deg)
    return np.argsort(pixels, kind="stable")


def _new(galaxies: pd.DataFrame, taken: set[int], shard_size: int) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield new shards, each a part of the sky, under the numbers that are free."""
    number, order = 0, _sky_order(galaxies)
    for start in range(0, len(galaxies), shard_size):
        while number in taken:
            number += 1
        yield number, galaxies.iloc[np.sort(order[start : start + shard_size])]
        number += 1


def _with_earlier_names(galaxies: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Keep the names of pictures that are named after their files: one picture more may have changed the others'."""
    if not galaxies.attrs.get("named_by_file"):
        return galaxies
    earlier = dict(zip(before["path"], before["id"], strict=True))
    taken = set(galaxies["id"])
    names = []
    for name, path in zip(galaxies["id"], galaxies["path"], strict=True):
        known = earlier.get(path, name)
        names.append(name if known in taken else known)
        taken.add(names[-1])
    renamed = galaxies.assign(id=names)
    renamed.attrs |= galaxies.attrs
    return renamed


def with_stamps(path: Path, stamps: pd.Series) -> pd.DataFrame:
    """Read a shard, with the stamps of its rows."""
    frame = pd.read_parquet(path)
    return frame.assign(stamp=stamps.reindex(frame["id"].astype(str).to_numpy()).fillna("").to_numpy())


def replaced(earlier: pd.DataFrame | None, fresh: pd.DataFrame) -> pd.DataFrame:
    """Put fresh rows in the place of those of the same galaxies."""
    if earlier is None:
        return fresh
    places = dict(zip(fresh["id"], range(len(fresh)), strict=True))
    order = [places.get(name) for name in earlier["id"]]
    both = pd.concat([earlier, fresh], ignore_index=True)
    rows = [index if place is None else len(earlier) + place for index, place in enumerate(order)]
    return both.iloc[rows].astype(fresh.dtypes.to_dict()).reset_index(drop=True)
