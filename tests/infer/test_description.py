import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobot_3d import cli
from zoobot_3d.errors import BundleError
from zoobot_3d.infer import description
from zoobot_3d.infer.bundle import BundleInfo, read_info, save_info
from zoobot_3d.infer.description import bundle_facts, describe
from zoobot_3d.schema import CLASSES

SCORES = {f"{name}_{key}": value for name in CLASSES for key, value in (("iou_0.2", 0.456), ("mae", 0.0123))}


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """A bundle whose training is known."""
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(tiny_bundle, folder)
    training = {
        "catalogue": "marks.parquet",
        "rows": {"train": 1200, "val": 30, "test": 40},
        "date": "2026-01-02",
        "commit": "0123456789abcdef",
        "steps": 55,
        "metrics": {"val": SCORES, "test": SCORES | {"bar_mae": None}},
    }
    info = dataclasses.replace(read_info(folder), temperature=(1.25, 0.5), training=training)
    save_info(folder, info)
    return folder


def test_people_read_network_training_quality_field_size_and_hash(bundle):
    text = describe(bundle)
    facts = bundle_facts(bundle)
    for told in (
        "published_unet",
        "the central 0.75 of a Galaxy Zoo picture's side (318 of its 424 px)",
        "32 x 32 px",
        "1,200 galaxies (30 for validation, 40 for tests) of marks.parquet, 2026-01-02",
        "on 40 test galaxies (arms, bars): IoU at > 0.2 0.46, 0.46; mean absolute error 0.0123, -",
        "temperature arms 1.250, bars 0.500",
        "steps 55",
        f"{facts['bytes'] / 1e6:.1f} MB",
        facts["weights_sha256"][:16],
        "commit 0123456",
        "format 2",
    ):
        assert told in text
    assert "{" not in text  # no JSON


def test_programs_get_json_with_everything_that_is_recorded(bundle, capsys):
    assert cli.main(["describe", str(bundle), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["training"]["metrics"]["test"] == SCORES | {"bar_mae": None}
    assert facts["bytes"] == sum(file.stat().st_size for file in bundle.iterdir())
    assert facts["n_weights"] > 100 and facts["path"] == str(bundle)


def test_the_default_is_the_packages_own():
    text = describe()
    assert text == describe("default")
    assert "the model that comes with zoobot-3d" in text and "recipe" in text and "million weights" in text


def test_a_bundle_of_which_little_is_known(tiny_bundle):
    text = describe(tiny_bundle)
    assert "not measured" in text and "trained on" not in text and "calibration   none" in text


@pytest.mark.parametrize("content", [None, b"", b"\x10\0\0\0\0\0\0\0{}", b"\xff" * 8 + b"{}", b"\2\0\0\0\0\0\0\0[]"])
def test_damaged_weights_do_not_hide_the_rest(bundle, content):
    weights = bundle / "weights.safetensors"
    weights.unlink() if content is None else weights.write_bytes(content)
    assert "weights missing or damaged" in describe(bundle)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        describe(tmp_path)


_ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(10**400)
    | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["train", "test", "val"]), inner),
    max_leaves=5,
)
_KEYS = ("recipe", "catalogue", "rows", "marked", "init", "date", "commit", "metrics", "calibration", "x", "\x1b[2J")


@settings(max_examples=100, deadline=None)
@given(training=st.dictionaries(st.sampled_from(_KEYS), _ANYTHING))
def test_whatever_a_bundle_says_of_its_training_is_printed(training):
    info = BundleInfo("fast_unet", {}, 2, "bce", 32, 0.75, training=training)
    facts = {"bytes": 1, "n_weights": 2, "path": "b", "weights_sha256": "0", "format_version": 2}
    lines = description.lines_of(info, facts)
    assert all(line.isprintable() and len(line) < 600 for line in lines)
