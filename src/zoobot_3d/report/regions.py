"""Region files for DS9 and Aladin: contours of masks, rectangles of bars, traces of arms.

`astropy's regions package <https://astropy-regions.readthedocs.io>`_ reads them too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import astropy.units as u
import cv2
import numpy as np
import pandas as pd
from astropy.wcs import WCS
from contourpy import contour_generator
from numpy.typing import NDArray
from regions import (
    LinePixelRegion,
    PixCoord,
    PixelRegion,
    PolygonPixelRegion,
    RectanglePixelRegion,
    RegionMeta,
    Regions,
    RegionVisual,
)

from zoobot_3d import io
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.export import ExportSummary, export_files
from zoobot_3d.measure.arms import trace_arm
from zoobot_3d.measure.disk import FACE_ON, Disk
from zoobot_3d.measure.table import arms_path, read_measurements
from zoobot_3d.report.style import COLOURS, LEVELS
from zoobot_3d.schema import CLASSES
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["REGIONS", "bar_region", "export_regions", "mask_regions", "trace_regions"]

REGIONS = "regions"
"""Subfolder of a prediction for region files."""

_TOLERANCE = 0.05  # px, by which a contour may lie beside that of the mask
_HEADER = "# Region file format: DS9\n"


def export_regions(
    predictions: str | os.PathLike[str],
    *,
    levels: Sequence[float] = tuple(LEVELS),
    measurements: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write a DS9 region file for each galaxy of a prediction.

    Positions are on the sky (ICRS) where the galaxy's position and pixel scale are known, else pixels of the FITS masks
    that `zoobot_3d.infer.export.export_masks` writes. Files that are there, and whose shard and measurements have not
    changed since, are left alone.

    Parameters
    ----------
    predictions : path
        Folder that `zoobot_3d.predict` wrote.
    levels : sequence of float
        Fractions of volunteers to draw contours at.
    measurements : path, optional
        Table of `zoobot_3d.measure.table.measure_table`: bars become rectangles and arms lines.
    out : path, optional
        Folder for the files; by default ``regions`` in `predictions`.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    ExportSummary

    Raises
    ------
    BadFileError
        If there are no shards, one is damaged, the table cannot be read or lacks a column, or nothing can be written.
    ConfigError
        If a level is not within 0 to 1, or the folder holds regions that were made otherwise.
    """
    chosen = tuple(sorted(dict.fromkeys(float(level) for level in levels)))
    if wrong := [level for level in chosen if not 0 < level < 1]:
        raise ConfigError(f"--levels {wrong[0]:g}: give fractions of volunteers above 0 and below 1, such as 0.2")
    files = _RegionFiles(chosen) if measurements is None else _measured(chosen, Path(measurements))
    folder = Path(out) if out is not None else Path(predictions) / REGIONS
    return export_files(predictions, files, folder, progress)


def mask_regions(
    masks: NDArray[np.floating[Any]], grid: PixelGrid, levels: Sequence[float] = tuple(LEVELS)
) -> list[PixelRegion]:
    """Return the contours of masks.

    Parameters
    ----------
    masks : numpy.ndarray
        (2, H, W) fractions, row 0 north; NaN outside the field, where contours end.
    grid : PixelGrid
        Their pixels.
    levels : sequence of float
        Fractions to draw contours at.

    Returns
    -------
    list of regions.PolygonPixelRegion
        On pixels of the array as FITS files hold it, row 0 south. Tagged with class and level; contours about pixels
        below the level also with ``hole``.
    """
    found: list[PixelRegion] = []
    for name, mask in zip(CLASSES, masks, strict=True):
        contours = contour_generator(z=np.pad(np.nan_to_num(np.asarray(mask, float)), 1))  # padded, so all are closed
        for level in levels:
            lines: Any = contours.lines(level)  # its type depends on how the generator was made
            for line in lines:
                corners = cv2.approxPolyDP(line[:-1].astype(np.float32), _TOLERANCE, True)[:, 0]
                if len(corners) < 3:
                    continue  # no area
                columns, rows = corners.T.astype(float) - 1
                # Higher values lie to the same side of every line: the area about lower ones is negative.
                area = float(np.sum(columns * np.roll(rows, -1) - rows * np.roll(columns, -1))) / 2
                tags = [name, f"{name} {level:g}", *(["hole"] if area < 0 else [])]
                found.append(PolygonPixelRegion(_stored(columns, rows, grid), *_looks(name, tags, level)))
    return found


def bar_region(row: Mapping[str, Any], grid: PixelGrid) -> RectanglePixelRegion | None:
    """Return the rectangle of a bar.

    Parameters
    ----------
    row : mapping
        The galaxy's row in a table of measurements.
    grid : PixelGrid
        Its pixels.

    Returns
    -------
    regions.RectanglePixelRegion or None
        On pixels of the array as FITS files hold it; its width is along the bar. None without a bar.
    """
    x, y, length, pa, ratio = (float(row[f"bar_{name}"]) for name in ("x", "y", "length_px", "pa", "axis_ratio"))
    if not np.isfinite([x, y, length, pa, ratio]).all():
        return None
    looks = _looks("bar", ["bar", "bar length"])
    return RectanglePixelRegion(_stored(x, y, grid), length, length * ratio, (pa + 90) % 180 * u.deg, *looks)


def trace_regions(row: Mapping[str, Any], arms: pd.DataFrame, grid: PixelGrid) -> list[LinePixelRegion]:
    """Return the fitted spirals of arms as chains of lines, which region files have no better form for.

    Parameters
    ----------
    row : mapping
        The galaxy's row in a table of measurements.
    arms : pandas.DataFrame
        Rows of its arms.
    grid : PixelGrid
        Its pixels.

    Returns
    -------
    list of regions.LinePixelRegion
        On pixels of the array as FITS files hold it; those of an arm share a tag, ``arm 1`` for the longest. Empty
        without a pixel scale, as the radii of arms are kept in arcsec.
    """
    disk = FACE_ON
    if np.isfinite([row["disk_inclination"], row["disk_pa"]]).all():
        disk = Disk(float(row["disk_inclination"]), float(row["disk_pa"]))
    at_x, at_y = grid.reference_pixel
    found = []
    for arm in arms.to_dict("records"):
        if not np.isfinite([arm["r_inner"], arm["r_outer"]]).all():
            continue
        dx, dy = trace_arm(arm["pitch"], arm["hand"], (arm["r_inner"], arm["r_outer"]), arm["angle_inner"], disk)
        x, y = at_x + dx / grid.pixscale, at_y + dy / grid.pixscale
        ends = [_stored(*point, grid) for point in zip(x, y, strict=True)]
        looks = _looks("spiral", ["spiral", f"arm {arm['arm']}"])
        found += [LinePixelRegion(start, end, *looks) for start, end in pairwise(ends)]
    return found


def _stored(x: Any, y: Any, grid: PixelGrid) -> PixCoord:
    """Positions on an array whose row 0 is north, as those of the same array in a FITS file."""
    return PixCoord(x, grid.shape[0] - 1 - y)


def _looks(name: str, tags: list[str], level: float | None = None) -> tuple[RegionMeta, RegionVisual]:
    dashed = level is not None and LEVELS.get(level) == "--"
    visual = {"color": COLOURS[name], "linewidth": 1 if level is not None else 2} | ({"dash": 1} if dashed else {})
    return RegionMeta({"tag": tags}), RegionVisual(visual)


@dataclass(frozen=True)
class _RegionFiles:
    """Region files as `zoobot_3d.infer.mask_files.Files`."""

    levels: tuple[float, ...]
    rows: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, pd.DataFrame] = field(default_factory=dict)
    stamp: str = ""
    kind: str = "regions"
    sigma: bool = False

    @property
    def made(self) -> dict[str, Any]:
        return {"levels": list(self.levels)}

    def names(self, stem: str) -> list[str]:
        return [f"{stem}.reg"]

    def save(
        self, folder: Path, row: Mapping[str, Any], masks: NDArray[np.float32], sigma: NDArray[np.float32] | None
    ) -> str:
        try:
            text = self._text(row, masks)
        except Exception as error:  # one galaxy must not stop the others
            return f"regions not written: {reason_for(error, '', '')}"
        io.write_atomic(folder / self.names(str(row["file_stem"]))[0], text)
        return ""

    def _text(self, row: Mapping[str, Any], masks: NDArray[np.float32]) -> str:
        on_sky = np.isfinite([row["ra"], row["dec"], row["pixscale"]]).all()
        grid = PixelGrid(masks.shape[1:], row["pixscale"], *((row["ra"], row["dec"]) if on_sky else ()))
        found = mask_regions(masks, grid, self.levels)
        if (measured := self.rows.get(str(row["id"]))) is not None:
            bar = bar_region(measured, grid)
            found += [] if bar is None else [bar]
            if (arms := self.arms.get(str(row["id"]))) is not None:
                found += trace_regions(measured, arms, grid)
        if not found:
            return _HEADER
        wcs = WCS(grid.to_header()) if on_sky else None
        placed = [region if wcs is None else region.to_sky(wcs) for region in found]
        return str(Regions(placed).serialize(format="ds9", precision=8))


def _measured(levels: tuple[float, ...], path: Path) -> _RegionFiles:
    """Read the measurements that go into region files."""
    rows, arms = read_measurements(path)
    needed = {"id", "bar_x", "bar_y", "bar_length_px", "bar_pa", "bar_axis_ratio", "disk_inclination", "disk_pa"}
    if lacking := sorted(needed - set(rows)):
        raise BadFileError(path, f"has no column {lacking[0]}", "give the table that zoobot3d measure wrote")
    stamp = hashlib.blake2b(path.read_bytes() + arms_path(path).read_bytes(), digest_size=8).hexdigest()
    by_galaxy = {str(name): some for name, some in arms.groupby("id")}
    return _RegionFiles(levels, {str(row["id"]): row for row in rows.to_dict("records")}, by_galaxy, f"+{stamp}")
