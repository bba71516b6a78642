"""Which engine runs a network on this machine."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError

__all__ = ["ENGINES", "TRAIN", "Engine", "choose"]

ENGINES = ("auto", "onnx", "openvino", "torch")
"""What a user may ask for."""

TRAIN = "pip install 'zoobot-3d[train]'"


class Engine(Protocol):
    """What every engine offers."""

    name: str
    device: Any

    def raw(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw output (B, out_channels, S, S) for pictures (B, 3, S, S) in 0-1, row 0 north."""

    def concentrations(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the vote head says, (B, answers)."""


def choose(name: str, device: str | None, *, has_graph: bool) -> str:
    """Choose the engine of one network.

    Parameters
    ----------
    name : str
        One of `ENGINES`. ``"auto"`` takes torch where there is a GPU or no graph, else OpenVINO where it is installed
        and the CPU is of the x86 kind that it is fastest on, else ONNX Runtime.
    device : str, optional
        Asked for by the user; any but ``"cpu"`` needs torch.
    has_graph : bool
        Whether the bundle has a graph, which all engines but torch need.

    Returns
    -------
    str
        The engine's name, never ``"auto"``.

    Raises
    ------
    ConfigError
        If there is no such engine, it is not installed, or it cannot use the device or run the bundle.
    """
    if name not in ENGINES:
        raise ConfigError(f"no engine {name!r}; use one of {', '.join(ENGINES)}")
    if name == "auto":
        if not has_graph or (device not in (None, "cpu")) or (device is None and _has_gpu()):
            name = "torch"
        else:
            name = "openvino" if _installed("openvino") and platform.machine() in ("x86_64", "AMD64") else "onnx"
    library, fix = {
        "torch": ("torch", TRAIN),
        "onnx": ("onnxruntime", "pip install onnxruntime"),
    }.get(name, ("openvino", "pip install 'zoobot-3d[openvino]'"))
    if not _installed(library):
        why = "" if has_graph or name != "torch" else " (the bundle has no ONNX graph)"
        raise ConfigError(f"engine {name} needs {library}{why}; {fix}")
    if name != "torch" and device not in (None, "cpu"):
        raise ConfigError(f"engine {name} runs on the CPU, not on {device}; use --engine torch")
    if name != "torch" and not has_graph:
        raise ConfigError(f"engine {name} needs the bundle's ONNX graph; write it with zoobot3d upgrade-bundle BUNDLE")
    return name


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def _has_gpu() -> bool:
    """Look for a GPU that torch can use; torch is imported only where there may be one."""
    if not _installed("torch") or (sys.platform == "linux" and not Path("/dev/nvidiactl").exists()):
        return False
    import torch

    return torch.cuda.is_available()
