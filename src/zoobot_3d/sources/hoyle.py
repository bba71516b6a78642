"""Bar lengths of Hoyle et al. 2011: fetch the published table and read it.

The table (Hoyle et al. 2011, MNRAS 415, 3627; 3,150 bars drawn by volunteers, each by three people or more) is on
data.galaxyzoo.org; public sources show no copy of it at VizieR. Lengths and widths are whole ones, from end to end, as
seen (not deprojected), in **kpc/h**: divide by h (0.7) for kpc, and by two for semi-lengths.
"""

from __future__ import annotations

import io as _io
import os
from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d.catalog.positions import read_positions, require_columns
from zoobot_3d.compute.progress import announce
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import atomic_path
from zoobot_3d.sources.addresses import service_url
from zoobot_3d.sources.catalogue_files import CatalogueFile, CatalogueFolder
from zoobot_3d.sources.fetch import FetchOptions

__all__ = ["HOYLE_COLUMNS", "HOYLE_FILE", "HOYLE_URL", "fetch_hoyle", "read_bar_lengths"]

_PUBLISHED_URL = "https://data.galaxyzoo.org/data/bars/hoyle_barlengths.csv"
HOYLE_URL = service_url(_PUBLISHED_URL)
HOYLE_FILE = "hoyle_bar_lengths.csv"
HOYLE_COLUMNS = (
    "objid", "ra", "dec", "length_avg", "length_stdev", "width_avg", "width_stdev", "length_scaled", "bar_meas",
)  # fmt: skip
"""SDSS DR7 object; position (deg); length and width and their standard deviations over people (kpc/h, end to end);
length over the galaxy's size; how many measurements."""

_ROWS = 3150
_ORIGIN = "Hoyle et al. 2011, data.galaxyzoo.org"
_ALIASES = {  # in lower case; the long ones stood in an earlier version of the published file
    "sdss objid": "objid",
    "dr7objid": "objid",
    "raj2000": "ra",
    "dej2000": "dec",
    "average bar length [kpc/h]": "length_avg",
    "standard deviation of bar length [kpc/h]": "length_stdev",
}
_REQUIRED = HOYLE_COLUMNS[:5]


def fetch_hoyle(
    root: str | os.PathLike[str],
    *,
    url: str = HOYLE_URL,
    options: FetchOptions | None = None,
    progress: bool = True,
) -> list[CatalogueFile]:
    """Fetch the bar lengths into ``catalogues/hoyle_bar_lengths.csv``, unless they are there.

    Parameters
    ----------
    root : path
        Data root.
    url : str
        Of the table.
    options : FetchOptions, optional
        Of the network.
    progress : bool
        Say what is fetched; the table has 0.3 MB and needs no bar.

    Returns
    -------
    list of CatalogueFile
        The one file.

    Raises
    ------
    FetchError
        If the service does not give a whole table.
    """
    folder = CatalogueFolder(root)
    folder.sweep(HOYLE_FILE)
    there = folder.verified(HOYLE_FILE)
    if there is not None:
        return [there]
    target = folder.path / HOYLE_FILE
    fetched = not folder.unknown(HOYLE_FILE)
    if fetched:
        announce(f"fetching {HOYLE_FILE}, 0.3 MB, from {url} into {folder.path}", show=progress)
        with (options or FetchOptions()).client(tells=progress) as client:
            content = client.get(url, check=lambda body: _check(body, url))
        with atomic_path(target) as temporary:
            _parse(content, url).to_csv(temporary, index=False)
    table = read_bar_lengths(target)
    return [folder.record(HOYLE_FILE, len(table), table.shape[1], _ORIGIN, fetched=fetched)]


def read_bar_lengths(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the table as published, or as `fetch_hoyle` wrote it.

    Parameters
    ----------
    path : path
        Text: columns between commas, semicolons or tabs, named as in `HOYLE_COLUMNS` in any case; lines that start
        with ``#``, and a row of dashes with the row of units above it, as VizieR writes them, are left out.

    Returns
    -------
    pandas.DataFrame
        `HOYLE_COLUMNS`, as far as the file has them; ``objid`` and ``bar_meas`` are integers. Lengths in kpc/h.

    Raises
    ------
    BadFileError
        If the file is missing, cut off or no table.
    CatalogError
        If a column or every position is missing.
    """
    path = Path(path)
    try:
        return _parse(path.read_bytes(), os.fspath(path))
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None


def _check(body: bytes, url: str) -> None:
    """Refuse an answer that is not the whole table: no checksum of it is published."""
    if not body.endswith(b"\n"):
        raise BadFileError(url, "the table breaks off in a line")
    rows = len(_parse(body, url))
    if url == _PUBLISHED_URL and rows != _ROWS:
        raise BadFileError(url, f"{rows} rows instead of {_ROWS}")


def _parse(content: bytes, name: str) -> pd.DataFrame:
    lines = [line for line in content.decode("utf-8", "replace").splitlines() if line.strip() and line[0] != "#"]
    header = lines[0].lower() if lines else ""
    separator = max(",;\t", key=header.count)
    if header.count(separator) < len(_REQUIRED) - 1:
        raise BadFileError(name, "not a table of bar lengths", "check the address or the file")
    dashes = next((i for i, line in enumerate(lines) if not line.strip("-" + separator)), None)
    rows = lines[1:] if dashes is None else lines[dashes + 1 :]
    short = next((i for i, line in enumerate(rows) if line.count(separator) != header.count(separator)), None)
    if short is not None:
        raise BadFileError(name, f"row {short} has fewer or more columns than the first line", "fetch it again")
    names = [column.strip().strip('"') for column in header.split(separator)]
    names = [_ALIASES.get(column, column) for column in names]
    require_columns(names, _REQUIRED, name)
    frame = pd.read_csv(_io.StringIO("\n".join(rows)), sep=separator, names=names, header=None, skipinitialspace=True)
    frame = frame[[column for column in HOYLE_COLUMNS if column in names]]
    if frame.empty:
        return frame
    read_positions(frame, name=name)
    return _numbers(frame, name)


def _numbers(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check that every value is a number, and identifiers and counts whole ones."""
    for column in frame.columns:
        if frame[column].dtype.kind not in "if":
            bad = pd.to_numeric(frame[column], errors="coerce").isna().to_numpy()
            raise BadFileError(
                name, f"{bad.sum()} of {len(frame)} rows have text in {column} (first: row {int(np.argmax(bad))})"
            )
    whole = [column for column in ("objid", "bar_meas") if column in frame]
    lost = frame[whole].isna().any(axis=1).to_numpy()
    if lost.any():
        raise BadFileError(
            name,
            f"{lost.sum()} of {len(frame)} rows have no {' or '.join(whole)} (first: row {int(np.argmax(lost))})",
            "fetch it again",
        )
    return frame.astype(dict.fromkeys(whole, "int64"))
