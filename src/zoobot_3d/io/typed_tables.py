"""Tables whose columns have kinds: Parquet, and what Astropy reads, FITS, ECSV and VOTable.

Whole numbers keep every digit beside missing values, and recorded units stay with their columns.
"""

from __future__ import annotations

import io as _io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from astropy.io import fits

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.table_content import decoded
from zoobot_3d.quiet import quiet_libraries

__all__ = ["fits_columns", "parquet_columns", "read_astropy", "read_fits", "read_parquet"]

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}  # fmt: skip


def parquet_columns(path: Path) -> list[str]:
    """Names of a Parquet file's columns, without those that pandas and Astropy keep for themselves."""
    schema = pq.read_schema(path)
    masks = _mask_columns(schema).values()
    return [name for name in schema.names if not name.startswith("__index_level_") and name not in masks]


def read_parquet(path: Path, columns: list[str] | None) -> pd.DataFrame:
    """Read a Parquet file; whole numbers beside missing values stay whole, and what Astropy masked is missing."""
    masks = _mask_columns(pq.read_schema(path))
    asked = None if columns is None else [*columns, *(masks[name] for name in columns if name in masks)]
    table = pq.read_table(path, columns=asked, partitioning=None)
    for name in [name for name in masks if name in table.column_names]:
        known = pc.if_else(table[masks[name]], pa.scalar(None, table[name].type), table[name])
        table = table.set_column(table.column_names.index(name), name, known).drop_columns([masks[name]])
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # categories of Pandas: no other value could be filled in
            table = table.set_column(index, field.name, table.column(index).cast(field.type.value_type))
    # A missing value must not turn long identifiers into floats.
    nulls = any(pa.types.is_integer(column.type) and column.null_count for column in table.columns)
    frame = table.to_pandas(types_mapper=_NULLABLE.get if nulls else None)
    if named := [name for name in frame.index.names if name is not None]:  # an index of Pandas is a column, too
        frame = frame.reset_index(named)
        frame = frame[[name for name in table.column_names if name in frame.columns]]
    if units := _units_of_astropy(table.schema.metadata or {}):
        frame.attrs["units"] = units
    return frame


def _mask_columns(schema: pa.Schema) -> dict[str, str]:
    """Return the columns that Astropy keeps beside those with masked values: of ``ra`` it is ``ra.mask``."""
    if b"table_meta_yaml" not in (schema.metadata or {}):
        return {}
    masks = {field.name for field in schema if pa.types.is_boolean(field.type)}
    return {name: f"{name}.mask" for name in schema.names if f"{name}.mask" in masks}


def _units_of_astropy(notes: Mapping[bytes, bytes]) -> dict[str, str]:
    """Units that Astropy keeps in the metadata of a Parquet file."""
    from astropy.table import meta

    if b"table_meta_yaml" not in notes:
        return {}
    header = meta.get_header_from_yaml(notes[b"table_meta_yaml"].decode().split("\n"))
    return {column["name"]: str(column["unit"]) for column in header["datatype"] if column.get("unit")}


def fits_columns(path: Path, content: bytes | None) -> list[str]:
    """Names of the columns of a FITS file's first table."""
    with _fits_tables(path, content) as tables:
        return [str(name).lstrip("#") for name in tables[0].columns.names]


def read_fits(path: Path, content: bytes | None, columns: list[str] | None) -> pd.DataFrame:
    """Read the first table of a FITS file, whatever its HDU."""
    from astropy.table import Table

    with _fits_tables(path, content) as tables:
        table = _without_objects(Table.read(tables[0]))
    if len(tables) > 1:
        warnings.warn(f"{path}: {len(tables)} tables in the file, the first is taken", stacklevel=2)
    table.rename_columns(table.colnames, [name.lstrip("#") for name in table.colnames])
    return _from_astropy(table, columns)


@contextmanager
def _fits_tables(path: Path, content: bytes | None) -> Iterator[list[Any]]:
    """Open a FITS file, or its unpacked content; its tables."""
    with (
        quiet_libraries(),
        fits.open(path if content is None else _io.BytesIO(content), memmap=content is None) as hdus,
    ):
        tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
        tables = [hdu for hdu in tables if not isinstance(hdu, fits.CompImageHDU)]
        if not tables:
            raise BadFileError(path, "a FITS file without a table", "give the catalogue, not an image")
        yield tables


def read_astropy(content: bytes, kind: str, columns: list[str] | None) -> pd.DataFrame:
    """Read ECSV or VOTable; ``kind`` is Astropy's name of the format."""
    from astropy.table import Table

    with quiet_libraries():
        source = _io.BytesIO(content) if kind == "votable" else decoded(content)
        table = Table.read(source, format=kind)
    return _from_astropy(_without_objects(table), columns)


def _without_objects(table: Any) -> Any:
    """Make columns of numbers of a SkyCoord (``coord.ra`` and ``coord.dec`` of ICRS, deg) and of other objects."""
    from astropy.coordinates import SkyCoord
    from astropy.table import represent_mixins_as_columns

    for name in [name for name in table.colnames if isinstance(table[name], SkyCoord)]:
        place = table[name].icrs
        for axis, angle in (("ra", place.ra), ("dec", place.dec)):
            table[f"{name}.{axis}"] = angle.deg
            table[f"{name}.{axis}"].unit = "deg"
        table.remove_column(name)
    return represent_mixins_as_columns(table)


def _from_astropy(table: Any, columns: list[str] | None) -> pd.DataFrame:
    """Make a pandas table with the units beside it; columns that hold arrays are left out unless asked for."""
    wanted = [name for name in (columns or table.colnames) if name in table.colnames]
    if columns is None:
        wanted = [name for name in wanted if table[name].ndim == 1]
    table = table[wanted]
    for name in wanted:
        if table[name].dtype.kind == "S":
            table[name] = [_plain_text(value) for value in table[name]]
    units = {name: str(table[name].unit) for name in wanted if getattr(table[name], "unit", None) is not None}
    for name in units:
        table[name].unit = None
    frame = table.to_pandas()
    frame.attrs["units"] = units
    if equinox := next((value for key, value in table.meta.items() if str(key).lower() == "equinox"), None):
        frame.attrs["equinox"] = str(equinox)
    return frame


def _plain_text(value: Any) -> str:
    if value is np.ma.masked:
        return ""
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()
