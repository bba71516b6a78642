"""Write Galaxy Zoo: 3D FITS files just like the real ones: their layout, and the official rules for masks and clusters.

For the simulator and the tests; reading is `zoobot_3d.marks.gz3d`, which takes the layout from here. Arrays have row
0 north, as in the real files, so nothing is flipped. Must not know how marks come about.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from zoobot_3d.errors import BadMarksError
from zoobot_3d.io import write_atomic
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["gz3d_file_name", "gz3d_grid", "write_gz3d"]

PIXSCALE = 0.099
"""arcsec / px of the pictures volunteers saw."""

SIDE = 525
"""Their side, px."""

N_HDUS = 11
PICTURE, CENTER, STAR, SPIRAL, BAR, METADATA, CENTERS, STARS, POINTS, SPIRALS, BARS = range(N_HDUS)
"""HDUs have no names and are known by their place."""

METADATA_COLUMNS = (
    ("ra", ">f4"),
    ("dec", ">f4"),
    ("MANGAID", "S11"),
    ("IAUNAME", "S19"),
    ("IFUDESIGNSIZE", ">f8"),
    ("MANGA_TILEID", ">f8"),
    ("nsa_id", ">i8"),
    ("explorer_link", "S90"),
    ("GZ_total_classifications", ">i2"),
    ("GZ_bar_votes", ">i2"),
    ("GZ_spiral_votes", ">i2"),
    ("sample", "S70"),
)
CLUSTER_COLUMNS = ("x", "y", "var_x", "var_y", "var_x_y", "ra", "dec", "var_ra", "var_dec", "var_ra_dec", "count")

_CLUSTER_RADIUS = 5.0
"""px; with `_CLUSTER_POINTS` the eps and min_samples of the DBSCAN behind the official centres and stars."""
_CLUSTER_POINTS = 3
_ELLIPSE_SIGMAS = 2.0
_FORMS = {">f4": "E", ">f8": "D", ">i2": "I", ">i8": "K"}

Card = tuple[str, Any, str]
"""Keyword, value and comment of a header card."""


def gz3d_file_name(mangaid: str, ifu: int, subject_id: int) -> str:
    """Return a file's name, e.g. ``gz3d_1-379196_127_14728482.fits.gz``."""
    return f"gz3d_{mangaid}_{int(ifu)}_{int(subject_id)}.fits.gz"


def gz3d_grid(ra: float, dec: float) -> PixelGrid:
    """Return the grid of a GZ3D picture of a galaxy at `ra`, `dec` (deg).

    The position sits at 0-based pixel 261.5 of 525, half a pixel off the middle.
    """
    return PixelGrid((SIDE, SIDE), PIXSCALE, ra, dec, center=(SIDE / 2 - 1, SIDE / 2 - 1))


def write_gz3d(path: str | os.PathLike[str], marks: VolunteerMarks, picture: npt.NDArray[np.uint8]) -> None:
    """Write all 11 HDUs as the real files have them, official masks by the official rules; the same bytes every time.

    Parameters
    ----------
    path : str or os.PathLike
        Ends in ``.fits.gz``; written atomically.
    marks : VolunteerMarks
        Marks, grid and metadata. Columns of HDU 5 that the metadata lack get the grid's position, NaN, 0 or "".
    picture : ndarray, (H, W, 3) uint8
        RGB on ``marks.grid``, row 0 north.

    Raises
    ------
    BadMarksError
        If the picture does not fit the grid, or the grid has no position.
    """
    grid = marks.grid
    if picture.shape != (*grid.shape, 3) or picture.dtype != np.uint8:
        raise BadMarksError(
            f"picture is {picture.dtype} {picture.shape}; the marks' grid needs uint8 {(*grid.shape, 3)}"
        )
    if grid.ra is None or grid.dec is None:
        raise BadMarksError("the marks' grid has no position; give it ra and dec to write a GZ3D file")
    centers, center_mask = _cluster(marks.points.center, grid)
    stars, star_mask = _cluster(marks.points.star, grid)
    path_masks = marks.votes(count="paths", drop_self_intersecting=True)
    wcs_cards = _wcs_cards(grid)
    rows = marks.points
    point_columns = {
        "center_points": [json.dumps(row) for row in rows.center],
        "star_points": [json.dumps(row) for row in rows.star],
    }
    tables = (
        _metadata_array({"ra": grid.ra, "dec": grid.dec, **marks.metadata}),
        centers,
        stars,
        _rows_array(rows, point_columns),
        _rows_array(marks.spiral, {"spiral_paths": _paths_json(marks.spiral)}),
        _rows_array(marks.bar, {"bar_paths": _paths_json(marks.bar)}),
    )
    blocks = [
        *_image_hdu(picture, wcs_cards, primary=True),
        *(
            block
            for mask in (center_mask, star_mask, *path_masks)
            for block in _image_hdu(mask.astype(">f8"), wcs_cards)
        ),
        *(block for table in tables for block in _table_hdu(table)),
    ]
    # Level 1, as most of the bytes are zeros; zlib itself writes no time stamp, so equal marks are equal files.
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    write_atomic(path, b"".join([*map(packer.compress, blocks), packer.flush()]))


# astropy's own writer spends 50 ms a file on columns and checks that a fixed layout does not need; so the blocks are
# put together here, from astropy's cards.


def _image_hdu(image: npt.NDArray[Any], cards: list[Card], primary: bool = False) -> list[bytes]:
    """Return the blocks of an image HDU."""
    first: Card = ("SIMPLE", True, "conforms to FITS standard") if primary else ("XTENSION", "IMAGE", "Image extension")
    bits = image.itemsize * (8 if image.dtype.kind == "u" else -8)
    axes = [(f"NAXIS{axis}", n, "") for axis, n in enumerate(reversed(image.shape), start=1)]
    last = (
        [("EXTEND", True, "")]
        if primary
        else [("PCOUNT", 0, "number of parameters"), ("GCOUNT", 1, "number of groups")]
    )
    head = [
        first,
        ("BITPIX", bits, "array data type"),
        ("NAXIS", image.ndim, "number of array dimensions"),
        *axes,
        *last,
    ]
    return _blocks([*head, *cards], image.tobytes())


def _table_hdu(table: npt.NDArray[Any]) -> list[bytes]:
    """Return the blocks of a binary table HDU that holds a big-endian structured array."""
    cards: list[Card] = [
        ("XTENSION", "BINTABLE", "binary table extension"),
        ("BITPIX", 8, "array data type"),
        ("NAXIS", 2, "number of array dimensions"),
        ("NAXIS1", table.itemsize, "length of dimension 1"),
        ("NAXIS2", len(table), "length of dimension 2"),
        ("PCOUNT", 0, "number of group parameters"),
        ("GCOUNT", 1, "number of groups"),
        ("TFIELDS", len(table.dtype.names or ()), "number of table fields"),
    ]
    for number, name in enumerate(table.dtype.names or (), start=1):
        kind = table.dtype[name].str
        form = f"{kind[2:]}A" if kind[1] == "S" else _FORMS[kind]
        cards += [(f"TTYPE{number}", name, ""), (f"TFORM{number}", form, "")]
    return _blocks(cards, table.tobytes())


_FORMS = {">f4": "E", ">f8": "D", ">i2": "I", ">i8": "K"}


def _blocks(cards: list[Card], data: bytes) -> list[bytes]:
    """Return header and data, each filled up to whole FITS blocks of 2880 bytes."""
    header = "".join([*(_card_image(*card) for card in cards), f"{'END':80}"]).encode("ascii")
    return [header + b" " * (-len(header) % 2880), data, bytes(-len(data) % 2880)]


@lru_cache(maxsize=1000, typed=True)
def _card_image(keyword: str, value: Any, comment: str) -> str:
    """Return a header card's 80 characters; most are the same in every file."""
    return str(fits.Card(keyword, value, comment or None))


def _wcs_cards(grid: PixelGrid) -> list[Card]:
    """Return the WCS of HDU 0-4: row 0 north, so both axes run against RA and Dec."""
    x, y = grid.reference_pixel
    step = -grid.pixscale / 3600
    return [
        ("WCSAXES", 2, "Number of coordinate axes"),
        ("CRPIX1", x + 1, "Pixel coordinate of reference point"),
        ("CRPIX2", y + 1, "Pixel coordinate of reference point"),
        ("PC1_1", step, "Coordinate transformation matrix element"),
        ("PC2_2", step, "Coordinate transformation matrix element"),
        ("CDELT1", 1.0, "[deg] Coordinate increment at reference point"),
        ("CDELT2", 1.0, "[deg] Coordinate increment at reference point"),
        ("CUNIT1", "deg", "Units of coordinate increment and value"),
        ("CUNIT2", "deg", "Units of coordinate increment and value"),
        ("CTYPE1", "RA---TAN", "Right ascension, gnomonic projection"),
        ("CTYPE2", "DEC--TAN", "Declination, gnomonic projection"),
        ("CRVAL1", grid.ra, "[deg] Coordinate value at reference point"),
        ("CRVAL2", grid.dec, "[deg] Coordinate value at reference point"),
        ("LONPOLE", 180.0, "[deg] Native longitude of celestial pole"),
        ("LATPOLE", grid.dec, "[deg] Native latitude of celestial pole"),
        ("RADESYS", "ICRS", "Equatorial coordinate system"),
    ]


def _metadata_array(metadata: dict[str, Any]) -> npt.NDArray[Any]:
    """Return HDU 5 as a structured array of one row; text columns grow if they must."""
    row: list[Any] = []
    kinds = []
    for name, kind in METADATA_COLUMNS:
        value = metadata.get(name)
        if kind[0] == "S":
            text = str("" if value is None else value).encode("ascii", "replace")
            row.append(text)
            kinds.append((name, f"S{max(int(kind[1:]), len(text))}"))
        else:
            missing = 0 if kind[1] == "i" else np.nan
            row.append(missing if value is None else value)
            kinds.append((name, kind))
    return np.array([tuple(row)], dtype=kinds)


def _paths_json(task: PathTask) -> list[str]:
    """Return each volunteer's paths as JSON text."""
    return [json.dumps([path.tolist() for path in row]) for row in task.nested()]


def _rows_array(task: PathTask | PointTask, columns: dict[str, list[str]]) -> npt.NDArray[Any]:
    """Return a task's table as a structured array; text columns as wide as their longest value, as in real files."""
    if not task.n_asked:
        return np.empty(0, [(name, ">f8") for name in ("classification_id", "time_stamp", *columns)])
    texts = {"time_stamp": task.time_stamp, **columns}
    widths = {name: max(1, *map(len, values)) for name, values in texts.items()}
    table = np.empty(task.n_asked, [("classification_id", ">i8"), *((name, f"S{w}") for name, w in widths.items())])
    table["classification_id"] = task.classification_id
    for name, values in texts.items():
        table[name] = np.array(values, dtype=f"S{widths[name]}")
    return table


def _cluster(
    points_by_volunteer: Sequence[Sequence[tuple[float, float]]], grid: PixelGrid
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Cluster points as the official pipeline does.

    Returns
    -------
    table : structured ndarray
        HDU 6 or 7; of no rows it has only float columns, as in real files.
    mask : ndarray, (H, W) float64
        Inside the 2-sigma ellipse of each cluster's covariance, its number of points; overlaps add up.
    """
    points = np.array([point for row in points_by_volunteer for point in row], np.float64).reshape(-1, 2)
    mask = np.zeros(grid.shape)
    label = _dbscan(points)
    n = int(label.max(initial=-1)) + 1
    table = np.empty(n, [(name, ">i8" if n and name == "count" else ">f8") for name in CLUSTER_COLUMNS])
    # The official tables take (x, y) as counted from 1, although the masks take them as counted from 0.
    ra, dec = grid.pixel_to_sky(points[:, 0] - 1, points[:, 1] - 1)
    first = float(ra[0]) if len(ra) else 0.0
    ra = first + (ra - first + 180) % 360 - 180  # so that a mean across 0 h is no nonsense
    sky = np.column_stack([ra, dec])
    for k in range(n):
        mine = label == k
        count = int(mine.sum())
        center, covariance = points[mine].mean(axis=0), np.cov(points[mine].T)
        (ra_k, dec_k), sky_covariance = sky[mine].mean(axis=0), np.cov(sky[mine].T)
        table[k] = (*center, *_variances(covariance), ra_k, dec_k, *_variances(sky_covariance), count)
        _add_ellipse(mask, center, covariance, count)
    return table, mask


def _variances(covariance: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the variances and the covariance, in the order of the tables."""
    return covariance[0, 0], covariance[1, 1], covariance[0, 1]


def _dbscan(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Label points by cluster, -1 for none (DBSCAN, Ester et al. 1996).

    Core points have at least `_CLUSTER_POINTS` points, themselves among them, within `_CLUSTER_RADIUS`. Clusters are
    the connected core points, numbered by their first; a border point belongs to the first that reaches it.
    """
    label = np.full(len(points), -1)
    near = cdist(points, points) <= _CLUSTER_RADIUS
    core = np.flatnonzero(near.sum(axis=1) >= _CLUSTER_POINTS)
    if not len(core):
        return label
    _, component = connected_components(near[np.ix_(core, core)], directed=False)
    _, first = np.unique(component, return_index=True)
    label[core] = np.argsort(np.argsort(first))[component]
    for border in np.flatnonzero(near[:, core].any(axis=1)):
        if label[border] < 0:
            label[border] = label[core[near[border, core]]].min()
    return label


def _add_ellipse(
    mask: npt.NDArray[np.float64], center: npt.NDArray[np.float64], covariance: npt.NDArray[np.float64], value: float
) -> None:
    """Add `value` to the pixels within `_ELLIPSE_SIGMAS` of a 2-D normal distribution; a flat one covers none."""
    determinant = np.linalg.det(covariance)
    if determinant <= 0:
        return
    reach = np.ceil(_ELLIPSE_SIGMAS * np.sqrt(np.diag(covariance)))
    (left, top), (right, bottom) = (np.clip(center + s * (reach + 1), 0, mask.shape[::-1]).astype(int) for s in (-1, 1))
    x, y = np.arange(left, right) - center[0], np.arange(top, bottom)[:, None] - center[1]
    distance = covariance[1, 1] * x**2 - 2 * covariance[0, 1] * x * y + covariance[0, 0] * y**2
    mask[top:bottom, left:right] += value * (distance <= _ELLIPSE_SIGMAS**2 * determinant)
