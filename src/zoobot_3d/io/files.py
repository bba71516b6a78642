"""Whole files: written under a temporary name, read only if they are plain files of a bearable size."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
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

__all__ = [
    "MOST_UNZIPPED",
    "atomic_path",
    "check_regular",
    "file_stem",
    "gunzip",
    "inside",
    "unique_stems",
    "write_atomic",
    "write_figure",
]

MOST_UNZIPPED = 200_000_000
"""Bytes that a packed file may unpack to; a GZ3D file unpacks to 15 MB."""

_LONGEST_NAME = 240  # bytes; partial files have some more
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


def gunzip(content: bytes, most: int = MOST_UNZIPPED) -> bytes:
    """Unzip bytes, up to a limit: a few kilobytes may unpack to any size.

    Raises
    ------
    OSError
        If there is more; or as of `gzip.decompress`.
    EOFError, zlib.error
        As of `gzip.decompress`.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(f"unpacks to more than {most / 1e6:.0f} MB")
    return found


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the path of a file in a folder, for a name that a stranger gave.

    Parameters
    ----------
    folder : path
        Where the file is to be.
    name : str
        From a server, a catalogue, an archive or a bundle.

    Returns
    -------
    pathlib.Path
        ``folder / name``, of a plain file name; nothing is opened.

    Raises
    ------
    BadFileError
        If the name has a folder in it, begins with a dot, holds control characters, is empty or longer than file
        systems allow; or if what lies there is a link that leads out of the folder.
    """
    odd = not name or name.startswith(".") or len(os.fsencode(name)) > _LONGEST_NAME or not name.isprintable()
    if odd or any(mark in name for mark in "/\\:"):
        raise BadFileError(repr(name[:80]), "is no plain file name", "tell the maintainers of the archive")
    path = Path(folder) / name
    if path.is_symlink() and not path.resolve().is_relative_to(Path(folder).resolve()):
        raise BadFileError(path, "is a link that leads out of the folder", "remove it")
    return path


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
    """Write a matplotlib figure in the format of the file's extension, PNG without one; a PDF has its fonts in it.

    Raises
    ------
    BadFileError
        If matplotlib does not write this format.
    """
    import matplotlib as mpl

    kind = Path(path).suffix.removeprefix(".").lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise BadFileError(path, f"figures are not written as .{kind}", "give a name that ends in .png, .pdf or .svg")
    with atomic_path(path) as temporary, mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        figure.savefig(temporary, format=kind, dpi=dpi)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
