"""Make the bundle that comes with the package, from seeds to file: `make weights`.

Simulates a broad survey, trains ``conf/weights.yaml`` on it, measures the result on the survey's test galaxies, and
writes it in half precision to ``src/zoobot_3d/default_bundle``. Killed, it goes on with the same command. Nothing real
is seen: neither pictures nor marks.

    python tools/make_weights.py [--work weights] [--galaxies 20000] [--seed 11] [KEY=VALUE ...]

Two cores simulate for a quarter of an hour and train for a night; the weights depend on the processor in their last
digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from zoobot_3d.bundle import describe, load_bundle, save_bundle
from zoobot_3d.catalog import assign_split, read_catalog
from zoobot_3d.evaluate import evaluate_catalog
from zoobot_3d.io import write_atomic, write_parquet
from zoobot_3d.schema import COL_ID
from zoobot_3d.settings import load_config
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.train import train

ROOT = Path(__file__).parents[1]
DEFAULT_BUNDLE = ROOT / "src" / "zoobot_3d" / "default_bundle"
LARGEST_MB = 8.0


def write_catalog(master: Path) -> Path:
    """Write the survey's catalogue with three quarters of its test galaxies given to training: galaxies are cheap."""
    frame = read_catalog(master)
    split = assign_split(frame[COL_ID])
    split[(split == "test") & (np.arange(len(frame)) % 4 != 0)] = "train"
    path = master.with_name("weights.parquet")
    write_parquet(path, frame.assign(split=split))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="weights", help="folder for survey and training")
    parser.add_argument("--galaxies", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=11, help="of the survey")
    parser.add_argument("--out", default=str(DEFAULT_BUNDLE), help="folder of the bundle")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings other than conf/weights.yaml's")
    args = parser.parse_args()

    work = Path(args.work)
    survey = simulate_survey(work / "survey", args.galaxies, seed=args.seed, images_only=True, broad=True)
    catalog = write_catalog(survey.master)
    config = load_config(ROOT / "conf" / "weights.yaml", [f"data.catalog={catalog}", *args.settings])
    trained = train(config, work / "train")

    bundle = load_bundle(trained)
    recipe = {"recipe": "make weights", "galaxies": args.galaxies, "survey_seed": args.seed}
    info = dataclasses.replace(bundle.info, training=recipe | bundle.info.training)
    out = save_bundle(args.out, bundle.model, info, half=True)
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    if size > LARGEST_MB:
        raise SystemExit(f"{out}: {size:.1f} MB; at most {LARGEST_MB:g} MB go into the wheel")

    evaluation = evaluate_catalog(catalog, out)  # as it is in the wheel: half precision, with its temperature
    write_atomic(work / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
    print(describe(out), f"{size:.1f} MB", *("  ".join(row) for row in evaluation.table()), sep="\n")


if __name__ == "__main__":
    main()
