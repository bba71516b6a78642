"""How fast are masks encoded as PNG, and how large are they? The settings in use against libpng with adaptive filters.

    python benchmarks/mask_png.py [--folder ../shared/realdata/gz_decals_jpg/jpg] [--galaxies 64]

Masks of real pictures by the package's model are encoded in both ways, in turn, in one thread; the processor's time
counts, so that other work on the machine does not. Prints milliseconds and bytes a mask, and their ratios; writes
``mask_png.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from zoobot_3d import load_segmenter
from zoobot_3d.io import encode_mask_png, read_picture, write_atomic

ROUNDS = 5


def adaptive(mask: NDArray[np.float32]) -> bytes:
    """Encode as before: the best filter of each row, by libpng, and strings that came before."""
    grey = np.round(np.clip(np.nan_to_num(mask), 0, 1) * 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])


def main() -> None:
    """Encode, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("../shared/realdata/gz_decals_jpg/jpg"))
    parser.add_argument("--galaxies", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mask_png.json"))
    args = parser.parse_args()
    pictures = [read_picture(path) for path in sorted(args.folder.glob("*.jpg"))[: args.galaxies]]
    masks = [mask for both in load_segmenter().segment_batch(pictures) for mask in both]
    ways = {"in use": encode_mask_png, "adaptive": adaptive}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    size: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, encode in ways.items():
            start = time.process_time()
            size[name] = float(np.mean([len(encode(mask)) for mask in masks]))
            spent[name].append((time.process_time() - start) / len(masks) * 1e3)
    row: dict[str, float] = {"masks": len(masks)}
    for name in ways:
        row |= {f"{name}, ms": round(float(np.median(spent[name])), 3), f"{name}, bytes": round(size[name])}
    row["times faster"] = round(row["adaptive, ms"] / row["in use, ms"], 2)
    row["size over adaptive"] = round(row["in use, bytes"] / row["adaptive, bytes"], 2)
    print(*(f"{key} {value}" for key, value in row.items()), sep="\n")
    write_atomic(args.out, json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
