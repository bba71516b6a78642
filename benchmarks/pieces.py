"""A batch in pieces, each on one core, beside the whole batch on all cores, in both engines without torch.

    python benchmarks/pieces.py [--bundle default] [--batch 32] [--rounds 9]

Turn by turn in one process; prints and appends the medians over rounds and their ratios to ``pieces.jsonl``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import zoobot_3d
from models import cpu_name
from rows import append_row, print_row, provenance
from zoobot_3d.engines import runtime, vino
from zoobot_3d.engines.threads import usable_cores
from zoobot_3d.infer.members import Member

Network = Callable[[NDArray[np.float32]], Any]


def engine(bundle: Any, name: str, *, whole: bool) -> Network:
    """Start an engine, as it is or with all cores on one batch."""
    if not whole:
        return Member.of(bundle, name, None).engine.raw
    module = {"onnx": runtime, "openvino": vino}[name]
    with mock.patch.object(module, "most_at_once", lambda: 1):
        network = Member.of(bundle, name, None).engine.raw

    def run(views: NDArray[np.float32]) -> Any:
        with mock.patch.object(module, "pieces_of", lambda views, _: [views]):
            return network(views)

    return run


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pieces.jsonl"))
    args = parser.parse_args()
    bundle = zoobot_3d.load_segmenter(args.bundle, engine="onnx").bundles[0]
    size = bundle.info.input_size
    views = np.random.default_rng(0).random((args.batch, 3, size, size), dtype=np.float32)
    row: dict[str, Any] = {"batch": args.batch, "cores": usable_cores()}
    for name in ("onnx", "openvino"):
        ways = {"whole": engine(bundle, name, whole=True), "pieces": engine(bundle, name, whole=False)}
        difference = float(np.abs(ways["whole"](views) - ways["pieces"](views)).max())
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, run in ways.items():
                start = time.perf_counter()
                run(views)
                seconds[way].append(time.perf_counter() - start)
        rates = {way: args.batch / statistics.median(times) for way, times in seconds.items()}
        row[name] = {way: round(rate, 1) for way, rate in rates.items()} | {
            "ratio": round(rates["pieces"] / rates["whole"], 2),
            "largest_difference": difference,
        }
    row |= {"processor": cpu_name(), "load_average": round(os.getloadavg()[0], 1)}
    row |= provenance()
    print_row(row)
    append_row(args.out, row)


if __name__ == "__main__":
    main()
