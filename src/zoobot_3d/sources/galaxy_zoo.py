"""Galaxy Zoo catalogues: fetch GZ DESI from Zenodo and GZ2 from its archive into the data root.

GZ DESI: Walmsley et al. 2023, MNRAS 526, 4768 (Zenodo 8360385). GZ DECaLS: Walmsley et al. 2022, MNRAS 509, 3966
(Zenodo 4573248). GZ2: Hart et al. 2016, MNRAS 461, 3663. Files of Zenodo keep their names and bytes; of votes a second
table is made whose columns have this package's names (`zoobot_3d.sources.votes`). Knows nothing of cross-matching.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoobot_3d import schema
from zoobot_3d.compute.progress import announce, progress_bar
from zoobot_3d.errors import BadFileError, ConfigError, FetchError
from zoobot_3d.io import write_parquet
from zoobot_3d.sources.addresses import service_url
from zoobot_3d.sources.catalogue_files import CatalogueFile, CatalogueFolder, check_parquet, checksum
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.http import Client
from zoobot_3d.sources.votes import FIRST_VOTES, combine_desi_votes, read_desi_votes, read_gz2_votes
from zoobot_3d.sources.zenodo import ZENODO_URL, RemoteFile, list_record

__all__ = [
    "DESI_VOTES_FILE",
    "GZ2_FILE",
    "GZ2_URL",
    "PARTS",
    "ZENODO_URL",
    "Part",
    "fetch_gz2",
    "fetch_gz_desi",
]

GZ_DESI_RECORD, GZ_DECALS_RECORD = 8360385, 4573248
GZ2_URL = service_url("https://gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz")
GZ2_FILE = "gz2_volunteer_votes.parquet"
DESI_VOTES_FILE = "gz_desi_volunteer_votes.parquet"

_HART_FILE = "gz2_hart16.csv.gz"
_GZ2_ORIGIN = "Hart et al. 2016"
_FRACTIONS = tuple(column for question in schema.GZ_DESI_QUESTIONS for column in question.fraction_columns())


@dataclass(frozen=True)
class Part:
    """Files of a Zenodo record that are fetched together.

    Attributes
    ----------
    record : int
        Zenodo's number.
    files : dict of str to str
        Name on Zenodo to campaign of the votes in it (empty: no votes).
    columns : tuple of str
        Columns that each file must have to be of use.
    """

    record: int
    files: dict[str, str]
    columns: tuple[str, ...]


PARTS = {
    "friendly": Part(
        GZ_DESI_RECORD,
        {"gz_desi_deep_learning_catalog_friendly.parquet": ""},
        (schema.COL_ID, schema.COL_RA, schema.COL_DEC, *_FRACTIONS),
    ),
    "external": Part(
        GZ_DESI_RECORD,
        {"external_catalog.parquet": ""},
        (schema.COL_ID, "est_petro_th50", "mag_g_desi", "mag_r_desi", "mag_z_desi"),
    ),
    "votes": Part(
        GZ_DESI_RECORD,
        {
            "gz_desi_gzd8_volunteer_core_catalog.parquet": "dr8",
            "gz_desi_gzd8_volunteer_extended_catalog.parquet": "dr8",
        },
        (schema.COL_ID, schema.COL_RA, schema.COL_DEC, *FIRST_VOTES),
    ),
    "decals": Part(
        GZ_DECALS_RECORD,
        {"gz_decals_volunteers_5.parquet": "dr5", "gz_decals_volunteers_1_and_2.parquet": "dr12"},
        ("iauname", schema.COL_RA, schema.COL_DEC, *FIRST_VOTES),
    ),
}
"""What `fetch_gz_desi` can fetch, with the sizes on Zenodo:

``friendly``
    0.66 GB, 8.67 million galaxies: predicted fractions; NaN for questions that most people would not be asked.
``external``
    1.6 GB: sizes, magnitudes, redshifts of the same galaxies.
``votes``
    12 MB, 96,000 galaxies: volunteers' votes of campaign GZD-8 (``extended``: five or more votes for artifact).
``decals``
    59 MB, 346,000 galaxies: votes of GZD-5 and of GZD-1 and -2, whose answers differ. They have no ``dr8_id``: it is
    found by position in ``friendly``, if that is there.
"""


# GZ DESI


def fetch_gz_desi(
    root: str | os.PathLike[str],
    *,
    which: Sequence[str] = ("friendly", "external", "votes"),
    url: str = ZENODO_URL,
    options: FetchOptions | None = None,
    progress: bool = True,
) -> list[CatalogueFile]:
    """Fetch GZ DESI's files into ``catalogues``, under their names on Zenodo.

    A file that is there with the right checksum is not fetched again, whoever brought it; a partial one is gone on
    with. Of all votes that are there, ``catalogues/gz_desi_volunteer_votes.parquet`` is made
    (`zoobot_3d.sources.votes.combine_desi_votes`).

    Parameters
    ----------
    root : path
        Data root.
    which : sequence of str
        Out of `PARTS`.
    url : str
        Zenodo's records API; record numbers are added to it.
    options : FetchOptions, optional
        Of the network.
    progress : bool
        Show a bar for each file.

    Returns
    -------
    list of CatalogueFile
        Files, in the order of `PARTS`, then the table of votes, if there are votes.

    Raises
    ------
    ConfigError
        If one of ``which`` is unknown.
    FetchError
        If the record lacks a file, or a download fails for good: also if its checksum stays wrong.
    BadFileError
        If a file is not Parquet or lacks columns.
    """
    if unknown := [name for name in which if name not in PARTS]:
        raise ConfigError(f"unknown part {', '.join(unknown)} of GZ DESI; use some of {', '.join(PARTS)}")
    parts = [part for name, part in PARTS.items() if name in which]
    folder = CatalogueFolder(root)
    folder.sweep(DESI_VOTES_FILE)
    done = {name: folder.verified(name, _origins(part)) for part in parts for name in part.files}
    if not all(done.values()):
        with (options or FetchOptions()).client(tells=progress) as client:
            missing = [(part, name) for part in parts for name in part.files if done[name] is None]
            records = {n: list_record(client, n, url) for n in dict.fromkeys(part.record for part, _ in missing)}
            found = [(part, _find(records[part.record], name, part.record, url)) for part, name in missing]
            size = sum(remote.size for _, remote in found) / 1e6
            what = f"{len(found)} of {len(done)} files, {size:,.0f} MB,"
            announce(f"fetching {what} from {url} into {folder.path}", show=progress)
            for part, remote in found:
                done[remote.name] = _fetch_file(folder, remote, part, client, progress)
    return [file for file in done.values() if file is not None] + _collect_votes(folder)


def _origins(part: Part) -> tuple[str]:
    return (f"Zenodo record {part.record}",)


def _find(files: dict[str, RemoteFile], name: str, record: int, url: str) -> RemoteFile:
    if name not in files:
        has = ", ".join(sorted(files)) or "no files"
        raise FetchError(f"{url}/{record}", f"the record has no {name}, but {has}", "see whether it was renamed")
    return files[name]


def _fetch_file(
    folder: CatalogueFolder, remote: RemoteFile, part: Part, client: Client, progress: bool
) -> CatalogueFile:
    """Download one file unless it is there, check it and note it."""
    path = folder.path / remote.name
    fetched = not (path.is_file() and path.stat().st_size == remote.size and _has_checksum(path, remote.checksum))
    if fetched:
        _download(client, remote, path, progress)
    rows, columns = check_parquet(path, part.columns)
    return folder.record(remote.name, rows, columns, *_origins(part), fetched=fetched)


def _has_checksum(path: Path, expected: str) -> bool:
    algorithm, _, digest = expected.partition(":")
    return checksum(path, algorithm) == digest


def _download(client: Client, remote: RemoteFile, path: Path, progress: bool) -> None:
    with progress_bar(remote.name, math.ceil(remote.size / 1e6), unit="MB", show=progress) as advance:
        n_bytes = 0

        def count(more: int) -> None:
            nonlocal n_bytes
            n_bytes, before = n_bytes + more, n_bytes
            advance(n_bytes // 1_000_000 - before // 1_000_000)

        client.download(remote.url, path, size=remote.size, checksum=remote.checksum, progress=count)


# Votes


def _collect_votes(folder: CatalogueFolder) -> list[CatalogueFile]:
    """Make one table of the votes of every campaign whose files are there and verified; nothing if there are none."""
    there = {
        name: campaign
        for part in PARTS.values()
        for name, campaign in part.files.items()
        if (campaign or part is PARTS["friendly"]) and folder.verified(name, _origins(part))
    }
    names = next((folder.path / name for name, campaign in there.items() if not campaign), None)
    of_votes = {name: campaign for name, campaign in there.items() if campaign}
    if not of_votes:
        return []
    if all(name in PARTS["votes"].files for name in of_votes):
        names = None  # these tables know the galaxies' names
    origin = "made of " + ", ".join([*of_votes, *([names.name] if names else [])])
    made = folder.verified(DESI_VOTES_FILE, (origin,))
    if made is None:
        frame = combine_desi_votes((read_desi_votes(folder.path / n, c) for n, c in of_votes.items()), names)
        write_parquet(folder.path / DESI_VOTES_FILE, frame)
        made = folder.record(DESI_VOTES_FILE, len(frame), frame.shape[1], origin)
    return [made]


# GZ2


def fetch_gz2(
    root: str | os.PathLike[str],
    *,
    url: str = GZ2_URL,
    options: FetchOptions | None = None,
    progress: bool = True,
) -> list[CatalogueFile]:
    """Fetch the votes of Galaxy Zoo 2 into ``catalogues/gz2_volunteer_votes.parquet``, unless they are there.

    The published table (239,695 galaxies, 230 columns) is removed after its votes have been taken from it, unless it
    was there before as ``catalogues/gz2_hart16.csv.gz``.

    Parameters
    ----------
    root, options, progress
        As `fetch_gz_desi`.
    url : str
        Of the gzipped CSV of Hart et al. 2016.

    Returns
    -------
    list of CatalogueFile
        The one file. If a table of that name was there that no fetch noted, it is checked and kept.

    Raises
    ------
    FetchError
        If the download fails for good.
    BadFileError, CatalogError
        If the table cannot be read or used.
    """
    folder = CatalogueFolder(root)
    folder.sweep(GZ2_FILE)
    ours, target = folder.path / f".{_HART_FILE}", folder.path / GZ2_FILE
    there = folder.verified(GZ2_FILE)
    if there is None:
        fetched = not folder.unknown(GZ2_FILE)
        if fetched:
            by_hand = folder.path / _HART_FILE
            raw = by_hand if by_hand.exists() else ours
            if not raw.exists():
                _download_gz2(raw, url, options or FetchOptions(), progress)
            write_parquet(target, read_gz2_votes(raw))
        table = read_gz2_votes(target)
        there = folder.record(GZ2_FILE, len(table), table.shape[1], _GZ2_ORIGIN, fetched=fetched)
    ours.unlink(missing_ok=True)
    return [there]


def _download_gz2(raw: Path, url: str, options: FetchOptions, progress: bool) -> None:
    announce(f"fetching {_HART_FILE}, 239,695 galaxies, from {url} into {raw.parent}", show=progress)
    bar = progress_bar(_HART_FILE, None, unit="bytes", show=progress)
    with options.client(tells=progress) as client, bar as advance:
        client.download(url, raw, check=_check_gzip, progress=advance)


def _check_gzip(path: Path) -> None:
    """Unpack to nowhere: length and CRC at the end tell a whole file."""
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise BadFileError(path, f"not a whole gzip file ({error})", "fetch it again") from None
