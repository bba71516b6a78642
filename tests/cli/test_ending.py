"""How commands end: by a mistake that is told at once, by a signal, by a disk at fault."""

import os
import signal
import subprocess
import sys

import pytest

from zoobot_3d import cli
from zoobot_3d.cli.ending import GO_ON, status_of
from zoobot_3d.compute.signals import Stopped
from zoobot_3d.errors import ConfigError

EARLY = """
import sys
from zoobot_3d.cli import main
status = main(sys.argv[1:])
sys.exit(99 if "torch" in sys.modules else status)
"""
LATE = """
import sys, time
from zoobot_3d.cli import main
import zoobot_3d.prepare.extract as extract
def work(*args, **options):
    print("working", flush=True)
    time.sleep(60)
extract.extract_marks = work
sys.exit(main(["extract-marks"]))
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "OUT", "--config", "none.yaml"], "none.yaml: no such file"),
        (["train", "OUT", "--train.learning_rate", "1"], "train.learning_rate: no such key; did you mean train.lr?"),
        (["train", "OUT", "--train.lr", "abc"], "train.lr: expected float, got abc"),
        (["train", "OUT", "--data.catalog", "none.parquet"], "none.parquet: no such file"),
        (["train", "OUT", "--init", "none", "--data.catalog", "none.parquet"], "none: no such folder"),
        (["predict", "none", "--out", "OUT"], "none: no such file or folder"),
        (["predict", ".", "--bundle", "none", "--out", "OUT"], "no pictures"),
        (["predict", "--radec", "1,5", "--out", "OUT"], "decimal commas"),
    ],
)
def test_a_mistake_is_told_before_torch_is_loaded(tmp_path, words, message):
    command = [sys.executable, "-c", EARLY, *(str(tmp_path / "out") if word == "OUT" else word for word in words)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 2, run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith("zoobot3d: ") and message in line


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_one_line(tmp_path, how, status):
    with subprocess.Popen(
        [sys.executable, "-c", LATE], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout.readline() == "working\n"
        run.send_signal(how)
        _, error = run.communicate(timeout=60)
    assert run.returncode == status
    assert error == f"zoobot3d extract-marks: stopped by {how.name}; {GO_ON}\n"


def test_statuses(capsys):
    assert status_of(ConfigError("a: b"), "train", GO_ON) == 2
    assert status_of(OSError(28, "No space left on device", "/x/.a.csv.k3.part"), "check", GO_ON) == 2
    assert status_of(Stopped(signal.SIGTERM, "the last epoch is kept"), "train", GO_ON) == 143
    assert status_of(ZeroDivisionError(), "train", GO_ON) is None
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "zoobot3d: a: b"
    assert lines[1].startswith("zoobot3d: /x/a.csv: No space left on device; check the path")
    assert lines[2] == "zoobot3d train: stopped by SIGTERM; the last epoch is kept"


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["describe", "none"]) == 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_device_that_is_not_there_is_one_line(tmp_path, tiny_bundle, capsys):
    (tmp_path / "a.jpg").touch()
    command = ["predict", str(tmp_path), "--out", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--device"]
    for name in ("mps:3", "tpu", "cuda:7"):
        assert cli.main([*command, name]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"zoobot3d: --device {name}: no")
    assert not os.path.exists(tmp_path / "out")  # noqa: PTH110
