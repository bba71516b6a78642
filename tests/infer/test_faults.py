"""A prediction that is killed at any moment, and pictures that are replaced by something else."""

import os
import random
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import zoobot_3d
from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.predictions import read_rows
from zoobot_3d.infer.verify import verify

DRIVE = '''
"""Count the lines that a prediction runs, kill it at some of them, and resume each: out/whole, out/0, out/1, ..."""
import os, signal, sys, threading
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.uncertainty import Found

pictures, bundle, out, *moments = sys.argv[1:]

class Network:
    """Masks that depend on the picture; the faults are those of files, and no network is needed for them."""
    bundles = [SimpleNamespace(path=Path(bundle), info=SimpleNamespace(model_name="stand-in"))]
    tta, batch_size, vote_names = False, 2, ()
    def ask(self, pictures, field, uncertain):
        return [lambda p=p: Found(np.stack([p[..., 0], p[..., 1]]).astype(np.float32) / 255) for p in pictures]
    def vote_fractions(self, pictures, field):
        return {}

def run(folder, moment):
    """Run a prediction in a process of its own that kills itself at a line; return its status and its lines."""
    told, count = os.pipe()
    if pid := os.fork():
        os.close(count)
        lines = os.read(told, 100)
        os.close(told)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(lines or 0)
    done = 0
    def step(frame, event, arg):
        nonlocal done
        if "zoobot_3d" not in frame.f_code.co_filename:
            return None
        if event == "line":
            done += 1
            if done == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        return step
    galaxies = list_galaxies(pictures)
    sys.settrace(step)
    threading.settrace(step)
    predict(galaxies, Network(), folder, masks="png", shard_size=3)
    os.write(count, b"%d" % done)
    os._exit(0)

status, lines = run(out + "/whole", 0)
assert status == 0 and lines > 1000, (status, lines)
for number, moment in enumerate(moments):
    folder = f"{out}/{number}"
    status, _ = run(folder, int(float(moment) * lines))
    assert status == -signal.SIGKILL, status
    status, _ = run(folder, 0)
    assert status == 0, status
'''


def content(folder: Path) -> dict[Path, bytes]:
    """All files but the log, which tells when, and the locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    told = {path.relative_to(folder): path.read_bytes() for path in files}
    return {path: data for path, data in told.items() if path.parts[0] != "log"}


def draw(path, seed):
    io.write_png(path, np.random.default_rng(seed).integers(1, 255, (64, 64, 3), dtype=np.uint8))


def test_kill_9_at_ten_random_moments(tmp_path, tiny_bundle):
    for seed in range(9):
        draw(tmp_path / "pictures" / f"g{seed}.png", seed)
    draws = random.Random(17)
    moments = [f"{draws.uniform(0.01, 0.95):.4f}" for _ in range(10)]
    imported = str(Path(zoobot_3d.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", DRIVE, tmp_path / "pictures", tiny_bundle, tmp_path / "out", *moments],
        check=True,
        env=os.environ | {"PYTHONPATH": imported, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    whole = content(tmp_path / "out" / "whole")
    assert sum(path.suffix == ".parquet" for path in whole) == 3
    for number, moment in enumerate(moments):
        folder = tmp_path / "out" / str(number)
        assert list(read_rows(folder)["id"]) == [f"g{seed}" for seed in range(9)], moment
        assert not verify(folder).problems, moment
        assert content(folder) == whole, moment


def replace(path: Path, kind: str) -> None:
    """Put something else in a picture's place."""
    path.unlink()
    noise = np.random.default_rng(5).integers(1, 255, (64, 64, 3), dtype=np.uint8)
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "garbage":
        path.write_bytes(noise.tobytes())
    elif kind == "huge":
        Image.new("1", (20_000, 20_000)).save(path)
    elif kind == "cmyk":
        Image.fromarray(noise).convert("CMYK").save(path, "JPEG")
    elif kind == "16-bit":
        path.write_bytes(cv2.imencode(".png", noise.astype(np.uint16) * 257)[1].tobytes())
    elif kind == "grey":
        Image.fromarray(noise[..., 0]).save(path)
    elif kind == "turned":
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(noise).save(path, exif=exif)


@pytest.mark.parametrize(
    ("kind", "column", "word"),
    [
        ("directory", "error", "b.png: "),
        ("pipe", "error", "b.png: "),
        ("garbage", "error", "b.png: "),
        ("huge", "error", "too large, as its header says"),
        ("cmyk", "error", "CMYK"),
        ("16-bit", "warning", "16"),
        ("turned", "warning", "EXIF"),
    ],
)
def test_a_picture_replaced_between_listing_and_reading(tmp_path, tiny_bundle, kind, column, word):
    for seed, name in enumerate("abc"):
        draw(tmp_path / "pictures" / f"{name}.png", seed)
    galaxies = list_galaxies(tmp_path / "pictures")
    replace(tmp_path / "pictures" / "b.png", kind)
    segmenter = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=2)
    predict(galaxies, segmenter, tmp_path / "out")
    rows = read_rows(tmp_path / "out").set_index("id")
    assert word in rows.loc["b", column]
    assert (rows.loc["b", "spiral_max"] >= 0) == (column == "warning")  # a warning stands beside masks
    assert rows.loc[["a", "c"], ["error", "warning"]].isna().all(axis=None)
    assert not verify(tmp_path / "out").problems


def test_a_grey_picture_is_predicted_as_one_of_three_equal_colours(tmp_path, tiny_bundle):
    draw(tmp_path / "pictures" / "a.png", 0)
    replace(tmp_path / "pictures" / "a.png", "grey")
    grey = io.read_picture(tmp_path / "pictures" / "a.png")
    io.write_png(tmp_path / "pictures" / "b.png", np.dstack([grey[..., 0]] * 3))
    segmenter = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=2)
    predict(list_galaxies(tmp_path / "pictures"), segmenter, tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "shards")
    assert rows["error"].isna().all()
    assert rows["spiral_mask_png"][0] == rows["spiral_mask_png"][1]


def test_a_catalogue_without_rows_is_one_line(tmp_path, tiny_bundle, capsys):
    pd.DataFrame({"id": [], "file_loc": []}).to_csv(tmp_path / "none.csv", index=False)
    words = ["predict", str(tmp_path / "none.csv"), "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("zoobot3d: ") and "none.csv" in line and "no column" not in line
    assert not (tmp_path / "out").exists()
