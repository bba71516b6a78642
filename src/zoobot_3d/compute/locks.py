"""One folder, one command: a lock that names who holds it, and that a dead process does not hold."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from zoobot_3d.errors import BadFileError

__all__ = ["BEAT_SECONDS", "STALE_SECONDS", "folder_lock"]

BEAT_SECONDS = 20.0
"""Time between two touches of a lock's file by the process that holds the lock."""

STALE_SECONDS = 300.0
"""Age at which the lock of a process on another machine counts as left behind."""

_held: set[IO[str]] = set()  # open lock files of this process


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str], what: str, name: str = ".lock") -> Iterator[None]:
    """Keep other commands out of a folder while the with-block runs.

    The operating system frees the lock when its process ends, however it ends, so the next command takes over. Some
    file systems do not share locks between machines. The lock's file therefore also names its process and is touched
    every `BEAT_SECONDS`: a file that names another machine and was touched within `STALE_SECONDS` is respected.

    Parameters
    ----------
    folder : path
        Made if it does not exist, and removed again if nothing was written.
    what : str
        What is done there, for the message, e.g. ``"a prediction"``.
    name : str
        Name of the lock's file.

    Raises
    ------
    BadFileError
        If another process is working there, or nothing can be written there.
    """
    path = Path(folder) / name
    with contextlib.ExitStack() as stack:
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.callback(_remove_empty, path.parent)
            file = _acquire(path, what)
            stack.callback(_release, file, path)
            file.truncate(0)
            file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "what": what}))
            file.flush()
        except (FileExistsError, NotADirectoryError):
            raise BadFileError(folder, "is a file, or lies in one; it must be a folder", "choose another") from None
        except OSError as error:
            raise BadFileError(folder, error.strerror or str(error), "check the disk's space and rights") from None
        stack.enter_context(_beating(file))
        yield


def _acquire(path: Path, what: str) -> IO[str]:
    """Open and lock the file; leave it open."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            shared = _flock(file)
            host, pid = _holder(file)
            if shared is False:
                raise _taken(path, host, pid, what)
            if not _is_at(file, path):  # its last holder removed it between our opening and locking it
                file.close()
                continue
            elsewhere = host not in ("", socket.gethostname())
            if (elsewhere and _is_fresh(file, path.parent)) or (shared is None and not elsewhere and _alive(pid)):
                raise _taken(path, host, pid, what)
        except BaseException:
            file.close()
            raise
        _held.add(file)
        return file


def _release(file: IO[str], path: Path) -> None:
    with contextlib.suppress(OSError):  # the disk may be gone, which must not hide why the command ended
        if _is_at(file, path):
            path.unlink()
    _held.discard(file)
    with contextlib.suppress(OSError):
        file.close()


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _flock(file: IO[str]) -> bool | None:
    """Lock an open file: True if that worked, False if another process has it, None if the disk has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _beating(file: IO[str]) -> Iterator[None]:
    """Touch an open file now and then."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError, ValueError):  # the disk may be away for a while
                os.utime(file.fileno())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _forget_in_child() -> None:
    """Close the locks in a forked process: it would go on holding them after its parent has been killed."""
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file.fileno())
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _taken(path: Path, host: str, pid: int, what: str) -> BadFileError:
    who = f" (process {pid} on {host})" if host else ""
    fix = "wait until it ends"
    if host not in ("", socket.gethostname()):
        fix += f", or remove {path} if that process is gone"
    return BadFileError(path.parent, f"{what} is running in this folder{who}", fix)


def _holder(file: IO[str]) -> tuple[str, int]:
    """Return machine and process that an open lock file names; "" and 0 if it names none."""
    try:
        file.seek(0)
        content = json.loads(file.read())
        return str(content["host"]), int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", 0


def _is_at(file: IO[str], path: Path) -> bool:
    """Tell whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _is_fresh(file: IO[str], folder: Path) -> bool:
    """Tell whether a file was touched lately, by the clock of the disk that it lies on."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".now.", suffix=".part") as probe:
        now = os.fstat(probe.fileno()).st_mtime
    return now - os.fstat(file.fileno()).st_mtime < STALE_SECONDS


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
