"""The checkpoints of a training, checked before anything is made of them: they may be damaged, or a stranger's.

Knows what Lightning writes into a checkpoint; must not know data, losses or bundles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.checkpoint_file import read_checkpoint

__all__ = ["ANEW", "check_resumable", "read_training_checkpoint"]

ANEW = "--restart trains anew"

_STATES = ("state_dict", "current_model_state")
"""Weights in a checkpoint; with a running mean the mean is the first, and what it is a mean of the second."""


def read_training_checkpoint(file: Path, task: nn.Module) -> dict[str, Any]:
    """Read a checkpoint of a training.

    Parameters
    ----------
    file : pathlib.Path
        Of Lightning.
    task : nn.Module
        Whose weights it holds.

    Returns
    -------
    dict
        With ``state_dict``, which fits `task`, and the whole numbers ``epoch`` and ``global_step``, among others.

    Raises
    ------
    BadFileError
        As `zoobot_3d.infer.checkpoint_file.read_checkpoint`, or the weights are not those of `task`, or not numbers.
    """
    checkpoint = read_checkpoint(file, ANEW)
    for key in ("epoch", "global_step"):
        if type(checkpoint.get(key)) is not int or not 0 <= checkpoint[key] < 2**62:
            raise BadFileError(file, f"is no checkpoint of a training: it has no {key}", ANEW)
    wanted = task.state_dict()
    for state in [_STATES[0], *(key for key in _STATES[1:] if key in checkpoint)]:
        _check_state(file, state, checkpoint.get(state), wanted)
    return checkpoint


def check_resumable(file: Path, task: nn.Module) -> None:
    """Refuse a checkpoint from which a training cannot go on.

    Raises
    ------
    BadFileError
        As `read_training_checkpoint`; or what Lightning needs besides the weights is missing.
    """
    checkpoint = read_training_checkpoint(file, task)
    if missing := [key for key in ("optimizer_states", "lr_schedulers", "loops", "callbacks") if key not in checkpoint]:
        raise BadFileError(file, f"is no checkpoint of a training: it has no {', '.join(missing)}", ANEW)
    states = checkpoint["callbacks"].items() if isinstance(checkpoint["callbacks"], Mapping) else ()
    known = [str(key) for key, state in states if isinstance(state, Mapping) and state]
    if not any(key.startswith("ModelCheckpoint") for key in known):
        raise BadFileError(file, "is no checkpoint of a training: it does not say which was the best", ANEW)


def _check_state(file: Path, key: str, state: Any, wanted: Mapping[str, Tensor]) -> None:
    """Raise `BadFileError` unless a mapping holds finite tensors of the shapes and types that are wanted."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadFileError(file, f"is no checkpoint of a training: its {key} is missing or holds other things", ANEW)
    if differ := sorted(map(str, wanted.keys() ^ state.keys())):
        what = f"holds another network: {len(differ)} tensors differ, the first {differ[0][:100]}"
        raise BadFileError(file, what, ANEW)
    for name, value in wanted.items():
        found = state[name]
        if found.shape != value.shape or found.dtype != value.dtype:
            told = f"{tuple(found.shape)} {found.dtype} instead of {tuple(value.shape)} {value.dtype}"
            raise BadFileError(file, f"holds another network: {name} is {told}", ANEW)
        if not found.isfinite().all():
            raise BadFileError(file, f"{name} holds NaN or infinite numbers", f"lower train.lr; {ANEW}")
