"""The command that searches for the best settings of a training."""

from __future__ import annotations

import argparse
import math

from zoobot_3d.cli.command import Command, positive, print_table
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["COMMANDS"]

_SHOWN = 10


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan", help="what to search and what is fixed: sweep, the recipe in the package, or a YAML file"
    )
    parser.add_argument(
        "--out", default="sweep", help="folder of the sweep; processes that are given the same folder share it"
    )
    parser.add_argument(
        "--trials",
        type=positive,
        default=100,
        help="number of trials of the whole sweep, including those of other processes and of earlier runs",
    )
    parser.add_argument(
        "--minutes", type=float, help="start no new trial after this many minutes; a running trial is completed"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    parser.epilog = f"the settings of zoobot3d train are options too, and hold for all trials\n\n{parser.epilog}"


def _run(args: argparse.Namespace) -> None:
    from zoobot_3d.sweep.sweep import sweep

    result = sweep(
        args.plan, args.out, trials=args.trials, minutes=args.minutes, seed=args.seed, overrides=args.settings
    )
    keys = [name for name in result.table.columns if "." in name]
    rows = [["trial", "state", result.value, "epochs", "settings"]]
    for row in result.table.head(_SHOWN).to_dict("records"):
        value = "" if row[result.value] is None or math.isnan(row[result.value]) else f"{row[result.value]:.4f}"
        settings = ", ".join(f"{_short(key)} {_round(row[key])}" for key in keys if row[key] == row[key])
        rows.append([str(row["trial"]), str(row["state"]), value, str(row["epochs"]), settings])
    print_table(rows, f"{len(rows) - 1} of {len(result.table)} trials; all: {args.out}/results.csv")
    if result.best is not None:
        print(f"best settings: {result.best}")


def _short(key: str) -> str:
    """Leave out what says little: ``train.lr`` is ``lr``, ``model.options.dropouts.1`` is ``dropouts.1``."""
    return key.removeprefix("model.options.").removeprefix("train.").removeprefix("data.")


def _round(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


COMMANDS = (
    Command(
        "sweep",
        "train many networks to find the best settings",
        "Chooses settings with a tree-structured Parzen estimator (Optuna), stops poor trials early, and writes "
        "results.csv, importance.png and best.yaml. Several processes, on machines that share a disk, can work on one "
        "sweep: start the same command in each. You can stop the command and run it again.",
        f"zoobot3d sweep sweep --out sweep --trials 100 --data.catalog survey/{DEFAULT_MASTER}",
        _options,
        _run,
        stopped="ended trials and the last checkpoint are kept; run the same command again to go on",
    ),
)
