"""Pairs of near galaxies and catalogue rows, by KD-trees of unit vectors: the engine for tables of one machine.

A Parquet catalogue is streamed, position columns first and the columns to keep only of the rows that matched; a CSV or
FITS catalogue is read once, the needed columns of it. Unit vectors have no edge at RA 0 and no poles. Knows nothing of
who wins a match, nor of output files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import angular_separation
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zoobot_3d.catalog.positions import PositionReader, RaUnit
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import as_one_kind, read_table, table_columns

__all__ = ["Catalogue", "Pairs", "TableCatalogue", "separation", "unit_vectors"]

ARCSEC = np.pi / 180 / 3600
_TREE_ROWS = 1 << 20
"""Rows in one tree: the more, the fewer queries; a million take 0.2 s to build and 150 MB."""
_READ_ROWS = 1 << 17
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.int16(): pd.Int16Dtype()}

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Every pair of a galaxy and a catalogue row within reach, sorted by galaxy, then separation, then row.

    Attributes
    ----------
    galaxy, row : numpy.ndarray
        (P,) int64: which galaxy, which row of the catalogue.
    separation : numpy.ndarray
        (P,) arcsec.
    nearest : numpy.ndarray
        (G,) arcsec from each galaxy to its nearest row; beyond the reach NaN if the engine does not know.
    """

    galaxy: Rows
    row: Rows
    separation: Floats
    nearest: Floats

    @classmethod
    def build(cls, galaxy: Rows, row: Rows, apart: Floats, nearest: Floats, reach: float) -> Pairs:
        """Sort pairs, drop those beyond ``reach`` (arcsec), and bring ``nearest`` up to date with them."""
        order = np.lexsort((row, apart, galaxy))
        order = order[apart[order] <= reach]
        galaxy, row, apart = galaxy[order], row[order], apart[order]
        first = np.unique(galaxy, return_index=True)[1]
        nearest = nearest.copy()
        nearest[galaxy[first]] = apart[first]
        return cls(galaxy, row, apart, nearest)


class Catalogue(Protocol):
    """What an engine offers: a table of any size, of which positions can be found and rows taken.

    Attributes
    ----------
    name : str
        The file or folder, for messages.
    columns : list of str
        All that it has.
    ra, dec : str
        Those of the position.
    n_rows : int
    n_usable : int
        Rows with a position; known after `find`.
    ra_range : tuple of float
        Least and greatest right ascension, deg; known after `find`.
    can_count_ids : bool
        Whether all its names fit memory.
    """

    name: str
    columns: list[str]
    ra: str
    dec: str
    n_rows: int
    can_count_ids: bool

    @property
    def n_usable(self) -> int: ...  # noqa: D102 - above
    @property
    def ra_range(self) -> tuple[float, float]: ...  # noqa: D102 - above

    def keep(self, columns: Sequence[str]) -> None:
        """Say which columns will be asked for; called once, before `find`."""

    def find(self, ra: Floats, dec: Floats, reach: float, *, ra_factor: float, step: Callable[[int], None]) -> Pairs:
        """Find all pairs within ``reach`` arcsec of (G,) positions in deg; own ra is multiplied by ``ra_factor``."""
        ...

    def problems(self) -> list[str]:
        """Say what is wrong with its positions, a line each."""
        ...

    def take(self, rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
        """Rows in the order asked for, positions in deg."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterable[pa.Table]:
        """All rows in order, positions in deg (null where unusable)."""
        ...


def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """(N, 3) unit vectors of (N,) positions in deg."""
    right_ascension, declination = np.radians(ra), np.radians(dec)
    cosine = np.cos(declination)
    return np.column_stack([cosine * np.cos(right_ascension), cosine * np.sin(right_ascension), np.sin(declination)])


def separation(ra1: Floats, dec1: Floats, ra2: Floats, dec2: Floats) -> Floats:
    """Arcsec between (N,) positions in deg, by Vincenty's formula: good at any distance and at the poles."""
    return np.asarray(angular_separation(*map(np.radians, (ra1, dec1, ra2, dec2))), np.float64) / ARCSEC


class TableCatalogue:
    """A catalogue in a Parquet, CSV or FITS file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    ra, dec : str
        Columns.
    ra_unit : {"deg", "hour"}
        Unit of ``ra``.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    CatalogError
        If it has no such columns.
    """

    can_count_ids = True

    def __init__(self, path: Path, *, ra: str, dec: str, ra_unit: RaUnit) -> None:
        self.path, self.name, self.ra, self.dec, self.ra_unit = path, str(path), ra, dec, ra_unit
        self._parquet: pq.ParquetFile | None = None
        self._table: pa.Table | None = None
        self._units: dict[str, str] = {}  # of FITS and VOTable columns
        if path.suffix.lower() in (".parquet", ".pq"):
            with _one_line(path, "not a readable Parquet file"):
                # Without pre-buffering a row group is not held whole, however many columns are read.
                self._parquet = pq.ParquetFile(path, pre_buffer=False)
            names = self._parquet.schema_arrow.names
            self.columns = [name for name in names if not name.startswith("__index_level_")]
            self.n_rows: int = self._parquet.metadata.num_rows
        else:
            self.columns = table_columns(path)
            self.n_rows = 0
        self._reader = self._new_reader()

    @property
    def n_usable(self) -> int:
        """Rows with a position; known after `find`."""
        return self._reader.n_usable

    @property
    def ra_range(self) -> tuple[float, float]:
        """Least and greatest right ascension, deg; known after `find`."""
        return self._reader.ra_range

    def keep(self, columns: Sequence[str]) -> None:
        """Say which columns will be asked for: those of a CSV or FITS file are read here."""
        if self._parquet is None:
            wanted = list(dict.fromkeys([*columns, self.ra, self.dec]))
            frame = read_table(self.path, wanted)
            self._units = frame.attrs.get("units", {})
            self._table = pa.Table.from_pandas(as_one_kind(frame), preserve_index=False)
            self.n_rows = self._table.num_rows

    def find(self, ra: Floats, dec: Floats, reach: float, *, ra_factor: float, step: Callable[[int], None]) -> Pairs:
        """Find all pairs within ``reach`` arcsec of (G,) positions in deg; own ra is multiplied by ``ra_factor``.

        For each million rows a tree, asked for the nearest of every galaxy, and for all within reach.

        Raises
        ------
        CatalogError
            If no row has a usable position.
        """
        reader = self._new_reader()
        vectors = unit_vectors(ra, dec)
        galaxies = cKDTree(vectors)
        chord = 2 * np.sin(reach * ARCSEC / 2) * (1 + 1e-9) + 1e-15  # a hair too far: the angle decides
        nearest = np.full(ra.size, np.inf)
        pairs: list[tuple[Rows, Rows, Floats]] = []
        start = 0
        for batch in self._read([self.ra, self.dec], _TREE_ROWS):
            their_ra, their_dec = reader.read(*_position_columns(batch, self.ra, self.dec))
            rows = np.flatnonzero(np.isfinite(their_ra))
            if rows.size:
                their_ra, their_dec = (their_ra[rows] * ra_factor) % 360, their_dec[rows]
                # Unbalanced trees are twice as fast to build, and are asked only once.
                tree = cKDTree(unit_vectors(their_ra, their_dec), balanced_tree=False, compact_nodes=False)
                nearest = np.minimum(nearest, tree.query(vectors, workers=-1)[0])
                found = galaxies.sparse_distance_matrix(tree, chord, output_type="ndarray")
                i, j = found["i"].astype(np.int64), found["j"].astype(np.int64)
                pairs.append((i, rows[j] + start, separation(ra[i], dec[i], their_ra[j], their_dec[j])))
            start += batch.num_rows
            step(batch.num_rows)
        if ra_factor == 1:
            self._reader = reader
        reader.require_some()
        galaxy, row, apart = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        angle = 2 * np.arcsin(np.clip(nearest / 2, 0, 1)) / ARCSEC
        return Pairs.build(galaxy, row, apart, angle, reach)

    def problems(self) -> list[str]:
        """Say what is wrong with its positions, a line each; known after `find`."""
        return self._reader.problems()

    def take(self, rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
        """Rows in the order asked for, positions in deg."""
        wanted, back = np.unique(rows, return_inverse=True)
        columns = list(dict.fromkeys(columns))
        if self._table is not None:
            table = self._table.select(columns).take(pa.array(wanted))
        else:
            table = self._take_parquet(wanted, columns)
        # Long names as integers must not pass through floats for the sake of a null.
        nulls = any(pa.types.is_integer(column.type) and column.null_count for column in table.columns)
        frame = self._in_degrees(table).to_pandas(types_mapper=_NULLABLE.get if nulls else None)
        return frame.iloc[back].reset_index(drop=True)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """All rows in order, positions in deg (null where unusable)."""
        for batch in self._read(columns, _TREE_ROWS):
            yield self._in_degrees(batch)

    def _new_reader(self) -> PositionReader:
        return PositionReader(
            self.name, self.columns, ra=self.ra, dec=self.dec, ra_unit=self.ra_unit, units=self._units
        )

    def _in_degrees(self, table: pa.Table) -> pa.Table:
        if self.ra not in table.column_names or self.dec not in table.column_names:
            return table
        for name, values in zip(
            (self.ra, self.dec),
            self._new_reader().read(*_position_columns(table, self.ra, self.dec)),
            strict=True,
        ):
            table = table.set_column(table.column_names.index(name), name, pa.array(values, from_pandas=True))
        return table

    def _read(self, columns: Sequence[str], n_rows: int) -> Iterator[pa.Table]:
        """All rows in pieces of at least ``n_rows``, but for the last; row groups may be small."""
        if self._table is not None:
            table = self._table.select(list(columns))
            for start in range(0, table.num_rows, n_rows):
                yield table.slice(start, n_rows)
            return
        assert self._parquet is not None
        held: list[pa.RecordBatch] = []
        with _one_line(self.path, "damaged Parquet file"):
            for batch in self._parquet.iter_batches(_READ_ROWS, columns=list(columns)):
                held.append(batch)
                if sum(part.num_rows for part in held) >= n_rows:
                    yield pa.Table.from_batches(held)
                    held = []
        if held:
            yield pa.Table.from_batches(held)

    def _take_parquet(self, rows: Rows, columns: list[str]) -> pa.Table:
        """Sorted rows, from the row groups that hold them."""
        assert self._parquet is not None
        schema = pa.schema([self._parquet.schema_arrow.field(name) for name in columns])
        found = [schema.empty_table()]
        start = 0
        for group in range(self._parquet.num_row_groups):
            end = start + self._parquet.metadata.row_group(group).num_rows
            if np.searchsorted(rows, end) > np.searchsorted(rows, start):
                with _one_line(self.path, "damaged Parquet file"):
                    for batch in self._parquet.iter_batches(_READ_ROWS, row_groups=[group], columns=columns):
                        inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)]
                        found.append(pa.Table.from_batches([batch.take(pa.array(inside - start))]).select(columns))
                        start += batch.num_rows
            start = end
        return pa.concat_tables(found, promote_options="permissive")


@contextlib.contextmanager
def _one_line(path: Path, what: str) -> Iterator[None]:
    """Turn what a library says of a file into one line."""
    try:
        yield
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, ValueError, IndexError, AttributeError, pa.ArrowException) as error:
        raise BadFileError(path, f"{what} ({error})".replace("\n", " "), "make or fetch it again") from None


def _position_columns(table: pa.Table, ra: str, dec: str) -> tuple[pd.Series[Any], pd.Series[Any]]:
    frame = table.select([ra, dec]).to_pandas()
    return frame[ra], frame[dec]
