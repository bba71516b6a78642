"""One folder, one command: a lock that names who holds it, and that a dead process does not hold."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from zoobot_3d.errors import BadFileError

__all__ = ["folder_lock"]


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str], what: str, name: str = ".lock") -> Iterator[None]:
    """Keep other commands out of a folder while the with-block runs.

    The operating system frees the lock when its process ends, however it ends. On file systems without locks, the
    process that the file names decides: one of this machine that is gone holds nothing; one of another machine is
    taken to be alive, and the message says which file to remove if it is not.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    what : str
        What is done there, for the message, e.g. ``"a prediction"``.
    name : str
        Of the lock's file.

    Raises
    ------
    BadFileError
        If another process is working there, or nothing can be written there.
    """
    path = Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except FileExistsError:
        raise BadFileError(folder, "is a file, not a folder", "choose another folder") from None
    except OSError as error:
        raise BadFileError(folder, error.strerror or str(error), "check the disk's space and rights") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder, path, _holder(path), what) from None
        except OSError:  # a file system without locks
            host, pid = _holder(path)
            if host and not (host == socket.gethostname() and not _alive(pid)):
                raise _taken(folder, path, (host, pid), what) from None
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "what": what}))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _taken(folder: str | os.PathLike[str], path: Path, holder: tuple[str, int], what: str) -> BadFileError:
    host, pid = holder
    who = f" (process {pid} on {host})" if host else ""
    here = host in ("", socket.gethostname())
    fix = "wait until it ends" + ("" if here else f", or remove {path} if it is gone")
    return BadFileError(folder, f"{what} is running in this folder{who}", fix)


def _holder(path: Path) -> tuple[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["host"]), int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
