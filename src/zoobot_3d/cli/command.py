"""What a command is, and what commands share: kinds of numbers, tables on the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Command", "cluster_option", "positive", "print_table", "report"]


@dataclass(frozen=True)
class Command:
    """A command: what it says of itself, its options, and what it calls.

    Attributes
    ----------
    name, summary, details, example : str
        What ``--help`` shows.
    options : callable
        Adds the options to a parser.
    run : callable
        Does the work; an integer it returns is the exit status.
    kinds : tuple of Command
        Instead of ``options`` and ``run``: a command of several kinds, as ``zoobot3d fetch gz3d``.
    """

    name: str
    summary: str
    details: str
    example: str
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    run: Callable[[argparse.Namespace], int | None] = lambda args: None
    kinds: tuple[Command, ...] = ()


class Summary(Protocol):
    """What a batch tells of itself; as text, what a user reads."""

    @property
    def done(self) -> int:
        """Made now."""

    @property
    def skipped(self) -> int:
        """There before."""

    @property
    def failed(self) -> int:
        """Not possible."""


def report(summary: Summary) -> int:
    """Print what a batch did; 2 if there was something to do and nothing of it is done, else 0."""
    print(summary)
    return 2 if summary.failed and not summary.done + summary.skipped else 0


def positive(text: str) -> int:
    """Parse a count of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def print_table(rows: Sequence[Sequence[str]], title: str) -> None:
    """Print a table; the first row names the columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def cluster_option(parser: argparse.ArgumentParser) -> None:
    """Add where the work is done."""
    parser.add_argument(
        "--cluster",
        default="local",
        help="where to work: local[:N processes], tcp://host:port (a Dask scheduler), "
        "slurm:FILE.yaml (zoobot3d recipes slurm > FILE.yaml writes one)",
    )


def bundle_options(parser: argparse.ArgumentParser) -> None:
    """Add which networks are asked, and how."""
    parser.add_argument(
        "--bundle",
        default=["default"],
        nargs="+",
        help="folder of a trained bundle; several make an ensemble; by default the one that comes with the package",
    )
    parser.add_argument(
        "--tta", action="store_true", help="show each picture in its 8 orientations and take the mean; 8 times as slow"
    )
