"""How fast is each engine on the package's own network? ONNX Runtime and OpenVINO beside PyTorch, turn by turn.

    python benchmarks/engines.py [--bundle default] [--batch 32] [--rounds 7]

All engines get the same pictures in one process, one batch each in every round, and the medians over rounds are
compared; also the largest difference of the raw output from PyTorch's. The load average is written beside. Writes
``engines.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

import zoobot_3d
from models import cpu_name
from rows import provenance
from zoobot_3d.infer.members import Member
from zoobot_3d.io import write_atomic

CLAIM = 4.0
"""Times as fast as PyTorch, in float32, where the processor has AVX-512."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engines.json"))
    args = parser.parse_args()
    names = ["torch", "onnx", "openvino"]
    bundle = zoobot_3d.load_segmenter(args.bundle, engine="onnx").bundles[0]
    engines = {name: Member.of(bundle, name, None).engine for name in names}
    size = bundle.info.input_size
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (args.batch, size, size, 3), dtype=np.uint8)
    views = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    expected = engines["torch"].raw(views)
    differences = {name: float(np.abs(engine.raw(views) - expected).max()) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.raw(views)
            seconds[name].append(time.perf_counter() - start)
    rates = {name: args.batch / statistics.median(times) for name, times in seconds.items()}
    row = {
        "pictures_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "times_torch": {name: round(rate / rates["torch"], 2) for name, rate in rates.items()},
        "claim_times_torch": CLAIM,
        "largest_difference_of_raw_output": differences,
        "input_size": size,
        "batch": args.batch,
        "rounds": args.rounds,
        "processor": cpu_name(),
        "load_average": round(os.getloadavg()[0], 1),
        **provenance(),
    }
    print(*(f"{key} {value}" for key, value in row.items()), sep="\n")
    write_atomic(args.out, json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
