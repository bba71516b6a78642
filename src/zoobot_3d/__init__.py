"""zoobot-3d: spiral arms and bars in galaxy images, pixel by pixel.

The public names are loaded when first used, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobot_3d.bundle import load_bundle
    from zoobot_3d.grid import PixelGrid, resample
    from zoobot_3d.marks import VolunteerMarks
    from zoobot_3d.rasterize import rasterize_marks
    from zoobot_3d.rgb import rgb_from_grz
    from zoobot_3d.segmenter import Segmenter, load_segmenter

__version__ = "0.1.0"

_HOMES = {
    "PixelGrid": "grid",
    "Segmenter": "segmenter",
    "VolunteerMarks": "marks",
    "load_bundle": "bundle",
    "load_segmenter": "segmenter",
    "rasterize_marks": "rasterize",
    "resample": "grid",
    "rgb_from_grz": "rgb",
}

__all__ = [
    "PixelGrid",
    "Segmenter",
    "VolunteerMarks",
    "__version__",
    "load_bundle",
    "load_segmenter",
    "rasterize_marks",
    "resample",
    "rgb_from_grz",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zoobot_3d' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"zoobot_3d.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
