"""OpenVINO on the CPU, in float32: bfloat16 changes fractions by more than the 2/255 that an engine may."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.engines.graph import PICTURES, RAW, VOTES
from zoobot_3d.engines.pieces import most_at_once, pieces_of
from zoobot_3d.engines.threads import usable_cores
from zoobot_3d.errors import ConfigError

__all__ = ["OpenVinoEngine"]


@functools.cache
def _core() -> Any:
    """Return the one core of this process, which is never let go.

    Processes in which cores came and went have died of a segmentation fault later on, in training (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


class OpenVinoEngine:
    """Runs a model of `zoobot_3d.engines.graph.with_weights`, on pieces of a batch side by side.

    Raises
    ------
    ConfigError
        If the model cannot be run.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: bytes) -> None:
        self._streams, self._one_batch = most_at_once(), threading.Lock()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cores()}
        settings["NUM_STREAMS"] = self._streams
        try:
            import openvino

            compiled = _core().compile_model(_core().read_model(model, b""), "CPU", settings)
            self._outputs = {name: port for port in compiled.outputs for name in port.get_names()}
            self._queue = openvino.AsyncInferQueue(compiled, self._streams)
        except Exception as error:
            raise ConfigError(f"cannot be run by OpenVINO ({' '.join(str(error).split())[:200]})") from None

    def raw(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw output (B, out_channels, S, S) for pictures (B, 3, S, S) in 0-1."""
        return self._run(RAW, views)

    def concentrations(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the vote head says, (B, answers)."""
        return self._run(VOTES, views)

    def _run(self, output: str, views: NDArray[np.float32]) -> Any:
        pieces = pieces_of(views, self._streams)
        answers: list[Any] = [None] * len(pieces)

        def keep(request: Any, number: int) -> None:
            answers[number] = np.array(request.get_tensor(self._outputs[output]).data)

        try:
            with self._one_batch:
                self._queue.set_callback(keep)
                for number, piece in enumerate(pieces):
                    self._queue.start_async({PICTURES: piece}, number)
                self._queue.wait_all()
            return np.concatenate(answers)
        except Exception as error:
            raise ConfigError(f"cannot be run by OpenVINO ({' '.join(str(error).split())[:200]})") from None
