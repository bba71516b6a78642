"""The DESI Legacy Imaging Surveys' cutout service: grz images by position, kept as sent, and pictures made of them.

Every answer is checked (size, bands, scale, centre, whole blocks) before it counts. All-zero images and dead bands are
the sky's or the survey's doing and are recorded; anything else that is wrong is asked for again. Pictures are made by
`zoobot_3d.sky.rgb`, never by the service, so that all have the same stretch. Must not know what the pictures are for.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from zoobot_3d.compute.progress import announce
from zoobot_3d.compute.shards import Batch, check_cluster
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.io import inside, open_cutout, write_jpeg
from zoobot_3d.schema import COL_FITS, COL_JPG, DEFAULT_LAYER, EMPTY, GZ_FIELD_PX
from zoobot_3d.sky.grid import PixelGrid
from zoobot_3d.sky.rgb import rgb_from_grz
from zoobot_3d.sources.addresses import service_url
from zoobot_3d.sources.cutout_requests import DIGITS, RequestOptions, read_requests
from zoobot_3d.sources.fetch import (
    FAILED,
    LEDGER,
    FetchOptions,
    FetchSummary,
    count_reasons,
    fetch_each,
    fetch_shards,
    file_sizes,
    filling,
    read_ledger,
    remove_leftovers,
    write_failed,
    write_ledger,
)
from zoobot_3d.sources.http import Client

__all__ = ["CUTOUT_URL", "CutoutOptions", "cutout", "cutout_url", "fetch_cutouts"]

CUTOUT_URL = service_url("https://www.legacysurvey.org/viewer")
"""The service; ``/fits-cutout`` is added."""

IMAGES, FITS_FOLDER, JPG_FOLDER = "images", "images/fits", "images/jpg"
"""Where things go, under the data root."""

COLUMNS = {
    "id": "str",
    "ra": "float64",
    "dec": "float64",
    "pixscale": "float64",
    "size": "int64",
    "layer": "str",
    "fits_bytes": "int64",
    "jpg_bytes": "int64",
    "status": "str",
    "warning": "str",
    COL_FITS: "str",
    COL_JPG: "str",
}
"""Of the ledger. ``status`` is good, or empty (all-zero: outside the footprint); of an absent file the size is 0."""

ASK_EMPTY = 4
"""Times that an all-zero answer is asked for before it is believed: a service in trouble sends such images too."""

_BLOCK = 2880  # bytes; FITS files are whole blocks
_DEAD = 0.5  # of a band's pixels are exactly zero
_PROBE: dict[str, Any] = {"ra": 180.0, "dec": 0.0, "pixscale": 0.262, "size": 8}  # inside every release's footprint


# One cutout


def cutout_url(ra: float, dec: float, pixscale: float, *, size: int, layer: str, url: str = CUTOUT_URL) -> str:
    """Address of the FITS cutout at a position (deg), with ``size`` pixels of ``pixscale`` arcsec."""
    query = {
        "ra": f"{ra:.{DIGITS}f}",
        "dec": f"{dec:.{DIGITS}f}",
        "pixscale": f"{pixscale:.{DIGITS}f}",
        "size": size,
        "layer": layer,
        "bands": "grz",
    }
    return f"{url.rstrip('/')}/fits-cutout?{urlencode(query)}"


def cutout(
    ra: float,
    dec: float,
    pixscale: float,
    *,
    client: Client,
    size: int = GZ_FIELD_PX,
    layer: str = DEFAULT_LAYER,
    url: str = CUTOUT_URL,
) -> tuple[NDArray[np.float32], PixelGrid]:
    """Fetch one cutout into memory.

    Parameters
    ----------
    ra, dec : float
        Centre, deg.
    pixscale : float
        Arcsec per pixel; the service resamples from its own 0.262.
    client : Client
        Asks for it.
    size : int
        Pixels along a side.
    layer : str
        ``ls-dr8``, ``ls-dr9``, ``ls-dr10`` or another that the service has.
    url : str
        The service.

    Returns
    -------
    cube : numpy.ndarray
        (3, size, size) float32 nanomaggies, bands g, r, z, row 0 **north**; all zero outside the footprint.
    grid : PixelGrid
        Where it is on the sky.

    Raises
    ------
    FetchError
        If no good answer came.
    """
    answer = _Answer(cutout_url(ra, dec, pixscale, size=size, layer=layer, url=url), ra, dec, pixscale, size)
    with tempfile.TemporaryDirectory() as folder:
        return answer.download(client, Path(folder) / "cutout.fits")


_BYTES_PER_PX = 12  # three bands of float32


@dataclass
class _Answer:
    """What was asked for, and the check of what came."""

    url: str
    ra: float
    dec: float
    pixscale: float
    size: int
    zeros: int = field(default=0, init=False)
    believe_zeros_after: int = field(default=ASK_EMPTY, init=False)
    image: tuple[NDArray[np.float32], PixelGrid] | None = field(default=None, init=False)

    def download(self, client: Client, path: Path) -> tuple[NDArray[np.float32], PixelGrid]:
        """Fetch the file as the service sends it."""
        self.believe_zeros_after = min(ASK_EMPTY, client.attempts)
        client.download(self.url, path, check=self.check)
        assert self.image is not None  # the check has read it
        return self.image

    def check(self, path: Path) -> None:
        """Refuse what is not the image asked for, and the first all-zero ones."""
        self.image = None
        cube, grid = self.read(path)
        if not cube.any():
            self.zeros += 1
            if self.zeros < self.believe_zeros_after:
                raise BadFileError(self.url, "all-zero image")
        self.image = cube, grid

    def read(self, path: Path) -> tuple[NDArray[np.float32], PixelGrid]:
        """Read a file and check that it is the image asked for, as far as a file can tell (not the layer)."""
        n_bytes = path.stat().st_size
        if n_bytes % _BLOCK:
            raise BadFileError(path, "truncated FITS: not whole blocks of 2880 bytes")
        cutout = open_cutout(path)
        cube, grid = cutout.cube, cutout.grid
        if cube.shape != (3, self.size, self.size):
            raise BadFileError(path, f"an image of {cube.shape}, not (3, {self.size}, {self.size})")
        if (bands := fits.getheader(path).get("BANDS", "grz")) != "grz":
            raise BadFileError(path, f"bands {bands}, not grz")
        if cutout.notes:
            raise BadFileError(path, f"not grz in nanomaggies, north up: {'; '.join(cutout.notes)}")
        if grid.ra is None:
            raise BadFileError(path, "no position in the header")
        if not abs(grid.pixscale / self.pixscale - 1) < 1e-3:
            raise BadFileError(path, f"{grid.pixscale:.4f} arcsec per pixel, not {self.pixscale:.4f}")
        x, y = grid.sky_to_pixel(self.ra, self.dec)
        if not np.hypot(x - grid.middle[0], y - grid.middle[1]) < 0.5:
            raise BadFileError(path, f"centred on {grid.ra:.5f} {grid.dec:+.5f}, not on the position asked for")
        return cube, grid


# Many cutouts


@dataclass(frozen=True)
class CutoutOptions:
    """What is asked of the service, and what is kept.

    Attributes
    ----------
    layer : str
        See `cutout`.
    size : int
        Pixels along a side of the standard field of 424 px at the row's scale: with another number the pixels become
        larger or smaller, the field stays.
    url : str
        The service.
    keep_fits : bool
        False keeps the picture only; the FITS files are 2.2 MB each at 424 px.
    retry_empty : bool
        Ask again for galaxies that an earlier run found outside the footprint.
    shard_size : int
        Galaxies that are fetched again, at most, when a worker is killed.
    probe : bool
        Ask for one small cutout first, so that a wrong address or layer is told before a long list is begun.
    """

    layer: str = DEFAULT_LAYER
    size: int = GZ_FIELD_PX
    url: str = CUTOUT_URL
    keep_fits: bool = True
    retry_empty: bool = False
    shard_size: int = 64
    probe: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.size < 1 or not re.fullmatch(r"[\w.+-]+", self.layer):
            raise ConfigError(
                f"size={self.size}, layer={self.layer!r}: give at least 1 pixel, and a layer such as {DEFAULT_LAYER}"
            )


def fetch_cutouts(
    galaxies: pd.DataFrame,
    root: str | os.PathLike[str],
    *,
    name: str | os.PathLike[str] = "catalogue",
    requests: RequestOptions | None = None,
    cutouts: CutoutOptions | None = None,
    options: FetchOptions | None = None,
    cluster: str = "local",
    progress: bool = True,
) -> FetchSummary:
    """Fetch the grz FITS of each galaxy into ``<root>/images/fits``, and make its picture in ``<root>/images/jpg``.

    Files are named after the galaxy (`zoobot_3d.io.file_stem`). What the ledger ``images/fetched.parquet`` has with the
    same centre, scale, size and layer, and whose files still have their sizes, costs nothing; where only the picture is
    missing, only that is made; anything else is fetched, in place of what is there. One small cutout is asked for
    first, so that no connection, a wrong address or an unknown layer is told at once. The same call after a kill goes
    on.

    Parameters
    ----------
    galaxies : pandas.DataFrame
        A row a galaxy, e.g. from `zoobot_3d.catalog.reading.read_catalog`, or the ``failed.csv`` of an earlier run; of
        rows with the same name the first counts. The scale is ``est_dr5_pixscale``, or follows from ``petro_th50`` and
        ``petro_th90``, or from ``est_petro_th50`` and ``est_petro_th90`` (see `zoobot_3d.catalog.pixel_scales`):
        the first that a row has.
    root : path
        Data root.
    name : str
        What to call the catalogue in messages: its file.
    requests : RequestOptions, optional
        Which columns of the table count.
    cutouts : CutoutOptions, optional
        Layer, size and service.
    options : FetchOptions, optional
        Connections, rate, tries.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.

    Returns
    -------
    FetchSummary
        ``done`` and ``skipped`` count galaxies without an image too: `EMPTY` is among the reasons.

    Raises
    ------
    CatalogError
        If the catalogue has no names, positions or scales, or its right ascensions may be hours.
    FetchError
        If the service does not answer.
    """
    check_cluster(cluster)
    options, cutouts = options or FetchOptions(), cutouts or CutoutOptions()
    asked, notes = read_requests(galaxies, os.fspath(name), cutouts.size, requests)
    root = Path(root).absolute()
    folder = root / IMAGES
    bad = asked["reason"].notna()
    wanted = _with_urls(asked[~bad].drop(columns=["reason", "warning"]), cutouts)
    with filling(folder):
        ledger = read_ledger(folder / LEDGER, COLUMNS)
        good, todo, n_empty = _to_do(wanted, ledger, root, cutouts)
        n_asked = int((~todo["has_fits"]).sum())
        if n_asked:
            size = n_asked * _BYTES_PER_PX * cutouts.size**2 / 1e6
            what = f"{n_asked:,} of {len(wanted):,} cutouts, {size:,.0f} MB,"
            announce(f"fetching {what} from {cutouts.url} into {folder}", show=progress)
        if cutouts.probe and n_asked:
            with options.client(tells=progress) as client:
                client.get(cutout_url(**_PROBE, layer=cutouts.layer, url=cutouts.url), check=_check_probe)
        ledger = _without(todo, ledger, folder / LEDGER)
        with fetch_shards(
            _fetch_rows,
            todo.drop(columns=["row", "layer"]).reset_index(drop=True),
            folder,
            {"root": str(root), "keep_fits": cutouts.keep_fits},
            options=options,
            batch=Batch("fetching cutouts", "galaxies", cluster, cutouts.shard_size, progress),
        ) as results:
            results = todo.drop(columns="url").merge(results, on="id", validate="1:1")
            lost = results["error"].notna()
            fresh = results[~lost]
            write_ledger(folder / LEDGER, pd.concat([ledger[~ledger["id"].isin(todo["id"])], fresh]), COLUMNS)
            failed = pd.concat([asked[bad].rename(columns={"reason": "error"}), results[lost]]).sort_values("row")
            rows, urls = galaxies.iloc[failed["row"].to_numpy(int)], failed.reindex(columns=["url"])["url"].fillna("")
            failed_csv = write_failed(folder / FAILED, rows, list(urls), list(failed["error"]))
        with contextlib.suppress(OSError):  # there are files in it
            (root / FITS_FOLDER).rmdir()
    n_empty += int(fresh["status"].eq("empty").sum()) if len(fresh) else 0
    return FetchSummary(
        done=len(fresh),
        skipped=int(good.sum()),
        failed=len(failed),
        reasons=count_reasons([*failed["error"], *[EMPTY] * n_empty]),
        failed_csv=failed_csv,
        ledger=folder / LEDGER,
        notes=tuple(notes),
        unit="galaxies",
    )


def _with_urls(wanted: pd.DataFrame, cutouts: CutoutOptions) -> pd.DataFrame:
    """Add size, layer and address to what is asked for."""
    positions = wanted[["ra", "dec", "pixscale"]].itertuples(index=False)
    urls = [
        cutout_url(ra, dec, pixscale, size=cutouts.size, layer=cutouts.layer, url=cutouts.url)
        for ra, dec, pixscale in positions
    ]
    return wanted.assign(size=cutouts.size, layer=cutouts.layer, url=urls)


def _to_do(
    wanted: pd.DataFrame, ledger: pd.DataFrame, root: Path, cutouts: CutoutOptions
) -> tuple[pd.Series[bool], pd.DataFrame, int]:
    """Tell which requests are there and good, which are to be fetched, and how many are known to be empty."""
    files = {place: file_sizes(root / place) for place in (IMAGES, FITS_FOLDER, JPG_FOLDER)}
    for place, names in files.items():
        remove_leftovers(root / place, names)
    has_fits, has_jpg, is_empty = _what_is_there(wanted, ledger, files)
    good = (is_empty & (not cutouts.retry_empty)) | (has_jpg & (has_fits | (not cutouts.keep_fits)))
    return good, wanted[~good].assign(has_fits=has_fits[~good]), int((good & is_empty).sum())


def _without(todo: pd.DataFrame, ledger: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Take out of the ledger what is about to change: after a kill it must not vouch for what was there before.

    Of a galaxy whose picture alone is to be made, the FITS stays vouched for.
    """
    changing = ledger["id"].isin(todo["id"])
    if not changing.any():
        return ledger
    only_picture = ledger["id"].isin(todo["id"][todo["has_fits"]])
    ledger = ledger.assign(jpg_bytes=ledger["jpg_bytes"].where(~only_picture, 0))[~changing | only_picture]
    write_ledger(path, ledger, COLUMNS)
    return ledger


def _what_is_there(
    wanted: pd.DataFrame, ledger: pd.DataFrame, names: Mapping[str, Mapping[str, int]]
) -> tuple[pd.Series[bool], pd.Series[bool], pd.Series[bool]]:
    """Tell for each request whether its FITS and its picture are there, and whether it is known to be empty."""
    keys = ["id", "ra", "dec", "pixscale", "size", "layer"]
    known = wanted.merge(ledger, on=keys, how="left", validate="1:1").set_index(wanted.index)
    sizes = {
        folder: (wanted["stem"] + suffix).map(names[folder])
        for folder, suffix in ((FITS_FOLDER, ".fits"), (JPG_FOLDER, ".jpg"))
    }
    good = known["status"].eq("good")
    has_fits = good & known["fits_bytes"].gt(0) & known["fits_bytes"].eq(sizes[FITS_FOLDER])
    has_jpg = good & known["jpg_bytes"].gt(0) & known["jpg_bytes"].eq(sizes[JPG_FOLDER])
    return has_fits, has_jpg, known["status"].eq("empty")


def _check_probe(content: bytes) -> None:
    if not content.startswith(b"SIMPLE  ="):
        raise BadFileError("cutout", "the answer is not FITS: no cutout service at this address")


# One galaxy, in a worker


def _fetch_rows(rows: pd.DataFrame, *, root: str, keep_fits: bool, options: FetchOptions) -> pd.DataFrame:
    """Fetch a shard; see `fetch_each`. Adds sizes, status, warning and file names, as the ledger has them."""
    return fetch_each(rows, partial(_fetch_row, Path(root), keep_fits), options)


def _fetch_row(root: Path, keep_fits: bool, row: Mapping[Hashable, Any], client: Client) -> dict[str, Any]:
    answer = _Answer(row["url"], row["ra"], row["dec"], row["pixscale"], int(row["size"]))
    fits_name, jpg_name = f"{FITS_FOLDER}/{row['stem']}.fits", f"{JPG_FOLDER}/{row['stem']}.jpg"
    fits_path, jpg_path = (inside((root / name).parent, Path(name).name) for name in (fits_name, jpg_name))
    jpg_path.unlink(missing_ok=True)  # a picture of another centre or layer must not stand beside the new FITS
    try:
        cube, keep_fits = _read_or_download(answer, client, fits_path, row["has_fits"], keep_fits)
    except BaseException:
        for path in (fits_path, *(fits_path.with_name(f".{fits_path.name}.part{end}") for end in ("", ".json"))):
            path.unlink(missing_ok=True)
        raise
    if not cube.any():
        fits_path.unlink(missing_ok=True)
        return _record("empty")
    write_jpeg(jpg_path, rgb_from_grz(cube[:, ::-1]))  # it takes FITS row order
    fits_bytes = fits_path.stat().st_size if keep_fits else 0
    if not keep_fits:
        fits_path.unlink()
    dead = [band for band, plane in zip("grz", cube, strict=True) if np.mean(plane == 0) > _DEAD]
    return _record(
        "good",
        fits_bytes=fits_bytes,
        jpg_bytes=jpg_path.stat().st_size,
        warning=f"dead bands: {', '.join(dead)}" if dead else "",
        **{COL_FITS: fits_name if keep_fits else "", COL_JPG: jpg_name},
    )


def _read_or_download(
    answer: _Answer, client: Client, path: Path, has_fits: bool, keep_fits: bool
) -> tuple[NDArray[np.float32], bool]:
    """Return the image and whether its file is to stay: one that was there is not removed."""
    if has_fits:
        try:
            return answer.read(path)[0], True
        except BadFileError:
            pass  # damaged since it was fetched
    return answer.download(client, path)[0], keep_fits


def _record(status: str, **values: Any) -> dict[str, Any]:
    nothing = {"fits_bytes": 0, "jpg_bytes": 0, "warning": "", COL_FITS: "", COL_JPG: ""}
    return {**nothing, "status": status, **values}
