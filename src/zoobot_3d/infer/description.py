"""What a bundle is, for people and for programs. Reads its files, but not its weights, and needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from zoobot_3d.infer.bundle import DEFAULT, BundleInfo, bundle_folder, read_info
from zoobot_3d.infer.bundle_files import GRAPH_FILE, INFO_FILE, WEIGHTS_FILE, count_weights, read_content
from zoobot_3d.schema import CLASSES, GZ_FIELD_PX

__all__ = ["bundle_facts", "describe"]

_LABELS = {"spiral": "arms", "bar": "bars"}
_TOLD = ("recipe", "catalogue", "rows", "marked", "init", "date", "commit", "metrics", "calibration")  # in words
_HASH_LETTERS = 16
_LONGEST = 500  # letters of a line
_LARGEST = 10**12  # a count beyond is no count


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
    return "\n".join([f"{os.fspath(path)}: {title}", *lines_of(info, facts)])


def lines_of(info: BundleInfo, facts: Mapping[str, Any]) -> list[str]:
    """Return a printable line for each fact that is known."""
    return [f"  {name:<13} {_printable(value)}" for name, value in _facts(info, facts) if value]


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
    folder = bundle_folder(path)
    facts = read_content(folder)
    size = sum(
        file.stat().st_size
        for file in (folder / name for name in (INFO_FILE, WEIGHTS_FILE, GRAPH_FILE))
        if file.is_file()
    )
    return facts | {"path": os.fspath(folder), "bytes": size, "n_weights": count_weights(folder)}


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
    rows, parts = _counts(training, "rows") or _counts(training, "marked"), []
    if "train" in rows:
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
    metrics, rows = training.get("metrics"), _counts(training, "rows")
    if not isinstance(metrics, Mapping):
        return "not measured"
    for split, name in (("test", "test"), ("val", "validation")):
        scores = metrics.get(split)
        if isinstance(scores, Mapping):
            count = f"{rows[split]:,} " if rows.get(split) else ""
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
    calibration = info.training.get("calibration")
    errors = calibration.get("error_after") if isinstance(calibration, Mapping) else None
    if isinstance(errors, list) and len(errors) == len(CLASSES):
        told += f"; calibration error {', '.join(_number(value, 3) for value in errors)}"
    return told


def _counts(training: Mapping[str, Any], key: str) -> dict[str, int]:
    """Return those entries of a mapping that are counts: what a bundle says of its training may be anything."""
    found = training.get(key)
    entries = found.items() if isinstance(found, Mapping) else ()
    return {str(name): value for name, value in entries if type(value) is int and 0 <= value < _LARGEST}


def _printable(text: str) -> str:
    """Spell out what would steer a terminal or cannot be printed, and cut what is too long to read."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_LONGEST])
    return shown + ("..." if len(text) > _LONGEST else "")


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and abs(value) < _LARGEST else "-"
