"""The archives of the web on 127.0.0.1: an HTTP server that answers for a simulated survey as the real ones do.

The SDSS directory of GZ3D files and the Legacy Surveys cutout service are here; catalogues come from
`archive_catalogues`, positions of names from `name_service`. Says how services are asked and answer; knows nothing of
how the sky is made, nor of the clients. Where the real services are kind to bad questions this one is strict (status
400), so that a client's mistake is heard.
"""

from __future__ import annotations

import contextlib
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from zoobot_3d.errors import ConfigError, Zoobot3DError
from zoobot_3d.simulate.archive_catalogues import (
    GZ2_PATH,
    HOYLE_PATH,
    SAMI_TAP_PATH,
    ZENODO_PATH,
    catalogue_routes,
)
from zoobot_3d.simulate.faulty_server import Faults, Handler, LoopbackServer, Request, Response, Served
from zoobot_3d.simulate.name_service import SESAME_PATH, name_route
from zoobot_3d.simulate.sky_service import SkyService, fits_bytes, jpeg_bytes
from zoobot_3d.sky.grid import PixelGrid

__all__ = ["Archive"]

GZ3D_PATH = "/sas/dr17/env/MANGA_MORPHOLOGY/galaxyzoo3d/v4_0_0/"
CUTOUT_PATH = "/viewer"
_MAX_SIZE = 3000  # px: the most that the real service gives
_MAX_FIELD = 10 * 3600  # arcsec along a side
_DEFAULT_PIXSCALE, _DEFAULT_SIZE = "0.262", "256"
_DATE = "2021-11-30 18:20"  # every file's: a listing must not change from run to run
_NAME_WIDTH = 23  # Apache cuts longer names on the page, though not in the link


class Archive:
    """Serve one simulated survey while the context lasts.

    Parameters
    ----------
    survey : str or os.PathLike
        Folder that `zoobot_3d.simulate.survey.simulate_survey` wrote.
    faults : Faults, optional
        What goes wrong with the answers; nothing by default.
    layers : sequence of str
        Layers that the cutout service knows; the first is the one it takes where none is asked for. They differ in
        the header only.
    port : int
        0 takes a free one.
    listing_extra : sequence of str
        Names that the GZ3D listing shows besides the files that are there; to ask for one is a 404.

    Raises
    ------
    BadFileError
        If the folder holds no simulated survey.

    Examples
    --------
    >>> with Archive("survey") as archive:
    ...     print(archive.gz3d_url)
    """

    def __init__(
        self,
        survey: str | os.PathLike[str],
        *,
        faults: Faults | None = None,
        layers: Sequence[str] = ("ls-dr8", "ls-dr9", "ls-dr10"),
        port: int = 0,
        listing_extra: Sequence[str] = (),
    ) -> None:
        root = Path(survey)
        routes = dict(catalogue_routes(root))
        routes |= _cutout_routes(SkyService(root), tuple(layers))
        routes[SESAME_PATH] = name_route(root)
        routes[GZ3D_PATH.rstrip("/")] = partial(_serve_folder, root / "gz3d", tuple(listing_extra))
        self.server = LoopbackServer(routes, faults, port=port)

    def __enter__(self) -> Self:
        """Start answering."""
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop answering and free the port."""
        self.server.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """Of the server, without a path."""
        return self.server.url

    @property
    def gz3d_url(self) -> str:
        """Directory of GZ3D files, in place of the one at data.sdss.org."""
        return self.url + GZ3D_PATH

    @property
    def cutout_url(self) -> str:
        """Cutout service, in place of ``https://www.legacysurvey.org/viewer``."""
        return self.url + CUTOUT_PATH

    @property
    def zenodo_url(self) -> str:
        """Records of Zenodo, in place of ``https://zenodo.org/api/records``."""
        return self.url + ZENODO_PATH

    @property
    def gz2_url(self) -> str:
        """Table of Galaxy Zoo 2 votes, in the columns of Hart et al. 2016."""
        return self.url + GZ2_PATH

    @property
    def sami_tap_url(self) -> str:
        """TAP service, in place of ``https://datacentral.org.au/vo/tap``."""
        return self.url + SAMI_TAP_PATH

    @property
    def hoyle_url(self) -> str:
        """Table of bar lengths of Hoyle et al. 2011."""
        return self.url + HOYLE_PATH

    def urls(self) -> dict[str, str]:
        """Address of every service, by the name of the ``zoobot3d fetch`` command that asks it."""
        return {
            "gz3d": self.gz3d_url,
            "cutouts": self.cutout_url,
            "gz-desi": self.zenodo_url,
            "gz2": self.gz2_url,
            "sami": self.sami_tap_url,
            "hoyle": self.hoyle_url,
        }

    def wait(self) -> None:
        """Serve until the user interrupts (Ctrl-C), or another thread ends the context."""
        with contextlib.suppress(KeyboardInterrupt):
            self.server.stopping.wait()

    @property
    def requests(self) -> list[Served]:
        """Every request so far, in the order they were answered."""
        return self.server.requests


# The Legacy Surveys cutout service


@dataclass(frozen=True)
class _Question:
    """What a cutout request asks for, checked."""

    grid: PixelGrid
    bands: str
    layer: str

    @classmethod
    def parse(cls, request: Request, layers: tuple[str, ...]) -> _Question:
        """Read the query of a request; ConfigError says what is wrong with it."""
        query = request.query
        layer = query.get("layer", layers[0])
        if layer not in layers:
            raise ConfigError(f"no layer {layer!r}; there are {', '.join(layers)}")
        bands = query.get("bands", "grz")
        if not bands or len(set(bands)) < len(bands) or set(bands) - set("grz"):
            raise ConfigError(f"no bands {bands!r}; give some of g, r, z, each once")
        size, pixscale = _number(query, "size", _DEFAULT_SIZE), _number(query, "pixscale", _DEFAULT_PIXSCALE)
        if not (size == int(size) and 1 <= size <= _MAX_SIZE):
            raise ConfigError(f"size is {query['size']}; give whole pixels, 1 to {_MAX_SIZE}")
        if not 0 < size * pixscale <= _MAX_FIELD:
            raise ConfigError(f"pixscale is {query['pixscale']}; give arcsec per pixel, a field of 10 deg at most")
        grid = PixelGrid((int(size), int(size)), pixscale, _number(query, "ra"), _number(query, "dec"))
        return cls(grid, bands, layer)

    @property
    def position(self) -> tuple[float, float]:
        """Centre, deg."""
        assert self.grid.ra is not None and self.grid.dec is not None
        return self.grid.ra, self.grid.dec


def _number(query: dict[str, str], name: str, default: str | None = None) -> float:
    text = query.get(name, default)
    if text is None:
        raise ConfigError(f"no {name} in the query; give it")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ConfigError(f"{name} is {text!r}; give a number")
    return value


def _cutout_routes(sky: SkyService, layers: tuple[str, ...]) -> dict[str, Handler]:
    def fits_cutout(request: Request) -> Response:
        return _answer(request, as_fits=True)

    def jpeg_cutout(request: Request) -> Response:
        return _answer(request, as_fits=False)

    def _answer(request: Request, *, as_fits: bool) -> Response:
        try:
            question = _Question.parse(request, layers)
        except Zoobot3DError as error:
            return _error_page(400, "Bad Request", str(error))
        ra, dec = question.position
        grid, bands, version = question.grid, question.bands, question.layer.rpartition("-")[2].upper()
        draw = partial(sky.cutout, ra, dec, grid.pixscale, grid.shape[0])
        if not as_fits:
            return Response(lambda: jpeg_bytes(draw()), "image/jpeg", ranges=False)
        name = f"cutout_{ra:.4f}_{dec:.4f}.fits"
        return Response(
            lambda: fits_bytes(draw(), grid, bands, version),
            "image/fits",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
            zeros=lambda: fits_bytes(np.zeros((3, *grid.shape), np.float32), grid, bands, version),
            ranges=False,  # made anew for every request
        )

    return {f"{CUTOUT_PATH}/fits-cutout": fits_cutout, f"{CUTOUT_PATH}/jpeg-cutout": jpeg_cutout}


# The SDSS directory of files


def _serve_folder(folder: Path, extra: tuple[str, ...], request: Request) -> Response:
    """Answer as Apache does for a folder: its listing, or a file in it."""
    if request.path == GZ3D_PATH.rstrip("/"):
        return Response(status=301, headers={"Location": GZ3D_PATH})
    name = request.path.removeprefix(GZ3D_PATH)
    if not name:
        files = [(entry.name, entry.stat().st_size) for entry in os.scandir(folder)] if folder.is_dir() else []
        listed = [file for file in files if not file[0].startswith(".")] + [(name, 1_200_000) for name in extra]
        return Response(_listing(sorted(listed)).encode(), "text/html;charset=UTF-8", ranges=False)
    path = folder / name
    if "/" in name or name.startswith(".") or not path.is_file():
        return _error_page(404, "Not Found", "The requested URL was not found on this server.")
    return Response(path.read_bytes, "application/x-gzip")


def _listing(files: list[tuple[str, int]]) -> str:
    """Lay out a page like Apache's mod_autoindex; whatever order its links ask for, the files are sorted by name."""
    title = f"Index of {GZ3D_PATH.rstrip('/')}"
    heads = (("N", "Name"), ("M", "Last modified"), ("S", "Size"), ("D", "Description"))
    columns = "".join(f'<th><a href="?C={key};O={"D" if key == "N" else "A"}">{head}</a></th>' for key, head in heads)
    parent = GZ3D_PATH.rstrip("/").rpartition("/")[0] + "/"
    rows = [_row(parent, "Parent Directory", "&nbsp;", "  - ", icon="back")]
    rows += [_row(name, _cut(name), _DATE, _size(size), icon="compressed") for name, size in files]
    rule = '   <tr><th colspan="5"><hr></th></tr>'
    return "\n".join(
        [
            '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">',
            f"<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n<h1>{title}</h1>",
            f'  <table>\n   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th>{columns}</tr>',
            rule,
            *rows,
            rule,
            "</table>\n</body></html>\n",
        ]
    )


def _row(target: str, text: str, date: str, size: str, *, icon: str) -> str:
    return (
        f'<tr><td valign="top"><img src="/icons/{icon}.gif" alt="[   ]"></td>'
        f'<td><a href="{html.escape(target)}">{html.escape(text)}</a></td>'
        f'<td align="right">{date}  </td><td align="right">{size}</td><td>&nbsp;</td></tr>'
    )


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 3] + "..>"


def _size(size: int) -> str:
    """Four characters, as Apache writes sizes: ``512 ``, ``1.2M``, `` 34K``."""
    value, unit = float(size), 0
    while value >= 973:  # beyond it, three digits would round up to four
        value, unit = value / 1024, unit + 1
    digits = f"{value:.1f}" if unit and value < 9.95 else f"{value:3.0f}"
    return digits + " KMGT"[unit]


def _error_page(status: int, title: str, what: str) -> Response:
    page = (
        f"<html><head>\n<title>{status} {title}</title>\n</head><body>\n<h1>{title}</h1>\n<p>{html.escape(what)}</p>\n"
    )
    return Response(f"{page}</body></html>\n".encode(), "text/html; charset=iso-8859-1", status, ranges=False)
