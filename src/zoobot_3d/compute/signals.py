"""How a command ends when it is told to: Ctrl-C (SIGINT), SLURM and `kill` (SIGTERM), a closed terminal (SIGHUP).

Within `stoppable` a signal raises `Stopped` wherever the main thread is, so that locks are freed and half-written files
removed on the way out. Within `deferred`, work that can say something better than "stopped" asks now and then whether
it should end. Knows nothing of what the work is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

__all__ = ["Stopped", "deferred", "received", "stoppable"]

_ONE = 2.0
"""Seconds in which several signals count as one: ``timeout`` and SLURM may send theirs twice."""


class Stopped(SystemExit):
    """The process was told to end.

    A script that lets it pass ends with status 128 + ``signum``, as if the signal had ended it.

    Parameters
    ----------
    signum : int
        Which signal.
    kept : str
        What is kept and how to go on, for the message; "" if the command's usual words apply.
    quiet : bool
        Another process of the same command says it.
    """

    def __init__(self, signum: int, kept: str = "", *, quiet: bool = False) -> None:
        super().__init__(128 + signum)
        self.signum, self.kept, self.quiet = signum, kept, quiet

    @property
    def name(self) -> str:
        """The signal's name, e.g. ``SIGTERM``."""
        return signal.Signals(self.signum).name


@dataclass
class _State:
    """What this process was told so far."""

    depth: int = 0  # of `stoppable` blocks
    waiting: int = 0  # of `deferred` blocks
    signum: int | None = None
    when: float = 0.0
    before: dict[int, Any] = field(default_factory=dict)


_state = _State()


def received() -> int | None:
    """Return the signal that told this process to end, or None."""
    return _state.signum


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP raise `Stopped` in the main thread while the with-block runs.

    Blocks may be nested. A SIGHUP that is ignored, as ``nohup`` does, stays ignored. Outside of the main thread, where
    Python handles no signals, this does nothing. Processes that are forked in the block die of SIGTERM as usual, and
    leave Ctrl-C, which reaches them too, to their parent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _state.depth == 0:
        _install()
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        if _state.depth == 0:
            _restore()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within `stoppable`: only note a signal, see `received`; another one, after two seconds, raises `Stopped`."""
    _state.waiting += 1
    try:
        yield
    finally:
        _state.waiting -= 1


def _signals() -> list[int]:
    hangup = getattr(signal, "SIGHUP", None)
    more = [] if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN else [hangup]
    return [signal.SIGTERM, signal.SIGINT, *more]


def _install() -> None:
    _state.signum = None
    for signum in _signals():
        _state.before[signum] = signal.signal(signum, _handle)


def _restore() -> None:
    while _state.before:
        signum, handler = _state.before.popitem()
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)


def _handle(signum: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.signum is None:
        _state.signum, _state.when = signum, now
        if _state.waiting:
            return
    elif now - _state.when < _ONE:
        return
    raise Stopped(signum)


def _start_child() -> None:
    """In a forked process: die of SIGTERM, and leave Ctrl-C to the parent."""
    if _state.depth:
        _state.before.clear()
        _state.depth = 0
        for signum in _signals():
            signal.signal(signum, signal.SIG_IGN if signum == signal.SIGINT else signal.SIG_DFL)


os.register_at_fork(after_in_child=_start_child)
