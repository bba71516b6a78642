"""What a bundle is, for people and for programs. Reads its files, but not its weights, and needs no torch."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoobot_3d.infer.bundle import DEFAULT, INFO_FILE, WEIGHTS_FILE, BundleInfo, bundle_folder, read_info
from zoobot_3d.schema import CLASSES, GZ_FIELD_PX

__all__ = ["bundle_facts", "describe"]

_LABELS = {"spiral": "arms", "bar": "bars"}
_TOLD = ("recipe", "catalogue", "rows", "marked", "init", "date", "commit", "metrics", "calibration")  # in words
_HASH_LETTERS = 16


def describe(path: str | os.PathLike[str] = DEFAULT) -> str:
    """Tell people what a bundle is: network, training, quality, field of view, input size, size on disk, hash.

    Parameters
    ----------
    path : path
        Folder of the bundle; ``"default"`` is the one that comes with the package.

    Returns
    -------
    str
        A line for each fact.

    Raises
    ------
    BundleError
        The folder is no bundle; see `zoobot_3d.infer.bundle.read_info`.
    """
    facts, info = bundle_facts(path), read_info(path)
    title = "the model that comes with zoobot-3d" if os.fspath(path) == DEFAULT else "a zoobot-3d bundle"
    lines = [f"{os.fspath(path)}: {title}"]
    lines += [f"  {name:<13} {value}" for name, value in _facts(info, facts) if value]
    return "\n".join(lines)


def bundle_facts(path: str | os.PathLike[str] = DEFAULT) -> dict[str, Any]:
    """Collect what is known of a bundle, for programs.

    Parameters
    ----------
    path : path
        As in `describe`.

    Returns
    -------
    dict
        Everything in ``bundle.json``, and ``path`` (its folder), ``bytes`` (size on disk) and ``n_weights`` (numbers
        in the network; None if the file of weights cannot be read).

    Raises
    ------
    BundleError
        As in `describe`.
    """
    read_info(path)  # refuses what is no bundle
    folder = bundle_folder(path)
    facts: dict[str, Any] = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in (folder / INFO_FILE, folder / WEIGHTS_FILE) if file.is_file())
    return facts | {"path": os.fspath(folder), "bytes": size, "n_weights": _count_weights(folder / WEIGHTS_FILE)}


def _facts(info: BundleInfo, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what people want to know first, each with its name."""
    training, n_weights = info.training, facts["n_weights"]
    finds = " and ".join({"spiral": "spiral arms", "bar": "bars"}[name] for name in info.classes)
    yield "finds", f"{finds}, as the fraction of about {info.n_asked} volunteers who would enclose each pixel"
    weights = "weights missing or damaged" if n_weights is None else f"{_count(n_weights)} weights"
    yield "network", f"{info.model_name}, {weights}, loss {info.loss}"
    px = round(info.field_fraction * GZ_FIELD_PX)
    yield "field", f"the central {info.field_fraction:g} of a Galaxy Zoo picture's side ({px} of its {GZ_FIELD_PX} px)"
    yield "input size", f"{info.input_size} x {info.input_size} px"
    yield "trained on", _trained_on(training)
    yield "recipe", str(training.get("recipe", ""))
    yield "quality", _quality(training)
    yield "calibration", _calibration(info)
    yield "votes", f"also predicts votes on whole galaxies: {', '.join(info.votes)}" if info.votes else ""
    others = {k: v for k, v in training.items() if k not in _TOLD and isinstance(v, int | float | str) and v}
    yield "training", ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in others.items())
    yield "size on disk", f"{facts['bytes'] / 1e6:.1f} MB in {facts['path']}"
    yield "hash", f"{facts['weights_sha256'][:_HASH_LETTERS]} (first letters of the weights' SHA-256)"
    commit = f", commit {str(training['commit'])[:7]}" if training.get("commit") else ""
    yield "written by", f"zoobot-3d {info.zoobot_3d}{commit}, bundle format {facts['format_version']}"


def _trained_on(training: Mapping[str, Any]) -> str:
    rows = training.get("rows") or training.get("marked")
    parts = []
    if isinstance(rows, Mapping) and "train" in rows:
        splits = (("val", "for validation"), ("test", "for tests"))
        others = [f"{rows[key]:,} {name}" for key, name in splits if rows.get(key)]
        parts.append(f"{rows['train']:,} galaxies" + (f" ({', '.join(others)})" if others else ""))
    if training.get("catalogue"):
        parts.append(f"of {training['catalogue']}")
    if training.get("init"):
        start = "the package's model" if training["init"] == DEFAULT else training["init"]
        parts.append(f"starting from {start}")
    told = " ".join(parts)
    return f"{told}, {training['date']}" if told and training.get("date") else told


def _quality(training: Mapping[str, Any]) -> str:
    """Scores on test galaxies, or on validation galaxies where there were no others."""
    metrics, rows = training.get("metrics"), training.get("rows")
    if not isinstance(metrics, Mapping):
        return "not measured"
    for split, name in (("test", "test"), ("val", "validation")):
        scores = metrics.get(split)
        if isinstance(scores, Mapping):
            count = f"{rows[split]:,} " if isinstance(rows, Mapping) and rows.get(split) else ""
            told = [
                f"{label} {', '.join(_number(scores.get(f'{c}_{key}'), digits) for c in CLASSES)}"
                for label, key, digits in (("IoU at > 0.2", "iou_0.2", 2), ("mean absolute error", "mae", 4))
            ]
            return f"on {count}{name} galaxies ({', '.join(_LABELS[c] for c in CLASSES)}): {'; '.join(told)}"
    return "not measured"


def _calibration(info: BundleInfo) -> str:
    if all(value == 1 for value in info.temperature):
        return "none"
    pairs = zip(info.classes, info.temperature, strict=True)
    told = f"temperature {', '.join(f'{_LABELS[name]} {value:.3f}' for name, value in pairs)}"
    errors = info.training.get("calibration", {}).get("error_after")
    if isinstance(errors, list) and len(errors) == len(CLASSES):
        told += f"; calibration error {', '.join(_number(value, 3) for value in errors)}"
    return told


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def _count_weights(file: Path) -> int | None:
    """Count the numbers in a safetensors file by its header: 8 bytes of length, then JSON. None if unreadable."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                return None
            header = json.loads(stream.read(length))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return None
