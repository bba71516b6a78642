"""Commands that show: figures of marks and masks, and what a bundle is."""

from __future__ import annotations

import argparse
import json

from zoobot_3d.cli.command import Command, positive
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["COMMANDS"]


def _figures_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        choices=("comparison", "predictions", "training"),
        help="comparison: picture, volunteers, model (SOURCE: master catalogue); predictions: pictures beside their "
        "masks, and their uncertainty if predicted (SOURCE: folder of predictions); training: curves (SOURCE: folder "
        "of training)",
    )
    parser.add_argument("source", help="where from; see KIND")
    parser.add_argument("--out", required=True, help="file to write: .png, .pdf or .svg")
    parser.add_argument(
        "--bundle", default="default", help="folder of a trained bundle, for comparison; by default the package's own"
    )
    parser.add_argument("--pictures", help="folder the predicted paths start from; by default where predict found them")
    parser.add_argument("--count", type=positive, default=24, help="galaxies shown, drawn at random")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="test", help="rows of the catalogue"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw")


def _figures(args: argparse.Namespace) -> None:
    from zoobot_3d.report import gallery

    if args.kind == "comparison":
        gallery.comparison(args.source, args.bundle, args.out, count=args.count, split=args.split, seed=args.seed)
    elif args.kind == "predictions":
        gallery.predictions(args.source, args.out, pictures=args.pictures, count=args.count, seed=args.seed)
    else:
        gallery.training(args.source, args.out)
    print(args.out)


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
        "draw what was marked, predicted or learned",
        "Spiral arms are blue, bars orange; the denser, the more volunteers.",
        f"zoobot3d figures comparison survey/{DEFAULT_MASTER} --bundle results/bundle --out grid.png",
        _figures_options,
        _figures,
    ),
    Command(
        "describe",
        "say what a bundle is and how good it is",
        "Prints the network, what it was trained on, its scores, its field of view and input size, its size on disk "
        "and the hash of its weights.",
        "zoobot3d describe results/bundle",
        _describe_options,
        _describe,
    ),
)
