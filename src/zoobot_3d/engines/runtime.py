"""ONNX Runtime on the CPU: needs no torch, and is faster than it (``benchmarks/engines.py``)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.engines.graph import PICTURES, RAW, VOTES
from zoobot_3d.engines.pieces import most_at_once, pieces_of
from zoobot_3d.engines.threads import usable_cores
from zoobot_3d.errors import ConfigError

__all__ = ["OnnxEngine"]


class OnnxEngine:
    """Runs a model of `zoobot_3d.engines.graph.with_weights`, on pieces of a batch side by side.

    Raises
    ------
    ConfigError
        If the model cannot be run.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        self._at_once = most_at_once()
        self._pool = ThreadPoolExecutor(self._at_once)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores() // self._at_once
        options.log_severity_level = 4  # errors are raised, too
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base but this
            raise ConfigError(f"cannot be run by ONNX Runtime ({' '.join(str(error).split())[:200]})") from None

    def raw(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw output (B, out_channels, S, S) for pictures (B, 3, S, S) in 0-1."""
        return self._run(RAW, views)

    def concentrations(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the vote head says, (B, answers)."""
        return self._run(VOTES, views)

    def _run(self, output: str, views: NDArray[np.float32]) -> Any:
        try:
            pieces = pieces_of(views, self._at_once)
            return np.concatenate(
                list(self._pool.map(lambda piece: self._session.run([output], {PICTURES: piece})[0], pieces))
            )
        except Exception as error:
            raise ConfigError(f"cannot be run by ONNX Runtime ({' '.join(str(error).split())[:200]})") from None
