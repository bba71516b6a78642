"""FITS, JPEG, PNG and atomic files: the only place where rows are flipped.

In memory row 0 is north; FITS files start in the south unless their WCS says otherwise, pictures start in the north.
Every writer makes its file under a temporary name in the same folder, syncs it and renames it, so a file appears whole
or not at all.
"""

from __future__ import annotations

import contextlib
import gzip
import io as _io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

from zoobot_3d.errors import BadFileError, GridError
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid, starts_south

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "as_one_kind",
    "atomic_path",
    "decode_mask_png",
    "encode_mask_png",
    "file_stem",
    "read_cutout",
    "read_picture",
    "read_table",
    "table_columns",
    "write_atomic",
    "write_cutout",
    "write_figure",
    "write_jpeg",
    "write_mask_fits",
    "write_parquet",
    "write_png",
    "write_table",
]

JPEG_QUALITY = 90
"""Written pictures: at 90 and no chroma subsampling a 424 px picture is as large as the Galaxy Zoo ones."""


# Whole files


def file_stem(name: object) -> str:
    """Turn a galaxy's name into a file name without its ending: what is not safe in one becomes ``_``."""
    return re.sub(r"[^\w.+-]", "_", str(name))


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success sync it and rename it to ``path``, on error remove it.

    Parameters
    ----------
    path : str or os.PathLike
        The file to make; missing parent folders are made.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write bytes or text so that the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 130) -> None:
    """Write a matplotlib figure in the format of the file's extension; PNG without one."""
    kind = Path(path).suffix.removeprefix(".") or "png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Pictures


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a JPEG or PNG as (H, W, 3) uint8 RGB, row 0 north.

    Raises
    ------
    BadFileError
        If the file is missing, empty, truncated or no picture.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    if not content:
        raise BadFileError(path, "empty file", "download it again")
    if content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[-64:]:
        # The decoder would fill the missing part with grey and say nothing.
        raise BadFileError(path, "truncated JPEG (no end marker)", "download it again")
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise BadFileError(path, "not a readable JPEG or PNG", "download it again")
    return np.asarray(picture, np.uint8)


def write_jpeg(path: str | os.PathLike[str], picture: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> None:
    """Write a (H, W, 3) uint8 RGB picture, row 0 north, as JPEG."""
    write_atomic(path, _encode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]))


def write_png(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) RGB or (H, W) grey uint8 picture, row 0 north, as PNG."""
    write_atomic(path, _encode(".png", picture[..., ::-1] if picture.ndim == 3 else picture, []))


def encode_mask_png(mask: NDArray[np.floating[Any]]) -> bytes:
    """Encode fractions (H, W) in 0-1 as an 8-bit grey PNG; 255 is 1, rounded, clipped."""
    return _encode(
        ".png", np.round(np.clip(np.nan_to_num(mask), 0, 1) * 255).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 3]
    )


def decode_mask_png(content: bytes, name: str = "mask") -> NDArray[np.float32]:
    """Decode what `encode_mask_png` made to float32 (H, W) fractions.

    Raises
    ------
    BadFileError
        If the bytes are no picture; ``name`` says which.
    """
    grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    if grey is None:
        raise BadFileError(name, "not a readable mask picture", "make it again")
    return np.asarray(grey, np.float32) / np.float32(255)


def _encode(kind: str, picture: NDArray[np.uint8], options: list[int]) -> bytes:
    done, content = cv2.imencode(kind, np.ascontiguousarray(picture), options)
    if not done:
        raise ValueError(f"cannot encode an array of {picture.dtype} {picture.shape} as {kind}")
    return content.tobytes()


# FITS


def read_cutout(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], PixelGrid]:
    """Read a Legacy Surveys grz cutout.

    Parameters
    ----------
    path : str or os.PathLike
        FITS file with a (3, H, W) image in nanomaggies in its first HDU.

    Returns
    -------
    cube : numpy.ndarray
        (3, H, W) float32, bands g, r, z, row 0 **north**; pixels without data are 0.
    grid : PixelGrid
        Where it is on the sky; floating, at 0.262 arcsec per pixel, if the header has no WCS.

    Raises
    ------
    BadFileError
        If the file is missing, truncated, not FITS, or not three bands.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # truncation is found below, in one line
            with fits.open(path, memmap=False) as hdus:
                header = hdus[0].header
                expected = header.get("BITPIX", 8) // 8
                for axis in range(header.get("NAXIS", 0)):
                    expected *= header[f"NAXIS{axis + 1}"]
                data = hdus[0].data
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, TypeError, ValueError, EOFError) as error:
        raise BadFileError(
            path, f"truncated or not a FITS file ({error})".replace("\n", " "), "download it again"
        ) from None
    if data is None or data.ndim != 3 or data.shape[0] != 3:
        found = "no image" if data is None else f"an image of shape {data.shape}"
        raise BadFileError(
            path, f"HDU 0 holds {found}, not (3, H, W) in bands g, r, z", "ask the service for bands=grz"
        )
    if data.nbytes < abs(expected):
        raise BadFileError(path, "truncated FITS image", "download it again")
    cube = np.nan_to_num(np.asarray(data, np.float32))
    try:
        wcs = WCS(header, naxis=2)
        if not wcs.has_celestial:
            return cube[:, ::-1], PixelGrid(cube.shape[1:], 0.262)
        grid = PixelGrid.from_wcs(wcs, cube.shape[1:])
    except GridError as error:
        raise BadFileError(path, str(error)) from None
    return (cube[:, ::-1] if starts_south(wcs) else cube), grid


def write_cutout(path: str | os.PathLike[str], cube: NDArray[np.floating[Any]], grid: PixelGrid, **cards: Any) -> None:
    """Write a grz cutout as the Legacy Surveys service does: float32, row 0 south, WCS.

    Parameters
    ----------
    path : str or os.PathLike
        File to write.
    cube : numpy.ndarray
        (3, H, W) nanomaggies, bands g, r, z, row 0 north.
    grid : PixelGrid
        Where it is.
    **cards
        Further header cards, e.g. ``VERSION="DR9"``.
    """
    hdu = fits.PrimaryHDU(np.ascontiguousarray(cube[:, ::-1], np.float32))
    hdu.header["BANDS"] = "grz"
    for index, band in enumerate("grz"):
        hdu.header[f"BAND{index}"] = band
    hdu.header.update(cards)
    _write_fits(path, hdu, grid)


def write_mask_fits(
    path: str | os.PathLike[str],
    masks: NDArray[np.floating[Any]],
    grid: PixelGrid,
    *,
    sigma: NDArray[np.floating[Any]] | None = None,
    **cards: Any,
) -> None:
    """Write masks (class, H, W), row 0 north, as one FITS image with row 0 south and the grid's WCS.

    The third axis is the class; header cards ``CLASS0``, ``CLASS1`` name them. With ``sigma`` (class, H, W), the
    masks' standard deviations, there are two more planes, ``spiral_sigma`` and ``bar_sigma``. A floating grid gives no
    WCS.
    """
    planes, names = masks, list(CLASSES)
    if sigma is not None:
        planes, names = np.concatenate([masks, sigma]), [*CLASSES, *(f"{name}_sigma" for name in CLASSES)]
    hdu = fits.PrimaryHDU(np.ascontiguousarray(planes[:, ::-1], np.float32))
    for index, name in enumerate(names):
        hdu.header[f"CLASS{index}"] = (name, "class of plane along axis 3")
    hdu.header["CTYPE3"] = ("CLASS", "axis 3 counts the classes")
    hdu.header.update({"CRPIX3": 1.0, "CRVAL3": 0.0, "CD3_3": 1.0})
    hdu.header["BUNIT"] = ("", "fraction of volunteers who would enclose the pixel")
    hdu.header.update(cards)
    _write_fits(path, hdu, grid)


def _write_fits(path: str | os.PathLike[str], hdu: fits.PrimaryHDU, grid: PixelGrid) -> None:
    if grid.ra is None:
        hdu.header["PIXSCALE"] = (grid.pixscale, "arcsec per pixel; position unknown")
    else:
        hdu.header.update(grid.to_header())
    buffer = _io.BytesIO()
    hdu.writeto(buffer)
    write_atomic(path, buffer.getvalue())


# Tables

TABLES = (".csv", ".csv.gz", ".parquet", ".pq", ".fits", ".fit")
"""What a table's name may end in."""


def read_table(path: str | os.PathLike[str], columns: list[str] | None = None) -> pd.DataFrame:
    """Read a CSV, Parquet or FITS table, by its extension.

    Raises
    ------
    BadFileError
        If the file is missing, unreadable, or of another kind.
    """
    path = Path(path)
    suffixes = "".join(path.suffixes[-2:]).lower()
    try:
        if suffixes.endswith((".parquet", ".pq")):
            return pd.read_parquet(path, columns=columns)
        if suffixes.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path, usecols=columns)
        if suffixes.endswith((".fits", ".fit", ".fits.gz")):
            from astropy.table import Table

            table = Table.read(path, hdu=1)
            table.convert_bytestring_to_unicode()
            return table[columns].to_pandas() if columns else table.to_pandas()
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadFileError(path, f"cannot be read as a table ({error})".replace("\n", " ")) from None
    raise BadFileError(path, "unknown kind of table", "use .csv, .parquet or .fits")


def table_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of a table's columns, without reading its rows.

    Raises
    ------
    BadFileError
        If the file is missing, unreadable, or of another kind.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        if name.endswith((".parquet", ".pq")):
            return list(pq.read_schema(path).names)
        if name.endswith((".csv", ".csv.gz")):
            return list(pd.read_csv(path, nrows=0).columns)
        if name.endswith((".fits", ".fit", ".fits.gz")):
            with fits.open(path) as hdus:
                return list(hdus[1].columns.names)
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, ValueError, IndexError, AttributeError, pa.ArrowException) as error:
        raise BadFileError(path, f"cannot be read as a table ({error})".replace("\n", " ")) from None
    raise BadFileError(path, "unknown kind of table", "use .csv, .parquet or .fits")


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
