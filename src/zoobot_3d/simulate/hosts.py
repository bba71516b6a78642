"""Simulated arms and bars in pictures of real galaxies: real light, noise and neighbours around them.

A picture is turned back into nanomaggies, the light that a recipe adds to a disk is added to this one, and simulated
volunteers look at the result as an SDSS picture. Where nothing is added the picture stays as it was, and what they mark
is what the real galaxy alone suggests to them. Knows which pictures have no arms only from whoever lists them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord
from astropy.coordinates.jparser import to_skycoord
from numpy.typing import NDArray

from zoobot_3d.catalog.positions import require_columns
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.compute.shards import Batch, sharded
from zoobot_3d.errors import BadPictureError, CatalogError, ConfigError
from zoobot_3d.io import read_picture, read_table, write_jpeg, write_parquet
from zoobot_3d.marks.gz3d import gz3d_grid
from zoobot_3d.marks.volunteer_marks import PathTask, VolunteerMarks
from zoobot_3d.schema import (
    COL_DEC,
    COL_DEC_MANGA,
    COL_ID,
    COL_JPG,
    COL_MARKS,
    COL_PIXSCALE,
    COL_RA,
    COL_RA_MANGA,
    GZ_FIELD_PX,
)
from zoobot_3d.simulate.galaxies import DECALS, SDSS, Galaxy, arm_ridges, bar_outline
from zoobot_3d.simulate.light import band_ratios, disk_ratio
from zoobot_3d.simulate.population import draw_disk
from zoobot_3d.simulate.survey import sdss_picture
from zoobot_3d.simulate.visibility import Body, bar_axes, look, median_of_rings
from zoobot_3d.simulate.volunteers import Structure, draw_marks
from zoobot_3d.sky.grid import PixelGrid, resample
from zoobot_3d.sky.rgb import grz_from_rgb, rgb_from_grz

__all__ = ["Host", "HostedGalaxy", "dress", "read_hosts", "simulate_in_hosts"]

_SCALES_LIT = 3.4
"""Scale lengths from the middle to the end of the body of a picture: the median of 250 simulated spirals and
lenticulars, whose quartiles are 2.9 and 4.2."""
_BULGE_ENDS = 0.6  # scale lengths; further in, the disk is as bright as there
_BLUER = 0.3  # mag in g-r, at most
_BARRED = 0.4  # of hosts without a bar get one
_FWHM = 2.3548  # over sigma
_BAR_COLUMNS = ("x", "y", "semi_length", "semi_width", "angle")
_TABLE = "hosted.parquet"
_MADE_OF = "made_of"  # key of its metadata: a hash of what was asked for
_PIXSCALE, _PIXSCALE_SPREAD = 0.16, 0.4  # arcsec, of simulated Galaxy Zoo pictures, and scatter of its logarithm


@dataclass(frozen=True)
class Host:
    """A real picture without arms.

    Attributes
    ----------
    picture : numpy.ndarray
        (424, 424, 3) uint8 RGB, row 0 north.
    ra, dec : float
        Position of its centre, deg.
    barred : bool or None
        None where nobody can tell: then nothing is said about bars.
    bar : numpy.ndarray or None
        (4, 2) pixel corners of its bar.
    """

    picture: NDArray[np.uint8]
    ra: float
    dec: float
    barred: bool | None = None
    bar: NDArray[np.float64] | None = None

    @cached_property
    def cube(self) -> NDArray[np.float32]:
        """(3, H, W) nanomaggies, bands g, r, z, row 0 north."""
        return grz_from_rgb(self.picture)[:, ::-1]

    @cached_property
    def body(self) -> Body:
        """The galaxy as an ellipse in the picture."""
        return look(self.picture).body


@dataclass(frozen=True)
class HostedGalaxy:
    """What comes of a host.

    Attributes
    ----------
    picture : numpy.ndarray
        (424, 424, 3) uint8 RGB, row 0 north.
    marks : VolunteerMarks
        Of the simulated volunteers; nobody is asked about bars where the host cannot tell.
    pixscale : float
        Arcsec per pixel that the picture was taken to have.
    """

    picture: NDArray[np.uint8]
    marks: VolunteerMarks
    pixscale: float


def read_hosts(table: str | os.PathLike[str], pictures: str | os.PathLike[str], split: str) -> pd.DataFrame:
    """Read a list of hosts that are named after their positions, for `simulate_in_hosts`.

    Parameters
    ----------
    table : str or os.PathLike
        CSV file with ``id``, such as J001655.18-002739.1, ``split``, ``barred`` and what is known of bars.
    pictures : str or os.PathLike
        Folder with ``<id>.jpg``.
    split : str
        Which of them.

    Returns
    -------
    pandas.DataFrame
        The list's columns, ``ra`` and ``dec`` (deg), and ``picture``.

    Raises
    ------
    BadFileError
        If the list cannot be read; the message names it.
    CatalogError
        If there is no such folder, or the list lacks a column, or an ``id`` is no position; the message names it.
    """
    if not Path(pictures).is_dir():
        raise CatalogError(f"{pictures}: no such folder; give the one with the hosts' pictures")
    hosts = read_table(table)
    require_columns(hosts.columns, ("id", "split", "barred"), str(table))
    hosts = hosts[hosts["split"] == split].reset_index(drop=True)
    places = [_place(name, table) for name in hosts["id"]]
    hosts["ra"], hosts["dec"] = [place.ra.deg for place in places], [place.dec.deg for place in places]
    hosts["picture"] = [str(Path(pictures) / f"{name}.jpg") for name in hosts["id"]]
    return hosts


def _place(name: object, table: str | os.PathLike[str]) -> SkyCoord:
    """Read a position off a name; nobody is asked, as `SkyCoord.from_name` asks about other names."""
    try:
        return to_skycoord(str(name))
    except ValueError:
        raise CatalogError(f"{table}: {name} is no position; name hosts such as J001655.18-002739.1") from None


def simulate_in_hosts(
    out: str | os.PathLike[str],
    hosts: pd.DataFrame,
    n_galaxies: int,
    *,
    seed: int = 0,
    plain: float = 0.25,
    progress: bool = True,
) -> pd.DataFrame:
    """Simulate galaxies in real pictures, or finish what a killed run began.

    Parameters
    ----------
    out : str or os.PathLike
        Folder for ``hosted/jpg``, ``hosted/marks`` and ``hosted.parquet``; that of a survey, say.
    hosts : pandas.DataFrame
        With ``picture`` (path of a 424 px JPEG), ``ra``, ``dec`` (deg), ``barred`` (``yes``, ``no``, or anything else
        for cannot tell) and, where barred, ``bar_x``, ``bar_y``, ``bar_semi_length``, ``bar_semi_width`` (pixels) and
        ``bar_angle`` (deg from +x towards +y).
    n_galaxies : int
        How many; hosts take turns.
    seed : int
        Everything follows from it.
    plain : float
        Part to which nothing is added.
    progress : bool
        Show a bar.

    Returns
    -------
    pandas.DataFrame
        Rows of a catalogue to train on: names, positions, pixel scales, and the files' places in ``out``.

    Raises
    ------
    BadFileError, BadPictureError, CatalogError
        If a picture, or what is said of its bar, cannot be used; the message names it.
    ConfigError
        If the folder holds galaxies made of something else.
    """
    root = Path(out)
    asked = json.dumps([n_galaxies, seed, plain, hosts.astype(str).to_dict("records")])
    made_of = hashlib.sha256(asked.encode()).hexdigest()
    if (root / _TABLE).exists():
        if (pq.read_schema(root / _TABLE).metadata or {}).get(_MADE_OF.encode()) != made_of.encode():
            raise ConfigError(f"{root / _TABLE}: made of other hosts, numbers or seed; take another folder")
        return read_catalog(root / _TABLE)
    for folder in ("jpg", "marks"):
        (root / "hosted" / folder).mkdir(parents=True, exist_ok=True)
    for row in hosts.to_dict("records"):  # what is wrong with one is said before the work begins
        _read_host(row)
    index = np.arange(n_galaxies)
    turns = hosts.iloc[index * len(hosts) // n_galaxies].reset_index(drop=True)
    table = turns.assign(id=[f"hosted_{i}" for i in index], number=index, picture=turns["picture"].astype(str))
    options = {"root": str(root), "seed": seed, "plain": plain}
    batch = Batch("dressing", progress=progress)
    with sharded(_simulate_rows, table, root / "hosted" / ".parts", key=made_of, options=options, batch=batch) as made:
        write_parquet(root / _TABLE, made.drop(columns=["id", "error"]), {_MADE_OF: made_of})
    return read_catalog(root / _TABLE)


def _simulate_rows(rows: pd.DataFrame, *, root: str, seed: int, plain: float) -> pd.DataFrame:
    """Make and write galaxies of a table, one after another."""
    made: list[dict[str, Any]] = []
    host, held = None, ""
    for row in rows.to_dict("records"):
        if host is None or held != row["picture"]:
            host, held = _read_host(row), row["picture"]
        rng = np.random.default_rng((seed, row["number"]))
        galaxy = dress(host, rng, plain=rng.random() < plain)
        places = {COL_JPG: f"hosted/jpg/{row['id']}.jpg", COL_MARKS: f"hosted/marks/{row['id']}.json"}
        write_jpeg(Path(root) / places[COL_JPG], galaxy.picture, int(rng.integers(70, 97)))
        galaxy.marks.to_json(Path(root) / places[COL_MARKS])
        position = {COL_RA: host.ra, COL_DEC: host.dec, COL_RA_MANGA: host.ra, COL_DEC_MANGA: host.dec}
        made.append(
            {"id": row["id"], "error": None, COL_ID: row["id"], COL_PIXSCALE: galaxy.pixscale} | position | places
        )
    return pd.DataFrame(made)


def _read_host(row: Mapping[Any, Any]) -> Host:
    """Read the picture of a row of a table of hosts."""
    picture = read_picture(Path(row["picture"]))
    if picture.shape[:2] != (GZ_FIELD_PX, GZ_FIELD_PX):
        found = f"{picture.shape[0]} x {picture.shape[1]} pixels"
        raise BadPictureError(f"{row['picture']}: is {found}; a host has {GZ_FIELD_PX} a side")
    barred, bar = {"yes": True, "no": False}.get(str(row["barred"])), None
    if barred:
        try:
            x, y, semi_length, semi_width, angle = (float(row[f"bar_{name}"]) for name in _BAR_COLUMNS)
        except (KeyError, ValueError):
            wanted = ", ".join(f"bar_{name}" for name in _BAR_COLUMNS)
            raise CatalogError(f"{row['picture']}: barred, but no numbers for its bar; fill {wanted}") from None
        bar = cv2.boxPoints(((x, y), (2 * semi_length, 2 * semi_width), angle)).astype(float)
    return Host(picture, float(row["ra"]), float(row["dec"]), barred, bar)


def dress(host: Host, rng: np.random.Generator, *, plain: bool = False) -> HostedGalaxy:
    """Give a real galaxy arms, and some of those without a bar a bar, and let volunteers mark it.

    Parameters
    ----------
    host : Host
        The real galaxy.
    rng : numpy.random.Generator
        The only source of chance.
    plain : bool
        Add nothing.
    """
    pixscale = float(np.clip(_PIXSCALE * np.exp(_PIXSCALE_SPREAD * rng.standard_normal()), 0.1, 0.6))
    grid = PixelGrid(host.cube.shape[1:], pixscale, host.ra, host.dec)
    corners = None if host.bar is None else (np.asarray(grid.middle) - host.bar) * pixscale  # east and north
    picture, cube, ridges = host.picture, host.cube, []
    if not plain:
        galaxy = _fit(host, pixscale, rng)
        cube = cube + _added_light(galaxy, host, grid, rng)
        before, after = (rgb_from_grz(c[:, ::-1]).astype(np.int16) for c in (host.cube, cube))
        picture = np.clip(picture + (after - before), 0, 255).astype(np.uint8)  # elsewhere it stays as it was
        ridges = arm_ridges(galaxy)
        corners = bar_outline(galaxy) if corners is None else corners
    shown_grid = gz3d_grid(host.ra, host.dec)
    shown = sdss_picture(_as_sdss(cube, grid, shown_grid, rng))
    marks = draw_marks(Structure(ridges, corners, position=(host.ra, host.dec)), shown, shown_grid, rng)
    if host.barred is None:
        marks = replace(marks, bar=PathTask.from_nested([]))
    return HostedGalaxy(picture, marks, pixscale)


def _fit(host: Host, pixscale: float, rng: np.random.Generator) -> Galaxy:
    """Draw arms that fit the body of a host."""
    body, bar = host.body, None
    if host.bar is not None:
        _, along, semi_length, _ = bar_axes(host.bar)
        bar = semi_length * pixscale, _position_angle(float(np.arctan2(along[1], along[0])))
    return draw_disk(
        rng,
        disk_scale=body.semi_major / _SCALES_LIT * pixscale * float(np.exp(0.2 * rng.standard_normal())),
        axis_ratio=float(np.clip(body.semi_minor / body.semi_major, 0.25, 0.99)),
        pa=_position_angle(body.angle),
        bar=bar,
        barred=host.barred is False and rng.random() < _BARRED,
    )


def _position_angle(angle: float) -> float:
    """Deg north through east, 0-180, of a direction in rad from +x towards +y of a picture."""
    return float((90 - np.degrees(angle)) % 180)


def _added_light(galaxy: Galaxy, host: Host, grid: PixelGrid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Light, (3, H, W) in the units of the cube, that the recipe's structure adds to a smooth disk like the host's."""
    y, x = np.indices(grid.shape, np.float32)
    xi, eta = (grid.middle[0] - x) * grid.pixscale, (grid.middle[1] - y) * grid.pixscale
    ratio = disk_ratio(galaxy, xi, eta)
    radius = np.hypot(*galaxy.to_plane(xi, eta)) / grid.pixscale
    inner = _BULGE_ENDS * galaxy.disk_scale / grid.pixscale
    # Disks with arms are bluer than those without; a bulge is not.
    g_r = rng.uniform(0.0, _BLUER)
    bluer = band_ratios(-g_r, -0.75 * g_r) - 1
    disk = (1 - np.exp(-((radius / inner) ** 2))) * (radius < 1.3 * host.body.semi_major)
    ring = radius.astype(int)
    added = np.empty_like(host.cube)
    for band, image in enumerate(host.cube):
        profile = median_of_rings(image, ring).astype(np.float32)
        profile = np.maximum(cv2.GaussianBlur(profile[None], (9, 1), 2.0)[0], 0)
        profile[: int(inner)] = profile[min(int(inner), len(profile) - 1)]
        light = profile[ring] * (ratio[band] - 1) + image * bluer[band] * disk
        added[band] = cv2.GaussianBlur(light.astype(np.float32), (0, 0), DECALS.fwhm[band] / grid.pixscale / _FWHM)
    return added


def _as_sdss(
    cube: NDArray[np.float32], grid: PixelGrid, shown_grid: PixelGrid, rng: np.random.Generator
) -> NDArray[np.float32]:
    """See a cutout through SDSS's seeing and noise."""
    seen = resample(cube, grid, shown_grid)
    native = tuple(round(n * shown_grid.pixscale / SDSS.pixscale) for n in shown_grid.shape)
    for band, image in enumerate(seen):
        blur = np.sqrt(max(SDSS.fwhm[band] ** 2 - DECALS.fwhm[band] ** 2, 0)) / _FWHM / shown_grid.pixscale
        noise = SDSS.sigma[band] * rng.standard_normal(native).astype(np.float32)
        image[:] = cv2.GaussianBlur(image, (0, 0), float(blur)) + cv2.resize(
            noise, shown_grid.shape[::-1], interpolation=cv2.INTER_CUBIC
        )
    return seen
