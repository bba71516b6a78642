"""Addresses of the archives, and how another server can answer for all of them.

Set the environment variable ``ZOOBOT3D_ARCHIVE`` to the address of a server, e.g. ``http://127.0.0.1:8765``, and every
default address points to it, with the path that it has at the real archive. ``zoobot3d archive`` is such a server. The
variable is read when this module is imported. Knows nothing of what is asked there.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

__all__ = ["ARCHIVE_VARIABLE", "service_url"]

ARCHIVE_VARIABLE = "ZOOBOT3D_ARCHIVE"


def service_url(url: str) -> str:
    """Address of a service: the real one, or its path on the server that ``ZOOBOT3D_ARCHIVE`` names.

    Parameters
    ----------
    url : str
        At the real archive.
    """
    archive = os.environ.get(ARCHIVE_VARIABLE, "").strip().rstrip("/")
    if not archive:
        return url
    return (archive if "://" in archive else f"http://{archive}") + urlsplit(url).path
