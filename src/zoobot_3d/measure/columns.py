"""The registry of columns: name, unit, definition and source of every number; and tables that carry them.

A Parquet file keeps unit and definition of a column in the metadata of its field, and in the form that
`astropy.table.QTable.read` understands. Feeds the documentation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.table import Table, meta

from zoobot_3d import io

__all__ = [
    "ARM_COLUMNS",
    "GALAXY_COLUMNS",
    "LIGHT_COLUMNS",
    "Column",
    "columns_table",
    "typed",
    "with_ids",
    "write_measurements",
]


@dataclass(frozen=True)
class Column:
    """One column of a table of measurements.

    Attributes
    ----------
    name : str
        Its name.
    unit : str
        As `astropy.units` reads it; empty for words and numbers without a unit.
    meaning : str
        Definition.
    source : str
        Paper that the definition or method is from; empty where there is none.
    kind : {"float", "int", "uint", "bool", "text"}
        What it holds.
    """

    name: str
    unit: str
    meaning: str
    source: str = ""
    kind: Literal["float", "int", "uint", "bool", "text"] = "float"


def _with_error(name: str, unit: str, meaning: str, source: str = "") -> tuple[Column, Column]:
    return Column(name, unit, meaning, source), Column(f"{name}_err", unit, f"Standard error of {name}.")


_MARTIN = "Martin 1995, AJ 109, 2428"
_HUBBLE = "Hubble 1926, ApJ 64, 321"
_DAVIS = "Davis & Hayes 2014, ApJ 790, 87"

GALAXY_COLUMNS: tuple[Column, ...] = (
    Column("id", "", "Name of the galaxy in the predictions.", kind="text"),
    Column("error", "", "Why nothing could be measured; empty if something could.", kind="text"),
    Column("warning", "", "What may be wrong with the galaxy's picture or masks.", kind="text"),
    Column("flags", "", "Sum of quality flags; zoobot_3d.measure.decode_flags names them.", kind="int"),
    Column("ra", "deg", "Right ascension of the picture's reference position, ICRS."),
    Column("dec", "deg", "Declination of the picture's reference position, ICRS."),
    Column("pixscale", "arcsec", "Side of a pixel of the masks."),
    Column("redshift", "", "Redshift as given."),
    Column("kpc_per_arcsec", "kpc / arcsec", "Proper length of an arcsec at the redshift, in the chosen cosmology."),
    *_with_error("disk_inclination", "deg", "Inclination that numbers are deprojected with; 0 is face-on.", _HUBBLE),
    *_with_error("disk_pa", "deg", "Position angle of the disk's major axis that numbers are deprojected with."),
    Column("disk_source", "", "Where the disk is from: given, isophotes, or none (face-on).", kind="text"),
    Column("given_inclination", "deg", "Inclination as given in the table of galaxies."),
    Column("given_pa", "deg", "Position angle of the major axis as given, north through east."),
    *_with_error("isophote_axis_ratio", "", "Minor over major axis of the outer isophotes of the picture."),
    *_with_error("isophote_pa", "deg", "Position angle of the outer isophotes, north through east."),
    *_with_error(
        "isophote_inclination", "deg", "Inclination from isophote_axis_ratio, with a thickness of 0.2.", _HUBBLE
    ),
    Column("isophote_semi_major", "arcsec", "Semi-major axis of the outermost isophote."),
    *_with_error(
        "bar_length",
        "arcsec",
        "Full length of the bar on the sky: that of a uniform bar with the same mean distance from its middle along "
        "it, over the inner third of its width.",
    ),
    *_with_error("bar_semi_major", "arcsec", "Half of bar_length."),
    *_with_error("bar_length_kpc", "kpc", "Full length of the bar on the sky; the redshift has no error."),
    *_with_error("bar_semi_major_kpc", "kpc", "Half of bar_length_kpc."),
    *_with_error("bar_pa", "deg", "Position angle of the bar, north through east, 0-180."),
    *_with_error("bar_axis_ratio", "", "Width over length of the bar on the sky."),
    *_with_error("bar_length_deprojected", "arcsec", "Full length in the plane of the disk, as a line.", _MARTIN),
    *_with_error("bar_length_deprojected_kpc", "kpc", "Full length in the plane of the disk, as a line.", _MARTIN),
    Column(
        "bar_angle_deprojected",
        "deg",
        "Angle of the bar from the line of nodes in the plane of the disk, north through east.",
        _MARTIN,
    ),
    Column("bar_offset", "arcsec", "From the galaxy's centre to that of the bar."),
    Column("bar_peak", "", "Highest fraction of volunteers in the bar, over 3 x 3 pixels."),
    Column("bar_n_regions", "", "Regions of the bar mask above a quarter of its peak.", kind="int"),
    Column("bar_length_px", "pixel", "Full length of the bar."),
    Column("bar_x", "pixel", "Column of the bar's centre, 0-based; column 0 is east."),
    Column("bar_y", "pixel", "Row of the bar's centre, 0-based; row 0 is north."),
    Column("n_arms", "", "Arms that wind as most do.", kind="int"),
    Column("n_arms_err", "", "Root mean square change of n_arms where arms end at 0.25 and 0.5 of the mask's peak."),
    *_with_error("pitch", "deg", "Mean pitch angle of these arms, weighted by length.", _DAVIS),
    Column(
        "hand",
        "",
        "S or Z: the letter that the arms draw on a picture, north up and east to the left; without arms, that of the "
        "mask as a whole.",
        kind="text",
    ),
    Column("winding", "", "The hand in words: outward clockwise (S), outward anticlockwise (Z).", kind="text"),
    Column("arm_length_total", "arcsec", "Length of all arms in the plane of the disk."),
    Column("arm_peak", "", "98th percentile of the arm mask where it is above 0.1."),
    Column("cosmology", "", "Cosmology of lengths in kpc.", kind="text"),
    Column("stamp", "", "Changes when the galaxy has to be measured again.", kind="text"),
)
"""Columns of the table of galaxies."""

ARM_COLUMNS: tuple[Column, ...] = (
    Column("id", "", "Name of the galaxy.", kind="text"),
    Column("arm", "", "Number of the arm in its galaxy, from 1; the longest is first.", kind="int"),
    *_with_error("pitch", "deg", "Pitch angle: 0 is a circle, 90 a radius.", "Binney & Tremaine 2008, section 6.1"),
    Column("hand", "", "S or Z, as for galaxies.", kind="text"),
    Column("winding", "", "The hand in words, as for galaxies.", kind="text"),
    Column("r_inner", "arcsec", "Radius of the inner end in the plane of the disk."),
    Column("r_outer", "arcsec", "Radius of the outer end in the plane of the disk."),
    Column("angle_inner", "deg", "Angle of the inner end in the plane from the line of nodes, north through east."),
    Column("turn", "deg", "Angle between the ends about the centre."),
    Column("length", "arcsec", "Length along the arm in the plane of the disk."),
    Column("length_kpc", "kpc", "Length along the arm in the plane of the disk."),
    Column("width", "arcsec", "Mean width across the arm in the plane, at half of the mask's height on the ridge."),
    Column("width_inner", "arcsec", "Width, mean over the inner half of the arm."),
    Column("width_outer", "arcsec", "Width, mean over the outer half of the arm."),
    Column("height", "", "Mean fraction of volunteers on the ridge."),
    Column("rms", "deg", "Scatter of the ridge about the spiral, as an angle about the centre."),
)
"""Columns of the table of arms: logarithmic spirals in the plane of the disk."""

_BRIGHTNESS = "nmgy / arcsec2"
_CONTRAST = "Elmegreen et al. 2011, ApJ 737, 32"

LIGHT_COLUMNS: tuple[Column, ...] = (
    Column("id", "", "Name of the galaxy.", kind="text"),
    Column("band", "", "Band, as the image names it; empty if nothing could be measured.", kind="text"),
    Column("error", "", "Why nothing could be measured; empty if something could.", kind="text"),
    Column("warning", "", "What was converted in the image, or is not known of it.", kind="text"),
    Column("flags", "", "Sum of quality flags; zoobot_3d.measure.decode_flags names them.", kind="int"),
    Column("image", "", "Name of the FITS file that was measured.", kind="text"),
    *_with_error("arm_flux", "nmgy", "Sum over pixels of flux times the fraction of volunteers in arms."),
    *_with_error("bar_flux", "nmgy", "Sum over pixels of flux times the fraction of volunteers in the bar."),
    *_with_error("arm_brightness", _BRIGHTNESS, "Mean surface brightness of the arms, weighted by the fraction."),
    *_with_error(
        "interarm_brightness",
        _BRIGHTNESS,
        "Mean surface brightness of what is neither arm nor bar, weighted so that its distribution over deprojected "
        "radius is that of the arms.",
    ),
    *_with_error("bar_brightness", _BRIGHTNESS, "Mean surface brightness of the bar, weighted by the fraction."),
    *_with_error(
        "contrast", "", "Arm over inter-arm surface brightness, at the radii where there are both.", _CONTRAST
    ),
    Column("redder", "", "The next redder band of the image, of the colours; empty for the reddest.", kind="text"),
    *_with_error("arm_colour", "mag", "AB magnitude of the arms in this band less that in the redder one."),
    *_with_error("interarm_colour", "mag", "Likewise, between the arms."),
    *_with_error("bar_colour", "mag", "Likewise, of the bar."),
    Column("arm_area", "arcsec2", "Sum of the weights of the arms."),
    Column("bar_area", "arcsec2", "Sum of the weights of the bar."),
    Column("arm_left_out", "", "Fraction of the arms that is left out: neighbours, stars, no data."),
    Column("arm_matched", "", "Fraction of the arms that is at radii with an inter-arm."),
    *_with_error("sky", _BRIGHTNESS, "Level of the sky that was subtracted."),
    Column("noise", _BRIGHTNESS, "Standard deviation of single pixels of the sky."),
    Column(
        "noise_correlation", "", "Variance of the noise in blocks of 8 x 8 pixels, over that of independent pixels."
    ),
    Column("errors_from", "", "What errors are from: invvar, sky or none.", kind="text"),
)
"""Columns of the table of light: a row for each galaxy and band."""

_TYPES = {"float": np.float64, "int": np.int64, "uint": np.uint64, "bool": bool}
_ARROW = {"float": pa.float64(), "int": pa.int64(), "uint": pa.uint64(), "bool": pa.bool_(), "text": pa.string()}


def typed(rows: pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """Give a table all columns of a registry, in order and of their types; what is missing is NaN, 0 or empty."""
    out: dict[str, pd.Series[Any]] = {}
    for column in columns:
        values = rows[column.name] if column.name in rows else pd.Series([None] * len(rows), index=rows.index)
        if column.kind == "text":
            out[column.name] = values.where(values.notna(), "").astype(str)
        elif column.kind == "float":
            out[column.name] = pd.to_numeric(values, errors="coerce").astype(np.float64)
        else:
            out[column.name] = pd.to_numeric(values, errors="coerce").fillna(0).astype(_TYPES[column.kind])
    return pd.DataFrame(out, index=rows.index)


def with_ids(rows: pd.DataFrame, columns: tuple[Column, ...], kind: str) -> tuple[pd.DataFrame, tuple[Column, ...]]:
    """Turn ``id``, text, into what it is in the predictions: ``string``, ``int64`` or ``uint64``.

    Returns
    -------
    rows : pandas.DataFrame
    columns : tuple of Column
        The registry, in which ``id`` is of this kind.
    """
    if kind not in ("int64", "uint64"):
        return rows, columns
    ids = pd.Series([int(name) for name in rows["id"]], index=rows.index, dtype=kind)
    which: Literal["int", "uint"] = "int" if kind == "int64" else "uint"
    return rows.assign(id=ids), tuple(replace(c, kind=which) if c.name == "id" else c for c in columns)


def write_measurements(
    path: str | os.PathLike[str], rows: pd.DataFrame, columns: tuple[Column, ...], notes: Mapping[str, str]
) -> None:
    """Write a Parquet table whose columns carry units and definitions; it appears whole or not at all.

    Parameters
    ----------
    path : path
        File to write.
    rows : pandas.DataFrame
        From `typed`.
    columns : tuple of Column
        The registry of the table.
    notes : mapping
        Further metadata of the file.
    """
    fields = [
        pa.field(
            column.name,
            _ARROW[column.kind],
            metadata={
                key: value for key, value in (("unit", column.unit), ("description", _described(column))) if value
            },
        )
        for column in columns
    ]
    plain = pa.schema([field.remove_metadata() for field in fields])
    table = pa.Table.from_pandas(rows[[column.name for column in columns]], schema=plain, preserve_index=False)
    pandas_notes = dict(table.schema.metadata or {})
    longest = {
        c.name: str(max((len(text) for text in rows[c.name]), default=1) or 1) for c in columns if c.kind == "text"
    }
    more = {f"table::len::{name}": size for name, size in longest.items()}
    more |= {"table_meta_yaml": _astropy_header(columns, longest), **notes}
    metadata: dict[bytes, bytes] = {**pandas_notes, **{key.encode(): value.encode() for key, value in more.items()}}
    with io.atomic_path(path) as temporary:
        pq.write_table(table.cast(pa.schema(fields, metadata=metadata)), temporary, compression="zstd")


def _described(column: Column) -> str:
    return column.meaning + (f" {column.source}." if column.source else "")


def _astropy_header(columns: tuple[Column, ...], longest: Mapping[str, str]) -> str:
    """Return what Astropy's reader of Parquet takes units and descriptions from."""
    empty = Table()
    for column in columns:
        kind: Any = f"U{longest[column.name]}" if column.kind == "text" else _TYPES[column.kind]
        empty[column.name] = np.zeros(0, kind)
        empty[column.name].info.description = _described(column)
        if column.unit:
            empty[column.name].unit = units.Unit(column.unit)
    return "\n".join(meta.get_yaml_from_table(empty))


def columns_table(columns: tuple[Column, ...]) -> str:
    """Return a registry as a Markdown table, for the documentation."""
    lines = ["| column | unit | meaning | source |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.unit} | {c.meaning} | {c.source} |" for c in columns]
    return "\n".join(lines)
