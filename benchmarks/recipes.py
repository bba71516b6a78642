"""Which recipe finds the arms and bars of real galaxies best? Trains variants side by side and judges each.

    python benchmarks/recipes.py --work weights/recipes [--only real slow ...] [--side-by-side 6] [KEY=VALUE ...]

Simulates what `make weights` learns from, once, and trains every variant of `VARIANTS` from photographs' weights,
without Galaxy Builder's galaxies of the folds 0 and 1 (`benchmarks/drawn.py`). The galaxies left out judge it, and
simulated arms and bars in real galaxies that were no hosts (`benchmarks/real_pictures.py`). ``KEY=VALUE`` changes a
setting of all, such as ``train.precision=bf16-mixed data.batch_size=64`` on a GPU.

Appends a row for each variant to ``--out``. Finished variants are not repeated, and interrupted ones go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

import real_pictures
from rows import append_row, print_row, provenance, read_rows
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.io import write_parquet
from zoobot_3d.learn.settings import load_config
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.report.evaluate import evaluate_catalog
from zoobot_3d.schema import CLASSES, COL_ID, COL_JPG, COL_MARKS, COL_PIXSCALE, GZ_FIELD_PX
from zoobot_3d.simulate.hosts import read_hosts
from zoobot_3d.simulate.survey import simulate_survey
from zoobot_3d.sky.grid import PixelGrid

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import make_weights
import real_galaxies

GEOMETRY = {"zoom": 2, "squash": 0.5, "grey": 0.3, "photometric": 1.5, "bend": 0.02, "frozen_levels": 0, "lr": 0.003}
"""Settings of ``train`` that all variants share."""
REAL = {"drawn": 0.25, "plain": 0.08}
VARIANTS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "simulated": ({}, {}),
    "real": ({}, REAL),
    "more_real": ({}, REAL | {"drawn": 0.45}),
    "photometric1": ({"photometric": 1.0}, REAL),
    "hosted": ({}, REAL | {"hosted": 0.3}),
    "slow": ({"lr": 0.0015}, REAL),
}
"""What differs in the settings, and the parts of an epoch that groups of galaxies make up; the rest is simulated."""
PLAIN_VOTES = 5


def plain_galaxies(root: Path, folder: Path) -> pd.DataFrame:
    """Make rows of pictures of galaxies without arms: five volunteers saw none, and nobody was asked for a bar."""
    grid = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), real_galaxies.PIXSCALE)
    blank = VolunteerMarks(
        grid, PathTask.from_nested([[]] * PLAIN_VOTES), PathTask.from_nested([]), PointTask.from_nested([], []), {}
    )
    marks = "marks/plain.json"
    blank.to_json(root / marks)
    link = root / "images" / "plain"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve())
    names = sorted(path.name for path in folder.glob("*.jpg"))
    rows = {COL_ID: [f"plain_{Path(name).stem}" for name in names], COL_JPG: [f"images/plain/{name}" for name in names]}
    return pd.DataFrame(rows).assign(
        **{COL_MARKS: marks, COL_PIXSCALE: real_galaxies.PIXSCALE}, group="plain", split="train"
    )


def make_catalogs(args: argparse.Namespace) -> Path:
    """Simulate, add real galaxies, and write ``learn.parquet`` and ``judge.parquet``; return their folder."""
    hosts = read_hosts(real_galaxies.HOSTS, args.real / "gz_decals_jpg/jpg", "train")
    survey = simulate_survey(args.work / "survey", args.galaxies, seed=12, files="pictures", broad=True)
    drawn = real_galaxies.drawn_galaxies(survey.root, args.real / "galaxy_builder/drawn")
    if drawn is None:
        raise SystemExit(f"{args.real}: no marks to judge by; give --real")
    real = [drawn, plain_galaxies(survey.root, args.real / "gz2_pictures/non_spirals")]
    path = make_weights.write_catalog(survey, hosts, (args.hosted, args.disks), 12, real)
    frame = read_catalog(path)
    held = (frame["group"] == "drawn") & frame[COL_ID].map(real_galaxies.fold).isin(make_weights.HELD_FOLDS)
    write_parquet(path.with_name("learn.parquet"), frame[~held].reset_index(drop=True))
    write_parquet(path.with_name("judge.parquet"), frame[held].assign(split="test").reset_index(drop=True))
    make_weights.write_start(load_config("weights", []), args.work / "photographs")
    return path.parent


def train_variant(name: str, folder: Path, args: argparse.Namespace) -> Path:
    """Train one variant in a process of its own; return its bundle."""
    changed, shares = VARIANTS[name]
    frame = read_catalog(folder / "learn.parquet")
    catalog = folder / f"learn_{name}.parquet"
    write_parquet(catalog, frame[frame["group"].isin({"simulated", "hosted", *shares})].reset_index(drop=True))
    settings = [f"data.catalog={catalog}", f"train.init={args.work / 'photographs'}", "train.epochs=8"]
    settings += [f"data.epoch_size={args.pictures // 8}", "train.ema=0.998", "train.progress=false"]
    settings += [f"train.{key}={value}" for key, value in (GEOMETRY | changed).items()]
    settings += [f"data.group_shares.{group}={share}" for group, share in shares.items()]
    command = [sys.executable, "-m", "zoobot_3d.cli", "train", str(args.work / name), "--config", "weights"]
    options = [
        part for setting in settings + args.settings for part in ("--" + setting.split("=")[0], setting.split("=")[1])
    ]
    subprocess.run([*command, *options], check=True)
    return args.work / name / "bundle"


def judge(bundle: Path, folder: Path, painted: Path) -> dict[str, Any]:
    """Measure a bundle on the galaxies left out, and on simulated arms and bars in real galaxies: IoU above 0.2."""
    row: dict[str, Any] = {}
    for kind, catalog in (("drawn", folder / "judge.parquet"), ("hosts", painted)):
        measured = evaluate_catalog(catalog, bundle, split="all", progress=False)
        row[f"{kind}_galaxies"] = measured.n_galaxies
        for name in CLASSES:
            row[f"{kind}_{name}_iou"] = round(measured.model[f"{name}_iou_0.2"], 3)
            row[f"{kind}_{name}_halves"] = round(measured.ceiling[f"{name}_iou_0.2"], 3)
    return row


def main() -> None:
    """Simulate, train, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path, default=make_weights.REAL, help="folder of real galaxies")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--galaxies", type=int, default=4000, help="simulated")
    parser.add_argument("--hosted", type=int, default=1600, help="simulated in pictures of real galaxies")
    parser.add_argument("--disks", type=int, default=400)
    parser.add_argument("--painted", type=int, default=400, help="pictures of other galaxies to judge by")
    parser.add_argument("--pictures", type=int, default=76800, help="that each variant is shown")
    parser.add_argument("--side-by-side", type=int, default=1, help="variants that train at once")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipes.jsonl"))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings to change in all of them")
    args = parser.parse_intermixed_args()
    rows = read_rows(args.out)
    done = {(row["variant"], row["pictures"]) for row in rows}
    folder = make_catalogs(args)
    (args.work / "painted").mkdir(exist_ok=True)
    painted = real_pictures.make_painted(args.real / "gz_decals_jpg/jpg", args.work / "painted", args.painted)
    todo = [name for name in args.only if (name, args.pictures) not in done]
    with ThreadPoolExecutor(args.side_by_side) as pool:
        for name, bundle in zip(todo, pool.map(lambda name: train_variant(name, folder, args), todo), strict=True):
            row = {"variant": name, "pictures": args.pictures, "settings": args.settings} | judge(
                bundle, folder, painted
            )
            row |= provenance()
            print_row(row)
            append_row(args.out, row)


if __name__ == "__main__":
    main()
