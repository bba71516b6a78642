"""What a cross-match leaves behind: where its files go, rows that nothing matched, the histogram of separations.

Each file appears whole or not at all, and the same input gives the same bytes. Knows nothing of who won and why.
"""

from __future__ import annotations

import contextlib
import glob
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoobot_3d.catalog.pairs import Catalogue, Pairs
from zoobot_3d.errors import ConfigError
from zoobot_3d.io import atomic_path, write_figure

__all__ = ["OutputFiles", "plot_separations", "separation_histogram", "write_unmatched"]

_BINS = 50
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True)
class OutputFiles:
    """Where the outputs go."""

    matches: Path
    duplicates: Path
    unmatched_galaxies: Path
    unmatched_catalogue: Path
    histogram: Path
    plot: Path

    @classmethod
    def beside(cls, out: Path, inputs: Sequence[str | os.PathLike[str]]) -> OutputFiles:
        """Name them after the matches; none may be an input."""
        if out.suffix.lower() not in (".csv", ".parquet", ".pq", ".fits", ".fit"):
            raise ConfigError(f"{out}: matches are written as .csv, .parquet or .fits; choose one of these")
        stem, kind = out.with_suffix(""), out.suffix
        files = cls(
            out,
            *(Path(f"{stem}_{end}") for end in (f"duplicates{kind}", f"unmatched_galaxies{kind}")),
            *(Path(f"{stem}_{end}") for end in ("unmatched_catalogue.parquet", "separations.csv", "separations.png")),
        )
        given = {Path(path).resolve() for path in inputs}
        for path in files.all():
            if path.resolve() in given:
                raise ConfigError(f"{path}: is an input and would be overwritten; choose another --out")
        return files

    def all(self) -> list[Path]:
        """Every path."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def remove_old(self) -> None:
        """Remove the matches of an earlier run, and what a killed one left half-written."""
        self.matches.unlink(missing_ok=True)
        for path in self.all():
            for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                part.unlink(missing_ok=True)


def write_unmatched(
    path: Path,
    sky: Catalogue,
    name_column: str | None,
    rows: NDArray[np.int64],
    names: pd.Series | None,
    step: Callable[[int], None],
) -> tuple[int, int]:
    """Stream the catalogue's other rows into a Parquet file: row number from 0, name, position.

    Parameters
    ----------
    path : pathlib.Path
        File to write.
    sky : Catalogue
        The catalogue.
    name_column : str or None
        Its column of names.
    rows : numpy.ndarray
        (M,) sorted rows that matched.
    names : pandas.Series or None
        (M,) their names; other rows of the same name matched, too.
    step : callable
        Told how many rows are done.

    Returns
    -------
    n_left, n_repeats : int
        Rows written, and rows of the whole catalogue whose name is an earlier row's (0 if names are too many to hold).
    """
    columns = [*([name_column] if name_column else ()), sky.ra, sky.dec]
    ids: list[pa.ChunkedArray] = []
    n_left = start = 0
    with _parquet_writer(path) as write:
        for batch in sky.batches(columns):
            left = np.ones(batch.num_rows, np.bool_)
            left[rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)] - start] = False
            number = pa.array(np.arange(start, start + batch.num_rows), pa.int64())
            if name_column and names is not None:
                theirs = batch[name_column]
                if pa.types.is_dictionary(theirs.type):
                    theirs = theirs.cast(theirs.type.value_type)
                matched = pa.array(names.dropna().unique(), from_pandas=True).cast(theirs.type)
                left &= ~pc.is_in(theirs, value_set=matched).to_numpy()
                if sky.can_count_ids and not pa.types.is_null(theirs.type):
                    ids.append(theirs)
            kept = batch.add_column(0, "row", number).filter(pa.array(left))
            write(kept)
            n_left += kept.num_rows
            start += batch.num_rows
            step(batch.num_rows)
    if not ids:
        return n_left, 0
    every = pa.chunked_array([chunk for part in ids for chunk in part.chunks])
    return n_left, len(every) - every.null_count - pc.count_distinct(every, mode="only_valid").as_py()


@contextlib.contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Append tables to a Parquet file that appears when all are written; the first says the columns."""
    writer: pq.ParquetWriter | None = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        table = table.replace_schema_metadata(None)
        writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table.cast(writer.schema))

    with atomic_path(path) as temporary:
        try:
            yield write
        finally:
            if writer is not None:
                writer.close()


def separation_histogram(pairs: Pairs, radius: float, reach: float) -> tuple[pd.DataFrame, float]:
    """Count separations of nearest rows, and those that chance would give.

    Chance is what the density of rows in the outer ring (beyond the radius and half the reach, where no true match
    is) gives for galaxies without a nearer row.

    Parameters
    ----------
    pairs : Pairs
        All within reach.
    radius, reach : float
        Of matches, and as far as pairs are known; arcsec.

    Returns
    -------
    histogram : pandas.DataFrame
        ``from_arcsec``, ``to_arcsec``, ``galaxies``, ``expected_by_chance``.
    chance : float
        Galaxies expected to have an unrelated row within the radius.
    """
    edges = np.linspace(0, reach, _BINS + 1)
    n_galaxies = pairs.nearest.size
    inner = max(radius, reach / 2)
    in_ring = np.count_nonzero(pairs.separation > inner)
    density = in_ring / (n_galaxies * math.pi * (reach**2 - inner**2))  # rows per arcsec^2 around a galaxy
    counts = np.histogram(pairs.nearest[pairs.nearest <= reach], edges)[0]
    # Only a galaxy without a nearer row can have a stranger for its nearest.
    strangers = (n_galaxies - np.cumsum(counts) + counts) * density * math.pi
    table = {"from_arcsec": edges[:-1].round(6), "to_arcsec": edges[1:].round(6), "galaxies": counts}
    table["expected_by_chance"] = (strangers * np.diff(edges**2)).round(4)
    return pd.DataFrame(table), float(np.sum(strangers * np.diff(np.minimum(edges, radius) ** 2)))


def plot_separations(path: Path, histogram: pd.DataFrame, radius: float, chance: float) -> None:
    """Draw what `separation_histogram` counted, with the radius (arcsec) and the matches expected by chance."""
    with mpl.rc_context(_STYLE):
        write_figure(_figure(histogram, radius, chance), path)


def _figure(histogram: pd.DataFrame, radius: float, chance: float) -> Figure:
    """Draw the separations of nearest rows, and how many galaxies match within each radius."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.append(histogram["from_arcsec"], histogram["to_arcsec"].iloc[-1])
    counts, expected = histogram["galaxies"], histogram["expected_by_chance"]
    left.stairs(counts, edges, fill=True, color="#0072B2", label="nearest row")
    left.stairs(expected, edges, color="#D55E00", lw=1.5, label="expected by chance")
    left.set_yscale("symlog", linthresh=1)  # as log, but nothing can be drawn, too
    left.set(ylim=(0, max(10.0, 2.0 * counts.max())), xlim=(0, edges[-1]))
    left.set(xlabel="separation (arcsec)", ylabel=f"galaxies per {edges[1]:.2g} arcsec")
    right.plot(edges, np.append(0, np.cumsum(counts)), color="#0072B2", label="with a row within")
    right.plot(edges, np.append(0, np.cumsum(expected)), color="#D55E00", label="expected by chance")
    right.set(xlabel="radius (arcsec)", ylabel="galaxies", xlim=(0, edges[-1]), ylim=(0, None))
    for axes in (left, right):
        axes.axvline(radius, color="0.3", ls="--", lw=1, label=f"radius, {radius:g} arcsec ({chance:.1f} by chance)")
        axes.legend(frameon=False)
    return figure
