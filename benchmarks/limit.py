"""Times the network beside what the processor can do, and every step of a prediction beside the network.

    python benchmarks/limit.py --folder ../shared/realdata/gz_decals_jpg/jpg [--engine auto] [--rounds 5]

**The network**: its arithmetic per picture times its rate, over the rate of a product of two large float32 matrices,
on the same cores and turn by turn. **The rest**: what `predict` does for a galaxy beside the network, step by step in
one thread: milliseconds of one core. All are medians over rounds. Writes ``limit.json`` and ``limit.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from models import cpu_name, gigaflop
from rows import provenance
from zoobot_3d import load_segmenter
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.engines.threads import usable_cores
from zoobot_3d.infer.bundle import DEFAULT, load_bundle
from zoobot_3d.infer.rows import Picture, read_galaxy, stamped, success_row
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.io import write_atomic, write_figure, write_parquet

MATRIX = 3072  # a side: large enough that its time is arithmetic
GALAXIES = 128
STEPS = (
    "read the JPEG",
    "picture to what the network sees",
    "network",
    "answer to masks on the picture",
    "row with PNG masks",
    "write the shard",
)


class Clock:
    """Adds up how long each step takes."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(STEPS, 0.0)
        self.last = time.perf_counter()

    def done(self, step: str) -> None:
        """Count the time since the last step."""
        now = time.perf_counter()
        self.spent[step] += now - self.last
        self.last = now


def one_round(rows: list[Any], segmenter: Segmenter) -> dict[str, float]:
    """Predict galaxies step by step; return the seconds of each step."""
    records = []
    with TemporaryDirectory() as folder:
        clock = Clock()
        pictures = [found for row in rows if isinstance(found := read_galaxy(row), Picture)]
        clock.done("read the JPEG")
        (views,) = segmenter.views([each.picture for each in pictures])
        clock.done("picture to what the network sees")
        batches = [views[i : i + segmenter.batch_size] for i in range(0, len(views), segmenter.batch_size)]
        for batch in batches:
            segmenter.fractions(batch)
        clock.done("network")
        places = segmenter.ask([each.picture for each in pictures])
        clock.last = time.perf_counter()  # the same once more, to have what lays answers on pictures
        found = [place() for place in places]
        clock.done("answer to masks on the picture")
        for row, picture, each in zip(rows, pictures, found, strict=True):
            records.append(success_row(row, picture, each, {}))
        clock.done("row with PNG masks")
        write_parquet(Path(folder) / "shard.parquet", pd.DataFrame(records))
        clock.done("write the shard")
    return clock.spent


def matrix_gigaflops() -> float:
    """Return 10^9 operations per second of a product of two matrices."""
    left = np.random.default_rng(0).random((MATRIX, MATRIX), dtype=np.float32)
    start = time.perf_counter()
    left @ left
    return 2 * MATRIX**3 / (time.perf_counter() - start) / 1e9


def plot(row: dict[str, Any], path: Path) -> None:
    """Draw a bar for each step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    spent = row["core_ms_per_galaxy"]
    names = list(spent)[::-1]
    colours = ["#0072b2" if name == "network" else "#e69f00" for name in names]
    axes.bar_label(axes.barh(names, [spent[name] for name in names], color=colours), fmt="%.2f", padding=3)
    axes.margins(x=0.15)
    axes.set_xlabel("milliseconds of one core per galaxy")
    write_figure(figure, path)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of JPEG pictures")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/limit.json"))
    args = parser.parse_args()
    segmenter, cores = load_segmenter(engine=args.engine), usable_cores()
    rows = list(stamped(list_galaxies(args.folder).head(GALAXIES), {}).itertuples(index=False))
    bundle = load_bundle(DEFAULT)
    per_picture = gigaflop(bundle.model, torch.zeros(1, 3, bundle.info.input_size, bundle.info.input_size))
    one_round(rows, segmenter)
    matrix_gigaflops()
    rounds, matrix = [], []
    for _ in range(args.rounds):
        rounds.append(one_round(rows, segmenter))
        matrix.append(matrix_gigaflops())
    spent = {step: statistics.median(r[step] for r in rounds) / len(rows) for step in STEPS}
    achieved = statistics.median(
        per_picture * len(rows) / r["network"] / m for r, m in zip(rounds, matrix, strict=True)
    )
    row: dict[str, Any] = {
        "engine": segmenter.engine,
        "gigaflop_per_picture": round(per_picture, 3),
        "network_per_s": round(1 / spent["network"], 1),
        "network_gigaflops": round(per_picture / spent["network"], 1),
        "matrix_product_gigaflops": round(statistics.median(matrix), 1),
        "network_over_matrix_product": round(achieved, 3),
        "core_ms_per_galaxy": {s: round(1000 * t * (cores if s == "network" else 1), 3) for s, t in spent.items()},
    }
    beside = sum(t for s, t in row["core_ms_per_galaxy"].items() if s != "network")
    row["beside_the_network"] = round(beside / sum(row["core_ms_per_galaxy"].values()), 3)
    row |= {"galaxies": len(rows), "rounds": args.rounds, "cpu": cpu_name(), "threads": cores}
    row |= {"load_average": round(os.getloadavg()[0], 1)} | provenance()
    print(json.dumps(row, indent=1))
    write_atomic(args.out, json.dumps(row, indent=1))
    plot(row, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
