"""The commands: each parses its options, calls one function and prints the result. No method belongs here.

Heavy modules are imported inside the commands, so that ``zoobot3d --help`` answers at once. The options of ``train``
are the keys of `zoobot_3d.config.schema`.

Public: `main`.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from zoobot_3d import __version__
from zoobot_3d.cli import (
    data,
    evaluate,
    export,
    fetch,
    figures,
    imports,
    measure,
    predict,
    recipes,
    simulated,
    spaxels,
    sweep,
    train,
    verify,
)
from zoobot_3d.cli.command import Command
from zoobot_3d.cli.ending import START_AGAIN, status_of
from zoobot_3d.compute.signals import stoppable
from zoobot_3d.errors import ConfigError

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    *simulated.COMMANDS,
    fetch.FETCH,
    *data.COMMANDS,
    *train.COMMANDS,
    *predict.COMMANDS,
    *export.COMMANDS,
    *verify.COMMANDS,
    *measure.COMMANDS,
    *spaxels.COMMANDS,
    *evaluate.COMMANDS,
    *figures.COMMANDS,
    *sweep.COMMANDS,
    *imports.COMMANDS,
    *recipes.COMMANDS,
)

GROUPS = {
    "try it": ("demo",),
    "masks and numbers for your galaxies": (
        "predict",
        "figures",
        "measure",
        "export",
        "spaxels",
        "verify",
        "describe",
    ),
    "a training set": (
        "fetch",
        "extract-marks",
        "catalog",
        "crossmatch",
        "build-master",
        "make-masks",
        "check",
        "import-galaxy-builder",
    ),
    "models": (
        "train",
        "recipes",
        "sweep",
        "evaluate",
        "calibrate",
        "experts",
        "import-checkpoint",
        "upgrade-bundle",
    ),
    "a simulated sky": ("simulate", "archive"),
}
"""Names of the commands as ``zoobot3d --help`` lists them: what most people need comes first."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are of this package: one line on the screen, exit status 2."""

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", message):
            near = _nearest(choice[1], re.findall(r"[\w.-]+", choice[2]))
            message = message[: choice.start()] + f"invalid choice: '{choice[1]}'{near}" if near else message
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def _nearest(word: str, words: Sequence[str]) -> str:
    """Ask whether a word that nobody knows was meant to be one of these; empty if none is like it."""
    near = difflib.get_close_matches(word, words, 1)
    return f", did you mean {near[0]}?" if near else ""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults that say something, in words, and keep the line breaks of an epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if (
            action.help is None
            or default is None
            or default is False
            or default in ([], ())
            or "by default" in action.help
        ):
            return action.help
        if isinstance(default, list | tuple):
            return f"{action.help} (default: {' '.join(map(str, default))})"
        return super()._get_help_string(action)


def _columns() -> int:
    """Columns of the terminal that prose fills; argparse leaves two free as well."""
    return max(40, min(100, shutil.get_terminal_size().columns - 2))


def _listing() -> str:
    """List the commands by group, with what each does."""
    by_name = {command.name: command for command in COMMANDS}
    lines = []
    for title, names in GROUPS.items():
        lines.append(f"{title}:")
        for name in names:
            told = textwrap.wrap(by_name[name].summary, _columns() - 24)
            head = f"  {name:<20}  "
            if len(name) > 20:
                lines.append(f"  {name}")
                head = " " * 24
            lines += [head + told[0], *(" " * 24 + line for line in told[1:])]
        lines.append("")
    return "\n".join(lines)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error, for a bug report")
    parser = _Parser(
        "zoobot3d",
        usage="zoobot3d [-h] [--debug] [--version] COMMAND ...",
        description="Find spiral arms and bars in galaxy images: for each pixel, the fraction of volunteers who would "
        "enclose it.",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.description = textwrap.fill(parser.description or "", _columns())
    parser.add_argument("--version", action="version", version=f"zoobot3d {__version__}")
    parser.epilog = f"{_listing()}\nzoobot3d COMMAND --help explains a command and its options"
    _add(parser, COMMANDS, {name for name in argv if not name.startswith("-")}, common)
    args, settings = parser.parse_known_args(argv)
    if args.command is None:
        parser.print_help()
        raise SystemExit(0)
    if settings and args.command not in ("train", "sweep"):
        near = _nearest(settings[0].partition("=")[0], args.known)
        raise ConfigError(f"zoobot3d {args.command}: unknown {settings[0]}{near}; see zoobot3d {args.command} --help")
    args.settings = settings
    _refuse_empty(args, argv)
    return args


def _refuse_empty(args: argparse.Namespace, argv: Sequence[str]) -> None:
    """Refuse ``--out "$OUT"`` of a variable that is not set: it would mean the folder that one happens to be in."""
    empty = [word.removesuffix("=") for word in argv if re.fullmatch(r"--[\w-]+=", word)]
    for before, word in zip(["", *argv], argv, strict=False):
        if not word.strip() and before != "--suffix":
            empty.append(before if before.startswith("--") else "an argument")
    if empty:
        raise ConfigError(f"zoobot3d {args.command}: {empty[0]} is empty; give a value, or set the shell's variable")


def _with_negative_numbers(arguments: list[str]) -> list[str]:
    """Keep argparse from taking a declination such as -12:30:00 for an option, by a blank before it."""
    return [f" {word}" if re.match(r"[-\u2212][\d.]", word) else word for word in arguments]


def _at_home(word: str) -> str:
    """Expand ``~`` where no shell has: behind an option's ``=``, and in quotes. A folder called ~ is nobody's wish."""
    match = re.fullmatch(r"(--[\w.-]+=)?(~(?:/.*)?)", word, re.S)
    return f"{match[1] or ''}{Path(match[2]).expanduser()}" if match else word


def _add(parser: _Parser, commands: Sequence[Command], chosen: set[str], common: _Parser) -> None:
    """Add commands to a parser. Only a command that was chosen gets its options, as some are slow to collect."""
    nested = commands is not COMMANDS
    subparsers = parser.add_subparsers(
        dest="kind" if nested else "command",
        metavar="KIND" if nested else "COMMAND",
        title="kinds" if nested else None,  # type: ignore[arg-type]  # None is no title
        help=None if nested else argparse.SUPPRESS,  # `_listing` has them by group
        prog=parser.prog,  # and not its usage, which is written out
        parser_class=_Parser,
        required=False,
    )
    for command in commands:
        listed: dict[str, Any] = {"help": command.summary} if nested else {}
        summary = f"{command.summary[:1].upper()}{command.summary[1:]}."
        sub = subparsers.add_parser(
            command.name,
            **listed,
            description="\n\n".join(textwrap.fill(text, _columns()) for text in (summary, command.details)),
            epilog=f"example:\n  {command.example}",
            formatter_class=_Help,
            parents=[common],
        )
        if command.kinds:
            _add(sub, command.kinds, chosen, common)
        if command.name in chosen:
            command.options(sub)
        sub.set_defaults(run=command.run, stopped=command.stopped, known=list(sub._option_string_actions))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; the process's own by default.

    Returns
    -------
    int
        0 on success; 1 where a command found problems that it looked for (`zoobot3d check`); 2 after a user's mistake,
        or if the disk is full or cannot be written, which is explained in one line on stderr; 130 after Ctrl-C, 143
        after SIGTERM.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _with_negative_numbers([_at_home(word) for word in given])
    name, stopped = "", START_AGAIN
    with stoppable():
        try:
            args = _parse(arguments)
            name, stopped = " ".join(filter(None, (args.command, getattr(args, "kind", "")))), args.stopped
            return args.run(args) or 0
        except BaseException as error:
            status = None if "--debug" in arguments else status_of(error, name, stopped)
            if status is None:
                raise
            return status
