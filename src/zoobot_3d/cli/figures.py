"""Commands that show results: figures of marks and masks, and descriptions of bundles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zoobot_3d.cli.command import Command, positive
from zoobot_3d.cli.ending import START_AGAIN
from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["COMMANDS"]


def _figures_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        choices=("comparison", "predictions", "training", "bars", "pitch", "reliability"),
        help="comparison: picture, volunteers, SpArcFiRe and model, of galaxies in a master catalogue. bars, pitch: "
        "measured bar lengths or pitch angles against those of --reference, of a table that zoobot3d measure wrote. "
        "reliability: predicted against volunteers' fractions, of an evaluation.json that zoobot3d evaluate wrote or "
        "of a master catalogue. predictions: pictures and "
        "predicted masks, with their uncertainty if it was predicted, of a folder that zoobot3d predict wrote. "
        "training: loss and IoU during a training, of a folder that zoobot3d train wrote",
    )
    parser.add_argument("source", help="catalogue or folder that is drawn, as the kind of figure needs")
    parser.add_argument("--out", required=True, help="file to write: .png, .pdf or .svg; without, .pdf and .png")
    parser.add_argument(
        "--bundle", default="default", help="folder of a bundle, for comparison; by default the package's own"
    )
    parser.add_argument(
        "--pictures",
        help="folder that the paths of predictions start from; by default where zoobot3d predict found them",
    )
    parser.add_argument("--count", type=positive, default=24, help="number of galaxies shown, drawn at random")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="test", help="rows of the catalogue, for comparison"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--sparcfire", metavar="FOLDER", help="results of SpArcFiRe on these pictures, for comparison")
    parser.add_argument("--width", choices=("column", "page"), help="for print: 3.3 or 7 inches, a row per galaxy")
    parser.add_argument(
        "--reference",
        metavar="TABLE",
        help="table to compare with, for bars and pitch; for pitch also the folder with SpArcFiRe's results",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        default="",
        help="column of --reference, of full lengths in arcsec or pitch angles in degrees; by default bar_length or "
        "pitch. Its standard errors are in NAME_err, if it has any",
    )


def _figures(args: argparse.Namespace) -> None:
    from zoobot_3d.report import gallery
    from zoobot_3d.report.style import COLUMN, PAGE

    width = {"column": COLUMN, "page": PAGE, None: None}[args.width]
    if args.kind == "comparison":
        drawn = {"count": args.count, "split": args.split, "seed": args.seed}
        gallery.comparison(args.source, args.bundle, args.out, sparcfire=args.sparcfire, width=width, **drawn)
    elif args.kind in ("bars", "pitch"):
        if args.reference is None:
            raise ConfigError(f"zoobot3d figures {args.kind}: give the table to compare with, --reference TABLE")
        told = gallery.measured(args.kind, args.source, args.reference, args.out, column=args.column, width=width)
        print(str(told).replace("\n", ", "))
    elif args.kind == "reliability":
        _reliability(args)
    elif args.kind == "predictions":
        gallery.predictions(args.source, args.out, pictures=args.pictures, count=args.count, seed=args.seed)
    else:
        gallery.training(args.source, args.out)
    print(args.out)


def _reliability(args: argparse.Namespace) -> None:
    """Draw what an evaluation found, or evaluate a catalogue first."""
    from zoobot_3d.report import figures, gallery

    if args.source.endswith(".json") or (Path(args.source) / "evaluation.json").exists():
        gallery.calibration(args.source, args.out)
        return
    from zoobot_3d.report.evaluate import evaluate_catalog

    found = evaluate_catalog(args.source, args.bundle, split=args.split, seed=args.seed)
    gallery.write(figures.reliability(found.reliability, found.calibration_error), args.out, gallery.PRINT)


def _describe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle",
        nargs="?",
        default="default",
        help="folder of a bundle; by default the one that comes with the package",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs, with everything that is recorded")


def _describe(args: argparse.Namespace) -> None:
    from zoobot_3d.infer.description import bundle_facts, describe

    print(json.dumps(bundle_facts(args.bundle), indent=2) if args.json else describe(args.bundle))


COMMANDS = (
    Command(
        "figures",
        "draw marks and masks of galaxies, comparisons, or the curves of a training",
        "Spiral arms are outlined in blue and bars in orange, at fractions of 0.2 (dashed) and 0.5 (solid) of the "
        "volunteers. Scale bars are in arcsec, or in pixels where the pixel scale is unknown.",
        f"zoobot3d figures comparison survey/{DEFAULT_MASTER} --bundle results/bundle --out grid.png",
        _figures_options,
        _figures,
        stopped=START_AGAIN,
    ),
    Command(
        "describe",
        "say what a bundle is and how good it is",
        "Prints the network, what it was trained on, its scores, its field of view and input size, its size on disk "
        "and the hash of its weights.",
        "zoobot3d describe results/bundle",
        _describe_options,
        _describe,
        stopped=START_AGAIN,
    ),
)
