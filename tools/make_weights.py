"""Make the bundle that comes with the package, from seeds to file: `make weights`.

Simulates a broad survey, and more galaxies whose arms lie in pictures of real ones (``tools/hosts.csv`` lists them);
trains ``conf/weights.yaml`` on both, measures the result on the survey's test galaxies, and writes it in half precision
to ``src/zoobot_3d/default_bundle``. Killed, it goes on with the same command. No mark of a volunteer is seen.

    python tools/make_weights.py [--work weights] [--galaxies 40000] [--seed 11] [--hosted 6000]
                                 [--hosts ../shared/realdata/gz_decals_jpg/jpg] [KEY=VALUE ...]

Without the folder of real pictures, give ``--hosted 0``. The weights depend on the processor in their last digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd

from zoobot_3d.bundle import describe, load_bundle, save_bundle
from zoobot_3d.catalog import assign_split, read_catalog
from zoobot_3d.errors import Zoobot3DError
from zoobot_3d.evaluate import evaluate_catalog
from zoobot_3d.io import write_atomic, write_parquet
from zoobot_3d.schema import COL_ID
from zoobot_3d.settings import load_config
from zoobot_3d.simulate.hosts import read_hosts, simulate_in_hosts
from zoobot_3d.simulate.survey import SurveySummary, simulate_survey
from zoobot_3d.train import train

ROOT = Path(__file__).parents[1]
DEFAULT_BUNDLE = ROOT / "src" / "zoobot_3d" / "default_bundle"
HOSTS = ROOT / "tools" / "hosts.csv"
LARGEST_MB = 8.0


def write_catalog(survey: SurveySummary, hosts: pd.DataFrame | None, n_hosted: int, seed: int) -> Path:
    """Write what to learn from: the survey, most of its test galaxies given to training, and galaxies in real pictures.

    Galaxies are cheap: about a thousand are left to test on. Those in real pictures are all trained on, as few hosts
    have many galaxies.
    """
    frame = read_catalog(survey.master)
    split = assign_split(frame[COL_ID])
    tested = np.flatnonzero(split == "test")
    split[tested[np.arange(len(tested)) % max(1, len(tested) // 1000) != 0]] = "train"
    frames = [frame.assign(split=split)]
    if hosts is not None:
        frames.append(simulate_in_hosts(survey.root, hosts, n_hosted, seed=seed).assign(split="train"))
    path = survey.master.with_name("weights.parquet")
    write_parquet(path, pd.concat(frames, ignore_index=True))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="weights", help="folder for survey and training")
    parser.add_argument("--galaxies", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=11, help="of the survey")
    parser.add_argument("--hosted", type=int, default=6000, help="galaxies in real pictures")
    parser.add_argument("--hosts", default=str(ROOT.parent / "shared/realdata/gz_decals_jpg/jpg"), help="real pictures")
    parser.add_argument("--out", default=str(DEFAULT_BUNDLE), help="folder of the bundle")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings other than conf/weights.yaml's")
    args = parser.parse_args()
    try:
        hosts = read_hosts(HOSTS, args.hosts, "train") if args.hosted else None
    except Zoobot3DError as error:
        raise SystemExit(f"{error}; or do without, --hosted 0") from None

    work = Path(args.work)
    survey = simulate_survey(work / "survey", args.galaxies, seed=args.seed, images_only=True, broad=True)
    catalog = write_catalog(survey, hosts, args.hosted, args.seed)
    config = load_config(ROOT / "conf" / "weights.yaml", [f"data.catalog={catalog}", *args.settings])
    trained = train(config, work / "train")

    bundle = load_bundle(trained)
    recipe = {"recipe": "make weights", "galaxies": args.galaxies, "survey_seed": args.seed, "hosted": args.hosted}
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
