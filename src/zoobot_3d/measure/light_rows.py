"""The rows of the table of light: finds each galaxy's image in FITS, lays masks and stars on it, and measures.

One image that cannot be used is told in its galaxy's row, and stops none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d import io
from zoobot_3d.catalog.listing import CUBES
from zoobot_3d.catalog.reading import catalog_root
from zoobot_3d.compute.batch import file_stamp, reason_for
from zoobot_3d.errors import CatalogError
from zoobot_3d.marks.gz3d import read_gz3d
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.flags import bits
from zoobot_3d.measure.light import measure_light
from zoobot_3d.schema import COL_FITS
from zoobot_3d.sky.grid import TOLERANCE, PixelGrid, resample

__all__ = ["files_of_light", "light_rows", "lightless"]

_NEED = "light and colours need images in FITS, not pictures"


def files_of_light(
    jobs: pd.DataFrame, table: pd.DataFrame | None, path: str | os.PathLike[str] | None, images: str, stars: str
) -> pd.DataFrame:
    """Find the image in FITS, and the file of stars, of each galaxy.

    Parameters
    ----------
    jobs : pandas.DataFrame
        With ``id``, and ``image`` that masks were predicted on.
    table : pandas.DataFrame or None
        Galaxies, by name, with the columns ``images`` and ``stars`` where there are such files.
    path : path or None
        Of the table: paths in it start from its root (`zoobot_3d.catalog.reading.catalog_root`) or its folder.
    images, stars : str
        Names of the columns.

    Returns
    -------
    pandas.DataFrame
        The jobs with ``light_image`` and ``light_stars``, empty where there is none, and ``light_stamp``.

    Raises
    ------
    CatalogError
        If no galaxy has an image in FITS, or the table has no column of a name that was asked for.
    """
    if images != COL_FITS and (table is None or images not in table):
        raise CatalogError(f"{path or 'no table of galaxies'}: no column {images} of images; {_NEED}")
    own = [name if name.lower().endswith(CUBES) else "" for name in jobs["image"]]
    given = _paths(jobs, table, path, images)
    found = [a or b for a, b in zip(given, own, strict=True)]
    if not any(found):
        raise CatalogError(
            f"no galaxy has an image in FITS: {_NEED}; predict FITS cutouts, or give a table of galaxies with "
            f"their paths in a column {images}"
        )
    marks = _paths(jobs, table, path, stars)
    stamps = [(*pair, *(file_stamp(Path(name)) for name in pair)) for pair in zip(found, marks, strict=True)]
    return jobs.assign(light_image=found, light_stars=marks, light_stamp=[repr(stamp) for stamp in stamps])


def _paths(
    jobs: pd.DataFrame, table: pd.DataFrame | None, path: str | os.PathLike[str] | None, column: str
) -> list[str]:
    if table is None or path is None or column not in table:
        return [""] * len(jobs)
    root, folder = catalog_root(path), Path(path).resolve().parent
    out = []
    for value in table[column].reindex(jobs["id"]):
        text = value.strip() if isinstance(value, str) else ""
        beside = folder / text
        out.append(str(beside if beside.exists() and not (root / text).exists() else root / text) if text else "")
    return out


def light_rows(
    job: Mapping[str, Any], masks: NDArray[np.float32], grid: PixelGrid, disk: Disk | None
) -> list[dict[str, Any]]:
    """Measure the light of one galaxy: a row for each band, or one that says why there is none.

    Parameters
    ----------
    job : mapping
        ``id``, ``light_image`` and ``light_stars``.
    masks : numpy.ndarray
        (2, H, W) fractions, row 0 north; NaN outside the field.
    grid : PixelGrid
        Their pixels.
    disk : Disk or None
        That radii are deprojected with.
    """
    path = str(job["light_image"])
    if not path:
        return lightless(job, f"no image in FITS: {_NEED}", "light_no_image")
    try:
        image = io.open_bands(path)
        laid, centre = _laid(masks, grid, image.grid)
        stars, problem = _stars(str(job["light_stars"]), image.grid)
        light = measure_light(
            image.planes, image.bands, laid, image.grid, invvar=image.invvar, disk=disk, left_out=stars, centre=centre
        )
    except Exception as error:  # one galaxy must not stop the others
        return lightless(job, reason_for(error, path, Path(path).name), "light_no_image")
    words = "; ".join([*image.notes, *([problem] if problem else [])])
    told = {"id": job["id"], "error": "", "warning": words, "image": Path(path).name}
    flags = 0 if image.calibrated else bits("light_uncalibrated")
    rows = [told | band.row() for band in light.bands]
    return [row | {"flags": row["flags"] | flags} for row in rows]


def lightless(job: Mapping[str, Any], reason: str, flag: str) -> list[dict[str, Any]]:
    """Return the row of a galaxy whose light was not measured."""
    name = Path(str(job["light_image"])).name if job["light_image"] else ""
    return [{"id": job["id"], "band": "", "error": reason, "image": name, "flags": bits(flag)}]


def _laid(
    masks: NDArray[np.float32], grid: PixelGrid, to: PixelGrid
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Bring masks onto the pixels of an image; return the galaxy's centre there, too."""
    if grid.shape == to.shape and not (grid.scaled and to.scaled):
        return masks, grid.reference_pixel  # a picture and an image of the same pixels
    affine = grid.affine_to(to)
    corners = np.array([[0, 0, 1], [grid.shape[1] - 1, grid.shape[0] - 1, 1]], float).T
    x, y = affine @ [*grid.reference_pixel, 1.0]
    if grid.shape == to.shape and np.abs(affine @ corners - corners[:2]).max() < 2 * TOLERANCE:
        return masks, (float(x), float(y))
    return resample(masks, grid, to, fill=np.nan), (float(x), float(y))


def _stars(path: str, grid: PixelGrid) -> tuple[NDArray[np.bool_] | None, str]:
    """Read the stars that volunteers marked, on the pixels of an image; or say why they cannot be left out."""
    if not path:
        return None, ""
    if grid.ra is None:
        return None, "stars are not left out: the image has no position"
    try:
        marks = read_gz3d(path)
        return resample((marks.star_mask > 0).astype(np.float32), marks.grid, grid) > 0.5, ""
    except Exception as error:  # light can be measured without them
        return None, f"stars are not left out: {reason_for(error, path, Path(path).name)}"
