"""A network's structure as an ONNX graph, without its weights. Needs the package onnx beside torch."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoobot_3d.errors import ConfigError

if TYPE_CHECKING:
    from zoobot_3d.networks.blocks import SegmentationModel

__all__ = ["network_graph"]

_OPSET = 18


class _Outputs(nn.Module):
    """Everything that a network says, by one call; its weights keep their names without the first part."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.model.encoder(pictures)
        raw = self.model.masks(features)
        return raw if self.model.vote_head is None else (raw, self.model.vote_head(features))


def network_graph(model: SegmentationModel, size: int) -> bytes:
    """Export the structure of a network in evaluation mode.

    Parameters
    ----------
    model : SegmentationModel
        On any device; it stays as it is.
    size : int
        Side in pixels of its pictures; the number of pictures in a batch is free.

    Returns
    -------
    bytes
        An ONNX model whose nodes name the tensors of ``model.state_dict()``, which it does not hold.

    Raises
    ------
    ConfigError
        If the package onnx is not installed, or the graph does not name the network's weights.
    """
    import copy

    try:
        import onnx
    except ImportError:
        raise ConfigError("writing a bundle needs the package onnx; pip install 'zoobot-3d[train]'") from None
    copied = copy.deepcopy(model).cpu().float().eval()
    found = onnx.load_from_string(_exported(copied, size))
    floats = {name for name, value in copied.state_dict().items() if value.is_floating_point()}
    prefix = "model."
    held = {each.name.removeprefix(prefix) for each in found.graph.initializer}
    if not held <= floats:
        raise ConfigError(f"the exported graph names weights that the network has not: {sorted(held - floats)[:3]}")
    del found.graph.initializer[:]
    for node in found.graph.node:
        node.ClearField("doc_string")
        for index, name in enumerate(node.input):
            node.input[index] = name.removeprefix(prefix) if name.removeprefix(prefix) in floats else name
    return bytes(found.SerializeToString())


def _exported(copied: SegmentationModel, size: int) -> bytes:
    """Trace a network in evaluation mode; the model still holds its weights."""
    names = ["raw"] if copied.vote_head is None else ["raw", "concentrations"]
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Outputs(copied),
            (torch.zeros(2, 3, size, size),),
            file,  # type: ignore[arg-type]  # takes a file in memory
            dynamo=False,
            opset_version=_OPSET,
            input_names=["pictures"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("pictures", *names)},
            do_constant_folding=False,  # keeps the weights as they are named
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return file.getvalue()
