"""One galaxy of a prediction: its picture read, its masks as a row, or its row with the reason why there are none.

Must not know shards or folders of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.catalog.listing import CUBES
from zoobot_3d.compute.batch import file_stamp, reason_for, stamp_of
from zoobot_3d.errors import BadFileError, BadPictureError, CatalogError
from zoobot_3d.infer.field import Field, measure_galaxy
from zoobot_3d.infer.picture import FIELD_COLUMNS, check_picture, exposure, field_box
from zoobot_3d.infer.uncertainty import Found
from zoobot_3d.schema import CLASSES, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz

__all__ = [
    "ROW_SCHEMA",
    "SIGMA_FULL",
    "TEXT_IDS",
    "Picture",
    "failure_row",
    "id_type",
    "ids_fit",
    "read_galaxy",
    "stamped",
    "success_row",
    "typed",
]

SIGMA_FULL = 0.5
"""Standard deviation that 255 stands for in ``<class>_sigma_png``: nothing in 0-1 scatters more."""

ROW_SCHEMA = 2
"""Version of the columns of shards; counts up when one is added, renamed or gets another meaning. 0: had none."""

TEXT_IDS = "string"
"""What `id_type` calls ids that are text."""

_CUT = "the galaxy is larger than its picture: what lies beyond is not seen, and masks are less reliable"
_UNMEASURED = "no galaxy stands out from the sky: the picture was taken to show its whole field; check the position"
_ON, _HALF = 0.2, 0.5  # a pixel counts towards a class's areas above these fractions of volunteers


@dataclass(frozen=True)
class Picture:
    """A galaxy's picture, where it lies, and what may be wrong with it.

    Attributes
    ----------
    picture : numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.
    grid : PixelGrid
        Its pixels; of NaN arcsec where the scale is not known.
    warning : str
        What may be wrong; empty if nothing is.
    field : {"picture", "auto"}
        What it shows; see `zoobot_3d.infer.field`.
    """

    picture: NDArray[np.uint8]
    grid: PixelGrid
    warning: str
    field: Field = "picture"


def _row_stamp(row: Any) -> str:
    """Return what changes when the galaxy has to be predicted again: its file, position, scale or problem."""
    told = (row.path, file_stamp(row.file) if row.file else "", row.ra, row.dec, row.pixscale)
    more = [getattr(row, "problem", ""), getattr(row, "warning", "")]
    if getattr(row, "field", "picture") != "picture":
        more.append(row.field)
    if getattr(row, "own_pixels", False) and np.isfinite(row.pixscale):
        more.append("own pixels")
    return stamp_of(*told, *more)


def _utf8(text: object) -> str:
    """Spell out what is not Unicode, such as a file name of other bytes: tables cannot hold it."""
    return str(text).encode(errors="backslashreplace").decode()


def read_galaxy(row: Any) -> Picture | str:
    """Read one galaxy's picture, or say in a line why not.

    Parameters
    ----------
    row : namedtuple
        ``path``, ``file``, ``ra``, ``dec`` and ``pixscale`` of `zoobot_3d.catalog.listing.list_galaxies`, and
        ``problem``, ``warning`` and ``field`` where they are known beforehand.
    """
    try:
        if problem := getattr(row, "problem", ""):
            return str(problem)
        if not row.file:
            return "the catalogue names no picture for this row"
        found = _read_cube(row) if row.file.lower().endswith(CUBES) else _read_picture(row)
        found = _with_field(found, getattr(row, "field", "picture"))
        check_picture(found.picture, row.path, square=found.field == "picture")
    except Exception as error:  # one galaxy, whatever is wrong with its file, must not stop the others
        return reason_for(error, row.file, row.path)
    return replace(found, warning=_joined(found.warning, exposure(found.picture)))


def _read_cube(row: Any) -> Picture:
    cutout = io.open_cutout(row.file)
    cube = cutout.cube
    dead = [band for band, plane in zip("grz", cube, strict=True) if np.mean(plane == 0) > 0.5]
    if len(dead) == 3:
        raise BadFileError(row.path, "all-zero image", "is it outside the survey's footprint?")
    warning = f"band {', '.join(dead)} is mostly empty: colours are wrong, masks may be too" if dead else ""
    picture = rgb_from_grz(cube[:, ::-1])
    grid = cutout.grid if cutout.grid.scaled else _catalogued(row, picture.shape)
    return Picture(picture, grid, _joined(getattr(row, "warning", ""), *cutout.notes, warning))


def _read_picture(row: Any) -> Picture:
    picture, notes = io.open_picture(row.file)
    return Picture(picture, _catalogued(row, picture.shape), _joined(getattr(row, "warning", ""), *notes))


def _catalogued(row: Any, shape: tuple[int, ...]) -> PixelGrid:
    """Make the grid of a picture from its row; Galaxy Zoo's scales are for 424 px, whatever the size of the file."""
    if not np.isfinite(row.pixscale):
        return PixelGrid((shape[0], shape[1]), np.nan)
    known = np.isfinite(row.ra) and np.isfinite(row.dec)
    pixscale = row.pixscale if getattr(row, "own_pixels", False) else row.pixscale * GZ_FIELD_PX / shape[0]
    return PixelGrid((shape[0], shape[1]), pixscale, *((row.ra, row.dec) if known else ()))


def _with_field(found: Picture, field: Field) -> Picture:
    """Say what a picture shows; without a galaxy to measure, a square is taken as it is, with a warning."""
    height, width = found.picture.shape[:2]
    if field == "auto" and height == width and np.ptp(found.picture):
        try:
            measure_galaxy(found.picture)
        except BadPictureError:
            return replace(found, warning=_joined(found.warning, _UNMEASURED))
    return replace(found, field=field)


def _joined(*warnings: Any) -> str:
    return "; ".join(text for text in warnings if isinstance(text, str) and text)


def success_row(
    row: Any,
    galaxy: Picture,
    found: Found,
    votes: Mapping[str, float],
) -> dict[str, Any]:
    """Make the row of a galaxy that was predicted.

    Parameters
    ----------
    row : namedtuple
        As for `read_galaxy`.
    galaxy : Picture
        Its picture.
    found : Found
        Masks and, if asked for, their standard deviations (2, H, W); NaN outside the field.
    votes : mapping
        Fractions of the answers about the whole galaxy.
    """
    masks, sigma, apart = found
    grid, box = galaxy.grid, field_box(masks)
    warning = galaxy.warning
    if galaxy.field == "auto" and (box["field_height"], box["field_width"]) == masks.shape[1:]:
        warning = _joined(warning, _CUT)
    out: dict[str, Any] = {"id": row.id, "path": _utf8(row.path), "error": None}
    out |= {"warning": _utf8(warning) if warning else None}
    out |= {"ra": row.ra, "dec": row.dec} if grid.ra is None else {"ra": grid.ra, "dec": grid.dec}
    out |= {"height": masks.shape[1], "width": masks.shape[2], "pixscale": grid.pixscale}
    out |= box | {"field": box["field_height"] / masks.shape[1]}
    top, left, height, width = (box[name] for name in FIELD_COLUMNS)
    for name, mask in zip(CLASSES, masks, strict=True):
        seen = mask[top : top + height, left : left + width]
        out[f"{name}_mask_png"] = io.encode_mask_png(mask)
        out[f"{name}_max"] = float(seen.max(initial=0))
        out[f"{name}_mean"] = float(seen.mean()) if seen.size else np.nan
        out[f"{name}_area_px"] = float(np.count_nonzero(seen > _ON))
        out[f"{name}_area_half_px"] = float(np.count_nonzero(seen > _HALF))
    if apart is not None:
        out |= {f"{name}_disagreement": float(value) for name, value in zip(CLASSES, apart, strict=True)}
    if sigma is not None:
        for name, plane in zip(CLASSES, sigma, strict=True):
            out[f"{name}_sigma_png"] = io.encode_mask_png(plane / SIGMA_FULL)
    return out | dict(votes) | {"file_stem": row.file_stem, "stamp": row.stamp}


def failure_row(row: Any, reason: str, votes: Sequence[str], *, tta: bool, uncertainty: bool) -> dict[str, Any]:
    """Make the row of a galaxy that could not be predicted."""
    out: dict[str, Any] = {"id": row.id, "path": _utf8(row.path), "error": _utf8(reason), "warning": None}
    out |= {"ra": row.ra, "dec": row.dec, "height": 0, "width": 0, "pixscale": np.nan, "field": np.nan}
    out |= dict.fromkeys(FIELD_COLUMNS, 0)
    for name in CLASSES:
        numbers = (f"{name}_{what}" for what in ("max", "mean", "area_px", "area_half_px"))
        out |= {f"{name}_mask_png": None} | dict.fromkeys(numbers, np.nan)
    if tta:
        out |= dict.fromkeys((f"{name}_disagreement" for name in CLASSES), np.nan)
    if uncertainty:
        out |= dict.fromkeys((f"{name}_sigma_png" for name in CLASSES), None)
    return out | dict.fromkeys(votes, np.nan) | {"file_stem": row.file_stem, "stamp": row.stamp}


def typed(records: list[dict[str, Any]], run: Mapping[str, Any]) -> pd.DataFrame:
    """Make a table of rows; every shard has the same column types, also where a column is all missing.

    Parameters
    ----------
    records : list of dict
        From `success_row` and `failure_row`.
    run : mapping
        What the masks are made with: ``bundle`` and ``zoobot_3d`` become columns, and ``ids`` is the type of ``id``.
    """
    frame = pd.DataFrame(records).assign(bundle=run["bundle"], zoobot_3d=run["zoobot_3d"])
    if run["ids"] != TEXT_IDS:
        frame["id"] = pd.Series([int(name) for name in frame["id"]], dtype=run["ids"])
    words = ["path", "error", "warning", "file_stem", "stamp", "bundle", "zoobot_3d"]
    words += ["id"] if run["ids"] == TEXT_IDS else []
    types: dict[str, Any] = dict.fromkeys(words, "string") | dict.fromkeys(("height", "width", *FIELD_COLUMNS), "int32")
    binary = pd.ArrowDtype(pa.binary())
    return frame.astype(types | {name: binary for name in frame if str(name).endswith("_png")})


def id_type(ids: pd.Series) -> str:
    """Return the type that the ids of galaxies have in shards: string, int64 or uint64, as `ROW_SCHEMA` 2 allows."""
    if not pd.api.types.is_integer_dtype(ids.dtype) or ids.isna().any():
        return TEXT_IDS
    return "uint64" if str(ids.dtype).lower().startswith("uint64") else "int64"


def ids_fit(ids: pd.Series, kind: str) -> bool:
    """Tell whether ids can be written as a type that `id_type` returned for others: integers as integers."""
    own = id_type(ids)
    if TEXT_IDS in (own, kind) or own == kind or not len(ids):
        return own == kind or not len(ids)
    return bool(ids.min() >= 0) if kind == "uint64" else bool(ids.max() < 2**63)


def stamped(galaxies: pd.DataFrame, taken: Mapping[str, str]) -> pd.DataFrame:
    """Add ``stamp`` and ``file_stem`` to galaxies: file names that are unique, also where case does not count.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        From `zoobot_3d.catalog.listing.list_galaxies`.
    taken : mapping
        File names of galaxies that were predicted before, by ``id``; they stay.

    Raises
    ------
    CatalogError
        If two galaxies have one name.
    """
    names = galaxies["id"].map(_utf8)
    if (twice := names.duplicated()).any():
        raise CatalogError(f"the name {names[twice].iloc[0]!r} is that of two galaxies; give each its own id")
    fresh = [name for name in names if name not in taken]
    stems = dict(taken) | dict(zip(fresh, io.unique_stems(fresh, taken.values()), strict=True))
    stamps = [_row_stamp(row) for row in galaxies.itertuples(index=False)]
    return galaxies.assign(id=names, file_stem=[stems[name] for name in names], stamp=stamps)
