"""Every engine says the same of the same pictures, and no graph reaches outside its bundle."""

import dataclasses
import hashlib
import importlib.util
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import zoobot_3d
from zoobot_3d.engines.graph import check_graph
from zoobot_3d.engines.pieces import pieces_of
from zoobot_3d.errors import BundleError, ConfigError
from zoobot_3d.infer.bundle import open_bundle, read_info, save_info, upgrade_bundle
from zoobot_3d.infer.members import Member
from zoobot_3d.infer.predict import _identity

ENGINES = [
    "onnx",
    *(["openvino"] if importlib.util.find_spec("openvino") else []),
]
LIMIT = 1 / 255


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tta", [False, True])
def test_engines_agree_with_torch(engine, tta, examples):
    files = sorted(examples.rglob("*.jpg"))[:3]
    assert files
    pictures = [zoobot_3d.read_picture(file) for file in files]
    pictures = [picture[: min(picture.shape[:2]), : min(picture.shape[:2])] for picture in pictures]
    for one, other in zip(
        zoobot_3d.load_segmenter(engine="torch", device="cpu", tta=tta).segment_batch(pictures),
        zoobot_3d.load_segmenter(engine=engine, tta=tta).segment_batch(pictures),
        strict=True,
    ):
        assert one.max() > 0
        assert np.abs(one - other).max() < LIMIT


@pytest.mark.parametrize("engine", ENGINES)
def test_pieces_of_a_batch_come_back_in_order_whoever_else_asks(engine, tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    network, size = Member.of(bundle, engine, None).engine, bundle.info.input_size
    views = np.random.default_rng(0).random((7, 3, size, size), dtype=np.float32)
    alone = np.concatenate([network.raw(view[None]) for view in views])
    assert len(np.unique(alone.mean((1, 2, 3)))) == len(views)
    for count in range(1, len(views) + 1):
        np.testing.assert_allclose(network.raw(views[:count]), alone[:count], atol=1e-5)
    with ThreadPoolExecutor(4) as pool:
        turned = [np.roll(views, step, axis=0) for step in range(8)]
        for step, answer in enumerate(pool.map(network.raw, turned)):
            np.testing.assert_allclose(answer, np.roll(alone, step, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("pictures", "at_once", "sizes"),
    [(1, 4, [1]), (3, 4, [1, 1, 1]), (5, 4, [2, 2, 1]), (32, 16, [2] * 16), (3, 1, [2, 1])],
)
def test_few_pictures_go_to_as_many_cores(pictures, at_once, sizes):
    views = np.zeros((pictures, 3, 8, 8), np.float32)
    assert [len(piece) for piece in pieces_of(views, at_once)] == sizes


def small_bundle(folder, network, loss_name, seed, temperature, votes=()):
    """An untrained bundle, but with batch statistics and a temperature that are not the neutral ones."""
    import torch

    from zoobot_3d.infer.bundle import BundleInfo, save_bundle
    from zoobot_3d.networks import build_model
    from zoobot_3d.networks.losses import build_loss

    torch.manual_seed(seed)
    loss = build_loss(loss_name)
    options = {"widths": [8, 8, 8, 8]} | ({"depths": [1, 1, 1, 1]} if network == "fast_unet" else {})
    model = build_model(network, loss.out_channels, initial_raw=loss.initial_raw, vote_answers=len(votes), **options)
    model.train()(torch.rand(8, 3, 64, 64))
    info = BundleInfo(network, model.options, loss.out_channels, loss_name, 64, 0.8)
    return save_bundle(folder, model.eval(), dataclasses.replace(info, temperature=temperature, votes=votes))


VOTES = ("bar-dr5_strong", "bar-dr5_weak", "bar-dr5_no")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", ["fast_unet", "mobile_unet"])
def test_ensembles_temperatures_uncertainty_and_votes_agree_with_torch(engine, network, tmp_path):
    bundles = [
        small_bundle(tmp_path / "a", network, "beta_binomial", 1, (2.0, 0.5), VOTES),
        small_bundle(tmp_path / "b", network, "beta_binomial", 2, (0.7, 1.5)),
    ]
    pictures = list(np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3), dtype=np.uint8))
    torch_says = zoobot_3d.load_segmenter(bundles, engine="torch", device="cpu", tta=True)
    says = zoobot_3d.load_segmenter(bundles, engine=engine, tta=True)
    for picture in pictures:
        for one, other in zip(
            torch_says.segment_with_uncertainty(picture), says.segment_with_uncertainty(picture), strict=True
        ):
            assert one.std() > 0
            assert np.abs(one - other).max() < LIMIT
    expected, found = torch_says.vote_fractions(pictures), says.vote_fractions(pictures)
    assert list(found) == list(expected) and len(found) == 3
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=LIMIT)


def test_a_bundle_without_a_graph_runs_with_torch_and_is_upgraded(tiny_bundle, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny_bundle, old)
    (old / "network.onnx").unlink()
    assert zoobot_3d.load_segmenter(old).engine == "torch"
    with pytest.raises(ConfigError, match="upgrade-bundle"):
        zoobot_3d.load_segmenter(old, engine="onnx")
    upgrade_bundle(old)
    assert zoobot_3d.load_segmenter(old, engine="onnx").engine == "onnx"


def test_a_graph_has_a_checksum_and_is_written_anew_where_it_was_damaged(tiny_bundle, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    graph = (damaged / "network.onnx").read_bytes()
    told = json.loads((damaged / "bundle.json").read_text())
    assert told["graph_sha256"] == hashlib.sha256(graph).hexdigest()
    (damaged / "network.onnx").write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    line = (
        r"damaged/network\.onnx: is not the file that bundle\.json was written with \(sha256 differs\); write it anew"
    )
    with pytest.raises(BundleError, match=line) as caught:
        zoobot_3d.load_segmenter(damaged, engine="onnx")
    assert "\n" not in str(caught.value)
    upgrade_bundle(damaged)
    assert zoobot_3d.load_segmenter(damaged, engine="onnx").engine == "onnx"


def without_checksum(bundle):
    """Make bundle.json as it was before graphs had a checksum."""
    told = json.loads((bundle / "bundle.json").read_text())
    del told["graph_sha256"]
    (bundle / "bundle.json").write_text(json.dumps(told))


def test_a_bundle_from_before_graphs_had_a_checksum_is_the_same_and_gets_one_when_upgraded(tiny_bundle, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny_bundle, old)
    without_checksum(old)
    assert zoobot_3d.load_segmenter(old, engine="onnx").engine == "onnx"
    assert _identity([open_bundle(old)]) == _identity([open_bundle(tiny_bundle)])
    save_info(old, read_info(old))
    assert "graph_sha256" not in json.loads((old / "bundle.json").read_text())
    upgrade_bundle(old)
    save_info(old, read_info(old))
    assert "graph_sha256" in json.loads((old / "bundle.json").read_text())


def test_a_graph_that_names_a_file_is_refused(tiny_bundle, tmp_path):
    import onnx

    hostile = tmp_path / "hostile"
    shutil.copytree(tiny_bundle, hostile)
    without_checksum(hostile)
    model = onnx.load(hostile / "network.onnx", load_external_data=False)
    tensor = model.graph.initializer.add(name="stolen", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    (hostile / "network.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="keeps data in other files"):
        zoobot_3d.load_segmenter(hostile, engine="onnx")


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0ORTM rest", b"..location.."])
def test_what_is_no_graph_of_ours(content):
    with pytest.raises(ConfigError):
        check_graph(content)


def test_garbage_and_unknown_operators_are_refused(tiny_bundle, tmp_path):
    import onnx

    for name in ("garbage", "operator"):
        bad = tmp_path / name
        shutil.copytree(tiny_bundle, bad)
        without_checksum(bad)
        model = onnx.load(bad / "network.onnx")
        model.graph.node[0].op_type = "RunThis"
        (bad / "network.onnx").write_bytes(b"garbage" if name == "garbage" else model.SerializeToString())
        with pytest.raises(BundleError, match="cannot be run by ONNX Runtime"):
            zoobot_3d.load_segmenter(bad, engine="onnx")
