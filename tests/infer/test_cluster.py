"""Predictions by several processes: the same files as by one, also where a process or a galaxy fails."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import zoobot_3d
from dask_workers import scheduler_with_two_workers
from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.bundle import load_bundle
from zoobot_3d.infer.predict import Where, predict
from zoobot_3d.infer.predictions import read_rows
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.infer.verify import verify

N = 14


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with scheduler_with_two_workers(tmp_path_factory.mktemp("scheduler"), os.environ.get("PYTHONPATH", "")) as address:
        yield address


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Fourteen pictures: one is blank and one truncated."""
    folder, rng = tmp_path_factory.mktemp("survey") / "pictures", np.random.default_rng(0)
    for number in range(N):
        io.write_jpeg(folder / f"{number:02d}.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    io.write_jpeg(folder / "03.jpg", np.zeros((64, 64, 3), np.uint8))
    (folder / "08.jpg").write_bytes((folder / "08.jpg").read_bytes()[:700])
    return folder


def load(bundle, **options):
    return zoobot_3d.load_segmenter(bundle, device="cpu", batch_size=2, engine="torch", **options)


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    return load(tiny_bundle)


@pytest.fixture(scope="module")
def alone(pictures, segmenter, tmp_path_factory):
    """What one process writes."""
    folder = tmp_path_factory.mktemp("alone")
    predict(list_galaxies(pictures), segmenter, folder / "out", masks="png", shard_size=2)
    return folder / "out"


def files(folder, *, but=("log",)):
    """All files; ``run.json`` without the way to the pictures, which differs from folder to folder."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    content = {name: path.read_bytes() for name, path in found.items() if name.parts[0] not in but}
    return {name: value for name, value in content.items() if name.name != "run.json"}


def same(one: Path, other: Path) -> None:
    """Every shard and mask file is the same to a byte, but for the way to the pictures in a shard's metadata."""
    assert files(one).keys() == files(other).keys()
    for name, content in files(one).items():
        assert content == files(other)[name], name
    assert log(one) == log(other)


def log(folder):
    """What the log says of each shard in the end."""
    lines = map(json.loads, (folder / "log/shards.jsonl").read_text().splitlines())
    return {line["shard"]: line for line in lines}


def test_two_workers_write_the_files_of_one_process_and_one_may_die(
    pictures, alone, tiny_bundle, scheduler, monkeypatch
):
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        workers = client.run(os.getpid)
    out, done = alone.with_name("two"), []

    def progress(count):
        done.append(count)
        if sum(done) == 2:  # the first of seven shards
            os.kill(next(iter(workers.values())), signal.SIGKILL)

    monkeypatch.chdir(pictures.parent)  # paths that hold here alone
    galaxies, segmenter = list_galaxies("pictures"), load(tiny_bundle, start=False)
    where = Where(scheduler, threads=1)
    summary = predict(galaxies, segmenter, out, masks="png", shard_size=2, where=where, progress=progress)
    assert (summary.predicted, summary.failed, summary.shards, summary.unwritten) == (N - 2, 2, N // 2, 0)
    assert sum(done) == N and "_members" not in vars(segmenter)  # no network was started here
    same(alone, out)
    assert not verify(out).problems and not (out / ".predict.work").exists()
    again = predict(galaxies, segmenter, out, masks="png", shard_size=2, where=where)
    assert (again.predicted, again.skipped, again.failed) == (0, N - 2, 2)
    same(alone, out)


def test_a_run_that_is_stopped_goes_on_in_any_number_of_processes(pictures, alone, segmenter, scheduler):
    out, galaxies = alone.with_name("stopped"), list_galaxies(pictures)

    def stop(count):
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(galaxies, segmenter, out, masks="png", shard_size=2, where=Where(scheduler), progress=stop)
    assert len(log(out)) == 1 and len(list((out / "shards").glob("*.parquet"))) == 1
    assert (out / ".predict.work").exists()
    (out / ".predict.work" / "part-of-another-time.parquet").touch()
    summary = predict(galaxies, segmenter, out, masks="png", shard_size=2)
    assert summary.skipped >= 1 and not (out / ".predict.work").exists()
    same(alone, out)


def test_rows_are_replaced_in_their_shards(pictures, segmenter, scheduler, tmp_path):
    for number in range(6):
        source = pictures / f"{number:02d}.jpg"
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / source.name).write_bytes(source.read_bytes())
    galaxies = list_galaxies(tmp_path / "pictures")
    for name in ("one", "two"):
        predict(galaxies, segmenter, tmp_path / name, shard_size=3)
    for old, new in (("01", "12"), ("03", "13")):  # another picture, and one that failed
        (tmp_path / "pictures" / f"{old}.jpg").write_bytes((pictures / f"{new}.jpg").read_bytes())
    one = predict(galaxies, segmenter, tmp_path / "one", shard_size=3)
    two = predict(galaxies, segmenter, tmp_path / "two", shard_size=3, where=Where(scheduler))
    assert one == two and (two.changed, two.repaired, two.skipped) == (1, 1, 4)
    same(tmp_path / "one", tmp_path / "two")


CRASH = """
import os
import zoobot_3d.infer.rows as rows
real = rows._read_picture
rows._read_picture = lambda row: os._exit(1) if row.path == "05.jpg" else real(row)
"""


@pytest.mark.slow  # worker processes are replaced
def test_a_galaxy_that_kills_its_process_costs_only_itself(pictures, alone, segmenter, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(CRASH)  # read by every Python that starts
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    out = alone.with_name("crashed")
    where = Where("local:2")
    summary = predict(list_galaxies(pictures), segmenter, out, masks="png", shard_size=2, where=where)
    assert (summary.predicted, summary.failed) == (N - 3, 3)
    rows, expected = read_rows(out), read_rows(alone)
    bad = rows["id"] == "05"
    assert rows["error"][bad].tolist() == ["the worker process died on it"]
    pd.testing.assert_frame_equal(rows[~bad], expected[~bad])
    assert not verify(out).problems
    monkeypatch.undo()
    assert predict(list_galaxies(pictures), segmenter, out, masks="png", shard_size=2).repaired == 1
    pd.testing.assert_frame_equal(read_rows(out), expected)


def test_workers_need_bundles_that_lie_in_folders(pictures, tiny_bundle, tmp_path):
    in_memory = Segmenter(load_bundle(tiny_bundle), device="cpu")
    with pytest.raises(ConfigError, match="make the segmenter with load_segmenter"):
        predict(list_galaxies(pictures), in_memory, tmp_path / "out", where=Where("local:2"))


def test_one_run_a_folder_and_a_cluster_that_is_none(pictures, segmenter, tmp_path, tiny_bundle, capsys):
    from zoobot_3d.compute.locks import folder_lock

    with (
        folder_lock(tmp_path / "out", "a prediction"),
        pytest.raises(BadFileError, match="a prediction is running in this folder"),
    ):
        predict(list_galaxies(pictures), segmenter, tmp_path / "out", where=Where("local:2"))
    command = ["predict", str(pictures), "--bundle", str(tiny_bundle), "--out", str(tmp_path / "new"), "--cluster"]
    assert cli.main([*command, "nowhere"]) == 2
    assert "cluster 'nowhere' is not understood; use local" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_from_the_command_line(pictures, alone, tiny_bundle, scheduler, capsys):
    command = ["predict", str(pictures), "--bundle", str(tiny_bundle), "--out", str(alone.with_name("cli"))]
    command += ["--shard-size", "2", "--batch-size", "2", "--device", "cpu", "--engine", "torch", "--masks", "png"]
    assert cli.main([*command, "--cluster", scheduler]) == 0
    assert f"{N - 2} predicted, 0 done before, 2 failed" in capsys.readouterr().out
    same(alone, alone.with_name("cli"))
