"""Where an answer may lead: to the same host, or to a mirror of the archives; elsewhere is refused."""

from __future__ import annotations

import httpx

from zoobot_3d.errors import FetchError

__all__ = ["FIRST", "MIRRORS", "check_redirect"]

MIRRORS = ("sdss.org", "legacysurvey.org", "nersc.gov", "zenodo.org", "galaxyzoo.org", "datacentral.org.au")
"""Hosts of the archives: a service may lead to these, over https, and to no others but itself."""

FIRST = "zoobot_3d_first"
"""Extension of a request: the address that was asked for."""


def check_redirect(request: httpx.Request) -> None:
    """Refuse an address that an answer led to, unless it is of the same host, or of a mirror of the archives."""
    first, here = request.extensions.get(FIRST), request.url
    if first is None or here == first:
        return
    listed = here.scheme == "https" and any(here.host == host or here.host.endswith(f".{host}") for host in MIRRORS)
    same = here.host == first.host and here.scheme in (first.scheme, "https")
    if not (same or listed):
        what = f"leads to another place, {here.scheme}://{here.host}, that is no mirror of an archive"
        raise FetchError(str(first), what, "check the address; give the other one with --url if you trust it")
