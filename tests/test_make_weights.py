"""The recipe of the package's model, small: from seeds to a bundle, and again without doing anything twice."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from zoobot_3d.infer.bundle import DEFAULT, load_bundle

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow  # simulates 64 galaxies and shows them once to the whole network
def test_from_seeds_to_a_bundle(simulated_examples, tmp_path):
    def make():
        options = {"work": tmp_path / "work", "out": tmp_path / "bundle", "galaxies": 64, "hosted": 4, "disks": 2}
        options["hosts"] = simulated_examples / "gz_decals_jpg" / "jpg"
        options["drawn"] = simulated_examples / "galaxy_builder" / "drawn"
        options["plain"] = simulated_examples / "gz2_pictures" / "non_spirals"
        command = [f"--{key}={value}" for key, value in options.items()]
        settings = ["train.epochs=1", "data.workers=0", "data.batch_size=8", "train.progress=false"]
        return subprocess.run(
            [sys.executable, CHECKOUT / "tools" / "make_weights.py", *command, *settings],
            capture_output=True,
            text=True,
            check=False,
        )

    first = make()
    assert first.returncode == 0, first.stderr
    frame = pd.read_parquet(tmp_path / "work" / "survey" / "data" / "weights.parquet")
    assert frame["group"].value_counts().to_dict() == {"simulated": 70, "plain": 2, "drawn": 1}
    assert (frame["split"][64:] == "train").all()

    made, shipped = load_bundle(tmp_path / "bundle"), load_bundle(DEFAULT)
    assert (made.info.model_name, made.info.model_options) == (shipped.info.model_name, shipped.info.model_options)
    assert (made.info.input_size, made.info.field_fraction) == (shipped.info.input_size, shipped.info.field_fraction)
    assert made.info.training["disks"] == 2
    start = load_bundle(tmp_path / "work" / "photographs").model.encoder.stem.state_dict()
    for bundle in (made, shipped):  # what photographs taught the first levels stays, but for half precision
        for name, value in bundle.model.encoder.stem.state_dict().items():
            torch.testing.assert_close(value, start[name], rtol=1e-3, atol=1e-3, check_dtype=False)

    again = make()
    assert again.returncode == 0, again.stderr
    assert "trained before" in again.stderr
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
