"""Tables of any common format: told by their content, not by their name, and read so that no identifier changes.

Read are CSV and other delimited text (comma, semicolon, tab, bar or blanks between fields; UTF-8, UTF-16 or Latin-1;
CasJobs' ``#Table1`` line; commented headers), Parquet, FITS (the first table, whatever its HDU), ECSV and VOTable, each
also gzipped. Identifiers in text stay text as written; whole numbers in typed tables keep every digit. Must not know
what the columns mean, but for the names of identifiers.
"""

from __future__ import annotations

import csv
import gzip
import io as _io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from astropy.io import fits

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.files import atomic_path, check_regular, write_atomic
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.schema import is_identifier

__all__ = ["TABLES", "as_one_kind", "read_table", "table_columns", "write_parquet", "write_table"]

TABLES = (".csv", ".csv.gz", ".tsv", ".dat", ".ecsv", ".vot", ".votable", ".xml", ".parquet", ".pq", ".fits", ".fit")
"""What a table's name usually ends in; the content decides how it is read."""

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}  # fmt: skip
_MISSING = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "<NA>", "--")
"""Of numbers; identifiers are never missing but where they are empty."""
_SNIFFED_ROWS = 30
_UNIT_WORDS = {
    "deg", "degs", "degree", "degrees", "arcsec", "arcmin", "arcsec/pix", "arcsec/pixel", "rad", "radian", "radians",
    "h", "hr", "hour", "hours", "hourangle", "h:m:s", '"h:m:s"', "d:m:s", '"d:m:s"', "hms", "dms", "mag", "pc", "kpc",
    "mpc", "km/s", "pix", "px", "pixel",
}  # fmt: skip
"""What a line of units below the header holds, in small letters."""
_BOMB_RATIO, _BOMB_BYTES = 200, 100_000_000


@dataclass(frozen=True)
class _Text:
    """Delimited text, decoded, from its header line on."""

    lines: str
    separator: str
    columns: list[str]
    units: dict[str, str]


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : path
        Delimited text, Parquet, FITS, ECSV or VOTable, gzipped or not.
    columns : sequence of str, optional
        Columns to read; all by default.

    Returns
    -------
    pandas.DataFrame
        Identifiers (`zoobot_3d.schema.is_identifier`) of delimited text are text as written. Whole numbers keep their
        digits beside missing values. ``attrs["units"]`` has the units that FITS, ECSV and VOTable record, by column,
        and those of a line of units below the header of delimited text, whose comments and empty rows are left out;
        ``attrs["delimited"]`` is set for delimited text, where nothing says what is text and what a number.

    Raises
    ------
    BadFileError
        If the file is missing, cannot be read, or is no table; the message says what it is instead.
    """
    return _read(Path(path), None if columns is None else list(columns))


def table_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of a table's columns, without reading its rows where the format allows.

    Raises
    ------
    BadFileError
        As in `read_table`.
    """
    path = Path(path)
    kind, content = _kind(path)
    if kind == "parquet":
        schema = _guarded(path, lambda: pq.read_schema(path))
        masks = _mask_columns(schema).values()
        return [name for name in schema.names if not name.startswith("__index_level_") and name not in masks]
    if kind == "fits":
        return _guarded(path, lambda: _fits_table(path, content, None, names_only=True))
    if kind == "text":
        return _text(path, content).columns
    return [str(name) for name in _read(path, None).columns]


def _read(path: Path, columns: list[str] | None) -> pd.DataFrame:
    kind, content = _kind(path)
    if kind == "parquet":
        return _guarded(path, lambda: _read_parquet(path, columns))
    if kind == "text":
        frame = _read_text(path, _text(path, content), columns)
        frame.attrs["delimited"] = True
    elif kind == "fits":
        frame = _guarded(path, lambda: _fits_table(path, content, columns))
    else:
        frame = _guarded(path, lambda: _astropy_table(content or path.read_bytes(), kind, columns))
    if columns is not None and (missing := [name for name in columns if name not in frame.columns]):
        raise BadFileError(path, f"no column {', '.join(missing)}", "rename or add the column")
    return frame if columns is None else frame[columns]


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Call a library's reader; whatever it raises becomes one line."""
    try:
        return read()
    except BadFileError:
        raise
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except MemoryError:
        raise BadFileError(path, "does not fit in memory", "read it as Parquet, or fewer columns") from None
    except Exception as error:  # libraries raise whatever they like on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadFileError(path, f"cannot be read as a table ({reason[:200]})") from None


# What it is


def _kind(path: Path) -> tuple[str, bytes | None]:
    """Tell the format by the first bytes; the content too, where it had to be unpacked."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    content: bytes | None = None
    if start[:2] == b"\x1f\x8b":
        content = _gunzip(path)
        start = content[:4096]
    if not start.strip():
        raise BadFileError(path, "the file is empty", "give a table with a header and rows")
    return _kind_of(path, start), content


def _kind_of(path: Path, start: bytes) -> str:
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"SIMPLE  ="):
        return "fits"
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise BadFileError(path, "a spreadsheet or zip archive, not a table", "save it as CSV")
    words = _decoded(start, lenient=True).lstrip("\ufeff \t\r\n").lower()
    if words.startswith(("<!doctype html", "<html", "<head", "<body")):
        raise BadFileError(path, "a web page, perhaps an error message of a server", "download the table again")
    if words.startswith("<") and "votable" in words:
        return "votable"
    if words.startswith("<"):
        raise BadFileError(path, "XML that is no VOTable", "save the table as CSV, Parquet, FITS or VOTable")
    if words.startswith("# %ecsv"):
        return "ascii.ecsv"
    if words.startswith(("{", "[{", "[[")):
        raise BadFileError(path, "JSON, not a table", "save it as CSV or Parquet")
    if b"\x00" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadFileError(path, "binary data, not a table", "use CSV, Parquet, FITS, ECSV or VOTable")
    return "text"


def _gunzip(path: Path) -> bytes:
    """Unpack a gzipped table; one that grows beyond all measure is refused."""
    packed, pieces, size = max(path.stat().st_size, 1), [], 0
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read(1 << 22):
                size += len(piece)
                if size > _BOMB_BYTES and size > _BOMB_RATIO * packed:
                    raise BadFileError(path, f"unpacks to over {_BOMB_RATIO} times its size", "unpack it yourself")
                pieces.append(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFileError(path, f"damaged gzip file ({error})", "make or fetch it again") from None
    return b"".join(pieces)


# Delimited text


def _decoded(content: bytes, *, lenient: bool = False) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace" if lenient else "strict")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _text(path: Path, content: bytes | None) -> _Text:
    """Decode a delimited table; find its header and what stands between its fields."""
    try:
        text = _decoded(path.read_bytes() if content is None else content)
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(path, f"cannot be read as text ({error})", "save it as UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    comments: list[str] = []
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)]
        if line.strip() and not line.lstrip().startswith("#"):
            break
        if line.strip():
            comments.append(line.strip().lstrip("#").strip())
        if end < 0:
            start = len(text)
            break
        start = end + 1
    body = text[start:]
    head = body.split("\n", _SNIFFED_ROWS)[:_SNIFFED_ROWS]
    sample = [line for line in head if line.strip()]
    if not sample:
        if comments and re.search(r"[\s,;|\t]", comments[-1]):  # a commented header and no rows
            body, sample, comments = comments[-1] + "\n", [comments[-1]], []
        else:
            raise BadFileError(path, "has no header and no rows", "give a table with a header")
    separator = _separator(sample)
    columns = _fields(sample[0], separator)
    if comments and all(_is_number(field) for field in columns[:2]) and len(columns) > 1:
        # The header is the last comment, as NumPy and TOPCAT write it.
        names = _fields(comments[-1], separator)
        if len(names) == len(columns):
            body, columns = comments[-1] + "\n" + body, names
    columns = [name.strip().lstrip("#").strip() for name in columns]
    if len(columns) == 1 and path.name.lower().endswith((".parquet", ".pq", ".fits", ".fit", ".fits.gz")):
        raise BadFileError(path, "text, not the kind of table that its name says", "make or fetch it again")
    _check_columns(path, columns)
    body, units = _without_units(body, separator, columns)
    return _Text(_without_comments(path, body, separator, len(columns)), separator, columns, units)


def _without_units(body: str, separator: str, columns: list[str]) -> tuple[str, dict[str, str]]:
    """Take off lines of units and of dashes below the header, as VizieR and spreadsheets write them."""
    header, *lines = body.split("\n", 3)
    fields = [[field.strip().lower() for field in _fields(line, separator)] for line in lines[:2]]
    ruled = next((index for index, line in enumerate(fields) if any(line) and not "".join(line).strip("-")), None)
    if ruled is None:
        words = {field for field in fields[0] if field} if fields else set()
        if not words or not words <= _UNIT_WORDS:
            return body, {}
    units, taken = (fields[0], 1) if ruled is None else (fields[0] if ruled == 1 else [], ruled + 1)
    told = {name: unit for name, unit in zip(columns, units, strict=False) if unit in _UNIT_WORDS}
    return "\n".join([header, *lines[taken:]]), told


def _without_comments(path: Path, body: str, separator: str, n_columns: int) -> str:
    """Take off comments below the header, and rows of nothing but separators, as spreadsheets leave them."""
    blank = re.compile(rf'[\s"{re.escape(separator)}]+')
    if "\n#" not in body and not re.search(rf'\n[ "\t]*{re.escape(separator)}[\s"{re.escape(separator)}]*(\n|$)', body):
        return body
    header, *lines = body.split("\n")
    comments = [line for line in lines if line.startswith("#")]
    if 2 * len(comments) > len(lines):  # names that begin so
        comments = []
    if rows := sum(len(_fields(line, separator)) == n_columns > 1 for line in comments):
        warnings.warn(f"{path}: {rows} rows that begin with # are left out, as comments", stacklevel=2)
    left_out = set(comments)
    kept = [line for line in lines if line not in left_out and not blank.fullmatch(line)]
    return "\n".join([header, *kept]) + "\n"


def _check_columns(path: Path, columns: list[str]) -> None:
    twice = [name for i, name in enumerate(columns) if name and name in columns[:i]]
    if twice:
        raise BadFileError(path, f"the header names column {twice[0]!r} twice", "rename one of them")
    if all(_is_number(name) for name in columns):
        raise BadFileError(path, "has no header: its first line holds only numbers", "add a line of column names")


def _separator(lines: list[str]) -> str:
    """Find what stands between fields: the mark that cuts all lines alike, into the most fields."""
    best, most = ",", 1
    for mark in (",", ";", "\t", "|"):
        counts = [len(_fields(line, mark)) for line in lines]
        if counts[0] > most and sum(count == counts[0] for count in counts) >= 0.8 * len(counts):
            best, most = mark, counts[0]
    if most == 1:
        counts = [len(line.split()) for line in lines]
        if counts[0] > 1 and len(lines) > 1 and all(count == counts[0] for count in counts):
            return " "
        for mark in (",", ";", "\t", "|"):  # ragged: the reader will name the row
            if mark in lines[0]:
                return mark
    return best


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator), [])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_text(path: Path, text: _Text, columns: list[str] | None) -> pd.DataFrame:
    """Parse delimited text: identifiers as text, all else as pandas reads it."""
    if columns is not None and (missing := [name for name in columns if name not in text.columns]):
        raise BadFileError(path, f"no column {', '.join(missing)}", "rename or add the column")
    as_text = [name for name in text.columns if is_identifier(name)]
    missing_marks = {name: list(_MISSING) for name in text.columns if name not in as_text}
    separator: Any = {"sep": r"\s+"} if text.separator == " " else {"sep": text.separator}

    def read() -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop or move fields
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            return pd.read_csv(
                _io.StringIO(text.lines), names=text.columns, header=0, index_col=False, usecols=columns,
                dtype=dict.fromkeys(as_text, str), keep_default_na=False, na_values=missing_marks, low_memory=False,
                skipinitialspace=text.separator in ",;|", **separator,
            )  # fmt: skip

    try:
        frame = read()
    except pd.errors.ParserWarning:
        raise BadFileError(path, "rows have more fields than the header", "quote fields with separators") from None
    except (pd.errors.ParserError, csv.Error) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise BadFileError(path, f"rows do not fit the header ({reason})", "mend the row") from None
    except Exception as error:
        raise BadFileError(path, f"cannot be read as a table ({' '.join(str(error).split())[:200]})") from None
    for name in set(as_text) & set(frame.columns):
        frame[name] = frame[name].fillna("").str.strip()
    if text.units:
        frame.attrs["units"] = {name: unit for name, unit in text.units.items() if name in frame}
    return frame


# Typed tables


def _read_parquet(path: Path, columns: list[str] | None) -> pd.DataFrame:
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


def _fits_table(path: Path, content: bytes | None, columns: list[str] | None, names_only: bool = False) -> Any:
    """Read the first table of a FITS file, whatever its HDU, or the names of its columns."""
    from astropy.table import Table

    with (
        quiet_libraries(),
        fits.open(path if content is None else _io.BytesIO(content), memmap=content is None) as hdus,
    ):
        tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
        tables = [hdu for hdu in tables if not isinstance(hdu, fits.CompImageHDU)]
        if not tables:
            raise BadFileError(path, "a FITS file without a table", "give the catalogue, not an image")
        names = [str(name).lstrip("#") for name in tables[0].columns.names]
        if names_only:
            return names
        table = Table.read(tables[0])
    table = _without_objects(table)
    table.rename_columns(table.colnames, [name.lstrip("#") for name in table.colnames])
    return _from_astropy(table, columns)


def _astropy_table(content: bytes, kind: str, columns: list[str] | None) -> pd.DataFrame:
    from astropy.table import Table

    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    with quiet_libraries():
        source = _io.BytesIO(content) if kind == "votable" else _decoded(content)
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
    return frame


def _plain_text(value: Any) -> str:
    if value is np.ma.masked:
        return ""
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()


# Writing


def write_parquet(path: str | os.PathLike[str], frame: pd.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a Parquet table, zstd-compressed, atomically, with text metadata in its schema."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if metadata:
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), **{k.encode(): v.encode() for k, v in metadata.items()}}
        )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def as_one_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """Make text of columns that mix kinds, as a long CSV file read in pieces can: Arrow and FITS hold one kind."""
    mixed = [
        name
        for name, column in frame.items()
        if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True).startswith("mixed")
    ]
    return frame.assign(**{str(name): frame[name].map(str, na_action="ignore") for name in mixed})


def write_table(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """Write a table of numbers and text as its extension says; the same rows are always the same bytes.

    Parameters
    ----------
    path : path
        ``.csv``, ``.csv.gz``, ``.parquet`` or ``.fits``.
    frame : pandas.DataFrame
        The rows; text that is missing becomes empty in FITS.

    Raises
    ------
    BadFileError
        If the extension is none of these.
    """
    name, frame = Path(path).name.lower(), as_one_kind(frame)
    if name.endswith((".parquet", ".pq")):
        write_parquet(path, frame)
    elif name.endswith((".csv", ".csv.gz")):
        text = frame.to_csv(index=False, lineterminator="\n").encode()
        write_atomic(path, gzip.compress(text, mtime=0) if name.endswith(".gz") else text)
    elif name.endswith((".fits", ".fit")):
        from astropy.table import Table

        words = [label for label, column in frame.items() if not pd.api.types.is_numeric_dtype(column.dtype)]
        plain = frame.assign(**{str(label): frame[label].fillna("").astype(str).astype(object) for label in words})
        with atomic_path(path) as temporary:
            Table.from_pandas(plain).write(temporary, format="fits", overwrite=True)
    else:
        raise BadFileError(path, "unknown kind of table", "use .csv, .parquet or .fits")
