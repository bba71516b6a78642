"""Commands that measure a bundle on galaxies with marks, and fit its temperatures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zoobot_3d.cli.command import Command, bundle_options, print_table
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["COMMANDS"]


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("catalog", help="master catalogue with marks")
    bundle_options(parser)
    parser.add_argument("--out", help="folder for evaluation.json and reliability.png; by default nothing is written")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="test", help="rows to measure")
    parser.add_argument("--root", help="folder the catalogue's paths start from; by default found beside it")
    parser.add_argument("--seed", type=int, default=0, help="of the volunteers' halves")


def _evaluate(args: argparse.Namespace) -> None:
    from zoobot_3d import io
    from zoobot_3d.report import figures
    from zoobot_3d.report.evaluate import evaluate_catalog

    options = {"split": args.split, "root": args.root, "tta": args.tta, "seed": args.seed}
    evaluation = evaluate_catalog(args.catalog, args.bundle, **options)
    print_table(evaluation.table(), f"{evaluation.n_galaxies} galaxies, {evaluation.n_failed} unreadable")
    if args.out is not None:
        io.write_atomic(Path(args.out) / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
        curve = figures.reliability(evaluation.reliability, evaluation.calibration_error)
        io.write_figure(curve, Path(args.out) / "reliability.png")


def _calibrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a trained bundle; its bundle.json is written anew")
    parser.add_argument("catalog", help="master catalogue with marks")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="val", help="rows to fit on")
    parser.add_argument("--root", help="folder the catalogue's paths start from; by default found beside it")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")


def _calibrate(args: argparse.Namespace) -> None:
    from zoobot_3d.learn.calibration import calibrate

    found = calibrate(args.bundle, args.catalog, args.split, root=args.root, device=args.device)
    print_table(found.table(), f"{found.n_galaxies} galaxies, {found.n_failed} unreadable")
    print(f"calibrated: {args.bundle}")


COMMANDS = (
    Command(
        "evaluate",
        "measure a bundle on galaxies with marks",
        "IoU, mean absolute error and calibration (fractions of volunteers, 0-1), beside what one half of the "
        "volunteers agrees on with the other.",
        f"zoobot3d evaluate survey/{DEFAULT_MASTER} --bundle results/bundle --out evaluation",
        _evaluate_options,
        _evaluate,
    ),
    Command(
        "calibrate",
        "make a bundle's fractions mean what they say",
        "Fits a temperature for each class on galaxies the network was not trained on, and writes it into the bundle, "
        "which uses it from then on. The order of pixels stays; thresholds other than 1/2 move.",
        f"zoobot3d calibrate results/bundle survey/{DEFAULT_MASTER}",
        _calibrate_options,
        _calibrate,
    ),
)
