"""The files, positions and votes that a catalogue names for each galaxy. Opens none of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.positions import PositionReader
from zoobot_3d.errors import CatalogError
from zoobot_3d.schema import (
    COL_BAR_MASK,
    COL_DEC,
    COL_DEC_MANGA,
    COL_FITS,
    COL_ID,
    COL_JPG,
    COL_MARKS,
    COL_PIXSCALE,
    COL_RA,
    COL_RA_MANGA,
    COL_SPIRAL_MASK,
)

__all__ = ["GalaxyFiles", "galaxy_files", "has_labels", "vote_counts"]


@dataclass(frozen=True)
class GalaxyFiles:
    """A catalogue row with its paths resolved.

    Attributes
    ----------
    row : object
        The row's label in the catalogue, for messages.
    name : str
        The galaxy.
    picture, cutout, marks : pathlib.Path or None
        JPEG, grz FITS, marks JSON.
    masks : tuple of (pathlib.Path or None)
        Mask pictures, spiral and bar.
    pixscale : float
        Arcsec per pixel of a 424 px picture.
    position, marked_at : tuple of float or None
        RA and dec in degrees of the picture's centre and of the frame volunteers saw.
    """

    row: object
    name: str
    picture: Path | None
    cutout: Path | None
    marks: Path | None
    masks: tuple[Path | None, Path | None]
    pixscale: float
    position: tuple[float, float] | None
    marked_at: tuple[float, float] | None

    def __str__(self) -> str:
        """Name row and galaxy, as messages do."""
        return f"row {self.row} ({self.name})"


def galaxy_files(catalog: pd.DataFrame, root: Path) -> list[GalaxyFiles]:
    """Resolve the paths and positions of every row of a catalogue.

    Parameters
    ----------
    catalog : pandas.DataFrame
        See `zoobot_3d.dataset.data.MaskDataset` for its columns.
    root : pathlib.Path
        Folder that relative paths start from.

    Raises
    ------
    CatalogError
        A column is missing, a pixel scale is not positive, or a position is not empty and cannot be used.
    """
    if missing := [name for name in (COL_ID, COL_PIXSCALE) if name not in catalog.columns]:
        raise CatalogError(f"catalogue: no column {', '.join(missing)}; rename or add it")
    scales = pd.to_numeric(catalog[COL_PIXSCALE], errors="coerce").to_numpy(float)
    bad = ~(np.isfinite(scales) & (scales > 0))
    if bad.any():
        raise CatalogError(
            f"catalogue: {bad.sum()} rows have no positive {COL_PIXSCALE}, the first is "
            f"{catalog[COL_ID].iloc[int(np.argmax(bad))]}; fill it or drop the rows"
        )
    marked_at = _positions(catalog, COL_RA_MANGA, COL_DEC_MANGA)
    position = _positions(catalog, COL_RA, COL_DEC)
    columns = [_paths(catalog, root, name) for name in (COL_JPG, COL_FITS, COL_MARKS, COL_SPIRAL_MASK, COL_BAR_MASK)]
    galaxies = []
    for index, (picture, cutout, marks, spiral, bar) in enumerate(zip(*columns, strict=True)):
        # Cutouts made by the earlier code are centred on the MaNGA target and carry no position of their own.
        centre = position[index] or marked_at[index]
        galaxies.append(
            GalaxyFiles(
                row=catalog.index[index],
                name=str(catalog[COL_ID].iloc[index]),
                picture=picture,
                cutout=cutout,
                marks=marks,
                masks=(spiral, bar),
                pixscale=float(scales[index]),
                position=centre,
                marked_at=marked_at[index],
            )
        )
    return galaxies


def has_labels(catalog: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows name marks or a mask picture."""
    columns = [_paths(catalog, Path(), name) for name in (COL_MARKS, COL_SPIRAL_MASK, COL_BAR_MASK)]
    return np.array([any(paths) for paths in zip(*columns, strict=True)], bool)


def vote_counts(catalog: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float32]:
    """Read how many volunteers gave each answer.

    Parameters
    ----------
    catalog : pandas.DataFrame
        With these columns; missing values mean that nobody was asked.
    columns : sequence of str
        Of votes; see `zoobot_3d.schema.vote_columns`.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32, 0 where nobody was asked.

    Raises
    ------
    CatalogError
        A column is missing, or a count is negative or no number.
    """
    if missing := [name for name in columns if name not in catalog.columns]:
        raise CatalogError(
            f"catalogue: misses {len(missing)} of {len(columns)} columns of votes, the first is {missing[0]}; join the "
            "table of votes (zoobot3d build-master --desi), or leave the campaign out of data.votes"
        )
    counts = np.zeros((len(catalog), len(columns)), np.float32)
    for index, name in enumerate(columns):
        values = pd.to_numeric(catalog[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = (values < 0) | np.isinf(values) | (np.isnan(values) & catalog[name].notna().to_numpy())
        if bad.any():
            row = int(np.argmax(bad))
            raise CatalogError(
                f"catalogue: {bad.sum()} rows have no number of votes in {name}, the first is "
                f"{catalog[COL_ID].iloc[row]} with {catalog[name].iloc[row]!r}; correct or empty them"
            )
        counts[:, index] = np.nan_to_num(values)
    return counts


def _paths(catalog: pd.DataFrame, root: Path, column: str) -> list[Path | None]:
    """Paths in a column, or in the one of the same name without ``relative_``; None where neither is filled."""
    paths: list[Path | None] = [None] * len(catalog)
    for name in (column.removeprefix("relative_"), column):
        if name in catalog.columns:
            for index, value in enumerate(catalog[name]):
                if isinstance(value, str) and value:
                    paths[index] = root / value
    return paths


def _positions(catalog: pd.DataFrame, ra: str, dec: str) -> list[tuple[float, float] | None]:
    """Positions in degrees; None where there is none.

    Raises
    ------
    CatalogError
        A position is there, and cannot be used.
    """
    if ra not in catalog.columns or dec not in catalog.columns:
        return [None] * len(catalog)
    reader = PositionReader("catalogue", catalog.columns, ra=ra, dec=dec, units=catalog.attrs.get("units"))
    values = list(zip(*reader.read(catalog[ra], catalog[dec]), strict=True))
    said = [[not pd.isna(value) and str(value).strip() != "" for value in catalog[name]] for name in (ra, dec)]
    bad = [all(both) and not np.isfinite(a) for (a, _), *both in zip(values, *said, strict=True)]
    if any(bad):
        first = catalog.iloc[bad.index(True)]
        raise CatalogError(
            f"catalogue: {sum(bad)} rows have no usable position in {ra}, {dec}, the first is {first[COL_ID]} with "
            f"{first[ra]!r}, {first[dec]!r}; give degrees, or empty them"
        )
    return [(float(a), float(d)) if np.isfinite(a) else None for a, d in values]
