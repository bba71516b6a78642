"""Times predictions, from JPEG files to finished shards, beside the network alone; and tells how much memory they take.

    python benchmarks/survey.py --folder ../shared/realdata/gz_decals_jpg/jpg [--sizes 1000 10000] [--engine auto]

The folder's pictures are predicted as many galaxies as asked for, each size in a process of its own, and once more,
when all is there. Between them the engine alone is timed on the same pictures, already prepared, in batches. All rates
are medians of ``--rounds``. Writes ``survey.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from rows import print_row, provenance
from zoobot_3d import load_segmenter
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.infer.predict import predict
from zoobot_3d.io import read_picture, write_atomic

ALONE = 512  # pictures that the engine is timed on


def engine_rate(folder: Path, engine: str) -> float:
    """Pictures per second of the network alone, prepared and in batches."""
    segmenter = load_segmenter(engine=engine)
    pictures = [read_picture(path) for path in sorted(folder.glob("*.jpg"))[:ALONE]]
    (views,) = segmenter.views(pictures)
    batches = [views[i : i + segmenter.batch_size] for i in range(0, len(views), segmenter.batch_size)]
    segmenter.fractions(batches[0])  # the first is slower
    start = time.perf_counter()
    for batch in batches:
        segmenter.fractions(batch)
    return len(views) / (time.perf_counter() - start)


def run_once(folder: Path, size: int, engine: str, out: Path) -> dict[str, float]:
    """Predict, in this process; then again, when all is there."""
    paths = sorted(folder.glob("*.jpg"))
    table = out.with_suffix(".csv")
    files = [str(paths[i % len(paths)].resolve()) for i in range(size)]
    pd.DataFrame({"id": [f"g{i}" for i in range(size)], "file": files}).to_csv(table, index=False)
    galaxies, segmenter = list_galaxies(table), load_segmenter(engine=engine)
    segmenter.segment(read_picture(paths[0]))
    start = time.perf_counter()
    predict(galaxies, segmenter, out)
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    start = time.perf_counter()
    again = predict(galaxies, segmenter, out)
    assert again.predicted == 0
    return {"rate": size / spent, "peak_mb": peak, "resume_s": time.perf_counter() - start}


def main() -> None:
    """Time, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of JPEG pictures")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/survey.json"))
    args = parser.parse_args()
    if args.once:
        print(json.dumps(run_once(args.folder, args.once, args.engine, args.out)))
        return
    rows = []
    for size in args.sizes:
        alone, runs = [], []
        for _ in range(args.rounds):
            alone.append(engine_rate(args.folder, args.engine))
            with TemporaryDirectory() as work:
                command = [sys.executable, __file__, "--folder", str(args.folder), "--engine", args.engine]
                command += ["--once", str(size), "--out", f"{work}/out"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
        row: dict[str, float | str] = {"galaxies": size, "engine": load_segmenter(engine=args.engine).engine}
        row |= {"engine_alone_per_s": round(float(np.median(alone)), 1)}
        row |= {name: round(float(np.median([run[name] for run in runs])), 2) for name in runs[0]}
        row["of_the_engine"] = round(float(np.median([r["rate"] / a for r, a in zip(runs, alone, strict=True)])), 3)
        rows.append(row | provenance())
        print_row(rows[-1])
    write_atomic(args.out, json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
