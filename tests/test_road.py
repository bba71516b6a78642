"""From an empty folder to a trained model, with nothing but the command line and the loopback archive."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from zoobot_3d import cli
from zoobot_3d.infer.bundle import read_info
from zoobot_3d.schema import DEFAULT_MASTER
from zoobot_3d.simulate.archive import Archive
from zoobot_3d.simulate.faulty_server import Faults
from zoobot_3d.simulate.survey import simulate_survey

N = 24
NETWORK = ["--rate", "0", "--first-wait", "0.01", "--attempts", "8"]


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Path:
    """A simulated survey for the archive to serve."""
    return simulate_survey(tmp_path_factory.mktemp("sky"), N, seed=3, workers=1, progress=False).root


def steps(root: Path, archive: Archive) -> dict[str, list[str]]:
    """The commands of docs/data.md."""
    at, catalogues, master = ["--root", str(root)], root / "catalogues", str(root / DEFAULT_MASTER)
    metadata, matches = str(catalogues / "gz3d_metadata.parquet"), str(catalogues / "matches.parquet")
    desi = [
        str(catalogues / name)
        for name in ("gz_desi_deep_learning_catalog_friendly.parquet", "external_catalog.parquet")
    ]
    training = ["--data.catalog", master, "--data.input_size", "32", "--data.batch_size", "8", "--data.workers", "0"]
    training += ["--train.epochs", "2", "--train.accelerator", "cpu", "--train.progress", "false"]
    return {
        "fetch gz3d": ["fetch", "gz3d", *at, "--url", archive.gz3d_url, *NETWORK],
        "fetch gz-desi": ["fetch", "gz-desi", *at, "--url", archive.zenodo_url, *NETWORK],
        "fetch gz2": ["fetch", "gz2", *at, "--url", archive.gz2_url, *NETWORK],
        "extract-marks": ["extract-marks", str(root / "gz3d"), "--out", str(root / "marks")],
        "catalog": ["catalog", str(root / "gz3d"), "--out", metadata],
        "crossmatch": ["crossmatch", metadata, desi[0], "--out", matches, "--keep-duplicates", "--suffix", "_manga"],
        "fetch cutouts": [
            "fetch", "cutouts", matches, *at, "--center", "manga", "--sizes", desi[1],
            "--url", archive.cutout_url, *NETWORK,
        ],
        "make-masks": ["make-masks", str(root / "marks"), "--out", str(root / "masks")],
        "build-master": [
            "build-master", matches, *at, "--desi", *desi, "--gz2", str(catalogues / "gz2_volunteer_votes.parquet"),
        ],
        "check": ["check", master, "--report", str(root / "check.csv")],
        "train": ["train", str(root / "run"), *training],
        "predict": [
            "predict", master, "--bundle", str(root / "run" / "bundle"), "--out", str(root / "found"),
            "--shard-size", "8",
        ],
    }  # fmt: skip


@pytest.mark.slow  # the whole road: downloads, training, prediction
def test_from_nothing_to_a_trained_model(sky, tmp_path):
    root = tmp_path / "data"
    with Archive(sky, faults=Faults(share=0.3, seed=1)) as archive:
        for name, arguments in steps(root, archive).items():
            assert cli.main(arguments) == 0, name
    master = pd.read_parquet(root / DEFAULT_MASTER)
    truth = pd.read_parquet(sky / DEFAULT_MASTER).set_index("dr8_id").loc[master["dr8_id"]]
    assert len(master) == N
    for column in ("mangaid", "n_asked_spiral", "n_asked_bar", "split"):
        assert list(master[column]) == list(truth[column])
    assert master["est_dr5_pixscale"].to_numpy() == pytest.approx(truth["est_dr5_pixscale"].to_numpy(), rel=1e-3)
    assert list(master["ra"]) == pytest.approx(list(master["ra_manga"]), abs=1e-6)  # --center manga
    assert read_info(root / "run" / "bundle").loss == "bce"
    found = pd.read_parquet(root / "found" / "shards")
    assert len(found) == N and found["error"].isna().all()


@pytest.mark.slow  # every command of the road three times over, in processes of their own
def test_kill_9_changes_nothing(sky, tmp_path):
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    rng = random.Random(0)
    with Archive(sky) as archive:
        for name, arguments in steps(calm, archive).items():
            start = time.monotonic()
            assert _start(arguments).wait() == 0, name
            seconds = time.monotonic() - start
            again = steps(stormy, archive)[name]
            _kill_after(_start(again), rng.uniform(0.5, 0.9) * seconds)
            assert _start(again).wait() == 0, name
    assert _files(stormy) == _files(calm)


@pytest.mark.slow  # every command that fills the data root three times over, in processes of their own
def test_kill_9_between_two_files_changes_nothing(sky, tmp_path):
    """A time may fall into imports; this kill comes when half of a command's files have their names."""
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    with Archive(sky) as archive:
        for name, arguments in steps(calm, archive).items():
            if name in ("train", "predict"):
                continue  # their own tests kill them between epochs and shards
            before = _files(calm)
            assert _start(arguments).wait() == 0, name
            renamed = len(set(_files(calm).items()) - set(before.items()))
            again = steps(stormy, archive)[name]
            assert _start(again, kill_at=(renamed + 1) // 2).wait() == -signal.SIGKILL, name
            assert _start(again).wait() == 0, name
            assert _files(stormy) == _files(calm), name


_MAIN = """
import itertools, os, signal, sys
from zoobot_3d.cli import main
kill_at, number, replace = int(sys.argv.pop(1)), itertools.count(1), os.replace
def count(*paths, **options):
    if next(number) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths, **options)
os.replace = count
sys.exit(main())
"""


def _start(arguments: list[str], kill_at: int = 0) -> subprocess.Popen:
    """Run a command in a process of its own, which kills itself before it gives a file its name for the n-th time."""
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, str(kill_at), *arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill_after(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _files(root: Path) -> dict[str, bytes]:
    """Every file; of the training the weights alone, for the rest holds times of day."""
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    timed = {name for name in files if name.startswith("run/") and not name.endswith(".safetensors")}
    timed |= {name for name in files if name.startswith("found/log/")}
    return {name: path.read_bytes() for name, path in files.items() if name not in timed}
