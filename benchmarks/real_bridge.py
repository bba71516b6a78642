"""What do real galaxies that volunteers drew on teach a model that has seen simulated ones? By cross-validation.

    python benchmarks/real_bridge.py --catalog weights/survey/data/weights.parquet --start SIMULATED
        --folder ../shared/realdata/galaxy_builder/drawn [--ways both half] [--seeds 0 1] [--pictures 9600]

``--catalog`` is what `make weights` learns from; ``--start`` a bundle that has learned from its simulated galaxies
alone (`tools/make_weights.py --drawn none --plain none`). From there every way goes on for the same number of pictures:

- ``simulated``: simulated galaxies alone;
- ``real``: real galaxies alone, those drawn on and those without arms;
- ``both``: a quarter of the pictures are drawn on, a twelfth have no arms, the others are simulated;
- ``half``: half are drawn on, an eighth have no arms.

Ways with real galaxies train five times, each without the galaxies of one fold, and all galaxies are judged by the
model that has not seen them, as `benchmarks/drawn.py` does it. Appends a row for each way and seed to ``--out``.
Finished rows are not repeated, and an interrupted training goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drawn import FOLDS, fold, judge, write_folds
from rows import append_row, print_row, provenance, read_rows
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.io import write_parquet
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.train import train
from zoobot_3d.prepare.drawn import import_galaxy_builder
from zoobot_3d.schema import COL_ID

WAYS: dict[str, dict[str, float]] = {
    "simulated": {},
    "real": {"drawn": 0.8},
    "both": {"drawn": 0.25, "plain": 0.08},
    "half": {"drawn": 0.5, "plain": 0.125},
}
"""Parts of the pictures that each kind of real galaxies makes up; the others are simulated, or have no arms."""


def train_way(way: str, out: int | None, seed: int, args: argparse.Namespace) -> Path:
    """Train one way without the galaxies of fold `out`, or without any real ones; return the bundle."""
    shares = WAYS[way]
    frame = read_catalog(args.catalog)
    rest = "plain" if way == "real" else "simulated"
    wanted = frame["group"].isin([*shares, rest]) | (frame["split"] == "val")
    if out is not None:
        wanted &= ~((frame["group"] == "drawn") & (frame[COL_ID].map(fold) == out))
    name = f"{way}_{seed}" if out is None else f"{way}_{seed}_{out}"
    catalog = args.catalog.with_name(f"bridge_{name}.parquet")
    write_parquet(catalog, frame[wanted].reset_index(drop=True))
    settings = [f"data.catalog={catalog}", f"data.epoch_size={args.pictures}", f"train.init={args.start}"]
    settings += [f"train.lr={args.lr}", "train.epochs=1", "train.ema=0.99", f"train.seed={seed}"]
    settings += [f"data.group_shares.{group}={share}" for group, share in shares.items()]
    return train(load_config("weights", settings + args.settings), args.work / name)


def main() -> None:
    """Train what is missing, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", type=Path, required=True, help="weights.parquet of make weights")
    parser.add_argument("--start", type=Path, required=True, help="bundle that learned from simulated galaxies")
    parser.add_argument("--folder", type=Path, required=True, help="Galaxy Builder's galaxies")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/data/real_bridge"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pictures", type=int, default=9600, help="that each training is shown")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/real_bridge.jsonl"))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings to change in the recipe")
    args = parser.parse_args()
    rows = read_rows(args.out)
    done = {(row["way"], row["seed"]) for row in rows}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        catalog = import_galaxy_builder(args.folder, root).catalog
        for seed in args.seeds:
            for way in args.ways:
                if (way, seed) in done:
                    continue
                if WAYS[way]:
                    bundles = [train_way(way, k, seed, args) for k in range(FOLDS)]
                    catalogs = write_folds(catalog, range(FOLDS))
                else:
                    bundles, catalogs = [train_way(way, None, seed, args)], [catalog]
                row: dict[str, Any] = {"way": way, "seed": seed, "pictures": args.pictures, "lr": args.lr}
                row |= judge([str(bundle) for bundle in bundles], catalogs, root, args.folder)
                row |= {"settings": args.settings} | provenance()
                print_row(row)
                append_row(args.out, row)


if __name__ == "__main__":
    main()
