"""Whole files: written under a temporary name, read only if they are plain files of a bearable size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoobot_3d.errors import BadFileError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["atomic_path", "check_regular", "file_stem", "unique_stems", "write_atomic", "write_figure"]

_LONGEST_STEM = 180
"""Bytes; file systems allow 255, and endings and temporary marks are added."""


def file_stem(name: object) -> str:
    """Turn a galaxy's name into a file name without its ending.

    What is not safe in a file name becomes ``_``. Names beyond what file systems allow are cut, with a hash of the
    whole at the end. The result has no folder in it and starts with no dot.
    """
    stem = re.sub(r"[^\w.+-]", "_", unicodedata.normalize("NFC", str(name)))
    stem = re.sub(r"^\.", "_", stem) or "_"
    if len(stem.encode()) > _LONGEST_STEM:
        digest = hashlib.blake2b(str(name).encode(errors="surrogateescape"), digest_size=6).hexdigest()
        stem = stem.encode()[: _LONGEST_STEM - 13].decode(errors="ignore") + "-" + digest
    return stem


def unique_stems(names: Iterable[object], taken: Iterable[str] = ()) -> list[str]:
    """Turn names into file names, of which no two are the same, also where case does not count.

    Parameters
    ----------
    names : iterable
        Galaxies.
    taken : iterable of str
        File names that are in use already.

    Returns
    -------
    list of str
        As from `file_stem`; one that is in use gets ``-2``, ``-3`` and so on.
    """
    used = {stem.casefold() for stem in taken}
    stems = []
    for name in names:
        base = stem = file_stem(name)
        number = 2
        while stem.casefold() in used:
            stem, number = f"{base}-{number}", number + 1
        used.add(stem.casefold())
        stems.append(stem)
    return stems


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no plain file, without opening it: a pipe would wait for ever, a device never end.

    Raises
    ------
    BadFileError
        If the path does not exist, or is a folder, pipe, socket, device or a link to one.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise BadFileError(path, "no such file", "check the path") from None
    except (OSError, ValueError) as error:
        raise BadFileError(path, getattr(error, "strerror", None) or str(error), "check the path") from None
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    kind = next((name for is_kind, name in kinds if is_kind(mode)), "a device")
    raise BadFileError(path, f"is {kind}, not a file", "give a plain file")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success sync it and rename it to ``path``, on error remove it.

    Parameters
    ----------
    path : str or os.PathLike
        The file to make; missing parent folders are made.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write bytes or text so that the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 130) -> None:
    """Write a matplotlib figure in the format of the file's extension; PNG without one."""
    kind = Path(path).suffix.removeprefix(".") or "png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
