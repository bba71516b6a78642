"""The command line as a user meets it: in its own process."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tiny_survey import make_survey
from zoobot_3d import __version__, cli, io


def run(*arguments, cwd=None):
    command = [
        sys.executable,
        "-c",
        "import sys; from zoobot_3d.cli import main; sys.exit(main())",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_help_does_not_load_torch():
    code = """
import sys
from zoobot_3d.cli import main
try:
    main(["--help"])
except SystemExit:
    assert "torch" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"zoobot3d {command} " in capsys.readouterr().out.rpartition("example:")[2]


def test_version():
    assert run("--version").stdout.strip() == f"zoobot3d {__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "zoobot3d: argument COMMAND: invalid choice: 'fly' (choose from"),
        (["predit"], "zoobot3d: argument COMMAND: invalid choice: 'predit', did you mean predict?"),
        (["fetch", "cutout"], "zoobot3d fetch: argument KIND: invalid choice: 'cutout', did you mean cutouts?"),
        (["predict", "t.csv", "--fecth", "--out", "o"], "zoobot3d predict: unknown --fecth, did you mean --fetch?"),
        (["predict"], "the following arguments are required"),
        (["predict", "nowhere", "--bundle", "b", "--out", "o"], "nowhere: no such file or folder"),
        (["predict", ".", "--bundle", "b", "--out", "o", "--spam", "1"], "unknown --spam"),
        (["simulate", "s", "--galaxies", "0"], "0 is not at least 1"),
        (["train", "o", "--data.batchsize", "3"], "did you mean data.batch_size"),
        (["train", "o", "--config", "none.yaml"], "none.yaml"),
        (["describe", "."], "bundle"),
        (["evaluate", "c.parquet", "--count", "3", "--per-galaxy"], "--count is for --per-galaxy with --out"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert re.match(r"zoobot3d( [a-z-]+)*: (?!zoobot3d)", error)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_lists_every_command_once_within_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] not in " -"]
    assert sorted(listed) == sorted(command.name for command in cli.COMMANDS)
    assert max(map(len, lines)) <= min(columns, 100)


def test_debug_shows_the_traceback(tmp_path):
    result = run("--debug", "describe", tmp_path)
    assert result.returncode != 0 and "Traceback" in result.stderr
    assert "Traceback" not in run("describe", tmp_path).stderr


def test_train_evaluate_predict_figures_from_the_command_line(tmp_path, capsys):
    def run(*arguments):
        assert cli.main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    catalog = make_survey(tmp_path / "survey", n=24)
    settings = ["--data.catalog", catalog, "--data.input_size", 32, "--train.epochs", 1, "--data.batch_size", 8]
    bundle = tmp_path / "run" / "bundle"
    out = run("train", tmp_path / "run", *settings, "--train.accelerator", "cpu")
    assert f"bundle: {bundle}" in out.replace("\n", "")
    assert "fast_unet" in run("describe", bundle)

    out = run("evaluate", catalog, "--bundle", bundle, "--split", "all", "--out", tmp_path / "evaluation")
    assert "IoU at > 0.2" in out
    assert (tmp_path / "evaluation" / "evaluation.json").exists()
    assert (tmp_path / "evaluation" / "reliability.png").exists()

    out = run("evaluate", catalog, "--bundle", bundle, "--split", "all", "--out", tmp_path / "e", "--per-galaxy")
    assert "worst 10 of 24 galaxies" in out and str(tmp_path / "e" / "worst.png") in out.replace("\n", "")
    listed = pd.read_csv(tmp_path / "e" / "per_galaxy.csv", dtype={"id": str})
    assert listed["iou_0.2"].is_monotonic_increasing and len(listed) == 24
    assert list(listed) == list(pd.read_parquet(tmp_path / "e" / "per_galaxy.parquet"))
    assert np.ptp(io.read_picture(tmp_path / "e" / "worst.png")) > 100
    assert "worst 24 of 24" in run("evaluate", catalog, "--bundle", bundle, "--split", "all", "--per-galaxy")

    predicting = [
        "predict",
        tmp_path / "survey" / "jpg",
        "--bundle",
        bundle,
        "--out",
        tmp_path / "masks",
        "--masks",
        "png",
    ]
    assert "24 predicted, 0 done before, 0 failed" in run(*predicting)
    assert len(pd.read_parquet(tmp_path / "masks" / "shards")) == 24
    assert len(list((tmp_path / "masks" / "masks").glob("*.png"))) == 48
    assert "0 predicted, 24 done before" in run(*predicting)

    for kind, source, *rest in (
        ("comparison", catalog, "--bundle", bundle, "--split", "all"),
        ("predictions", tmp_path / "masks"),
        ("training", tmp_path / "run"),
    ):
        run("figures", kind, source, *rest, "--out", tmp_path / f"{kind}.png", "--count", 4)
        assert np.ptp(io.read_picture(tmp_path / f"{kind}.png")) > 100


def test_fetch_tells_what_there_is(capsys):
    assert cli.main(["fetch", "--list"]) == 0
    out = capsys.readouterr().out
    for kind in ("gz3d", "cutouts", "gz-desi", "gz2", "sami", "hoyle"):
        assert f" {kind} " in out
    assert cli.main(["fetch"]) == 2
    assert "zoobot3d fetch: say what: gz3d, cutouts" in capsys.readouterr().err


def test_home_is_understood_where_no_shell_expands_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["describe", "~/bundle"]) == 2
    assert str(tmp_path / "home" / "bundle") in capsys.readouterr().err
    assert cli.main(["simulate", "~/sky", "--galaxies=1", "--pictures-only", "--workers", "1"]) == 0
    assert (tmp_path / "home" / "sky" / "survey.json").exists() and not (tmp_path / "~").exists()
    with pytest.raises(SystemExit):
        cli.main(["predict", "--out=~/masks", "--help"])
    assert cli._at_home("--out=~/masks") == f"--out={tmp_path}/home/masks" and cli._at_home("a~/b") == "a~/b"


def test_paths_of_a_table_that_lead_nowhere_are_said_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "c.csv").write_text("file\npictures/a.jpg\n")
    assert cli.main(["predict", "lists/c.csv", "--out", "masks"]) == 2
    assert "pictures/a.jpg; paths start from the folder of the table or list, or from --root" in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()


def test_measure_refuses_a_wrong_name_or_table_before_it_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    io.write_png(tmp_path / "pictures" / "a.png", np.zeros((64, 64, 3), np.uint8))
    assert cli.main(["measure", "pictures", "--out", "t.csv"]) == 2
    assert "give a name that ends in .parquet" in capsys.readouterr().err
    assert cli.main(["measure", "pictures", "--out", "t.parquet", "--galaxies", "none.csv"]) == 2
    assert "none.csv" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["a", "--out", ""], "--out"), (["a", "--out="], "--out"), (["", "--out", "m"], "an argument")],
)
def test_a_shell_variable_that_is_not_set_is_no_folder(tmp_path, monkeypatch, capsys, arguments, name):
    # "" is the folder that one happens to be in: predictions were written there.
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", *arguments]) == 2
    assert f"zoobot3d predict: {name} is empty; give a value" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", ["nan", "-1", "0", "1e9", "7.3e-5"])
def test_a_scale_that_no_picture_has_is_refused(tmp_path, monkeypatch, capsys, scale):
    monkeypatch.chdir(tmp_path)
    io.write_png("a.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert cli.main(["predict", "a.png", "--out", "m", f"--pixscale={scale}"]) == 2
    assert "give a positive number of arcsec per pixel, such as 0.262" in capsys.readouterr().err
