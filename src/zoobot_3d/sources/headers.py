"""What the headers of a request and an answer say: packing, version, how long to wait, where a form's parts end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

__all__ = ["chunks", "form_headers", "is_packed", "retry_after", "version"]


def is_packed(response: httpx.Response) -> bool:
    """Whether the body was compressed for the way; a ``.gz`` that a server calls so is the file itself."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    return encoding != "identity" and not response.url.path.endswith(".gz")


def form_headers(form: Mapping[str, Any]) -> dict[str, str]:
    """Name the boundary between the parts of a form with files, so that the same form is always the same bytes."""
    if not form["files"]:
        return {}
    digest = hashlib.sha256(b"".join(content for _, content in form["files"].values())).hexdigest()
    return {"Content-Type": f"multipart/form-data; boundary=zoobot3d-{digest[:32]}"}


def chunks(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body as it is to lie on disk: unpacked if it was compressed for the way."""
    return response.iter_bytes() if is_packed(response) else response.iter_raw()


def version(response: httpx.Response) -> str:
    """Name this version of the file for ``If-Range``: a strong ETag, else the date; "" if it cannot be resumed."""
    etag = response.headers.get("ETag", "")
    if is_packed(response):
        return ""
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3), by its own clock if the answer is dated."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
        sent = response.headers.get("Date")
        now = parsedate_to_datetime(sent) if sent else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
