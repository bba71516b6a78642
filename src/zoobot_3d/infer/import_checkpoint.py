"""A published Lightning checkpoint to a bundle, without running anything that is pickled in it.

Knows how the published code names its parameters and how it cropped pictures; knows nothing of training. The facts
about that code, here and below, are from its repository, mwalmsley/zoobot-3d.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.bundle import BundleInfo, save_bundle
from zoobot_3d.infer.bundle_files import check_numbers
from zoobot_3d.infer.checkpoint_file import read_checkpoint
from zoobot_3d.networks import build_model, nearest_size
from zoobot_3d.networks.published_unet import PUBLISHED_DROPOUTS, PUBLISHED_MULTIPLIERS, PUBLISHED_WIDTH
from zoobot_3d.schema import CLASSES, INPUT_PX, SMALLEST_FIELD

__all__ = ["PUBLISHED_FIELD_FRACTION", "PUBLISHED_INPUT_SIZE", "import_checkpoint"]

PUBLISHED_INPUT_SIZE = 224
"""Side in pixels of the pictures the published network was trained on."""

PUBLISHED_FIELD_FRACTION = round(math.sqrt(0.75), 3)
"""Part of a picture's side that the published network saw in training.

Its training crops took 0.7 to 0.8 of the *area*, so about 0.87 of the side; its predictions, with the same 0.75 read as
a fraction of the *side*, showed it everything 1.15 times larger than it had learned. A bundle holds the field that was
trained on. To repeat the published predictions, import with 0.75.
"""

_LISTED = 5  # names of parameters in an error, before it only counts
_LEVEL = re.compile(r"encoder\.downs\.(\d+)\.")
_TWINS = ((re.compile(r"\.block\.0\.(?=\w+$)"), ".conv."), (re.compile(r"\.block\.1\.(?=\w+$)"), ".batchnorm."))
"""The published blocks hold each layer twice, by name and in a ``Sequential``, and so do the checkpoints."""
_SAME_LOSS = ("l1", "mse")  # whose raw output is the fraction, in the published code as in ours


def import_checkpoint(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    input_size: int | None = None,
    field_fraction: float = PUBLISHED_FIELD_FRACTION,
) -> Path:
    """Turn a checkpoint of the published network into a bundle.

    Widths follow from the weights; dropout (``drop_rates``), picture size (``input_size``) and loss
    (``seg_loss_metric``) from the checkpoint's ``hyper_parameters``, or else they are the published ones. Output
    channel 0 is taken as spiral arms and 1 as bars, as in the published code: nothing in a checkpoint says so.

    Parameters
    ----------
    file : path
        The ``.ckpt``. It is read with ``torch.load(weights_only=True)``: nothing in it is executed.
    out : path
        Folder of the bundle; one that is already there is replaced.
    input_size : int, optional
        Side in pixels of the pictures the network is to see; by default the checkpoint's.
    field_fraction : float
        Central part of a Galaxy Zoo picture that they show, as a fraction of its side; see `PUBLISHED_FIELD_FRACTION`.

    Returns
    -------
    pathlib.Path
        The bundle.

    Raises
    ------
    BadFileError
        The file is missing, no checkpoint, holds pickled objects other than tensors and plain values, or parameters are
        missing, unknown, of a wrong shape or type, or not numbers.
    ConfigError
        ``input_size`` or ``field_fraction`` is out of range.
    """
    file = Path(file)
    if not SMALLEST_FIELD <= field_fraction <= 1:
        raise ConfigError(f"field_fraction: {field_fraction} is not from {SMALLEST_FIELD} to 1; it is part of a side")
    checkpoint = _read(file)
    weights, prefix = _published_names(file, checkpoint["state_dict"])
    hyper = checkpoint.get("hyper_parameters")
    hyper = dict(hyper) if isinstance(hyper, Mapping) else {}
    options = _network(weights, hyper)
    try:
        with torch.device("meta"):  # no memory until the weights are known to fit
            model = build_model("published_unet", len(CLASSES), **options)
    except ConfigError as error:
        raise BadFileError(file, f"holds no published U-Net ({error})", "only that can be imported") from None
    _check(file, weights, {_published_name(name): value for name, value in model.state_dict().items()}, prefix)
    if input_size is None:
        said = hyper.get("input_size")
        input_size = said if type(said) is int and INPUT_PX[0] <= said <= INPUT_PX[1] else PUBLISHED_INPUT_SIZE
    if not INPUT_PX[0] <= input_size <= INPUT_PX[1]:
        raise ConfigError(f"input_size: {input_size} is not from {INPUT_PX[0]} to {INPUT_PX[1]} pixels")
    if input_size % model.size_multiple:
        raise ConfigError(
            f"input_size: {input_size} is not a multiple of {model.size_multiple}, which this network needs; "
            f"use {nearest_size(input_size, model.size_multiple)}"
        )
    loss = hyper.get("seg_loss_metric", "l1")
    if loss not in _SAME_LOSS:
        raise BadFileError(
            file, f"was trained with the loss {reprlib.repr(loss)}", f"import one trained with {_SAME_LOSS[0]}"
        )
    state = {
        name: weights[_published_name(name)].to(value.dtype, copy=True) for name, value in model.state_dict().items()
    }
    check_numbers(file, state, "only a network that was trained to its end can be imported")
    model.load_state_dict(state, assign=True)
    info = BundleInfo(
        model_name="published_unet",
        model_options=model.options,
        out_channels=model.out_channels,
        loss=loss,
        input_size=input_size,
        field_fraction=field_fraction,
        training={
            "imported_from": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "epochs": _count(checkpoint.get("epoch")),
            "steps": _count(checkpoint.get("global_step")),
        },
    )
    return save_bundle(out, model, info)


def _read(file: Path) -> dict[str, Any]:
    """Read a checkpoint that holds weights."""
    checkpoint = read_checkpoint(file)
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise BadFileError(file, "has no state_dict", "give a Lightning checkpoint, *.ckpt")
    return checkpoint


def _published_names(file: Path, state: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the weights without the prefix that all names share, and each layer under one name only; and the prefix.

    A layer's second name goes where it holds the same values; where it does not, it stays and is unknown.
    """
    match = next((found for name in state if (found := _LEVEL.search(name))), None)
    if match is None:
        raise BadFileError(
            file,
            f"has {len(state)} parameters, none called encoder.downs.0.0.block1.conv.weight",
            "only the published U-Net can be imported",
        )
    prefix = match.string[: match.start()]
    plain = {name.removeprefix(prefix) if name.startswith(prefix) else f"/{name}": v for name, v in state.items()}
    weights: dict[str, Any] = {}
    for name, value in plain.items():
        first = name
        for pattern, own in _TWINS:
            first = pattern.sub(own, first)
        if first not in plain:
            weights[first] = value
        elif first == name or not _equal(value, plain[first]):
            weights[name] = value
    return weights, prefix


def _network(weights: Mapping[str, Any], hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the network: every tensor of an encoder level has that level's width as its first size."""
    widths: dict[int, int] = {}
    for name, value in weights.items():
        level = _LEVEL.match(name)
        if level and len(level[1]) < 3 and isinstance(value, Tensor) and value.ndim:
            widths.setdefault(int(level[1]), len(value))
    known = [width for width in widths.values() if width]
    unit = math.gcd(*known) if known else PUBLISHED_WIDTH
    n_levels = max(2, *(level + 1 for level in widths)) if widths else len(PUBLISHED_MULTIPLIERS)
    n_levels = min(n_levels, 8)  # a nonsensical level is then an unknown parameter
    rates = hyper.get("drop_rates")
    if not isinstance(rates, Sequence) or not _are_rates(rates, n_levels):
        rates = PUBLISHED_DROPOUTS if n_levels == len(PUBLISHED_DROPOUTS) else (0.0,) * n_levels
    return {
        "width": unit,
        "multipliers": [widths.get(level, unit) // unit or 1 for level in range(n_levels)],
        "dropouts": [float(rate) for rate in rates],
        "relu_output": True,
    }


def _check(file: Path, weights: Mapping[str, Any], wanted: Mapping[str, Tensor], prefix: str) -> None:
    """Raise `BadFileError` with all that is missing, unknown or of a wrong shape or type."""
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if isinstance(weights.get(name), Tensor) and weights[name].shape != value.shape
    ]
    missing = [name for name in wanted if not isinstance(weights.get(name), Tensor)]
    unknown = [name for name in weights if name not in wanted]
    kinds = [
        f"{name} {str(weights[name].dtype).removeprefix('torch.')}"
        for name, value in wanted.items()
        if isinstance(weights.get(name), Tensor) and not _is_exact(weights[name].dtype, value.dtype)
    ]
    found = [
        f"{len(names)} parameters {what}: "
        + ", ".join(f"{prefix}{name}" if name[0] != "/" else name[1:] for name in names[:_LISTED])
        + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
            ("of another type", kinds),
        )
        if names
    ]
    if found:
        raise BadFileError(file, "; ".join(found), "only the published U-Net can be imported")


def _published_name(name: str) -> str:
    """Name in the checkpoint of a parameter of `zoobot_3d.networks.PublishedUNet`."""
    return re.sub(r"^head\.", "decoder.final_conv.", name)


def _is_exact(given: torch.dtype, wanted: torch.dtype) -> bool:
    """Tell whether numbers of one type are the same in the other."""
    return given == wanted or (wanted == torch.float32 and given in (torch.float16, torch.bfloat16))


def _equal(first: Any, second: Any) -> bool:
    return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)


def _are_rates(values: Sequence[Any], length: int) -> bool:
    return len(values) == length and all(isinstance(rate, int | float) and 0 <= rate < 1 for rate in values)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None
