"""Why an archive has not answered, in words for a person. Must not know which archive it is."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

__all__ = ["no_answer"]


def no_answer(error: BaseException) -> str:
    """Say why no answer came: the libraries' words, or plain ones where the network itself is missing.

    Parameters
    ----------
    error : BaseException
        What a request raised.

    Returns
    -------
    str
        One line.
    """
    if any(isinstance(link, socket.gaierror) or "NameResolutionError" in str(link) for link in _chain(error)):
        return "no network connection, or no such host"
    return re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split())) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it follows from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
