"""Where a training run writes what it measures, and pictures of a few galaxies as it learns them.

CSV always, and TensorBoard or Weights & Biases. Knows Lightning, data and figures; must not know losses or bundles.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from zoobot_3d.config.reading import flat_config
from zoobot_3d.config.schema import Config
from zoobot_3d.dataset.data import MaskDataModule
from zoobot_3d.errors import ConfigError
from zoobot_3d.io import write_atomic
from zoobot_3d.report.figures import overlay

__all__ = ["ExampleImages", "build_loggers", "check_logger", "close_loggers"]

PROJECT = "zoobot-3d"
"""Where Weights & Biases collects the runs; the environment variable WANDB_PROJECT comes before it."""
EXAMPLES = 6


def check_logger(name: str) -> None:
    """Make sure that what ``train.logger`` names is installed.

    Raises
    ------
    ConfigError
        It is not; says how to install it.
    """
    if name == "wandb" and importlib.util.find_spec("wandb") is None:
        raise ConfigError("train.logger: wandb is not installed; pip install 'zoobot-3d[wandb]'")


def build_loggers(config: Config, out: Path) -> list[Logger]:
    """Make the loggers of a run, which write to ``out/logs``.

    Parameters
    ----------
    config : Config
        Which; Weights & Biases also keeps all of it.
    out : path
        The run's folder. Its name is the run's name on Weights & Biases. A resumed run goes on under the same id.

    Returns
    -------
    list of pytorch_lightning.loggers.Logger

    Raises
    ------
    ConfigError
        One is not installed, or Weights & Biases does not let the run begin.
    """
    check_logger(config.train.logger)
    logs = out / "logs"
    loggers: list[Logger] = [CSVLogger(logs, "csv")]
    if config.train.logger == "tensorboard":
        return [*loggers, TensorBoardLogger(logs, "tensorboard", "")]
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    logs.mkdir(parents=True, exist_ok=True)
    run_id, name = _run_id(logs / "wandb.id"), out.resolve().name
    logger = WandbLogger(name, logs, id=run_id, project=project, resume="allow", config=flat_config(config))
    import wandb

    try:
        _ = logger.experiment  # begins the run; later would be in the middle of Lightning's own set-up
    except wandb.errors.Error as error:
        what = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"train.logger: wandb: {what}; `wandb login`, or set WANDB_MODE=offline") from error
    return [*loggers, logger]


def close_loggers(loggers: Sequence[Logger]) -> None:
    """End what would otherwise go on in the next run of the same process, as that of Weights & Biases does."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _run_id(file: Path) -> str:
    """Return the id that the run was given when it first began."""
    if not file.is_file():
        write_atomic(file, uuid.uuid4().hex[:12])
    return file.read_text().strip()


class ExampleImages(Callback):
    """Pictures of some validation galaxies, always the same: as seen, as marked by volunteers, as found by the network.

    Given to TensorBoard or Weights & Biases after epochs 1, 2, 4, 8, ... and every 16th.

    Parameters
    ----------
    data : MaskDataModule
        Of the run.
    count : int
        How many galaxies, evenly spaced in the validation set.
    """

    def __init__(self, data: MaskDataModule, count: int = EXAMPLES) -> None:
        self.data, self.count = data, count
        self._items: list[dict[str, Any]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw them, by the weights that are validated next: when averaging is on, its callback has put them in."""
        epoch = trainer.current_epoch + 1
        if not trainer.is_global_zero or (epoch % 16 and epoch & (epoch - 1)):
            return
        items = self._galaxies()
        if not items:
            return
        pictures = torch.stack([item["image"] for item in items]).to(pl_module.device)
        fractions = pl_module(pictures.float() / 255).float().cpu().numpy()
        names = [item["id"] for item in items]
        strips = [_strip(item, fraction) for item, fraction in zip(items, fractions, strict=True)]
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, strip in zip(names, strips, strict=True):
                    logger.experiment.add_image(f"examples/{name}", strip, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                captions = [f"{name}: picture, volunteers, model" for name in names]
                logger.log_image("examples", [np.asarray(strip) for strip in strips], caption=captions)

    def _galaxies(self) -> list[dict[str, Any]]:
        """Return the galaxies, decoded once; without those that cannot be read."""
        if not self._items:
            dataset = self.data.datasets["val"]
            rows = np.unique(np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int))
            self._items = [item for item in (dataset[int(row)] for row in rows) if not item["error"]]
        return self._items


def _strip(item: dict[str, Any], fraction: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Picture, volunteers and model side by side, (S, 3 S, 3)."""
    picture = item["image"].numpy().transpose(1, 2, 0)
    volunteers = (item["votes"].float() / item["n_asked"].clamp_min(1)).numpy()
    return np.hstack([picture, overlay(picture, volunteers), overlay(picture, np.nan_to_num(fraction))])
