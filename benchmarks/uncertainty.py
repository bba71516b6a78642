"""Does the model know what it does not know? Ensemble, eight orientations and temperature against one network as it is.

    python benchmarks/uncertainty.py --survey SURVEY --bundle RUN0/bundle RUN1/bundle RUN2/bundle

Each way of asking is measured on the test galaxies: IoU, calibration error, time; and whether its standard deviation
ranks its errors: pixels (where prediction or volunteers exceed 0.025) in ten equal bins of sigma, the mean error
|prediction - volunteers| in each, and Spearman's rank correlation of the two over pixels and over galaxies. Beside it,
how well sqrt(p (1 - p)) of the prediction itself ranks the errors, which costs nothing. Temperatures are fitted on the
validation galaxies, into copies of the bundles. Writes ``uncertainty.json`` and ``uncertainty.png``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from scipy.stats import spearmanr

from rows import provenance
from zoobot_3d.infer.bundle import load_bundle
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.learn.calibration import calibrate
from zoobot_3d.report.evaluate import batches, evaluate, network_input, open_datasets
from zoobot_3d.report.figures import COLOURS
from zoobot_3d.report.reliability import OCCUPIED
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BINS = 10
DRAWN = 200_000  # pixels whose ranks are correlated, of each class


def segmenters(folders: list[Path], calibrated: list[Path], device: str | None) -> dict[str, Segmenter]:
    """Ways of asking."""
    plain = [load_bundle(path) for path in folders]
    plain = [dataclasses.replace(b, info=dataclasses.replace(b.info, temperature=(1.0, 1.0))) for b in plain]
    warm = [load_bundle(path) for path in calibrated]
    ways = {
        "one network": Segmenter(plain[0], device=device),
        "temperature": Segmenter(warm[0], device=device),
        "temperature, 8 views": Segmenter(warm[0], device=device, tta=True),
    }
    if len(folders) > 1:
        ways["ensemble, no temperature"] = Segmenter(plain, device=device)
        ways["ensemble"] = Segmenter(warm, device=device)
        ways["ensemble, 8 views"] = Segmenter(warm, device=device, tta=True)
    return ways


def has_uncertainty(segmenter: Segmenter) -> bool:
    loss = segmenter.bundle.info.loss
    return len(segmenter.bundles) > 1 or segmenter.tta or loss == "beta_binomial"


def errors(segmenter: Segmenter, catalog: Path, split: str) -> dict[str, Any]:
    """Tell how sigma and errors go together, a class at a time."""
    datasets = open_datasets(catalog, segmenter, split=split)
    unlike = list({id(dataset): dataset for dataset in datasets}.values())
    pixels: list[list[Any]] = [[] for _ in CLASSES]  # sigma, own guess, error
    galaxies: list[list[Any]] = [[] for _ in CLASSES]
    for first, items in batches(datasets[0], segmenter.batch_size):
        seen = {id(d): network_input([d[i] for i in range(first, first + len(items))]) for d in unlike}
        fraction, sigma = segmenter.fractions_with_uncertainty([seen[id(d)] for d in datasets])
        for index, item in enumerate(items):
            votes, asked = item["votes"].numpy().astype(float), item["n_asked"].numpy()
            for c in range(len(CLASSES)):
                p, truth = fraction[index, c], votes[c] / np.maximum(asked[c], 1)
                chosen = (asked[c] > 0) & (np.maximum(p, truth) > OCCUPIED)
                if chosen.any():
                    error, s = np.abs(p - truth)[chosen], sigma[index, c][chosen]
                    pixels[c].append(np.stack([s, np.sqrt(p * (1 - p))[chosen], error]).astype(np.float32))
                    galaxies[c].append((s.mean(), error.mean()))
    found = {}
    for c, name in enumerate(CLASSES):
        if not pixels[c]:
            continue
        s, guess, error = np.concatenate(pixels[c], axis=1)
        drawn = np.random.default_rng(0).permutation(s.size)[:DRAWN]
        order = np.array_split(np.argsort(s, kind="stable"), BINS)
        found[name] = {
            "pixels": int(s.size),
            "sigma": [float(s[part].mean()) for part in order if part.size],
            "error": [float(error[part].mean()) for part in order if part.size],
            "rms_error": [float(np.sqrt(np.mean(error[part] ** 2))) for part in order if part.size],
            "rank_correlation": correlation(s[drawn], error[drawn]),
            "rank_correlation_of_sqrt_p_1_minus_p": correlation(guess[drawn], error[drawn]),
            "rank_correlation_over_galaxies": correlation(*np.array(galaxies[c]).T),
        }
    return found


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return round(float(spearmanr(a, b).statistic), 4)


def milliseconds(segmenter: Segmenter, catalog: Path, split: str, rounds: int = 3) -> float:
    """Tell the time a galaxy takes in the networks: median of a few rounds over one batch."""
    datasets = open_datasets(catalog, segmenter, split=split)
    count = min(32, len(datasets[0]))
    seen = {id(d): network_input([d[i] for i in range(count)]) for d in datasets}
    views = [seen[id(d)] for d in datasets]
    times = []
    for _ in range(rounds + 1):  # the first warms up
        start = time.perf_counter()
        segmenter.fractions(views)
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times[1:])) / count, 3)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    catalog = args.survey / DEFAULT_MASTER
    with tempfile.TemporaryDirectory() as scratch:
        calibrated = []
        for number, folder in enumerate(args.bundle):
            calibrated.append(Path(shutil.copytree(folder, Path(scratch) / str(number))))
            calibrate(calibrated[-1], catalog, "val", device=args.device)
        ways = segmenters(args.bundle, calibrated, args.device)
    rows = {}
    for name, segmenter in ways.items():
        print(name, flush=True)
        dataset = open_datasets(catalog, segmenter, split=args.split)
        result = evaluate(segmenter, dataset)
        rows[name] = {
            "temperature": [list(bundle.info.temperature) for bundle in segmenter.bundles],
            "ms_per_galaxy": milliseconds(segmenter, catalog, args.split),
            "calibration_error": result.calibration_error,
            **{key: value for key, value in result.model.items() if key.endswith(("iou_0.2", "soft_iou", "mae"))},
            "reliability": result.reliability,
            "sigma": errors(segmenter, catalog, args.split) if has_uncertainty(segmenter) else {},
        }
    return {
        "benchmark": "uncertainty",
        "command": "python benchmarks/uncertainty.py --survey SURVEY --bundle "
        + " ".join(["BUNDLE"] * len(args.bundle)),
        "galaxies": result.n_galaxies,
        "split": args.split,
        "networks": [f"{b.info.model_name}, {b.info.loss}, {b.info.input_size} px" for b in segmenter.bundles],
        "device": str(segmenter.device),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **provenance(),
        "ways": rows,
    }


def table(row: dict[str, Any]) -> str:
    lines = [f"{'':26}{'class':8}{'IoU':>8}{'soft':>8}{'ECE':>8}{'rank':>8}{'p(1-p)':>8}{'galaxies':>9}{'ms':>9}"]
    for name, way in row["ways"].items():
        for label in CLASSES:
            sigma = way["sigma"].get(label, {})
            keys = ("rank_correlation", "rank_correlation_of_sqrt_p_1_minus_p", "rank_correlation_over_galaxies")
            ranks = "".join(f"{'-' if sigma.get(key) is None else format(sigma[key], '.3f'):>8}" for key in keys)
            values = (way[f"{label}_iou_0.2"], way[f"{label}_soft_iou"], way["calibration_error"][label])
            numbers = "".join(f"{value:8.4f}" for value in values)
            lines.append(f"{name:26}{label:8}{numbers}{ranks}{way['ms_per_galaxy']:10.2f}")
    return "\n".join(lines)


def plot(row: dict[str, Any], path: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
    for axes, label in zip(panels, CLASSES, strict=False):
        axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls="--")
        for (name, way), style in zip(row["ways"].items(), ("-", "--", "-.", (0, (1, 1)), "-", ":"), strict=False):
            curve = way["reliability"][label]
            shade = {"color": "k"} if name == "one network" else {"color": COLOURS[label]}
            text = f"{name} ({way['calibration_error'][label]:.3f})"
            axes.plot(curve["predicted"], curve["observed"], ls=style, lw=1.4, label=text, **shade)
        axes.set(xlabel="predicted fraction", ylabel="fraction of volunteers", title=f"{label} (calibration error)")
        axes.legend(frameon=False, fontsize=7)
    axes = panels[2]
    marks = iter("osD^v")
    for name, way in row["ways"].items():
        if way["sigma"]:
            mark = next(marks)
            for label, sigma in way["sigma"].items():
                axes.plot(sigma["sigma"], sigma["error"], mark + "-", ms=3, lw=1, color=COLOURS[label])
            axes.plot([], [], "k" + mark + "-", ms=3, lw=1, label=name)
    axes.set(
        xlabel="predicted standard deviation", ylabel="mean |prediction - volunteers|", title="does sigma rank errors?"
    )
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, required=True, help="folder that zoobot3d simulate wrote")
    parser.add_argument("--bundle", type=Path, nargs="+", required=True, help="trained on it, with unlike seeds")
    parser.add_argument("--split", default="test", help="rows to measure on; not the ones of calibration, val")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its default")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON and plot")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    row = measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "uncertainty.json").write_text(json.dumps(row, indent=1) + "\n")
    plot(row, args.out / "uncertainty.png")
    print(table(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
