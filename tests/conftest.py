"""Fixtures that many tests share."""

import os
from pathlib import Path
from typing import Any

# Tiny networks on busy cores: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

REALDATA = Path(os.environ.get("ZOOBOT3D_REALDATA", Path(__file__).parents[2] / "shared" / "realdata"))
"""Folder of small real files, which are not part of the repository."""


def needs_real_data(item: pytest.Item) -> bool:
    real_example = hasattr(item, "callspec") and item.callspec.params.get("examples") == "real"
    return real_example or "realdata" in item.fixturenames


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs real files where there are none."""
    if not REALDATA.is_dir() and (left_out := [item for item in items if needs_real_data(item)]):
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)


LEFT_OUT = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports, if this one only runs tests (pytest-xdist)."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if count := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{count} tests need the optional real data; see CONTRIBUTING.md")


def for_all_workers(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """Path in a folder that all processes of a test run share; for `stand_ins.shared`."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of small real files; tests that need it are left out where it is absent."""
    return REALDATA


@pytest.fixture(scope="session")
def simulated_examples(tmp_path_factory) -> Path:
    """Stand-ins for the real files: simulated, with the same names, in the same formats."""
    import stand_ins

    return stand_ins.shared(for_all_workers(tmp_path_factory, "examples"), stand_ins.write_stand_ins)


@pytest.fixture(scope="session", params=["simulated", "real"])
def examples(request) -> Path:
    """Small files in the formats of the archives: simulated ones, and the real ones where they are."""
    return request.getfixturevalue("realdata" if request.param == "real" else "simulated_examples")


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


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    """The tiny network, at work on two pictures at a time."""
    import zoobot_3d

    return zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=2)


@pytest.fixture
def out(pictures, segmenter, tmp_path) -> Path:
    """What is predicted of a test file's own ``pictures``, two to a shard."""
    from zoobot_3d.catalog.listing import list_galaxies
    from zoobot_3d.infer.predict import predict

    predict(list_galaxies(pictures), segmenter, tmp_path / "out", shard_size=2)
    return tmp_path / "out"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    """Catalogue of the tiny survey that networks learn from."""
    from tiny_survey import make_survey

    return make_survey(tmp_path_factory.mktemp("survey"), n=16, size=64)
