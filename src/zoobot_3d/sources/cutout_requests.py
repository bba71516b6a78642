"""What to ask a cutout service for: name, position and scale of each row of a catalogue, or why that cannot be.

Knows the columns that catalogues have; nothing of the service, of files or of what is there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.positions import PositionReader, RaUnit
from zoobot_3d.catalog.reading import gz_pixscale
from zoobot_3d.errors import CatalogError, ConfigError
from zoobot_3d.io import file_stem
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

__all__ = ["CENTERS", "DIGITS", "Center", "read_requests"]

Center = Literal["desi", "manga", "sami"]
CENTERS: Mapping[str, tuple[str, str]] = {
    "desi": (COL_RA, COL_DEC),
    "manga": (COL_RA_MANGA, COL_DEC_MANGA),
    "sami": ("RA_OBJ", "DEC_OBJ"),
}
"""Whose position is the middle of the picture, and the columns that hold it."""

DIGITS = 7
"""Decimals of ra, dec and pixscale: 0.4 mas, and what is asked for is the same after a trip through a text file."""

_ID_COLUMNS = (COL_ID, "id", "id_str", COL_MANGAID, "CATID", "objid")
_RADII = (("petro_th50", "petro_th90"), ("est_petro_th50", "est_petro_th90"))


def read_requests(
    galaxies: pd.DataFrame, name: str, center: Center, size: int, ra_unit: RaUnit | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Tell what to ask for, for each galaxy of a catalogue.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        A row a galaxy; for the columns see `zoobot_3d.sources.legacy_survey.fetch_cutouts`.
    name : str
        What to call the catalogue in messages.
    center : {"desi", "manga", "sami"}
        Whose position is the middle.
    size : int
        Pixels along a side, over the field of the standard picture of 424.
    ra_unit : {"deg", "hour"}, optional
        Unit of right ascension; degrees if not given, and then what looks like hours is refused.

    Returns
    -------
    requests : pandas.DataFrame
        ``row`` (place in the catalogue, from 0), ``id`` (text, unique), ``stem`` (of file names), ``ra``, ``dec``
        (deg), ``pixscale`` (arcsec), and ``reason``: why it cannot be asked for, else None.
    notes : list of str
        Lines on what is wrong with the catalogue, with row counts.

    Raises
    ------
    CatalogError
        If there is no column of names, positions or scales, no row has a position, or right ascensions may be hours.
    ConfigError
        If there is no such center.
    """
    if center not in CENTERS:
        raise ConfigError(f"no center {center!r}; use one of {', '.join(CENTERS)}")
    id_column = next((column for column in _ID_COLUMNS if column in galaxies), None)
    if id_column is None:
        raise CatalogError(f"{name}: no column of names; add or rename one of {', '.join(_ID_COLUMNS)}")
    ra_name, dec_name = CENTERS[center]
    reader = PositionReader(name, galaxies.columns, ra=ra_name, dec=dec_name, ra_unit=ra_unit or "deg")
    ra, dec = reader.read(galaxies[ra_name], galaxies[dec_name])
    reader.require_some()
    if ra_unit is None and reader.maybe_hours:  # a service should not be asked for thousands of wrong places
        raise CatalogError(
            f"{name}: no {ra_name} of {reader.n_usable} rows is beyond 24; say which unit it is with --ra-unit hour or "
            "--ra-unit deg"
        )
    scale = _pixscale(galaxies, name) * GZ_FIELD_PX / size
    frame = pd.DataFrame(
        {
            "row": np.arange(len(galaxies)),
            "id": _names(galaxies[id_column]),
            "ra": np.round(ra, DIGITS),
            "dec": np.round(dec, DIGITS),
            "pixscale": np.round(scale, DIGITS),
        }
    )
    notes = reader.problems()
    repeated = frame["id"].duplicated() & frame["id"].ne("")
    if repeated.any():
        first = int(np.argmax(repeated.to_numpy()))
        notes.append(
            f"{name}: {int(repeated.sum())} of {len(frame)} rows repeat an earlier {id_column} (first: row {first}, "
            f"{frame['id'].iloc[first]}); the first of each is fetched"
        )
        frame = frame[~repeated]
    frame["stem"] = [file_stem(one) for one in frame["id"]]
    reason = pd.Series(None, index=frame.index, dtype=object)
    reason[frame["stem"].duplicated()] = "another galaxy's name makes the same file name: rename one of them"
    reason[frame["pixscale"].isna()] = f"no {COL_PIXSCALE}, and no Petrosian radius to get it from"
    reason[frame["ra"].isna()] = f"no usable position in {', '.join(CENTERS[center])}"
    reason[frame["id"].eq("")] = f"no name in {id_column}"
    return frame.assign(reason=reason), notes


def _names(column: pd.Series[Any]) -> list[str]:
    """Names as text; whole numbers that a missing value has made floats are whole again, missing ones are empty."""

    def text(value: Any) -> str:
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

    return ["" if missing else text(value) for value, missing in zip(column, column.isna(), strict=True)]


def _pixscale(galaxies: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Arcsec per pixel of the 424 px picture of each galaxy; NaN where there is nothing to tell it from."""
    radii = [half for half, _ in _RADII]
    if not any(column in galaxies for column in (COL_PIXSCALE, *radii)):
        raise CatalogError(
            f"{name}: no column {COL_PIXSCALE}, {' or '.join(radii)}: the scale of the pictures is not known; add one, "
            "or cross-match with a catalogue that has it (GZ DESI)"
        )
    found = _numbers(galaxies, COL_PIXSCALE)
    for half, most in _RADII:
        found = np.where(found > 0, found, gz_pixscale(_numbers(galaxies, half), _numbers(galaxies, most)))
    return found


def _numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    if column not in frame:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)
