"""A bundle: the folder that holds a trained network and all that is needed to use it rightly.

``weights.safetensors`` holds the weights (nothing in it can run code), ``bundle.json`` the network, the loss that says
what its output means, the field and size of the pictures it was trained on, its calibration, and how it was trained.
Knows nothing of training or of catalogues.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobot_3d import __version__
from zoobot_3d.errors import BundleError, ConfigError
from zoobot_3d.infer.bundle_files import (
    AGAIN,
    FORMAT_VERSION,
    GRAPH_FILE,
    INFO_FILE,
    WEIGHTS_FILE,
    check_numbers,
    read_content,
    read_weights,
)
from zoobot_3d.io import write_atomic
from zoobot_3d.schema import CLASSES

if TYPE_CHECKING:
    from torch import Tensor

    from zoobot_3d.networks import SegmentationModel
    from zoobot_3d.networks.losses import Loss

__all__ = [
    "DEFAULT",
    "FORMAT_VERSION",
    "Bundle",
    "BundleInfo",
    "StoredBundle",
    "bundle_folder",
    "load_bundle",
    "open_bundle",
    "read_info",
    "save_bundle",
    "save_info",
    "upgrade_bundle",
]

DEFAULT = "default"
"""Stands for the bundle that is part of the package, wherever a bundle's folder is asked for; for a folder of that
name, write ``./default``. It is made by ``make weights``; see the model card in the documentation."""

_DEFAULT_FOLDER = Path(__file__).parents[1] / "default_bundle"


@dataclass(frozen=True)
class BundleInfo:
    """What ``bundle.json`` says.

    Attributes
    ----------
    model_name : str
        As in `zoobot_3d.networks.MODEL_NAMES`.
    model_options : dict
        What `zoobot_3d.networks.build_model` needs to build the same network.
    out_channels : int
        Channels of the network's raw output.
    loss : str
        As in `zoobot_3d.networks.losses.LOSS_NAMES`; it turns raw output into fractions.
    input_size : int
        Side in pixels of the pictures the network was trained on.
    field_fraction : float
        Central part of a Galaxy Zoo picture that they show, as a fraction of its side.
    classes : tuple of str
        Order of the output maps.
    n_asked : int
        Volunteers asked per galaxy, typically; one vote is ``1 / n_asked``.
    training : dict
        Where it comes from: catalogue, rows, metrics, date, commit. For people, not for programs.
    zoobot_3d : str
        Version of the package that wrote it.
    temperature : tuple of float
        What the logit of each class's fraction is divided by; see `zoobot_3d.learn.calibration`. 1: not calibrated.
    votes : tuple of str
        Columns of the vote head, in order; empty for a network without one.
    """

    model_name: str
    model_options: dict[str, Any]
    out_channels: int
    loss: str
    input_size: int
    field_fraction: float
    classes: tuple[str, ...] = CLASSES
    n_asked: int = 15
    training: dict[str, Any] = field(default_factory=dict)
    zoobot_3d: str = __version__
    temperature: tuple[float, ...] = (1.0,) * len(CLASSES)
    votes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A network ready to use.

    Attributes
    ----------
    model : SegmentationModel
        In evaluation mode, on the CPU; takes (B, 3, S, S) float32 pictures in 0-1, row 0 north.
    loss : Loss
        Knows what the raw output means.
    info : BundleInfo
        Size and field of the pictures, and the rest of ``bundle.json``.
    path : pathlib.Path
        The folder it came from.
    """

    model: SegmentationModel
    loss: Loss
    info: BundleInfo
    path: Path

    def __repr__(self) -> str:
        """Say in one line which network this is and where it came from."""
        return f"Bundle({self.info.model_name} from {self.path}, {self.info.input_size} px)"

    def fraction(self, raw: Tensor) -> Tensor:
        """Turn raw output (B, out_channels, S, S) into calibrated volunteer fractions (B, 2, S, S) in 0-1."""
        return self._calibrated(self.loss.fraction(raw))

    def variance(self, raw: Tensor) -> Tensor | None:
        """Tell the variance of the fraction that the network itself predicts, (B, 2, S, S).

        That of the Beta distribution with the calibrated mean and the predicted concentration; None unless the network
        was trained with ``beta_binomial``, the one loss that has it predict how far volunteers scatter.
        """
        from zoobot_3d.networks.losses import BetaBinomialLoss

        if not isinstance(self.loss, BetaBinomialLoss):
            return None
        mean = self.fraction(raw)
        return mean * (1.0 - mean) / (1.0 + self.loss.concentration(raw))

    def _calibrated(self, fraction: Tensor) -> Tensor:
        """Divide the logit by the temperature; 0 and 1 have infinite logits, and stay."""
        if all(value == 1 for value in self.info.temperature):
            return fraction
        temperature = fraction.new_tensor(self.info.temperature)[:, None, None]
        return (fraction.logit() / temperature).sigmoid()


@dataclass(frozen=True)
class StoredBundle:
    """A bundle on disk, whose weights an engine reads when it needs them; opening one needs no torch.

    Attributes
    ----------
    info : BundleInfo
        What ``bundle.json`` says.
    path : pathlib.Path
        The folder.
    """

    info: BundleInfo
    path: Path

    def __repr__(self) -> str:
        """Say in one line which network this is and where it came from."""
        return f"Bundle({self.info.model_name} from {self.path}, {self.info.input_size} px)"


def open_bundle(path: str | os.PathLike[str] = DEFAULT) -> StoredBundle:
    """Open a bundle to predict with it, without torch and without reading its weights yet.

    Raises
    ------
    BundleError
        See `load_bundle`; weights are checked when an engine reads them.
    """
    folder = bundle_folder(path)
    return StoredBundle(_read_info(folder)[0], folder)


def upgrade_bundle(path: str | os.PathLike[str]) -> Path:
    """Write the ONNX graph of a bundle that has none, or a fresh one, and its checksum; the weights stay as they are.

    Returns
    -------
    pathlib.Path
        The graph's file.

    Raises
    ------
    BundleError
        See `load_bundle`.
    ConfigError
        If the package onnx, of the extra ``train``, is not installed.
    """
    from zoobot_3d.networks.export import network_graph

    bundle = load_bundle(path)
    file, graph = bundle.path / GRAPH_FILE, network_graph(bundle.model, bundle.info.input_size)
    checksums = _read_info(bundle.path)[1] | {"graph_sha256": _sha256(graph)}
    write_atomic(file, graph)
    write_atomic(bundle.path / INFO_FILE, _content(bundle.info, checksums))
    return file


def save_bundle(
    path: str | os.PathLike[str], model: SegmentationModel, info: BundleInfo, *, half: bool = False
) -> Path:
    """Write a bundle, whole or not at all; one that is already there is replaced.

    Parameters
    ----------
    path : path
        Folder to make.
    model : SegmentationModel
        Its weights are written as they are, on whatever device.
    info : BundleInfo
        Must describe `model`.
    half : bool
        Write weights in half precision, in half the space. They are loaded as float32 all the same.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    BundleError
        The folder exists and is no bundle, `info` does not describe `model`, or a weight is not a finite number.
    """
    from safetensors.torch import save

    from zoobot_3d.networks.export import network_graph

    final = Path(path)
    if final.exists() and not (final / INFO_FILE).is_file() and not (final.is_dir() and not any(final.iterdir())):
        raise BundleError(f"{final}: exists and is not a bundle; give another folder")
    if model.out_channels != info.out_channels:
        raise BundleError(
            f"{final}: the network has {model.out_channels} output channels, info says {info.out_channels}"
        )
    answers = 0 if model.vote_head is None else model.vote_head.answers
    if answers != len(info.votes):
        raise BundleError(f"{final}: the network's vote head has {answers} answers, info names {len(info.votes)}")
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    check_numbers(final, tensors, "train it anew, with a lower learning rate")
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    weights, graph = save(tensors), network_graph(model, info.input_size)
    content = _content(info, {"weights_sha256": _sha256(weights), "graph_sha256": _sha256(graph)})
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    try:
        write_atomic(staging / "new" / WEIGHTS_FILE, weights)
        write_atomic(staging / "new" / GRAPH_FILE, graph)
        write_atomic(staging / "new" / INFO_FILE, content)
        if final.exists():  # a folder cannot be renamed onto a full one
            final.rename(staging / "old")
        (staging / "new").rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def save_info(path: str | os.PathLike[str], info: BundleInfo) -> None:
    """Write ``bundle.json`` of the bundle in folder `path` anew, whole or not at all; its weights stay as they are.

    Raises
    ------
    BundleError
        The folder is no bundle, see `load_bundle`, or `info` is of another network.
    """
    before, checksums = _read_info(Path(path))
    for key in ("model_name", "model_options", "out_channels", "loss", "votes"):
        if getattr(info, key) != getattr(before, key):
            raise BundleError(f"{os.fspath(path)}: holds a network with another {key}; save it whole with save_bundle")
    write_atomic(Path(path) / INFO_FILE, _content(info, checksums))


def read_info(path: str | os.PathLike[str]) -> BundleInfo:
    """Read and check ``bundle.json`` of the bundle in folder `path`; needs no torch.

    Raises
    ------
    BundleError
        See `load_bundle`.
    """
    return _read_info(bundle_folder(path))[0]


def load_bundle(path: str | os.PathLike[str] = DEFAULT) -> Bundle:
    """Load a bundle, on the CPU and in evaluation mode.

    Parameters
    ----------
    path : path
        Its folder; ``"default"`` is the bundle that is part of the package.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        The folder is missing or no bundle, was written by a newer version, misses or has unknown keys or values out of
        range, or its weights are missing, corrupt, not numbers, or do not fit the network it names. Nothing is
        allocated for a network before its weights were found to fit it.
    """
    folder = bundle_folder(path)
    info, checksums = _read_info(folder)
    model, loss = _empty_network(folder / INFO_FILE, info)
    model.load_state_dict(read_weights(folder, model.state_dict(), checksums["weights_sha256"]), assign=True)
    model.eval()
    model.requires_grad_(False)
    return Bundle(model, loss, info, folder)


def _empty_network(file: Path, info: BundleInfo) -> tuple[SegmentationModel, Loss]:
    """Build a bundle's network without memory for its weights, and its loss.

    Raises
    ------
    BundleError
        They cannot be built, or do not go together.
    """
    import torch

    from zoobot_3d.networks import build_model, check_stored_model, nearest_size
    from zoobot_3d.networks.losses import build_loss

    try:
        check_stored_model(info.model_name, info.model_options)
        loss = build_loss(info.loss)
        if loss.out_channels != info.out_channels:
            raise ConfigError(f"out_channels is {info.out_channels}, loss {info.loss} needs {loss.out_channels}")
        with torch.device("meta"):
            model = build_model(info.model_name, info.out_channels, vote_answers=len(info.votes), **info.model_options)
    except (ConfigError, TypeError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        raise BundleError(f"{file}: names a network that cannot be built ({told}); {AGAIN}") from None
    if info.input_size % model.size_multiple:
        raise BundleError(
            f"{file}: input_size is {info.input_size}, not a multiple of {model.size_multiple}, which "
            f"{info.model_name} needs, such as {nearest_size(info.input_size, model.size_multiple)}; {AGAIN}"
        )
    return model, loss


def bundle_folder(path: str | os.PathLike[str]) -> Path:
    """Find the folder of a bundle, which is the package's own where `path` is ``"default"``."""
    return _DEFAULT_FOLDER if path == DEFAULT else Path(path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(info: BundleInfo, checksums: dict[str, str]) -> str:
    """Return the text of ``bundle.json``."""
    head = {"format": "zoobot-3d bundle", "format_version": FORMAT_VERSION} | checksums
    return json.dumps(head | dataclasses.asdict(info), indent=2) + "\n"


def _read_info(folder: Path) -> tuple[BundleInfo, dict[str, str]]:
    """Read and check ``bundle.json``: what it says, and the checksums of the other files by their keys in it."""
    content = read_content(folder)
    checksums = {key: value for key, value in content.items() if key in ("weights_sha256", "graph_sha256")}
    known = {each.name for each in dataclasses.fields(BundleInfo)}
    told: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items() if key in known
    }
    return BundleInfo(**told), checksums
