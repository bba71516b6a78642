"""The networks of a segmenter, each with its grid and the engine that runs it. Knows no catalogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.engines import answers
from zoobot_3d.engines.choice import Engine, choose
from zoobot_3d.errors import BundleError, ConfigError
from zoobot_3d.infer.bundle import Bundle, StoredBundle, load_bundle
from zoobot_3d.infer.bundle_files import GRAPH_FILE, read_arrays, read_graph
from zoobot_3d.schema import answers_per_question
from zoobot_3d.sky.grid import PixelGrid, resample

__all__ = ["Member"]


@dataclass(frozen=True)
class Member:
    """One network of an ensemble."""

    bundle: Bundle | StoredBundle
    engine: Engine
    view: PixelGrid
    """What it sees, floating, in units of the picture's side."""

    @classmethod
    def of(cls, bundle: Bundle | StoredBundle, engine: str, device: str | None) -> Member:
        """Make a bundle's network ready; see `zoobot_3d.engines.choice.choose`."""
        size = bundle.info.input_size
        view = PixelGrid((size, size), bundle.info.field_fraction / size)
        return cls(bundle, _engine(bundle, engine, device), view)

    def grid(self, picture_grid: PixelGrid) -> PixelGrid:
        """Grid the network sees of a picture."""
        return picture_grid.resize(self.bundle.info.input_size, field_fraction=self.bundle.info.field_fraction)

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Turn pictures into what goes into the network, (B, 3, S, S) in 0-1."""
        return np.stack([self._see(picture, PixelGrid(picture.shape[:2], 1.0)) for picture in pictures])

    def _see(self, picture: NDArray[np.uint8], grid: PixelGrid) -> NDArray[np.float32]:
        return np.moveaxis(resample(picture, grid, self.grid(grid)), -1, 0) / np.float32(255)

    def predict(
        self, views: NDArray[np.float32], uncertain: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Predict fractions and, if asked for and known, their variance."""
        raw, info = self.engine.raw(np.ascontiguousarray(views, np.float32)), self.bundle.info
        expected = (len(views), info.out_channels, *views.shape[-2:])
        if raw.shape != expected:
            raise BundleError(f"{self.bundle.path}: the network's answer is {raw.shape}, not {expected}")
        mean = answers.fraction(raw, info.loss, info.temperature)
        if not np.isfinite(mean).all():  # finite weights may be too large; NaN would pass for "outside the field"
            raise BundleError(f"{self.bundle.path}: the network's answer is not a number; train the bundle again")
        return mean, answers.variance(raw, info.loss, info.temperature) if uncertain else None

    def votes(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict the fraction (B, answers) of volunteers who give each answer, with the vote head."""
        concentrations = self.engine.concentrations(np.ascontiguousarray(views, np.float32))
        edges = np.cumsum(answers_per_question(self.bundle.info.votes))[:-1]
        parts = np.split(concentrations, edges, axis=1)
        return np.concatenate([part / part.sum(axis=1, keepdims=True) for part in parts], axis=1)


def _engine(bundle: Bundle | StoredBundle, engine: str, device: str | None) -> Engine:
    """Start the engine of one bundle; a network that is in memory already is run by torch, unless asked otherwise."""
    in_memory = isinstance(bundle, Bundle) and engine == "auto"
    chosen = "torch" if in_memory else choose(engine, device, has_graph=(bundle.path / GRAPH_FILE).is_file())
    if chosen == "torch":
        from zoobot_3d.engines.torch_engine import TorchEngine

        model = bundle.model if isinstance(bundle, Bundle) else load_bundle(bundle.path).model
        return TorchEngine(model, device)
    structure = read_graph(bundle.path)
    try:
        from zoobot_3d.engines.graph import with_weights

        model_bytes = with_weights(structure, read_arrays(bundle.path))
        if chosen == "onnx":
            from zoobot_3d.engines.runtime import OnnxEngine

            return OnnxEngine(model_bytes)
        from zoobot_3d.engines.vino import OpenVinoEngine

        return OpenVinoEngine(model_bytes)
    except ConfigError as error:
        raise BundleError(
            f"{bundle.path / GRAPH_FILE}: {error}; write it anew with zoobot3d upgrade-bundle {bundle.path}"
        ) from None
