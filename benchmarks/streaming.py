"""Does training stream from disk? Memory of an epoch over 20,000 simulated galaxies, all processes together.

    python benchmarks/streaming.py                                  # simulates the survey first, a quarter of an hour
    python benchmarks/streaming.py --survey weights/survey          # that of `make weights`

Claim: with ``data.cache none`` a training on 20,000 galaxies, its decoding processes included, stays within 4 GB. Runs
``zoobot3d train`` for one epoch, with its validation and calibration, in a process of its own, and adds up twice a
second the proportional set size (memory shared between processes counts once) of it and its children; Linux only.
Prints the largest sum and writes it, with memory against time, as ``streaming.json`` and ``streaming.png``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from rows import provenance
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.schema import DEFAULT_MASTER
from zoobot_3d.simulate.survey import simulate_survey

LIMIT_GB = 4.0
PERIOD = 0.5  # seconds between looks


def family(pid: int) -> list[int]:
    """List a process and its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                found += family(int(child))
    return found


def proportional_set_size(pid: int) -> float:
    """Memory of a process in GB; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def watch(command: list[str]) -> tuple[list[float], list[float]]:
    """Run a command to its end: seconds since its start, and GB of all its processes, at each look."""
    seconds, gigabytes = [], []
    start = time.monotonic()
    process = subprocess.Popen(command)
    while process.poll() is None:
        seconds.append(time.monotonic() - start)
        gigabytes.append(sum(map(proportional_set_size, family(process.pid))))
        time.sleep(PERIOD)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return seconds, gigabytes


def main() -> None:
    """Train, watch, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, default=Path("benchmarks/data/streaming"), help="simulated if absent")
    parser.add_argument("--galaxies", type=int, default=20000, help="how many to simulate")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    master = args.survey / DEFAULT_MASTER
    if not master.exists():
        simulate_survey(args.survey, args.galaxies, seed=11, files="pictures", broad=True)
    galaxies = len(read_catalog(master))
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"--data.catalog={master}", "--data.cache=none", "--data.workers=2", "--data.batch_size=32"]
        run = "import sys; from zoobot_3d.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", run, "train", folder, *settings, "--train.epochs=1"]
        seconds, gigabytes = watch(command)
    row = {
        **provenance(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "galaxies": galaxies,
        "seconds": round(seconds[-1]),
        "peak_gb": round(max(gigabytes), 2),
        "limit_gb": LIMIT_GB,
    }
    print(f"{galaxies} galaxies in {row['seconds']} s: at most {row['peak_gb']} GB (claim: {LIMIT_GB:g} GB)")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "streaming.json").write_text(json.dumps(row, indent=1) + "\n")
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    axes.plot([s / 60 for s in seconds], gigabytes)
    axes.axhline(LIMIT_GB, color="0.6", linestyle="--")
    title = f"One epoch over {galaxies} simulated galaxies, all processes"
    axes.set(xlabel="time [min]", ylabel="memory [GB]", ylim=(0, None), title=title)
    figure.savefig(args.out / "streaming.png", dpi=120)


if __name__ == "__main__":
    main()
