"""Recipes in the package: found by name, each by the command that it is for."""

from pathlib import Path

import pytest

from zoobot_3d.cli import main
from zoobot_3d.config import recipes
from zoobot_3d.config.recipes import CLUSTER, RECIPES, SWEEP, TRAIN, recipe_file, recipe_names
from zoobot_3d.config.schema import Config
from zoobot_3d.errors import ConfigError
from zoobot_3d.learn.settings import load_config
from zoobot_3d.sweep.search_space import load_search_space


def test_every_file_in_the_folder_is_listed():
    assert {path.stem for path in Path(recipes.__file__).parent.glob("*.yaml")} == set(RECIPES)


@pytest.mark.parametrize("name", recipe_names(TRAIN))
def test_recipes_of_train_can_be_trained(name):
    assert isinstance(load_config(name), Config)


def test_settings_are_applied_on_top_of_a_recipe():
    assert load_config("weights", ["train.lr=0.5"]).train.lr == 0.5
    assert load_config("weights").model.name == "mobile_unet"


def test_a_recipe_wins_over_a_file_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("default").write_text("train: {lr: 0.5}")
    assert load_config("default").train.lr != 0.5
    assert load_config("./default").train.lr == 0.5


def test_a_file_may_have_a_name_of_one_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text("train: {lr: 0.5}")
    assert load_config("mine").train.lr == 0.5


@pytest.mark.parametrize("text", ["default.yaml", "conf/default", "/default.yaml", "./sweep", "a b"])
def test_what_is_no_word_is_a_path(text):
    assert recipe_file(text, TRAIN) == Path(text)


@pytest.mark.parametrize(
    ("name", "usage", "message"),
    [
        ("defaults", TRAIN, r"^defaults: no such recipe or file; did you mean default\? recipes for zoobot3d train"),
        ("Joint", TRAIN, r"did you mean joint\?"),
        (
            "nothing",
            TRAIN,
            "recipes for zoobot3d train --config: default, joint, published, timm, weights; or give a YAML",
        ),
        (
            "sweep",
            TRAIN,
            r"^sweep: is a recipe for zoobot3d sweep; recipes for .*: default, joint",
        ),
        ("default", SWEEP, "is a recipe for zoobot3d train --config; recipes for zoobot3d sweep: sweep$"),
        ("weights", CLUSTER, "recipes for --cluster slurm:FILE: slurm$"),
    ],
)
def test_an_unknown_name_lists_those_there_are(name, usage, message):
    with pytest.raises(ConfigError, match=message):
        recipe_file(name, usage)


@pytest.mark.parametrize("arguments", [("train", "out", "--config", "nothing"), ("sweep", "nothing")])
def test_commands_say_it_in_one_line(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("zoobot3d: nothing: no such recipe or file") and error.count("\n") == 1


def test_a_sweep_may_begin_with_a_recipe(tmp_path):
    (tmp_path / "plan.yaml").write_text("config: weights\nsearch: {train.lr: {low: 0.1, high: 1}}")
    assert load_search_space(tmp_path / "plan.yaml").base.model.name == "mobile_unet"


def test_the_command_lists_and_prints(capsys):
    assert main(["recipes"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RECIPES)
    assert main(["recipes", "slurm"]) == 0
    assert capsys.readouterr().out == recipe_file("slurm", CLUSTER).read_text()
    assert main(["recipes", "nothing"]) == 2
    assert "there are default, joint" in capsys.readouterr().err
