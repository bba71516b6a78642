"""What goes along with a training run: its limits, its progress bar, checkpoints that are never half written.

Knows Lightning; must not know data, losses or bundles.
"""

from __future__ import annotations

import contextlib
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
from zoobot_3d.io import atomic_path
from zoobot_3d.learn.task import SegmentTask

__all__ = ["AtomicCheckpoints", "Limit", "Progress", "SameFolder", "running_mean"]


class Limit(Callback):
    """Stops after a number of steps, with a last validation, and measures the time of training over resumed runs.

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
        self._before, self._started = 0.0, time.monotonic()
        self.began = False

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        return self._before + time.monotonic() - self._started

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a checkpoint, if there is one, has been taken over."""
        self._started, self.began = time.monotonic(), True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when the steps are used up."""
        if 0 < self.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self._before = state_dict["elapsed"]


class SameFolder(Callback):
    """Lets a training go on in a folder that was moved: Lightning would forget which checkpoint was the best.

    A checkpoint holds paths of others, of which only the names count here: they may be a stranger's, and Lightning
    removes the file of a checkpoint that a better one follows.

    Parameters
    ----------
    folder : pathlib.Path
        Of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put this folder in the place of the one that the checkpoint was written in."""
        for state in checkpoint.get("callbacks", {}).values():
            if "best_k_models" in state:
                state["dirpath"] = self.folder
                state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}
                for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                    state[key] = self._here(state[key])

    def _here(self, path: str) -> str:
        return os.path.join(self.folder, Path(path).name) if path else ""  # noqa: PTH118 - as Lightning spells it


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
        """Write under a temporary name in the same folder, sync, rename."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


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
