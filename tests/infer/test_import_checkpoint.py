"""Published checkpoints, against the network as the formats' description words it, written anew here."""

import argparse
import math
import os
import zipfile

import numpy as np
import pytest
import torch
from torch.nn import functional

from zoobot_3d.cli import main
from zoobot_3d.errors import BadFileError, BundleError, ConfigError
from zoobot_3d.infer.bundle import load_bundle
from zoobot_3d.infer.import_checkpoint import PUBLISHED_FIELD_FRACTION, import_checkpoint
from zoobot_3d.infer.segmenter import load_segmenter
from zoobot_3d.learn.settings import load_config
from zoobot_3d.networks import build_model

SMALL = (8, 32, 16, 32)
PUBLISHED = (32, 128, 64, 128)


class Maker:
    """Makes random weights under published names."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.state = {}

    def random(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(shape, generator=self.generator) * scale + shift

    def conv(self, name, n_in, n_out, kernel, transposed=False):
        shape = (n_in, n_out) if transposed else (n_out, n_in)
        self.state[f"{name}.weight"] = self.random(*shape, kernel, kernel, scale=1 / math.sqrt(n_in * kernel**2))
        self.state[f"{name}.bias"] = self.random(n_out, scale=0.1)

    def conv_norm(self, name, n_in, n_out):
        self.conv(f"{name}.conv", n_in, n_out, 3)
        self.state[f"{name}.batchnorm.weight"] = self.random(n_out, scale=0.2, shift=1)
        self.state[f"{name}.batchnorm.bias"] = self.random(n_out, scale=0.2)
        self.state[f"{name}.batchnorm.running_mean"] = self.random(n_out, scale=0.2)
        self.state[f"{name}.batchnorm.running_var"] = self.random(n_out).abs() + 0.5
        self.state[f"{name}.batchnorm.num_batches_tracked"] = torch.tensor(1880)

    def residual(self, name, n_in, n_out):
        self.conv_norm(f"{name}.block1", n_in, n_out)
        self.conv_norm(f"{name}.block2", n_out, n_out)
        if n_in != n_out:
            self.conv(f"{name}.res_conv", n_in, n_out, 1)


def published_state(widths=SMALL, seed=0):
    make = Maker(seed)
    for level, width in enumerate(widths):
        make.residual(f"encoder.downs.{level}.0", widths[level - 1] if level else 3, width)
        make.residual(f"encoder.downs.{level}.1", width, width)
        if level < len(widths) - 1:
            make.conv(f"encoder.downs.{level}.3.conv", width, width, 3)
    make.residual("encoder.mid_block1", widths[-1], widths[-1])
    make.residual("encoder.mid_block2", widths[-1], widths[-1])
    for stage, level in enumerate(range(len(widths) - 1, 0, -1)):
        above = widths[level - 1]
        make.residual(f"decoder.ups.{stage}.0", 2 * widths[level], above)
        make.residual(f"decoder.ups.{stage}.1", above, above)
        make.conv(f"decoder.ups.{stage}.2.conv", above, above, 4, transposed=True)
    make.conv_norm("decoder.final_conv.0", widths[0], 3)
    make.conv("decoder.final_conv.2", 3, 2, 1)
    return make.state


def published_forward(state, x):
    """The network in words: FORMATS, section 5."""
    n_levels = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.downs."))

    def conv(name, x, **options):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def conv_norm(name, x):
        x = conv(f"{name}.conv", x, padding=1)
        mean, var, weight, bias = (
            state[f"{name}.batchnorm.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def residual(name, x):
        inner = conv_norm(f"{name}.block2", functional.mish(conv_norm(f"{name}.block1", x)))
        same = conv(f"{name}.res_conv", x) if f"{name}.res_conv.weight" in state else x
        return functional.mish(inner + same)

    skips = []
    for level in range(n_levels):
        x = residual(f"encoder.downs.{level}.1", residual(f"encoder.downs.{level}.0", x))
        skips.append(x)
        if level < n_levels - 1:
            x = conv(f"encoder.downs.{level}.3.conv", x, stride=2, padding=1)
    x = residual("encoder.mid_block2", residual("encoder.mid_block1", x))
    for stage in range(n_levels - 1):
        x = torch.cat([x, skips[n_levels - 1 - stage]], dim=1)
        x = residual(f"decoder.ups.{stage}.1", residual(f"decoder.ups.{stage}.0", x))
        up = f"decoder.ups.{stage}.2.conv"
        x = functional.conv_transpose2d(x, state[f"{up}.weight"], state[f"{up}.bias"], stride=2, padding=1)
    return conv("decoder.final_conv.2", functional.mish(conv_norm("decoder.final_conv.0", x))).relu()


def twins(state):
    """Second names under which the published code wrote the layers of a block, as members of a Sequential -> first."""
    return {
        name.replace(own, other): name
        for name in state
        for own, other in ((".conv.", ".block.0."), (".batchnorm.", ".block.1."))
        if own in name and (".block1." in name or ".block2." in name or ".final_conv.0." in name)
    }


def write(path, state, **content):
    hyper = {"input_size": 64, "drop_rates": [0, 0.2, 0.3, 0.4], "seg_loss_metric": "l1", "learning_rate": 0.001}
    torch.save({"epoch": 93, "global_step": 1880, "state_dict": state, "hyper_parameters": hyper} | content, path)
    return path


@pytest.mark.parametrize("widths", [SMALL, (4, 8, 8), PUBLISHED], ids=str)
@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
def test_an_imported_network_does_the_same(widths, prefix, tmp_path):
    state = published_state(widths)
    file = write(tmp_path / "p.ckpt", {prefix + name: value for name, value in state.items()})
    bundle = load_bundle(import_checkpoint(file, tmp_path / "bundle"))
    picture = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    expected = published_forward(state, picture)
    assert expected.std() > 0.01
    with torch.inference_mode():
        raw = bundle.model(picture)
    torch.testing.assert_close(raw, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bundle.fraction(raw), expected.clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_the_published_widths_give_the_published_number_of_parameters(tmp_path):
    bundle = load_bundle(import_checkpoint(write(tmp_path / "p.ckpt", published_state(PUBLISHED)), tmp_path / "b"))
    assert sum(p.numel() for p in bundle.model.parameters()) == 3_340_209
    assert bundle.model.options["width"] == 32
    assert bundle.model.options["multipliers"] == [1, 4, 2, 4]


def test_the_published_configuration_is_of_that_network():
    config = load_config("published")
    model = build_model(config.model.name, **config.model.options)
    assert sum(p.numel() for p in model.parameters()) == 3_340_209
    assert config.data.field_fraction == PUBLISHED_FIELD_FRACTION


@pytest.mark.parametrize("both", [True, False])
def test_layers_that_have_a_second_name(both, tmp_path):
    state = published_state()
    second = twins(state)
    assert second["encoder.downs.0.0.block1.block.0.weight"] == "encoder.downs.0.0.block1.conv.weight"
    given = state | {name: state[first] for name, first in second.items()}
    if not both:
        given = {name: value for name, value in given.items() if name not in second.values()}
    bundle = load_bundle(import_checkpoint(write(tmp_path / "p.ckpt", given), tmp_path / "b"))
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(bundle.model(picture), published_forward(state, picture), atol=1e-5, rtol=1e-5)


def test_a_second_name_with_other_values_is_unknown(tmp_path):
    state = published_state()
    name = "encoder.downs.0.0.block1.block.0.weight"
    state[name] = state[twins(state)[name]] + 1
    with pytest.raises(BadFileError, match=f"1 parameters unknown: {name};"):
        import_checkpoint(write(tmp_path / "p.ckpt", state), tmp_path / "b")


def test_what_a_bundle_says_of_it(tmp_path):
    info = load_bundle(import_checkpoint(write(tmp_path / "p.ckpt", published_state()), tmp_path / "b")).info
    assert (info.input_size, info.loss, info.out_channels) == (64, "l1", 2)
    assert info.field_fraction == PUBLISHED_FIELD_FRACTION == pytest.approx(math.sqrt(0.75), abs=1e-3)
    assert info.model_options["dropouts"] == [0, 0.2, 0.3, 0.4]
    assert info.model_options["relu_output"]
    assert (info.training["imported_from"], info.training["epochs"], info.training["steps"]) == ("p.ckpt", 93, 1880)


def test_without_hyperparameters_the_published_ones(tmp_path):
    file = write(tmp_path / "p.ckpt", published_state(), hyper_parameters={})
    info = load_bundle(import_checkpoint(file, tmp_path / "b")).info
    assert (info.input_size, info.model_options["dropouts"]) == (224, [0.0, 0.1, 0.25, 0.13])


def test_what_is_asked_for_comes_first(tmp_path):
    file = write(tmp_path / "p.ckpt", published_state())
    info = load_bundle(import_checkpoint(file, tmp_path / "b", input_size=96, field_fraction=0.75)).info
    assert (info.input_size, info.field_fraction) == (96, 0.75)
    with pytest.raises(ConfigError, match=r"input_size: 100 is not a multiple of 8, .*; use 104"):
        import_checkpoint(file, tmp_path / "b", input_size=100)
    with pytest.raises(ConfigError, match=r"field_fraction: 1\.5 is not from 0\.05 to 1"):
        import_checkpoint(file, tmp_path / "b", field_fraction=1.5)
    with pytest.raises(ConfigError, match=r"input_size: 80000 is not from 8 to 2048 pixels"):
        import_checkpoint(file, tmp_path / "b", input_size=80_000)


def test_missing_and_unknown_and_misshapen_are_all_listed(tmp_path):
    state = {f"model.{name}": value for name, value in published_state().items()}
    del state["model.encoder.mid_block1.block1.conv.bias"]
    for number in range(7):
        state[f"model.extra{number}"] = torch.zeros(1)
    state["stray"] = torch.zeros(1)
    state["model.decoder.final_conv.2.bias"] = torch.zeros(4)
    with pytest.raises(BadFileError) as caught:
        import_checkpoint(write(tmp_path / "p.ckpt", state), tmp_path / "b")
    message = str(caught.value)
    assert "1 parameters missing: model.encoder.mid_block1.block1.conv.bias;" in message
    extra = ", ".join(f"model.extra{number}" for number in range(5))
    assert f"8 parameters unknown: {extra} and 3 more;" in message
    assert "1 parameters of another shape: model.decoder.final_conv.2.bias (4,) instead of (2,);" in message
    assert "\n" not in message and len(message) < 600
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("gone", ["encoder.downs.0.0.block1.conv.weight", "encoder.downs.3.1.block2.batchnorm.bias"])
def test_the_one_missing_is_named_wherever_it_is(gone, tmp_path):
    state = published_state()
    del state[gone]
    with pytest.raises(BadFileError, match=f"p.ckpt: 1 parameters missing: {gone};"):
        import_checkpoint(write(tmp_path / "p.ckpt", state), tmp_path / "b")


class Evil:
    """Runs when unpickled."""

    def __reduce__(self):
        return (np.savetxt, ("ran", [1]))


def test_pickled_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "p.ckpt", published_state(), hyper_parameters={"x": Evil()})
    with pytest.raises(BadFileError, match=r"object of numpy\S*savetxt, which may run code.*save anew its state_dict"):
        import_checkpoint(file, tmp_path / "b")
    assert not (tmp_path / "ran").exists()


def test_a_class_that_is_not_plain_is_named(tmp_path):
    file = write(tmp_path / "p.ckpt", published_state(), hyper_parameters=argparse.Namespace(a=1))
    with pytest.raises(BadFileError, match=r"object of argparse\.Namespace") as caught:
        import_checkpoint(file, tmp_path / "b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read|is not a PyTorch checkpoint"),
        (b"not a checkpoint at all", "is not a PyTorch checkpoint|cannot be read"),
        (None, "no such file"),
    ],
)
def test_what_is_no_checkpoint(content, message, tmp_path):
    if content is not None:
        (tmp_path / "p.ckpt").write_bytes(content)
    with pytest.raises(BadFileError, match=message) as caught:
        import_checkpoint(tmp_path / "p.ckpt", tmp_path / "b")
    assert "\n" not in str(caught.value)


def test_a_truncated_checkpoint(tmp_path):
    file = write(tmp_path / "p.ckpt", published_state())
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(BadFileError, match="is not a PyTorch checkpoint"):
        import_checkpoint(file, tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.fill_(math.nan), r"conv\.weight holds NaN or infinite numbers"),
        (lambda value: value.fill_(math.inf), r"conv\.weight holds NaN or infinite numbers"),
        (lambda value: value.to(torch.int8), r"parameters of another type: encoder\.\S+ int8"),
        (lambda value: value.double(), r"parameters of another type: encoder\.\S+ float64"),
        (lambda value: value[0, 0, 0, 0].clone().expand(value.shape), "that repeats a few numbers"),
        (lambda value: value[0, 0, 0, 0].expand(10**12, 3, 3, 3), "that repeats a few numbers"),
        (lambda value: value[:, :2].clone(), "1 parameters of another shape: encoder"),
        (lambda value: value.tolist(), "1 parameters missing: encoder"),
    ],
)
def test_weights_that_are_none(change, message, tmp_path):
    state = published_state()
    name = "encoder.downs.0.0.block1.conv.weight"
    state[name] = change(state[name])
    with pytest.raises(BundleError if "NaN" in message else BadFileError, match=message) as caught:
        import_checkpoint(write(tmp_path / "p.ckpt", state), tmp_path / "b")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not (tmp_path / "b").exists()


def test_a_checkpoint_that_unpacks_to_more_than_itself(tmp_path):
    """Zeros compress to a thousandth; torch.save never compresses, but torch.load unpacks."""
    file = write(tmp_path / "p.ckpt", published_state() | {"x": torch.zeros(1_000_000)})
    with zipfile.ZipFile(file) as stored, zipfile.ZipFile(tmp_path / "q.ckpt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(BadFileError, match=r"q\.ckpt: unpacks to [\d,]+ bytes, more than a checkpoint has"):
        import_checkpoint(tmp_path / "q.ckpt", tmp_path / "b")


def test_lists_of_lists_of_lists(tmp_path):
    """Ten lists of ten references to the one before: a few bytes that would be written as ten billion values."""
    laughs = ["ha"]
    for _ in range(10):
        laughs = [laughs] * 10
    file = write(tmp_path / "p.ckpt", published_state(), hyper_parameters={"seg_loss_metric": laughs})
    with pytest.raises(BadFileError, match="holds more than 1,000,000 values"):
        import_checkpoint(file, tmp_path / "b")


@pytest.mark.parametrize(
    "hyper", [{"input_size": 10**40}, {"input_size": -3}, {"drop_rates": [math.nan] * 4}, {"drop_rates": 3}, [1], None]
)
def test_hyperparameters_that_cannot_be_are_the_published_ones(hyper, tmp_path):
    file = write(tmp_path / "p.ckpt", published_state(), hyper_parameters=hyper, epoch=10**300, global_step="x")
    info = load_bundle(import_checkpoint(file, tmp_path / "b")).info
    assert (info.input_size, info.training["epochs"], info.training["steps"]) == (224, None, None)
    assert info.model_options["dropouts"] == [0.0, 0.1, 0.25, 0.13]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_opened(kind, tmp_path):
    os.mkfifo(tmp_path / "p.ckpt") if kind == "pipe" else (tmp_path / "p.ckpt").mkdir()
    with pytest.raises(BadFileError, match=f"p.ckpt: is a {kind}, not a file"):
        import_checkpoint(tmp_path / "p.ckpt", tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": 1}, "has no state_dict"),
        ({"state_dict": {"layer.weight": torch.zeros(1)}}, "has 1 parameters, none called encoder.downs.0.0"),
        ({"state_dict": published_state(), "hyper_parameters": {"seg_loss_metric": "beta_binomial"}}, "beta_binomial"),
    ],
)
def test_other_checkpoints(content, message, tmp_path):
    torch.save(content, tmp_path / "p.ckpt")
    with pytest.raises(BadFileError, match=message):
        import_checkpoint(tmp_path / "p.ckpt", tmp_path / "b")


def test_from_the_command_line_to_masks(tmp_path, capsys):
    file = write(tmp_path / "p.ckpt", published_state())
    assert main(["import-checkpoint", str(file), "--input-size", "48", "--field-fraction", "0.75"]) == 0
    assert "published_unet" in capsys.readouterr().out
    segmenter = load_segmenter(tmp_path / "p")
    picture = np.random.default_rng(0).integers(0, 255, (424, 424, 3), dtype=np.uint8)
    assert segmenter.segment(picture).shape == (2, 424, 424)
    assert segmenter.bundle.info.field_fraction == 0.75
    assert main(["import-checkpoint", str(tmp_path / "none.ckpt"), str(tmp_path / "q")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
