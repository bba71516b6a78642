"""The graph of a network in ONNX's format: its structure from one file, its weights from another.

The file holds nodes and small constants, but none of the weights. `with_weights` adds them, as bytes, so that an engine
gets one model in memory and opens no file itself. A protobuf message may be continued: a second ``graph`` field is
merged into the first (Protocol Buffers encoding, "last one wins"), so that nothing has to be parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError

__all__ = ["PICTURES", "RAW", "VOTES", "check_graph", "with_weights"]

PICTURES, RAW, VOTES = "pictures", "raw", "concentrations"
"""Names of the graph's input and outputs."""

_GRAPH, _INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # of TensorProto
_FLOAT = 1
_BYTES = 2  # wire type
_MOST = 2_000_000_000  # bytes; protobuf's own limit


def check_graph(content: bytes) -> None:
    """Refuse a graph that could make an engine open other files.

    Data outside a graph is named by an entry with the key ``location``, which is in the file as it is written.

    Raises
    ------
    ConfigError
        If the word is there, or the file is not of ONNX's protobuf format.
    """
    if content[4:8] == b"ORTM" or not content:
        raise ConfigError("is no ONNX graph")
    if b"location" in content:
        raise ConfigError("keeps data in other files, which is not allowed")


def with_weights(structure: bytes, weights: Mapping[str, NDArray[Any]]) -> bytes:
    """Add weights to a structure.

    Parameters
    ----------
    structure : bytes
        Of an ONNX file whose nodes name the weights.
    weights : mapping of str to numpy.ndarray
        Written as float32.

    Returns
    -------
    bytes
        A whole model.

    Raises
    ------
    ConfigError
        If the structure is refused, see `check_graph`, or the model is too large for the format.
    """
    check_graph(structure)
    tensors = b"".join(_field(_INITIALIZER, _tensor(name, value)) for name, value in weights.items())
    if len(tensors) > _MOST:
        raise ConfigError("is larger than the 2 GB that an ONNX graph may have")
    return structure + _field(_GRAPH, tensors)


def _tensor(name: str, value: NDArray[Any]) -> bytes:
    dims = b"".join(_varint(_DIMS << 3) + _varint(side) for side in value.shape)
    kind = _varint(_DATA_TYPE << 3) + _varint(_FLOAT)
    data = np.ascontiguousarray(value, "<f4").tobytes()
    return dims + kind + _field(_NAME, name.encode()) + _field(_RAW_DATA, data)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
