"""What files a Zenodo record holds, from its REST API. Knows nothing of what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from zoobot_3d.errors import BadFileError, FetchError
from zoobot_3d.sources.addresses import service_url
from zoobot_3d.sources.http import Client

__all__ = ["ZENODO_URL", "RemoteFile", "list_record", "parse_record"]

ZENODO_URL = service_url("https://zenodo.org/api/records")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a record.

    Attributes
    ----------
    name : str
        As on Zenodo.
    size : int
        Bytes.
    checksum : str
        ``"md5:<hex>"``.
    url : str
        Of its content.
    """

    name: str
    size: int
    checksum: str
    url: str


def list_record(client: Client, record: int, url: str = ZENODO_URL) -> dict[str, RemoteFile]:
    """Ask for the files of a record.

    Parameters
    ----------
    client : Client
        To ask with.
    record : int
        Zenodo's number.
    url : str
        Of the records API.

    Returns
    -------
    dict of str to RemoteFile
        By name.

    Raises
    ------
    FetchError
        If the service does not answer, or with something else.
    """
    address = f"{url.rstrip('/')}/{record}"
    content = client.get(address, check=lambda body: _check(body, address))
    files = parse_record(json.loads(content), address)
    if not files:  # InvenioRDM may give the record without its files, which have an address of their own
        content = client.get(f"{address}/files", check=lambda body: _check(body, address))
        files = parse_record({"files": json.loads(content)}, address)
    return files


def parse_record(document: Mapping[str, Any], address: str) -> dict[str, RemoteFile]:
    """Read the files out of a record's JSON.

    Parameters
    ----------
    document : Mapping
        Zenodo's own form, ``"files": [{"key", "size", "checksum", "links": {"self"}}]`` (before and since the move to
        InvenioRDM in 2023), or InvenioRDM's, ``"files": {"entries": ...}``, where ``entries`` is a list, or a mapping
        by name, and ``links`` has the file's ``content``.
    address : str
        Of the record; made into links where there are none.

    Returns
    -------
    dict of str to RemoteFile
        By name; empty if the record lists none.

    Raises
    ------
    FetchError
        If a file has no name, size or checksum.
    """
    listed = document.get("files") or []
    if isinstance(listed, Mapping):
        listed = listed.get("entries") or []
    entries: Iterable[Mapping[str, Any]] = listed.values() if isinstance(listed, Mapping) else listed
    files = {}
    for entry in entries:
        try:
            name, size, digest = str(entry["key"]), int(entry["size"]), str(entry["checksum"])
        except (KeyError, TypeError, ValueError) as error:
            what = f"an entry of the record's files cannot be understood ({type(error).__name__}: {error})"
            raise FetchError(address, what, "the service may have changed: report it") from None
        links = entry.get("links") or {}
        content = links.get("content") or links.get("download") or links.get("self")
        digest = digest if ":" in digest else f"md5:{digest}"
        files[name] = RemoteFile(name, size, digest, content or f"{address}/files/{quote(name)}/content")
    return files


def _check(body: bytes, address: str) -> None:
    try:
        known = isinstance(json.loads(body), dict)
    except ValueError:
        known = False
    if not known:
        raise BadFileError(address, "not the JSON of a record")
