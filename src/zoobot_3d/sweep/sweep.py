"""Many trainings with settings drawn from a search space, by one process or many, to find the best settings.

Puts search space, journal and training together, in one folder::

    sweep.yaml  journal.log  trials/0000/ 0001/ ...  results.csv  best.yaml  importance.png

A trial's value is the mean over the classes of a score of its validation galaxies that does not depend on the loss it
was trained with (the validation loss does, and cannot be compared): of the epochs as it goes on, by which the hopeless
ones are stopped, and at its end of the weights it would be used with.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from zoobot_3d.config.reading import config_to_yaml
from zoobot_3d.config.schema import Config
from zoobot_3d.dataset.data import MaskDataModule
from zoobot_3d.errors import ConfigError, Zoobot3DError
from zoobot_3d.io import atomic_path, write_atomic, write_figure
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.train import FREE_TO_CHANGE, train
from zoobot_3d.report import figures
from zoobot_3d.schema import CLASSES
from zoobot_3d.sweep.search_space import SearchSpace, load_search_space

if TYPE_CHECKING:
    from optuna import Trial

    from zoobot_3d.sweep.journal import SweepJournal

__all__ = ["SweepResult", "sweep"]

MAX_FAILURES = 5
"""Trials in a row that may fail in one process before it takes the cause to lie elsewhere and stops."""
MIN_FOR_IMPORTANCE = 5
"""Finished trials from which on importances are drawn; below some 30 they say little."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found so far.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each trial, the best first; see `zoobot_3d.sweep.journal.SweepJournal.table`.
    value : str
        Its column of values, e.g. ``val_soft_iou``.
    best : pathlib.Path or None
        Configuration of the best trial, for ``zoobot3d train --config``; None while none is done.
    """

    table: pd.DataFrame
    value: str
    best: Path | None


def sweep(
    plan: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    trials: int = 100,
    minutes: float | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> SweepResult:
    """Try settings until there are enough trials. Any number of processes may do so in one folder at the same time.

    A process that was killed, or its machine, costs nothing but the epoch it was in: its trial goes on in the next
    process that has nothing to do, or when the same command is given again.

    Parameters
    ----------
    plan : path
        YAML of `zoobot_3d.sweep.search_space`.
    out : path
        Folder of the sweep, on a disk that all processes see.
    trials : int
        Of the whole sweep: those of other processes and earlier runs count.
    minutes : float, optional
        No new trial is begun after this many minutes; one in work is finished.
    seed : int
        Of the settings drawn.
    overrides : sequence of str
        Settings for all trials, as in `zoobot_3d.learn.settings.load_config`.
    tell : callable
        Is told a line of each trial that ends.

    Returns
    -------
    SweepResult

    Raises
    ------
    ConfigError
        Optuna is not installed; the plan does not fit; `out` holds another sweep; no trial could be finished.
    BadFileError, CatalogError
        The catalogue cannot be read.
    """
    try:
        from zoobot_3d.sweep.journal import SweepJournal
    except ModuleNotFoundError as error:
        raise ConfigError(f"sweep: {error.name} is not installed; pip install 'zoobot-3d[sweep]'") from None
    started, out = time.monotonic(), Path(out)
    space = load_search_space(plan, overrides)
    if space.base.train.devices != 1 or space.base.train.num_nodes != 1:
        raise ConfigError(f"{plan}: a trial trains on one device; leave train.devices at 1 and start more processes")
    MaskDataModule(space.base.data).setup()  # what is wrong with the catalogue should not be told trial by trial
    journal = SweepJournal(out, seed, startup_trials=space.startup_trials, warmup_epochs=space.warmup_epochs)
    with journal.locked():
        _check_same(space, out / "sweep.yaml")
    failures = 0
    while minutes is None or time.monotonic() - started < 60 * minutes:
        trial = journal.claim(trials)
        if trial is None:
            break
        with journal.beating(trial):
            failed = _run(trial, journal, space)
        result = _write_results(journal, space, out)
        row = result.table[result.table["trial"] == journal.place(trial).name].iloc[0]
        what = row["reason"] if row["reason"] else f"{result.value} {row[result.value]:.4f}"
        tell(f"trial {row['trial']}: {row['state']}, {what}")
        failures = failures + 1 if failed else 0
        if failures == MAX_FAILURES:
            raise ConfigError(f"{out}: {failures} trials in a row have failed; the last: {failed}")
    result = _write_results(journal, space, out)
    states = result.table["state"]
    if result.best is None and len(states) and (states == "failed").all():
        raise ConfigError(f"{out}: all {len(states)} trials have failed; the first: {result.table['reason'].iloc[0]}")
    _draw_importance(journal, out / "importance.png")
    return result


def _check_same(space: SearchSpace, file: Path) -> None:
    """Write down what the folder's sweep is, or make sure that it is this one."""
    text = space.to_yaml()
    if not file.exists():
        write_atomic(file, text)
        return
    here, there = (_lines(part) for part in (text, file.read_text(encoding="utf-8")))
    keys = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
    if keys := [key for key in keys if key not in FREE_TO_CHANGE]:
        raise ConfigError(f"{file.parent}: holds a sweep with another {', '.join(keys)}; use another folder")


def _lines(text: str) -> dict[str, Any]:
    """Return what a sweep.yaml says by key, two levels deep."""
    tree: dict[str, Any] = yaml.safe_load(text)
    return {
        (f"{group}.{key}" if key else group): value
        for group, entries in tree.items()
        for key, value in (entries.items() if isinstance(entries, dict) else [("", entries)])
    }


def _run(trial: Trial, journal: SweepJournal, space: SearchSpace) -> str:
    """Train a trial and write down how it ended; return why it failed, if so."""
    import optuna
    from optuna.trial import TrialState

    judge = _Judge(trial, journal, space.metric)
    try:
        config = space.configure(trial)
        train(config, journal.place(trial), callbacks=[judge])
        value = _final_value(journal.place(trial) / "metrics.json", space.metric)
    except optuna.TrialPruned as stop:
        journal.finish(trial, TrialState.PRUNED, reason=str(stop))
    except (KeyboardInterrupt, SystemExit):  # Lightning turns an interrupt, and SLURM's SIGTERM, into an exit
        journal.give_back(trial)
        raise KeyboardInterrupt from None
    except (Zoobot3DError, RuntimeError) as error:  # RuntimeError: what a GPU without enough memory raises
        reason = " ".join(str(error).split())[:500]
        journal.finish(trial, TrialState.FAIL, reason=reason)
        return reason
    except Exception as error:
        journal.finish(trial, TrialState.FAIL, reason=f"{type(error).__name__}: {error}")
        raise
    else:
        if value is None:
            journal.finish(
                trial, TrialState.FAIL, reason=f"{space.metric} is undefined: no validation galaxy has marks"
            )
        else:
            journal.finish(trial, TrialState.COMPLETE, value)
    return ""


class _Judge(Callback):
    """Reports each epoch's score, and ends a trial that others have left behind, or whose loss is not finite."""

    def __init__(self, trial: Trial, journal: SweepJournal, metric: str) -> None:
        self.trial, self.journal, self.metric = trial, journal, metric
        frozen = journal.study.get_trials(deepcopy=False)[trial.number]
        self._reported = set(frozen.intermediate_values)  # by the process that died on it

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and ask whether to go on."""
        import optuna

        if trainer.state.fn != "fit":
            return
        if not self.journal.owns(self.trial):
            raise ConfigError("another process has taken it over, as this one had not answered for minutes")
        scores, epoch = trainer.callback_metrics, trainer.current_epoch
        if not math.isfinite(float(scores["val_loss"])):
            raise optuna.TrialPruned("the loss became NaN or infinite")
        value = _mean([float(scores[f"val_{name}_{self.metric}"]) for name in CLASSES])
        if value is None:
            return
        if epoch not in self._reported:
            self.trial.report(value, epoch)
        if epoch + 1 < (trainer.max_epochs or 0) and self.trial.should_prune():
            raise optuna.TrialPruned(f"below the median of other trials after {epoch + 1} epochs")


def _final_value(metrics_file: Path, metric: str) -> float | None:
    scores = json.loads(metrics_file.read_text())["val"]
    return _mean([math.nan if scores[f"{name}_{metric}"] is None else scores[f"{name}_{metric}"] for name in CLASSES])


def _mean(values: Sequence[float]) -> float | None:
    """Mean of the classes that have a score."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else None


def _write_results(journal: SweepJournal, space: SearchSpace, out: Path) -> SweepResult:
    """Write table and best configuration; under the lock, so that the last to write has seen all."""
    value, file = f"val_{space.metric}", out / "best.yaml"
    with journal.locked():
        table = journal.table(value)
        with atomic_path(out / "results.csv") as temporary:
            table.to_csv(temporary, index=False)
        best = journal.best()
        if best is None:
            return SweepResult(table, value, None)
        config: Config = load_config(journal.place(best) / "config.yaml")
        heading = f"# Trial {journal.place(best).name}: {value} {best.value:.4f}"
        write_atomic(file, f"{heading}; zoobot3d train FOLDER --config {file.name}\n{config_to_yaml(config)}")
    return SweepResult(table, value, file)


def _draw_importance(journal: SweepJournal, file: Path) -> None:
    import optuna

    complete = [t for t in journal.study.get_trials(deepcopy=False) if t.state is optuna.trial.TrialState.COMPLETE]
    if len(complete) < MIN_FOR_IMPORTANCE:
        print(f"{file.name}: needs {MIN_FOR_IMPORTANCE} finished trials, there are {len(complete)}", file=sys.stderr)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials: the figure says how many there are
        shares = optuna.importance.get_param_importances(
            journal.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    write_figure(figures.importance(shares, len(complete)), file)
