"""zoobot-3d: spiral arms and bars in galaxy images, pixel by pixel.

The public names are loaded when first used, so that importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobot_3d.infer.bundle import load_bundle
    from zoobot_3d.infer.description import describe
    from zoobot_3d.infer.predict import predict, read_masks, read_masks_and_sigma
    from zoobot_3d.infer.radec import predict_radec
    from zoobot_3d.infer.segmenter import Segmenter, load_segmenter
    from zoobot_3d.io import read_cutout, read_picture, write_mask_fits
    from zoobot_3d.learn.settings import load_config
    from zoobot_3d.learn.train import train
    from zoobot_3d.marks.gz3d import read_gz3d
    from zoobot_3d.marks.rasterize import rasterize_marks
    from zoobot_3d.marks.volunteer_marks import VolunteerMarks
    from zoobot_3d.report import figures
    from zoobot_3d.report.evaluate import evaluate_catalog
    from zoobot_3d.sky.grid import PixelGrid, resample
    from zoobot_3d.sky.rgb import grz_from_rgb, rgb_from_grz

__version__ = "0.1.0"

_HOMES = {
    "PixelGrid": "sky.grid",
    "Segmenter": "infer.segmenter",
    "VolunteerMarks": "marks.volunteer_marks",
    "describe": "infer.description",
    "evaluate_catalog": "report.evaluate",
    "figures": "report",
    "grz_from_rgb": "sky.rgb",
    "load_bundle": "infer.bundle",
    "load_config": "learn.settings",
    "load_segmenter": "infer.segmenter",
    "predict": "infer.predict",
    "predict_radec": "infer.radec",
    "rasterize_marks": "marks.rasterize",
    "read_cutout": "io",
    "read_gz3d": "marks.gz3d",
    "read_masks": "infer.predict",
    "read_masks_and_sigma": "infer.predict",
    "read_picture": "io",
    "resample": "sky.grid",
    "rgb_from_grz": "sky.rgb",
    "train": "learn.train",
    "write_mask_fits": "io",
}

__all__ = [
    "PixelGrid",
    "Segmenter",
    "VolunteerMarks",
    "__version__",
    "describe",
    "evaluate_catalog",
    "figures",
    "grz_from_rgb",
    "load_bundle",
    "load_config",
    "load_segmenter",
    "predict",
    "predict_radec",
    "rasterize_marks",
    "read_cutout",
    "read_gz3d",
    "read_masks",
    "read_masks_and_sigma",
    "read_picture",
    "resample",
    "rgb_from_grz",
    "train",
    "write_mask_fits",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zoobot_3d' has no attribute {name!r}")
    home = importlib.import_module(f"zoobot_3d.{_HOMES[name]}")
    value = getattr(home, name, None) or importlib.import_module(f"{home.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names for tab completion, whether or not they are loaded yet."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
