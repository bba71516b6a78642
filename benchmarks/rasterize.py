"""How long rasterizing the marks of one galaxy takes, beside matplotlib's ``contains_points`` over every pixel.

The case is 15 volunteers x 2 arms of 150 vertices at 525 x 525. Both are timed in this process, on one core, and must
give the same counts. Writes a row into ``results/rasterize.json`` and a plot beside it.

    python benchmarks/rasterize.py [--repeats 50] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.path import Path as MatplotlibPath

from zoobot_3d.marks.rasterize import FlatPaths, rasterize_marks

SIDE, VOLUNTEERS, ARMS, VERTICES = 525, 15, 2, 150
LIMIT_MS, LIMIT_RATIO = 1.0, 3000.0


def draw_arms(seed: int = 0) -> list[list[np.ndarray]]:
    """Outlines of two opposite log-spiral arms by each volunteer, in steps of 0.1 px as the site records them."""
    rng = np.random.default_rng(seed)
    marks = []
    for _ in range(VOLUNTEERS):
        arms = []
        for arm in range(ARMS):
            angle = np.linspace(0.0, rng.uniform(2.5, 3.5), VERTICES // 2)
            radius = 45 * np.exp(angle * np.tan(np.radians(rng.uniform(18, 24))))
            width = rng.uniform(6, 14)
            turned = angle + np.pi * arm + rng.normal(0, 0.05)
            direction = np.stack([np.cos(turned), np.sin(turned)])
            outer, inner = (((radius + side * width + rng.normal(0, 1, len(angle))) * direction).T for side in (1, -1))
            arms.append(np.round(np.concatenate([outer, inner[::-1]]) + SIDE / 2, 1))
        marks.append(arms)
    return marks


def by_matplotlib(marks: list[list[np.ndarray]]) -> np.ndarray:
    """Count volunteers the usual way: every pixel against every path."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = np.column_stack([x.ravel(), y.ravel()])
    votes = np.zeros(SIDE * SIDE, np.uint16)
    for arms in marks:
        votes += np.any([MatplotlibPath(arm).contains_points(pixels) for arm in arms], axis=0)
    return votes.reshape(SIDE, SIDE)


def median_ms(run: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call in milliseconds, after one that does not count (compilation, caches)."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def plot(path: Path, row: dict[str, Any]) -> None:
    """Draw the times as bars on a logarithmic axis."""
    cases = {
        "contains_points": row["matplotlib_ms"],
        "ours, nested lists": row["lists_ms"],
        "ours, nested arrays": row["arrays_ms"],
        "ours, flat arrays": row["flat_ms"],
    }
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(cases), list(cases.values()), color=["#999999", "#56b4e9", "#0072b2", "#0072b2"])
    axes.bar_label(bars, [f" {ms:,.2f} ms" for ms in cases.values()])
    axes.axvline(LIMIT_MS, color="#d55e00", linewidth=1, zorder=0, label=f"{LIMIT_MS:g} ms")
    axes.set(xscale="log", xlabel="time per galaxy, one core (ms)", xlim=(0.05, 40 * row["matplotlib_ms"]))
    axes.set_title(f"{VOLUNTEERS} volunteers x {ARMS} arms x {VERTICES} vertices at {SIDE} x {SIDE}", fontsize=10)
    axes.invert_yaxis()
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=130)


def main() -> int:
    """Measure, compare, write; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50, help="timed calls of ours (default 50)")
    parser.add_argument("--slow-repeats", type=int, default=3, help="timed calls of matplotlib's (default 3)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for row and plot")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, whatever libraries would like

    marks = draw_arms()
    lists = [[arm.tolist() for arm in arms] for arms in marks]
    flat = FlatPaths.from_nested(marks)
    shape = (SIDE, SIDE)
    equal = bool(np.array_equal(rasterize_marks(marks, shape), by_matplotlib(marks)))
    row = {
        "benchmark": "rasterize",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, one core",
        "equal_to_matplotlib": equal,
        "flat_ms": median_ms(lambda: rasterize_marks(flat, shape), options.repeats),
        "arrays_ms": median_ms(lambda: rasterize_marks(marks, shape), options.repeats),
        "lists_ms": median_ms(lambda: rasterize_marks(lists, shape), options.repeats),
        "matplotlib_ms": median_ms(lambda: by_matplotlib(marks), options.slow_repeats),
    }
    row["ratio"] = row["matplotlib_ms"] / row["arrays_ms"]

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rasterize.json").write_text(json.dumps(row, indent=2) + "\n")
    plot(options.out / "rasterize.png", row)
    print(f"same counts as contains_points: {'yes' if equal else 'NO'}")
    print(
        f"flat arrays {row['flat_ms']:.3f} ms, nested arrays {row['arrays_ms']:.3f} ms, lists {row['lists_ms']:.3f} ms"
    )
    print(f"contains_points over all pixels {row['matplotlib_ms']:.0f} ms, {row['matplotlib_ms'] / 30:.0f} ms a path")
    print(f"ratio {row['ratio']:.0f} (at least {LIMIT_RATIO:.0f}), limit {LIMIT_MS:g} ms")
    return 0 if equal and row["ratio"] >= LIMIT_RATIO and row["arrays_ms"] < LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
