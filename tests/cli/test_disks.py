"""Places that cannot be written, in every command that writes: one line, status 2, and nothing made."""

import errno

import numpy as np
import pandas as pd
import pytest

from tiny_survey import make_survey
from zoobot_3d import cli
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.segmenter import load_segmenter
from zoobot_3d.io import write_jpeg


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bundle):
    """A survey, pictures, predictions and tables to work on."""
    root = tmp_path_factory.mktemp("made")
    catalogue = make_survey(root / "survey", n=8, size=64)
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    write_jpeg(root / "pictures" / "a.jpg", picture)
    predict(list_galaxies(root / "pictures"), load_segmenter(tiny_bundle, device="cpu"), root / "masks")
    table = pd.DataFrame({"dr8_id": ["1_1"], "ra": [10.0], "dec": [5.0], "est_dr5_pixscale": [0.2]})
    table.to_csv(root / "table.csv", index=False)
    (root / "plan.yaml").write_text("search: {train.lr: {low: 0.001, high: 0.01}}\n")
    return root, catalogue, tiny_bundle


NOBODY = "http://127.0.0.1:9"
COMMANDS = {
    "simulate": ["simulate", "OUT", "--galaxies", "1", "--workers", "1"],
    "demo": ["demo", "--out", "OUT", "--galaxies", "60"],
    "predict": ["predict", "ROOT/pictures", "--bundle", "BUNDLE", "--out", "OUT"],
    "predict table": [
        "predict",
        "ROOT/table.csv",
        "--fetch",
        "--url",
        "http://127.0.0.1:9",
        "--bundle",
        "BUNDLE",
        "--out",
        "OUT",
    ],
    "export": ["export", "ROOT/masks", "--format", "png", "--out", "OUT"],
    "train": ["train", "OUT", "--data.catalog", "CATALOGUE", "--data.input_size", "32"],
    "make-masks": ["make-masks", "CATALOGUE", "--out", "OUT"],
    "check": ["check", "CATALOGUE", "--size", "64", "--report", "OUT/report.csv"],
    "crossmatch": ["crossmatch", "ROOT/table.csv", "ROOT/table.csv", "--out", "OUT/m.csv"],
    "evaluate": ["evaluate", "CATALOGUE", "--bundle", "BUNDLE", "--split", "all", "--out", "OUT"],
    "figures": ["figures", "predictions", "ROOT/masks", "--out", "OUT/f.png"],
    "fetch cutouts": [
        "fetch",
        "cutouts",
        "ROOT/table.csv",
        "--root",
        "OUT",
        "--url",
        "http://127.0.0.1:9",
        "--attempts",
        "1",
    ],
    "sweep": ["sweep", "ROOT/plan.yaml", "--out", "OUT", "--trials", "1", "--data.catalog", "CATALOGUE"],
}


def command(name, made, out):
    """Words of a command, with the places filled in."""
    places = dict(zip(("ROOT", "CATALOGUE", "BUNDLE", "OUT"), map(str, (*made, out)), strict=True))
    parts = (word.partition("/") for word in COMMANDS[name])
    return [places.get(first, first) + slash + rest for first, slash, rest in parts]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["a file", "a name that is too long"])
def test_out_that_cannot_be(made, tmp_path, capsys, name, kind):
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" if kind == "a file" else tmp_path / ("x" * 300)
    assert cli.main(command(name, made, out)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zoobot3d: ")]
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("sweep", "demo")])
def test_a_disk_that_is_full(made, tmp_path, capsys, monkeypatch, name):
    """No file can be finished; what was there stays, and nothing half-written is left."""
    monkeypatch.setattr("zoobot_3d.io.files.os.fsync", _full)
    assert cli.main(command(name, made, tmp_path / "out")) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zoobot3d: ")]
    assert len(lines) == 1 and "Traceback" not in lines[0]
    assert not list(tmp_path.rglob("*.part"))


def _full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")
