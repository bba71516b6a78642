"""What does a simulated galaxy cost? Times whole surveys, every file included, in one process on one core.

    python benchmarks/simulate.py

Claim: at most 150 ms per galaxy at 424 px, with GZ3D FITS, grz cutout, JPEG, marks and catalogues. Each round makes one
survey with all files and one with pictures and marks only. Writes ``simulate.json`` and ``simulate.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np

from rows import provenance
from zoobot_3d.simulate.survey import simulate_survey

CLAIM = 150.0  # ms


def milliseconds(galaxies: int, seed: int, images_only: bool) -> float:
    """Wall-clock time per galaxy of one survey."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        simulate_survey(
            folder, galaxies, seed=seed, workers=1, files="pictures" if images_only else "all", progress=False
        )
        return 1e3 * (time.perf_counter() - start) / galaxies


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=40, help="in each survey")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    milliseconds(2, 0, False)  # compile
    kinds = {"all files": False, "pictures and marks": True}
    rounds = {name: [] for name in kinds}
    for seed in range(args.rounds):
        for name, images_only in kinds.items():
            rounds[name].append(milliseconds(args.galaxies, seed, images_only))
    medians = {name: round(float(np.median(values)), 1) for name, values in rounds.items()}
    for name, value in medians.items():
        print(f"{name:>20}: {value:6.1f} ms per galaxy (rounds {', '.join(f'{v:.0f}' for v in rounds[name])})")
    print(f"all files: {medians['all files'] / CLAIM:.2f} of the claim ({CLAIM:.0f} ms)")
    row = {
        **provenance(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "galaxies": args.galaxies,
        "ms_per_galaxy": rounds,
        "median_ms": medians,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "simulate.json").write_text(json.dumps(row, indent=1))
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.boxplot(list(rounds.values()), tick_labels=list(rounds), whis=(0, 100))
    axes.axhline(CLAIM, color="0.5", ls="--", lw=1)
    axes.set(ylabel="time per galaxy, one core [ms]", ylim=(0, None))
    figure.savefig(args.out / "simulate.png", dpi=120)


if __name__ == "__main__":
    main()
