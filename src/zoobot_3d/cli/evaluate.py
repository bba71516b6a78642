"""Commands that measure a bundle on galaxies with marks, ask what experts say of it, and calibrate it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from zoobot_3d.cli.command import Command, bundle_options, positive, print_table
from zoobot_3d.cli.ending import START_AGAIN
from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_MASTER

if TYPE_CHECKING:
    import pandas as pd

    from zoobot_3d.report.evaluation import Evaluation

__all__ = ["COMMANDS"]


_LISTED = 10  # galaxies on the terminal, where the whole list is in a file


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("catalog", help="master catalogue with marks")
    bundle_options(parser)
    parser.add_argument("--out", help="folder for evaluation.json and reliability.png; by default nothing is written")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="test", help="rows of the catalogue to measure"
    )
    parser.add_argument("--root", help="folder that paths in the catalogue start from; by default found beside it")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split of the volunteers into halves")
    parser.add_argument(
        "--per-galaxy",
        action="store_true",
        help="list the scores of each galaxy, the worst first; with --out also as per_galaxy.csv and "
        "per_galaxy.parquet, and pictures of the worst as worst.png",
    )
    parser.add_argument(
        "--count", type=positive, metavar="N", help="galaxies in worst.png, with --per-galaxy and --out; 12 by default"
    )


def _evaluate(args: argparse.Namespace) -> None:
    from zoobot_3d import io
    from zoobot_3d.report import figures
    from zoobot_3d.report.evaluate import evaluate_catalog

    if args.count is not None and not (args.per_galaxy and args.out):
        raise ConfigError("zoobot3d evaluate: --count is for --per-galaxy with --out; give both, or leave it out")
    options = {"split": args.split, "root": args.root, "tta": args.tta, "seed": args.seed}
    evaluation = evaluate_catalog(args.catalog, args.bundle, **options)
    print_table(evaluation.table(), f"{evaluation.n_galaxies} galaxies, {evaluation.n_failed} unreadable")
    print_table(evaluation.binary_table(), "binary masks: pixels of at least this fraction of volunteers")
    if args.out is not None:
        io.write_atomic(Path(args.out) / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
        curve = figures.reliability(evaluation.reliability, evaluation.calibration_error)
        io.write_figure(curve, Path(args.out) / "reliability.png")
    if args.per_galaxy:
        _per_galaxy(args, evaluation)


def _per_galaxy(args: argparse.Namespace, evaluation: Evaluation) -> None:
    """List the scores of each galaxy, and draw the worst."""
    from zoobot_3d import io

    galaxies = evaluation.galaxies
    listed = galaxies if args.out is None else galaxies.head(_LISTED)
    print_table(_rows(listed), f"worst {len(listed)} of {len(galaxies)} galaxies; IoU at > 0.2")
    if args.out is None:
        return
    from zoobot_3d.infer.segmenter import load_segmenter
    from zoobot_3d.report import gallery
    from zoobot_3d.report.evaluate import open_datasets

    out = Path(args.out)
    for name in ("per_galaxy.csv", "per_galaxy.parquet"):
        io.write_table(out / name, galaxies.reset_index(drop=True))
    segmenter = load_segmenter(args.bundle, tta=args.tta)
    datasets = open_datasets(args.catalog, segmenter, split=args.split, root=args.root)
    gallery.worst(galaxies, datasets, segmenter, out / "worst.png", count=args.count or 12)
    print(f"{out / 'per_galaxy.csv'}\n{out / 'worst.png'}")


def _rows(galaxies: pd.DataFrame) -> list[list[str]]:
    columns = {
        "galaxy": ("id", 0),
        "IoU arms": ("spiral_iou_0.2", 2),
        "halves": ("halves_spiral_iou_0.2", 2),
        "IoU bar": ("bar_iou_0.2", 2),
        "halves ": ("halves_bar_iou_0.2", 2),
        "mean abs. error": ("mae", 4),
    }
    rows = [[name.strip() for name in columns]]
    for row in galaxies.to_dict("records"):
        cells = [(row[name], digits) for name, digits in columns.values()]
        rows.append([_cell(value, digits) for value, digits in cells])
    return rows


def _cell(value: object, digits: int) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _calibrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of the bundle; its bundle.json is updated")
    parser.add_argument("catalog", help="master catalogue with marks")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="val", help="rows of the catalogue to fit on"
    )
    parser.add_argument("--root", help="folder that paths in the catalogue start from; by default found beside it")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the fastest that is available")


def _calibrate(args: argparse.Namespace) -> None:
    from zoobot_3d.learn.calibration import calibrate

    found = calibrate(args.bundle, args.catalog, args.split, root=args.root, device=args.device)
    print_table(found.table(), f"{found.n_galaxies} galaxies, {found.n_failed} unreadable")
    print(f"calibrated: {args.bundle}")


def _experts_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("judgements", help="CSV that Zooniverse exports, or the JSON lines of the judging page")
    parser.add_argument("--out", help="folder for experts.json, experts.pdf and .png; by default nothing is written")


def _experts(args: argparse.Namespace) -> None:
    from zoobot_3d.report.experts import read_judgements

    judgements = read_judgements(args.judgements)
    for title, rows in judgements.tables().items():
        print_table(rows, title)
    if judgements.unusable:
        print(f"{len(judgements.unusable)} judgements could not be used, the first: {judgements.unusable[0]}")
    if judgements.replaced:
        print(f"{judgements.replaced} judgements were replaced by a later one")
    if args.out is not None:
        from zoobot_3d import io
        from zoobot_3d.report import figures

        out = Path(args.out)
        io.write_atomic(out / "experts.json", json.dumps(judgements.to_dict(), indent=1))
        figure = figures.experts(judgements.preferences(), judgements.qualities())
        for ending in ("pdf", "png"):
            io.write_figure(figure, out / f"experts.{ending}", dpi=300)
        print(out / "experts.pdf")


COMMANDS = (
    Command(
        "evaluate",
        "measure a bundle on galaxies with marks",
        "Compares predicted fractions with those of volunteers, over the pixels of all galaxies: intersection over "
        "union (IoU), mean absolute error, calibration error, and precision and recall of binary masks at thresholds "
        "of 0.2 and 0.5. Beside them stands how well one random half of the volunteers predicts the other half. Errors "
        "are standard errors from the scatter among galaxies.",
        f"zoobot3d evaluate survey/{DEFAULT_MASTER} --bundle results/bundle --out evaluation --per-galaxy",
        _evaluate_options,
        _evaluate,
        stopped=START_AGAIN,
    ),
    Command(
        "experts",
        "count which masks experts prefer, and how good they find them",
        "Counts blind judgements of arms and bars found by this model, by volunteers and by SpArcFiRe. Intervals are "
        "those of Wilson (1927), at 95%; a tie is an answer of its own.",
        "zoobot3d experts judgements.jsonl --out experts",
        _experts_options,
        _experts,
        stopped=START_AGAIN,
    ),
    Command(
        "calibrate",
        "calibrate the fractions that a bundle predicts",
        "Fits a temperature for each class, which divides the logit of the fraction, on galaxies that the network was "
        "not trained on, and writes it into the bundle. The order of pixels does not change, but all fractions other "
        "than 0.5 do.",
        f"zoobot3d calibrate results/bundle survey/{DEFAULT_MASTER}",
        _calibrate_options,
        _calibrate,
        stopped=START_AGAIN,
    ),
)
