"""Make the bundle that comes with the package, from seeds to file: `make weights`.

Simulates a broad survey, and more galaxies whose arms lie in pictures of real ones (``tools/hosts.csv`` lists them);
trains ``conf/weights.yaml`` on both; goes on for one pass with disks within spheroids beside them, which are rare and
were taken for bars; takes the mean of the weights before and after; measures the result on the survey's test galaxies,
and writes it in half precision to ``src/zoobot_3d/default_bundle``. Killed, it goes on with the same command. No mark of a volunteer is seen.

    python tools/make_weights.py [--work weights] [--galaxies 40000] [--seed 11] [--hosted 6000] [--disks 5000]
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
from astropy.coordinates import SkyCoord

from zoobot_3d.bundle import describe, load_bundle, save_bundle
from zoobot_3d.calibration import calibrate
from zoobot_3d.catalog import assign_split, read_catalog
from zoobot_3d.evaluate import evaluate_catalog
from zoobot_3d.io import write_atomic, write_parquet
from zoobot_3d.schema import COL_ID, COL_JPG, COL_MARKS
from zoobot_3d.settings import load_config
from zoobot_3d.simulate.hosts import simulate_in_hosts
from zoobot_3d.simulate.survey import SurveySummary, simulate_survey
from zoobot_3d.train import train

ROOT = Path(__file__).parents[1]
DEFAULT_BUNDLE = ROOT / "src" / "zoobot_3d" / "default_bundle"
HOSTS = ROOT / "tools" / "hosts.csv"
LARGEST_MB = 8.0
SECOND = ("train.epochs=1", "train.lr=0.001", "train.warmup=0.02")
"""How the second training differs from the first."""


def write_catalog(survey: SurveySummary, hosts: Path, n_hosted: int, seed: int) -> Path:
    """Write what to learn from: the survey, most of its test galaxies given to training, and galaxies in real pictures.

    Galaxies are cheap: about a thousand are left to test on. Those in real pictures are all trained on, as few hosts
    have many galaxies.
    """
    frame = read_catalog(survey.master)
    split = assign_split(frame[COL_ID])
    tested = np.flatnonzero(split == "test")
    split[tested[np.arange(len(tested)) % max(1, len(tested) // 1000) != 0]] = "train"
    frames = [frame.assign(split=split)]
    if n_hosted:
        table = pd.read_csv(HOSTS, keep_default_na=False).query("split == 'train'").reset_index(drop=True)
        places = [SkyCoord.from_name(name, parse=True) for name in table["id"]]  # read off the names, nothing is asked
        table["ra"], table["dec"] = [place.ra.deg for place in places], [place.dec.deg for place in places]
        table["picture"] = [str(hosts / f"{name}.jpg") for name in table["id"]]
        frames.append(simulate_in_hosts(survey.root, table, n_hosted, seed=seed).assign(split="train"))
    path = survey.master.with_name("weights.parquet")
    write_parquet(path, pd.concat(frames, ignore_index=True))
    return path


def add_disks(catalog: Path, survey: SurveySummary, n_disks: int, seed: int) -> Path:
    """Write the catalogue with galaxies added whose disk lies deep within a spheroid, all of them to train on."""
    folder = "ellicular"
    disks = simulate_survey(
        survey.root / folder, n_disks, seed=seed + 1, images_only=True, broad=True, kind="ellicular"
    )
    frame = read_catalog(disks.master)
    for column in (COL_JPG, COL_MARKS):
        frame[column] = folder + "/" + frame[column]
    frame = frame.assign(split="train", **{COL_ID: "disk_" + frame[COL_ID]})
    path = catalog.with_name("weights_second.parquet")
    write_parquet(path, pd.concat([read_catalog(catalog), frame], ignore_index=True))
    return path


def average(first: Path, second: Path, out: Path, catalog: Path) -> Path:
    """Write the mean of the weights of a bundle and of one that went on from it, with temperatures of its own.

    Between the two lies what keeps most of both, and bears other data better (Wortsman et al. 2022, CVPR, 7959).
    """
    before, after = load_bundle(first), load_bundle(second)
    mean = after.model.state_dict()
    for name, old in before.model.state_dict().items():
        if mean[name].is_floating_point():
            mean[name] = (old + mean[name]) / 2
    after.model.load_state_dict(mean)
    known = {key: value for key, value in after.info.training.items() if key != "metrics"}  # those are of other weights
    save_bundle(out, after.model, dataclasses.replace(after.info, training=known | {"mean_with": "the first training"}))
    calibrate(out, catalog)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="weights", help="folder for survey and training")
    parser.add_argument("--galaxies", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=11, help="of the survey")
    parser.add_argument("--hosted", type=int, default=6000, help="galaxies in real pictures")
    parser.add_argument("--disks", type=int, default=5000, help="disks within spheroids in the second training")
    parser.add_argument("--hosts", default=str(ROOT.parent / "shared/realdata/gz_decals_jpg/jpg"), help="real pictures")
    parser.add_argument("--out", default=str(DEFAULT_BUNDLE), help="folder of the bundle")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings other than conf/weights.yaml's")
    args = parser.parse_args()
    if args.hosted and not Path(args.hosts).is_dir():
        raise SystemExit(f"{args.hosts}: no such folder of real pictures; give --hosts FOLDER, or --hosted 0")

    work = Path(args.work)
    survey = simulate_survey(work / "survey", args.galaxies, seed=args.seed, images_only=True, broad=True)
    catalog = write_catalog(survey, Path(args.hosts), args.hosted, args.seed)
    recipe = ROOT / "conf" / "weights.yaml"
    first = train(load_config(recipe, [f"data.catalog={catalog}", *args.settings]), work / "train")
    catalog = add_disks(catalog, survey, args.disks, args.seed)
    settings = [f"data.catalog={catalog}", f"train.init={first}", *SECOND, *args.settings]
    second = train(load_config(recipe, settings), work / "second")

    bundle = load_bundle(average(first, second, work / "bundle", catalog))
    asked = {"galaxies": args.galaxies, "survey_seed": args.seed, "hosted": args.hosted, "disks": args.disks}
    info = dataclasses.replace(bundle.info, training={"recipe": "make weights"} | asked | bundle.info.training)
    out = save_bundle(args.out, bundle.model, info, half=True)
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    if size > LARGEST_MB:
        raise SystemExit(f"{out}: {size:.1f} MB; at most {LARGEST_MB:g} MB go into the wheel")

    evaluation = evaluate_catalog(catalog, out)  # as it is in the wheel: half precision, with its temperature
    write_atomic(work / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
    print(describe(out), f"{size:.1f} MB", *("  ".join(row) for row in evaluation.table()), sep="\n")


if __name__ == "__main__":
    main()
