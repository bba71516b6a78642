"""What a training run can be told: typed, frozen dataclasses that a YAML file and the command line fill.

Every key stands here once, with its unit and default; an unknown key or a value of the wrong type is a `ConfigError`
that names the key and the nearest valid one. Knows nothing of torch, models or files other than the YAML it reads, so
that ``zoobot3d train --help`` is quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_MASTER

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_OPEN_ENDED = ("model.options.",)  # free dictionaries, whose inner keys the network itself checks


@dataclass(frozen=True)
class ModelConfig:
    """Which network.

    Attributes
    ----------
    name : str
        Network: fast_unet or published_unet.
    options : dict
        What the network's builder takes beside the number of channels, e.g. {width: 24}.
    """

    name: str = "fast_unet"
    options: dict[str, Any] = field(default_factory=dict)


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
    label_cols : tuple of str
        Catalogue columns that each item carries as float32 label_cols (nothing is trained on them yet).
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
    label_cols: tuple[str, ...] = ()
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


@dataclass(frozen=True)
class TrainConfig:
    """How the network learns.

    Attributes
    ----------
    loss : str
        Loss: bce, beta_binomial, l1 or mse.
    class_weights : tuple of float
        Weights of the classes, spiral and bar, in the loss.
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
    clip : float
        Norm that gradients are clipped to; 0 leaves them as they are.
    ema : float
        Decay per step of the running mean of weights that is validated and kept; 0 uses the raw weights. It rises from
        0.1 at the first step, so that the random start is forgotten at once.
    precision : str
        32-true, bf16-mixed or 16-mixed.
    accelerator : str
        auto, cpu, gpu or mps.
    devices : int
        Number of devices; -1 takes all.
    seed : int
        Seed of weights, shuffling and augmentation.
    progress : bool
        Show a progress bar.
    """

    loss: str = "bce"
    class_weights: tuple[float, float] = (1.0, 2.0)
    lr: float = 4e-3
    weight_decay: float = 0.05
    epochs: int = 60
    max_steps: int = -1
    max_minutes: float | None = None
    warmup: float = 0.05
    patience: int = 10
    clip: float = 1.0
    ema: float = 0.99
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _at_least("train.epochs", self.epochs, 1)
        _at_least("train.patience", self.patience, 0)
        _at_least("train.weight_decay", self.weight_decay, 0)
        _at_least("train.clip", self.clip, 0)
        if self.lr <= 0:
            raise ConfigError(f"train.lr: {self.lr} is not above 0; the default is 0.002")
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


def load_config(path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()) -> Config:
    """Defaults, then a YAML file, then overrides.

    Parameters
    ----------
    path : path, optional
        YAML with any of the keys of `Config`, e.g. ``data: {batch_size: 32}``.
    overrides : sequence of str
        ``"data.batch_size=32"``, or as on a command line: ``"--data.batch_size", "32"`` or ``"--data.batch_size=32"``.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        The file is missing or no YAML mapping, a key does not exist, or a value has the wrong type or range.
    """
    from jsonargparse import ArgumentError

    tree: dict[str, Any] = {} if path is None else _read_yaml(Path(path))
    where = "" if path is None else f"{os.fspath(path)}: "
    for group, entries in tree.items():
        for key in entries:
            _check_key(f"{group}.{key}", where)
    arguments = _as_arguments(overrides)
    parser = config_parser()
    try:
        namespace = parser.parse_object(tree)
        namespace = parser.parse_args(arguments, namespace=namespace)
        config = parser.instantiate(namespace)
    except ArgumentError as error:
        raise ConfigError(where + _plain(str(error))) from error
    except ConfigError as error:  # raised by a dataclass's own check
        raise ConfigError(f"{where}{error}") from error
    return Config(model=config.model, data=config.data, train=config.train)


def config_parser() -> ArgumentParser:
    """Build a parser with an argument for every key, e.g. ``--data.batch_size``; for help texts and other commands."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, prog="zoobot3d train")
    parser.add_class_arguments(Config)
    return parser


def config_to_yaml(config: Config) -> str:
    """`config` as YAML that `load_config` reads back to the same object."""
    import yaml

    plain = dataclasses.asdict(config)
    plain = {
        group: {k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()} for group, keys in plain.items()
    }
    return yaml.safe_dump(plain, sort_keys=False)


def differing_keys(first: Config, second: Config) -> list[str]:
    """Dotted keys whose values differ, e.g. ``["data.batch_size"]``."""
    a, b = dict(_flat(dataclasses.asdict(first))), dict(_flat(dataclasses.asdict(second)))
    return [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


def valid_keys() -> list[str]:
    """Every dotted key that can be set, in the order of the dataclasses."""
    hints = typing.get_type_hints(Config)
    return [f"{group}.{key.name}" for group in hints for key in dataclasses.fields(hints[group])]


def setting_help() -> str:
    """Every key with its default and what it means, a line each, for the help of ``zoobot3d train``."""
    lines = []
    for group in _groups():
        section = typing.get_type_hints(Config)[group]
        defaults, meanings = section(), _attribute_docs(section)
        for key in dataclasses.fields(section):
            default = getattr(defaults, key.name)
            lines.append(f"  --{group}.{key.name} ({default})\n      {meanings[key.name]}")
    return "\n".join(lines)


def _attribute_docs(section: type) -> dict[str, str]:
    """Read the Attributes of a NumPy docstring: name -> text on one line."""
    body = (section.__doc__ or "").partition("Attributes\n    ----------\n")[2]
    entries = re.findall(r"^    (\w+) : .*\n((?:^        .*\n?)+)", body, re.MULTILINE)
    return {name: _one_line(text) for name, text in entries}


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; conf/default.yaml is a file to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({_one_line(str(error))}); give a YAML text file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML ({_one_line(str(error))})") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__} instead of the groups {', '.join(_groups())}")
    for group, entries in tree.items():
        if group in _groups() and entries is not None and not isinstance(entries, dict):
            raise ConfigError(f"{path}: {group}: is {entries!r} instead of keys such as {_example(group)}")
        if group not in _groups():
            _check_key(str(group), f"{path}: ")
    # A group without entries ("data:" alone) means its defaults.
    return {group: entries or {} for group, entries in tree.items()}


def _as_arguments(overrides: Sequence[str]) -> list[str]:
    """Write overrides as ``--key=value`` arguments, each key checked."""
    arguments: list[str] = []
    items = iter(overrides)
    for item in items:
        key, equals, value = item.removeprefix("--").partition("=")
        if not equals:
            if not item.startswith("--"):
                raise ConfigError(f"{item!r}: is not a setting; write key=value, e.g. data.batch_size=32")
            try:
                value = next(items)
            except StopIteration:
                raise ConfigError(f"{key}: has no value; write --{key} VALUE") from None
        _check_key(key, "")
        arguments.append(f"--{key}={value}")
    return arguments


def _check_key(key: str, where: str) -> None:
    """Raise `ConfigError` unless `key` is a dotted key that can be set."""
    keys = valid_keys()
    if key in keys or key.startswith(_OPEN_ENDED):
        return
    if key in _groups():
        raise ConfigError(f"{where}{key}: is a group of keys; set one of them, e.g. {_example(key)}")
    # Compare whole keys first, then last parts: "batch_size" alone should lead to "data.batch_size".
    nearest = difflib.get_close_matches(key, keys, 1, 0.6)
    if not nearest:
        last = {name.rpartition(".")[2]: name for name in keys}
        nearest = [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], list(last), 1, 0.5)]
    fix = f"did you mean {nearest[0]}?" if nearest else f"valid keys: {', '.join(keys)}"
    raise ConfigError(f"{where}{key}: no such key; {fix}")


def _groups() -> list[str]:
    return [group.name for group in dataclasses.fields(Config)]


def _example(group: str) -> str:
    return next(key for key in valid_keys() if key.startswith(f"{group}."))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{key}: {value} is below the least possible value, {least}")


def _plain(message: str) -> str:
    """Put jsonargparse's message on a wrong value into one line: key, what is expected, what it got."""
    message = re.sub(r'^Parser key "([^"]+)": ?', r"\1: ", _one_line(message))
    message = re.sub(r"Expected an? (?:typing\.)?(.+)\. Got value: ", r"expected \1, got ", message)
    return re.sub(r"<class '(\w+)'>", r"\1", message)


def _one_line(text: str) -> str:
    return " ".join(text.split())
