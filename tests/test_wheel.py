"""The package as a user installs it: a wheel, away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from zoobot_3d.config.recipes import RECIPES

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow  # builds a wheel in an environment of its own, and compiles the rasterizer anew
def test_wheel_works_outside_the_checkout(tmp_path):
    def run(*arguments, **options):
        result = subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, **options
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("-m", "build", "--wheel", "--outdir", tmp_path, CHECKOUT)
    (wheel,) = tmp_path.glob("zoobot_3d-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "zoobot_3d/py.typed" in names and not [name for name in names if name.startswith(("tests", "benchmarks"))]
    assert {f"zoobot_3d/config/recipes/{name}.yaml" for name in RECIPES} <= set(names)

    site = tmp_path / "site"
    run("-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    away = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(site)}}
    assert Path(run("-c", "import zoobot_3d; print(zoobot_3d.__file__)", **away).strip()).is_relative_to(site)
    assert wheel.stat().st_size < 9e6
    command = "import sys; from zoobot_3d.cli import main; sys.exit(main())"
    run("-c", command, "simulate", "survey", "--galaxies", 2, "--workers", 1, **away)
    assert len(list((tmp_path / "survey").rglob("*.jpg"))) == 2
    run("-c", command, "predict", "survey/images/jpg", "--out", "masks", "--device", "cpu", **away)
    found = run("-c", "from zoobot_3d.infer.predict import read_masks; print(len(list(read_masks('masks'))))", **away)
    assert found.strip() == "2"
