"""What a table's file holds: its kind, told by the first bytes, and its bytes unpacked and decoded.

Must not know how a kind is read.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from zoobot_3d.errors import BadFileError
from zoobot_3d.io.files import check_regular

__all__ = ["decoded", "kind_and_content"]

_BOMB_RATIO, _BOMB_BYTES = 200, 100_000_000


def kind_and_content(path: Path) -> tuple[str, bytes | None]:
    """Tell a table's format by its first bytes.

    Returns
    -------
    tuple of str and bytes or None
        ``"parquet"``, ``"fits"``, ``"text"`` or Astropy's name of the format; the content, where it had to be unpacked.

    Raises
    ------
    BadFileError
        If the file is missing, empty, damaged, or no table; the message says what it is instead.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise BadFileError(path, error.strerror or str(error), "check the path") from None
    content: bytes | None = None
    if start[:2] == b"\x1f\x8b":
        content = _gunzip(path)
        start = content[:4096]
    if not start.strip():
        raise BadFileError(path, "the file is empty", "give a table with a header and rows")
    return _kind_of(path, start), content


def _kind_of(path: Path, start: bytes) -> str:
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"SIMPLE  ="):
        return "fits"
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise BadFileError(path, "a spreadsheet or zip archive, not a table", "save it as CSV")
    words = decoded(start, lenient=True).lstrip("\ufeff \t\r\n").lower()
    if words.startswith(("<!doctype html", "<html", "<head", "<body")):
        raise BadFileError(path, "a web page, perhaps an error message of a server", "download the table again")
    if words.startswith("<") and "votable" in words:
        return "votable"
    if words.startswith("<"):
        raise BadFileError(path, "XML that is no VOTable", "save the table as CSV, Parquet, FITS or VOTable")
    if words.startswith("# %ecsv"):
        return "ascii.ecsv"
    if words.startswith(("{", "[{", "[[")):
        raise BadFileError(path, "JSON, not a table", "save it as CSV or Parquet")
    if b"\x00" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadFileError(path, "binary data, not a table", "use CSV, Parquet, FITS, ECSV or VOTable")
    return "text"


def _gunzip(path: Path) -> bytes:
    """Unpack a gzipped table; one that grows beyond all measure is refused."""
    packed, pieces, size = max(path.stat().st_size, 1), [], 0
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read(1 << 22):
                size += len(piece)
                if size > _BOMB_BYTES and size > _BOMB_RATIO * packed:
                    raise BadFileError(path, f"unpacks to over {_BOMB_RATIO} times its size", "unpack it yourself")
                pieces.append(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFileError(path, f"damaged gzip file ({error})", "make or fetch it again") from None
    return b"".join(pieces)


def decoded(content: bytes, *, lenient: bool = False) -> str:
    """Decode text: UTF-16 by its mark, else UTF-8 or, where it is none, Latin-1.

    Raises
    ------
    UnicodeDecodeError
        If it is damaged UTF-16, unless ``lenient``.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace" if lenient else "strict")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
