"""The recipe of the package's model, small: from seeds to a bundle, and again without doing anything twice."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from zoobot_3d.infer.bundle import DEFAULT, load_bundle
from zoobot_3d.io.pictures import read_mask

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow  # simulates 64 galaxies and shows them to the whole network, in four stages
def test_from_seeds_to_a_bundle(simulated_examples, tmp_path):
    def make():
        options = {"work": tmp_path / "work", "out": tmp_path / "bundle", "galaxies": 64, "hosted": 4, "disks": 2}
        options["hosts"] = simulated_examples / "gz_decals_jpg" / "jpg"
        options["drawn"] = simulated_examples / "galaxy_builder" / "drawn"
        options["plain"] = simulated_examples / "gz2_pictures" / "non_spirals"
        options["unmarked"] = options["plain"].parent / "spirals"
        command = [f"--{key}={value}" for key, value in options.items()]
        settings = ["train.epochs=1", "data.epoch_size=64", "data.workers=0", "data.batch_size=8"]
        settings.append("train.progress=false")
        return subprocess.run(
            [sys.executable, CHECKOUT / "tools" / "make_weights.py", *command, *settings],
            capture_output=True,
            text=True,
            check=False,
        )

    first = make()
    assert first.returncode == 0, first.stderr
    frame = pd.read_parquet(tmp_path / "work" / "survey" / "data" / "weights.parquet")
    counts = frame["group"].value_counts().to_dict()
    assert counts.pop("drawn", 0) <= 1  # unless its fold is held out
    assert counts == {"simulated": 66, "hosted": 4}
    assert (frame["split"][64:] == "train").all()
    for stage in ("first", "second", "third"):
        learned = pd.read_parquet(tmp_path / "work" / "survey" / "data" / f"{stage}.parquet")
        taught = learned[learned["group"].str.startswith("taught")]
        plain = taught[taught["dr8_id"].str.contains("non_spirals")]
        assert len(plain) == 2  # arms are known, whatever the teacher is sure of
        for path in plain["relative_spiral_mask_loc"]:
            assert not read_mask(tmp_path / "work" / "survey" / path).any()

    made, shipped = load_bundle(tmp_path / "bundle"), load_bundle(DEFAULT)
    assert (made.info.model_name, made.info.model_options) == (shipped.info.model_name, shipped.info.model_options)
    assert (made.info.input_size, made.info.field_fraction) == (shipped.info.input_size, shipped.info.field_fraction)
    assert made.info.training["disks"] == 2

    again = make()
    assert again.returncode == 0, again.stderr
    assert "trained before" in again.stderr
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
