"""The SDSS archive of Galaxy Zoo: 3D files (DR17 value-added catalogue v4_0_0): list it, download what is missing.

The archive is a plain directory of about 29,800 files; there is no API. Every file is unpacked whole and its HDUs are
counted before it counts as fetched. What is in them is the business of `zoobot_3d.marks.gz3d`.
"""

from __future__ import annotations

import io
import os
import re
import warnings
import zlib
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd
from astropy.io import fits

from zoobot_3d.compute.progress import announce
from zoobot_3d.compute.shards import Batch, check_cluster
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.io import gunzip, inside, read_table
from zoobot_3d.marks.gz3d_writer import BAR, METADATA, N_HDUS, PICTURE
from zoobot_3d.quiet import quiet_libraries
from zoobot_3d.schema import COL_GZ3D
from zoobot_3d.sources.addresses import service_url
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

__all__ = ["GZ3D_URL", "fetch_gz3d", "list_gz3d", "verify_gz3d"]

GZ3D_URL = service_url("https://data.sdss.org/sas/dr17/env/MANGA_MORPHOLOGY/galaxyzoo3d/v4_0_0/")
"""The directory, as of SDSS DR17."""

FOLDER = "gz3d"
"""Where the files go, under the data root."""

COLUMNS = {"id": "str", "mangaid": "str", "ifu": "int64", "subject": "int64", "bytes": "int64", COL_GZ3D: "str"}
"""Of the ledger; ``id`` is the file's name without its endings."""

_LINK = re.compile(r"""href\s*=\s*["']?(?:[^"'>\s]*/)?(gz3d_[^"'/>\s]+\.fits\.gz)["'>\s]""", re.IGNORECASE)
_NAME = re.compile(r"gz3d_(?P<mangaid>.+)_(?P<ifu>[0-9]{1,18})_(?P<subject>[0-9]{1,18})\.fits\.gz")  # 64 bits
_SUFFIX = ".fits.gz"
_FAILED_COLUMNS = ["file_name", "mangaid", "ifu", "subject"]
_FIX = "download it again"
_MEAN_BYTES = 0.3e6  # of the archive's files, about


def list_gz3d(url: str, client: Client) -> pd.DataFrame:
    """List the archive.

    Parameters
    ----------
    url : str
        The directory, as `GZ3D_URL`.
    client : Client
        Asks for it.

    Returns
    -------
    pandas.DataFrame
        ``file_name``, ``mangaid`` (text), ``ifu``, ``subject`` (int64); a row for each file, sorted by name.

    Raises
    ------
    FetchError
        If the listing cannot be had, whole.
    """
    url = _directory(url)
    page = client.get(url, check=partial(_check_listing, url)).decode("utf-8", "replace")
    return _parse_listing(page)


def fetch_gz3d(
    root: str | os.PathLike[str],
    *,
    url: str = GZ3D_URL,
    limit: int | None = None,
    mangaids: Iterable[str] | None = None,
    retry: str | os.PathLike[str] | None = None,
    options: FetchOptions | None = None,
    cluster: str = "local",
    progress: bool = True,
) -> FetchSummary:
    """Download the Galaxy Zoo: 3D files that are missing into ``<root>/gz3d``, and verify each.

    A file whose size is the ledger's is good and costs nothing; one that the ledger does not know is read; one that
    turns out bad is downloaded again, and removed if that does not help. The same call after a kill goes on.

    Parameters
    ----------
    root : path
        Data root.
    url : str
        The directory of the archive.
    limit : int, optional
        Only the first so many files, by name.
    mangaids : iterable of str, optional
        Only the files of these galaxies, e.g. ``["1-379196"]``; an unknown one is reported as failed.
    retry : path, optional
        Only the rows of this ``failed.csv``.
    options : FetchOptions, optional
        Connections, rate, tries.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.

    Returns
    -------
    FetchSummary

    Raises
    ------
    FetchError
        If the archive cannot be listed.
    CatalogError
        If ``retry`` is not the list of failures of this command.
    """
    check_cluster(cluster)
    options = options or FetchOptions()
    url = _directory(url)
    folder = Path(root).absolute() / FOLDER
    tried = None if retry is None else _read_failed(retry)
    with options.client(tells=progress) as client:
        listing = list_gz3d(url, client)
    wanted, absent = _choose(listing, limit, mangaids, tried)
    wanted["url"] = [url + quote(name) for name in wanted["file_name"]]
    with filling(folder):
        ledger = read_ledger(folder / LEDGER, COLUMNS)
        sizes = file_sizes(folder)
        there = ledger["bytes"].eq((ledger["id"] + _SUFFIX).map(sizes))
        good = wanted["id"].isin(ledger["id"][there])
        todo = wanted[~good].reset_index(drop=True)
        remove_leftovers(folder, sizes, keep=set(todo["file_name"]))
        if len(todo):
            size = len(todo) * (ledger["bytes"].mean() if len(ledger) else _MEAN_BYTES) / 1e6
            what = f"{len(todo):,} of {len(wanted):,} GZ3D files, about {size:,.0f} MB,"
            announce(f"fetching {what} from {url} into {folder}", show=progress)
        with fetch_shards(
            _fetch_files,
            todo[["id", "file_name", "url"]],
            folder,
            {"folder": str(folder)},
            options=options,
            batch=Batch("fetching GZ3D", "files", cluster, progress=progress),
        ) as results:
            results = todo.drop(columns="url").merge(results, on="id", validate="1:1")
            lost = results["error"].notna()
            fresh = results[~lost]
            write_ledger(folder / LEDGER, pd.concat([ledger[there & ~ledger["id"].isin(fresh["id"])], fresh]), COLUMNS)
            failed = pd.concat([results[lost], absent.assign(error="not in the archive's listing", url=url)])
            rows = failed.reindex(columns=_FAILED_COLUMNS).astype({"ifu": "Int64", "subject": "Int64"})
            failed_csv = write_failed(folder / FAILED, rows, list(failed["url"].fillna("")), list(failed["error"]))
    return FetchSummary(
        done=len(fresh),
        skipped=int(good.sum()),
        failed=len(failed),
        reasons=count_reasons(list(failed["error"])),
        failed_csv=failed_csv,
        ledger=folder / LEDGER,
    )


def verify_gz3d(path: str | os.PathLike[str]) -> None:
    """Check that a file is a whole gzip (its checksum holds) of 11 whole HDUs of the right kinds and shapes.

    What is in the tables is not judged: a checksum that holds proves the transfer, and a file that is odd in the
    archive itself would be fetched in vain again and again. `zoobot_3d.marks.gz3d.read_gz3d` says what is wrong.

    Raises
    ------
    BadFileError
        If it is not.
    """
    content = _unzip(path)
    kinds, shapes = [], []
    try:
        # Astropy warns of truncation; here that is an error of one line.
        with quiet_libraries(), fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False) as hdus:
            n_hdus = len(hdus)
            for number, hdu in enumerate(hdus):
                info = hdus.fileinfo(number)
                if info["datLoc"] + info["datSpan"] > len(content):
                    raise BadFileError(path, f"HDU {number} is truncated", _FIX)
                kinds.append(isinstance(hdu, fits.BinTableHDU))
                shapes.append(tuple(hdu.header.get(f"NAXIS{axis}", 0) for axis in range(1, hdu.header["NAXIS"] + 1)))
    except BadFileError:
        raise
    except Exception as error:  # astropy raises almost any class on corrupt bytes
        raise BadFileError(path, f"cannot be read as FITS ({' '.join(str(error).split())})", _FIX) from None
    if n_hdus < N_HDUS:
        raise BadFileError(path, f"{n_hdus} HDUs of {N_HDUS}", _FIX)
    image = shapes[PICTURE + 1]
    expected = [(3, *image), *[image] * BAR]
    if any(kinds[:METADATA]) or not all(kinds[METADATA:N_HDUS]) or len(image) != 2 or shapes[:METADATA] != expected:
        raise BadFileError(path, f"not a picture, 4 masks of its size and 6 tables: shapes {shapes[:METADATA]}", _FIX)


def _unzip(path: str | os.PathLike[str]) -> bytes:
    try:
        return gunzip(Path(path).read_bytes())
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "fetch it") from None
    except (EOFError, OSError, zlib.error) as error:
        raise BadFileError(path, f"truncated or corrupt gzip ({error})", _FIX) from None


# One file, in a worker


def _fetch_files(rows: pd.DataFrame, *, folder: str, options: FetchOptions) -> pd.DataFrame:
    """Fetch a shard; see `fetch_each`. Adds ``bytes``."""
    return fetch_each(rows, partial(_fetch_file, Path(folder)), options)


def _fetch_file(folder: Path, row: Mapping[Hashable, Any], client: Client) -> dict[str, Any]:
    path = inside(folder, row["file_name"])
    if path.exists():
        try:
            verify_gz3d(path)
            return {"bytes": path.stat().st_size}
        except BadFileError:
            path.unlink()
    return {"bytes": client.download(row["url"], path, check=verify_gz3d).size}


# The listing, and what is asked for of it


def _directory(url: str) -> str:
    return url.rstrip("/") + "/"


def _check_listing(url: str, content: bytes) -> None:
    page = content.decode("utf-8", "replace")
    if not _LINK.search(page):
        raise BadFileError(url, "no link to a gz3d_*.fits.gz on this page", "check the address")
    if "<html" in page[:2000].lower() and "</html>" not in page[-2000:].lower():
        raise BadFileError(url, "the listing is truncated")


def _parse_listing(page: str) -> pd.DataFrame:
    names = sorted({unquote(unescape(name)) for name in _LINK.findall(page)})
    parts = [match for name in names if _is_plain(name) and (match := _NAME.fullmatch(name))]
    if len(odd := [name for name in names if not _is_plain(name)]):
        warnings.warn(f"the archive lists {len(odd):,} names that are no plain file names; left out", stacklevel=2)
    return pd.DataFrame(
        {
            "file_name": pd.Series([part.group() for part in parts], dtype="str"),
            "mangaid": pd.Series([part["mangaid"] for part in parts], dtype="str"),
            "ifu": pd.Series([int(part["ifu"]) for part in parts], dtype="int64"),
            "subject": pd.Series([int(part["subject"]) for part in parts], dtype="int64"),
        }
    )


def _is_plain(name: str) -> bool:
    try:
        inside("", name)
    except BadFileError:
        return False
    return True


def _choose(
    listing: pd.DataFrame, limit: int | None, mangaids: Iterable[str] | None, tried: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the files that are asked for, with the ledger's columns, and what is asked for but not listed."""
    wanted = listing.assign(id=listing["file_name"].str.removesuffix(_SUFFIX))
    wanted[COL_GZ3D] = FOLDER + "/" + wanted["file_name"]
    absent = pd.DataFrame({"file_name": [], "mangaid": []})
    if tried is not None:
        unnamed = tried[tried["file_name"].isna()]  # galaxies that the archive did not list before
        wanted = wanted[wanted["file_name"].isin(tried["file_name"]) | wanted["mangaid"].isin(unnamed["mangaid"])]
        found = tried["file_name"].isin(wanted["file_name"]) | tried["file_name"].isna()
        absent = tried[~(found & tried["mangaid"].isin(wanted["mangaid"]))]
    if mangaids is not None:
        names = pd.Series(list(dict.fromkeys(str(name).strip() for name in mangaids)), dtype="str")
        wanted = wanted[wanted["mangaid"].isin(names)]
        absent = pd.DataFrame({"file_name": None, "mangaid": names[~names.isin(wanted["mangaid"])]})
    return wanted.iloc[:limit].reset_index(drop=True), absent


def _read_failed(path: str | os.PathLike[str]) -> pd.DataFrame:
    frame = read_table(path)
    missing = [name for name in _FAILED_COLUMNS if name not in frame]
    if missing:
        raise CatalogError(f"{os.fspath(path)}: no column {missing[0]}; give the failed.csv of fetch gz3d")
    return frame[_FAILED_COLUMNS].astype({"file_name": "str", "mangaid": "str"})
