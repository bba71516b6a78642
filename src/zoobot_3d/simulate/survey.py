"""A whole simulated survey on disk, in the formats of the real ones: GZ3D FITS, cutouts, pictures, marks, tables.

A galaxy's files follow from the survey's seed and the galaxy's number alone, whoever makes them and in whatever order,
so a survey can be made by any number of workers, stopped, resumed and enlarged. The order of work is here; what a
galaxy looks like, how people mark it and what tables say is not.

Layout under the survey's folder::

    gz3d/gz3d_<MANGAID>_<IFU>_<subject>.fits.gz
    images/fits/<dr8_id>.fits  images/jpg/<dr8_id>.jpg  marks/<dr8_id>.json
    rows/<dr8_id>.json         a galaxy's rows in every table; written last, so it says that the galaxy is done
    catalogues/                see `zoobot_3d.simulate.catalogs.CATALOGUES`
    data/gz3d_and_desi_master_catalog.parquet  truth.parquet  survey.json
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d import schema
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.io import JPEG_QUALITY, write_atomic, write_cutout, write_jpeg
from zoobot_3d.marks.gz3d import gz3d_file_name, gz3d_grid, write_gz3d
from zoobot_3d.simulate.catalogs import (
    CATALOGUES,
    GZ3D_COLUMNS,
    brick_id,
    catalog_rows,
    iau_name,
    sky_positions,
    write_catalogs,
)
from zoobot_3d.simulate.galaxies import (
    DECALS,
    SDSS,
    Galaxy,
    Instrument,
    Kind,
    Ridge,
    arm_ridges,
    bar_outline,
    draw_galaxy,
    render,
)
from zoobot_3d.simulate.volunteers import Structure, draw_marks
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz

__all__ = ["SurveySummary", "sdss_picture", "simulate_survey"]

_FORMAT = 2
"""Of a survey's folder; raised when the same seed gives other files."""
_IFU_FIBRES_ACROSS = {19: 5, 37: 7, 61: 9, 91: 11, 127: 13}
_ARCSEC_PER_FIBRE = 1.115
"""Half of the burnt-in hexagon's width, corner to corner, per fibre across; 1-379196 (127 fibres) has 29.0 arcsec."""
_SDSS_SCALES = tuple(np.float32(0.16 * ratio) for ratio in (4.9, 5.7, 7.8))  # SkyServer's ratios of i, r, g
_SDSS_PEDESTAL = np.float32(0.005)
_MAGENTA = (255, 0, 255)
_CUTOUT_CARDS = {"SURVEY": "DECaLS", "VERSION": "DR8", "IMAGETYP": "image"}


Files: TypeAlias = Literal["all", "no-cutouts", "pictures"]
"""Which files of each galaxy a survey has; see `simulate_survey`."""


@dataclass(frozen=True)
class SurveySummary:
    """What `simulate_survey` left behind.

    Attributes
    ----------
    root : pathlib.Path
        The survey's folder: relative paths of the catalogues hang on it.
    master : pathlib.Path
        The master catalogue.
    n_galaxies : int
        Galaxies in the tables.
    n_made : int
        Of them, made in this run; the others were there.
    seconds : float
        This run's wall time.
    """

    root: Path
    master: Path
    n_galaxies: int
    n_made: int
    seconds: float


def simulate_survey(
    out: str | os.PathLike[str],
    n_galaxies: int,
    *,
    seed: int = 0,
    workers: int | None = None,
    files: Files = "all",
    broad: bool = False,
    kind: Kind | None = None,
    progress: bool = True,
) -> SurveySummary:
    """Simulate a survey, or finish or enlarge one that is there.

    Parameters
    ----------
    out : str or os.PathLike
        Folder to write; made if missing. An earlier run's galaxies in it are kept.
    n_galaxies : int
        Galaxies in the survey.
    seed : int
        Everything follows from it, to the byte, whatever the number of workers.
    workers : int, optional
        Processes; by default one per core this process may use, fewer for a small survey.
    files : {"all", "no-cutouts", "pictures"}
        ``"pictures"`` leaves out the GZ3D and cutout FITS files, which training does not read: pictures, marks and
        tables only. ``"no-cutouts"`` leaves out the cutout FITS files alone (2.2 MB a galaxy): the loopback archive
        renders its own. The files that are written are the same.
    broad : bool
        Give each galaxy another depth, seeing, stretch, JPEG quality and size in the field (`Look`), for a model that
        should not depend on one survey's.
    kind : str, optional
        Only galaxies of this kind, one of `KINDS`; by default the natural mix.
    progress : bool
        Show a bar with rate and time left.

    Returns
    -------
    SurveySummary
        Where things are and how many.

    Raises
    ------
    ConfigError
        If the numbers make no sense, or the folder holds a survey with another seed.
    BadFileError
        If another simulation is running in the folder, or nothing can be written there.
    """
    if n_galaxies < 1 or seed < 0 or (workers is not None and workers < 1):
        found = f"n_galaxies={n_galaxies}, workers={workers}, seed={seed}"
        raise ConfigError(f"got {found}: give at least 1 galaxy and 1 worker, and a seed of 0 or more")
    start = time.monotonic()
    root = Path(out)
    with folder_lock(root, "a simulation"):
        _claim(root, seed, broad, kind)
        _remove_leftovers(root)
        positions = sky_positions(n_galaxies, seed)
        jobs = [
            _Job(str(root), index, seed, float(ra), float(dec), files != "pictures", files == "all", broad, kind)
            for index, (ra, dec) in enumerate(positions)
        ]
        marked = {name.rpartition("_")[2] for name in _names(root / "gz3d")}
        missing = [job for job in jobs if not _is_done(job, marked)]
        # To start processes takes as long as some thirty galaxies.
        n_workers = min(workers, len(missing)) if workers else min(_usable_cores(), len(missing) // 30)
        with progress_bar("simulating", len(missing), show=progress and bool(missing)) as advance:
            for _ in _run(missing, max(1, n_workers)):
                advance(1)
        write_catalogs(root, (_read_rows(job) for job in jobs))
    return SurveySummary(root, root / CATALOGUES["master"], n_galaxies, len(missing), time.monotonic() - start)


# One galaxy


@dataclass(frozen=True)
class Look:
    """How the picture of a galaxy is taken; by default as DECaLS and Galaxy Zoo do.

    Attributes
    ----------
    instrument : Instrument
        Depth and seeing.
    zoom : float
        Size of the galaxy in the picture over the usual one; the catalogue's radii are made to agree with it.
    gain : float
        Factor on the light before the stretch.
    jpeg_quality : int
        As OpenCV counts it.
    """

    instrument: Instrument = DECALS
    zoom: float = 1.0
    gain: float = 1.0
    jpeg_quality: int = JPEG_QUALITY

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """Pick one of another survey, or of another night of this one."""
        return cls(
            instrument=DECALS.vary(rng, 2.0),
            zoom=float(np.exp(np.clip(0.22 * rng.standard_normal(), -0.5, 0.5))),
            gain=float(np.exp(0.25 * rng.standard_normal())),
            jpeg_quality=int(rng.integers(60, 97)),
        )


@dataclass(frozen=True)
class _Job:
    """One galaxy to make: its number, its place, and what to write."""

    root: str
    index: int
    seed: int
    ra: float
    dec: float
    gz3d: bool
    cutout: bool
    broad: bool
    kind: Kind | None

    @property
    def dr8_id(self) -> str:
        return f"{brick_id(self.ra, self.dec)}_{self.index}"  # the number keeps it unique

    @property
    def subject(self) -> int:
        return 14_700_000 + self.index

    def location(self, folder: str, suffix: str) -> str:
        return f"{folder}/{self.dr8_id}{suffix}"


def _make_galaxy(job: _Job) -> None:
    """Draw, render, mark and write one galaxy; its rows last."""
    rng = np.random.default_rng(np.random.SeedSequence((job.seed, job.index)))
    root = Path(job.root)
    galaxy = draw_galaxy(rng, ra=job.ra, dec=job.dec, kind=job.kind)
    look = Look.draw(rng) if job.broad else Look()
    galaxy = replace(galaxy, petro_th50=galaxy.petro_th50 / look.zoom, petro_th90=galaxy.petro_th90 / look.zoom)
    grid = PixelGrid((schema.GZ_FIELD_PX, schema.GZ_FIELD_PX), galaxy.pixscale, job.ra, job.dec)
    cube = render(galaxy, grid, rng, instrument=look.instrument)
    identity = _identity(job, galaxy, rng)
    shown_grid = gz3d_grid(identity["ra"], identity["dec"])
    shown = sdss_picture(render(galaxy, shown_grid, rng, instrument=SDSS))
    hexagon = _hexagon(shown_grid, int(identity["IFUDESIGNSIZE"]))
    structure = Structure(arm_ridges(galaxy), bar_outline(galaxy), _ring_ridges(galaxy), (job.ra, job.dec))
    marks = draw_marks(structure, shown, shown_grid, rng, outline=hexagon)
    paths = {
        schema.COL_GZ3D: "gz3d/" + gz3d_file_name(identity["MANGAID"], int(identity["IFUDESIGNSIZE"]), job.subject),
        schema.COL_FITS: job.location("images/fits", ".fits"),
        schema.COL_JPG: job.location("images/jpg", ".jpg"),
        schema.COL_MARKS: job.location("marks", ".json"),
    }
    rows = catalog_rows(galaxy, identity, paths, marks.n_asked, marks.n_marked, rng)
    marks = replace(marks, metadata={name: rows["gz3d"][name] for name in GZ3D_COLUMNS})
    picture = rgb_from_grz(look.gain * cube[:, ::-1])  # it takes FITS row order
    write_jpeg(root / paths[schema.COL_JPG], picture, look.jpeg_quality)
    marks.to_json(root / paths[schema.COL_MARKS])
    if job.gz3d:
        cv2.polylines(shown, [np.round(hexagon).astype(np.int32)], True, _MAGENTA, 1, cv2.LINE_AA)
        write_gz3d(root / paths[schema.COL_GZ3D], marks, shown)
    if job.cutout:
        write_cutout(root / paths[schema.COL_FITS], cube, grid, **_CUTOUT_CARDS)
    write_atomic(root / job.location("rows", ".json"), json.dumps(rows))


def sdss_picture(cube: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Make the picture that GZ3D volunteers saw, in the style of SkyServer (Lupton et al. 2004, PASP 116, 133).

    Colour is kept while the sum of the bands is stretched with arcsinh: a darker sky and stronger arms than in the
    Legacy Surveys' style. The i band is taken between r and z; the scale is set so that sky is 4 +- 6 grey levels, as
    in the real file of 1-379196.

    Parameters
    ----------
    cube : numpy.ndarray
        (3, H, W) nanomaggies per 0.262 arcsec pixel, bands g, r, z, row 0 north.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB, row 0 north.
    """
    g, r, z = np.asarray(cube, np.float32)
    red, green, blue = (
        band * scale + _SDSS_PEDESTAL for band, scale in zip((0.9 * r + 0.25 * z, r, g), _SDSS_SCALES, strict=True)
    )
    total = np.maximum(red + green + blue, np.float32(1e-4))
    stretch = np.arcsinh(5 * total) * (0.6 * 255) / total
    # What is too bright keeps its colour.
    stretch /= np.maximum(np.maximum(np.maximum(red, green), blue) * stretch * np.float32(1 / 255), 1)
    return np.stack([np.maximum(band * stretch, 0).astype(np.uint8) for band in (red, green, blue)], axis=-1)


def _identity(job: _Job, galaxy: Galaxy, rng: np.random.Generator) -> dict[str, Any]:
    """Names and numbers of a galaxy in the surveys, the columns of GZ3D's HDU 5 among them."""
    # The bundle that reaches 1.5 effective radii, as for MaNGA's primary sample (Bundy et al. 2015), or the largest.
    reach = [size for size in _IFU_FIBRES_ACROSS if _hexagon_radius(size) >= 1.5 * galaxy.petro_th50]
    offset = rng.normal(0, 0.12 / 3600, 2)  # MaNGA's position is another survey's
    ra = float((galaxy.ra + offset[0] / np.cos(np.radians(galaxy.dec))) % 360)
    dec = float(galaxy.dec + offset[1])
    return {
        "dr8_id": job.dr8_id,
        "brickid": int(job.dr8_id.partition("_")[0]),
        "objid": job.index,
        "ra": ra,
        "dec": dec,
        "MANGAID": f"1-{100_000 + job.index}",
        "IAUNAME": iau_name(ra, dec),
        "IFUDESIGNSIZE": float(reach[0] if reach else 127),
        "MANGA_TILEID": float(rng.integers(1, 8000)),
        "nsa_id": 100_000 + job.index,
        "explorer_link": f"http://skyserver.sdss.org/dr13/en/tools/chart/navi.aspx?ra={ra:.4f}&dec={dec:.4f}",
        "sample": "simulated",
    }


def _hexagon_radius(ifu: int) -> float:
    """Arcsec from the middle of the burnt-in hexagon to its corners."""
    return _IFU_FIBRES_ACROSS[ifu] * _ARCSEC_PER_FIBRE


def _hexagon(grid: PixelGrid, ifu: int) -> NDArray[np.float64]:
    """Corners (6, 2) in pixels of the burnt-in hexagon: two of them lie east and west of the middle."""
    angle, radius = np.arange(6) * np.pi / 3, _hexagon_radius(ifu)
    return np.column_stack(grid.offset_to_pixel(radius * np.cos(angle), radius * np.sin(angle)))


def _ring_ridges(galaxy: Galaxy) -> list[Ridge]:
    """Trace the rings that could be taken for arms: not nuclear ones, nor lenses, which have no lane."""
    if galaxy.is_edge_on:
        return []
    ridges = []
    t = np.linspace(0, 2 * np.pi, 120)
    for ring in galaxy.rings:
        if ring.kind in ("inner", "outer"):
            along, across, turn = np.cos(t), ring.axis_ratio * np.sin(t), np.radians(ring.angle)
            u = ring.radius * (along * np.cos(turn) - across * np.sin(turn))
            v = ring.radius * (along * np.sin(turn) + across * np.cos(turn))
            half_width = np.full(t.shape, 1.4 * ring.width * np.sqrt(galaxy.axis_ratio))
            xi, eta = galaxy.to_sky(u, v)
            ridges.append(Ridge(xi.astype(np.float64), eta.astype(np.float64), half_width))
    return ridges


# Many galaxies


def _run(jobs: list[_Job], n_workers: int) -> Iterator[None]:
    """Make galaxies, here or in other processes, yielding as each is done."""
    if n_workers == 1:
        for job in jobs:
            _make_galaxy(job)
            yield
        return
    # Never fork: numba's and torch's threads would not survive it. A server that has imported this once is quick.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start_worker)
    try:
        queue = iter(jobs)
        running: set[Future[None]] = set()
        while True:
            running |= {pool.submit(_make_galaxy, job) for job in islice(queue, 4 * n_workers - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Keep a worker to one core, and end it when the process that started it is gone."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The folder


def _claim(root: Path, seed: int, broad: bool, kind: Kind | None) -> None:
    """Write the survey's seed into its folder, or check that it is the same."""
    path = root / "survey.json"
    mine = {"format": _FORMAT, "seed": seed, "broad": broad} | ({"kind": kind} if kind else {})
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            raise BadFileError(path, "not a readable survey description", "simulate into another folder") from None
        if found != mine:
            raise ConfigError(f"{root} holds a survey of {found}, not {mine}: take another folder or the same seed")
    else:
        write_atomic(path, json.dumps(mine) + "\n")


def _remove_leftovers(root: Path) -> None:
    """Remove the temporary files of a run that was killed."""
    for folder in ("gz3d", "images/fits", "images/jpg", "marks", "rows", "catalogues", "data", "."):
        for name in _names(root / folder):
            if name.startswith(".") and name.endswith(".part"):
                (root / folder / name).unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _is_done(job: _Job, gz3d_endings: set[str]) -> bool:
    """Tell whether all of a galaxy's files are there; the rows are written last."""
    wanted = [job.location("rows", ".json"), job.location("images/jpg", ".jpg"), job.location("marks", ".json")]
    if job.cutout:
        wanted.append(job.location("images/fits", ".fits"))
    if job.gz3d and f"{job.subject}.fits.gz" not in gz3d_endings:
        return False
    return all((Path(job.root) / location).exists() for location in wanted)


def _read_rows(job: _Job) -> dict[str, dict[str, Any]]:
    """Read a galaxy's rows back, without the places of files that this survey leaves out."""
    path = Path(job.root) / job.location("rows", ".json")
    try:
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError):
        raise BadFileError(path, "not a readable table row", "delete the file and run the same command again") from None
    if not job.gz3d:
        rows["master"][schema.COL_GZ3D] = None
    if not job.cutout:
        rows["master"][schema.COL_FITS] = None
    return rows
