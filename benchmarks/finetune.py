"""How much of a full training do 50 marked galaxies of another look recover? Fine-tunes on them, and compares.

    python benchmarks/finetune.py --seeds 0 1 2
    python benchmarks/finetune.py --full 40 --held-out 20 --few 12 --samples 64   # a trial

Starts from the bundle of the package, which learned from simulated Legacy Surveys pictures (or ``--bundle`` names
another). The other look shows the same kind of galaxies in one band, grey, through wider seeing, on pixels twice as
wide, with twice the noise, stretched in another way, and 1.3 times smaller in the picture. On it, all scored on the
same held-out galaxies, are compared

- ``as_is``: that network, untouched;
- ``scratch``: a fresh one trained on 50 galaxies (40 to learn from, 10 to choose the epoch);
- ``fine_tuned``, ``frozen``: that network fine-tuned on these 50, early layers slowly, or the encoder not at all;
- ``full``: a fresh one trained on 1000 galaxies, for as many samples as ``scratch``.

What fine-tuning recovers is (fine_tuned - scratch) / (full - scratch), in IoU at fraction > 0.2. The seed decides
which galaxies are the 50, and the weights of fresh networks. Appends a row for each network and seed to ``--out`` and
draws the rows beside it. Finished rows are not repeated, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rows import append_row, provenance, read_rows
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from zoobot_3d.infer.bundle import read_info
from zoobot_3d.io import write_jpeg, write_parquet
from zoobot_3d.learn.train import train
from zoobot_3d.report.evaluate import evaluate_catalog
from zoobot_3d.schema import CLASSES, COL_DEC, COL_ID, COL_JPG, COL_PIXSCALE, COL_RA, DEFAULT_MASTER, GZ_FIELD_PX
from zoobot_3d.simulate.galaxies import Instrument, draw_galaxy, render
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid

OTHER = Instrument("another", 0.50, (1.8, 1.7, 1.6), (0.006, 0.010, 0.040), (0.11, 0.25, 1.6))
"""Compare `zoobot_3d.simulate.galaxies.DECALS`: pixels of 0.262 arcsec, seeing of 1.18 and noise of 0.0046 in r."""
SMALLER = 1.3
"""Field of the other look's pictures over that of Galaxy Zoo's."""
OTHER_PX = 256
OTHER_SEED = 2
ARMS = ("as_is", "scratch", "fine_tuned", "frozen", "full")
FRESH = ("scratch", "full")
LABELS = {
    "as_is": "as it is",
    "scratch": "scratch",
    "fine_tuned": "fine-tuned",
    "frozen": "frozen encoder",
    "full": "full",
}
TICKS = {
    "as_is": "model to start from,\nnot fine-tuned",
    "scratch": "new network,\ntrained on {few}",
    "fine_tuned": "model,\nfine-tuned on {few}",
    "frozen": "the same, with\na frozen encoder",
    "full": "new network,\ntrained on {full}",
}
"""Labels of the figure, with numbers of marked galaxies."""
COLOURS = {"spiral": "#0072B2", "bar": "#E69F00"}
NAMES = {"spiral": "spiral arms", "bar": "bars"}


def grey(r: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey picture (H, W, 3) of an r band in nanomaggies: square root above the sky, cut at a high percentile."""
    sky, high = (float(value) for value in np.percentile(r, (50, 99.7)))
    value = np.sqrt(np.clip((r - sky) / max(high - sky, 1e-6) + 0.02, 0, 1))
    return np.repeat((255 * value).astype(np.uint8)[..., None], 3, axis=-1)


def make_other_look(root: Path, n_galaxies: int) -> pd.DataFrame:
    """Simulate a survey and draw its galaxies anew as `OTHER` sees them; return its catalogue with their pictures."""
    simulate_survey(root, n_galaxies, seed=OTHER_SEED, files="pictures")
    catalog = read_catalog(root / DEFAULT_MASTER)
    with progress_bar("another look", len(catalog)) as advance:
        for row in catalog.itertuples():
            name, ra, dec = getattr(row, COL_ID), float(getattr(row, COL_RA)), float(getattr(row, COL_DEC))
            path = root / "other" / f"{name}.jpg"
            if not path.exists():
                index = int(name.rpartition("_")[2])
                # The survey draws a galaxy first thing from this seed, so this is the one that was marked.
                galaxy = draw_galaxy(np.random.default_rng(np.random.SeedSequence((OTHER_SEED, index))), ra=ra, dec=dec)
                scale = SMALLER * galaxy.pixscale * GZ_FIELD_PX / OTHER_PX
                grid = PixelGrid((OTHER_PX, OTHER_PX), scale, ra, dec)
                write_jpeg(path, grey(render(galaxy, grid, np.random.default_rng((7, index)), instrument=OTHER)[1]))
            advance(1)
    catalog[COL_JPG] = [f"other/{name}.jpg" for name in catalog[COL_ID]]
    catalog[COL_PIXSCALE] = SMALLER * catalog[COL_PIXSCALE]
    return catalog


def write_splits(catalog: pd.DataFrame, root: Path, seed: int, args: argparse.Namespace) -> dict[str, Path]:
    """Write the catalogues of the few and of all, which share the galaxies held out; a fifth of each is validation."""
    held_out, rest = catalog.iloc[: args.held_out], catalog.iloc[args.held_out :]
    order = np.random.default_rng(seed).permutation(len(rest))
    paths = {}
    for name, count in (("few", args.few), ("full", args.full)):
        chosen = rest.iloc[order[:count]].assign(split=["val" if i % 5 == 0 else "train" for i in range(count)])
        # As often as makes epochs equally long, so that weights are scored, and the best kept, equally often.
        again = [chosen[chosen["split"] == "train"]] * (args.full // count - 1)
        paths[name] = root / "data" / f"{name}-{count}-{args.full}-{seed}.parquet"
        write_parquet(paths[name], pd.concat([chosen, *again, held_out.assign(split="test")], ignore_index=True))
    return paths


def configure(arm: str, seed: int, catalog: Path, args: argparse.Namespace) -> Config:
    """Say how one network is trained."""
    info = read_info(args.bundle)  # fresh networks are of the same kind
    fresh = TrainConfig(
        loss=info.loss,
        epochs=100_000,
        max_steps=args.samples // args.batch_size,
        patience=0,
        seed=seed,
        precision=args.precision,
    )
    settings = fresh
    if arm in ("fine_tuned", "frozen"):
        settings = replace(
            fresh,
            init=args.bundle,
            lr=args.fine_lr,
            max_steps=max(1, args.samples // args.batch_size // 4),
            layer_decay=args.layer_decay,
            freeze_encoder="all" if arm == "frozen" else 0,
        )
    model = ModelConfig(info.model_name, dict(info.model_options))
    data = DataConfig(
        str(catalog),
        input_size=info.input_size,
        field_fraction=info.field_fraction,
        batch_size=args.batch_size,
        cache="ram",
    )
    return Config(model, data, settings)


def identity(arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes two rows the same experiment; of a fresh network the other one decides only the kind."""
    info = read_info(args.bundle)
    return {
        "arm": arm,
        "seed": seed,
        "few": args.few,
        "full": args.full,
        "held_out": args.held_out,
        "samples": args.samples,
        "precision": args.precision,
        "batch_size": args.batch_size,
        "kind": f"{info.model_name} {json.dumps(info.model_options)}, {info.input_size} px",
        "base": None if arm in FRESH else f"{args.bundle} of {info.training.get('commit', info.training['date'])[:7]}",
        "fine_lr": args.fine_lr,
        "layer_decay": args.layer_decay,
    }


def run(arm: str, seed: int, catalogs: dict[str, Path], args: argparse.Namespace) -> dict[str, Any]:
    """Train one network, or go on with it, and score it on the galaxies held out."""
    catalog = catalogs["full" if arm == "full" else "few"]
    start = time.perf_counter()
    bundle: str | Path = args.bundle
    if arm != "as_is":
        key = identity(arm, seed, args)
        # What a killed training goes on with is its own.
        folder = args.work / f"{arm}-{seed}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]}"
        bundle = train(configure(arm, seed, catalog, args), folder)
    evaluation = evaluate_catalog(catalog, bundle, split="test", progress=False)
    return identity(arm, seed, args) | {
        "test": evaluation.model,
        "ceiling": evaluation.ceiling,
        "minutes": round((time.perf_counter() - start) / 60, 2),
        **provenance(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }


def scores(rows: list[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """IoU of each arm, (seeds, 3): spiral, bar, and their mean."""
    found = {}
    for arm in ARMS:
        values = [[row["test"][f"{name}_iou_0.2"] for name in CLASSES] for row in rows if row["arm"] == arm]
        if values:
            array = np.array(values, float)
            found[arm] = np.column_stack([array, array.mean(1)])
    return found


def recovered(found: dict[str, NDArray[np.float64]], arm: str) -> NDArray[np.float64]:
    """Part of the way from scratch to full, of the seeds' means: spiral, bar, both."""
    scratch, full = found["scratch"].mean(0), found["full"].mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing was learned
        return (found[arm].mean(0) - scratch) / (full - scratch)


def table(rows: list[dict[str, Any]]) -> str:
    """IoU of each arm, mean and scatter over seeds, and what fine-tuning recovers."""
    found = scores(rows)
    columns = (*CLASSES, "mean")
    lines = [f"{'':<16}" + "".join(f"{column:>16}" for column in columns) + f"{'recovered':>12}"]
    for arm, values in found.items():
        cells = "".join(f"{m:9.3f} +-{s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True))
        part = f"{recovered(found, arm)[2]:12.2f}" if arm in ("fine_tuned", "frozen") and "full" in found else ""
        lines.append(f"{LABELS[arm]:<16}{cells}{part}")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """IoU of each arm, a dot for each seed."""
    found = scores(rows)
    figure, axes = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    for index, name in enumerate(CLASSES):
        at = np.arange(len(found)) + (-0.2, 0.2)[index]
        values = [array[:, index] for array in found.values()]
        axes.bar(at, [v.mean() for v in values], 0.36, color=COLOURS[name], alpha=0.8, label=NAMES[name])
        for x, v in zip(at, values, strict=True):
            axes.plot(np.full(len(v), x), v, "k.", ms=4)
    row = rows[0]
    axes.plot([], [], "k.", ms=4, label=f"one draw of the {row['few']} galaxies")
    axes.set_xticks(range(len(found)), [TICKS[arm].format(**row) for arm in found], fontsize=9)
    axes.set(ylabel="IoU of the masks above a fraction of 0.2", ylim=(0, 1.25 * axes.get_ylim()[1]))
    axes.set_title(f"Simulated galaxies of another look; measured on {row['held_out']} other galaxies", fontsize=10)
    axes.legend(loc="upper center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train what is not in the file yet, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default", help="to fine-tune; by default the package's own")
    parser.add_argument("--few", type=int, default=50, help="marked galaxies of the other look, validation among them")
    parser.add_argument("--full", type=int, default=1000, help="the same, for the full training")
    parser.add_argument("--held-out", type=int, default=400, help="galaxies all are scored on")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--samples", type=int, default=40_000, help="shown to fresh networks; a quarter to fine-tuned ones"
    )
    parser.add_argument("--precision", default=TrainConfig().precision, help="as train.precision")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--fine-lr", type=float, default=1e-3, help="peak learning rate of the head when fine-tuning")
    parser.add_argument("--layer-decay", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its default")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/data/finetune"), help="surveys, training folders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/finetune.jsonl"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = read_rows(args.out)
    catalog = make_other_look(args.work / "other", args.full + args.held_out)
    shown = []
    for seed in args.seeds:
        catalogs = write_splits(catalog, args.work / "other", seed, args)
        for arm in ARMS:
            key = identity(arm, seed, args)
            row = next((row for row in done if all(row[k] == value for k, value in key.items())), None)
            if row is None:
                print(f"{arm}, seed {seed}", flush=True)
                row = run(arm, seed, catalogs, args)
                append_row(args.out, row)
            shown.append(row)
    print(table(shown))
    plot(shown, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
