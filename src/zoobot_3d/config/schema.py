"""What a training run can be told: typed, frozen dataclasses, with the unit and default of every key, once.

A value out of range is a `ConfigError` that names the key. Files and command lines fill them through
`zoobot_3d.config.reading`. Knows nothing of torch, models or files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import CAMPAIGNS, DEFAULT_MASTER


@dataclass(frozen=True)
class ModelConfig:
    """Which network.

    Attributes
    ----------
    name : str
        Network: fast_unet, mobile_unet or published_unet.
    options : dict
        What the network's builder takes beside the number of channels, e.g. {width: 24}.
    vote_dropout : float
        Part of the pooled channels that the vote head leaves out at a time in training (used with data.votes).
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
        Master catalogue (Parquet or CSV), one row per galaxy.
    root : str or None
        Folder that the catalogue's relative paths start from; by default the catalogue's own, or the one above if that
        is called data.
    input_size : int
        Side in pixels of what the network sees.
    field_fraction : float
        Central part of the 424-px Galaxy Zoo field that the network sees: a fraction of its side, never of its area.
    batch_size : int
        Galaxies per step and device.
    workers : int
        Processes that decode pictures; 0 decodes in the training process.
    cache : str
        ram keeps every decoded galaxy in memory (input_size^2 x 7 bytes each), so later epochs decode nothing.
    on_error : str
        What a galaxy that cannot be read does: skip leaves it out with a warning, raise ends the run.
    votes : tuple of str
        Galaxy Zoo campaigns (dr12, dr5, dr8, gz2) whose questions a second head learns to answer, from the catalogue's
        columns of votes. Galaxies with votes and no marks then take part too. Empty: masks alone are learned.
    hide_votes_of_marked : bool
        Take galaxies that have marks as if they had no votes, so that what votes teach comes from other galaxies.
    group_shares : dict
        Parts of an epoch that groups of training galaxies make up, by the name in the catalogue's column ``group``,
        e.g. ``{real: 0.25}``; the galaxies of all other groups share the rest. Empty: each galaxy as often as any.
    marked_share : float
        Part of the training galaxies shown that have marks; the kind that is too rare is shown more often. 0 shows each
        galaxy equally often. Every batch has about this part.
    epoch_size : int
        Galaxies shown between two validations, of which all have their turn; 0 shows each galaxy at least once.
    augment : bool
        Rotate, flip, scale, shift and jitter the training galaxies; validation and test never are.
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
    augment: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _at_least("data.input_size", self.input_size, 8)
        _at_least("data.batch_size", self.batch_size, 1)
        _at_least("data.workers", self.workers, 0)
        if not 0 < self.field_fraction <= 1:
            raise ConfigError(
                f"data.field_fraction: {self.field_fraction} is not above 0 and at most 1; "
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
        Loss: bce, beta_binomial, l1 or mse.
    class_weights : tuple of float
        Weights of the classes, spiral and bar, in the loss.
    vote_weight : float
        Weight of the loss of votes beside that of masks, which has weight 1 (used with data.votes). At 1 both pull at
        the encoder about as hard.
    lr : float
        Peak learning rate of AdamW.
    weight_decay : float
        Weight decay of AdamW, not applied to biases and normalization.
    epochs : int
        Passes over the training galaxies, at most.
    max_steps : int
        Steps of the optimizer, at most; -1 leaves it to epochs.
    max_minutes : float or None
        Wall-clock limit of training in minutes, resumed runs counted in. The learning rate falls with whichever of
        epochs, max_steps and minutes runs out first, so a run stopped by the clock has settled too.
    warmup : float
        Part of all steps in which the learning rate rises linearly; the rest is half a cosine down to 0.
    patience : int
        Epochs without a better validation loss after which training stops; 0 never stops early.
    accumulate : int
        Batches whose gradients are averaged into one step: the effect of a larger batch in the memory of a small one.
    clip : float
        Norm that gradients are clipped to; 0 leaves them as they are.
    ema : float
        Decay per step of the running mean of weights that is validated and kept; 0 uses the raw weights. It rises from
        0.1 at the first step, so that the random start is forgotten at once.
    bend : float
        Scatter of smooth shifts by which training pictures and masks are bent, as a fraction of the side of what the
        network sees: makes arms of simulated galaxies as uneven as real ones (0.015), and learning slower; 0 is none.
    zoom : float
        Largest random magnification and shrinkage of training pictures, at least 1; drawn log-uniformly. Larger values
        make a network that is used on galaxies of all sizes in the picture.
    squash : float
        Least factor by which half of the training galaxies are narrowed along a random direction, as if their disks
        were more inclined; 1 is none.
    grey : float
        Part of the training pictures that lose their colour, so that the network can be used on pictures of one band.
    photometric : float
        Strength of the random changes of brightness, colour, sharpness and noise; 1 is mild, 0 is none.
    precision : str
        32-true, bf16-mixed or 16-mixed.
    accelerator : str
        auto, cpu, gpu or mps.
    devices : int
        Number of devices on each machine, one process each; -1 takes all. With accelerator cpu, number of processes.
    num_nodes : int
        Number of machines; see the cluster page of the documentation.
    strategy : str
        How several processes work together: auto is ddp, where each has a copy of the network and gradients are
        averaged; ddp_find_unused_parameters_true is for networks of which a batch may leave parts unused.
    logger : str
        What is written beside the CSV: tensorboard, or wandb (Weights & Biases; extra wandb; WANDB_MODE=offline keeps
        it on this disk). Both get pictures of some validation galaxies beside volunteers and model.
    seed : int
        Seed of weights, shuffling and augmentation.
    init : str or None
        Folder of a bundle to fine-tune. What is not given of its network (any model key), loss, input_size and
        field_fraction is taken from it.
    freeze_encoder : int or str
        Epochs, from the first, in which the encoder stays as it is, batch norms too; all never lets it move.
    frozen_levels : int
        Levels of the encoder, from the picture, that never move, as if train.freeze_encoder were all for them alone.
    layer_decay : float
        Factor on the learning rate from each level of the network to the next, from the head, which has train.lr, down
        the decoder to the encoder's first level; 1 is the same rate for all.
    progress : bool
        Show a progress bar.
    """

    loss: str = "bce"
    class_weights: tuple[float, float] = (1.0, 2.0)
    vote_weight: float = 0.3
    lr: float = 4e-3
    weight_decay: float = 0.05
    epochs: int = 60
    max_steps: int = -1
    max_minutes: float | None = None
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
        _at_least("train.accumulate", self.accumulate, 1)
        _at_least("train.bend", self.bend, 0)
        _at_least("train.zoom", self.zoom, 1)
        _at_least("train.photometric", self.photometric, 0)
        if not 0 < self.squash <= 1:
            raise ConfigError(f"train.squash: {self.squash} is not in (0, 1]; 1 leaves galaxies as they are")
        if not 0 <= self.grey <= 1:
            raise ConfigError(f"train.grey: {self.grey} is not in [0, 1]; it is a part of the pictures")
        _at_least("train.frozen_levels", self.frozen_levels, 0)
        if self.lr <= 0:
            raise ConfigError(f"train.lr: {self.lr} is not above 0; the default is {type(self).lr}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"train.warmup: {self.warmup} is not in [0, 1); it is a part of all steps, e.g. 0.05")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"train.ema: {self.ema} is not in [0, 1); 0 turns weight averaging off")
        if self.max_steps != -1:
            _at_least("train.max_steps", self.max_steps, 1)
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ConfigError(f"train.max_minutes: {self.max_minutes} is not above 0; leave it out for no limit")
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
    """Everything a training run is told.

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
    if value < least:
        raise ConfigError(f"{key}: {value} is below the least possible value, {least}")
