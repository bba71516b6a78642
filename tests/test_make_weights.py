"""The recipe of the package's model, small: from seeds to a bundle, and again without doing anything twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoobot_3d.infer.bundle import DEFAULT, load_bundle
from zoobot_3d.io.pictures import read_mask

CHECKOUT = Path(__file__).parents[1]
sys.path.append(str(CHECKOUT / "tools"))
from real_galaxies import SEEN, Unmarked, answers_of, fold, told  # noqa: E402


@pytest.mark.parametrize(
    ("label", "spiral", "bar"),
    [
        ("Is there any sign of a bar feature through the centre of the galaxy? -> Bar", None, True),
        (
            "Is there any sign of a bar feature through the center? -> Bar | Do you see more? -> Ring",
            None,
            True,
        ),
        ("Is there any sign of a bar feature through the centre of the galaxy? -> No bar", None, False),
        ("Barred Spiral", True, True),
        ("Unbarred Tight Spiral", True, False),
        ("Unbarred_Loose_Spiral", True, False),
        ("Is there any sign of a spiral arm pattern? -> Spiral", True, None),
        ("Is there any sign of a spiral arm pattern? -> No spiral", False, None),
        ("How many spiral arms are there? -> 1", True, None),
        ("How rounded is it? -> In between", False, False),
        ("In-between Smooth", False, False),
        ("Is the galaxy simply smooth and rounded, or does it have features? -> Features", None, None),
        ("Edge-on no bulge", False, None),
        ("Disturbed", None, None),
    ],
)
def test_what_labels_of_examples_say(label, spiral, bar):
    found = answers_of(label)
    assert (found.get("spiral"), found.get("bar")) == (spiral, bar)


def test_people_correct_a_teacher():
    mask = np.array([[0, 51], [102, 25]], dtype=np.uint8)  # a peak of 0.4
    np.testing.assert_array_equal(told(mask, None), mask)
    np.testing.assert_array_equal(told(mask, False), 0 * mask)
    np.testing.assert_array_equal(told(mask, True), np.rint(mask * (SEEN / 0.4)))
    faint = (mask // 5).astype(np.uint8)  # a peak of 0.08: where it is, the teacher does not know
    np.testing.assert_array_equal(told(faint, True), faint)
    clear = (mask * 2).astype(np.uint8)
    np.testing.assert_array_equal(told(clear, True), clear)


def test_held_out_examples_are_not_learned_from(tmp_path):
    rows = [f"jpg/g{i}.jpg,DECaLS grz colour,Barred Spiral" for i in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,survey,label", *rows]))
    pictures = Unmarked()
    pictures.add_examples(tmp_path / "labels.csv")
    assert len(pictures.files) == 20
    assert pictures.answers["example_g0"] == {"spiral": True, "bar": True}
    left = pictures.without_folds((0, 1)).files
    assert set(left) == {name for name in pictures.files if fold(name) > 1}
    assert 0 < len(left) < 20


@pytest.mark.slow  # simulates 64 galaxies and shows them to the whole network, in five stages
def test_from_seeds_to_a_bundle(simulated_examples, tmp_path):
    def make():
        options = {"work": tmp_path / "work", "out": tmp_path / "bundle", "galaxies": 64, "hosted": 4, "disks": 2}
        options["hosts"] = simulated_examples / "gz_decals_jpg" / "jpg"
        options["drawn"] = simulated_examples / "galaxy_builder" / "drawn"
        options["plain"] = simulated_examples / "gz2_pictures" / "non_spirals"
        options["examples"] = simulated_examples / "gz_examples" / "labels.csv"
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
    for stage in ("first", "second", "third", "fifth"):
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
