"""The settings of a training: frozen dataclasses, with the meaning, unit and default of every key.

A value out of range is a `ConfigError` that names the key. Files and command lines fill them through
`zoobot_3d.config.reading`. Knows nothing of torch, models or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import CAMPAIGNS, DEFAULT_MASTER, INPUT_PX, SMALLEST_FIELD


@dataclass(frozen=True)
class ModelConfig:
    """Which network.

    Attributes
    ----------
    name : str
        Network: fast_unet, mobile_unet, published_unet, or timm_unet, which needs the extra timm.
    options : dict
        Options of the network, e.g. {width: 24}. They depend on model.name.
    vote_dropout : float
        Fraction of the pooled channels that the vote head drops at random in training. Used with data.votes.
    """

    name: str = "fast_unet"
    options: dict[str, Any] = field(default_factory=dict)
    vote_dropout: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.vote_dropout < 1:
            raise ConfigError(f"model.vote_dropout: {self.vote_dropout} is not in [0, 1); the default is 0.2")


@dataclass(frozen=True)
class DataConfig:
    """Which galaxies, and how they are shown to the network.

    Attributes
    ----------
    catalog : str
        Master catalogue (Parquet or CSV), with one row per galaxy.
    root : str or None
        Folder that relative paths in the catalogue start from. By default the folder of the catalogue, or the one above
        if that folder is called data.
    input_size : int
        Side in pixels of the network's input.
    field_fraction : float
        Central fraction of the 424 px Galaxy Zoo field that the network sees. It is a fraction of the side, not of the
        area.
    batch_size : int
        Galaxies per batch on each device.
    workers : int
        Processes that decode pictures. With 0, the training process decodes them.
    cache : str
        none, or ram, which keeps every decoded galaxy in memory (7 bytes per pixel of the input), so that each is
        decoded once.
    on_error : str
        What happens with a galaxy that cannot be read: skip leaves it out with a warning, raise ends the training.
    votes : tuple of str
        Galaxy Zoo campaigns (dr12, dr5, dr8, gz2) whose questions a second head learns to answer, from the columns of
        votes in the catalogue. Galaxies with votes but without marks then take part. Empty to learn masks alone.
    hide_votes_of_marked : bool
        Ignore the votes of galaxies that have marks, so that votes and marks come from different galaxies.
    group_shares : dict
        Fraction of an epoch for each group of training galaxies, named in the column group of the catalogue, e.g.
        {real: 0.25}. Galaxies of all other groups share the rest. Empty to show all galaxies equally often.
    marked_share : float
        Fraction of the training galaxies in each batch that have marks. The rarer kind is repeated. With 0, all
        galaxies are shown equally often.
    epoch_size : int
        Galaxies between two validations. With 0, each galaxy is shown at least once in an epoch.
    binary_masks : bool
        Mask pictures hold one person's yes or no. Without it, a catalogue whose masks all have two values is refused.
    augment : bool
        Rotate, flip, scale, shift and shade the training galaxies at random. Validation and test galaxies are never
        changed.
    """

    catalog: str = DEFAULT_MASTER
    root: str | None = None
    input_size: int = 128
    field_fraction: float = 0.6
    batch_size: int = 32
    workers: int = 0
    cache: Literal["none", "ram"] = "none"
    on_error: Literal["skip", "raise"] = "skip"
    votes: tuple[str, ...] = ()
    hide_votes_of_marked: bool = False
    group_shares: dict[str, float] = field(default_factory=dict)
    marked_share: float = 0.0
    epoch_size: int = 0
    binary_masks: bool = False
    augment: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not INPUT_PX[0] <= self.input_size <= INPUT_PX[1]:
            raise ConfigError(f"data.input_size: {self.input_size} is not from {INPUT_PX[0]} to {INPUT_PX[1]} pixels")
        _at_least("data.batch_size", self.batch_size, 1)
        _at_least("data.workers", self.workers, 0)
        if not SMALLEST_FIELD <= self.field_fraction <= 1:
            raise ConfigError(
                f"data.field_fraction: {self.field_fraction} is not from {SMALLEST_FIELD} to 1; "
                "it is the fraction of the picture's side that the network sees"
            )
        _at_least("data.epoch_size", self.epoch_size, 0)
        if unknown := [name for name in self.votes if name not in CAMPAIGNS]:
            raise ConfigError(f"data.votes: no campaign {', '.join(unknown)}; choose from {', '.join(CAMPAIGNS)}")
        if len(set(self.votes)) < len(self.votes):
            raise ConfigError(f"data.votes: {', '.join(self.votes)} names a campaign twice; name each once")
        if any(not 0 < share < 1 for share in self.group_shares.values()) or sum(self.group_shares.values()) >= 1:
            raise ConfigError(
                f"data.group_shares: {self.group_shares} are not parts above 0 that leave room for others; "
                "give e.g. {real: 0.25}"
            )
        if self.group_shares and self.marked_share:
            raise ConfigError("data.group_shares: does not go together with data.marked_share; give one of them")
        if not 0 <= self.marked_share < 1:
            raise ConfigError(
                f"data.marked_share: {self.marked_share} is not in [0, 1); "
                "for marked galaxies alone leave data.votes empty"
            )
        if self.marked_share and not self.votes:
            raise ConfigError(
                f"data.marked_share: {self.marked_share} without data.votes, but then all galaxies have marks; "
                "name campaigns, e.g. dr5"
            )


@dataclass(frozen=True)
class TrainConfig:
    """How the network learns.

    Attributes
    ----------
    loss : str
        Loss: bce (binomial likelihood of the votes), beta_binomial, l1 or mse.
    class_weights : tuple of float
        Weights of the two classes, spiral and bar, in the loss.
    overlap : float
        Weight of the part of each picture's arms and bars that is missed (1 minus the IoU above 0.2), added to the
        loss. With 0.05 it counts about as much as bce. Masks above 0.2 become better, fractions less well calibrated.
    overlap_absent : float
        Weight in it of a picture without arms, or without a bar, relative to one that has them. With 0, more bars are
        found where there are none; with 1, fewer where there are some.
    vote_weight : float
        Weight of the loss of votes relative to that of masks. Used with data.votes. With 1, both have gradients of
        about the same size in the encoder.
    lr : float
        Largest learning rate of the optimizer AdamW.
    weight_decay : float
        Weight decay of AdamW. Biases and normalization layers have none.
    epochs : int
        Largest number of passes over the training galaxies.
    max_steps : int
        Largest number of optimizer steps. With -1, epochs alone decide.
    warmup : float
        Fraction of all steps in which the learning rate rises linearly. It then falls to 0 as half a cosine.
    patience : int
        Epochs without a smaller validation loss after which training stops. With 0, it never stops early.
    accumulate : int
        Batches whose gradients are averaged into one step. This has the effect of a larger batch in the memory of a
        small one.
    clip : float
        Largest norm of the gradients; larger gradients are scaled down to it. With 0, gradients are not limited.
    ema : float
        Decay per step of the exponential average of the weights, which is validated and kept. It rises from 0.1 at the
        first step to this value. With 0, the weights themselves are kept.
    bend : float
        Scatter of random smooth shifts that bend training pictures and masks, as a fraction of the input's side. 0.015
        makes simulated arms as uneven as real ones, and learning slower. With 0, nothing is bent.
    zoom : float
        Largest random factor by which training pictures are enlarged or reduced, at least 1. Larger values train a
        network for galaxies of all sizes in the picture.
    squash : float
        Smallest factor by which half of the training galaxies are compressed along a random direction, as if they were
        more inclined. With 1, none are.
    grey : float
        Fraction of the training pictures that are made grey, to train a network for pictures of a single band.
    photometric : float
        Strength of random changes of brightness, colour, sharpness and noise. 1 is mild, 0 is none.
    precision : str
        Arithmetic: 32-true, bf16-mixed or 16-mixed.
    accelerator : str
        Device: auto, cpu, gpu or mps.
    devices : int
        Number of devices on each machine, with one process each. -1 uses all. With accelerator cpu, the number of
        processes.
    num_nodes : int
        Number of machines; see the page on clusters in the documentation.
    strategy : str
        How several processes work together. auto is ddp, in which each process has a copy of the network and gradients
        are averaged. ddp_find_unused_parameters_true is needed if a batch may leave parts of the network unused.
    logger : str
        Log that is written besides CSV: tensorboard, or wandb (Weights & Biases; needs the extra wandb; with
        WANDB_MODE=offline it stays on this disk). Both show some validation galaxies with volunteers and model.
    seed : int
        Seed of weights, order and augmentation.
    init : str or None
        Bundle to fine-tune, or default for the one in the package. The network, loss, input_size and field_fraction are
        taken from it unless you give them.
    freeze_encoder : int or str
        Number of epochs at the start in which the encoder is frozen, with its batch normalization. all freezes it
        throughout.
    frozen_levels : int
        Number of levels of the encoder, from the picture on, that are frozen throughout.
    layer_decay : float
        Factor on the learning rate from each level of the network to the next, from the head through the decoder to the
        first level of the encoder. With 1, all levels have the same rate.
    progress : bool
        Show a progress bar.
    """

    loss: str = "bce"
    class_weights: tuple[float, float] = (1.0, 2.0)
    overlap: float = 0.0
    overlap_absent: float = 0.0
    vote_weight: float = 0.3
    lr: float = 4e-3
    weight_decay: float = 0.05
    epochs: int = 60
    max_steps: int = -1
    warmup: float = 0.05
    patience: int = 10
    accumulate: int = 1
    clip: float = 1.0
    ema: float = 0.99
    bend: float = 0.0
    zoom: float = 1.25
    squash: float = 1.0
    grey: float = 0.0
    photometric: float = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    logger: Literal["tensorboard", "wandb"] = "tensorboard"
    seed: int = 0
    init: str | None = None
    freeze_encoder: int | Literal["all"] = 0
    frozen_levels: int = 0
    layer_decay: float = 1.0
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _at_least("train.epochs", self.epochs, 1)
        _at_least("train.num_nodes", self.num_nodes, 1)
        _at_least("train.patience", self.patience, 0)
        _at_least("train.weight_decay", self.weight_decay, 0)
        _at_least("train.clip", self.clip, 0)
        _at_least("train.vote_weight", self.vote_weight, 0)
        _at_least("train.overlap", self.overlap, 0)
        _at_least("train.overlap_absent", self.overlap_absent, 0)
        _at_least("train.accumulate", self.accumulate, 1)
        _at_least("train.bend", self.bend, 0)
        _at_least("train.zoom", self.zoom, 1)
        _at_least("train.photometric", self.photometric, 0)
        if not 0 < self.squash <= 1:
            raise ConfigError(f"train.squash: {self.squash} is not in (0, 1]; 1 leaves galaxies as they are")
        if not 0 <= self.grey <= 1:
            raise ConfigError(f"train.grey: {self.grey} is not in [0, 1]; it is a part of the pictures")
        _at_least("train.frozen_levels", self.frozen_levels, 0)
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"train.lr: {self.lr} is not a number above 0; the default is {type(self).lr}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"train.warmup: {self.warmup} is not in [0, 1); it is a part of all steps, e.g. 0.05")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"train.ema: {self.ema} is not in [0, 1); 0 turns weight averaging off")
        if self.max_steps != -1:
            _at_least("train.max_steps", self.max_steps, 1)
        if self.devices != -1:
            _at_least("train.devices", self.devices, 1)
        if self.freeze_encoder != "all":
            _at_least("train.freeze_encoder", self.freeze_encoder, 0)
        several = self.devices != 1 or self.num_nodes > 1
        if several and self.freeze_encoder not in (0, "all") and self.strategy != "ddp_find_unused_parameters_true":
            raise ConfigError(
                f"train.freeze_encoder: {self.freeze_encoder} epochs on several devices need "
                "train.strategy=ddp_find_unused_parameters_true"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"train.layer_decay: {self.layer_decay} is not in (0, 1]; 1 is the same rate for all")


@dataclass(frozen=True)
class Config:
    """All settings of a training.

    Attributes
    ----------
    model : ModelConfig
        Which network.
    data : DataConfig
        Which galaxies, and how they are shown.
    train : TrainConfig
        How it learns.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        """Refuse groups that do not go together."""
        several = self.train.devices != 1 or self.train.num_nodes > 1
        if several and self.data.votes and self.train.strategy != "ddp_find_unused_parameters_true":
            raise ConfigError(  # the processes would wait for one another for ever
                "data.votes: on several devices a batch without marks, which leaves the decoder unused, needs "
                "train.strategy=ddp_find_unused_parameters_true"
            )


def _at_least(key: str, value: float, least: float) -> None:
    if not value >= least:  # NaN too
        raise ConfigError(f"{key}: {value} is below the least possible value, {least}")
