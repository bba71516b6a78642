"""Without the extra `train`: predicting and all that follows work, and commands that learn say what to install."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from zoobot_3d import io

HIDDEN = """
import importlib.machinery, sys
hidden = {"torch", "pytorch_lightning", "torchmetrics", "tensorboard", "onnx"}
found = importlib.machinery.PathFinder.find_spec.__func__
def find_spec(cls, name, path=None, target=None):
    return None if name.split(".")[0] in hidden else found(cls, name, path, target)
importlib.machinery.PathFinder.find_spec = classmethod(find_spec)
from zoobot_3d.cli import main
status = 0
for command in sys.argv[1:]:
    status = status or main(command.split())
raise SystemExit(status)
"""


def run(*commands, cwd):
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, *commands], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def test_from_pictures_to_masks_figures_and_measurements(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        io.write_png(tmp_path / "pictures" / f"{name}.png", rng.integers(0, 255, (96, 96, 3), dtype=np.uint8))
    commands = ("predict pictures --out masks", "figures predictions masks --out masks.png")
    commands += ("export masks --format fits", "verify masks", "measure masks --out table.parquet", "describe default")
    done = run(*commands, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 predicted" in done.stdout
    assert (tmp_path / "masks.png").stat().st_size > 1000 and (tmp_path / "table.parquet").exists()


@pytest.mark.parametrize("command", ["train out --data.catalog x.parquet", "evaluate x.parquet", "calibrate default x"])
def test_commands_that_learn_say_what_to_install(command, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"")
    done = run(command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("pip install 'zoobot-3d[train]'"), done.stderr[-500:]
    assert "Traceback" not in done.stderr


def test_no_torch_among_the_requirements_of_the_core():
    with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
        core = tomllib.load(file)["project"]["dependencies"]
    assert not [line for line in core if line.startswith(("torch", "pytorch", "tensorboard", "onnx>"))]
