"""Checkpoints of trainings, read as a stranger's: nothing pickled in them runs, and none is larger than it looks.

Must not know what is in a checkpoint.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoobot_3d.errors import BadFileError
from zoobot_3d.io import check_regular

__all__ = ["read_checkpoint"]

_FIX = "give a Lightning checkpoint, *.ckpt"
_LARGEST = 4 << 30  # bytes; the published ones have 40 million
_MOST_VALUES = 1_000_000  # values and lists in a checkpoint, before it is no checkpoint but a trap


def read_checkpoint(file: Path, fix: str = _FIX) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, refusing whatever could run code or fill the memory.

    Parameters
    ----------
    file : pathlib.Path
        Written by ``torch.save``.
    fix : str
        What to do about one that cannot be read, for the message.

    Returns
    -------
    dict
        Its content: tensors, plain values, lists and mappings.

    Raises
    ------
    BadFileError
        The file is missing, no checkpoint or truncated, holds other objects, or unpacks to more than its own size.
    """
    check_regular(file)
    try:
        with zipfile.ZipFile(file) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise BadFileError(file, f"is not a PyTorch checkpoint ({_one_line(error)})", fix) from None
    if not unpacked <= file.stat().st_size <= _LARGEST:  # torch.save never compresses
        raise BadFileError(file, f"unpacks to {unpacked:,} bytes, more than a checkpoint has", fix)
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of {found[1]}" if found else "pickled code"  # torch would advise to read it all the same
        raise BadFileError(
            file,
            f"holds {what}, which may run code when read, and so was not read",
            "if you trust the file, load it where you trust it and save anew its state_dict, and its hyper_parameters "
            "as plain lists and numbers",
        ) from None
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise BadFileError(file, f"cannot be read as a checkpoint ({_one_line(error)})", fix) from None
    if not isinstance(checkpoint, dict):
        raise BadFileError(file, "holds no checkpoint", fix)
    for value in _values(file, checkpoint, fix):
        if isinstance(value, Tensor) and value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise BadFileError(file, f"holds a tensor of shape {tuple(value.shape)} that repeats a few numbers", fix)
    return checkpoint


def _values(file: Path, content: Any, fix: str) -> Iterator[Any]:
    """Yield all that lists and mappings hold; one that is in many places counts in each, as when it is written."""
    waiting, left = [content], _MOST_VALUES
    while waiting:
        left -= 1
        if len(waiting) > left:
            raise BadFileError(file, f"holds more than {_MOST_VALUES:,} values", fix)
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        else:
            yield value


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200]
