import dataclasses
import hashlib
import json
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoobot_3d
from evil_pickle import Evil
from zoobot_3d.errors import BundleError
from zoobot_3d.infer.bundle import BundleInfo, load_bundle, read_info, save_bundle, save_info
from zoobot_3d.infer.bundle_files import FORMAT_VERSION
from zoobot_3d.infer.description import describe
from zoobot_3d.networks import build_model
from zoobot_3d.networks.losses import build_loss

OPTIONS = {"widths": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}


def make(loss: str = "bce"):
    torch.manual_seed(0)
    channels = build_loss(loss).out_channels
    model = build_model("fast_unet", channels, **OPTIONS)
    info = BundleInfo("fast_unet", model.options, channels, loss, 64, 0.75, training={"rows": {"train": 3}})
    return model, info


@pytest.fixture
def bundle(tmp_path):
    return save_bundle(tmp_path / "bundle", *make())


def nested(depth):
    """Lists within lists."""
    made = []
    for _ in range(depth):
        made = [made]
    return {"x": made}


def edit(bundle, **changes):
    """Change keys of bundle.json; None removes one."""
    file = bundle / "bundle.json"
    content = json.loads(file.read_text())
    content |= changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("loss", ["bce", "beta_binomial"])
def test_round_trip_predicts_the_same(tmp_path, loss):
    model, info = make(loss)
    for _ in range(3):  # move the batch statistics away from their start
        model(torch.rand(2, 3, 64, 64))
    loaded = load_bundle(save_bundle(tmp_path / "b", model, info))
    pictures = torch.rand(2, 3, 64, 64)
    expected = build_loss(loss).fraction(model.eval()(pictures))
    assert torch.equal(loaded.fraction(loaded.model(pictures)), expected)
    assert loaded.info == info
    assert not loaded.model.training
    assert loaded.path == tmp_path / "b"


def test_half_precision_takes_half_the_space_and_predicts_alike(tmp_path, bundle):
    whole = load_bundle(bundle)
    half = load_bundle(save_bundle(tmp_path / "half", whole.model, whole.info, half=True))
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (bundle, tmp_path / "half")]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    difference = half.fraction(half.model(picture)) - whole.fraction(whole.model(picture))
    assert 0 < difference.abs().max() < 2e-3


def test_the_default_comes_with_the_package():
    bundle = load_bundle()
    assert bundle.path.parent == Path(zoobot_3d.__file__).parent
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 8e6
    assert bundle.info == read_info("default")
    with pytest.raises(BundleError, match="no such folder"):
        load_bundle("./default")


def test_a_bundle_is_replaced_whole(tmp_path, bundle):
    model, info = make()
    torch.nn.init.zeros_(next(model.parameters()))
    save_bundle(bundle, model, info)
    assert next(load_bundle(bundle).model.parameters()).abs().sum() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]  # nothing temporary is left


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        save_bundle(tmp_path, *make())
    assert (tmp_path / "thesis.txt").exists()


def test_info_must_describe_the_network(tmp_path):
    model, _ = make("beta_binomial")
    with pytest.raises(BundleError, match="4 output channels, info says 2"):
        save_bundle(tmp_path / "b", model, make("bce")[1])


def test_a_bundle_of_format_1_still_loads(bundle):
    edit(bundle, format_version=1, temperature=None, votes=None, graph_sha256=None)  # None removes what it did not know
    assert set(json.loads((bundle / "bundle.json").read_text())) == {
        *("format", "format_version", "weights_sha256", "model_name", "model_options", "out_channels", "loss"),
        *("input_size", "field_fraction", "classes", "n_asked", "training", "zoobot_3d"),
    }
    loaded = load_bundle(bundle)
    assert loaded.info.temperature == (1.0, 1.0) and loaded.info.votes == ()
    raw = torch.randn(1, 2, 3, 3)
    assert torch.equal(loaded.fraction(raw), raw.sigmoid())


def test_temperature_divides_the_logit_and_leaves_0_and_1(tmp_path):
    model, info = make()
    model.add_vote_head(3)
    info = dataclasses.replace(info, temperature=(2.0, 0.5), votes=("bar-dr5_strong", "bar-dr5_weak", "bar-dr5_no"))
    loaded = load_bundle(save_bundle(tmp_path / "b", model, info))
    assert loaded.info == info
    raw = torch.tensor([-200.0, -2, 0, 1, 200]).expand(1, 2, 1, 5)
    expected = torch.stack([raw[0, 0] / 2, raw[0, 1] / 0.5]).sigmoid()[None]
    assert torch.allclose(loaded.fraction(raw), expected, atol=1e-6)
    assert loaded.fraction(raw)[..., [0, 2, 4]].tolist() == [[[[0, 0.5, 1]]] * 2]


def test_a_vote_head_is_kept_and_must_be_named(tmp_path):
    model, info = make()
    model.add_vote_head(3)
    with pytest.raises(BundleError, match="vote head has 3 answers, info names 0"):
        save_bundle(tmp_path / "b", model, info)
    columns = ("bar-dr5_strong", "bar-dr5_weak", "bar-dr5_no")
    loaded = load_bundle(save_bundle(tmp_path / "b", model, dataclasses.replace(info, votes=columns)))
    assert loaded.info.votes == columns
    model.eval()
    features = model.encoder(torch.rand(2, 3, 32, 32))
    assert torch.equal(loaded.model.vote_head(features), model.vote_head(features))


def test_save_info_leaves_the_weights(tmp_path, bundle):
    weights = bundle / "weights.safetensors"
    before = weights.stat()
    info = dataclasses.replace(read_info(bundle), temperature=(1.5, 1.25))
    save_info(bundle, info)
    assert load_bundle(bundle).info == info
    assert (weights.stat().st_ino, weights.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(path.name for path in bundle.iterdir()) == ["bundle.json", "network.onnx", "weights.safetensors"]
    with pytest.raises(BundleError, match="another loss"):
        save_info(bundle, dataclasses.replace(info, loss="mse"))


def test_read_info_needs_no_weights(bundle):
    (bundle / "weights.safetensors").unlink()
    assert read_info(bundle).input_size == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, r"has format 3, .* reads up to 2; update it"),
        ({"format_version": None}, "has no format_version"),
        ({"format": "other"}, "is not a zoobot-3d bundle"),
        ({"loss": None, "input_size": None}, "misses loss, input_size"),
        ({"colour": "blue"}, "has unknown keys colour"),
        ({"format_version": 0}, "has no format_version"),
        ({"input_size": "64"}, "input_size is '64', not a whole number from 8 to 2,048"),
        ({"input_size": True}, "input_size is True, not a whole number"),
        ({"input_size": 10**9}, "input_size is 1000000000, not a whole number from 8 to 2,048"),
        ({"input_size": 65}, "input_size is 65, not a multiple of 32, which fast_unet needs, such as 64"),
        ({"field_fraction": 1.5}, "field_fraction is 1.5, not a fraction of a picture's side, 0.05 to 1"),
        ({"field_fraction": 1e-12}, "field_fraction is 1e-12, not a fraction"),
        ({"field_fraction": math.nan}, "field_fraction is nan, not a fraction"),
        ({"n_asked": -4}, "n_asked is -4, not a whole number from 1 to 10,000"),
        ({"n_asked": 0}, "n_asked is 0, not a whole number"),
        ({"n_asked": 15.5}, "n_asked is 15.5, not a whole number"),
        ({"out_channels": -2}, "out_channels is -2, not a whole number"),
        ({"out_channels": 10**12}, "out_channels is 1000000000000, not a whole number"),
        ({"training": [1]}, r"training is \[1\], not a mapping"),
        ({"training": nested(100)}, "nested more than 16 deep"),
        ({"classes": ["bar", "spiral"]}, r"classes is \['bar', 'spiral'\], not"),
        ({"model_name": "vast_unet"}, "names a network that cannot be built .*vast_unet"),
        ({"model_options": {"width": 3}}, "names a network that cannot be built"),
        (
            {"model_options": OPTIONS | {"widths": [10**9] * 4}},
            "widths is 1000000000; give a whole number from 1 to",
        ),
        ({"model_options": OPTIONS | {"widths": "8888"}}, "widths is '8888'; give a list of 1 to 8 numbers"),
        ({"model_options": OPTIONS | {"widths": [8, 8, 8, -8]}}, "widths is -8; give a whole number"),
        ({"model_options": OPTIONS | {"depths": [10**7] * 4}}, "depths is 10000000; give a whole number from 0 to 64"),
        ({"model_options": {"widths": [8] * 999, "depths": [1] * 999}}, "give a list of 1 to 8 numbers"),
        ({"loss": "hinge"}, "no loss is called 'hinge'"),
        ({"loss": "beta_binomial"}, "out_channels is 2, loss beta_binomial needs 4"),
        ({"temperature": [1.0]}, r"temperature is \[1.0\], not a number from 0.01 to 100 for each"),
        ({"temperature": [1.0, 0]}, "temperature is .*, not a number from"),
        ({"temperature": [1.0, math.inf]}, "temperature is .*, not a number from"),
        ({"temperature": 2.0}, "temperature is 2.0, not a number from"),
        ({"votes": [3]}, r"votes is \[3\], not columns of Galaxy Zoo's questions"),
        ({"votes": ["id", "error"]}, r"votes is \['id', 'error'\], not columns of"),
        ({"votes": ["bar-dr5_weak", "bar-dr5_strong", "bar-dr5_no"]}, "with all answers of each in order"),
        ({"votes": ["bar-dr5_strong", "bar-dr5_weak", "bar-dr5_no"] * 2}, "not columns of"),
        ({"graph_sha256": 0}, "graph_sha256 is 0, not a text"),
        ({"weights_sha256": "0"}, r"weights\.safetensors: is not the file that bundle\.json was written with"),
    ],
)
def test_wrong_info(bundle, changes, message):
    edit(bundle, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(bundle)
    assert str(bundle) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_shape_names_the_tensor(bundle):
    edit(bundle, model_options={**OPTIONS, "widths": [8, 8, 8, 16]})
    with pytest.raises(BundleError, match=r"has shape \(.*\), the network named in bundle.json has \(.*16"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"), [("drop", "misses 1 tensors, the first"), ("add", "has not, the first extra")]
)
def test_missing_and_unknown_tensors(bundle, change, message):
    file = bundle / "weights.safetensors"
    weights = load_file(file)
    if change == "drop":
        weights.popitem()
    else:
        weights["extra"] = torch.zeros(1)
    save_file(weights, file)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_truncated_weights(bundle):
    file = bundle / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"weights\.safetensors: cannot be read"):
        load_bundle(bundle)


def test_missing_weights(bundle):
    (bundle / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors: is missing"):
        load_bundle(bundle)


def test_broken_json(bundle):
    (bundle / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"bundle\.json: cannot be read"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": "zoobot-3d bundle", "format": "other"}', "cannot be read .a key is there twice"),
        ("1" * 10_000, "cannot be read"),
        ("[]", "is not a zoobot-3d bundle"),
        ("\ud800".encode("utf-8", "surrogatepass"), "cannot be read"),
        (b" " * (5 << 20), "has 5,242,880 bytes, more than"),
    ],
)
def test_json_that_is_no_bundles(bundle, text, message):
    (bundle / "bundle.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for call in (read_info, load_bundle, describe):
        with pytest.raises(BundleError, match=message) as caught:
            call(bundle)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors"])
def test_a_pipe_is_not_opened(bundle, name):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    with pytest.raises(BundleError, match=f"{name}: is a pipe"):
        load_bundle(bundle)


def rewrite(bundle, change):
    """Change the weights, and write their checksum down, as whoever made them so would."""
    file = bundle / "weights.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    edit(bundle, weights_sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def first_of(weights, ending):
    return next(name for name in sorted(weights) if name.endswith(ending))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_numbers(bundle, value):
    rewrite(bundle, lambda weights: weights[first_of(weights, "weight")].view(-1)[-1:].fill_(value))
    with pytest.raises(BundleError, match=r"weights\.safetensors: \S+weight holds NaN or infinite numbers; copy or"):
        load_bundle(bundle)


def test_negative_variances(bundle):
    rewrite(bundle, lambda weights: weights[first_of(weights, "running_var")].fill_(-1))
    with pytest.raises(BundleError, match="running_var holds negative variances"):
        load_bundle(bundle)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.float64, torch.int64])
def test_weights_of_another_type(bundle, dtype):
    def change(weights):
        name = first_of(weights, "weight")
        weights[name] = weights[name].to(dtype)

    rewrite(bundle, change)
    with pytest.raises(BundleError, match=r"\S+weight is of type \w+, not F32 or F16 or BF16"):
        load_bundle(bundle)


def test_nan_is_not_saved(tmp_path):
    model, info = make()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(BundleError, match="holds NaN or infinite numbers; train it anew, with a lower"):
        save_bundle(tmp_path / "b", model, info)
    assert not (tmp_path / "b").exists()


def test_a_network_of_any_size_takes_no_memory_before_its_weights_are_seen(bundle):
    """4096 channels at eight levels are 5 billion weights, and would take 20 GB."""
    edit(bundle, model_options={"widths": [4096] * 8, "depths": [1] * 8}, input_size=1024)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=r"weights\.safetensors: misses \d+ tensors"):
        load_bundle(bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_weights_larger_than_any_network_are_not_read(bundle):
    with (bundle / "weights.safetensors").open("r+b") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    with pytest.raises(BundleError, match="has 1,099,511,627,776 bytes, more than the 1,073,741,824"):
        load_bundle(bundle)
    assert "weights missing or damaged" in describe(bundle)


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors"])
@pytest.mark.parametrize("dump", ["pickle", "torch"])
def test_no_pickle_runs(bundle, tmp_path, name, dump):
    evil = Evil(str(tmp_path / "ran"))
    if dump == "torch":
        torch.save(evil, bundle / name)
    else:
        (bundle / name).write_bytes(pickle.dumps(evil))
    with pytest.raises(BundleError, match=f"{name}: cannot be read"):
        load_bundle(bundle)
    assert not (tmp_path / "ran").exists()


def test_loading_leaves_random_numbers_as_they_are(bundle):
    torch.manual_seed(3)
    load_bundle(bundle)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match="no such folder"):
        load_bundle(tmp_path / "none")
