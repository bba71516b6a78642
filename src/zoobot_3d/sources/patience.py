"""How long a client waits and how often it tries; which failures another try may mend. Knows no files."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from zoobot_3d.errors import FetchError, Zoobot3DError
from zoobot_3d.sources.reasons import no_answer

__all__ = ["TRANSIENT", "Patience", "Retries", "TryAgain", "judged"]

TRANSIENT = (408, 425, 429)
"""Client errors that another try can mend (RFC 9110, 15.5.9; RFC 8470; RFC 6585, 4); so can every 5xx."""

_T = TypeVar("_T")


class TryAgain(Exception):
    """An attempt failed in a way that another may not; its text is the reason."""


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
    """

    def __init__(self, patience: Patience, seed: int | None, sleep: Callable[[float], None]) -> None:
        self._patience, self._sleep = patience, sleep
        self._random = random.Random(seed)
        self._exponential = wait_exponential(multiplier=patience.first_wait, max=patience.longest_wait)

    def run(self, url: httpx.URL, attempt: Callable[[], _T]) -> tuple[_T, int]:
        """Call until it succeeds, fails for good, or has had its attempts; return its result and the attempts."""

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
        )
        try:
            return retrying(attempt), int(retrying.statistics["attempt_number"])
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # an answer may lead to no address at all
            raise FetchError(str(url), self._reason(error), "check the address") from error

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
        raise TryAgain(getattr(error, "what", str(error))) from error


def _may_pass(error: BaseException) -> bool:
    mendable = isinstance(error, TryAgain | httpx.TransportError | httpx.DecodingError)
    return mendable and not isinstance(error, httpx.UnsupportedProtocol)
