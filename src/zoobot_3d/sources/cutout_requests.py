"""What to ask a cutout service for: name, position and scale of each row of a catalogue, or why that cannot be.

Knows the columns that catalogues have; nothing of the service, of files or of what is there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.naming import POSITION_DIGITS, position_names, text_names
from zoobot_3d.catalog.pixel_scales import gz_pixscale
from zoobot_3d.catalog.positions import PositionReader, RaUnit, check_equinox, position_columns, require_columns
from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.errors import CatalogError, ConfigError
from zoobot_3d.io import unique_stems
from zoobot_3d.schema import COL_DEC, COL_DEC_MANGA, COL_PIXSCALE, COL_RA, COL_RA_MANGA, GZ_FIELD_PX, id_column

__all__ = ["CENTERS", "DIGITS", "Center", "RequestOptions", "read_requests"]

Center = Literal["desi", "manga", "sami"]
CENTERS: Mapping[str, tuple[str, str]] = {
    "desi": (COL_RA, COL_DEC),
    "manga": (COL_RA_MANGA, COL_DEC_MANGA),
    "sami": ("RA_OBJ", "DEC_OBJ"),
}
"""Whose position is the middle of the picture, and the columns that hold it."""

DIGITS = POSITION_DIGITS
"""Decimals of ra, dec and pixscale: what is asked for is the same after a trip through a text file."""

_POSITION = "position"
_SCALES = (COL_PIXSCALE, "pixscale")
_RADII = (
    ("petro_th50", "petro_th90"),
    ("est_petro_th50", "est_petro_th90"),
    ("petror50", "petror90"),
    ("petror50_r", "petror90_r"),
    ("radius", ""),
    ("r50", "r90"),
    ("re", ""),
    ("r_e", ""),
)
"""Columns of the radii that hold half and 90% of the light, in small letters."""


@dataclass(frozen=True)
class RequestOptions:
    """Where a table has positions, names and sizes. Columns are found in any case of letters.

    Attributes
    ----------
    center : {"desi", "manga", "sami"}
        Whose position is the middle of the picture: columns ``ra, dec`` (or others of the usual names),
        ``ra_manga, dec_manga`` or ``RA_OBJ, DEC_OBJ``, deg.
    ra_unit : {"deg", "hour"}, optional
        Unit of right ascension, where the table does not tell. Degrees if not given; ten rows or more that are spread
        over 12 and nowhere beyond 24 are then refused, as they may be hours.
    ra_column, dec_column, id_column : str, optional
        Columns of the position and of the name; by default those of `center` and of `zoobot_3d.schema.ID_NAMES`.
        Galaxies without a column of names are named after their positions.
    radius_column : str, optional
        Column of the half-light radius, in arcsec or in the unit that the table records; the scale follows as
        `zoobot_3d.catalog.pixel_scales.gz_pixscale` says.
    pixscale : float, optional
        Arcsec per pixel of the 424 px picture, for all galaxies, whatever the table says.
    default_pixscale : float, optional
        The same for galaxies whose size is not known; without it they are refused.
    """

    center: Center = "desi"
    ra_unit: RaUnit | None = None
    ra_column: str | None = None
    dec_column: str | None = None
    id_column: str | None = None
    radius_column: str | None = None
    pixscale: float | None = None
    default_pixscale: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.center not in CENTERS:
            raise ConfigError(f"no center {self.center!r}; use one of {', '.join(CENTERS)}")
        if (self.ra_column is None) != (self.dec_column is None):
            raise ConfigError("--ra-column and --dec-column belong together; give both")
        for scale in (self.pixscale, self.default_pixscale):
            if scale is not None and not (np.isfinite(scale) and scale > 0):
                raise ConfigError(f"--pixscale {scale:g}: give a positive number of arcsec per pixel, such as 0.262")


def read_requests(
    galaxies: pd.DataFrame, name: str, size: int, options: RequestOptions | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Tell what to ask for, for each galaxy of a catalogue.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        A row a galaxy.
    name : str
        What to call the catalogue in messages.
    size : int
        Pixels along a side, over the field of the standard picture of 424.
    options : RequestOptions, optional
        Which columns count.

    Returns
    -------
    requests : pandas.DataFrame
        ``row`` (place in the catalogue, from 0), ``id`` (text, unique), ``stem`` (of file names), ``ra``, ``dec``
        (deg), ``pixscale`` (arcsec), ``sized`` (whether that is known, and not the default), ``warning`` (on how the
        row was understood, or empty) and ``reason``: why it cannot be asked for, else None.
    notes : list of str
        Lines on what is wrong with the catalogue, with row counts.

    Raises
    ------
    CatalogError
        If there is no column of names, positions or scales, no row has a position, or right ascensions may be hours.
    """
    options = options or RequestOptions()
    ra_name, dec_name = _position_of(galaxies, name, options)
    check_equinox(galaxies, name)
    units = galaxies.attrs.get("units")
    reader = PositionReader(
        name, galaxies.columns, ra=ra_name, dec=dec_name, ra_unit=options.ra_unit or "deg", units=units
    )
    ra, dec = reader.read(galaxies[ra_name], galaxies[dec_name])
    reader.require_some()
    if options.ra_unit is None and reader.maybe_hours:  # a service should not be asked for thousands of wrong places
        raise CatalogError(
            f"{name}: no {ra_name} of {reader.n_usable} rows is beyond 24; say which unit it is with --ra-unit hour or "
            "--ra-unit deg"
        )
    names, named_by = _names_of(galaxies, name, options, (ra, dec))
    scale, sized = _pixscale(galaxies, name, options)
    scale = scale * GZ_FIELD_PX / size
    frame = pd.DataFrame(
        {
            "row": np.arange(len(galaxies)),
            "id": names,
            "ra": np.round(ra, DIGITS),
            "dec": np.round(dec, DIGITS),
            "pixscale": np.round(scale, DIGITS),
            "sized": sized,
            "warning": np.where(sized, "", _guess(options.default_pixscale)),
        }
    )
    notes = reader.problems()
    if named_by == _POSITION:
        example = names[int(np.argmax(np.isfinite(ra)))]
        notes.append(f"{name}: no column of names: galaxies are named after their positions, such as {example}")
    repeated = frame["id"].duplicated() & frame["id"].ne("")
    if repeated.any():
        first = int(np.argmax(repeated.to_numpy()))
        notes.append(
            f"{name}: {int(repeated.sum())} of {len(frame)} rows repeat an earlier {named_by} (first: row {first}, "
            f"{frame['id'].iloc[first]}); the first of each is fetched"
        )
        frame = frame[~repeated]
    frame["stem"] = unique_stems(frame["id"])
    reason = pd.Series(None, index=frame.index, dtype=object)
    reason[frame["pixscale"].isna()] = f"no {COL_PIXSCALE}, and no Petrosian radius to get it from"
    reason[frame["ra"].isna()] = f"no usable position in {ra_name}, {dec_name}"
    reason[frame["id"].eq("")] = f"no name in {named_by}"
    return frame.assign(reason=reason), notes


def _names_of(
    galaxies: pd.DataFrame, name: str, options: RequestOptions, position: tuple[NDArray[np.float64], ...]
) -> tuple[list[str], str]:
    """Names of the galaxies, and what they are from: a column, or their positions (then ``row3`` has none)."""
    column = options.id_column
    if column is not None:
        require_columns(galaxies.columns, [column], name)
    elif (column := id_column(list(galaxies.columns))) is None:
        named = position_names(*(np.round(axis, DIGITS) for axis in position))
        return [word or f"row{index}" for index, word in enumerate(named)], _POSITION
    return text_names(galaxies[column]), column


def _position_of(galaxies: pd.DataFrame, name: str, options: RequestOptions) -> tuple[str, str]:
    """Columns of the position, as the table spells them."""
    if options.ra_column is None and options.center == "desi":
        return position_columns(galaxies.columns, name)
    ra, dec = CENTERS[options.center]
    return position_columns(galaxies.columns, name, options.ra_column or ra, options.dec_column or dec)


def _pixscale(
    galaxies: pd.DataFrame, name: str, options: RequestOptions
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Arcsec per pixel of the 424 px picture of each galaxy, NaN where unknown; and whether it is not the default."""
    n = len(galaxies)
    if options.pixscale is not None:
        return np.full(n, options.pixscale), np.ones(n, bool)
    lower = {str(column).strip().lower(): str(column) for column in reversed(list(galaxies.columns))}
    found = np.full(n, np.nan)
    if options.radius_column is not None:
        require_columns(galaxies.columns, [options.radius_column], name)
        found = gz_pixscale(_lengths(galaxies, options.radius_column, name))
    else:
        known = [column for column in (*_SCALES, *(half for half, _ in _RADII)) if column in lower]
        if not known and options.default_pixscale is None:
            raise CatalogError(
                f"{name}: no column {COL_PIXSCALE}, {' or '.join(half for half, _ in _RADII[:2])}: the scale of the "
                "pictures is not known; add one, or cross-match with a catalogue that has it (GZ DESI)"
            )
        for column in _SCALES:
            found = np.where(found > 0, found, _lengths(galaxies, lower.get(column, ""), name))
        for half, most in _RADII:
            radii = (_lengths(galaxies, lower.get(radius, ""), name) for radius in (half, most))
            found = np.where(found > 0, found, gz_pixscale(*radii))
    lost = ~(found > 0)
    found[lost] = np.nan if options.default_pixscale is None else options.default_pixscale
    return found, ~lost


def _guess(pixscale: float | None) -> str:
    if pixscale is None:
        return ""
    field = pixscale * GZ_FIELD_PX
    return f"size unknown: it was measured in a picture of {field:.0f} arcsec, and the masks are for that size"


def _lengths(frame: pd.DataFrame, column: str, name: str) -> NDArray[np.float64]:
    """Lengths on the sky, arcsec; NaN where a column has none, or is not there."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    values = quantity(frame, column, "arcsec", name)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
