"""Galaxy Zoo: 3D FITS files (SDSS DR17 value-added catalogue v4_0_0): read them, and write files just like them.

A file is one galaxy: the picture volunteers saw, official masks, and every mark of every volunteer. Its arrays have
row 0 north already, so nothing is flipped here. HDUs have no names and are known by their place. Must not know
where files come from, nor what is made of the marks.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from astropy.io import fits

from zoobot_3d.errors import BadFileError, BadMarksError, GridError
from zoobot_3d.io import gunzip
from zoobot_3d.marks.gz3d_writer import (
    BAR,
    BARS,
    CENTER,
    CENTERS,
    CLUSTER_COLUMNS,
    METADATA,
    METADATA_COLUMNS,
    N_HDUS,
    PICTURE,
    POINTS,
    SPIRAL,
    SPIRALS,
    STAR,
    STARS,
    gz3d_file_name,
    gz3d_grid,
    write_gz3d,
)
from zoobot_3d.marks.rasterize import FlatPaths
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.sky.grid import PixelGrid, starts_south
from zoobot_3d.sky.header import read_wcs

__all__ = ["Gz3dFile", "gz3d_file_name", "gz3d_grid", "read_gz3d", "write_gz3d"]

_FIX = "download it again"
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Gz3dFile:
    """What a Galaxy Zoo: 3D file holds; the picture, masks and clusters are unpacked when first asked for.

    Attributes
    ----------
    path : str
        The file.
    marks : VolunteerMarks
        Everything volunteers drew, with ``marks.grid`` and ``marks.metadata``. Rows of one ``classification_id`` are
        one volunteer.
    dropped_vertices : int
        Vertices without a coordinate (null or NaN), which are left out of their paths, as GZ3D's own masks do it.
    """

    path: str
    marks: VolunteerMarks
    _content: bytes = field(repr=False)
    dropped_vertices: int = 0

    @property
    def grid(self) -> PixelGrid:
        """Grid of the picture and the masks."""
        return self.marks.grid

    @property
    def metadata(self) -> dict[str, Any]:
        """HDU 5: the galaxy; numbers and text under the file's column names, None where the file has NaN."""
        return self.marks.metadata

    @cached_property
    def picture(self) -> npt.NDArray[np.uint8]:
        """HDU 0: (H, W, 3) uint8 RGB, row 0 north; the magenta hexagon of the IFU is part of it."""
        return self._image(PICTURE, (*self.grid.shape, 3)).astype(np.uint8)

    @cached_property
    def center_mask(self) -> npt.NDArray[np.float64]:
        """HDU 1: (H, W) float64; inside the ellipse of a cluster of centres, how many points it has."""
        return self._image(CENTER, self.grid.shape).astype(np.float64)

    @cached_property
    def star_mask(self) -> npt.NDArray[np.float64]:
        """HDU 2: likewise for foreground stars."""
        return self._image(STAR, self.grid.shape).astype(np.float64)

    @cached_property
    def spiral_mask(self) -> npt.NDArray[np.float64]:
        """HDU 3: (H, W) float64 count of paths, self-intersecting ones left out. Not votes: those are `marks.votes`."""
        return self._image(SPIRAL, self.grid.shape).astype(np.float64)

    @cached_property
    def bar_mask(self) -> npt.NDArray[np.float64]:
        """HDU 4: likewise for bars."""
        return self._image(BAR, self.grid.shape).astype(np.float64)

    @cached_property
    def center_clusters(self) -> pd.DataFrame:
        """HDU 6: clusters of centre points; x, y and variances in px, ra, dec and variances in deg, count of points."""
        return self._clusters(CENTERS)

    @cached_property
    def star_clusters(self) -> pd.DataFrame:
        """HDU 7: likewise for foreground stars."""
        return self._clusters(STARS)

    def _image(self, hdu: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        def read(hdus: fits.HDUList) -> npt.NDArray[Any]:
            data = hdus[hdu].data
            if data is None or data.shape != shape:
                found = "no image" if data is None else f"an array of shape {data.shape}"
                raise BadFileError(self.path, f"HDU {hdu} holds {found}, not {shape}", _FIX)
            return data

        return _with_hdus(self.path, self._content, hdu, read)

    def _clusters(self, hdu: int) -> pd.DataFrame:
        def read(hdus: fits.HDUList) -> pd.DataFrame:
            columns = {name: _column(self.path, hdus, hdu, name).astype(float) for name in CLUSTER_COLUMNS}
            return pd.DataFrame(columns).astype({"count": np.int64})

        return _with_hdus(self.path, self._content, hdu, read)


def read_gz3d(path: str | os.PathLike[str]) -> Gz3dFile:
    """Read a Galaxy Zoo: 3D file, gzipped or not.

    Parameters
    ----------
    path : str or os.PathLike
        A ``gz3d_*.fits.gz``.

    Returns
    -------
    Gz3dFile

    Raises
    ------
    BadFileError
        If the file is missing, truncated, has fewer HDUs, arrays of another shape, or marks that cannot be read. The
        message names the file, the HDU and the row (both from 0).
    """
    name = os.fspath(path)
    content = _read_content(name)

    def read(hdus: fits.HDUList) -> tuple[VolunteerMarks, int]:
        grid = _read_grid(name, hdus)
        spiral, lost_of_spiral = _read_paths(name, hdus, SPIRALS, "spiral_paths")
        bar, lost_of_bar = _read_paths(name, hdus, BARS, "bar_paths")
        marks = VolunteerMarks(grid, spiral, bar, points=_read_points(name, hdus), metadata=_read_metadata(name, hdus))
        return marks, lost_of_spiral + lost_of_bar

    marks, dropped = _with_hdus(name, content, None, read)
    return Gz3dFile(name, marks, content, dropped)


def _read_content(path: str) -> bytes:
    """Return the bytes of the FITS file, unzipped whole: a gzip stream has no way to its end but through it."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path, or download it") from None
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gunzip(content)
        except (EOFError, OSError, zlib.error) as error:
            raise BadFileError(path, f"truncated or corrupt gzip ({error})", _FIX) from None
    if not content.startswith(b"SIMPLE  ="):
        raise BadFileError(path, "not a FITS file" if content else "empty file", _FIX)
    return content


def _with_hdus(path: str, content: bytes, hdu: int | None, read: Callable[[fits.HDUList], _T]) -> _T:
    """Open the FITS file in memory, check that all of it is there, and read from it; any failure names the file."""
    with quiet_libraries():  # astropy warns of truncation; here that is an error of one line
        try:
            with fits.open(io.BytesIO(content), memmap=False) as hdus:
                n = len(hdus)
                if n < N_HDUS:
                    raise BadFileError(path, f"HDU {n} is missing: {n} HDUs of {N_HDUS}", _FIX)
                for number in range(N_HDUS):
                    info = hdus.fileinfo(number)
                    if info["datLoc"] + info["datSpan"] > len(content):
                        raise BadFileError(path, f"HDU {number} is truncated", _FIX)
                return read(hdus)
        except BadFileError:
            raise
        except Exception as error:  # astropy raises almost any class on corrupt bytes
            what = "cannot be read as FITS" if hdu is None else f"HDU {hdu} cannot be read"
            raise BadFileError(path, f"{what} ({_one_line(error)})", _FIX) from error


def _read_grid(path: str, hdus: fits.HDUList) -> PixelGrid:
    """Check the shapes of HDU 0-4, and return their grid from HDU 1 (HDU 0 reads as three axes)."""
    shapes = [tuple(hdus[number].header.get(f"NAXIS{axis}", 0) for axis in (2, 1)) for number in range(BAR + 1)]
    header = hdus[PICTURE].header
    shapes[PICTURE] = (header.get("NAXIS3", 0), header.get("NAXIS2", 0))
    shape = shapes[CENTER]
    for number, found in enumerate(shapes):
        colours = hdus[number].header.get("NAXIS1") if number == PICTURE else None
        n_axes = hdus[number].header["NAXIS"]
        if found != shape or 0 in found or n_axes != (3 if number == PICTURE else 2) or colours not in (3, None):
            raise BadFileError(
                path,
                f"HDU {number} has the wrong shape, {found} where HDU 1 has {shape} (picture: and 3 colours)",
                _FIX,
            )
    try:
        if (wcs := read_wcs(hdus[CENTER].header)) is None:
            raise GridError("no celestial axes")
        if starts_south(wcs, shape):
            raise BadFileError(path, "HDU 1: the WCS puts row 0 in the south; GZ3D files have it north", _FIX)
        return PixelGrid.from_wcs(wcs, shape)
    except (GridError, ValueError) as error:
        raise BadFileError(path, f"HDU 1: no usable WCS ({_one_line(error)})", _FIX) from None


def _read_metadata(path: str, hdus: fits.HDUList) -> dict[str, Any]:
    """Return the one row of HDU 5 as plain numbers and text."""
    table = hdus[METADATA]
    columns = table.columns.names if isinstance(table, fits.BinTableHDU) else []
    names = {name.lstrip("#"): name for name in columns}  # some tables begin as a commented line of text did
    missing = [name for name, _ in METADATA_COLUMNS if name not in names]
    if missing:
        raise BadFileError(path, f"HDU {METADATA} has no column {missing[0]!r}", _FIX)
    if len(table.data) != 1:
        raise BadFileError(path, f"HDU {METADATA} has {len(table.data)} rows, not 1", _FIX)
    values = {name: table.data[column][0] for name, column in names.items()}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in plain.items()}  # NaN: not known


def _column(path: str, hdus: fits.HDUList, hdu: int, name: str) -> npt.NDArray[Any]:
    """Return one column of a table, or say which is missing."""
    table = hdus[hdu]
    if not isinstance(table, fits.BinTableHDU) or name not in table.columns.names:
        raise BadFileError(path, f"HDU {hdu} has no column {name!r}", _FIX)
    return np.asarray(table.data[name])


def _read_rows(path: str, hdus: fits.HDUList, hdu: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return classification ids and time stamps of a task."""
    ids, stamps = (_column(path, hdus, hdu, name) for name in ("classification_id", "time_stamp"))
    return tuple(int(i) for i in ids), tuple(str(stamp) for stamp in stamps)


def _read_json(path: str, hdus: fits.HDUList, hdu: int, name: str) -> list[Any]:
    """Return a column of JSON text, parsed: one list per row."""
    rows = []
    for row, text in enumerate(_column(path, hdus, hdu, name)):
        try:
            value = json.loads(str(text))
        except json.JSONDecodeError as error:
            raise BadFileError(path, f"HDU {hdu}, row {row}: {name} is broken JSON ({error})", _FIX) from None
        if not isinstance(value, list):
            raise BadFileError(path, f"HDU {hdu}, row {row}: {name} is not a list", _FIX)
        rows.append(value)
    return rows


def _read_paths(path: str, hdus: fits.HDUList, hdu: int, name: str) -> tuple[PathTask, int]:
    """Return a drawing task, a row for each volunteer asked, and how many vertices were dropped."""
    ids, stamps = _read_rows(path, hdus, hdu)
    rows, dropped = [], 0
    for paths in _read_json(path, hdus, hdu, name):
        whole = [_without_gaps(each) for each in paths]
        dropped += sum(len(each) - len(kept) for each, kept in zip(paths, whole, strict=True) if isinstance(each, list))
        rows.append([kept for each, kept in zip(paths, whole, strict=True) if kept or not each])
    try:
        FlatPaths.from_nested(rows)  # a mistake is told by its row of the file
        firsts, merged = _by_volunteer(ids, rows)
        task = PathTask(
            tuple(ids[row] for row in firsts), tuple(stamps[row] for row in firsts), FlatPaths.from_nested(merged)
        )
        return task, dropped
    except BadMarksError as error:
        # Volunteers are rows here.
        raise BadFileError(path, f"HDU {hdu}, {name}: {str(error).replace('volunteer', 'row', 1)}", _FIX) from None


def _without_gaps(path: Any) -> Any:
    """Drop the vertices of a path that have no coordinate: null, or NaN, which Python's JSON knows."""
    if not isinstance(path, list):
        return path
    return [v for v in path if not (isinstance(v, list) and any(x is None or x != x for x in v))]


def _by_volunteer(ids: tuple[int, ...], rows: list[Any]) -> tuple[list[int], list[Any]]:
    """Join the marks of rows with one classification id; return the first row of each, and the marks."""
    first: dict[int, int] = {}
    merged: dict[int, Any] = {}
    for row, (name, marks) in enumerate(zip(ids, rows, strict=True)):
        first.setdefault(name, row)
        merged.setdefault(name, []).extend(marks)
    return list(first.values()), list(merged.values())


def _read_points(path: str, hdus: fits.HDUList) -> PointTask:
    """Return the pointing task; a point with a missing coordinate is left out, as the official clusters do."""
    columns = []
    for name in ("center_points", "star_points"):
        rows = _read_json(path, hdus, POINTS, name)
        for row, points in enumerate(rows):
            if not all(isinstance(point, list) and len(point) == 2 for point in points):
                raise BadFileError(path, f"HDU {POINTS}, row {row}: {name} is not a list of [x, y]", _FIX)
            rows[row] = _without_gaps(points)
        columns.append(rows)
    ids, stamps = _read_rows(path, hdus, POINTS)
    try:
        (firsts, centers), (_, stars) = (_by_volunteer(ids, rows) for rows in columns)
        return PointTask(
            tuple(ids[row] for row in firsts), tuple(stamps[row] for row in firsts), tuple(centers), tuple(stars)
        )
    except BadMarksError as error:
        raise BadFileError(path, f"HDU {POINTS}: {error}", _FIX) from None


def _one_line(error: Exception) -> str:
    """Return an error's class and text without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
