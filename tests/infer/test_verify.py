"""Whole predictions pass; every kind of damage is named, and repaired by the same prediction."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.compute.locks import folder_lock
from zoobot_3d.errors import BadFileError
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.shards import ShardLog, write_shard
from zoobot_3d.infer.verify import verify


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcde":
        io.write_png(tmp_path / "pictures" / f"{name}.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    io.write_png(tmp_path / "pictures" / "f.png", np.zeros((64, 64, 3), np.uint8))  # blank: a row with an error
    return tmp_path / "pictures"


def shard(out, number):
    return out / "shards" / f"shard-{number:05d}.parquet"


def contents(out):
    return [path.read_bytes() for path in sorted((out / "shards").glob("*.parquet"))]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def rewrite(out, number, change):
    """Change the rows of a shard in a way that its log knows of: its checksum is right."""
    path = shard(out, number)
    notes = {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
    notes.pop("pandas", None)
    frame = pd.read_parquet(path)
    change(frame, notes)
    write_shard(ShardLog(out), number, frame.assign(stamp=""), notes)


def broken_picture(frame, notes):
    png = frame.at[0, "bar_mask_png"]
    frame.at[0, "bar_mask_png"] = png[: len(png) // 2]


def other_size(frame, notes):
    frame.at[0, "bar_mask_png"] = io.encode_mask_png(np.zeros((3, 5), np.float32))


def no_picture(frame, notes):
    frame.at[0, "bar_mask_png"] = None


def twice(frame, notes):
    frame.at[0, "id"] = "a"


def other_bundle(frame, notes):
    notes["run"] = json.dumps(json.loads(notes["run"]) | {"bundle": "another"})


def test_whole_predictions(out, capsys):
    before = contents(out)
    assert cli.main(["verify", str(out), "--repair"]) == 0
    assert (
        capsys.readouterr().out.strip()
        == "3 shards as they were written: 6 galaxies, 1 of them without masks; 10 PNG images decoded"
    )
    assert contents(out) == before


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: os.truncate(path, path.stat().st_size // 2), "cannot be read: truncated or overwritten"),
        (flip, ""),  # says what it broke: the page, or only the checksum
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(path.with_name("shard-00000.parquet").read_bytes()), "its checksum differs"),
    ],
    ids=["truncated", "flipped", "empty", "swapped"],
)
def test_damaged_files_are_named_and_made_again(pictures, segmenter, out, capsys, harm, problem):
    before = contents(out)
    harm(shard(out, 1))
    assert cli.main(["verify", str(out)]) == 1
    told = capsys.readouterr().out
    assert "2 shards as they were written: 4 galaxies" in told
    assert "shard-00001.parquet: " in told and problem in told and "--repair" in told
    assert shard(out, 1).exists()
    assert cli.main(["verify", str(out), "--repair"]) == 1
    assert "1 damaged shards removed; run the same zoobot3d predict again" in capsys.readouterr().out
    assert not shard(out, 1).exists()
    assert verify(out).problems == {"shard-00001.parquet": "missing"}
    assert predict(list_galaxies(pictures), segmenter, out, shard_size=2).damaged == 1
    assert contents(out) == before
    assert not verify(out).problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (broken_picture, "c, bar_mask_png"),
        (other_size, "c, bar_mask_png: a picture of 5 x 3 px; its row says 64 x 64 px"),
        (no_picture, "c, bar_mask_png: no picture, and no error"),
        (twice, "a is in shard-00000.parquet already"),
        (other_bundle, "made with other bundle than the folder's run.json says"),
    ],
)
def test_what_is_wrong_inside_is_found_where_the_checksum_is_right(pictures, segmenter, out, change, problem):
    before = contents(out)
    rewrite(out, 1, change)
    found = verify(out, repair=True)
    assert list(found.problems) == ["shard-00001.parquet"] and found.removed == 1
    assert found.problems["shard-00001.parquet"].startswith(problem)
    predict(list_galaxies(pictures), segmenter, out, shard_size=2)
    assert contents(out) == before


def test_rows_are_counted_against_the_log(out):
    log = out / "log" / "shards.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]["rows"]["another"] = "stamp"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert verify(out).problems == {
        "shard-00001.parquet": "holds 2 rows, not those of the 3 galaxies that the log names"
    }


def test_a_repair_waits_for_no_prediction_and_a_look_may(out):
    with folder_lock(out, "a prediction"):
        assert not verify(out).problems
        with pytest.raises(BadFileError, match="a prediction is running"):
            verify(out, repair=True)


def test_no_predictions(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "no shards of predictions here; run zoobot3d predict first" in capsys.readouterr().err
