"""A configuration to a bundle: one call that trains, can be killed at any moment, and goes on when called again.

Puts data, task and Lightning's trainer together and writes what they give into one folder::

    config.yaml  checkpoints/{last,best}.ckpt  logs/{csv,tensorboard}  failed.csv  bundle/  metrics.json

Knows nothing of how a step is made (`zoobot_3d.task`) or a picture read (`zoobot_3d.data`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins import TorchCheckpointIO
from torch import Tensor

from zoobot_3d.bundle import BundleInfo, save_bundle
from zoobot_3d.config import Config, config_to_yaml, differing_keys, load_config
from zoobot_3d.data import MaskDataModule
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError
from zoobot_3d.io import atomic_path, write_atomic
from zoobot_3d.losses import build_loss
from zoobot_3d.models import build_model, nearest_size
from zoobot_3d.progress import progress_bar
from zoobot_3d.sample import MASK_VOLUNTEERS
from zoobot_3d.task import SegmentTask

__all__ = ["train"]

_FREE_TO_CHANGE = (  # where and how fast a run goes may change when it is resumed; what it learns may not
    "data.root",
    "data.workers",
    "data.cache",
    "train.max_minutes",
    "train.accelerator",
    "train.progress",
)

_HINTS = (
    ".*does not have many workers",
    ".*smaller than the logging interval",
    ".*have overridden `on_after_batch_transfer`",  # meant: what a batch goes through is the task's business
    ".*LeafSpec",
    "Checkpoint directory",
)


def train(config: Config, out: str | os.PathLike[str], *, resume: bool = True) -> Path:
    """Train a network and write its bundle.

    Parameters
    ----------
    config : Config
        What to train, on what, how.
    out : path
        Folder for everything the run writes.
    resume : bool
        Go on where an earlier run with the same `out` stopped; a finished one is left as it is. False starts anew and
        removes what an earlier run wrote.

    Returns
    -------
    pathlib.Path
        The bundle, ``out/bundle``, with the weights of the epoch of least validation loss; ``out/metrics.json`` has the
        scores of these weights on validation and test galaxies.

    Raises
    ------
    ConfigError
        The configuration does not fit together, or `out` holds a run with another one.
    BadFileError, CatalogError
        The catalogue cannot be read, or none of its training galaxies can.
    """
    out = Path(out)
    bundle, metrics_file = out / "bundle", out / "metrics.json"
    _claim(config, out, resume)
    if bundle.is_dir() and metrics_file.is_file():
        print(f"{out}: training was finished before; its bundle is {bundle} (--restart trains anew)", file=sys.stderr)
        return bundle
    with _quiet():
        seed_everything(config.train.seed, workers=True, verbose=False)
        task = _build_task(config)
        data = MaskDataModule(config.data, config.train.seed, progress=config.train.progress)
        data.setup()
        write_atomic(out / "config.yaml", config_to_yaml(config))
        limit = _Limit(config.train.max_steps, config.train.max_minutes)
        task.time_fraction = limit.time_fraction
        trainer = _trainer(config, out, limit)
        _fit(trainer, task, data, out / "checkpoints" / "last.ckpt")
        if not trainer.is_global_zero:
            return bundle
        _finish(config, out, trainer, task, data, limit)
    return bundle


def _claim(config: Config, out: Path, resume: bool) -> None:
    """Make sure that `out` holds nothing, or the same run.

    Raises
    ------
    ConfigError
        It holds another run.
    """
    if not resume:
        for name in ("checkpoints", "logs", "bundle"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in ("metrics.json", "config.yaml", "failed.csv"):
            (out / name).unlink(missing_ok=True)
    elif (out / "config.yaml").exists():
        earlier = load_config(out / "config.yaml")
        if keys := [key for key in differing_keys(config, earlier) if key not in _FREE_TO_CHANGE]:
            raise ConfigError(f"{out}: holds a run with another {', '.join(keys)}; use another folder, or --restart")


def _build_task(config: Config) -> SegmentTask:
    """Build network and loss, and check that the network can take the size asked for."""
    loss = build_loss(config.train.loss, config.train.class_weights)
    model = build_model(config.model.name, loss.out_channels, initial_raw=loss.initial_raw, **config.model.options)
    size, multiple = config.data.input_size, model.size_multiple
    if size % multiple:
        raise ConfigError(
            f"data.input_size: {size} is not a multiple of {multiple}, which {config.model.name} needs; "
            f"use {nearest_size(size, multiple)}"
        )
    return SegmentTask(model, loss, config.train, input_size=size, augment=config.data.augment)


def _trainer(config: Config, out: Path, limit: _Limit) -> Trainer:
    settings = config.train
    checkpoint = ModelCheckpoint(
        out / "checkpoints", "best", monitor="val_loss", mode="min", save_last=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [limit, checkpoint]
    if settings.patience:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience, mode="min"))
    if settings.ema:
        callbacks.insert(0, WeightAveraging(avg_fn=_running_mean(settings.ema)))
    if settings.progress:
        callbacks.append(_Progress(config.data.batch_size))
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip or None,
        callbacks=callbacks,
        logger=[CSVLogger(out / "logs", "csv"), TensorBoardLogger(out / "logs", "tensorboard", "")],
        plugins=[_AtomicCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _fit(trainer: Trainer, task: SegmentTask, data: MaskDataModule, last: Path) -> None:
    if last.is_file():
        try:
            torch.load(last, map_location="meta", weights_only=True, mmap=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError):
            raise BadFileError(last, "is not a checkpoint that can be resumed", "--restart trains anew") from None
    trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    if data.failures and all(g in data.failures for g in data.datasets["train"].names()):
        name, reason = next(iter(data.failures.items()))
        raise CatalogError(
            f"{data.config.catalog}: none of the training galaxies can be read; the first, {name}: {reason}"
        )


def _finish(
    config: Config, out: Path, trainer: Trainer, task: SegmentTask, data: MaskDataModule, limit: _Limit
) -> None:
    """Score the best weights on validation and test, and write bundle and metrics."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # one process scores all
    best = out / "checkpoints" / "best.ckpt"
    if not best.is_file() or not math.isfinite(float(trainer.callback_metrics.get("val_loss", 0.0))):
        raise ConfigError(f"{out}: the loss became NaN or infinite; lower train.lr ({config.train.lr}) and train anew")
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    task.load_state_dict(checkpoint["state_dict"])
    scorer = Trainer(
        accelerator=config.train.accelerator,
        devices=1,
        precision=config.train.precision,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    scores = {"val": scorer.validate(task, datamodule=data, verbose=False)[0]}
    if len(data.datasets["test"]):
        scores["test"] = scorer.test(task, datamodule=data, verbose=False)[0]
    metrics: dict[str, Any] = {
        split: {key.removeprefix(f"{split}_"): _number(value) for key, value in values.items()}
        for split, values in scores.items()
    }
    summary = {
        "catalogue": Path(config.data.catalog).name,
        "rows": {name: len(dataset) for name, dataset in data.datasets.items()},
        "left_out": len(data.failures),
        "epochs": trainer.current_epoch,
        "best_epoch": int(checkpoint["epoch"]),
        "steps": trainer.global_step,
        "train_minutes": round(limit.elapsed / 60, 2),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
    }
    if data.failures:
        failed = pd.DataFrame({"id": list(data.failures), "reason": list(data.failures.values())})
        with atomic_path(out / "failed.csv") as temporary:
            failed.to_csv(temporary, index=False)
    info = BundleInfo(
        model_name=config.model.name,
        model_options=task.model.options,
        out_channels=task.model.out_channels,
        loss=config.train.loss,
        input_size=config.data.input_size,
        field_fraction=config.data.field_fraction,
        n_asked=_typical_n_asked(data),
        training=summary | {"metrics": metrics},
    )
    save_bundle(out / "bundle", task.model, info)
    write_atomic(out / "metrics.json", json.dumps(metrics | summary, indent=2) + "\n")


class _Limit(Callback):
    """Stops after a number of steps or minutes, with a last validation; counts resumed runs in."""

    def __init__(self, max_steps: int, max_minutes: float | None) -> None:
        self.max_steps = max_steps
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self._before, self._started = 0.0, time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        return self._before + time.monotonic() - self._started

    def time_fraction(self) -> float:
        """Part of the allowed time that has passed; 0 if there is no limit."""
        return 0.0 if self.max_seconds is None else min(self.elapsed / self.max_seconds, 1.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when steps or time are used up."""
        if self.time_fraction() >= 1 or 0 < self.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self._before = state_dict["elapsed"]


class _Progress(Callback):
    """One bar for the whole run, on the main process."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._open = contextlib.ExitStack()
        self._advance: Callable[[int], None] = lambda count: None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, filled as far as an earlier run came."""
        assert isinstance(pl_module, SegmentTask)
        bar = progress_bar("training", pl_module.total_steps() * self.batch_size, show=trainer.is_global_zero)
        self._advance = self._open.enter_context(bar)
        self._advance(trainer.global_step * self.batch_size)

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


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all; Lightning's own pass through /tmp, which may be another disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write under a temporary name in the same folder, sync, rename."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


def _running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential mean whose memory grows with the steps done, so that the random start is soon forgotten."""

    def average(mean: Tensor, new: Tensor, n_averaged: Tensor | int) -> Tensor:
        steps = int(n_averaged)
        # The ramp of TensorFlow's ExponentialMovingAverage(num_updates).
        return torch.lerp(new, mean, min(decay, (1 + steps) / (10 + steps))) if mean.is_floating_point() else new

    return average


def _typical_n_asked(data: MaskDataModule) -> int:
    """Median number of volunteers asked, over the first validation galaxies."""
    dataset = data.datasets["val"]
    asked = [int(dataset[index]["n_asked"].max()) for index in range(min(len(dataset), 32))]
    known = [n for n in asked if n]
    return int(np.median(known)) if known else MASK_VOLUNTEERS


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _commit() -> str | None:
    """Git commit of the package's source, if it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's hints about hardware, workers and logging intervals from the user's screen."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _HINTS:
            warnings.filterwarnings("ignore", message)
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
