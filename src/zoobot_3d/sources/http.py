"""One polite HTTP client for every archive: few connections, a steady rate, patience, and whole files only.

It knows HTTP and files; it must not know which service it talks to or what a file means: a caller says what a good
answer is (size, checksum, content type, a ``check``), and an answer that is not good is asked for again. How often is
in `zoobot_3d.sources.patience`, what all requests to a host share in `zoobot_3d.sources.host`, where an answer may lead
in `zoobot_3d.sources.mirrors`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from zoobot_3d import __version__
from zoobot_3d.errors import BadFileError, ConfigError, FetchError
from zoobot_3d.sources.headers import chunks, form_headers, is_packed, retry_after, version
from zoobot_3d.sources.host import Host
from zoobot_3d.sources.mirrors import FIRST, check_redirect
from zoobot_3d.sources.partial_file import PartialFile
from zoobot_3d.sources.patience import TRANSIENT, Patience, Retries, TryAgain, Words, judged

__all__ = ["DEFAULT_USER_AGENT", "LONGEST_PAUSE", "Client", "Downloaded", "Patience"]

DEFAULT_USER_AGENT = f"zoobot-3d/{__version__} (spiral arms and bars from Galaxy Zoo: 3D; python-httpx)"
"""How archives see this project in their logs."""

LONGEST_PAUSE = 3600.0
"""Seconds: a Retry-After beyond it is cut to it, so that a mistaken header does not stop a job for days."""


@dataclass(frozen=True)
class Downloaded:
    """A file that has arrived whole.

    Parameters
    ----------
    path : pathlib.Path
        Where it is.
    size : int
        Bytes.
    sha256 : str
        Of the file, hexadecimal.
    attempts : int
        Requests it took.
    resumed : bool
        Whether the last request asked for the missing part only.
    """

    path: Path
    size: int
    sha256: str
    attempts: int
    resumed: bool


class Client:
    """Fetch from archives without being a burden to them; a context manager, to be shared by any number of threads.

    Connections, rate and Retry-After hold for each host, over all threads that share the client; several clients (one
    in each process) must divide them.

    Parameters
    ----------
    connections : int
        Requests under way at one host at once.
    rate : float
        Requests per second to one host; 0 is no limit.
    patience : Patience, optional
        Attempts and timeouts.
    seed : int, optional
        Of the random share.
    clock, sleep : callable
        Monotonic seconds, and waiting for some.
    tell : callable, optional
        Takes a line for the person who waits: that a host is silent or refuses, and how long it is tried.

    Raises
    ------
    ConfigError
        If a number cannot be meant, such as no connections.
    """

    def __init__(
        self,
        *,
        connections: int = 4,
        rate: float = 5.0,
        patience: Patience | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.patience = patience = patience or Patience()
        attempts, timeout, first_wait = patience.attempts, patience.timeout, patience.first_wait
        if connections < 1 or attempts < 1 or timeout <= 0 or min(rate, first_wait, patience.longest_wait) < 0:
            raise ConfigError(
                f"a client with connections={connections}, rate={rate:g}, {patience}: none may be negative, nor "
                "connections, attempts and timeout 0"
            )
        self.connections, self.rate, self.attempts, self.first_wait = connections, rate, attempts, first_wait
        self._clock, self._sleep = clock, sleep
        self._words = Words(tell, clock=clock) if tell else None
        self._retries = Retries(patience, seed, sleep, self._words)
        self._hosts: dict[str, Host] = {}
        self._hosts_lock = threading.Lock()
        self._http = httpx.Client(
            # Identity: a file's length, its ranges and its bytes on disk are then those that the archive speaks of.
            headers={"User-Agent": DEFAULT_USER_AGENT, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout, connect=min(patience.connect, timeout), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=connections),
            follow_redirects=True,
            event_hooks={"request": [check_redirect]},
        )

    def __enter__(self) -> Self:
        """Hand out the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._http.close()

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        content_type: tuple[str, ...] = (),
        check: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Fetch a small answer into memory.

        Parameters
        ----------
        url : str
            What to ask for.
        params : Mapping, optional
            Added to the query.
        content_type : tuple of str
            Beginnings of acceptable Content-Types, e.g. ``("image/fits", "application/fits")``; empty accepts any.
        check : callable, optional
            Raises a `Zoobot3DError` for a body that is not what it should be; such a body is asked for again.

        Raises
        ------
        FetchError
            If the service refuses, or no attempt gave a good answer.
        """
        return self._small(_resolve(url, params), content_type, check, None)

    def post(
        self,
        url: str,
        *,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes]] | None = None,
        content_type: tuple[str, ...] = (),
        check: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Send a form, and fetch the small answer into memory.

        Only for services where the same form may be sent twice: after a failed attempt it is sent again.

        Parameters
        ----------
        url, content_type, check
            As in `get`.
        data : Mapping of str to str, optional
            Fields of the form.
        files : Mapping of str to (str, bytes), optional
            Files of a multipart form: field to file name and content.

        Raises
        ------
        FetchError
            If the service refuses, or no attempt gave a good answer.
        """
        return self._small(_resolve(url, None), content_type, check, {"data": data, "files": files})

    def _small(
        self,
        target: httpx.URL,
        content_type: tuple[str, ...],
        check: Callable[[bytes], None] | None,
        form: Mapping[str, Any] | None,
    ) -> bytes:
        """Fetch an answer into memory, of a POST if there is a form."""

        def attempt() -> bytes:
            watch = self._words.waiting(target.host) if self._words else contextlib.nullcontext()
            with watch, self._answer(target, {}, content_type, form) as response:
                body = b"".join(self._body(response, None))  # httpx has checked it against Content-Length
            if check is not None:
                with judged():
                    check(body)
            return body

        return self._retries.run(target, attempt)[0]

    def download(
        self,
        url: str,
        path: str | os.PathLike[str],
        *,
        params: Mapping[str, Any] | None = None,
        size: int | None = None,
        checksum: str | None = None,
        content_type: tuple[str, ...] = (),
        check: Callable[[Path], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Downloaded:
        """Fetch a file, in pieces if need be; it appears under its name when it is whole and good, not before.

        The bytes go to ``.NAME.part`` beside it, which a later call goes on with, also after the process was killed,
        as long as the server says that the file has not changed. A second thread or process that wants the same path
        waits for the first.

        Parameters
        ----------
        url, params, content_type
            As in `get`.
        path : str or os.PathLike
            The file; missing parent folders are made, an old file is replaced.
        size : int, optional
            Bytes that the file must have.
        checksum : str, optional
            ``"md5:<hex>"``, ``"sha256:<hex>"`` or another algorithm of `hashlib`.
        check : callable, optional
            Called with the path of the whole partial file (so judge by content, not by extension); raises a
            `Zoobot3DError` if it is not what it should be, and the file is fetched anew.
        progress : callable, optional
            Called with the bytes gained since the last call; negative when a start has to be thrown away.

        Raises
        ------
        FetchError
            If the service refuses, or no attempt gave a good file.
        BadFileError
            If the file cannot be written here.
        """
        target, path = _resolve(url, params), Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with PartialFile.open(path, str(target), progress) as part:

                def attempt() -> tuple[bool, str]:
                    resumed = self._fill(part, target, content_type, size)
                    with judged():
                        return resumed, part.verify(size, checksum, check)

                (resumed, sha256), attempts = self._retries.run(target, attempt)
                part.finish(path)
                return Downloaded(path, part.size, sha256, attempts, resumed)
        except OSError as error:
            raise BadFileError(path, error.strerror or str(error), "check the disk's space and rights") from error

    def _body(self, response: httpx.Response, size: int | None) -> Iterator[bytes]:
        """Yield what comes, as long as it is not too much and not too slow."""
        patience, start, got = self.patience, self._clock(), 0
        most = patience.most_bytes if size is None else float(size)
        for chunk in chunks(response):
            got += len(chunk)
            if got > most:
                what = f"sends more than the {most:,.0f} bytes that it should"
                raise FetchError(str(response.url), what, "check the address")
            if self._clock() - start > patience.grace + got / patience.slowest:
                what = f"too slow: {got:,} bytes in {self._clock() - start:.0f} s"
                raise FetchError(str(response.url), what, "try again later: the same command goes on from here")
            yield chunk

    def _fill(self, part: PartialFile, url: httpx.URL, content_type: tuple[str, ...], size: int | None) -> bool:
        """Fetch what a partial file lacks, or all of it; True if its beginning could be kept."""
        offset = part.size if part.version else 0
        headers = {"Range": f"bytes={offset}-", "If-Range": part.version} if offset else {}
        with self._answer(url, headers, content_type) as response:
            span = response.headers.get("Content-Range", "")
            if response.status_code == 416:
                if span == f"bytes */{offset}":
                    return True  # nothing was missing: the process was killed before the last step
                part.begin()
                raise TryAgain("the part downloaded before does not fit the file there")
            if response.status_code == 206:
                same = version(response) in ("", part.version) and not is_packed(response)
                if not same or not span.startswith(f"bytes {offset}-"):
                    part.begin()
                    raise TryAgain(f"answered with another part ({span or 'unnamed'}) than the one asked for")
                total = span.rpartition("/")[2]
            else:
                part.begin(version(response))
                total = "" if is_packed(response) else response.headers.get("Content-Length", "")
            for chunk in self._body(response, size):
                part.write(chunk)
        if total.isdigit() and (found := part.size) != int(total):
            if found > int(total):
                part.begin()  # too short can be completed; too long cannot
            raise TryAgain(f"ended after {found} of {total} bytes")
        return response.status_code == 206

    @contextlib.contextmanager
    def _answer(
        self,
        url: httpx.URL,
        headers: Mapping[str, str],
        content_type: tuple[str, ...],
        form: Mapping[str, Any] | None = None,
    ) -> Iterator[httpx.Response]:
        """Send one request when its turn has come; yield the answer if its status and type are good."""
        with self._hosts_lock:
            host = self._hosts.setdefault(
                url.netloc.decode(), Host(self.connections, self.rate, self._clock, self._sleep)
            )
        every = {**headers, **(form_headers(form) if form else {})}
        request: dict[str, Any] = {"headers": every, "extensions": {FIRST: url}, **(form or {})}
        with host.turn(), self._http.stream("GET" if form is None else "POST", url, **request) as response:
            status = response.status_code
            if status != 200 and not (headers and status in (206, 416)):
                reason = f"answered {status} {response.reason_phrase}"
                if status in (429, 503):
                    asked = retry_after(response)
                    host.hold(self.first_wait if asked is None else min(asked, LONGEST_PAUSE))
                if status in TRANSIENT or status >= 500:
                    raise TryAgain(reason)
                raise FetchError(
                    str(url), reason, "check the address, and that the service has it and lets you have it"
                )
            sent = response.headers.get("Content-Type", "")
            if content_type and status != 416 and not sent.lower().startswith(content_type):
                raise TryAgain(f"sent {sent or 'no Content-Type'} instead of {' or '.join(content_type)}")
            yield response


def _resolve(url: str, params: Mapping[str, Any] | None) -> httpx.URL:
    try:
        return httpx.URL(url).copy_merge_params(dict(params)) if params else httpx.URL(url)
    except httpx.InvalidURL as error:
        raise FetchError(url, f"not an address ({error})", "check it") from None
