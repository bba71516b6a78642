"""A file on its way here: its bytes so far, locked, resumable after a kill, renamed when it is whole and good.

It knows files, and that a server names versions of a file; it must not know how the bytes travel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from io import BufferedRandom
from pathlib import Path
from typing import Self

from zoobot_3d.errors import BadFileError, Zoobot3DError

__all__ = ["PartialFile"]


class PartialFile:
    """``.NAME.part`` beside a file NAME, and the note ``.NAME.part.json``: of which URL and version it is a part.

    Made by `open`. A part without a version cannot be gone on with, as nobody could say that the rest fits it.

    Attributes
    ----------
    size : int
        Bytes so far.
    version : str
        What ``If-Range`` takes: an ETag or a date; "" if there is none.
    """

    def __init__(
        self, path: Path, file: BufferedRandom, url: str, progress: Callable[[int], None] | None = None
    ) -> None:
        self.size, self.version = 0, ""
        self._path, self._file, self._url, self._progress = path, file, url, progress
        self._note = path.with_name(f"{path.name}.json")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # absent, half written, or of something else
            note = json.loads(self._note.read_text())
            if note.get("url") == url:
                self.version = str(note.get("version", ""))
        self._resize(path.stat().st_size if self.version else 0)

    @classmethod
    @contextlib.contextmanager
    def open(cls, final: Path, url: str, progress: Callable[[int], None] | None = None) -> Iterator[Self]:
        """Open the partial file of ``final``, alone: another thread or process waits here until this one is done.

        Parameters
        ----------
        final : pathlib.Path
            The file to be; its folder exists.
        url : str
            Where it comes from; a part that came from elsewhere is thrown away.
        progress : callable, optional
            Called with the bytes gained since the last call; negative when they are thrown away.
        """
        import fcntl  # absent on Windows, where only downloads to files are amiss

        path = final.with_name(f".{final.name}.part")
        done = False
        while not done:
            with path.open("a+b") as file:
                with contextlib.suppress(OSError):  # some cluster file systems have no locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_at(file, path):
                    continue  # who was before us has renamed or removed it
                part = cls(path, file, url, progress)
                try:
                    yield part
                finally:
                    if not (part.size and part.version) and _is_at(file, path):
                        part._note.unlink(missing_ok=True)
                        path.unlink()
                done = True

    def begin(self, version: str = "") -> None:
        """Throw away what is there; what follows is of this version."""
        self.version = version
        self._note.unlink(missing_ok=True)
        self._resize(0)
        if version:
            self._note.write_text(json.dumps({"url": self._url, "version": version}))

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._file.write(chunk)
        self._grow(len(chunk))

    def verify(
        self, size: int | None = None, checksum: str | None = None, check: Callable[[Path], None] | None = None
    ) -> str:
        """Judge the whole file; return its SHA-256 in hexadecimal, or throw it away and raise.

        Parameters
        ----------
        size : int, optional
            Bytes that it must have.
        checksum : str, optional
            ``"<algorithm of hashlib>:<hex>"``.
        check : callable, optional
            Called with the path of the partial file; raises a `Zoobot3DError` if it does not like it.

        Raises
        ------
        Zoobot3DError
            What ``check`` raised, or a `BadFileError` for size and checksum.
        """
        self._file.flush()
        try:
            if size is not None and self.size != size:
                raise BadFileError(self._path, f"sent {self.size} bytes instead of {size}")
            if checksum is not None:
                algorithm, _, expected = checksum.partition(":")
                if (found := self._digest(algorithm)) != expected.lower():
                    raise BadFileError(self._path, f"{algorithm} is {found} instead of {expected}")
            if check is not None:
                check(self._path)
        except Zoobot3DError:
            self.begin()
            raise
        return self._digest("sha256")

    def finish(self, final: Path) -> None:
        """Give the file its name. The note goes first: a kill between the two must not leave it behind alone."""
        os.fsync(self._file.fileno())
        self._note.unlink(missing_ok=True)
        self._path.replace(final)

    def _digest(self, algorithm: str) -> str:
        self._file.seek(0)  # where appending goes does not depend on it
        return hashlib.file_digest(self._file, algorithm).hexdigest()

    def _resize(self, size: int) -> None:
        self._file.truncate(size)
        self._grow(size - self.size)

    def _grow(self, count: int) -> None:
        self.size += count
        if count and self._progress is not None:
            self._progress(count)


def _is_at(file: BufferedRandom, path: Path) -> bool:
    """Whether an open file still is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
