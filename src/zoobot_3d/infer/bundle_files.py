"""The files of a bundle: read as a stranger's, and refused by name before anything is allocated or built.

Reading runs no code: ``bundle.json`` is JSON, and ``weights.safetensors`` holds numbers. Must not know what a bundle is
used for.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d import __version__
from zoobot_3d.errors import BadFileError, BundleError
from zoobot_3d.io import check_regular
from zoobot_3d.schema import CAMPAIGNS, CLASSES, INPUT_PX, SMALLEST_FIELD

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AGAIN",
    "FORMAT_VERSION",
    "GRAPH_FILE",
    "INFO_FILE",
    "WEIGHTS_FILE",
    "check_numbers",
    "count_weights",
    "read_arrays",
    "read_content",
    "read_graph",
    "read_weights",
]

FORMAT_VERSION = 2
"""Raised whenever an older release could misread a newer bundle: 2 knows temperature and votes, 1 has neither."""

INFO_FILE, WEIGHTS_FILE, GRAPH_FILE = "bundle.json", "weights.safetensors", "network.onnx"
AGAIN = "copy or train the bundle again"

_LARGEST_INFO = 4 << 20  # bytes; ours have a few thousand
_LARGEST_GRAPH = 4 << 20  # bytes; ours have tens of thousands
_LARGEST_WEIGHTS = 1 << 30  # bytes; ours have 5 to 15 million
_DEEPEST = 16  # lists and mappings within one another; ours have 5
_FLOATS = ("F32", "F16", "BF16")  # of safetensors; all are exact in float32


# bundle.json


def _whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    fits = lambda value: type(value) is int and least <= value <= most  # noqa: E731 - one of a table of rules
    return fits, f"a whole number from {least} to {most:,}"


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most  # not true for NaN


def _are_whole_questions(votes: Any) -> bool:
    """Tell whether columns of votes are those of questions that are known, the answers of each in order."""
    if not isinstance(votes, list) or not all(isinstance(name, str) for name in votes):
        return False
    known = {f"{q.name}-{campaign}": q.vote_columns(campaign) for campaign in CAMPAIGNS for q in CAMPAIGNS[campaign]}
    asked = [(question, list(names)) for question, names in groupby(votes, lambda name: name.partition("_")[0])]
    return len(set(votes)) == len(votes) and all(known.get(question) == names for question, names in asked)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "weights_sha256": (lambda value: isinstance(value, str), "a text"),
    "graph_sha256": (lambda value: isinstance(value, str), "a text"),
    "model_name": (lambda value: isinstance(value, str), "a text"),
    "model_options": (lambda value: isinstance(value, dict), "a mapping"),
    "out_channels": _whole(1, 64),
    "loss": (lambda value: isinstance(value, str), "a text"),
    "input_size": _whole(*INPUT_PX),
    "field_fraction": (
        lambda value: _is_number(value, SMALLEST_FIELD, 1),
        f"a fraction of a picture's side, {SMALLEST_FIELD} to 1",
    ),
    "classes": (lambda value: value == list(CLASSES), f"{list(CLASSES)}, which this package knows"),
    "n_asked": _whole(1, 10_000),
    "training": (lambda value: isinstance(value, dict), "a mapping"),
    "zoobot_3d": (lambda value: isinstance(value, str), "a text"),
    "temperature": (
        lambda value: (
            isinstance(value, list) and len(value) == len(CLASSES) and all(_is_number(v, 0.01, 100) for v in value)
        ),
        f"a number from 0.01 to 100 for each of {list(CLASSES)}",
    ),
    "votes": (_are_whole_questions, "columns of Galaxy Zoo's questions, with all answers of each in order"),
}
"""For each key, whether a value fits, and what fits in words."""

_OPTIONAL = ("temperature", "votes", "graph_sha256")


def read_content(folder: Path) -> dict[str, Any]:
    """Read and check ``bundle.json``.

    Parameters
    ----------
    folder : pathlib.Path
        Of the bundle.

    Returns
    -------
    dict
        All of it, ``format`` and ``format_version`` included.

    Raises
    ------
    BundleError
        The folder or file is missing, no bundle's, of a newer version, too large or deep; or a key is missing, unknown,
        there twice, or its value out of range.
    """
    file = folder / INFO_FILE
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; give the folder that holds {INFO_FILE}")
    if not file.exists():
        raise BundleError(f"{folder}: is not a bundle (no {INFO_FILE}); give the folder `zoobot3d train` wrote")
    _check_size(file, _LARGEST_INFO)
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except (OSError, ValueError) as error:
        raise BundleError(f"{file}: cannot be read ({' '.join(str(error).split())}); {AGAIN}") from None
    except RecursionError:
        raise BundleError(f"{file}: lists and mappings are nested too deeply; {AGAIN}") from None
    if not isinstance(content, dict) or content.get("format") != "zoobot-3d bundle":
        raise BundleError(f"{file}: is not a zoobot-3d bundle; give the folder `zoobot3d train` wrote")
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise BundleError(f"{file}: has no format_version; {AGAIN}")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{file}: has format {reprlib.repr(version)}, this zoobot-3d {__version__} reads up to {FORMAT_VERSION}; "
            "update it: pip install -U zoobot-3d"
        )
    if _depth(content) > _DEEPEST:
        raise BundleError(f"{file}: lists and mappings are nested more than {_DEEPEST} deep; {AGAIN}")
    _check_keys(file, {key: value for key, value in content.items() if key not in ("format", "format_version")})
    return content


def _check_keys(file: Path, content: Mapping[str, Any]) -> None:
    """Raise `BundleError` on keys that are missing or unknown, and at the first value that does not fit."""
    if missing := [key for key in _RULES if key not in content and key not in _OPTIONAL]:
        raise BundleError(f"{file}: misses {', '.join(missing)}; {AGAIN}")
    if unknown := [key for key in content if key not in _RULES]:
        raise BundleError(f"{file}: has unknown keys {', '.join(unknown)[:100]}; {AGAIN}")
    for key, value in content.items():
        fits, words = _RULES[key]
        if not fits(value):
            raise BundleError(f"{file}: {key} is {reprlib.repr(value)}, not {words}; {AGAIN}")


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping; JSON allows a key twice, and readers differ in which value they take."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice")
    return made


def _depth(content: Any) -> int:
    """Tell how deeply lists and mappings are nested, without nesting calls."""
    deepest, level = 0, [content]
    while level and deepest <= _DEEPEST:
        held = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level, deepest = [value for values in held for value in values], deepest + bool(held)
    return deepest


def _check_size(file: Path, largest: int) -> None:
    """Raise `BundleError` unless a file is a plain one of a bearable size."""
    try:
        check_regular(file)
    except BadFileError as error:
        raise BundleError(str(error)) from None
    if (size := file.stat().st_size) > largest:
        raise BundleError(f"{file}: has {size:,} bytes, more than the {largest:,} that a bundle may have; {AGAIN}")


def _check_sum(file: Path, content: bytes, checksum: str, fix: str = AGAIN) -> None:
    """Raise `BundleError` unless a file's content has the SHA-256 that ``bundle.json`` says."""
    if hashlib.sha256(content).hexdigest() != checksum:
        raise BundleError(f"{file}: is not the file that {INFO_FILE} was written with (sha256 differs); {fix}")


# weights.safetensors


def count_weights(folder: Path) -> int | None:
    """Count the numbers in a bundle's network from the header of its weights; None if that cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        _check_size(folder / WEIGHTS_FILE, _LARGEST_WEIGHTS)
        with safe_open(folder / WEIGHTS_FILE, framework="numpy") as weights:
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError, BundleError):
        return None


def read_weights(folder: Path, wanted: Mapping[str, Tensor], checksum: str) -> dict[str, Tensor]:
    """Read a bundle's weights, once their header has shown that they are those of a network.

    Parameters
    ----------
    folder : pathlib.Path
        Of the bundle.
    wanted : mapping of str to Tensor
        What the network needs; only shapes and types are looked at, so they may be on the device "meta".
    checksum : str
        SHA-256 of the file, from ``bundle.json``.

    Returns
    -------
    dict
        Name to tensor, of the types of `wanted`.

    Raises
    ------
    BundleError
        The file is missing, too large, corrupt, or another than ``bundle.json`` was written with; or a tensor is
        missing, unknown, of another shape or type, or holds what is not a number.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    file = folder / WEIGHTS_FILE
    if not file.exists():
        raise BundleError(f"{file}: is missing; {AGAIN}")
    _check_size(file, _LARGEST_WEIGHTS)
    try:
        with safe_open(file, framework="pt") as header:
            slices = {name: header.get_slice(name) for name in header.keys()}  # noqa: SIM118 - not a mapping
            kinds = {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
        _check_header(file, kinds, wanted)
        content = file.read_bytes()
        weights = load(content)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{file}: cannot be read ({' '.join(str(error).split())}); {AGAIN}") from None
    _check_sum(file, content, checksum)
    check_numbers(file, weights)
    return {name: value.to(wanted[name].dtype, copy=True) for name, value in weights.items()}


def read_graph(folder: Path) -> bytes:
    """Read the structure of a bundle's network for `zoobot_3d.engines.graph.with_weights`.

    Raises
    ------
    BundleError
        It is missing, too large, no plain file, cannot be read, or is not the one ``bundle.json`` was written with;
        bundles that were written before graphs had a checksum have none to compare.
    """
    file, checksum = folder / GRAPH_FILE, read_content(folder).get("graph_sha256")
    _check_size(file, _LARGEST_GRAPH)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); {AGAIN}") from None
    if checksum is not None:
        _check_sum(file, content, checksum, f"write it anew with zoobot3d upgrade-bundle {folder}")
    return content


def read_arrays(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read a bundle's weights without torch, as float32; whole numbers, which only training counts, are left out.

    Raises
    ------
    BundleError
        The file is missing, corrupt, not the one ``bundle.json`` was written with, or holds what is not a number.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    file, checksum = folder / WEIGHTS_FILE, read_content(folder)["weights_sha256"]
    _check_size(file, _LARGEST_WEIGHTS)
    try:
        content = file.read_bytes()
        weights = load(content)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{file}: cannot be read ({' '.join(str(error).split())}); {AGAIN}") from None
    _check_sum(file, content, checksum)
    arrays = {name: value.astype(np.float32) for name, value in weights.items() if value.dtype.kind == "f"}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise BundleError(f"{file}: {name} holds NaN or infinite numbers; {AGAIN}")
        if name.endswith("running_var") and (value < 0).any():
            raise BundleError(f"{file}: {name} holds negative variances; {AGAIN}")
    return arrays


def _check_header(file: Path, kinds: Mapping[str, tuple[tuple[int, ...], str]], wanted: Mapping[str, Tensor]) -> None:
    """Raise `BundleError` at the first tensor that is missing, unknown, or of another shape or type."""
    if missing := sorted(wanted.keys() - kinds.keys()):
        raise BundleError(f"{file}: misses {len(missing)} tensors, the first {missing[0]}; {AGAIN}")
    if unknown := sorted(kinds.keys() - wanted.keys()):
        raise BundleError(
            f"{file}: has {len(unknown)} tensors the network has not, the first {unknown[0][:100]}; {AGAIN}"
        )
    for name, value in wanted.items():
        shape, dtype = kinds[name]
        if shape != tuple(value.shape):
            raise BundleError(
                f"{file}: {name} has shape {shape}, the network named in {INFO_FILE} has {tuple(value.shape)}; {AGAIN}"
            )
        fit = _FLOATS if value.is_floating_point() else ("I64",)
        if dtype not in fit:
            raise BundleError(f"{file}: {name} is of type {dtype}, not {' or '.join(fit)}; {AGAIN}")


def check_numbers(file: Path, weights: Mapping[str, Tensor], fix: str = AGAIN) -> None:
    """Refuse weights with which a network answers with what is not a number.

    Raises
    ------
    BundleError
        A tensor holds NaN or infinity, or a variance of a batch norm is negative; it is named.
    """
    for name, value in weights.items():
        if not value.isfinite().all():
            raise BundleError(f"{file}: {name} holds NaN or infinite numbers; {fix}")
        if name.endswith("running_var") and (value < 0).any():
            raise BundleError(f"{file}: {name} holds negative variances; {fix}")
