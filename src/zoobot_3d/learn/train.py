"""A configuration to a bundle: one call that trains, can be killed at any moment, and goes on when called again.

Puts data, task and Lightning's trainer together and writes what they give into one folder::

    config.yaml  checkpoints/{last,best}.ckpt  logs/{csv,tensorboard,wandb}  failed.csv  bundle/  metrics.json

Only ``logs/`` knows times: all else is the same whether a run was interrupted or not.

Several processes, on one machine or many, call it alike; the first one writes.

Knows nothing of how a step is made (`zoobot_3d.learn.task`) or a picture read (`zoobot_3d.dataset.data`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities import rank_zero_only

from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.compute.progress import announce
from zoobot_3d.config.reading import config_to_yaml, differing_keys
from zoobot_3d.config.schema import Config
from zoobot_3d.dataset.data import MaskDataModule
from zoobot_3d.dataset.sample import MASK_VOLUNTEERS
from zoobot_3d.errors import BadFileError, CatalogError, ConfigError, Zoobot3DError
from zoobot_3d.infer.bundle import BundleInfo, load_bundle, save_bundle
from zoobot_3d.io import atomic_path, write_atomic
from zoobot_3d.learn.calibration import calibrate
from zoobot_3d.learn.callbacks import AtomicCheckpoints, Clock, Limit, Progress, SameFolder, running_mean
from zoobot_3d.learn.checkpoints import ANEW, check_resumable, read_training_checkpoint
from zoobot_3d.learn.finetune import start_from
from zoobot_3d.learn.loggers import ExampleImages, build_loggers, check_logger, close_loggers
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.task import SegmentTask
from zoobot_3d.networks import build_model, model_options, nearest_size
from zoobot_3d.networks.losses import DirichletMultinomialLoss, build_loss
from zoobot_3d.schema import answers_per_question, vote_columns

__all__ = ["FREE_TO_CHANGE", "TIMES", "train"]

TIMES = "logs/times.json"
"""When a training began, and how many minutes it took."""

FREE_TO_CHANGE = (  # where and how fast a run goes may change when it is resumed; what it learns may not
    "data.root",
    "data.workers",
    "data.cache",
    "train.accelerator",
    "train.logger",
    "train.progress",
)

_HINTS = (
    ".*does not have many workers",
    ".*smaller than the logging interval",
    ".*have overridden `on_after_batch_transfer`",  # meant: what a batch goes through is the task's business
    ".*in eval mode at the start of training",  # meant: what is frozen
    ".*LeafSpec",
    "Checkpoint directory",
    "This DataLoader will create",  # more workers than cores: the user's own choice
    ".*sync_dist=True",  # what is logged so is the same in all processes, or the first one's is enough
    ".*is available on your system but is not used",  # srun, where a single process is meant
)


def train(
    config: Config, out: str | os.PathLike[str], *, resume: bool = True, callbacks: Sequence[Callback] = ()
) -> Path:
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
    callbacks : sequence of pytorch_lightning.Callback
        Called beside the run's own; what they raise ends it.

    Returns
    -------
    pathlib.Path
        The bundle, ``out/bundle``, with the weights of the epoch of least validation loss and the temperatures that
        `zoobot_3d.learn.calibration.calibrate` finds for them; ``out/metrics.json`` has the scores of these weights,
        without temperatures, on validation and test galaxies.

    Raises
    ------
    ConfigError
        The configuration does not fit together, or `out` holds a run with another one.
    BadFileError, CatalogError
        The catalogue cannot be read, or none of its training galaxies can; another training is running in `out`.
    """
    out = Path(out)
    bundle, metrics_file = out / "bundle", out / "metrics.json"
    check_logger(config.train.logger)
    if resume:
        _check_same(config, out)
        if bundle.is_dir() and metrics_file.is_file():
            print(f"{out}: trained before; its bundle is {bundle} (--restart trains anew)", file=sys.stderr)
            return bundle
    with folder_lock(out, "a training") if _is_first(config) else contextlib.nullcontext(), _quiet():
        _train(config, out, resume, callbacks)
    return bundle


def _is_first(config: Config) -> bool:
    """Tell whether this process is the only one of a run, or the one that writes."""
    alone = config.train.devices == 1 and config.train.num_nodes == 1
    return alone or int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _train(config: Config, out: Path, resume: bool, callbacks: Sequence[Callback]) -> None:
    seed_everything(config.train.seed, workers=True, verbose=False)
    last = out / "checkpoints" / "last.ckpt"
    going_on = resume and last.is_file()
    task = _build_task(config, anew=not going_on)
    if config.train.init is not None and not going_on:
        _start_from(config, task)
    data = MaskDataModule(config.data, config.train.seed, progress=config.train.progress)
    data.setup()
    limit = Limit(config.train.max_steps)
    trainer = _trainer(config, out, [limit, Clock(out / TIMES), *callbacks, ExampleImages(data)])
    if trainer.is_global_zero:
        _claim(config, out, anew=not resume)
        trainer.loggers = build_loggers(config, out)
    try:
        _fit(trainer, task, data, limit, last if going_on else None)
    finally:
        close_loggers(trainer.loggers)
    if trainer.is_global_zero:
        _finish(config, out, trainer, task, data)


def _check_same(config: Config, out: Path) -> None:
    """Make sure that `out` holds nothing, or the same run.

    Raises
    ------
    ConfigError
        It holds another run.
    """
    if (out / "config.yaml").exists():
        earlier = load_config(out / "config.yaml")
        if keys := [key for key in differing_keys(config, earlier) if key not in FREE_TO_CHANGE]:
            raise ConfigError(f"{out}: holds a run with another {', '.join(keys)}; use another folder, or --restart")


def _claim(config: Config, out: Path, *, anew: bool) -> None:
    """Write down which run `out` holds; if it begins anew, remove what an earlier one wrote."""
    if anew:
        for name in ("checkpoints", "logs", "bundle"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in ("metrics.json", "failed.csv"):
            (out / name).unlink(missing_ok=True)
    write_atomic(out / "config.yaml", config_to_yaml(config))


def _build_task(config: Config, *, anew: bool) -> SegmentTask:
    """Build network and loss, and check that the network can take the size asked for and has learned what is frozen.

    Weights that a network would start from are fetched only if training begins `anew`, and not from a bundle.
    """
    options = dict(config.model.options)
    pretrained = bool((model_options(config.model.name) | options).get("pretrained", False))
    for key, asked in (("freeze_encoder", config.train.freeze_encoder), ("frozen_levels", config.train.frozen_levels)):
        if asked and config.train.init is None and not pretrained:
            raise ConfigError(f"train.{key}: {asked} would keep random weights; start from a bundle, train.init")
    settings = config.train
    loss = build_loss(settings.loss, settings.class_weights, settings.overlap, settings.overlap_absent)
    answers = answers_per_question(vote_columns(config.data.votes))
    if pretrained and (config.train.init is not None or not anew):
        options["pretrained"] = False  # all weights are overwritten
    model = build_model(
        config.model.name,
        loss.out_channels,
        initial_raw=loss.initial_raw,
        vote_answers=sum(answers),
        vote_dropout=config.model.vote_dropout,
        **options,
    )
    vote_loss = DirichletMultinomialLoss(answers) if answers else None
    size, multiple = config.data.input_size, model.size_multiple
    if size % multiple:
        raise ConfigError(
            f"data.input_size: {size} is not a multiple of {multiple}, which {config.model.name} needs; "
            f"use {nearest_size(size, multiple)}"
        )
    return SegmentTask(model, loss, config.train, input_size=size, augment=config.data.augment, vote_loss=vote_loss)


def _start_from(config: Config, task: SegmentTask) -> None:
    """Fine-tune: put the weights of the bundle that `train.init` names into the network."""
    assert config.train.init is not None
    told = start_from(task.model, task.loss, load_bundle(config.train.init), votes=vote_columns(config.data.votes))
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(told, file=sys.stderr)


def _trainer(config: Config, out: Path, companions: Sequence[Callback]) -> Trainer:
    settings = config.train
    checkpoint = ModelCheckpoint(
        out / "checkpoints", "best", monitor="val_loss", mode="min", save_last=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [*companions, SameFolder(out / "checkpoints"), checkpoint]
    if settings.patience:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience, mode="min"))
    if settings.ema:
        callbacks.insert(0, WeightAveraging(avg_fn=running_mean(settings.ema)))
    if settings.progress:
        callbacks.append(Progress(config.data.batch_size, settings.accumulate))
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=settings.precision,
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        callbacks=callbacks,
        logger=False,  # the first process gets some later
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _fit(trainer: Trainer, task: SegmentTask, data: MaskDataModule, limit: Limit, last: Path | None) -> None:
    """Train, from a checkpoint if there is one; afterwards all processes know of all galaxies that failed."""
    if last is not None:
        check_resumable(last, task)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except Zoobot3DError:
        raise
    except Exception as error:
        if last is None or limit.began:
            raise
        what = f"cannot be resumed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise BadFileError(last, what, ANEW) from error
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares: list[dict[str, str]] = [{}] * trainer.world_size
        torch.distributed.all_gather_object(shares, data.failures)
        data.failures = {name: reason for share in shares for name, reason in share.items()}
        torch.distributed.destroy_process_group()  # from here on each is on its own, and the first scores all
    if data.failures and all(g in data.failures for g in data.datasets["train"].names()):
        name, reason = next(iter(data.failures.items()))
        raise CatalogError(
            f"{data.config.catalog}: none of the training galaxies can be read; the first, {name}: {reason}"
        )


def _finish(config: Config, out: Path, trainer: Trainer, task: SegmentTask, data: MaskDataModule) -> None:
    """Score the best weights on validation and test, and write bundle and metrics."""
    best = out / "checkpoints" / "best.ckpt"
    if not best.is_file() or not math.isfinite(float(trainer.callback_metrics.get("val_loss", 0.0))):
        raise ConfigError(f"{out}: the loss became NaN or infinite; lower train.lr ({config.train.lr}) and train anew")
    checkpoint = read_training_checkpoint(best, task)
    task.load_state_dict(checkpoint["state_dict"])
    scorer = Trainer(
        accelerator=config.train.accelerator,
        devices=1,
        precision=config.train.precision,
        logger=False,
        plugins=[LightningEnvironment()],  # alone, also where SLURM started it as one of many
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
        "marked": {name: int(dataset.marked.sum()) for name, dataset in data.datasets.items()},
        "left_out": len(data.failures),
        "epochs": trainer.current_epoch,
        "best_epoch": checkpoint["epoch"],
        "steps": trainer.global_step,
        "commit": _commit(),
    }
    if config.train.init is not None:
        summary["init"] = Path(config.train.init).name
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
        votes=tuple(vote_columns(config.data.votes)),
        training=summary | {"metrics": metrics},
    )
    save_bundle(out / "bundle", task.model, info)
    if data.datasets["val"].marked.any():
        calibrate(out / "bundle", config.data.catalog, root=config.data.root, progress=config.train.progress)
    write_atomic(out / "metrics.json", json.dumps(metrics | summary, indent=2) + "\n")
    announce(f"{out}: {_why_ended(config, summary)}", show=config.train.progress)


def _why_ended(config: Config, summary: dict[str, Any]) -> str:
    """Say in words how far the training went, why it ended there, and which weights are kept."""
    settings, done = config.train, summary["epochs"]
    if 0 < settings.max_steps <= summary["steps"]:
        why = f"ended after {summary['steps']} steps (train.max_steps)"
    elif done < settings.epochs:
        why = f"ended after {done} epochs, as val_loss had not fallen for {settings.patience} (train.patience)"
    else:
        why = f"ended after all {done} epochs"
    return f"{why}; the bundle has the weights of epoch {summary['best_epoch'] + 1}, where val_loss was least"


def _typical_n_asked(data: MaskDataModule) -> int:
    """Median number of volunteers asked, over the first validation galaxies that have marks."""
    dataset = data.datasets["val"]
    asked = [int(dataset[int(index)]["n_asked"].max()) for index in np.flatnonzero(dataset.marked)[:32]]
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
