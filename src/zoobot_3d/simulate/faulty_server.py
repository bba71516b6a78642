"""A real HTTP server on 127.0.0.1 whose answers go wrong on demand, repeatably: what a download client must survive.

Generic: it knows HTTP (Range, ETag, HEAD, keep-alive) and how transfers fail, and nothing of galaxies or archives; the
content comes from handlers. Whether a request fails is a function of the seed, the URL and how many times that URL was
asked before, never of time or of the order of other requests, so a run with many threads fails the same way twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import socket
import struct
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from zoobot_3d.errors import ConfigError

__all__ = ["ALL_KINDS", "Faults", "Handler", "LoopbackServer", "Request", "Response", "Served"]

ALL_KINDS = ("429", "500", "503", "reset", "slow", "truncated", "wrong_length", "empty", "zeros")
"""Every way to fail.

=================  ====================================================================================================
429, 500, 503      that status; 429 and 503 with ``Retry-After``
reset              the connection is reset in the middle of the body
slow               the whole body, right, in small pieces
truncated          the connection ends early although Content-Length promised more
wrong_length       half a body that HTTP calls complete: Content-Length absent, or as short as the body
empty              an HTML error page with status 200
zeros              the handler's `Response.zeros` instead of its body; where there is none, another kind
=================  ====================================================================================================
"""

LAST_MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"
"""The same for every file, so that answers do not change from run to run."""

_ERROR_PAGE = b"<!DOCTYPE html><html><head><title>Error</title></head><body>Please try again later.</body></html>\n"
_SLOW_PIECES = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a handler sees.

    Parameters
    ----------
    method : str
        ``GET``, ``HEAD`` or ``POST``.
    url : str
        Path and query as sent, e.g. ``/viewer/fits-cutout?ra=1&dec=2``.
    headers : Mapping of str to str
        Names in lower case.
    body : bytes
        Of a POST.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path alone, percent signs decoded."""
        return unquote(urlsplit(self.url).path)

    @property
    def query(self) -> dict[str, str]:
        """The query; the last one wins where a name is given twice."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The fields of a url-encoded POST."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def base_url(self) -> str:
        """Where the client thinks it is, e.g. ``http://127.0.0.1:8000``: for answers that hold links to the server."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"


@dataclass(frozen=True)
class Response:
    """What a handler answers.

    Parameters
    ----------
    body : bytes or callable
        A callable is asked for the bytes only when they are sent, not when a fault replaces them.
    content_type : str
        Of the body.
    status : int
        HTTP status. Faults of the body happen to 200 only.
    headers : Mapping of str to str
        Further headers; an ``ETag`` here replaces the body's hash.
    zeros : bytes, callable or None
        What the fault "zeros" sends: the same file without content.
    ranges : bool
        Whether the file can be asked for in part.
    """

    body: bytes | Callable[[], bytes] = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    zeros: bytes | Callable[[], bytes] | None = None
    ranges: bool = True


Handler = Callable[[Request], Response]
"""Answers requests; called from many threads at once."""


@dataclass(frozen=True)
class Faults:
    """Which requests fail, and how.

    Parameters
    ----------
    share : float
        Of requests, 0-1.
    kinds : tuple of str
        Out of `ALL_KINDS`, equally likely.
    seed : int
        Another seed, other faults.
    most_in_a_row : int
        One URL fails at most so many times before it is answered once; with ``share=1``, exactly so many.
    retry_after : int
        Seconds that 429 and 503 ask to wait.
    slow_seconds : float
        How long a slow body takes.
    """

    share: float = 0.0
    kinds: tuple[str, ...] = ALL_KINDS
    seed: int = 0
    most_in_a_row: int = 3
    retry_after: int = 0
    slow_seconds: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if unknown := set(self.kinds) - set(ALL_KINDS):
            raise ConfigError(f"unknown kinds of fault {sorted(unknown)}; use some of {', '.join(ALL_KINDS)}")
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share of faults {self.share:g} is not a fraction; use 0 to 1")


@dataclass(frozen=True)
class Served:
    """One request in the server's log."""

    request: Request
    status: int
    fault: str | None

    @property
    def url(self) -> str:
        """Path and query."""
        return self.request.url


class LoopbackServer:
    """Serve handlers on 127.0.0.1 while the context lasts.

    Parameters
    ----------
    routes : Mapping of str to callable
        Handler of each path prefix; the longest that fits wins, none is a 404.
    faults : Faults
        What goes wrong; none by default. May be replaced while the server runs.
    port : int
        0 takes a free one.

    Attributes
    ----------
    requests : list of Served
        Every request so far, in the order they were answered.
    """

    def __init__(self, routes: Mapping[str, Handler], faults: Faults | None = None, *, port: int = 0) -> None:
        self.routes = dict(routes)
        self.faults = faults or Faults()
        self.requests: list[Served] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._asked: dict[str, int] = defaultdict(int)
        self._failed_in_a_row: dict[tuple[Faults, str], int] = defaultdict(int)
        try:
            self._server = _Server(("127.0.0.1", port), type("BoundHandler", (_RequestHandler,), {"loopback": self}))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"port {port}: {error}; use another port, or 0 for any free one") from None
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        """Start answering."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop answering and free the port."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, prefix: str = "/") -> int:
        """How many requests had a path that starts with ``prefix``."""
        with self._lock:
            return sum(served.url.startswith(prefix) for served in self.requests)

    def answer(self, request: Request) -> Response:
        """Ask the handler in whose prefix the path lies."""
        for prefix in sorted(self.routes, key=len, reverse=True):
            if request.path.startswith(prefix):
                return self.routes[prefix](request)
        return Response(b"not found\n", "text/plain", 404)

    def draw_fault(self, request: Request, response: Response) -> tuple[str | None, float]:
        """Decide how this request fails (None: it does not) and at which fraction of the body."""
        faults = self.faults
        key = request.url + hashlib.sha256(request.body).hexdigest() * bool(request.body)
        kinds = [kind for kind in faults.kinds if kind != "zeros" or response.zeros is not None]
        if response.status != 200:
            kinds = [kind for kind in kinds if kind.isdigit()]
        with self._lock:
            nth = self._asked[key]
            self._asked[key] += 1
            # Seeding with text hashes it (SHA-512), the same in every process.
            draw = random.Random(f"{faults.seed} {nth} {key}")
            in_a_row = self._failed_in_a_row[faults, key]
            fails = bool(kinds) and draw.random() < faults.share and in_a_row < faults.most_in_a_row
            self._failed_in_a_row[faults, key] = in_a_row + 1 if fails else 0
        return (draw.choice(kinds) if fails else None), draw.random()

    def log(self, request: Request, status: int, fault: str | None) -> None:
        """Note an answer."""
        with self._lock:
            self.requests.append(Served(request, status, fault))


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # an idle kept-alive connection must not hold up the end
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up on a kept-alive connection; print the rest."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _RequestHandler(BaseHTTPRequestHandler):
    """One connection; `loopback` is set by the subclass that the server makes."""

    loopback: LoopbackServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; Nagle would put 40 ms between them

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.rfile.read(size))
        try:
            response = self.loopback.answer(request)
            fault, fraction = self.loopback.draw_fault(request, response)
            if fault is not None and fault.isdigit():
                self._send_status(request, int(fault), fault)
            elif fault == "empty":
                self._send(request, Response(_ERROR_PAGE, "text/html", ranges=False), fault, 1.0)
            else:
                self._send(request, response, fault, fraction)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client has gone; nobody is left to tell
        except Exception as error:
            _log.exception("handler failed on %s", request.url)
            self._send_status(request, 500, f"{type(error).__name__} in the handler")

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass  # `LoopbackServer.requests` is the log

    def _send_status(self, request: Request, status: int, fault: str) -> None:
        """Send an error with a short text."""
        headers = {"Retry-After": str(self.loopback.faults.retry_after)} if status in (429, 503) else {}
        text = f"{status} {HTTPStatus(status).phrase}\n".encode()
        self._send(request, Response(text, "text/plain", status, headers), fault, 1.0)

    def _send(self, request: Request, response: Response, fault: str | None, fraction: float) -> None:
        """Send an answer, whole or in part as the request asks, broken as the fault says."""
        body = _content(response.zeros if fault == "zeros" and response.zeros is not None else response.body)
        status, headers = response.status, {"Content-Type": response.content_type, **response.headers}
        if status == 200 and fault != "empty":
            headers.setdefault("ETag", f'"{hashlib.md5(body).hexdigest()}"')
            headers.setdefault("Last-Modified", LAST_MODIFIED)
            if response.ranges:
                headers["Accept-Ranges"] = "bytes"
                status, body = _cut_to_range(request, body, headers)
        self.loopback.log(request, status, fault)

        whole = len(body)
        if fault in ("reset", "truncated", "wrong_length"):
            body = body[: int(whole * fraction)]
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault == "wrong_length" and fraction < 0.5:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body) if fault == "wrong_length" else whole))
        self.end_headers()
        if request.method == "HEAD":
            return
        if fault == "slow":
            self._trickle(body)
            return
        self.wfile.write(body)
        if fault == "reset":
            self._reset()
        self.close_connection |= fault in ("reset", "truncated")

    def _reset(self) -> None:
        """End the connection with RST: no time to linger, closed without the FIN that a shutdown would send."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def _trickle(self, body: bytes) -> None:
        step = max(1, -(-len(body) // _SLOW_PIECES))
        for start in range(0, len(body), step):
            if self.loopback.stopping.wait(self.loopback.faults.slow_seconds / _SLOW_PIECES):
                return
            self.wfile.write(body[start : start + step])


def _content(body: bytes | Callable[[], bytes]) -> bytes:
    return body() if callable(body) else body


def _cut_to_range(request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Honour ``Range`` and ``If-Range`` (RFC 9110, sections 13.1.5 and 14.2); one range, else the whole file."""
    asked = request.headers.get("range", "")
    unchanged = request.headers.get("if-range", headers["ETag"]) in (headers["ETag"], headers["Last-Modified"])
    unit, _, span = asked.partition("=")
    first, dash, last = span.partition("-")
    if unit != "bytes" or not dash or not unchanged or not (first + last).isdigit():
        return 200, body
    start = int(first) if first else max(0, len(body) - int(last))
    stop = min(len(body), int(last) + 1) if first and last else len(body)
    if start >= stop:
        headers["Content-Range"] = f"bytes */{len(body)}"
        return 416, b""
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
    return 206, body[start:stop]
