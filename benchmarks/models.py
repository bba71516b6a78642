"""Speed of the fast network over the published one on a CPU: at least 25 is claimed.

Both run in one process, turn by turn, and the medians over rounds are compared. The load average is written beside: two
threads that share a core with somebody else wait for each other at every layer. The published network is given
whichever memory layout suits it best. Writes ``models.json`` and ``models.png``.

    python benchmarks/models.py --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoobot_3d.networks import FastUNet, MobileUNet, build_model

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLAIM = 25.0
# Okabe and Ito's colour-blind-safe palette
COLOURS = {"published_unet": "#d55e00", "fast_unet": "#0072b2", "mobile_unet": "#009e73"}


def cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def gigaflop(model: nn.Module, picture: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        model(picture)
    return counter.get_total_flops() / 1e9


def rate(model: nn.Module, pictures: Tensor, repeats: int) -> float:
    """Return pictures per second."""
    start = time.perf_counter()
    for _ in range(repeats):
        model(pictures)
    return repeats * len(pictures) / (time.perf_counter() - start)


@torch.inference_mode()
def measure(size: int, batch: int, threads: int, rounds: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pictures = torch.rand(batch, 3, size, size)
    channels_last = pictures.contiguous(memory_format=torch.channels_last)
    published, fast, mobile = (build_model(name).eval() for name in ("published_unet", "fast_unet", "mobile_unet"))
    assert isinstance(fast, FastUNet)
    assert isinstance(mobile, MobileUNet)
    row: dict[str, object] = {
        "benchmark": "models",
        "command": f"python benchmarks/models.py --size {size} --batch {batch} --threads {threads} --rounds {rounds}",
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "threads": threads,
        "size_px": size,
        "batch": batch,
        "precision": "float32",
    }
    for name, model in (("published_unet", published), ("fast_unet", fast), ("mobile_unet", mobile)):
        row[f"{name}_parameters"] = sum(parameter.numel() for parameter in model.parameters())
        row[f"{name}_gigaflop_per_picture"] = round(gigaflop(model, pictures[:1]), 2)

    published_last = build_model("published_unet").eval().channels_last()
    runs = {
        "published_unet": (published, pictures, 1),
        "published_unet channels last": (published_last, channels_last, 1),
        "fast_unet not fused": (fast, pictures, 4),
        "fast_unet": (fast.fuse(), pictures, 4),
        "mobile_unet": (mobile.fuse(), pictures, 4),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (model, batch_pictures, repeats) in runs.items():
            value = rate(model, batch_pictures, repeats)
            if number:  # the first round warms caches
                rates[name].append(value)
    median = {name: statistics.median(values) for name, values in rates.items()}
    row["pictures_per_s"] = {name: round(value, 2) for name, value in median.items()}
    row["ratio"] = round(median["fast_unet"] / max(median["published_unet"], median["published_unet channels last"]), 1)
    row["ratio_to_default_layout"] = round(median["fast_unet"] / median["published_unet"], 1)
    row["load_average"] = round(os.getloadavg()[0], 1)
    row["claim"] = CLAIM
    return row


def plot(row: dict[str, object], path: Path) -> None:
    rates = row["pictures_per_s"]
    assert isinstance(rates, dict)
    figure, axes = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    names = list(rates)[::-1]
    bars = axes.barh(names, [rates[name] for name in names], color=[COLOURS[name.split()[0]] for name in names])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(f"pictures / s ({row['size_px']} px, batch {row['batch']}, {row['threads']} CPU threads, float32)")
    axes.set_title(f"{row['ratio']} times as fast (claim: {row['claim']:g})")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder for models.json and models.png"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the pictures, px")
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take the median of")
    arguments = parser.parse_args()
    row = measure(arguments.size, arguments.batch, arguments.threads, arguments.rounds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "models.json").write_text(json.dumps(row, indent=2) + "\n")
    plot(row, arguments.out / "models.png")
    print(json.dumps(row, indent=2))
    print(f"fast_unet is {row['ratio']} times as fast as published_unet in its better layout (claim: {CLAIM:g})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
