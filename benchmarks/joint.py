"""Does learning to answer Galaxy Zoo's questions help to draw masks, where few galaxies have marks? Trains both ways.

    python benchmarks/joint.py --survey benchmarks/data/joint_survey                  # 27 trainings
    python benchmarks/joint.py --survey /tmp/survey --galaxies 200 --marked 30 --seeds 0 --steps 20   # a trial

All train on one simulated survey of which 100, 300 or 1000 training galaxies, drawn anew for each seed, keep their
marks; the other training galaxies keep only their volunteers' votes in the campaigns dr5 and dr8 (a fifth of all,
those of dr12, are left with neither). Validation and test galaxies all have marks.

Budget: all take the same number of steps of the optimizer, with the same settings, and are validated equally often.

- ``masks``: segmentation only, ``--batch-size`` marked galaxies a step.
- ``masks_2x``: segmentation only, twice as many marked galaxies a step: as many pictures as ``joint``.
- ``joint``: both heads, twice as many galaxies a step, half of them marked: as many marks shown as to ``masks``.

If votes help, ``joint`` is better than both. Scores are those of the weights of least validation loss of masks, on the
test galaxies. Appends a row for each training to ``--out`` and draws the rows beside it. Finished rows are not
repeated, and an interrupted training goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from rows import append_row, provenance, read_rows
from zoobot_3d.catalog.reading import join_columns, read_catalog
from zoobot_3d.config.schema import Config, DataConfig, TrainConfig
from zoobot_3d.infer.bundle import read_info
from zoobot_3d.io import write_parquet
from zoobot_3d.learn.train import train
from zoobot_3d.schema import CLASSES, COL_ID, COL_MARKS, DEFAULT_MASTER, vote_columns
from zoobot_3d.simulate.catalogs import CATALOGUES
from zoobot_3d.simulate.survey import simulate_survey

CAMPAIGNS = ("dr5", "dr8")
WAYS = {
    "masks": "n marked galaxies in each step",
    "masks_2x": "2n marked galaxies in each step",
    "joint": "n marked galaxies, and n with votes",
}
NAMES = {"spiral": "spiral arms", "bar": "bars"}
COLOURS = {"masks": "#0072B2", "masks_2x": "#56B4E9", "joint": "#D55E00"}
SCORES = {"iou_0.2": "IoU above 0.2", "soft_iou": "soft IoU"}


def mixed_catalogue(survey: Path, marked: int, seed: int) -> pd.DataFrame:
    """Join votes to the survey's master, and take the marks from all but `marked` training galaxies."""
    frame = join_columns(
        read_catalog(survey / DEFAULT_MASTER), survey / CATALOGUES["gz_desi_votes"], COL_ID, vote_columns(CAMPAIGNS)
    )
    training = np.flatnonzero(frame["split"] == "train")
    if marked >= len(training):
        raise SystemExit(f"--marked {marked}: the survey has {len(training)} training galaxies; give --galaxies more")
    others = np.random.default_rng(seed).permutation(training)[marked:]  # a larger set holds the smaller ones
    frame.loc[others, COL_MARKS] = None
    return frame


def configure(way: str, catalog: Path, seed: int, args: argparse.Namespace) -> Config:
    """Say what one training is told."""
    twice = 1 if way == "masks" else 2
    joint = way == "joint"
    return Config(
        data=DataConfig(
            str(catalog),
            root=str(args.survey),
            input_size=args.size,
            batch_size=twice * args.batch_size,
            cache="ram",
            votes=CAMPAIGNS if joint else (),
            marked_share=0.5 if joint else 0.0,
            hide_votes_of_marked=joint and args.hide_votes_of_marked,
            epoch_size=twice * args.batch_size * max(1, args.steps // args.validations),
        ),
        train=TrainConfig(
            vote_weight=args.vote_weight,
            epochs=10_000,
            max_steps=args.steps,
            patience=0,
            seed=seed,
            accelerator=args.accelerator,
            precision=args.precision,
        ),
    )


def identity(way: str, marked: int, config: Config, galaxies: int) -> dict[str, Any]:
    """Return what makes two rows the same experiment."""
    return {
        "way": way,
        "marked": marked,
        "seed": config.train.seed,
        "steps": config.train.max_steps,
        "batch_size": config.data.batch_size,
        "size": config.data.input_size,
        "epoch_size": config.data.epoch_size,
        "precision": config.train.precision,
        "vote_weight": config.train.vote_weight if config.data.votes else None,
        "hide_votes_of_marked": config.data.hide_votes_of_marked,
        "galaxies": galaxies,
    }


def run(config: Config, key: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one network, or go on with it, and return its row."""
    training = read_info(train(config, folder)).training
    return key | {
        "train_galaxies": training["rows"]["train"],
        "test_galaxies": training["rows"]["test"],
        "train_minutes": training["train_minutes"],
        "best_epoch": training["best_epoch"],
        "epochs": training["epochs"],
        "test": training["metrics"]["test"],
        "val": training["metrics"]["val"],
        **provenance(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {config.train.accelerator}",
    }


def scores(rows: list[dict[str, Any]], score: str) -> np.ndarray:
    """Test scores, (rows,); NaN where undefined."""
    values = [row["test"][score] for row in rows]
    return np.array([np.nan if value is None else value for value in values])


def chosen(rows: list[dict[str, Any]], way: str, marked: int) -> list[dict[str, Any]]:
    """Rows of one way and number of marks, by seed."""
    return sorted((r for r in rows if (r["way"], r["marked"]) == (way, marked)), key=lambda row: row["seed"])


def result(rows: list[dict[str, Any]]) -> str:
    """Test scores, mean and standard deviation over seeds, and what votes changed, seed by seed."""
    columns = [f"{name}_{score}" for score in SCORES for name in CLASSES]
    lines = ["marked  way        seeds    min  " + "  ".join(f"{column:>17}" for column in columns)]
    for marked in sorted({row["marked"] for row in rows}):
        for way in WAYS:
            if mine := chosen(rows, way, marked):
                minutes = np.nanmedian([row["train_minutes"] or np.nan for row in mine])  # unknown where it was paused
                told = (f"{scores(mine, c).mean():.4f} +- {_spread(scores(mine, c)):.4f}" for c in columns)
                lines.append(
                    f"{marked:>6}  {way:<9}  {len(mine):>5}  {minutes:>5.1f}  " + "  ".join(f"{t:>17}" for t in told)
                )
    for other in ("masks", "masks_2x"):
        for marked in sorted({row["marked"] for row in rows}):
            first, second = chosen(rows, other, marked), chosen(rows, "joint", marked)
            if first and [row["seed"] for row in first] == [row["seed"] for row in second]:
                gains = {c: scores(second, c) - scores(first, c) for c in columns}
                told = (f"{c} {g.mean():+.4f} +- {_spread(g) / np.sqrt(len(g)):.4f}" for c, g in gains.items())
                lines.append(f"{marked} marked, joint less {other}, mean and its error: " + ", ".join(told))
    return "\n".join(lines)


def _spread(values: np.ndarray) -> float:
    """Return the standard deviation, 0 of a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Test scores against the number of marked galaxies: each seed, their mean and standard deviation."""
    figure, panels = plt.subplots(len(SCORES), len(CLASSES), figsize=(8, 6), sharex=True, layout="constrained")
    for line, (score, label) in zip(panels, SCORES.items(), strict=True):
        for axes, name in zip(line, CLASSES, strict=True):
            for offset, way in zip((0.95, 1.0, 1.05), WAYS, strict=True):
                sizes = sorted({row["marked"] for row in rows if row["way"] == way})
                values = [scores(chosen(rows, way, size), f"{name}_{score}") for size in sizes]
                at = offset * np.array(sizes, float)
                axes.errorbar(
                    at, [v.mean() for v in values], [_spread(v) for v in values],
                    color=COLOURS[way], marker="o", capsize=3, label=WAYS[way],
                )  # fmt: skip
                for x, each in zip(at, values, strict=True):
                    axes.plot(np.full(len(each), x), each, ".", color=COLOURS[way], ms=4, alpha=0.6)
            axes.set(xscale="log", ylabel=f"{NAMES[name]}: {label}", ylim=(0, None))
    for axes in panels[-1]:
        ticks = sorted({row["marked"] for row in rows})
        axes.set(xlabel="marked galaxies in the training set", xticks=ticks, xticklabels=ticks)
        axes.minorticks_off()
    panels[0][0].legend(fontsize=8)
    row = rows[0]
    figure.suptitle(
        f"{row['test_galaxies']} simulated test galaxies; {row['steps']} steps of training at {row['size']} px\n"
        "large dots and error bars: mean and standard deviation of the trainings, which are the small dots",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train what is not in the file yet, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, default=Path("benchmarks/data/joint_survey"), help="simulated if absent")
    parser.add_argument("--galaxies", type=int, default=6000, help="how many to simulate")
    parser.add_argument("--marked", nargs="+", type=int, default=[100, 300, 1000], help="training galaxies with marks")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000, help="of the optimizer, for each training")
    parser.add_argument("--validations", type=int, default=20, help="of each training")
    parser.add_argument("--batch-size", type=int, default=16, help="marked galaxies a step (twice for masks_2x)")
    parser.add_argument("--size", type=int, default=96, help="px")
    parser.add_argument("--vote-weight", type=float, default=TrainConfig().vote_weight)
    parser.add_argument("--hide-votes-of-marked", action="store_true")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu", "mps"), default="auto")
    parser.add_argument("--precision", default=TrainConfig().precision, help="as train.precision")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its default")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/data/joint"), help="training folders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/joint.jsonl"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if not (args.survey / DEFAULT_MASTER).exists():
        simulate_survey(args.survey, args.galaxies, seed=4, files="pictures")
    galaxies = len(read_catalog(args.survey / DEFAULT_MASTER))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = read_rows(args.out)
    shown = []
    for seed in args.seeds:
        for marked in args.marked:
            catalog = args.work / f"marked-{marked}-{seed}-of-{galaxies}.parquet"
            if not catalog.exists():
                write_parquet(catalog, mixed_catalogue(args.survey, marked, seed))
            for way in args.ways:
                config = configure(way, catalog, seed, args)
                key = identity(way, marked, config, galaxies)
                row = next((row for row in done if all(row[k] == value for k, value in key.items())), None)
                if row is None:
                    print(f"{way}, {marked} marked, seed {seed}: {args.steps} steps", flush=True)
                    name = "-".join(str(value) for value in key.values())
                    row = run(config, key, args.work / name)
                    append_row(args.out, row)
                shown.append(row)
    print(result(shown))
    plot(shown, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
