"""Whether timm works here, and parameters of tests that go through all networks."""

import pytest

from zoobot_3d.networks import MODEL_NAMES


def _why_not():
    try:
        import timm
    except Exception as error:  # torchvision that was built for another torch raises RuntimeError
        return f"timm cannot be imported: {' '.join(str(error).split())[:200]}"
    return None if timm.is_model(SMALL_ENCODER) else f"timm {timm.__version__} has no {SMALL_ENCODER}"


SMALL_ENCODER = "mobilenetv3_small_050"
WHY_NOT = _why_not()
needs_timm = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

NETWORKS = [pytest.param(name, marks=needs_timm) if name == "timm_unet" else name for name in MODEL_NAMES]
FRESH = {"timm_unet": {"encoder": SMALL_ENCODER, "pretrained": False}}
"""Options beside the defaults with which no weights are fetched."""
SMALL_TIMM = FRESH["timm_unet"] | {"strides": [4, 8, 16, 32], "widths": [8, 8, 8, 16]}
