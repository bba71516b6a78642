import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from optuna.trial import TrialState

from zoobot_3d import cli, io
from zoobot_3d.errors import ConfigError
from zoobot_3d.learn.settings import load_config
from zoobot_3d.sweep.journal import MAX_DEATHS, STALE_SECONDS, SweepJournal
from zoobot_3d.sweep.sweep import sweep

PLAN = """
pruning: {startup_trials: 2, warmup_epochs: 0}
model: {options: {widths: [8, 8, 8, 8], depths: [0, 0, 0, 0]}}
data: {input_size: 32, field_fraction: 0.75, batch_size: 4, cache: ram, catalog: CATALOG}
train: {epochs: 2, accelerator: cpu, progress: false}
search:
  train.lr: {low: 1.0e-3, high: 5.0e-2, log: true}
  train.loss: {choices: [bce, mse]}
"""


@pytest.fixture
def plan(catalog, tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("CATALOG", str(catalog)))
    return file


def silent(text):
    pass


def start(plan, out, *arguments):
    """Start a sweep in a process of its own, as from a shell."""
    code = "import sys, torch; torch.set_num_threads(1); from zoobot_3d.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "sweep", plan, "--out", out, *arguments]
    paths = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [str(word) for word in command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


# The journal


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def killed_in_work(journal, trial):
    """As a process leaves a trial that was killed."""
    file = journal.folder / "workers" / f"{trial.number:04d}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": dead_pid()}))


def test_as_many_trials_as_asked_for(tmp_path):
    journals = [SweepJournal(tmp_path, seed=0) for _ in range(2)]
    trials = [journals[i % 2].claim(3) for i in range(4)]
    assert [trial and trial.number for trial in trials] == [0, 1, 2, None]
    journals[0].finish(trials[0], TrialState.COMPLETE, 0.5)
    journals[1].finish(trials[1], TrialState.FAIL, reason="no memory")
    assert journals[0].claim(3) is None
    assert journals[1].claim(4).number == 3


def test_draws_depend_on_the_trial_not_the_process(tmp_path):
    def draw(*journals):
        values = []
        for number in range(14):  # the first ten are random, the others follow from them
            journal = journals[number % len(journals)]
            trial = journal.claim(20)
            values.append(trial.suggest_float("train.lr", 0, 1))
            journal.finish(trial, TrialState.COMPLETE, -((values[-1] - 0.3) ** 2))
        return values

    alone = draw(SweepJournal(tmp_path / "a", seed=1))
    assert len(set(alone)) == 14
    assert draw(*(SweepJournal(tmp_path / "b", seed=1) for _ in range(2))) == alone
    assert draw(SweepJournal(tmp_path / "c", seed=2)) != alone


def test_what_a_dead_process_left_goes_on_in_its_folder(tmp_path):
    journal = SweepJournal(tmp_path, seed=0)
    trial = journal.claim(2)
    value = trial.suggest_float("train.lr", 0, 1)
    trial.report(0.1, 0)
    assert SweepJournal(tmp_path, seed=0).claim(1) is None  # this process lives
    killed_in_work(journal, trial)
    heir = SweepJournal(tmp_path, seed=0).claim(1)
    assert heir.suggest_float("train.lr", 0, 1) == value
    assert journal.place(heir) == journal.place(trial) == tmp_path / "trials" / "0000"
    assert not journal.owns(trial) and journal.owns(heir)
    journal.finish(trial, TrialState.COMPLETE, 0.9)  # by a process that had only seemed dead: too late
    journal.finish(heir, TrialState.COMPLETE, 0.2)
    table = journal.table("score")
    assert table[["trial", "state", "score", "epochs"]].to_numpy().tolist() == [["0000", "done", 0.2, 1]]


def test_killed_between_taking_a_trial_and_saying_so(tmp_path):
    journal = SweepJournal(tmp_path, seed=0)
    journal.claim(1)
    (tmp_path / "workers" / "0000.json").unlink()
    assert SweepJournal(tmp_path, seed=0).claim(1) is not None


@pytest.mark.parametrize(("age", "dead"), [(STALE_SECONDS - 20, False), (STALE_SECONDS + 20, True)])
def test_on_another_machine_only_silence_tells(tmp_path, age, dead):
    journal = SweepJournal(tmp_path, seed=0)
    trial = journal.claim(1)
    file = tmp_path / "workers" / f"{trial.number:04d}.json"
    file.write_text(json.dumps({"host": "elsewhere", "pid": dead_pid()}))
    os.utime(file, (time.time() - age,) * 2)
    assert (journal.claim(1) is not None) is dead


def test_a_beating_process_is_never_silent(tmp_path, monkeypatch):
    monkeypatch.setattr("zoobot_3d.sweep.journal.BEAT_SECONDS", 0.001)
    journal = SweepJournal(tmp_path, seed=0)
    trial = journal.claim(1)
    file = tmp_path / "workers" / "0000.json"
    os.utime(file, (0, 0))
    with journal.beating(trial):
        deadline = time.monotonic() + 20
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.001)  # waits for the file, not for the clock
    assert file.stat().st_mtime > 0


def test_a_trial_that_kills_its_processes_is_given_up(tmp_path):
    journal = SweepJournal(tmp_path, seed=0)
    journal.finish(journal.claim(2), TrialState.COMPLETE, 0.5)
    for _ in range(MAX_DEATHS):
        trial = journal.claim(2)
        assert journal.place(trial).name == "0001"
        killed_in_work(journal, trial)
    assert journal.claim(2) is None  # it counts as one of those asked for
    table = journal.table("score")
    assert table[["trial", "state", "reason"]].to_numpy().tolist() == [
        ["0000", "done", ""],
        ["0001", "failed", "3 processes died on it; see what they printed"],
    ]


def test_given_back_is_no_death(tmp_path):
    journal = SweepJournal(tmp_path, seed=0)
    for _ in range(MAX_DEATHS + 1):
        journal.give_back(journal.claim(1))
    assert journal.claim(1) is not None


def test_the_table_has_the_best_first(tmp_path):
    journal = SweepJournal(tmp_path, seed=0)
    trials = [journal.claim(9) for _ in range(4)]
    journal.finish(trials[0], TrialState.COMPLETE, 0.1)
    trials[1].report(0.7, 0)
    journal.finish(trials[1], TrialState.PRUNED, reason="hopeless")
    journal.finish(trials[2], TrialState.COMPLETE, 0.3)
    table = journal.table("score")
    assert table["trial"].tolist() == ["0002", "0000", "0001", "0003"]
    assert table["state"].tolist() == ["done", "done", "stopped early", "running"]
    assert journal.best().number == 2


# Whole sweeps


def test_a_sweep_leaves_all_that_is_promised(plan, tmp_path, capsys):
    out = tmp_path / "sweep"
    more = ["--train.epochs", 1, "--seed", 3]  # there is no epoch after which one could be stopped early
    arguments = ["sweep", plan, "--out", out, "--trials", 5, *more]
    assert cli.main([str(word) for word in arguments]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(out / "results.csv", dtype={"trial": str})
    assert sorted(table["trial"]) == ["0000", "0001", "0002", "0003", "0004"]
    done = table[table["state"] == "done"]
    assert done["val_soft_iou"].is_monotonic_decreasing
    assert f"trial {done['trial'][0]}: done, val_soft_iou {done['val_soft_iou'][0]:.4f}" in printed
    scores = json.loads((out / "trials" / done["trial"][0] / "metrics.json").read_text())["val"]
    assert done["val_soft_iou"][0] == pytest.approx((scores["spiral_soft_iou"] + scores["bar_soft_iou"]) / 2)
    best = load_config(out / "best.yaml")
    assert best == load_config(out / "trials" / done["trial"][0] / "config.yaml")
    assert (best.train.lr, best.train.loss) == (pytest.approx(table["train.lr"][0]), table["train.loss"][0])
    assert best.train.epochs == 1 and best.model.options["widths"] == [8, 8, 8, 8]
    assert (done["train.lr"].between(1e-3, 5e-2)).all()
    assert len(done) == 5
    assert np.ptp(io.read_picture(out / "importance.png")) > 100
    before = (out / "journal.log").read_bytes()
    assert cli.main([str(word) for word in arguments]) == 0  # nothing is left to do
    assert (out / "journal.log").read_bytes() == before


def test_two_processes_share_one_sweep(plan, tmp_path):
    out = tmp_path / "sweep"
    workers = [start(plan, out, "--trials", "6") for _ in range(2)]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    table = pd.read_csv(out / "results.csv", dtype={"trial": str})
    assert sorted(table["trial"]) == [f"{number:04d}" for number in range(6)]
    assert set(table["state"]) <= {"done", "stopped early"}
    told = [[line.split(":")[0] for line in text.splitlines() if line.startswith("trial ")] for text in printed]
    assert sorted(told[0] + told[1]) == [f"trial {number:04d}" for number in range(6)]  # none twice
    for trial in table["trial"]:
        assert len(list((out / "trials" / trial / "logs" / "csv").iterdir())) == 1, "trained in one go"
    assert not list((out / "workers").iterdir())


def test_kill_9_and_the_same_command(plan, tmp_path):
    out, more = tmp_path / "sweep", ["--train.epochs", "40", "--train.patience", "0"]
    worker = start(plan, out, "--trials", "2", *more)
    last = out / "trials" / "0000" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)  # waits for the file, not for the clock
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    done = torch.load(last, weights_only=True)["epoch"] + 1
    assert done < 40
    result = sweep(plan, out, trials=2, overrides=more, tell=silent)
    assert result.table["trial"].tolist() in (["0000", "0001"], ["0001", "0000"])
    epochs = [pd.read_csv(out / "trials" / "0000" / "logs" / "csv" / f"version_{n}" / "metrics.csv") for n in (0, 1)]
    assert epochs[1]["epoch"].min() == done  # it went on, and did not begin again
    assert result.table.set_index("trial")["epochs"]["0000"] == 40


def test_an_interrupted_trial_waits_for_the_next_run(plan, tmp_path, monkeypatch):
    from zoobot_3d.learn.task import SegmentTask

    def stop(task):
        raise KeyboardInterrupt

    monkeypatch.setattr(SegmentTask, "on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(plan, tmp_path / "sweep", trials=1, tell=silent)
    monkeypatch.undo()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it from then on
    table = sweep(plan, tmp_path / "sweep", trials=1, tell=silent).table
    assert table[["trial", "state"]].to_numpy().tolist() == [["0000", "done"]]


def test_a_trial_that_diverges_is_stopped_and_the_sweep_goes_on(plan, tmp_path):
    plan.write_text(plan.read_text().replace("{low: 1.0e-3, high: 5.0e-2, log: true}", "{choices: [1.0e+30, 0.01]}"))
    told = []
    result = sweep(plan, tmp_path / "sweep", trials=4, overrides=["train.clip=0"], tell=told.append)
    wild = result.table[result.table["train.lr"] == 1e30]
    assert len(wild) and (wild["state"] == "stopped early").all()
    assert (wild["reason"] == "the loss became NaN or infinite").all()
    assert len(told) == 4 and any("the loss became NaN or infinite" in line for line in told)


def test_left_behind_is_stopped_early(plan, tmp_path):
    plan.write_text(plan.read_text().replace("{low: 1.0e-3, high: 5.0e-2, log: true}", "{choices: [0.03, 1.0e-9]}"))
    more = ["train.epochs=4", "train.patience=0"]
    table = sweep(plan, tmp_path / "sweep", trials=8, overrides=more, tell=silent).table
    stopped = table[table["state"] == "stopped early"]
    assert len(stopped) and (stopped["epochs"] < 4).all()
    assert stopped["reason"].str.match(r"below the median of other trials after \d epochs").all()


def test_when_no_trial_can_be_trained_that_is_the_error(plan, tmp_path, monkeypatch):
    class Clock:
        """A minute later each time it is looked at."""

        monotonic = staticmethod(iter(range(0, 6000, 60)).__next__)

    monkeypatch.setattr("zoobot_3d.sweep.sweep.time", Clock)
    with pytest.raises(ConfigError, match=r"all 2 trials have failed; the first: data\.input_size: 40 is not a mult"):
        sweep(plan, tmp_path / "sweep", trials=9, minutes=3, overrides=["data.input_size=40"], tell=silent)


def test_failures_in_a_row_end_it(plan, tmp_path):
    with pytest.raises(ConfigError, match=r"5 trials in a row have failed; the last: data\.input_size: 40"):
        sweep(plan, tmp_path / "sweep", trials=100, overrides=["data.input_size=40"], tell=silent)
    table = pd.read_csv(tmp_path / "sweep" / "results.csv")
    assert table["state"].tolist() == ["failed"] * 5
    # Whatever it was, there are still as many trials to come as were asked for.
    journal = SweepJournal(tmp_path / "sweep", seed=0)
    assert [journal.claim(2) is None for _ in range(3)] == [False, False, True]


def test_another_sweep_needs_another_folder(plan, tmp_path):
    out = tmp_path / "sweep"
    sweep(plan, out, trials=1, minutes=0, tell=silent)  # begins no trial
    sweep(plan, out, trials=1, minutes=0, overrides=["train.accelerator=auto"], tell=silent)
    with pytest.raises(ConfigError, match=r"holds a sweep with another train\.clip; use another folder"):
        sweep(plan, out, trials=1, overrides=["train.clip=3"], tell=silent)
    plan.write_text(plan.read_text().replace("5.0e-2", "6.0e-2"))
    with pytest.raises(ConfigError, match=r"another search\.train\.lr; use another folder"):
        sweep(plan, out, trials=1, tell=silent)


def test_one_device_a_trial(plan, tmp_path):
    with pytest.raises(ConfigError, match=r"a trial trains on one device; leave train\.devices at 1"):
        sweep(plan, tmp_path, overrides=["train.devices=2"])


def test_without_optuna(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "zoobot_3d.sweep.journal")
    with pytest.raises(ConfigError, match=r"optuna is not installed; pip install 'zoobot-3d\[sweep\]'"):
        sweep(plan, tmp_path)
