"""The galaxies that an input names: pictures in a folder, in a list of files, or in a table.

Opens tables and lists, never the pictures themselves.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.catalog.naming import integer_ids, text_names
from zoobot_3d.catalog.pixel_scales import read_pixscales
from zoobot_3d.catalog.positions import PositionReader, check_equinox, plain_name, position_columns
from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import TABLES, check_regular, is_mask_file, table_columns
from zoobot_3d.schema import COL_FITS, COL_JPG, COL_PIXSCALE, EMPTY, id_column

__all__ = ["CUBES", "PICTURES", "list_galaxies"]

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

_SCALE_COLUMNS = (
    COL_PIXSCALE, "pixscale", "pixel_scale", "pix_scale", "pixelscale", "plate_scale", "arcsec_per_pixel",
    "arcsec_per_pix", "arcsec_per_px",
)  # fmt: skip
"""Columns of pixel scales, in small letters; the first is that of 424 px across a picture, others of its own pixels."""

_RENAMED = "its name repeats that of an earlier row: a number is added"

_FETCHED = ("status", "warning", "layer", COL_JPG)
"""Columns of the record of fetched cutouts."""

_UNREAD = (".gif", ".heic", ".heif", ".avif", ".jxl", ".svg", ".psd", ".pdf", ".eps")


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
    bare = {plain_name(re.sub(r"[\[(].*[\])]$", "", name).strip()): column for name, column in in_any_case.items()}
    bare |= in_any_case
    kind = next((name for name in _SCALE_COLUMNS if name in bare), "")
    scale = bare[kind] if kind else None
    pixscale, unscaled = (
        read_pixscales(frame, scale, os.fspath(path)) if scale else (np.full(len(frame), np.nan), [""] * len(frame))
    )
    warning = ["; ".join(filter(None, both)) for both in zip(warning, unscaled, strict=True)]
    out: dict[str, Any] = {"id": ids, "path": paths, "file": [str(file or "") for file in files], "ra": ra, "dec": dec}
    out |= {
        "pixscale": pixscale,
        "own_pixels": scale is not None and kind != COL_PIXSCALE,
        "warning": warning,
    }
    out |= _said_of_cutouts(frame, warning)
    table = pd.DataFrame({key: np.asarray(value) for key, value in out.items()})
    table = _unique_ids(table, root, named_by_file=named is None)
    renamed = (table["id"].to_numpy() != ids.to_numpy()) & (paths != "").to_numpy()
    told = table["warning"].map(lambda words: "; ".join(filter(None, (words, _RENAMED))))
    table["warning"] = table["warning"].mask(renamed, told)
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


def _optional_positions(frame: pd.DataFrame, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Positions where a table has usable ones, and what is wrong with the others."""
    nowhere = np.full(len(frame), np.nan)
    try:
        ra_name, dec_name = position_columns(frame.columns, name)
    except CatalogError:
        near = [str(name) for name in frame.columns if "ra" in re.split(r"[^a-z]+", str(name).lower())]
        told = f"no position: is it in the column {near[0]}? Name its columns ra and dec" if near else ""
        return nowhere, nowhere, [told] * len(frame)
    try:
        check_equinox(frame, name)
    except CatalogError as error:
        return nowhere, nowhere, [f"no position: {str(error).removeprefix(f'{name}: ')}"] * len(frame)
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
