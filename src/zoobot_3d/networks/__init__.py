"""The networks by name, their losses, metrics and augmentation, on batches of tensors.

Knows torch, and timm for one network, and nothing else: no files, catalogues, settings or Lightning.

Public: `build_model`, `MODEL_NAMES`, `losses.build_loss`, `metrics`, `augment.Augment`.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.blocks import SegmentationModel, nearest_size
from zoobot_3d.networks.fast_unet import FastUNet
from zoobot_3d.networks.heads import VOTE_DROPOUT, VoteHead
from zoobot_3d.networks.mobile_unet import MobileUNet
from zoobot_3d.networks.published_unet import PublishedUNet
from zoobot_3d.networks.timm_unet import TimmUNet, check_stored_options

__all__ = [
    "MODEL_NAMES",
    "FastUNet",
    "MobileUNet",
    "PublishedUNet",
    "SegmentationModel",
    "TimmUNet",
    "VoteHead",
    "build_model",
    "check_stored_model",
    "model_options",
    "nearest_size",
]

MAX_LEVELS = 8
"""Resolutions of a network; the sides of its pictures are multiples of 2 to about this power."""

OPTION_LIMITS: dict[str, tuple[float, float]] = {
    "widths": (1, 4096),
    "depths": (0, 64),
    "width": (1, 4096),
    "multipliers": (1, 64),
    "dropouts": (0.0, 1.0),
    "relu_output": (False, True),
    "encoder": (1, 200),
    "pretrained": (False, True),
    "strides": (2, 64),
}
"""Least and largest value of each option, or of each item of one that is a list, or length of a text: a network beyond
is no network, but a wrong number that would fill the memory."""

_ModelClass = type[FastUNet] | type[MobileUNet] | type[PublishedUNet] | type[TimmUNet]

_MODELS: dict[str, _ModelClass] = {
    "fast_unet": FastUNet,
    "mobile_unet": MobileUNet,
    "published_unet": PublishedUNet,
    "timm_unet": TimmUNet,
}

MODEL_NAMES = tuple(_MODELS)
"""What `build_model` can build."""


def _model_class(name: str) -> _ModelClass:
    if name not in _MODELS:
        raise ConfigError(f"no model is called {name!r}; choose one of {', '.join(MODEL_NAMES)}")
    return _MODELS[name]


def model_options(name: str) -> dict[str, Any]:
    """Return the options of a model and their defaults.

    Parameters
    ----------
    name : str
        One of `MODEL_NAMES`.

    Returns
    -------
    dict
        Keyword to default, JSON-able.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    parameters = inspect.signature(_model_class(name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}


def build_model(
    name: str,
    out_channels: int = 2,
    *,
    initial_raw: Sequence[float] | None = None,
    vote_answers: int = 0,
    vote_dropout: float = VOTE_DROPOUT,
    **options: Any,
) -> SegmentationModel:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : str
        One of `MODEL_NAMES`.
    out_channels : int
        Channels of the raw output: ``loss.out_channels``.
    initial_raw : sequence of float, optional
        Start value of each raw output channel: ``loss.initial_raw``. By default torch's own initialisation.
    vote_answers : int
        Answers of a vote head, `SegmentationModel.vote_head`; 0 for a network without one. The other weights start
        the same with and without.
    vote_dropout : float
        Dropout of the vote head, in training.
    **options
        See `model_options`; the built model keeps them all in ``model.options``.

    Returns
    -------
    SegmentationModel
        Takes float (B, 3, H, W) in 0-1, row 0 north, and returns raw outputs (B, out_channels, H, W).

    Raises
    ------
    ConfigError
        If there is no such model or option, or an option does not fit.
    """
    model_class, valid = _model_class(name), model_options(name)
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise ConfigError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(valid)}")
    for key, value in options.items():
        _check_option(f"{name}: {key}", value, valid[key], *OPTION_LIMITS[key])
    if out_channels < 1:
        raise ConfigError(f"out_channels is {out_channels}; give 1 or more")
    if initial_raw is not None and len(initial_raw) != out_channels:
        raise ConfigError(
            f"initial_raw has {len(initial_raw)} values for {out_channels} output channels; give one each"
        )
    model = model_class(out_channels, initial_raw, **options)
    if vote_answers:
        model.add_vote_head(vote_answers, vote_dropout)
    return model


def check_stored_model(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a network of a stranger's bundle that could not be built without the internet.

    Parameters
    ----------
    name : str
        As the bundle says.
    options : mapping
        As the bundle says, before anything is built.

    Raises
    ------
    ConfigError
        If weights, or what they are, would have to be fetched. Options that `SegmentationModel.options` holds never do.
    """
    if name == "timm_unet":
        check_stored_options(options)


def _check_option(name: str, value: Any, default: Any, least: float, most: float) -> None:
    """Raise `ConfigError` if an option is not of its default's type, or out of range."""
    if isinstance(default, list):
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_LEVELS:
            raise ConfigError(f"{name} is {reprlib.repr(value)}; give a list of 1 to {MAX_LEVELS} numbers")
        for item in value:
            _check_option(name, item, default[0], least, most)
        return
    if isinstance(default, str):
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise ConfigError(f"{name} is {reprlib.repr(value)}; give a name of {least} to {most} characters")
        return
    fit = (int, float) if isinstance(default, float) else (type(default),)
    if type(value) not in fit or not least <= value <= most:
        kind = {bool: "true or false", int: f"a whole number from {least} to {most}"}
        words = kind.get(type(default), f"a number from {least} to {most}")
        raise ConfigError(f"{name} is {reprlib.repr(value)}; give {words}")
