"""Is the fast network as good as the published one after the same number of samples? Trains both, scores both.

    python benchmarks/fast_vs_published.py --survey SURVEY --seeds 0 1 2      # about 40 minutes a seed on 2 cores
    python benchmarks/fast_vs_published.py --survey /tmp/survey --samples 200      # a trial

Claim: `fast_unet` is no worse than `published_unet` on the simulated test galaxies after 10,000 samples at 96 px. Both
see the same galaxies in the same order with the same augmentations, minimise the same loss (binomial likelihood, so the
published network's output ReLU is off) in float32, and keep the weights of least validation loss. Each has its own
learning rate and weight decay: the published network the paper's, the fast one this package's defaults (``--lr``
gives both the same learning rate; choose another ``--out`` and ``--work`` for it).

Appends a row for each network and seed to ``--out`` and draws the rows beside it. Finished rows are not repeated, and
an interrupted training goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from rows import append_row, provenance, read_rows
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from zoobot_3d.infer.bundle import load_bundle
from zoobot_3d.learn.train import TIMES, train
from zoobot_3d.schema import CLASSES
from zoobot_3d.simulate.survey import simulate_survey

MODELS: dict[str, tuple[dict[str, Any], TrainConfig]] = {  # network options, optimizer
    "fast_unet": ({}, TrainConfig()),
    # As in the paper (NeurIPS 2023 ML4PS): AdamW lr 1e-3, weight decay 0.075.
    "published_unet": ({"relu_output": False}, TrainConfig(lr=1e-3, weight_decay=0.075)),
}
SCORES = {"iou_0.2": "IoU at fraction > 0.2", "soft_iou": "soft IoU", "mae": "mean absolute error"}
COLOURS = {"fast_unet": "#0072B2", "published_unet": "#D55E00"}


def configure(name: str, seed: int, catalog: Path, args: argparse.Namespace) -> Config:
    """One network's training."""
    options, optimizer = MODELS[name]
    return Config(
        model=ModelConfig(name, dict(options)),
        data=DataConfig(str(catalog), input_size=args.size, batch_size=args.batch_size, cache="ram"),
        train=replace(
            optimizer if args.lr is None else replace(optimizer, lr=args.lr),
            loss="bce",
            epochs=10_000,
            max_steps=args.samples // args.batch_size,
            patience=0,
            seed=seed,
        ),
    )


def identity(config: Config, galaxies: int) -> dict[str, Any]:
    """Return what makes two rows the same experiment."""
    return {
        "model": config.model.name,
        "seed": config.train.seed,
        "samples": config.train.max_steps * config.data.batch_size,
        "batch_size": config.data.batch_size,
        "size": config.data.input_size,
        "field_fraction": config.data.field_fraction,
        "loss": config.train.loss,
        "lr": config.train.lr,
        "galaxies": galaxies,
    }


def run(config: Config, key: dict[str, Any], work: Path) -> dict[str, Any]:
    """Train one network, or go on with it, and return its row."""
    folder = work / "-".join(str(key[k]) for k in ("model", "seed", "samples", "size", "galaxies"))
    bundle = load_bundle(train(config, folder))
    training = bundle.info.training
    return key | {
        "parameters": sum(p.numel() for p in bundle.model.parameters()),
        "train_minutes": round(json.loads((folder / TIMES).read_text())["minutes"], 2),
        "best_epoch": training["best_epoch"],
        "test_galaxies": training["rows"]["test"],
        "test": training["metrics"]["test"],
        "val": training["metrics"]["val"],
        **provenance(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }


def scores(row: dict[str, Any]) -> list[float]:
    """Test scores of a row, in the order of `SCORES` and classes; NaN where undefined."""
    values = [row["test"][f"{name}_{score}"] for score in SCORES for name in CLASSES]
    return [np.nan if value is None else value for value in values]


def table(rows: list[dict[str, Any]]) -> str:
    """Test scores, a line for each row and one for each network's mean."""
    columns = [f"{name}_{score}" for score in SCORES for name in CLASSES]
    lines = ["network         seed    min  " + "  ".join(f"{column:>15}" for column in columns)]
    for model in MODELS:
        mine = [row for row in rows if row["model"] == model]
        shown = [(str(row["seed"]), f"{row['train_minutes']:.1f}", scores(row)) for row in mine]
        if len(mine) > 1:
            shown.append(("mean", "", list(np.mean([scores(row) for row in mine], axis=0))))
        for seed, minutes, values in shown:
            lines.append(f"{model:<15} {seed:>4}  {minutes:>5}  " + "  ".join(f"{value:15.4f}" for value in values))
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Test scores of all seeds, side by side."""
    figure, panels = plt.subplots(1, len(SCORES), figsize=(9, 3.2), layout="constrained")
    for index, (axes, label) in enumerate(zip(panels, SCORES.values(), strict=True)):
        for offset, model in ((-0.2, "fast_unet"), (0.2, "published_unet")):
            mine = [row for row in rows if row["model"] == model]
            if not mine:
                continue
            values = np.array([scores(row) for row in mine])[:, index * len(CLASSES) : (index + 1) * len(CLASSES)]
            at = np.arange(len(CLASSES)) + offset
            axes.bar(at, values.mean(0), 0.36, color=COLOURS[model], alpha=0.7, label=model)
            axes.plot(np.tile(at, (len(mine), 1)), values, "k.", ms=4)
        axes.set(xticks=range(len(CLASSES)), xticklabels=CLASSES, ylabel=label, ylim=(0, None))
    panels[0].legend(fontsize=8)
    row = rows[0]
    figure.suptitle(f"{row['test_galaxies']} simulated test galaxies, {row['samples']} samples at {row['size']} px")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train what is not in the file yet, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, default=Path("benchmarks/data/survey"), help="simulated if absent")
    parser.add_argument("--galaxies", type=int, default=2500, help="how many to simulate")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--samples", type=int, default=10_000, help="galaxies shown to each network in training")
    parser.add_argument("--size", type=int, default=96, help="px")
    parser.add_argument("--lr", type=float, help="peak learning rate of both networks; by default each has its own")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its default")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/data/fast_vs_published"), help="training folders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fast_vs_published.jsonl"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    catalog = args.survey / "data" / "gz3d_and_desi_master_catalog.parquet"
    if not catalog.exists():
        simulate_survey(args.survey, args.galaxies, seed=1)
    galaxies = len(read_catalog(catalog))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = read_rows(args.out)
    shown = []
    for seed in args.seeds:
        for name in args.models:
            config = configure(name, seed, catalog, args)
            key = identity(config, galaxies)
            row = next((row for row in done if all(row[k] == value for k, value in key.items())), None)
            if row is None:
                print(f"{name}, seed {seed}: training on {key['samples']} samples", flush=True)
                row = run(config, key, args.work)
                append_row(args.out, row)
            shown.append(row)
    print(table(shown))
    plot(shown, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
