"""Fixtures that many tests share."""

import os
from pathlib import Path

# Tiny networks on busy cores: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of small real files; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "realdata"
    folder = Path(os.environ.get("ZOOBOT3D_REALDATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set ZOOBOT3D_REALDATA")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """Folder of a bundle whose network is small and untrained, but complete."""
    import torch

    from zoobot_3d.infer.bundle import BundleInfo, save_bundle
    from zoobot_3d.networks import build_model
    from zoobot_3d.networks.losses import build_loss

    torch.manual_seed(0)
    loss = build_loss("bce")
    options = {"width": 4, "multipliers": [1, 1, 1, 1], "relu_output": False}
    model = build_model("published_unet", loss.out_channels, **options)
    info = BundleInfo(
        model_name="published_unet",
        model_options=model.options,
        out_channels=loss.out_channels,
        loss="bce",
        input_size=32,
        field_fraction=0.75,
    )
    return save_bundle(tmp_path_factory.mktemp("bundle") / "bundle", model, info)
