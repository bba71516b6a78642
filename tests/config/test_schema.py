import dataclasses
import subprocess
import sys

import pytest

from zoobot_3d.config.reading import config_to_yaml, differing_keys, valid_keys
from zoobot_3d.config.schema import Config, DataConfig, TrainConfig
from zoobot_3d.errors import ConfigError
from zoobot_3d.learn.settings import load_config


def test_defaults():
    assert load_config() == Config()


def test_overrides_beat_the_file_and_the_file_beats_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: {batch_size: 8, input_size: 96}\ntrain:\n  lr: 1e-3\nmodel:\n")
    config = load_config(file, ["data.batch_size=4"])
    assert (config.data.batch_size, config.data.input_size, config.train.lr) == (4, 96, 1e-3)
    assert config.model == Config().model


@pytest.mark.parametrize(
    "overrides", [["data.workers=3"], ["--data.workers=3"], ["--data.workers", "3"]], ids=["plain", "dashes", "argv"]
)
def test_forms_of_an_override(overrides):
    assert load_config(None, overrides).data.workers == 3


def test_model_options_take_any_key():
    config = load_config(None, ["model.options.depth=2", "--model.options.widths", "[8,16]"])
    assert config.model.options == {"depth": 2, "widths": [8, 16]}


def test_tuples():
    config = load_config(None, ["data.votes=[dr5,gz2]", "train.class_weights=[1,2]"])
    assert config.data.votes == ("dr5", "gz2")
    assert config.train.class_weights == (1.0, 2.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batchsize=4", r"data\.batchsize: no such key; did you mean data\.batch_size\?"),
        ("batch_size=4", r"batch_size: no such key; did you mean data\.batch_size\?"),
        ("model.option.a=3", r"did you mean model\.options\?"),
        ("zzzzz=1", r"zzzzz: no such key; valid keys: model\.name"),
        ("data=1", r"data: is a group of keys"),
        ("data.batch_size", r"is not a setting; write key=value"),
        ("--data.batch_size", r"data\.batch_size: has no value"),
        ("data.batch_size=x", r"^data\.batch_size: expected int, got x$"),
        ("train.seed=3.5", r"^train\.seed: expected int, got 3\.5$"),
        ("data.cache=disk", r"^data\.cache: expected Literal\['none', 'ram'\], got disk$"),
        ("data.field_fraction=1.5", r"^data\.field_fraction: 1\.5 is not from 0\.05 to 1"),
        ("data.field_fraction=1e-12", r"^data\.field_fraction: 1e-12 is not from 0\.05 to 1"),
        ("data.input_size=100000", r"^data\.input_size: 100000 is not from 8 to 2048 pixels"),
        ("train.lr=.nan", r"^train\.lr: nan is not a number above 0"),
        ("train.epochs=null", r"^train\.epochs: is null; give a value"),
        ("train.clip=.nan", r"^train\.clip: nan is below"),
        ("data.batch_size=0", r"^data\.batch_size: 0 is below"),
        ("train.ema=1", r"^train\.ema: 1\.0 is not in \[0, 1\)"),
        ("train.max_steps=0", r"^train\.max_steps: 0 is below"),
        ("train.accumulate=0", r"^train\.accumulate: 0 is below"),
        ("train.vote_weight=-1", r"^train\.vote_weight: -1\.0 is below"),
        ("model.vote_dropout=1", r"^model\.vote_dropout: 1\.0 is not in"),
        ("data.votes=[dr9]", r"^data\.votes: no campaign dr9; choose from dr12, dr5, dr8, gz2"),
        ("data.votes=[dr5,dr5]", r"^data\.votes: dr5, dr5 names a campaign twice"),
        ("data.marked_share=0.5", r"^data\.marked_share: 0\.5 without data\.votes"),
        ("data.epoch_size=-1", r"^data\.epoch_size: -1 is below"),
    ],
)
def test_wrong_override(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: {batchsize: 3}", r"data\.batchsize: no such key; did you mean data\.batch_size\?"),
        ("data: {batch_size: 3.5}", r"data\.batch_size: expected int, got 3\.5"),
        ("dta: {batch_size: 3}", r"dta: no such key"),
        ("data: 3", r"data: is 3 instead of keys such as data\.catalog"),
        ("[1]", r"holds a list instead of the groups model, data, train"),
        ("train: {epochs: null}", r"train\.epochs: is null; give a value, or leave it out"),
        ("a: [", r"is not YAML"),
        ("train: {lr: -1}", r"train\.lr: -1\.0 is not a number above 0"),
    ],
)
def test_wrong_file_names_file_and_key(tmp_path, content, message):
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=rf"^{file}: .*{message}|^{file}: {message}"):
        load_config(file)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")


def test_votes_on_several_devices(tmp_path):
    """A batch without marks on one of them would make the others wait for its decoder for ever."""
    joint = ["data.votes=[dr5]", "train.devices=2"]
    with pytest.raises(ConfigError, match=r"^data\.votes: .*needs train\.strategy=ddp_find_unused_parameters_true$"):
        load_config(None, joint)
    load_config(None, [*joint, "train.strategy=ddp_find_unused_parameters_true"])
    load_config(None, joint[1:])


def test_yaml_round_trip(tmp_path):
    config = Config(
        data=DataConfig(votes=("dr8",), root="x"), train=TrainConfig(max_steps=25, class_weights=(1.0, 3.0))
    )
    (tmp_path / "c.yaml").write_text(config_to_yaml(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_differing_keys():
    other = load_config(None, ["data.batch_size=7", "model.options.width=2"])
    assert differing_keys(Config(), other) == ["data.batch_size", "model.options", "model.options.width"]


def test_every_key_is_described():
    for group in (Config, *(field.default_factory for field in dataclasses.fields(Config))):
        for field in dataclasses.fields(group):
            assert f"    {field.name} : " in group.__doc__, (
                f"{group.__name__}.{field.name} has no line in the docstring"
            )
    assert "train.lr" in valid_keys()


def test_published_is_the_paper():
    # NeurIPS 2023 ML4PS: L1, AdamW 1e-3, weight decay 0.075, batch 256, 224 px, patience 10.
    config = load_config("published")
    assert config.model.name == "published_unet"
    assert (config.train.loss, config.train.lr, config.train.weight_decay) == ("l1", 1e-3, 0.075)
    assert (config.data.batch_size, config.data.input_size, config.train.patience) == (256, 224, 10)
    # 4 resolutions, multipliers 1, 4, 2, 4 of 32, dropout 0, 0.1, 0.25, 0.13.
    assert config.model.options["multipliers"] == [1, 4, 2, 4]
    assert config.model.options["dropouts"] == [0, 0.1, 0.25, 0.13]
    # Crops of 0.7 to 0.8 of the area; one learning rate, no clipping, no averaging of weights.
    assert config.data.field_fraction**2 == pytest.approx(0.75, abs=1e-3)
    assert (config.train.warmup, config.train.clip, config.train.ema) == (0, 0, 0)


def test_importing_config_imports_no_torch():
    code = "import sys, zoobot_3d.config.reading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
