"""Silence for the libraries that read files, and warn of what the package judges itself; also in threads.

Knows nothing of the rest.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_libraries"]

_WHERE = r"(astropy|erfa|numpy|photutils|PIL|scipy|zoobot_3d\.(sky|io|marks|sources|infer\.field))\b"
"""Modules that warnings are about: of libraries, and of those of our own that call them."""


class _Silence:
    """What `quiet_libraries` has set, and how many are within it."""

    def __init__(self) -> None:
        self.lock, self.within = threading.Lock(), 0
        self.state = warnings.catch_warnings()


_SILENCE = _Silence()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Ignore what libraries warn of, until the last thread that is within leaves.

    Filters of warnings are those of the whole process: of two threads within `warnings.catch_warnings`, the one that
    leaves last would restore the silence of the other, and all later warnings would be lost.
    """
    with _SILENCE.lock:
        if not _SILENCE.within:
            _SILENCE.state = warnings.catch_warnings()
            _SILENCE.state.__enter__()
            warnings.filterwarnings("ignore", module=_WHERE)
        _SILENCE.within += 1
    try:
        yield
    finally:
        with _SILENCE.lock:
            _SILENCE.within -= 1
            if not _SILENCE.within:
                _SILENCE.state.__exit__(None, None, None)
