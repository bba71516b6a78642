"""What a sweep may try."""

import optuna
import pytest

from zoobot_3d.errors import ConfigError
from zoobot_3d.learn.settings import load_config
from zoobot_3d.sweep.search_space import load_search_space


def space(tmp_path, search, more="", overrides=()):
    file = tmp_path / "sweep.yaml"
    file.write_text(f"{more}\nsearch:\n" + "".join(f"  {line}\n" for line in search.splitlines()))
    return load_search_space(file, overrides)


def fixed(**values):
    """A trial that draws these values; dots in keys are written as __."""
    return optuna.trial.FixedTrial({key.replace("__", "."): value for key, value in values.items()})


def test_values_are_put_where_they_belong(tmp_path):
    found = space(
        tmp_path,
        "train.lr: {low: 1e-4, high: 1e-2, log: true}\ndata.batch_size: {low: 8, high: 64}\n"
        "train.class_weights.1: {choices: [1.0, 3.0]}",
        "train: {epochs: 7}\ndata: {input_size: 64}",
        ["--train.seed", "5"],
    )
    config = found.configure(fixed(train__lr=0.001, data__batch_size=16, train__class_weights__1=3.0))
    expected = load_config(
        overrides=[
            "train.lr=0.001",
            "data.batch_size=16",
            "train.class_weights=[1.0, 3.0]",
            "train.epochs=7",
            "data.input_size=64",
            "train.seed=5",
        ]
    )
    assert config == expected


def test_options_are_only_searched_for_networks_that_have_them(tmp_path):
    found = space(
        tmp_path,
        "model.options.dropouts.1: {low: 0, high: 0.5}\nmodel.options.widths: {choices: [[8, 8], [8, 16]]}\n"
        "model.name: {choices: [fast_unet, published_unet]}",
        "model: {options: {depths: [1, 1]}}",
    )
    fast = fixed(model__name="fast_unet", model__options__widths="[8, 16]")
    config = found.configure(fast)
    assert config.model.options == {"widths": [8, 16], "depths": [1, 1]}
    assert set(fast.params) == {"model.name", "model.options.widths"}
    config = found.configure(fixed(model__name="published_unet", model__options__dropouts__1=0.25))
    assert config.model.options == {"dropouts": [0.0, 0.25, 0.25, 0.13]}  # others as published; no depths


def test_when(tmp_path):
    found = space(
        tmp_path,
        "model.options.relu_output: {choices: [false], when: {train.loss: [bce, beta_binomial]}}\n"
        "train.loss: {choices: [bce, l1]}",
        "model: {name: published_unet}",
    )
    config = found.configure(fixed(train__loss="bce", model__options__relu_output=False))
    assert config.model.options == {"relu_output": False}
    assert found.configure(fixed(train__loss="l1")).model.options == {}


def test_the_published_space():
    found = load_search_space("sweep")
    searched = {p.key: p for p in found.parameters}
    assert (searched["train.weight_decay"].low, searched["train.weight_decay"].high) == (0.0, 0.25)
    multipliers = [searched[f"model.options.multipliers.{level}"].choices for level in (1, 2, 3)]
    assert multipliers == [(2, 4), (2, 4), (2, 4, 8)]
    assert "model.options.multipliers.0" not in searched  # 1, as the network has it
    dropouts = [searched[f"model.options.dropouts.{level}"] for level in range(4)]
    assert all((p.low, p.high) == (0.0, 0.5) for p in dropouts)
    assert searched["data.batch_size"].choices == (64, 128, 256)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    configs = [found.configure(study.ask()) for _ in range(40)]
    published = [c for c in configs if c.model.name == "published_unet"]
    assert 0 < len(published) < 40
    for config in published:
        assert config.model.options["multipliers"][0] == 1
        assert config.model.options.get("relu_output", True) is (config.train.loss in ("l1", "mse"))
    assert all(set(c.model.options) == {"widths"} for c in configs if c.model.name == "fast_unet")


def test_another_configuration_to_begin_with(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {lr: 0.5, epochs: 3}")
    found = space(tmp_path, "train.clip: {low: 0.0, high: 1.0}", "config: base.yaml\ntrain: {epochs: 4}")
    assert (found.base.train.lr, found.base.train.epochs) == (0.5, 4)


def test_equal_sweeps_have_equal_text(tmp_path):
    one = space(tmp_path, "train.lr: {low: 0.1, high: 1}")
    two = space(tmp_path, "train.lr: {low: 1e-1, high: 1.0, log: false}", "metric: soft_iou")
    assert one.to_yaml() == two.to_yaml()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("train.lrr: {low: 0.1, high: 1}", r"search: train\.lrr: no such key; did you mean train\.lr\?"),
        (
            "model.options.dropout.1: {low: 0, high: 1}",
            r"no such option of published_unet; did you mean model\.options\.dropouts",
        ),
        ("model.options.dropouts.4: {low: 0, high: 1}", r"model\.options\.dropouts has no element 4"),
        ("train.lr.0: {low: 0.1, high: 1}", r"train\.lr has no element 0"),
        ("train.lr: {low: 0.1}", "has neither choices nor low and high"),
        ("train.lr: {low: 1, high: 0.1}", "no range; give low below high"),
        ("train.lr: {low: 0, high: 0.1, log: true}", "no range of logarithms"),
        ("train.lr: {low: a, high: 0.1}", "'a' is not a number"),
        ("train.lr: {low: 0.1, high: 1, step: 2}", r"train\.lr: no such key step"),
        ("train.lr: {low: 0.1, high: 1, choices: [1]}", "either a list of choices, or low and high"),
        ("train.lr: 3", "is 3 instead of keys and values"),
        ("train.lr: {low: -1, high: 1}", r"search\.train\.lr: -1\.0 is not a number above 0"),
        ("data.batch_size: {choices: [4, many]}", r"search\.data\.batch_size"),
        ("model.name: {choices: [unet]}", "no model is called 'unet'"),
        ("train.clip: {low: 0, high: 1, when: {train.los: l1}}", r"train\.los: no such key; did you mean train\.loss"),
    ],
)
def test_a_mistake_is_named(tmp_path, search, message):
    with pytest.raises(ConfigError, match=message):
        space(tmp_path, search, "model: {name: published_unet}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("metric: loss", "metric: 'loss' is unknown; choose one of soft_iou"),
        ("metrics: soft_iou", "no such key metrics; did you mean metric"),
        ("pruning: {warmup: 3}", "no such key warmup; did you mean warmup_epochs"),
        ("pruning: {warmup_epochs: -3}", "-3 is not a count"),
        ("train: {epoch: 3}", r"train\.epoch: no such key; did you mean train\.epochs"),
        ("config: none.yaml", "none.yaml: no such file"),
    ],
)
def test_a_mistake_beside_the_search_is_named(tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        space(tmp_path, "train.lr: {low: 0.1, high: 1}", more)


def test_no_file_and_no_search(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_search_space(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("metric: soft_iou")
    with pytest.raises(ConfigError, match="search: names no key"):
        load_search_space(tmp_path / "empty.yaml")
