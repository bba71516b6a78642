"""Catalogues: a row a galaxy. Reading and checking them, and the split that never changes."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
from numpy.typing import ArrayLike, NDArray

from zoobot_3d.catalog.naming import integer_ids, text_names
from zoobot_3d.catalog.positions import PositionReader, plain_name, position_columns
from zoobot_3d.catalog.quantities import quantity
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import TABLES, check_regular, is_mask_file, read_table, table_columns
from zoobot_3d.schema import COL_FITS, COL_ID, COL_JPG, COL_PIXSCALE, EMPTY, PIXSCALES, id_column

__all__ = [
    "CUBES",
    "PICTURES",
    "SPLITS",
    "assign_split",
    "catalog_root",
    "gz_pixscale",
    "list_galaxies",
    "read_catalog",
    "split_of",
]

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".jp2")
CUBES = (".fits", ".fits.fz", ".fits.gz", ".fit")
"""File names of pictures, and of grz images in FITS."""

_TABLES = tuple(name for name in TABLES if name not in (".fits", ".fit"))
_PATH_COLUMNS = (
    COL_JPG, "desi_jpg_loc", "jpg_loc", "file_loc", COL_FITS, "desi_fits_loc", "fits_loc", "file", "path", "filename",
    "file_name", "file_path", "filepath", "picture", "picture_path", "image", "image_path", "image_file", "img",
    "img_path", "jpg", "jpg_path", "jpeg", "png", "png_path", "fits", "fits_path",
)  # fmt: skip
"""Columns that name pictures, in small letters, those that are preferred first."""

_FETCHED = ("status", "warning", "layer", COL_JPG)
"""Columns of the record of fetched cutouts."""

_UNREAD = (".gif", ".heic", ".heif", ".avif", ".jxl", ".svg", ".psd", ".pdf", ".eps")

SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Fractions of the galaxies, as in the NeurIPS 2023 paper."""


SPLIT_WORDS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
"""Other words for the splits that are understood."""


def assign_split(ids: Iterable[object]) -> NDArray[np.str_]:
    """Put each galaxy into train, val or test by a hash of its name, 70/10/20.

    The split of a galaxy depends on nothing but its name, so it stays when rows are added, removed or sorted, and
    repeated observations of one galaxy under one name stay together.

    Parameters
    ----------
    ids : iterable
        Names of the galaxies; compared as text.

    Returns
    -------
    numpy.ndarray
        (N,) of ``"train"``, ``"val"``, ``"test"``.
    """
    edges = np.cumsum(list(SPLITS.values()))[:-1]
    digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids)
    uniform = np.array([int.from_bytes(digest, "big") for digest in digests], np.float64) / 2.0**64
    return np.array(list(SPLITS))[np.searchsorted(edges, uniform, side="right")]


def split_of(catalog: pd.DataFrame) -> NDArray[np.str_]:
    """Tell which split each row is in: what its ``split`` says or, where that is empty or no column, `assign_split`.

    Parameters
    ----------
    catalog : pandas.DataFrame
        With ``dr8_id``.

    Returns
    -------
    numpy.ndarray
        (N,) of ``"train"``, ``"val"``, ``"test"``. Capitals and the words of `SPLIT_WORDS` are understood, with a
        warning.

    Raises
    ------
    CatalogError
        If ``split`` holds other words, or a galaxy is in two splits; how many, and the first.
    """
    by_name = assign_split(catalog[COL_ID])
    if "split" not in catalog:
        return by_name
    words = catalog["split"].fillna("").astype(str).str.strip()
    known = words.str.lower().replace(SPLIT_WORDS)
    unknown = words[~known.isin(["", *SPLITS])].value_counts()
    if len(unknown):
        told = ", ".join(f"{count:,} x {word!r}" for word, count in unknown.items())
        raise CatalogError(f"split: unknown words, {told}; use {', '.join(SPLITS)}, or leave it empty")
    renamed = words[words != known].value_counts()
    if len(renamed):
        told = ", ".join(f"{count:,} x {word!r}" for word, count in renamed.items())
        warnings.warn(f"split: {told} taken for {', '.join(dict.fromkeys(known[words != known]))}", stacklevel=2)
    split = np.where(known == "", by_name, known.to_numpy(str))
    several = pd.Series(split).groupby(catalog[COL_ID].astype(str).to_numpy()).nunique()
    twice = several.index[several > 1]
    if len(twice):
        raise CatalogError(
            f"split: {len(twice):,} galaxies are in two splits, the first is {twice[0]}; give all rows of a galaxy one"
        )
    return split


def gz_pixscale(th50: ArrayLike, th90: ArrayLike | None = None) -> NDArray[np.float64]:
    """Scale of the Galaxy Zoo DECaLS picture of a galaxy, by its size (Walmsley et al. 2022, MNRAS 509, 3966).

    Parameters
    ----------
    th50, th90 : array_like
        Petrosian radii that hold half and 90% of the light, arcsec. Where ``th90`` is not known (None or NaN), the
        half-light radius decides alone.

    Returns
    -------
    numpy.ndarray
        Arcsec per pixel of the 424 px picture, at least 0.1; NaN where ``th50`` is not a positive number.
    """
    half = np.asarray(th50, np.float64)
    most = np.full(half.shape, np.nan) if th90 is None else np.asarray(th90, np.float64)
    scale = np.maximum(np.fmin(0.04 * half, np.where(most > 0, 0.02 * most, np.nan)), 0.1)
    return np.where(half > 0, scale, np.nan)


def read_catalog(path: str | os.PathLike[str], required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a catalogue (CSV, Parquet or FITS) and check that it has the columns a step needs.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    CatalogError
        If it is empty or misses columns; the message names them.
    """
    frame = read_table(path)
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise CatalogError(
            f"{os.fspath(path)}: no column {', '.join(missing)} (it has {', '.join(map(str, frame.columns[:12]))}"
            f"{', ...' if len(frame.columns) > 12 else ''}); rename or add the column"
        )
    if frame.empty:
        raise CatalogError(f"{os.fspath(path)}: the catalogue has no rows")
    return frame


def join_columns(
    frame: pd.DataFrame,
    table: str | os.PathLike[str],
    on: str,
    columns: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Add the columns of another table to a catalogue, by a name that both have; only the rows needed are kept.

    Parameters
    ----------
    frame : pandas.DataFrame
        The catalogue.
    table : path
        CSV, Parquet or FITS; a Parquet table is streamed, so it may be as large as GZ DESI.
    on : str
        Column of names, compared as text.
    columns : sequence of str, optional
        Columns to add; by default all that ``frame`` does not have.
    notes : list of str, optional
        Lines on rows that are not in the table, or are there twice, are appended to it.

    Returns
    -------
    pandas.DataFrame
        The rows of ``frame`` in their order; missing values where the table has no such name. Of a name that the
        table has twice, the first row counts.

    Raises
    ------
    BadFileError
        If the table cannot be read.
    CatalogError
        If it, or the catalogue, lacks a column.
    """
    units = dict(frame.attrs.get("units", {}))
    if on not in frame:
        raise CatalogError(f"the catalogue has no column {on} to find its galaxies in {os.fspath(table)} by; add it")
    names = table_columns(table)
    wanted = [name for name in (names if columns is None else columns) if name not in frame.columns]
    missing = [name for name in (on, *wanted) if name not in names]
    if missing:
        raise CatalogError(f"{os.fspath(table)}: no column {', '.join(missing)}; rename or add the column")
    keys = frame[on].astype(str)
    if Path(table).name.lower().endswith((".parquet", ".pq")):
        named = pads.field(on).cast("string").isin(keys)
        try:
            other = pads.dataset(table).to_table(columns=[on, *wanted], filter=named).to_pandas()
        except (OSError, pa.ArrowException) as error:
            what = f"damaged Parquet file ({error})".replace("\n", " ")
            raise BadFileError(table, what, "make or fetch it again") from None
    else:
        other = read_table(table, [on, *wanted])
        units = other.attrs.get("units", {}) | units
    other = other[other[on].notna()]
    other = other.assign(**{on: other[on].astype(str)})
    repeat = other[on].isin(keys) & other[on].duplicated()
    if notes is not None:
        if n := int((~keys.isin(other[on])).sum()):
            notes.append(f"{os.fspath(table)}: {n} of {len(frame)} rows of the catalogue are not in it, by {on}")
        if n := int(repeat.sum()):
            example = f"{on}, such as {other[on][repeat].iloc[0]}"
            notes.append(f"{os.fspath(table)}: {n} of its rows repeat a {example}; the first of each counts")
    other = other.drop_duplicates(on).set_index(on)
    added = nullable_integers(other).reindex(keys.to_numpy())
    joined = frame.reset_index(drop=True).join(added.reset_index(drop=True))
    joined.attrs["units"] = units
    return joined


def nullable_integers(frame: pd.DataFrame) -> pd.DataFrame:
    """Let integer columns hold missing values, so that object identifiers do not become floats and lose digits."""
    return frame.astype(dict.fromkeys(frame.columns[[kind.kind in "iu" for kind in frame.dtypes]], "Int64"))


def catalog_root(path: str | os.PathLike[str]) -> Path:
    """Find the folder that a catalogue's relative paths hang on: the survey that holds it.

    A master catalogue lies in ``<root>/data``, and the record of a fetch in ``<root>/images``; any other lies in its
    root.
    """
    path = Path(path)
    folder = path.resolve().parent
    below = folder.name == "data" or (folder.name == "images" and path.name == "fetched.parquet")
    return folder.parent if below else folder


def list_galaxies(
    source: str | os.PathLike[str] | list[str],
    *,
    root: str | os.PathLike[str] | None = None,
    leave_out: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Find the galaxies that an input names.

    Parameters
    ----------
    source : path or list of paths
        A folder (searched for pictures and .fits files, subfolders too), picture files, a text file with a path a
        line, or a table (CSV, Parquet, FITS, VOTable; also in a text file, if its first line names such a column) with
        a column of paths.
    root : path, optional
        Folder that the paths of a table start from; by default found from the table, see `catalog_root`.
    leave_out : path, optional
        Folder of the outputs, which never become inputs: it is not searched. Other folders of predictions and files of
        masks are not taken for pictures either.

    Returns
    -------
    pandas.DataFrame
        ``id`` (integers if the table's are, see `zoobot_3d.catalog.naming.integer_ids`, else text), ``path`` (as
        given), ``file`` (where it is), and ``ra``, ``dec`` (deg), ``pixscale`` (arcsec / px) where known, else NaN.
        ``own_pixels`` tells whether the scale is that of the picture's own pixels, as in a column ``pixscale``, or of
        424 px across it, as in ``est_dr5_pixscale``. ``warning`` says what is wrong with the position and, of the
        record of a fetch, with its cutout; ``problem`` why it has no cutout. ``attrs`` hold ``root``, the folder that
        paths start from, and ``named_by_file``, whether names are those of the pictures.

    Raises
    ------
    BadFileError
        If the input is missing, or a folder or list without pictures.
    CatalogError
        If a table has no column of paths.
    """
    if isinstance(source, list) and len(source) != 1:
        return _from_files([Path(name) for name in source if not _is_output(Path(name), leave_out)])
    path = Path(source[0] if isinstance(source, list) else source)
    name = path.name.lower()
    if path.is_dir():
        return _from_folder(path, None if leave_out is None else Path(leave_out))
    if not path.exists():
        raise BadFileError(path, "no such file or folder", "check the path")
    if name.endswith(_TABLES) or (name.endswith(CUBES) and _is_table(path)):
        return _from_catalog(path, None if root is None else Path(root))
    if name.endswith((".txt", ".lst", ".list")):
        if _names_pictures(path):
            return _from_catalog(path, None if root is None else Path(root))
        return _from_files([_below(path.parent, line) for line in _lines(path)])
    return _from_files([path])


def _names_pictures(path: Path) -> bool:
    """Tell a table in a text file, with a column of pictures, from a list of files."""
    first = next(iter(_lines(path)), "")
    if not {word.strip().lower() for word in re.split(r"[\s,;|]+", first)} & set(_PATH_COLUMNS):
        return False
    return any(column.strip().lower() in _PATH_COLUMNS for column in table_columns(path))


def _lines(path: Path) -> list[str]:
    """Lines of a list of files, without empty ones and comments; UTF-8 or UTF-16, names of other bytes as they are."""
    check_regular(path)
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="surrogateescape")
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _from_folder(folder: Path, leave_out: Path | None) -> pd.DataFrame:
    """List the pictures of a folder; those of predictions, wherever they lie in it, are none of them."""
    kinds = PICTURES + CUBES
    outputs = None if leave_out is None else leave_out.resolve()
    found, others = [], 0
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if name[0] != "." and not _is_prediction(here / name))
        if outputs is not None:
            folders[:] = [name for name in folders if (here / name).resolve() != outputs]
        pictures = [here / name for name in names if name.lower().endswith(kinds) and name[0] != "."]
        found += [path for path in pictures if not is_mask_file(path)]
        others += sum(name.lower().endswith(_UNREAD) for name in names)
    if not found:
        more = f"; {others} files of kinds that are not read ({', '.join(_UNREAD)})" if others else ""
        raise BadFileError(
            folder,
            f"no pictures (.jpg, .png, .tif, ...) or .fits files in this folder{more}",
            "give the folder of pictures",
        )
    if others:
        warnings.warn(f"{folder}: {others} files of kinds that are not read ({', '.join(_UNREAD)})", stacklevel=3)
    return _from_files(sorted(found), below=folder)


def _is_output(path: Path, out: str | os.PathLike[str] | None) -> bool:
    """Tell what a shell lists beside pictures, as ``pictures/*``, where predictions lie there too."""
    if path.is_dir() and _is_prediction(path):
        return True
    if out is None:
        return False
    return path.resolve() == Path(out).resolve() or (
        path.parent.resolve() == Path(out).resolve() and path.name in ("run.json", "shards", "log", "masks")
    )


def _is_prediction(folder: Path) -> bool:
    """Tell a folder that `zoobot3d predict` wrote."""
    return (folder / "run.json").exists() and (folder / "shards").is_dir()


def _is_table(path: Path) -> bool:
    """Tell a FITS catalogue from a FITS picture: only the first has no image in HDU 0."""
    from astropy.io import fits

    try:
        return int(fits.getheader(path, 0).get("NAXIS", 0)) == 0
    except Exception:  # whatever astropy meets in a damaged header; who reads the picture will say so
        return False


def _from_files(files: list[Path], below: Path | None = None) -> pd.DataFrame:
    if not files:
        raise BadFileError("input", "the list of pictures is empty", "give at least one")
    paths = [str(f.relative_to(below)) if below else str(f) for f in files]
    names = [path.encode(errors="backslashreplace").decode() for path in paths]  # tables hold no other bytes
    stems = pd.Series([re.sub(r"(\.fits)?\.\w+$", "", Path(n).name) for n in names])
    whole = pd.Series([re.sub(r"(\.fits)?\.\w+$", "", n).replace(os.sep, "_") for n in names])
    ids = stems.where(~stems.duplicated(keep=False), whole)
    nan = np.full(len(files), np.nan)
    frame = pd.DataFrame(
        {"id": ids, "path": names, "file": pd.Series(map(str, files), dtype=object)}
        | {"ra": nan, "dec": nan, "pixscale": nan, "own_pixels": True}
    )
    return _unique_ids(frame, below or Path(), named_by_file=True)


def _from_catalog(path: Path, root: Path | None) -> pd.DataFrame:
    frame = read_catalog(path)
    in_any_case = {str(name).strip().lower(): name for name in reversed(list(frame.columns))}
    column = next((in_any_case[name] for name in _PATH_COLUMNS if name in in_any_case), None)
    if column is None:
        raise CatalogError(_no_pictures(frame, path))
    root = root or catalog_root(path)
    paths = frame[column].fillna("").astype(str).str.strip()
    named = id_column([name for name in frame.columns if name != column])
    ids = (
        pd.Series([name or f"row{i}" for i, name in enumerate(text_names(frame[named]))])
        if named
        else pd.Series([Path(p).stem or f"row{i}" for i, p in enumerate(paths)])
    )
    files = [_below(root, p) if p else None for p in paths]
    ra, dec, warning = _optional_positions(frame, os.fspath(path))
    plain = {plain_name(name): column for name, column in in_any_case.items()} | in_any_case
    scale = next((plain[name] for name in (COL_PIXSCALE, "pixscale") if name in plain), None)
    pixscale, unscaled = (
        _scales(frame, scale, os.fspath(path)) if scale else (np.full(len(frame), np.nan), [""] * len(frame))
    )
    warning = ["; ".join(filter(None, both)) for both in zip(warning, unscaled, strict=True)]
    out: dict[str, Any] = {"id": ids, "path": paths, "file": [str(file or "") for file in files], "ra": ra, "dec": dec}
    out |= {
        "pixscale": pixscale,
        "own_pixels": scale is not None and plain_name(scale) != COL_PIXSCALE,
        "warning": warning,
    }
    out |= _said_of_cutouts(frame, warning)
    table = pd.DataFrame({key: np.asarray(value) for key, value in out.items()})
    table = _unique_ids(table, root, named_by_file=named is None)
    return table if named is None else table.assign(id=integer_ids(table["id"], frame, named))


def _said_of_cutouts(frame: pd.DataFrame, warnings: list[str]) -> dict[str, list[str]]:
    """Return what the record of fetched cutouts says of them: ``warning`` and ``problem`` of each row."""
    if not set(_FETCHED) <= set(frame.columns):
        return {}
    told = zip(frame["warning"].fillna("").astype(str), warnings, strict=True)
    return {
        "warning": ["; ".join(filter(None, both)) for both in told],
        "problem": [EMPTY if status == "empty" else "" for status in frame["status"]],
    }


def _below(root: Path, path: str) -> Path:
    """Return where a path of a table or list is: in the folder, unless it begins with the root or the user's home."""
    return root / (Path(path).expanduser() if path.startswith("~/") else path)


def _no_pictures(frame: pd.DataFrame, path: Path) -> str:
    """Say what to do with a table that names no pictures."""
    try:
        position_columns(frame.columns, os.fspath(path))
    except CatalogError:
        return f"{path}: no column of pictures; name one of {', '.join(_PATH_COLUMNS[:12])}"
    return f"{path}: positions, but no column of pictures; give --fetch to fetch cutouts, or name a column file"


def _scales(frame: pd.DataFrame, scale: str, name: str) -> tuple[NDArray[np.float64], list[str]]:
    """Pixel scales of a column, NaN where there is none that can be used, and what is wrong with those."""
    column, scales = frame[scale], quantity(frame, scale, "arcsec", name)
    good = (scales >= PIXSCALES[0]) & (scales <= PIXSCALES[1])
    scales[~good] = np.nan
    bad = ~good & column.notna().to_numpy() & (column.astype(str).str.strip() != "").to_numpy()
    words = zip(column.astype(str), bad, strict=True)
    return scales, [
        f"its {column.name} {text[:20]!r} is no pixel scale: it is unknown" if row else "" for text, row in words
    ]


def _optional_positions(frame: pd.DataFrame, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Positions where a table has usable ones, and what is wrong with the others."""
    nowhere = np.full(len(frame), np.nan)
    try:
        ra_name, dec_name = position_columns(frame.columns, name)
    except CatalogError:
        near = [str(name) for name in frame.columns if "ra" in re.split(r"[^a-z]+", str(name).lower())]
        told = f"no position: is it in the column {near[0]}? Name its columns ra and dec" if near else ""
        return nowhere, nowhere, [told] * len(frame)
    reader = PositionReader(name, frame.columns, ra=ra_name, dec=dec_name, units=frame.attrs.get("units"))
    ra, dec = reader.read(frame[ra_name], frame[dec_name])
    if reader.maybe_hours:
        ra, dec = nowhere, nowhere
        return ra, dec, [f"{ra_name} may be in hours: its position is not used"] * len(frame)
    bad = np.isnan(ra) & frame[ra_name].notna().to_numpy()
    return ra, dec, [f"its position in {ra_name}, {dec_name} cannot be used" if row else "" for row in bad]


def _unique_ids(frame: pd.DataFrame, root: Path, *, named_by_file: bool) -> pd.DataFrame:
    """Give repeated names a number, without meeting another galaxy's name."""
    given, taken = list(frame["id"].astype(str)), set(frame["id"].astype(str))
    seen: set[str] = set()
    for index, name in enumerate(given):
        if name in seen:
            number = 2
            while f"{name}-{number}" in taken:
                number += 1
            given[index] = f"{name}-{number}"
            taken.add(given[index])
        seen.add(given[index])
    frame = frame.assign(id=given)
    frame.attrs |= {"root": str(root), "named_by_file": named_by_file}
    return frame
