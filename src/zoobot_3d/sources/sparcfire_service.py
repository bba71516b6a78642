"""The web service of SpArcFiRe (Davis & Hayes 2014): pictures in, a folder of its results for each galaxy.

A picture is sent in three steps: upload it, ask for it to be worked on, fetch a zip. The zip is not trusted: names that
leave the folder, links and too much of anything are refused. Must not know what the results mean: see
`zoobot_3d.sources.sparcfire`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd

from zoobot_3d.compute.progress import announce
from zoobot_3d.compute.shards import Batch, check_cluster
from zoobot_3d.errors import BadFileError, FetchError
from zoobot_3d.io import file_stem, inside, write_atomic, write_table
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
    remove_leftovers,
    write_failed,
    write_ledger,
)
from zoobot_3d.sources.http import Client
from zoobot_3d.sources.sparcfire import read_sparcfire_folder, sparcfire_table

__all__ = ["SPARCFIRE_TABLE", "SPARCFIRE_URL", "fetch_sparcfire"]

SPARCFIRE_URL = service_url("http://sparcfire.ics.uci.edu/process")
SPARCFIRE_TABLE = "sparcfire.csv"
"""What `zoobot_3d.sources.sparcfire.sparcfire_table` gives for a folder of results."""

PICTURES = (".jpg", ".jpeg", ".png")
COLUMNS = {"id": "str", "path": "str", "sha256": "str", "files": "int64", "bytes": "int64"}
"""Of the ledger."""

SETTINGS = {
    "main_options[resizeDims]": "'[256 256]'",
    "main_options[useImageStandardization]": "1",
    "main_options[useDeProjectStretch]": "1",
    "main_options[useTwoStageCtrFinding]": "1",
    "main_options[ctrDriftThresForStarMask]": "2.5",
    "main_options[lookForBulge]": "1",
    "main_options[fitUsingNonUsmIVals]": "1",
    "main_options[medFiltRad]": "1",
    "main_options[unsharpMaskAmt]": "6",
    "main_options[unsharpMaskSigma]": "25",
    "main_options[numOrientationFieldLevels]": "3",
    "main_options[stopThres]": "0.15",
    "main_options[errRatioThres]": "2.5",
    "main_options[mergeChkMinClusSz]": "25",
    "main_options[clusSizeCutoff]": "150",
    "main_options[deleteClusterContainingCenter]": "1",
    "main_options[allowArcBeyond2pi]": "1",
}
"""The settings form: SpArcFiRe's own defaults, which the reader of its results relies on."""

_INPUT = "input.json"  # in a galaxy's folder: what the results were made of; written last, so it vouches for the rest
_MOST_FILES, _MOST_BYTES = 500, 200_000_000  # of a zip, unpacked; real ones have some 20 files of 2 MB together


def fetch_sparcfire(
    pictures: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    url: str = SPARCFIRE_URL,
    options: FetchOptions | None = None,
    cluster: str = "local",
    progress: bool = True,
) -> FetchSummary:
    """Let SpArcFiRe find arms on pictures, and keep its results in a folder for each, ``<out>/<name>``.

    A picture whose folder is there and was made of the same bytes costs nothing. ``<out>/sparcfire.csv`` has a row for
    each folder of results, with the pitch angle and hand, or the reason why there is none.

    Parameters
    ----------
    pictures : iterable of paths
        JPEG or PNG files, and folders of them. The name of a file without its ending is the galaxy's; of files with the
        same name the first counts.
    out : path
        Folder to fill.
    url : str
        The service; ``/preprocess.php`` and others are added.
    options : FetchOptions, optional
        Connections, rate, tries. The service works for minutes on a picture before it answers: the default is one
        connection and a patience of 15 minutes.
    cluster : str
        Where to work, see `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show a bar.

    Raises
    ------
    BadFileError
        If there are no pictures.
    """
    check_cluster(cluster)
    options = options or FetchOptions(connections=1, rate=0.5, timeout=900.0)
    folder = Path(out).absolute()
    listed, refused = _list(pictures)
    with filling(folder):
        _sweep(folder)
        good = pd.Series([_is_there(folder, row) for row in listed.to_dict("records")], listed.index, dtype=bool)
        todo = listed[~good].reset_index(drop=True).assign(url=url.rstrip("/"))
        if len(todo):
            announce(f"sending {len(todo):,} of {len(listed):,} pictures to {url}, into {folder}", show=progress)
        with fetch_shards(
            _fetch_rows,
            todo,
            folder,
            {"folder": str(folder)},
            options=options,
            batch=Batch("SpArcFiRe", "galaxies", cluster, 16, progress),
        ) as results:
            results = todo[["id", "path"]].merge(results, on="id", validate="1:1")
            lost = results[results["error"].notna()]
            failed = pd.concat([lost, refused], ignore_index=True)
            there = [_recorded(folder, row) for row in listed.to_dict("records") if _is_there(folder, row)]
            write_ledger(folder / LEDGER, pd.DataFrame(there, columns=list(COLUMNS)), COLUMNS)
            failed_csv = write_failed(
                folder / FAILED, failed[["id", "path"]], list(failed["url"].fillna("")), list(failed["error"])
            )
    return FetchSummary(
        done=len(results) - len(lost),
        skipped=int(good.sum()),
        failed=len(failed),
        reasons=count_reasons(list(failed["error"])),
        failed_csv=failed_csv,
        ledger=folder / LEDGER,
        notes=_write_table(folder),
        unit="galaxies",
    )


def _sweep(folder: Path) -> None:
    """Remove what a run that was killed left half done."""
    remove_leftovers(folder, file_sizes(folder))
    for leftover in folder.glob(".*.zip"):
        leftover.unlink()
    for leftover in folder.glob(".*.new"):
        shutil.rmtree(leftover, ignore_errors=True)


def _list(pictures: Iterable[str | os.PathLike[str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the pictures: what can be sent, with the hash of its bytes, and what cannot, with the reason."""
    paths: list[Path] = []
    for path in map(Path, pictures):
        inner = sorted(path.iterdir()) if path.is_dir() else [path]
        paths += inner if inner == [path] else [p for p in inner if p.suffix.lower() in PICTURES and p.name[0] != "."]
    if not paths:
        raise BadFileError(", ".join(map(str, pictures)), "no pictures", "give JPEG or PNG files, or a folder of them")
    rows: dict[str, dict[str, Any]] = {}
    refused = []
    for path in paths:
        row = {"id": file_stem(path.stem), "path": str(path.absolute())}
        try:
            reason = "not a JPEG or PNG by its name" if path.suffix.lower() not in PICTURES else ""
            reason = reason or ("another picture has the same name" if row["id"] in rows else "")
            digest = "" if reason else hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            refused.append({**row, "error": reason, "url": ""})
        else:
            rows[row["id"]] = {**row, "sha256": digest}
    columns = ["id", "path", "error", "url"]
    return pd.DataFrame(rows.values(), columns=["id", "path", "sha256"]), pd.DataFrame(refused, columns=columns)


def _is_there(folder: Path, row: Mapping[Hashable, Any]) -> bool:
    """Whether the folder of a galaxy is whole, and was made of this picture."""
    try:
        made_of = json.loads((folder / row["id"] / _INPUT).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(made_of == row["sha256"])


def _recorded(folder: Path, row: Mapping[Hashable, Any]) -> dict[str, Any]:
    sizes = file_sizes(folder / row["id"])
    return {**{str(key): row[key] for key in row}, "files": len(sizes), "bytes": sum(sizes.values())}


def _write_table(folder: Path) -> tuple[str, ...]:
    """Write the numbers of all results that are there; say how many have arms."""
    try:
        table = sparcfire_table(*read_sparcfire_folder(folder))
    except BadFileError:
        return ()  # nothing was fetched
    write_table(folder / SPARCFIRE_TABLE, table)
    counts = count_reasons([reason.partition(": ")[2] or reason for reason in table["error"] if reason])
    lines = [f"{folder / SPARCFIRE_TABLE}: arcs in {int(table['n_arcs'].gt(0).sum())} of {len(table)} galaxies"]
    return (*lines, *(f"  {count} x {reason}" for reason, count in counts.items()))


# One galaxy, in a worker


def _fetch_rows(rows: pd.DataFrame, *, folder: str, options: FetchOptions) -> pd.DataFrame:
    """Fetch a shard; see `fetch_each`."""
    return fetch_each(rows, partial(_fetch_row, Path(folder)), options)


def _fetch_row(folder: Path, row: Mapping[Hashable, Any], client: Client) -> dict[str, Any]:
    if _is_there(folder, row):
        return {}  # by a run that was killed before its shard was done
    picture, name, url = Path(row["path"]), str(row["id"]), row["url"]
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise BadFileError(picture, error.strerror or str(error), "leave pictures where they are") from None
    upload = {"image-selection-input": (name + picture.suffix.lower(), content)}
    answer = _ask(client, f"{url}/preprocess.php", SETTINGS, upload)
    data = answer.get("data")
    query = str(data.get("url", "") if isinstance(data, dict) else "").rpartition("=")[2]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", query):
        raise FetchError(f"{url}/preprocess.php", "the answer names no job", "the service has changed: tell us")
    _ask(client, f"{url}/process.php", {"id": query})
    zipped, new = folder / f".{name}.zip", folder / f".{name}.new"
    try:
        client.download(f"{url}/{query}/outDir/galaxy_{quote(name)}_data.zip", zipped, check=_check_zip)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _unpack(zipped, new, name)
        facts = {"picture": picture.name, "sha256": hashlib.sha256(content).hexdigest(), "job": query}
        write_atomic(new / _INPUT, json.dumps(facts, indent=1) + "\n")
        shutil.rmtree(folder / name, ignore_errors=True)
        new.rename(inside(folder, name))
    finally:
        shutil.rmtree(new, ignore_errors=True)
        zipped.unlink(missing_ok=True)
    return {}


def _ask(
    client: Client, url: str, form: Mapping[str, str], files: Mapping[str, tuple[str, bytes]] | None = None
) -> dict[str, Any]:
    """Send a form, and read the JSON that says whether it went well."""
    answer: dict[str, Any] = json.loads(client.post(url, data=form, files=files, check=partial(_check_json, url)))
    if answer.get("success") is not True:
        told = next((str(answer[key]) for key in ("message", "error", "data") if answer.get(key)), "no reason given")
        what = f"SpArcFiRe did not take the picture: {' '.join(told.split())[:200]}"
        raise FetchError(url, what, "look at the picture")
    return answer


def _check_json(url: str, content: bytes) -> None:
    try:
        answer = json.loads(content)
    except ValueError:
        raise BadFileError(url, "the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise BadFileError(url, "the answer is no JSON object")


# The zip


def _check_zip(path: Path) -> None:
    """Refuse a zip that is not whole: it is asked for again."""
    try:
        with zipfile.ZipFile(path) as archive:
            _bounded(archive)
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise BadFileError(path, f"not a whole zip ({error})") from None
    if broken is not None:
        raise BadFileError(path, f"{broken[:80]!r} in the zip is damaged")


def _bounded(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """List the files of a zip, if they are not too many or too large by what the zip says; more is never read."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    size = sum(member.file_size for member in members)
    if len(members) > _MOST_FILES or size > _MOST_BYTES:
        what = f"the zip has {len(members):,} files of {size:,} bytes together"
        raise BadFileError(str(archive.filename), what, "it is not SpArcFiRe's; look at it before you unpack it")
    return members


def _unpack(path: Path, folder: Path, name: str) -> None:
    """Write the files of a zip into one folder, whatever folders they are in there."""
    with zipfile.ZipFile(path) as archive:
        for member in _bounded(archive):
            where = PurePosixPath(member.filename)
            leaves = where.is_absolute() or ".." in where.parts or "\\" in member.filename or ":" in member.filename
            if leaves or stat.S_ISLNK(member.external_attr >> 16):
                what = f"{member.filename[:80]!r} in the zip leaves its folder"
                raise BadFileError(path.name, what, "nothing of it was written; tell the service's maintainers")
            target = inside(folder, where.name)
            if target.exists():
                raise BadFileError(path.name, f"{where.name!r} is twice in the zip", "tell the service's maintainers")
            with archive.open(member) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file)
    if not (folder / f"{name}.csv").exists():
        raise BadFileError(path.name, f"no {name}.csv in the zip", "the service has changed: tell us")
