"""Catalogues: a row a galaxy. Reading and checking them, and the split that never changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.errors import CatalogError
from zoobot_3d.io import read_table

__all__ = ["SPLITS", "assign_split", "catalog_root", "read_catalog"]

SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Fractions of the galaxies, as in the NeurIPS 2023 paper."""


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


def read_catalog(path: str | os.PathLike[str], required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a catalogue (CSV, Parquet or FITS) and check that it has the columns a step needs.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    CatalogError
        If it is empty or misses columns; the message names them.
    """
    frame = read_table(path)
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise CatalogError(
            f"{os.fspath(path)}: no column {', '.join(missing)} (it has {', '.join(map(str, frame.columns[:12]))}"
            f"{', ...' if len(frame.columns) > 12 else ''}); rename or add the column"
        )
    if frame.empty:
        raise CatalogError(f"{os.fspath(path)}: the catalogue has no rows")
    return frame


def catalog_root(path: str | os.PathLike[str]) -> Path:
    """Find the folder that a catalogue's relative paths hang on: the survey that holds it.

    A master catalogue lies in ``<root>/data``; any other lies in its root.
    """
    folder = Path(path).resolve().parent
    return folder.parent if folder.name == "data" else folder
