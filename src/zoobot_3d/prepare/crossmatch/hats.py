"""Pairs of near galaxies and catalogue rows, by LSDB: the engine for HATS catalogues that do not fit one machine.

A HATS catalogue is a folder of Parquet files by HEALPix pixel; LSDB works through them with Dask, on the client that is
active in this process (see `zoobot_3d.compute.cluster.active_cluster`), or else in threads. Knows nothing of who wins a
match, nor of output files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.spatial import cKDTree

from zoobot_3d.catalog.pairs import ARCSEC, Floats, Pairs, Rows, separation, unit_vectors
from zoobot_3d.catalog.positions import RaUnit, require_columns
from zoobot_3d.errors import BadFileError, ConfigError, Zoobot3DError

__all__ = ["HatsCatalogue"]

_ROW, _GALAXY = "_zoobot3d_row", "_zoobot3d_galaxy"
_OWN = f"{_GALAXY}_side"


class HatsCatalogue:
    """A catalogue in HATS format.

    Rows are numbered from 0 in the order of its HEALPix pixels. The catalogue needs no margin cache: it is the left
    side of the cross-match, and the galaxies, which fit memory, get a margin as wide as the reach, so that no pair is
    lost at the border of a pixel.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    ra, dec : str
        Columns; ``ra`` and ``dec`` stand for those that the catalogue's properties name.
    ra_unit : {"deg"}
        HATS positions are in degrees.

    Raises
    ------
    ConfigError
        If LSDB is not installed, or other units or columns are asked for than the catalogue is sorted by.
    BadFileError
        If the folder is no HATS catalogue.
    """

    can_count_ids = False

    def __init__(self, path: Path, *, ra: str, dec: str, ra_unit: RaUnit) -> None:
        try:
            import lsdb
        except ImportError:
            raise ConfigError("engine lsdb needs LSDB; install it with pip install 'zoobot-3d[lsdb]'") from None
        self.path, self.name = path, str(path)
        if not path.exists():
            raise BadFileError(path, "no such folder", "check the path")
        try:
            info = lsdb.open_catalog(path).hc_structure.catalog_info
            self.columns = [str(name) for name in lsdb.open_catalog(path, columns="all").columns]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadFileError(
                path,
                f"not a HATS catalogue ({' '.join(str(error).split())})",
                "give its folder, or use the engine tree",
            ) from None
        self.ra, self.dec = str(info.ra_column), str(info.dec_column)
        if ra_unit != "deg":
            raise ConfigError(f"{path}: positions of HATS catalogues are in degrees; leave out the catalogue's ra_unit")
        if ra not in ("ra", self.ra) or dec not in ("dec", self.dec):
            raise ConfigError(f"{path}: is sorted by {self.ra}, {self.dec}; cross-match with these columns")
        require_columns(self.columns, (self.ra, self.dec), self.name)
        self.n_rows = self.n_usable = int(info.total_rows or 0)
        self.ra_range = (0.0, 360.0)
        self._keep: list[str] = []
        self._found = pd.DataFrame()

    def keep(self, columns: Sequence[str]) -> None:
        """Say which columns will be asked for."""
        self._keep = list(dict.fromkeys([*columns, self.ra, self.dec]))

    def find(self, ra: Floats, dec: Floats, reach: float, *, ra_factor: float, step: Callable[[int], None]) -> Pairs:
        """Find all pairs within ``reach`` arcsec of (G,) positions in deg; ``ra_factor`` is 1, for HATS is in degrees.

        Only columns said to `keep` leave the workers, of rows within reach.
        """
        import lsdb

        galaxies = pd.DataFrame({_GALAXY: np.arange(ra.size), f"{_OWN}_ra": ra, f"{_OWN}_dec": dec})
        with _quiet():
            right = lsdb.from_dataframe(
                galaxies,
                ra_column=f"{_OWN}_ra",
                dec_column=f"{_OWN}_dec",
                catalog_name="galaxies",
                margin_threshold=1.01 * reach,
                should_generate_moc=False,
            )
            pairs = self._open(self._keep).map_partitions(_number, self._starts(), include_pixel=True)
            pairs = pairs.crossmatch(
                right,
                n_neighbors=_most_within(ra, dec, reach),
                radius_arcsec=1.001 * reach,  # the exact separation decides below
                suffixes=("", "_right"),
                suffix_method="overlapping_columns",
                log_changes=False,
                require_right_margin=True,
            )
            found = _compute([pairs.to_dask_dataframe()])[0]
        step(self.n_rows)
        row, galaxy = (found[name].to_numpy(np.int64) for name in (_ROW, _GALAXY))
        theirs = (found[name].to_numpy(np.float64) for name in (self.ra, self.dec))
        apart = separation(ra[galaxy], dec[galaxy], *theirs)
        self._found = _plain(found[[_ROW, *self._keep]]).drop_duplicates(_ROW).set_index(_ROW)
        return Pairs.build(galaxy, row, apart, np.full(ra.size, np.nan), reach)

    def problems(self) -> list[str]:
        """Say what is wrong with its positions: nothing, for they were sorted when it was made."""
        return []

    def take(self, rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
        """Rows in the order asked for, of those that `find` found."""
        return self._found.loc[rows, list(columns)].reset_index(drop=True)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """All rows in order, a partition at a time."""
        for partition in self._open(list(columns)).to_delayed():
            yield pa.Table.from_pandas(
                _plain(_compute([partition])[0])[list(columns)].astype({self.ra: np.float64, self.dec: np.float64}),
                preserve_index=False,
            )

    def _open(self, columns: list[str]) -> Any:
        import lsdb

        return lsdb.open_catalog(self.path, columns=columns)

    def _starts(self) -> dict[tuple[int, int], int]:
        """Say which row is the first of each pixel."""
        import dask

        catalogue = self._open([self.ra])
        counts = _compute([dask.delayed(len)(partition) for partition in catalogue.to_delayed()])
        pixels = catalogue.get_ordered_healpix_pixels()
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return {(pixel.order, pixel.pixel): int(start) for pixel, start in zip(pixels, starts, strict=True)}


def _number(frame: Any, pixel: Any, starts: dict[tuple[int, int], int]) -> Any:
    """Add row numbers to a partition."""
    start = starts.get((pixel.order, pixel.pixel), 0)
    return frame.assign(**{_ROW: np.arange(start, start + len(frame), dtype=np.int64)})


def _most_within(ra: Floats, dec: Floats, reach: float) -> int:
    """No point of the sky has more galaxies within ``reach`` than some galaxy has within twice that."""
    tree = cKDTree(unit_vectors(ra, dec))
    chord = 2 * np.sin(2.01 * reach * ARCSEC / 2) + 1e-12
    return int(tree.query_ball_point(tree.data, chord, return_length=True).max())


def _compute(things: list[Any]) -> Sequence[Any]:
    import dask
    from distributed.scheduler import KilledWorker

    try:
        results: Sequence[Any] = dask.compute(*things)
    except KilledWorker as error:
        what = " ".join(str(error).split())
        raise Zoobot3DError(f"a worker of LSDB died ({what[:200]}); give workers more memory, or use fewer") from None
    return results


def _plain(frame: Any) -> pd.DataFrame:
    """Turn Arrow columns into those that `TableCatalogue` gives."""
    table = pa.Table.from_pandas(pd.DataFrame(frame), preserve_index=False)
    return table.to_pandas(ignore_metadata=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks on the size of partitions, meant for people who build catalogues, off the terminal."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
