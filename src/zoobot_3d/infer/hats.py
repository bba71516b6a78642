"""The rows of a prediction as a HATS catalogue, which LSDB cross-matches with other surveys (extra ``lsdb``).

HATS is a folder of Parquet files by HEALPix pixel, with a margin of galaxies just outside each: a whole catalogue,
unlike the files of one galaxy in `zoobot_3d.infer.export`. Asks no network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.infer.predictions import read_rows

__all__ = ["HATS", "HatsSummary", "export_hats"]

HATS = "hats"
"""Subfolder of a prediction for its HATS catalogue."""

_NAME = "masks"  # of the catalogue in its collection
_MARK = "collection.properties"  # what LSDB knows a collection by


@dataclass(frozen=True)
class HatsSummary:
    """What `export_hats` did; as text, a line to read.

    Attributes
    ----------
    rows : int
        Galaxies in the catalogue, those without masks among them.
    unplaced : int
        Galaxies whose position is not known; they are left out.
    out : pathlib.Path
        The catalogue.
    """

    rows: int
    unplaced: int
    out: Path

    def __str__(self) -> str:
        """Say how many."""
        more = f"; {self.unplaced:,} galaxies without a position are left out" if self.unplaced else ""
        return f"{self.out}: HATS catalogue of {self.rows:,} galaxies{more}"


def export_hats(
    predictions: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None, margin: float = 10.0
) -> HatsSummary:
    """Write the rows of a prediction as a HATS catalogue with a margin.

    It has every column of the shards but the pictures of masks, which ``id`` finds in the shards. All rows are in
    memory at once. The catalogue appears whole; an earlier one is replaced.

    Parameters
    ----------
    predictions : path
        Folder that `zoobot_3d.predict` wrote.
    out : path, optional
        Folder for the catalogue, a HATS collection; by default ``hats`` in `predictions`.
    margin : float
        Width of the margin in arcsec; a cross-match finds all matches within radii up to this.

    Returns
    -------
    HatsSummary

    Raises
    ------
    BadFileError
        If there are no shards, one is damaged, or ``out`` holds something else.
    CatalogError
        If no galaxy has a position.
    ConfigError
        If LSDB is not installed, or the margin is not positive.
    """
    if importlib.util.find_spec("lsdb") is None:
        raise ConfigError("HATS catalogues need LSDB; install it with: pip install 'zoobot-3d[lsdb]'")
    if not (np.isfinite(margin) and margin > 0):
        raise ConfigError(f"--margin {margin:g}: give a positive number of arcsec, such as 10")
    target = Path(out) if out is not None else Path(predictions) / HATS
    if target.exists() and not (target / _MARK).exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadFileError(target, "holds something that is no HATS catalogue", "choose another --out")
    rows = read_rows(predictions)
    placed = rows[np.isfinite(rows["ra"]) & np.isfinite(rows["dec"])]
    if placed.empty:
        raise CatalogError(f"{os.fspath(predictions)}: no galaxy has a position, so there is nothing to export")
    with folder_lock(target.parent, "an export of a HATS catalogue", f".{target.name}.lock"), _whole(target) as folder:
        _write(placed.reset_index(drop=True), folder, margin)
    return HatsSummary(len(placed), len(rows) - len(placed), target)


def _write(rows: pd.DataFrame, folder: Path, margin: float) -> None:
    import lsdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a margin without galaxies, as of any small catalogue
        catalogue = lsdb.from_dataframe(
            rows, ra_column="ra", dec_column="dec", catalog_name=_NAME, margin_threshold=margin
        )
        catalogue.write_catalog(folder, catalog_name=_NAME, progress_bar=False)


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of another when the with-block ends well."""
    new, old = (target.with_name(f".{target.name}.{what}") for what in ("new", "old"))
    for path in (new, old):  # of a run that was killed
        shutil.rmtree(path, ignore_errors=True)
    try:
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)
