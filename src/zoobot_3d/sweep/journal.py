"""Who tries what: trials in a journal file that many processes, on one machine or many, share.

Optuna's journal storage keeps what happened, but does not notice that a process has died: it has no heartbeat. Here
each process that works on a trial touches a file beside it; a trial whose file grows old, or whose process is gone, is
handed to the next process that asks, with its parameters and in its folder, so that training goes on from its last
checkpoint. Who gets what is decided under a lock (a file, as on NFS other locks may be missing), so there are exactly
as many trials as were asked for. Knows nothing of training.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

__all__ = ["BEAT_SECONDS", "MAX_DEATHS", "STALE_SECONDS", "SweepJournal"]

BEAT_SECONDS = 10.0
"""Between touches of a trial's file."""
STALE_SECONDS = 180.0
"""Age of a trial's file at which its process counts as dead, where that cannot be seen directly (another machine)."""
MAX_DEATHS = 3
"""Processes that may die on a trial before it is given up."""
_NAME = "sweep"
STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class SweepJournal:
    """The trials of a sweep in ``folder``: ``journal.log``, and a folder for each in ``trials``.

    Parameters
    ----------
    folder : path
        Made if need be.
    seed : int
        Of the sampler. A trial's draws depend on it and on the trial's number, not on the process that makes them.
    startup_trials, warmup_epochs : int
        Of the median pruner.
    """

    def __init__(self, folder: Path, seed: int, *, startup_trials: int = 5, warmup_epochs: int = 3) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = JournalFileOpenLock(str(folder / "claim"))
        storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        pruner = optuna.pruners.MedianPruner(startup_trials, warmup_epochs)
        with self.locked():
            if not optuna.get_all_study_names(storage):
                optuna.create_study(study_name=_NAME, storage=storage, direction="maximize")
        self.study = optuna.load_study(study_name=_NAME, storage=storage, pruner=pruner)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from deciding anything at the same time; short work only (30 s break the lock)."""
        self._lock.acquire()
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # taken over by another, as this process had seemed dead
                self._lock.release()

    def claim(self, n_trials: int) -> Trial | None:
        """Take a trial: one that a dead process left, or a new one.

        Parameters
        ----------
        n_trials : int
            Of the whole sweep.

        Returns
        -------
        optuna.Trial or None
            None when there is nothing left to take.
        """
        with self.locked():
            self._take_from_the_dead()
            trials = self.study.get_trials(deepcopy=False)
            waiting = any(trial.state is TrialState.WAITING for trial in trials)
            if not waiting and _count_asked_for(trials) >= n_trials:
                return None
            seed = np.random.SeedSequence([self.seed, _count_fresh(trials)]).generate_state(1)[0]
            # Trials in work count as bad, so that processes do not all try the same.
            self.study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)
            trial = self.study.ask()
            self._beat_file(trial.number).parent.mkdir(parents=True, exist_ok=True)
            self._beat_file(trial.number).write_text(json.dumps(_this_process()))
        return trial

    @contextlib.contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """Show other processes that this one works on a trial."""
        done, file = threading.Event(), self._beat_file(trial.number)

        def beat() -> None:
            while not done.wait(BEAT_SECONDS):
                with contextlib.suppress(OSError):  # the disk may be away for a while
                    os.utime(file)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def finish(self, trial: Trial, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """Write down how a trial ended.

        Parameters
        ----------
        trial : optuna.Trial
            Claimed before.
        state : optuna.trial.TrialState
            COMPLETE, PRUNED or FAIL.
        value : float, optional
            Of a complete one.
        reason : str
            Why it was stopped or failed.
        """
        with self.locked():
            if not self.owns(trial):
                return
            if reason:
                trial.set_user_attr("reason", reason)
            self.study.tell(trial, value if state is TrialState.COMPLETE else None, state)
            self._beat_file(trial.number).unlink(missing_ok=True)

    def owns(self, trial: Trial) -> bool:
        """Tell whether a trial is still this process's: one that had seemed dead has lost it to another."""
        return self.study.get_trials(deepcopy=False)[trial.number].state is TrialState.RUNNING

    def give_back(self, trial: Trial) -> None:
        """Leave a trial to the next process that asks: it goes on from the trial's last checkpoint."""
        with self.locked():
            if self.owns(trial):
                self._hand_on(self.study.get_trials(deepcopy=False)[trial.number], _deaths(trial.user_attrs))

    def place(self, trial: Trial | FrozenTrial) -> Path:
        """Return a trial's folder, the same for all processes that work on it in turn."""
        return self.folder / "trials" / f"{self._name(trial):04d}"

    def best(self) -> FrozenTrial | None:
        """Return the complete trial of highest value, or None."""
        complete = [t for t in self.study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
        return max(complete, key=lambda t: (t.value or 0.0, -t.number), default=None)

    def table(self, value: str) -> pd.DataFrame:
        """Return a row for each trial, the best first.

        Parameters
        ----------
        value : str
            What the column of the value is called.

        Returns
        -------
        pandas.DataFrame
            ``trial`` (the name of its folder), ``state``, the value (of one stopped early: its last), ``epochs`` that
            it was judged after, ``minutes`` of its last process, ``reason``, and a column for each key searched.
        """
        trials = [t for t in self.study.get_trials(deepcopy=False) if not _was_handed_on(t)]
        rows: list[dict[str, Any]] = [
            {
                "trial": self.place(trial).name,
                "state": STATES[trial.state],
                value: trial.value,
                "epochs": len(trial.intermediate_values),
                "minutes": None if trial.duration is None else round(trial.duration.total_seconds() / 60, 2),
                "reason": trial.user_attrs.get("reason", ""),
                **trial.params,
            }
            for trial in trials
        ]
        table = pd.DataFrame(rows, columns=None if rows else ["trial", "state", value])
        order = {state: place for place, state in enumerate(STATES.values())}
        table = table.assign(order=table["state"].map(order)).sort_values(
            ["order", value, "trial"], ascending=[True, False, True]
        )
        return table.drop(columns="order").reset_index(drop=True)

    def _take_from_the_dead(self) -> None:
        """Make trials wait again of which the process has died; give up those on which several have."""
        now = (self.folder / "claim.lock").stat().st_mtime  # by the clock of the disk, as the beats are
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if not self._alive(trial, now):
                self._hand_on(trial, _deaths(trial.user_attrs) + 1)

    def _alive(self, trial: FrozenTrial, now: float) -> bool:
        file = self._beat_file(trial.number)
        try:
            owner, age = json.loads(file.read_text()), now - file.stat().st_mtime
        except (FileNotFoundError, json.JSONDecodeError):  # killed before it could write it, under the lock held now
            return False
        here = _this_process()
        if owner["host"] == here["host"] and not _runs(owner["pid"]):
            return False
        return age < STALE_SECONDS

    def _hand_on(self, trial: FrozenTrial, deaths: int) -> None:
        """Fail a trial, and add another with its parameters, folder and epochs so far in its place."""
        name = self._name(trial)
        # A kill between these two loses the trial, and a new one is drawn; the other way round there would be one more.
        self.study.tell(trial.number, state=TrialState.FAIL)
        attributes: dict[str, Any] = {"name": name, "deaths": deaths}
        if deaths >= MAX_DEATHS:
            attributes["reason"] = f"{deaths} processes died on it; see what they printed"
        heir = optuna.create_trial(
            state=TrialState.FAIL if deaths >= MAX_DEATHS else TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            intermediate_values=trial.intermediate_values,
            user_attrs=attributes,
        )
        self.study.add_trial(heir)
        self._beat_file(trial.number).unlink(missing_ok=True)

    def _name(self, trial: Trial | FrozenTrial) -> int:
        """Count trials from 0, those handed on once."""
        if "name" in trial.user_attrs:
            return int(trial.user_attrs["name"])
        return _count_fresh(self.study.get_trials(deepcopy=False)[: trial.number])

    def _beat_file(self, number: int) -> Path:
        return self.folder / "workers" / f"{number:04d}.json"


def _was_handed_on(trial: FrozenTrial) -> bool:
    """Tell whether a trial has ended only because its process had: another one has taken its place."""
    return trial.state is TrialState.FAIL and "reason" not in trial.user_attrs


def _count_asked_for(trials: list[FrozenTrial]) -> int:
    """Count trials taken, done, or failed by themselves.

    Those that failed before any had finished count nothing: the cause may be one for all, such as a full disk, and when
    it is mended there should be as many trials as ever.
    """
    ended = [t.number for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    failed = [t for t in trials if t.state is TrialState.FAIL and not _was_handed_on(t)]
    running = sum(t.state is TrialState.RUNNING for t in trials)
    return len(ended) + running + sum(t.number > min(ended, default=len(trials)) for t in failed)


def _count_fresh(trials: list[FrozenTrial]) -> int:
    """Count the trials that were drawn, not handed on."""
    return sum("name" not in trial.user_attrs for trial in trials)


def _deaths(attributes: dict[str, Any]) -> int:
    return int(attributes.get("deaths", 0))


def _this_process() -> dict[str, Any]:
    """Who works: process ids only mean something on one machine, and in one container."""
    try:
        container = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    except OSError:
        container = ""
    return {"host": f"{socket.gethostname()} {container}".strip(), "pid": os.getpid()}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and another user's
        return True
    return True
