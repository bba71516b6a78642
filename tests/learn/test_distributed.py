"""Several processes train one network: on this machine by devices=2, and as SLURM's srun would start them on two."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import SequentialSampler

from tiny_survey import make_mixed_survey, make_survey
from zoobot_3d.config.reading import config_to_yaml
from zoobot_3d.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from zoobot_3d.dataset.samplers import RankShare
from zoobot_3d.infer.bundle import load_bundle

SCRIPT = Path(__file__).with_name("train_in_processes.py")
TINY = ModelConfig(options={"widths": [8, 8, 8, 8], "depths": [1, 1, 1, 1]})


def environment(**more):
    """Of a process that no cluster and no other run has marked."""
    marks = ("SLURM_", "MASTER_", "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(marks)}
    paths = os.pathsep.join([str(SCRIPT.parents[2] / "src"), clean.get("PYTHONPATH", "")])
    return clean | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | more


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """30 galaxies to train on: no multiple of the batch; 16 each to validate and test."""
    catalog = make_survey(tmp_path_factory.mktemp("survey"), n=62, size=64)
    frame = pd.read_parquet(catalog)
    frame["split"] = ["train"] * 30 + ["val"] * 16 + ["test"] * 16
    frame.to_parquet(catalog)
    return catalog


def settings(survey, batch_size, **train):
    data = DataConfig(
        str(survey), input_size=32, field_fraction=0.75, batch_size=batch_size, cache="ram", augment=False
    )
    return Config(
        TINY, data, TrainConfig(**({"epochs": 2, "accelerator": "cpu", "progress": False, "ema": 0.0} | train))
    )


def command(config, out):
    out.mkdir()
    (out / "given.yaml").write_text(config_to_yaml(config))
    return [sys.executable, str(SCRIPT), str(out / "given.yaml"), str(out)]


def state(out):
    return load_bundle(out / "bundle").model.state_dict()


@pytest.fixture(scope="module")
def alone(survey, tmp_path_factory):
    """One process, batches of 8: 2 epochs of 3 steps."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    subprocess.run(command(settings(survey, 8), out), env=environment(), check=True)
    return out


def check_same(out, alone):
    """The same weights, scores and steps, and everything written once."""
    for name, value in state(alone).items():
        assert torch.allclose(state(out)[name], value, rtol=1e-3, atol=1e-5), name
    here, there = (json.loads((folder / "metrics.json").read_text()) for folder in (out, alone))
    assert here["steps"] == there["steps"] == 6
    assert here["val"] == pytest.approx(there["val"], rel=1e-3, abs=1e-5)
    assert here["test"] == pytest.approx(there["test"], rel=1e-3, abs=1e-5)
    logs = [pd.read_csv(folder / "logs" / "csv" / "version_0" / "metrics.csv") for folder in (out, alone)]
    scores = [name for name in logs[1] if name.startswith("val_")]
    epochs = [log.dropna(subset="val_loss")[scores].to_numpy() for log in logs]
    np.testing.assert_allclose(*epochs, rtol=1e-3, atol=1e-5)  # of every epoch, over the galaxies of all processes
    assert [path.name for path in (out / "logs" / "csv").iterdir()] == ["version_0"]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.slow  # three processes import torch and train
def test_two_processes_learn_what_one_does(survey, alone, tmp_path):
    """Batches of 4 on two processes (gloo) are batches of 8 on one."""
    started = state(alone)
    out = tmp_path / "two"
    subprocess.run(command(settings(survey, 4, devices=2), out), env=environment(), check=True)
    check_same(out, alone)
    assert any(value.abs().max() > 0 for value in started.values())


@pytest.mark.slow  # two processes import torch and train
def test_two_nodes_as_srun_starts_them(survey, alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "nodes"
    line = command(settings(survey, 4, num_nodes=2), out)
    slurm = {
        "SLURM_JOB_ID": "77",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_NODELIST": "localhost,localhost",
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    nodes = [
        subprocess.Popen(line, env=environment(**slurm, SLURM_PROCID=str(node), SLURM_NODEID=str(node)))
        for node in range(2)
    ]
    assert [node.wait(timeout=240) for node in nodes] == [0, 0]
    check_same(out, alone)


@pytest.mark.slow  # two processes import torch and train
def test_processes_stop_together_and_know_each_others_failures(survey, tmp_path):
    """The steps of both count together; a galaxy that only the second one met is in failed.csv."""
    bad = pd.read_parquet(survey)
    bad.loc[bad["split"] == "train", "relative_desi_jpg_loc"] = [f"jpg/none{i}.jpg" for i in range(4)] + list(
        bad.loc[bad["split"] == "train", "relative_desi_jpg_loc"][4:]
    )
    catalog = survey.with_name("bad.parquet")
    bad.to_parquet(catalog)
    config = settings(survey, 4, devices=2, epochs=1000, max_steps=6, patience=0)
    config = replace(config, data=replace(config.data, catalog=str(catalog)))
    out = tmp_path / "out"
    subprocess.run(command(config, out), env=environment(), check=True, timeout=240, capture_output=True)
    assert pd.read_csv(out / "failed.csv")["id"].nunique() == 4
    assert json.loads((out / "metrics.json").read_text())["epochs"] < 1000


@pytest.mark.slow  # two processes import torch and train
def test_a_process_without_marks_does_not_stop_the_other(tmp_path):
    """Of masks and votes together, where one process runs the decoder and the other has nothing to run it on."""
    catalog = make_mixed_survey(tmp_path / "survey")
    frame = pd.read_parquet(catalog)
    training = frame.index[frame["split"] == "train"]
    frame.loc[training[1:], "relative_segmap_json_loc"] = None
    frame.to_parquet(catalog)
    config = settings(catalog, 2, devices=2, strategy="ddp_find_unused_parameters_true")
    config = replace(config, data=replace(config.data, votes=("gz2",)))
    out = tmp_path / "out"
    subprocess.run(command(config, out), env=environment(), check=True, timeout=240, capture_output=True)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["marked"]["train"] == 1 and metrics["epochs"] == 2
    assert 0 < metrics["val"]["vote_loss"] < 10 and 0 < metrics["val"]["loss"] < 10


class Backwards(SequentialSampler):
    """10 indices, downwards in odd epochs."""

    epoch = 0

    def __init__(self):
        super().__init__(range(10))

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(range(10)[:: -1 if self.epoch % 2 else 1])


def test_a_single_process_has_the_whole_order():
    share = RankShare(Backwards())
    assert len(share) == 10 and list(share) == list(range(10))
    share.set_epoch(1)
    assert list(share) == list(range(9, -1, -1))


def test_shares_of_a_step_make_up_the_whole_batch(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(RankShare(Backwards()))
    assert [list(share) for share in shares] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]  # 9 is left out: all have as many
    assert [len(share) for share in shares] == [3, 3, 3]
    shares[2].set_epoch(1)
    assert list(shares[2]) == [7, 4, 1]
