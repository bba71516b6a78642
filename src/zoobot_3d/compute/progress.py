"""One progress bar for every long job: what, how far, how fast, how long still; and a line before it begins."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["announce", "count_rows", "progress_bar", "row_done", "say", "somebody_watches"]

_COUNT: ContextVar[Callable[[int], None] | None] = ContextVar("_COUNT", default=None)


class _RateColumn(ProgressColumn):
    """Items per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} {self.unit}/s", style="progress.data.speed")


def announce(line: str, *, show: bool = True) -> None:
    """Print a line on stderr before a long job begins: what, how much, from where, into what; or nothing."""
    if show:
        Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Print a line on stderr while a job runs: above its bar, if there is one."""
    print(line, file=sys.stderr, flush=True)  # Rich puts itself in the place of stderr while it shows a bar


@contextlib.contextmanager
def count_rows(count: Callable[[int], None]) -> Iterator[None]:
    """Let `row_done` inside the block, in this thread, count rows of a shard one by one."""
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)


def row_done() -> None:
    """Count a row of a shard, if this process shows the bar; workers count whole shards."""
    if (count := _COUNT.get()) is not None:
        count(1)


def somebody_watches() -> bool:
    """Tell whether this process shows the bar of the rows that it works on."""
    return _COUNT.get() is not None


@contextlib.contextmanager
def progress_bar(
    what: str, total: int | None, *, unit: str = "galaxies", show: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while a job runs, from the first call on: one that is refused at once shows none.

    A bar that does not reach its end says whether the job failed or was stopped; the command's last line says why.

    Parameters
    ----------
    what : str
        Short description, e.g. ``"predicting"``.
    total : int or None
        How many there are, if known.
    unit : str
        What is counted.
    show : bool
        False shows nothing.

    Yields
    ------
    callable
        Call it with the number of items done since the last call.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    progress = Progress(*columns, console=Console(stderr=True), disable=not show)
    task = progress.add_task(what, total=total, start=False)

    def advance(count: int) -> None:
        if not progress.tasks[0].started:
            progress.start()
            progress.start_task(task)
        progress.advance(task, count)

    try:
        yield advance
    except BaseException as error:
        why = "failed" if isinstance(error, Exception) else "stopped"
        progress.update(task, description=f"{what}: {why}")
        raise
    finally:
        if progress.tasks[0].started:
            progress.stop()
