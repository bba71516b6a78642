"""What goes along with a training run: its limits, its progress bar, checkpoints that are never half written.

Knows Lightning; must not know data, losses or bundles.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins import TorchCheckpointIO
from torch import Tensor

from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.io import atomic_path, write_atomic
from zoobot_3d.learn.task import SegmentTask

__all__ = ["AtomicCheckpoints", "Clock", "Limit", "Progress", "SameFolder", "running_mean"]


class Limit(Callback):
    """Stops after a number of steps, with a last validation.

    Parameters
    ----------
    max_steps : int
        Steps of the optimizer; -1 for no limit.

    Attributes
    ----------
    began : bool
        Whether training has begun, with all that a checkpoint brought.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps
        self.began = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take note."""
        self.began = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when the steps are used up."""
        if 0 < self.max_steps <= trainer.global_step:
            trainer.should_stop = True


class Clock(Callback):
    """Logs when a training began and how long it took, over resumed runs: times belong into no other file.

    Parameters
    ----------
    file : pathlib.Path
        JSON with ``began`` (UTC) and ``minutes``, which is written after each epoch.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._began, self._before, self._started = "", 0.0, time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, where an earlier run stopped it."""
        self._started = time.monotonic()
        try:
            told = json.loads(self.file.read_text(encoding="utf-8"))
            self._began, self._before = str(told["began"]), float(told["minutes"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self._began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the time down."""
        if trainer.is_global_zero:
            minutes = round(self._before + (time.monotonic() - self._started) / 60, 3)
            write_atomic(self.file, json.dumps({"began": self._began, "minutes": minutes}) + "\n")


class SameFolder(Callback):
    """Lets a training go on in a folder that was moved: Lightning would forget which checkpoint was the best.

    Lightning writes paths of other checkpoints into each. Here they are written as names, and of those that are read
    only the names count: they may be a stranger's, and Lightning removes the file that a better checkpoint replaces.

    Parameters
    ----------
    folder : pathlib.Path
        Of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write names and no folder."""
        self._move(checkpoint, "")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put this folder in the place of the one that the checkpoint was written in."""
        self._move(checkpoint, self.folder)

    @staticmethod
    def _move(checkpoint: dict[str, Any], folder: str) -> None:
        def there(path: str) -> str:
            return os.path.join(folder, Path(path).name) if path else ""  # noqa: PTH118 - as Lightning spells it

        for state in checkpoint.get("callbacks", {}).values():
            if "best_k_models" in state:
                state["dirpath"] = folder
                state["best_k_models"] = {there(path): score for path, score in state["best_k_models"].items()}
                for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                    state[key] = there(state[key])


class Progress(Callback):
    """One bar for the whole run, on the main process.

    Parameters
    ----------
    batch_size : int
        Galaxies of a batch of one process.
    accumulate : int
        Batches of a step.
    """

    def __init__(self, batch_size: int, accumulate: int = 1) -> None:
        self.batch_size, self.step_size = batch_size, batch_size * accumulate
        self._open = contextlib.ExitStack()
        self._advance: Callable[[int], None] = lambda count: None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, filled as far as an earlier run came."""
        assert isinstance(pl_module, SegmentTask)
        bar = progress_bar("training", pl_module.total_steps() * self.step_size, show=trainer.is_global_zero)
        self._advance = self._open.enter_context(bar)
        self._advance(trainer.global_step * self.step_size)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it on."""
        self._advance(self.batch_size)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it as it is."""
        self._open.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave it as it is, also when the run is interrupted."""
        self._open.close()


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all; Lightning's own pass through /tmp, which may be another disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write under a temporary name in the same folder, sync, rename; given a name, torch would write it inside."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


def running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Make an exponential mean whose memory grows with the steps done, so that the random start is soon forgotten.

    Parameters
    ----------
    decay : float
        What the decay rises to.

    Returns
    -------
    callable
        Mean so far, new value and number of values averaged -> new mean, for Lightning's ``WeightAveraging``. The ramp
        is that of TensorFlow's ExponentialMovingAverage(num_updates).
    """

    def average(mean: Tensor, new: Tensor, n_averaged: Tensor | int) -> Tensor:
        steps = int(n_averaged)
        return torch.lerp(new, mean, min(decay, (1 + steps) / (10 + steps))) if mean.is_floating_point() else new

    return average
