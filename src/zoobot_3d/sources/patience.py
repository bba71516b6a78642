"""How long a client waits and how often it tries; which failures another try may mend. Knows no files."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from zoobot_3d.errors import FetchError, Zoobot3DError
from zoobot_3d.sources.reasons import no_answer

__all__ = ["TRANSIENT", "Patience", "Retries", "TryAgain", "Words", "judged"]

TRANSIENT = (408, 425, 429)
"""Client errors that another try can mend (RFC 9110, 15.5.9; RFC 8470; RFC 6585, 4); so can every 5xx."""

_T = TypeVar("_T")


class TryAgain(Exception):
    """An attempt failed in a way that another may not; its text is the reason."""


class _Unfit(TryAgain):
    """An answer came and is not what it should be, which is a matter of one file rather than of the host."""


_UNFIT_SILENTLY = 3
"""So many unfit answers to one request are worth no line: where the survey has no data, several are asked for."""


@dataclass(frozen=True)
class Patience:
    """How long a client waits, and how often it tries.

    Attributes
    ----------
    attempts : int
        Times a request is tried, in all.
    timeout : float
        Seconds without a byte after which a connection is given up.
    connect : float
        Seconds for a connection to come about.
    first_wait, longest_wait : float
        Seconds before the second attempt, doubled before each further one up to the longest; each wait is cut by a
        random share of up to a half, so that clients that failed together do not come back together.
    grace, slowest : float
        A body may take ``grace`` seconds, and a second more for every ``slowest`` bytes that came.
    most_bytes : float
        Largest body, where the size is not known beforehand.
    """

    attempts: int = 6
    timeout: float = 60.0
    connect: float = 10.0
    first_wait: float = 1.0
    longest_wait: float = 120.0
    grace: float = 30.0
    slowest: float = 2000.0
    most_bytes: float = 400e6


@dataclass
class Words:
    """What a person who waits is told: for what, why, and for how long still.

    Attributes
    ----------
    tell : callable
        Takes a line.
    first, between : float
        Seconds without an answer before the first line about it; seconds between lines.
    clock : callable
        Monotonic seconds.
    """

    tell: Callable[[str], None]
    first: float = 4.0
    between: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _told: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def say(self, line: str) -> None:
        """Tell a line, unless another was told a moment ago: many requests at once fail for the same reason."""
        with self._lock:
            if self.clock() - self._told < self.between:
                return
            self._told = self.clock()
        self.tell(line)

    @contextlib.contextmanager
    def waiting(self, host: str) -> Iterator[None]:
        """Tell that a host is silent, if the block takes long."""
        line = f"waiting for an answer of {host}, {self.first:g} s so far"
        timer = threading.Timer(self.first, self.say, [line])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class Retries:
    """Call until it succeeds, with growing waits between.

    Parameters
    ----------
    patience : Patience
        Attempts and waits.
    seed : int, optional
        Of the random share of the waits.
    sleep : callable
        Waits for some seconds.
    words : Words, optional
        For the person who waits.
    """

    def __init__(
        self, patience: Patience, seed: int | None, sleep: Callable[[float], None], words: Words | None = None
    ) -> None:
        self._patience, self._sleep, self._words = patience, sleep, words
        self._random = random.Random(seed)
        self._exponential = wait_exponential(multiplier=patience.first_wait, max=patience.longest_wait)

    def run(self, url: httpx.URL, attempt: Callable[[], _T]) -> tuple[_T, int]:
        """Call until it succeeds, fails for good, or has had its attempts; return its result and the attempts."""
        words, began = self._words, 0.0

        def timed() -> _T:
            nonlocal began
            began = time.monotonic()
            return attempt()

        def explain(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if words is None or error is None:
                return
            if not isinstance(error, _Unfit) or state.attempt_number > _UNFIT_SILENTLY:
                more = self._more(state.attempt_number, time.monotonic() - began)
                words.say(f"{url.host}: {self._reason(error)}; {more}")

        def give_up(state: RetryCallState) -> NoReturn:
            error = state.outcome.exception() if state.outcome else None
            reason = self._reason(error) if error else "no answer"
            fix = "try again later: the same command goes on from here"
            raise FetchError(str(url), f"{reason} ({state.attempt_number} attempts)", fix) from error

        retrying = Retrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._patience.attempts),
            wait=lambda state: self._exponential(state) * self._random.uniform(0.5, 1.0),
            retry=retry_if_exception(_may_pass),
            retry_error_callback=give_up,
            before_sleep=explain,
        )
        try:
            return retrying(timed), int(retrying.statistics["attempt_number"])
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # an answer may lead to no address at all
            raise FetchError(str(url), self._reason(error), "check the address") from error

    def _more(self, done: int, lasted: float) -> str:
        """How often and how long it is tried still, if each attempt lasts as long as the last one."""
        patience = self._patience
        waits = [min(patience.first_wait * 2 ** (n - 1), patience.longest_wait) for n in range(done, patience.attempts)]
        tries = "once more" if len(waits) == 1 else f"up to {len(waits)} times more"
        return f"trying {tries}, for {sum(waits) + lasted * len(waits):.0f} s at most (Ctrl-C stops)"

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"no answer within {self._patience.timeout:g} s"
        return no_answer(error)


@contextlib.contextmanager
def judged() -> Iterator[None]:
    """Turn what the caller refuses into another attempt."""
    try:
        yield
    except Zoobot3DError as error:
        raise _Unfit(getattr(error, "what", str(error))) from error


def _may_pass(error: BaseException) -> bool:
    mendable = isinstance(error, TryAgain | httpx.TransportError | httpx.DecodingError)
    return mendable and not isinstance(error, httpx.UnsupportedProtocol)
