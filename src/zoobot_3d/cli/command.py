"""What a command is, and what commands share: types of options, tables on the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from zoobot_3d.cli.ending import GO_ON

__all__ = ["Command", "cluster_option", "engine_option", "positive", "print_table", "report"]


@dataclass(frozen=True)
class Command:
    """A command: its help texts, its options, and the function that it calls.

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
    stopped : str
        What is kept, and how to go on, when a signal has stopped it.
    """

    name: str
    summary: str
    details: str
    example: str
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    run: Callable[[argparse.Namespace], int | None] = lambda args: None
    kinds: tuple[Command, ...] = ()
    stopped: str = GO_ON


class Summary(Protocol):
    """Counts of a batch; its text is what a user reads."""

    @property
    def done(self) -> int:
        """How many were made."""

    @property
    def skipped(self) -> int:
        """How many were there before."""

    @property
    def failed(self) -> int:
        """How many failed."""


def report(summary: Summary) -> int:
    """Print what a batch did. Return 2 if there was something to do and all of it failed, else 0."""
    print(summary)
    return 2 if summary.failed and not summary.done + summary.skipped else 0


def positive(text: str) -> int:
    """Parse a count of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def print_table(rows: Sequence[Sequence[str]], title: str, *, words: bool = False) -> None:
    """Print a table; the first row names the columns, which hold numbers except the first, or words."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if words or index == 0 else "right", no_wrap=index == 0)
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def cluster_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the work is done."""
    parser.add_argument(
        "--cluster",
        default="local",
        help="where to work: local or local:N for N processes on this machine, tcp://HOST:PORT for a Dask scheduler, "
        "slurm:FILE.yaml for SLURM jobs (zoobot3d recipes slurm > FILE.yaml writes the file)",
    )


def bundle_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which networks predict, and how."""
    parser.add_argument(
        "--bundle",
        default=["default"],
        nargs="+",
        help="folder of a bundle; several make an ensemble. By default the bundle that comes with the package",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="predict each picture in the 8 orientations of a square and take the mean; 8 times as slow",
    )


def engine_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what runs the networks."""
    parser.add_argument(
        "--engine",
        choices=("auto", "onnx", "openvino", "torch"),
        default="auto",
        help="what runs the network. auto takes torch on a GPU, else OpenVINO where it is installed, else ONNX Runtime",
    )
