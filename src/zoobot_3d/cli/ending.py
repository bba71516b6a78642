"""How a command ends that does not simply return: one line on stderr, and an exit status.

A user's mistake, a disk that is full or cannot be written, or a signal. Anything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from pathlib import Path

from zoobot_3d.compute.signals import Stopped, received
from zoobot_3d.errors import Zoobot3DError

__all__ = ["GO_ON", "START_AGAIN", "status_of"]

GO_ON = "what is complete is kept; run the same command again to go on"
"""What the line about a signal says of a command that can be resumed."""

START_AGAIN = "nothing was changed; run the same command again"
"""What it says of one that writes its result at the very end."""

_DISK_NAMES = (
    "ENOSPC EDQUOT EROFS EACCES EPERM EFBIG EIO ENAMETOOLONG ENOTDIR EISDIR EEXIST ENOTEMPTY ELOOP ESTALE EMFILE ENFILE"
)
_DISK = {getattr(errno, name) for name in _DISK_NAMES.split() if hasattr(errno, name)}


_OF_TRAINING = {"torch", "pytorch_lightning", "torchmetrics", "tensorboard", "onnx"}
"""What the extra ``train`` installs."""


def status_of(error: BaseException, command: str, stopped: str) -> int | None:
    """Tell in one line what ended a command, and return the exit status.

    Parameters
    ----------
    error : BaseException
        What the command raised.
    command : str
        Its name, e.g. ``fetch gz3d``; "" before it is known.
    stopped : str
        What is kept and how to go on if the command was stopped by a signal.

    Returns
    -------
    int or None
        128 + the signal that stopped it; 2 after a mistake, where the disk is at fault, or where a package is missing;
        0 if the reader of its output has seen enough. None for a bug, of which nothing is told.
    """
    name = f"zoobot3d {command}".strip()
    signum = _signal_behind(error)
    if signum is not None:
        if not (isinstance(error, Stopped) and error.quiet):
            kept = (isinstance(error, Stopped) and error.kept) or stopped
            print(f"{name}: stopped by {signal.Signals(signum).name}; {kept}", file=sys.stderr)
        return 128 + signum
    if isinstance(error, Zoobot3DError):
        named = re.match(r"zoobot3d[ :]", str(error))  # the parser's errors name the command
        print(error if named else f"zoobot3d: {error}", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _OF_TRAINING:
        print(f"{name}: needs {error.name}; pip install 'zoobot-3d[train]'", file=sys.stderr)
        return 2
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{_final_name(error.filename)}: " if error.filename else ""
        fix = "check the path and the disk's space and rights; the same command then goes on"
        print(f"zoobot3d: {where}{error.strerror or error}; {fix}", file=sys.stderr)
        return 2
    return None


def _signal_behind(error: BaseException) -> int | None:
    """Return the signal that an error follows from, directly or because other processes were told to end as well."""
    if isinstance(error, Stopped):
        return error.signum
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return received()


def _final_name(path: str | bytes | int) -> str:
    """Return the name that a file was to have, for that of its temporary file."""
    whole = Path(os.fsdecode(path) if isinstance(path, str | bytes) else str(path))
    match = re.fullmatch(r"\.(.+)\.\w+\.part", whole.name)
    return str(whole.with_name(match[1]) if match else whole)
