"""Is rasterizing marks on the fly affordable? Times, in one run, what an item of the training data costs, part by part.

    python benchmarks/loader.py --survey /tmp/survey

Claim: reading a galaxy's marks and rasterizing them onto the network's view takes no longer than reading and decoding
its JPEG. The survey is simulated if the folder is empty. One thread; the parts take turns galaxy by galaxy, so that
whatever else the machine does slows all alike. Appends a row to ``loader.jsonl`` and draws ``loader.png``.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch

from rows import append_row, provenance
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.dataset.data import ItemParts, MaskDataset
from zoobot_3d.io import read_picture
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.schema import COL_DEC, COL_JPG, COL_MARKS, COL_PIXSCALE, COL_RA, GZ_FIELD_PX
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid

PARTS = ("decode", "marks", "decode + marks", "whole item")


def measure(survey: Path, input_size: int, field_fraction: float, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds for each part, one value per galaxy: the median over rounds."""
    catalog = read_catalog(survey / "data" / "gz3d_and_desi_master_catalog.parquet")
    dataset = MaskDataset(catalog, survey, input_size, field_fraction, parts=ItemParts(masks=False))
    jpgs = [survey / path for path in catalog[COL_JPG]]
    marks = [survey / path for path in catalog[COL_MARKS]]
    positions = catalog[[COL_PIXSCALE, COL_RA, COL_DEC]].to_numpy(float)

    def decode(index: int) -> None:
        read_picture(jpgs[index])

    def rasterize(index: int) -> None:
        picture_grid = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), *positions[index])
        VolunteerMarks.from_json(marks[index]).votes(picture_grid.resize(input_size, field_fraction=field_fraction))

    def both(index: int) -> None:
        decode(index)
        rasterize(index)

    functions: tuple[Callable[[int], object], ...] = (decode, rasterize, both, dataset.__getitem__)
    times = np.empty((len(functions), rounds, len(catalog)))
    for function in functions:  # compile, and bring the files into the disk cache
        for index in range(len(catalog)):
            function(index)
    for repeat in range(rounds):
        for index in range(len(catalog)):
            for which, function in enumerate(functions):
                start = time.perf_counter()
                function(index)
                times[which, repeat, index] = 1e3 * (time.perf_counter() - start)
    return dict(zip(PARTS, np.median(times, axis=1), strict=True))


def plot(times: dict[str, np.ndarray], path: Path, title: str) -> None:
    """Distribution of each part's cost over galaxies."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    axes.boxplot(list(times.values()), tick_labels=list(times), whis=(0, 100), showmeans=True)
    axes.set(ylabel="time per galaxy [ms]", ylim=(0, None), title=title)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, default=Path("benchmarks/data/survey"), help="simulated if absent")
    parser.add_argument("--galaxies", type=int, default=200, help="how many to simulate")
    parser.add_argument("--input-size", type=int, default=128, help="px")
    parser.add_argument("--field-fraction", type=float, default=0.6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if not (args.survey / "data").exists():
        simulate_survey(args.survey, args.galaxies, seed=1)
    times = measure(args.survey, args.input_size, args.field_fraction, args.rounds)
    means = {part: round(float(values.mean()), 3) for part, values in times.items()}
    ratio = means["marks"] / means["decode"]
    for part, value in means.items():
        print(f"{part:>15}: {value:6.3f} ms per galaxy")
    print(f"marks / decode = {ratio:.2f} (claim: at most 1)")
    row = {
        **provenance(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "galaxies": len(times["decode"]),
        "input_size": args.input_size,
        "ms": means,
        "marks_over_decode": round(ratio, 3),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    append_row(args.out / "loader.jsonl", row)
    title = f"{args.input_size} px items, {row['galaxies']} galaxies: marks / decode = {ratio:.2f}"
    plot(times, args.out / "loader.png", title)


if __name__ == "__main__":
    main()
