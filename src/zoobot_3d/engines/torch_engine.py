"""PyTorch, on a GPU or on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from zoobot_3d.networks import SegmentationModel

__all__ = ["TorchEngine", "torch_device"]


class TorchEngine:
    """Runs a network of `zoobot_3d.networks` in evaluation mode, batch norms folded."""

    name = "torch"

    def __init__(self, model: SegmentationModel, device: str | None = None) -> None:
        self.device = torch_device(device)
        fuse = getattr(model.eval(), "fuse", None)
        self._model = (fuse() if fuse is not None else model).to(self.device)

    def raw(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw output (B, out_channels, S, S) for pictures (B, 3, S, S) in 0-1."""
        import torch

        with torch.inference_mode():
            found: NDArray[np.float32] = self._model(torch.from_numpy(views).to(self.device)).float().cpu().numpy()
        return found

    def concentrations(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the vote head says, (B, answers)."""
        import torch

        assert self._model.vote_head is not None
        with torch.inference_mode():
            features = self._model.encoder(torch.from_numpy(views).to(self.device))
            found: NDArray[np.float32] = self._model.vote_head(features).cpu().numpy()
        return found


def torch_device(name: str | None) -> torch.device:
    """Return the device asked for, or the best there is.

    Raises
    ------
    ConfigError
        If torch knows no such device, or this machine has none.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name is None:
        return torch.device("cuda" if there["cuda"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: no such device; use cpu, cuda or mps") from None
    n_devices = torch.cuda.device_count() if device.type == "cuda" else 1
    if not there.get(device.type, False) or (device.index or 0) >= n_devices:
        has = [kind for kind, is_there in there.items() if is_there]
        raise ConfigError(f"--device {name}: not on this machine with this build of torch; it has {', '.join(has)}")
    return device
