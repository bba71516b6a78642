"""The split of the galaxies into those to train with, to validate with and to test with; it never changes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.errors import CatalogError
from zoobot_3d.schema import COL_ID

__all__ = ["SPLITS", "SPLIT_WORDS", "assign_split", "split_of"]

SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Fractions of the galaxies, as in the NeurIPS 2023 paper."""

SPLIT_WORDS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
"""Other words for the splits that are understood."""


def assign_split(ids: Iterable[object]) -> NDArray[np.str_]:
    """Put each galaxy into train, val or test by a hash of its name, 70/10/20.

    The split of a galaxy depends on nothing but its name, so it stays when rows are added, removed or sorted, and
    repeated observations of one galaxy under one name stay together.

    Parameters
    ----------
    ids : iterable
        Names of the galaxies; compared as text.

    Returns
    -------
    numpy.ndarray
        (N,) of ``"train"``, ``"val"``, ``"test"``.
    """
    edges = np.cumsum(list(SPLITS.values()))[:-1]
    digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids)
    uniform = np.array([int.from_bytes(digest, "big") for digest in digests], np.float64) / 2.0**64
    return np.array(list(SPLITS))[np.searchsorted(edges, uniform, side="right")]


def split_of(catalog: pd.DataFrame) -> NDArray[np.str_]:
    """Tell which split each row is in: what its ``split`` says or, where that is empty or no column, `assign_split`.

    Parameters
    ----------
    catalog : pandas.DataFrame
        With ``dr8_id``.

    Returns
    -------
    numpy.ndarray
        (N,) of ``"train"``, ``"val"``, ``"test"``. Capitals and the words of `SPLIT_WORDS` are understood, with a
        warning.

    Raises
    ------
    CatalogError
        If ``split`` holds other words, or a galaxy is in two splits; how many, and the first.
    """
    by_name = assign_split(catalog[COL_ID])
    if "split" not in catalog:
        return by_name
    words = catalog["split"].fillna("").astype(str).str.strip()
    known = words.str.lower().replace(SPLIT_WORDS)
    unknown = words[~known.isin(["", *SPLITS])].value_counts()
    if len(unknown):
        told = ", ".join(f"{count:,} x {word!r}" for word, count in unknown.items())
        raise CatalogError(f"split: unknown words, {told}; use {', '.join(SPLITS)}, or leave it empty")
    renamed = words[words != known].value_counts()
    if len(renamed):
        told = ", ".join(f"{count:,} x {word!r}" for word, count in renamed.items())
        warnings.warn(f"split: {told} taken for {', '.join(dict.fromkeys(known[words != known]))}", stacklevel=2)
    split = np.where(known == "", by_name, known.to_numpy(str))
    several = pd.Series(split).groupby(catalog[COL_ID].astype(str).to_numpy()).nunique()
    twice = several.index[several > 1]
    if len(twice):
        raise CatalogError(
            f"split: {len(twice):,} galaxies are in two splits, the first is {twice[0]}; give all rows of a galaxy one"
        )
    return split
