"""What all requests to one host share, so that many threads together are as polite as one.

Knows time and threads; nothing of HTTP.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["Host"]


class Host:
    """Places for requests under way, and the moment from which the next one may start.

    Parameters
    ----------
    connections : int
        Requests under way at once.
    rate : float
        Requests per second; 0 is no limit.
    clock, sleep : callable
        Monotonic seconds, and waiting for some.
    """

    def __init__(
        self, connections: int, rate: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._places = threading.BoundedSemaphore(connections)
        self._spacing = 1 / rate if rate else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next_start = clock()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, then for the moment; the moment may move away meanwhile, so it is looked at again."""
        with self._places:
            while (delay := self._claim()) > 0:
                self._sleep(delay)
            yield

    def hold(self, seconds: float) -> None:
        """Let no request start for so long."""
        with self._lock:
            self._next_start = max(self._next_start, self._clock() + seconds)

    def _claim(self) -> float:
        """Take the next start and return 0, or return the seconds until it."""
        with self._lock:
            now = self._clock()
            if now < self._next_start:
                return self._next_start - now
            self._next_start = now + self._spacing
            return 0.0
