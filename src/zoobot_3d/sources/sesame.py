"""Positions of named objects, from the Sesame service at CDS (through astropy)."""

from __future__ import annotations

from astropy.coordinates import SkyCoord

from zoobot_3d.errors import FetchError
from zoobot_3d.sources.addresses import service_url

__all__ = ["resolve_name"]

_TIMEOUT = 4.0  # seconds; a person waits


def resolve_name(name: str) -> SkyCoord:
    """Look up the position of an object by its name.

    Parameters
    ----------
    name : str
        As SIMBAD, NED or VizieR know it, e.g. ``"NGC 3351"``.

    Returns
    -------
    SkyCoord
        ICRS.

    Raises
    ------
    FetchError
        If the service does not answer, or does not know the name.
    """
    from astropy.coordinates.name_resolve import NameResolveError, sesame_url
    from astropy.utils.data import conf

    urls = list(dict.fromkeys(map(service_url, sesame_url.get())))
    try:
        with sesame_url.set(urls), conf.set_temp("remote_timeout", _TIMEOUT):
            return SkyCoord.from_name(
                name, cache=False
            )  # the cache would keep "not found" too, and other servers' answers
    except NameResolveError as error:
        known = "unable to find coordinates" in str(error).lower()
        what = f"no object is called {name!r}" if known else f"the name service does not answer, to resolve {name!r}"
    except Exception as error:  # urllib and socket errors, as astropy passes them on
        what = f"the name service does not answer, to resolve {name!r} ({' '.join(str(error).split())[:120]})"
    raise FetchError(urls[0], what, "give the position with --radec instead")
