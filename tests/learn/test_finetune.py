"""Starting from a bundle, learning rates by level, a frozen encoder; and all of it through a training run."""

import copy
from dataclasses import replace

import pytest
import torch
from pytorch_lightning import Callback

from timm_network import FRESH, NETWORKS, SMALL_TIMM, needs_timm
from zoobot_3d.cli import main
from zoobot_3d.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from zoobot_3d.errors import BundleError, ConfigError
from zoobot_3d.infer.bundle import Bundle, BundleInfo, load_bundle, save_bundle
from zoobot_3d.learn.finetune import encoder_is_frozen, freeze_encoder, parameter_groups, parameter_levels, start_from
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.train import train
from zoobot_3d.networks import build_model
from zoobot_3d.networks.losses import build_loss

TINY = {
    "fast_unet": {"widths": [8, 8, 8], "depths": [0, 1, 1]},
    "mobile_unet": {"widths": [8, 8, 8, 8]},
    "published_unet": {"width": 4, "multipliers": [1, 2, 2], "dropouts": [0.0, 0.1, 0.1], "relu_output": False},
    "timm_unet": SMALL_TIMM,
}
LAST = {"fast_unet": "head.conv", "mobile_unet": "head.conv", "published_unet": "head.2", "timm_unet": "head.conv"}


def build(name="fast_unet", loss="bce", seed=0, **options):
    torch.manual_seed(seed)
    objective = build_loss(loss)
    model = build_model(name, objective.out_channels, initial_raw=objective.initial_raw, **(TINY[name] | options))
    return model, objective


def make_bundle(path, name="fast_unet", loss="bce", seed=7, field_fraction=0.8, **options):
    """A bundle whose last layer, and batch norms, are far from those of a fresh network."""
    model, objective = build(name, loss, seed, **options)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) / 20)
        last = model.get_submodule(LAST[name])
        torch.nn.init.normal_(last.weight)
        last.bias.copy_(torch.linspace(-2, 2, len(last.bias)))  # as far apart whatever the processor draws
    info = BundleInfo(name, model.options, objective.out_channels, loss, 32, field_fraction)
    return save_bundle(path, model, info)


class TestStartFrom:
    @pytest.mark.parametrize("name", NETWORKS)
    @pytest.mark.parametrize(("old", "new"), [("bce", "bce"), ("l1", "mse"), ("beta_binomial", "beta_binomial")])
    def test_all_is_taken_over_where_outputs_mean_the_same(self, name, old, new, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b", name, old))
        model, loss = build(name, new)
        told = start_from(model, loss, bundle)
        assert told == f"started from {bundle.path}: all of it"
        for key, value in model.state_dict().items():
            assert torch.equal(value, bundle.model.state_dict()[key]), key

    @pytest.mark.parametrize("name", NETWORKS)
    @pytest.mark.parametrize(("old", "new"), [("bce", "beta_binomial"), ("beta_binomial", "bce")])
    def test_means_are_taken_over_between_the_likelihoods(self, name, old, new, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b", name, old))
        model, loss = build(name, new)
        fresh = build(name, new)[0]
        assert "concentrations" in start_from(model, loss, bundle)
        pictures = torch.rand(2, 3, 32, 32)
        raw = model.eval()(pictures)
        expected = bundle.fraction(bundle.model(pictures))
        assert abs(expected[:, 0].mean() - expected[:, 1].mean()) > 0.02  # so that no channel passes for another
        torch.testing.assert_close(loss.fraction(raw), expected, rtol=1e-4, atol=1e-4)  # other kernels, by processor
        if new == "beta_binomial":  # the concentrations are what a fresh last layer makes of the features
            model.set_submodule(LAST[name], fresh.get_submodule(LAST[name]))
            torch.testing.assert_close(raw[:, 1::2], model(pictures)[:, 1::2])

    def test_a_deeper_network_starts_with_the_same_answer(self, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b"))
        model, loss = build(depths=[1, 2, 3])
        told = start_from(model, loss, bundle)
        assert told.endswith("all of it; 4 more residual blocks start as the identity")
        pictures = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(model.eval()(pictures), bundle.model(pictures))
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_a_shallower_network_is_refused(self, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b"))
        with pytest.raises(BundleError, match=r"is not the one asked for: .* the first encoder\.levels\.2\.0\."):
            start_from(*build(depths=[0, 1, 0]), bundle)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_last_layer_stays_fresh_between_fractions_and_logits(self, name, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b", name, "l1"))
        model, loss = build(name, "bce")
        fresh = copy.deepcopy(model.state_dict())
        assert "all but the last layer" in start_from(model, loss, bundle)
        for key, value in model.state_dict().items():
            assert torch.equal(value, (fresh if key.startswith(LAST[name]) else bundle.model.state_dict())[key]), key

    def test_a_network_of_another_shape_is_one_line(self, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b"))
        for options in ({"widths": [8, 8, 16]}, {"widths": [8, 8], "depths": [1, 1]}):
            model, loss = build(**options)
            before = copy.deepcopy(model.state_dict())
            with pytest.raises(
                BundleError, match=r"b: its network, fast_unet, is not .*; leave out model\.\*"
            ) as caught:
                start_from(model, loss, bundle)
            assert "\n" not in str(caught.value)
            assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_another_network_is_one_line(self, tmp_path):
        bundle = load_bundle(make_bundle(tmp_path / "b"))
        with pytest.raises(
            BundleError, match=r"fast_unet, is not the one asked for: [0-9]+ tensors differ, the first "
        ):
            start_from(*build("published_unet"), bundle)

    def test_a_vote_head_is_taken_over_only_for_the_same_questions(self, tmp_path):
        loss = build_loss("bce")
        models = [build_model("fast_unet", 2, vote_answers=3, **TINY["fast_unet"]) for _ in range(2)]
        info = BundleInfo("fast_unet", models[0].options, 2, "bce", 32, 0.8, votes=("a", "b", "c"))
        bundle = Bundle(models[0], loss, info, tmp_path)
        other = models[1].vote_head.linear.weight.clone()
        told = start_from(models[1], loss, bundle, votes=("c", "b", "a"))
        assert told.endswith("all of it; the vote head starts anew")
        assert torch.equal(models[1].vote_head.linear.weight, other)
        assert start_from(models[1], loss, bundle, votes=("a", "b", "c")).endswith(": all of it")
        assert torch.equal(models[1].vote_head.linear.weight, models[0].vote_head.linear.weight)
        plain, _ = build()
        told = start_from(plain, loss, bundle)  # a network without one needs none
        assert told.endswith("all of it; its vote head is left out")
        assert torch.equal(plain.head.conv.weight, models[0].head.conv.weight)


class TestLevels:
    def test_fast(self):
        levels = parameter_levels(build_model("fast_unet", vote_answers=2, **TINY["fast_unet"]))
        expected = {
            "head.conv.weight": 0,
            "vote_head.linear.bias": 0,
            "decoder.blocks.1.first.0.weight": 1,
            "decoder.narrow.0.0.weight": 2,
            "encoder.context.weight": 3,
            "encoder.levels.2.0.first.0.weight": 3,
            "encoder.downs.2.0.weight": 3,
            "encoder.downs.1.1.bias": 4,
            "encoder.stem.0.weight": 5,
        }
        assert {name: levels[name] for name in expected} == expected

    def test_published(self):
        levels = parameter_levels(build_model("published_unet"))
        expected = {
            "head.0.conv.weight": 0,
            "head.2.bias": 0,
            "decoder.ups.2.0.block1.conv.weight": 1,
            "decoder.ups.0.2.conv.weight": 3,
            "encoder.mid_block2.block1.conv.weight": 4,
            "encoder.downs.3.0.block1.conv.weight": 4,
            "encoder.downs.2.3.conv.bias": 5,
            "encoder.downs.0.0.block1.conv.weight": 7,
        }
        assert {name: levels[name] for name in expected} == expected

    @pytest.mark.parametrize("name", NETWORKS)
    def test_every_parameter_has_a_level_and_none_is_empty(self, name):
        model = build_model(name, **FRESH.get(name, {}))
        levels = parameter_levels(model)
        assert list(levels) == [key for key, _ in model.named_parameters()]
        down = {"mobile_unet": 6, "timm_unet": 1}.get(name, 4)
        assert set(levels.values()) == set(range(1 + 3 + down))  # head, three stages up, levels down


class TestGroups:
    def test_rates_fall_by_the_factor_from_head_to_first_level(self):
        model, _ = build()
        groups = parameter_groups(model, 0.1, 0.3, 0.5)
        rate = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
        assert rate[id(model.head.conv.weight)] == (0.1, 0.3)
        assert rate[id(model.head.conv.bias)] == (0.1, 0.0)
        assert rate[id(model.decoder.narrow[0][0].weight)] == pytest.approx((0.025, 0.3))
        assert rate[id(model.encoder.stem[0].weight)] == pytest.approx((0.1 / 32, 0.3))
        assert rate[id(model.encoder.stem[1].weight)] == pytest.approx((0.1 / 32, 0.0))
        assert sum(len(group["params"]) for group in groups) == len(rate) == len(list(model.parameters()))
        assert groups[0]["lr"] == 0.1  # what is logged

    def test_one_rate_needs_two_groups(self):
        weights, vectors = parameter_groups(build()[0], 0.1, 0.3)
        assert (weights["lr"], weights["weight_decay"]) == (0.1, 0.3)
        assert (vectors["lr"], vectors["weight_decay"]) == (0.1, 0.0)


class TestFreezing:
    def test_frozen_and_thawed(self):
        model, _ = build("published_unet")
        model.train()
        freeze_encoder(model, True)
        assert not any(p.requires_grad for p in model.encoder.parameters())
        assert not any(m.training for m in model.encoder.modules())
        assert all(p.requires_grad for p in model.decoder.parameters())
        assert all(m.training for m in model.decoder.modules())
        freeze_encoder(model, False)
        assert all(p.requires_grad for p in model.parameters())
        assert all(m.training for m in model.encoder.modules())

    @needs_timm
    def test_an_encoder_of_timm_has_no_levels_to_freeze(self):
        with pytest.raises(ConfigError, match=r"frozen_levels: this encoder has no levels.*use train\.freeze_encoder"):
            freeze_encoder(build("timm_unet")[0], False, 1)

    @pytest.mark.parametrize(
        ("name", "first"), [("fast_unet", "downs.1.0.weight"), ("mobile_unet", "levels.1.0.expand")]
    )
    def test_first_levels(self, name, first):
        model, _ = build(name)
        freeze_encoder(model.train(), False, 2)
        levels = parameter_levels(model)
        early = {key for key, level in levels.items() if level > max(levels.values()) - 2}
        assert {key for key, p in model.named_parameters() if not p.requires_grad} == early
        assert any(key.startswith(f"encoder.{first}") for key in early)
        norms = {key: m for key, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
        assert {key for key, m in norms.items() if not m.training} == {key for key in norms if f"{key}.weight" in early}
        freeze_encoder(model, True, 2)
        assert not any(p.requires_grad for p in model.encoder.parameters())

    def test_more_levels_than_there_are(self):
        with pytest.raises(ConfigError, match="frozen_levels: 3 is too many of 3 levels; use train"):
            freeze_encoder(build()[0], False, 3)

    @pytest.mark.parametrize(
        ("epochs", "epoch", "frozen"), [(0, 0, False), (2, 0, True), (2, 1, True), (2, 2, False), ("all", 99, True)]
    )
    def test_epochs(self, epochs, epoch, frozen):
        assert encoder_is_frozen(epochs, epoch) is frozen


class TestConfig:
    def test_what_is_not_given_comes_from_the_bundle(self, tmp_path):
        bundle = make_bundle(tmp_path / "b", "published_unet", "beta_binomial")
        config = load_config(None, [f"train.init={bundle}"])
        assert config.model == ModelConfig("published_unet", TINY["published_unet"])
        assert (config.data.input_size, config.data.field_fraction) == (32, 0.8)
        assert config.train.loss == "beta_binomial"
        assert config.train.init == str(bundle)

    def test_what_is_given_stays(self, tmp_path):
        bundle = make_bundle(tmp_path / "b")
        file = tmp_path / "c.yaml"
        file.write_text(f"train: {{init: {bundle}, loss: mse}}\ndata: {{field_fraction: 0.6}}\n")
        config = load_config(file, ["--data.input_size", "128"])
        assert (config.data.field_fraction, config.data.input_size, config.train.loss) == (0.6, 128, "mse")
        assert config.model.options == TINY["fast_unet"]
        assert load_config(file, ["model.name=published_unet"]).model == ModelConfig("published_unet")

    def test_logits_are_not_cut_off_at_zero(self, tmp_path):
        bundle = make_bundle(tmp_path / "b", "published_unet", "l1", relu_output=True)
        for loss, relu in (("l1", True), ("bce", False), ("mse", True)):
            options = load_config(None, [f"train.init={bundle}", f"train.loss={loss}"]).model.options
            assert options["relu_output"] is relu

    def test_a_configuration_that_is_whole_needs_no_bundle(self):
        keys = ["model.name=fast_unet", "data.input_size=64", "data.field_fraction=0.5", "train.loss=bce"]
        assert load_config(None, ["train.init=gone", *keys]).train.init == "gone"

    def test_no_bundle_is_one_line(self, tmp_path):
        with pytest.raises(BundleError, match=r"nowhere: no such folder; give the folder that holds bundle\.json"):
            load_config(None, ["train.init=nowhere"])

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("freeze_encoder=-1", r"train\.freeze_encoder: -1 is below"),
            ("freeze_encoder=some", r"train\.freeze_encoder: "),
            ("layer_decay=0", r"train\.layer_decay: 0\.0 is not in \(0, 1\]"),
            ("layer_decay=1.1", r"train\.layer_decay: 1\.1 is not in \(0, 1\]"),
        ],
    )
    def test_out_of_range(self, setting, message):
        with pytest.raises(ConfigError, match=message):
            load_config(None, [f"train.{setting}"])

    def test_several_devices(self):
        with pytest.raises(ConfigError, match=r"need train\.strategy=ddp_find_unused_parameters_true"):
            TrainConfig(freeze_encoder=2, devices=2)
        TrainConfig(freeze_encoder="all", devices=2)
        TrainConfig(freeze_encoder=2, devices=2, strategy="ddp_find_unused_parameters_true")


# A training run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "start")


def config(catalog, bundle, **settings):
    defaults = {"epochs": 3, "progress": False, "lr": 0.01, "accelerator": "cpu", "ema": 0.0, "patience": 0}
    return Config(
        ModelConfig("fast_unet", dict(TINY["fast_unet"])),
        DataConfig(str(catalog), input_size=32, field_fraction=0.8, batch_size=4, cache="ram"),
        TrainConfig(init=str(bundle), **(defaults | settings)),
    )


def part(state, name, prefix=""):
    return torch.cat([value.float().flatten() for key, value in state.items() if key.startswith(f"{prefix}{name}.")])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_frozen_encoder_stays_and_the_rest_learns(catalog, bundle, ema, tmp_path):
    before = load_bundle(bundle).model.state_dict()
    after = load_bundle(train(config(catalog, bundle, freeze_encoder="all", ema=ema), tmp_path)).model.state_dict()
    assert torch.equal(part(before, "encoder"), part(after, "encoder"))  # running statistics too
    assert not torch.equal(part(before, "decoder"), part(after, "decoder"))
    assert not torch.equal(part(before, "head"), part(after, "head"))


class _Watch(Callback):
    """Notes the encoder at the end of each epoch."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append({key: value.clone() for key, value in pl_module.model.encoder.state_dict().items()})


def watched(monkeypatch):
    from zoobot_3d.learn import train as module

    watch, original = _Watch(), module.Trainer
    monkeypatch.setattr(
        module, "Trainer", lambda callbacks=(), **options: original(callbacks=[*callbacks, watch], **options)
    )
    return watch.seen


def flat(state):
    return torch.cat([value.float().flatten() for value in state.values()])


def test_after_the_epochs_asked_for_it_thaws(catalog, bundle, tmp_path, monkeypatch):
    seen = watched(monkeypatch)
    train(config(catalog, bundle, freeze_encoder=2), tmp_path)
    start = flat(load_bundle(bundle).model.encoder.state_dict())
    assert [torch.equal(start, flat(state)) for state in seen] == [True, True, False]
    moved = [key for key, value in seen[2].items() if not torch.equal(value, seen[1][key])]
    assert "stem.0.weight" in moved and "stem.1.running_mean" in moved


def test_the_bundle_says_where_it_started(catalog, bundle, tmp_path, capsys):
    out = train(config(catalog, bundle, epochs=1), tmp_path)
    assert load_bundle(out).info.training["init"] == "start"
    assert f"started from {bundle}: all of it" in capsys.readouterr().err


def test_rates_in_a_run_fall_with_layers(catalog, bundle, tmp_path):
    from zoobot_3d.learn.task import SegmentTask

    rates = []
    original = SegmentTask.configure_optimizers

    def spy(task):
        result = original(task)
        rates.extend(group["initial_lr"] for group in result["optimizer"].param_groups)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentTask, "configure_optimizers", spy)
        train(config(catalog, bundle, epochs=1, layer_decay=0.5), tmp_path)
    assert sorted(set(rates), reverse=True) == pytest.approx([0.01 / 2**level for level in range(6)])


def test_resumed_as_never_interrupted_without_the_bundle(catalog, tmp_path, monkeypatch):
    """The checkpoint is enough: the bundle may be gone, and its weights must not come back."""
    from zoobot_3d.learn.task import SegmentTask

    start = make_bundle(tmp_path / "start")
    settings = config(catalog, start, epochs=4, freeze_encoder=1, ema=0.9, layer_decay=0.7)
    whole = load_bundle(train(settings, tmp_path / "whole")).model.state_dict()
    original = SegmentTask.on_train_epoch_start

    def stop(task):
        if task.current_epoch == 2:
            raise KeyboardInterrupt
        original(task)

    monkeypatch.setattr(SegmentTask, "on_train_epoch_start", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(settings, tmp_path / "again")
    monkeypatch.undo()
    start.rename(tmp_path / "gone")
    again = load_bundle(train(settings, tmp_path / "again")).model.state_dict()
    for key, value in whole.items():
        assert torch.allclose(value, again[key], rtol=1e-4, atol=1e-6), key


def test_a_bundle_that_is_missing_or_does_not_fit_ends_the_run(catalog, bundle, tmp_path):
    with pytest.raises(BundleError, match="nowhere: no such folder"):
        train(config(catalog, "nowhere"), tmp_path / "a")
    other = replace(
        config(catalog, bundle), model=ModelConfig("fast_unet", {"widths": [8, 8, 16], "depths": [0, 1, 1]})
    )
    with pytest.raises(BundleError, match=r"leave out model\.\* to take the bundle's"):
        train(other, tmp_path / "b")


@pytest.mark.parametrize("frozen", [{"freeze_encoder": "all"}, {"frozen_levels": 1}])
def test_freezing_what_has_not_learned_is_refused(catalog, bundle, frozen, tmp_path):
    settings = config(catalog, bundle, **frozen)
    with pytest.raises(ConfigError, match="would keep random weights; start from a bundle"):
        train(replace(settings, train=replace(settings.train, init=None)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_frozen_levels_stay_and_the_rest_learns(catalog, bundle, tmp_path):
    before = load_bundle(bundle).model.state_dict()
    after = load_bundle(train(config(catalog, bundle, frozen_levels=1, ema=0.9), tmp_path)).model.state_dict()
    for name, stays in (("stem", True), ("downs.1", False), ("levels.1", False)):
        assert torch.equal(part(before, name, "encoder."), part(after, name, "encoder.")) == stays, name
    assert not torch.equal(part(before, "decoder"), part(after, "decoder"))


def test_init_from_the_command_line(catalog, bundle, tmp_path, capsys):
    settings = ["--data.catalog", str(catalog), "--data.batch_size", "4", "--train.epochs", "1"]
    quiet = ["--train.accelerator", "cpu", "--train.progress", "false"]
    command = [
        "train",
        str(tmp_path / "run"),
        "--init",
        str(bundle),
        "--train.freeze_encoder",
        "all",
        *settings,
        *quiet,
    ]
    assert main(command) == 0
    info = load_bundle(tmp_path / "run" / "bundle").info
    assert (info.input_size, info.field_fraction, info.model_options) == (32, 0.8, TINY["fast_unet"])
    assert main(["train", str(tmp_path / "other"), "--init", "nowhere", *settings]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("zoobot3d: nowhere: no such folder")
