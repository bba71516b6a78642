"""How much sooner are masks there than in 2023? The published network one picture after the other, beside `zoobot3d`.

    python benchmarks/way_of_2023.py --folder ../shared/realdata/gz_decals_jpg/jpg [--engine auto] [--rounds 3]

Three sides, turn by turn in one run, each on real JPEG files:

- **published, alone**: the published network in plain PyTorch, float32, on pictures of its 224 px in batches of 16;
- **2023**: one picture is opened with Pillow, made smaller and shown to that network, and each class is written as a
  PNG file, before the next is opened; the pictures are small for a network of this size, so batches would not help;
- **zoobot3d**: ``predict`` from the files to finished shards, network, start-up and all.

Weights are random on the published side: they do not change the time. Also told: seconds from the start of the command
to the first shard of 64 pictures, and of ``zoobot3d --help``. Medians over rounds. Writes ``way_of_2023.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from models import cpu_name
from rows import provenance
from zoobot_3d.engines.threads import usable_cores
from zoobot_3d.io import write_atomic
from zoobot_3d.networks import build_model

SIDE, BATCH = 224, 16
ALONE, ONE_BY_ONE, SHORT = 32, 24, 64  # pictures a round
CLAIMS = {"end_to_end_over_published_alone": 40.0, "end_to_end_over_2023": 60.0}
COMMAND = [sys.executable, "-m", "zoobot_3d.cli"]


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.inference_mode()
def published_alone(network: torch.nn.Module) -> float:
    """Pictures per second of the published network."""
    pictures = torch.rand(BATCH, 3, SIDE, SIDE)
    return ALONE / seconds(lambda: [network(pictures) for _ in range(ALONE // BATCH)])


@torch.inference_mode()
def way_of_2023(network: torch.nn.Module, paths: list[Path]) -> float:
    """Pictures per second, one after the other, from JPEG files to PNG files."""
    with TemporaryDirectory() as folder:

        def work() -> None:
            for path in paths:
                picture = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                view = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
                masks = network(view)[0, :2].sigmoid().mul(255).byte().numpy()
                for name, mask in zip(("spiral", "bar"), masks, strict=True):
                    Image.fromarray(mask).save(f"{folder}/{path.stem}_{name}.png")

        return len(paths) / seconds(work)


def zoobot3d(paths: list[Path], engine: str) -> float:
    """Seconds of ``predict`` on pictures, as a command of its own."""
    with TemporaryDirectory() as folder:
        links = Path(folder) / "pictures"
        links.mkdir()
        for number, path in enumerate(paths):
            (links / f"{number:06d}.jpg").symlink_to(path.resolve())
        command = [*COMMAND, "predict", str(links), "--out", f"{folder}/out", "--engine", engine]
        return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of JPEG pictures")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--galaxies", type=int, default=2000, help="that zoobot3d predicts in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/way_of_2023.json"))
    args = parser.parse_args()
    paths = sorted(args.folder.glob("*.jpg"))
    many = [paths[i % len(paths)] for i in range(args.galaxies)]
    torch.set_num_threads(usable_cores())
    torch.manual_seed(0)
    network = build_model("published_unet").eval()
    published_alone(network)  # the first is slower
    rounds = [
        {
            "published_alone_per_s": published_alone(network),
            "way_of_2023_per_s": way_of_2023(network, paths[:ONE_BY_ONE]),
            "zoobot3d_per_s": len(many) / zoobot3d(many, args.engine),
            "to_first_shard_s": zoobot3d(many[:SHORT], args.engine),
            "help_s": seconds(lambda: subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)),
        }
        for _ in range(args.rounds)
    ]
    row: dict[str, object] = {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]}
    ours = [r["zoobot3d_per_s"] for r in rounds]
    for name, side in zip(CLAIMS, ("published_alone_per_s", "way_of_2023_per_s"), strict=True):
        row[name] = round(statistics.median(o / r[side] for o, r in zip(ours, rounds, strict=True)), 1)
    row |= {"claims": CLAIMS, "galaxies": len(many), "rounds": args.rounds, "engine": args.engine}
    row |= {"cpu": cpu_name(), "threads": usable_cores(), "load_average": round(os.getloadavg()[0], 1)}
    row |= {"torch": torch.__version__} | provenance()
    print(json.dumps(row, indent=1))
    write_atomic(args.out, json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
