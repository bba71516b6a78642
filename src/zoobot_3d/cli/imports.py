"""Commands that import what others have made: import-checkpoint, upgrade-bundle, import-galaxy-builder."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoobot_3d.cli.command import Command, positive
from zoobot_3d.cli.ending import START_AGAIN

__all__ = ["COMMANDS"]


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="Lightning checkpoint of the published network (.ckpt)")
    parser.add_argument("out", nargs="?", help="folder for the bundle; by default FILE without its suffix")
    parser.add_argument(
        "--input-size", type=positive, help="side in pixels of the network's input; by default that of the checkpoint"
    )
    parser.add_argument(
        "--field-fraction",
        type=float,
        help="central fraction of the picture's side that the network sees. By default 0.866, the square root of the "
        "fraction 0.75 of the area that it was trained on; 0.75 repeats the published predictions",
    )


def _import(args: argparse.Namespace) -> None:
    from zoobot_3d.infer.description import describe
    from zoobot_3d.infer.import_checkpoint import PUBLISHED_FIELD_FRACTION, import_checkpoint

    fraction = PUBLISHED_FIELD_FRACTION if args.field_fraction is None else args.field_fraction
    out = Path(args.file).with_suffix("") if args.out is None else args.out
    print(describe(import_checkpoint(args.file, out, input_size=args.input_size, field_fraction=fraction)))


def _upgrade_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="+", help="folder of a bundle")


def _upgrade(args: argparse.Namespace) -> None:
    from zoobot_3d.infer.bundle import upgrade_bundle

    for bundle in args.bundle:
        print(upgrade_bundle(bundle))


def _drawn_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="folder with catalog.csv, and ID.json and ID.npz for each galaxy")
    parser.add_argument("--root", default=".", help="data root, for pictures, marks and the catalogue")


def _drawn(args: argparse.Namespace) -> None:
    from zoobot_3d.prepare.drawn import import_galaxy_builder

    print(import_galaxy_builder(args.folder, args.root))


COMMANDS = (
    Command(
        "import-checkpoint",
        "turn a checkpoint of the published network into a bundle",
        "Reads the file with weights_only=True, so nothing in it is executed. Output channel 0 is spiral arms and 1 is "
        "bars, as in the published code.",
        "zoobot3d import-checkpoint epoch=93-step=1880.ckpt published",
        _import_options,
        _import,
        stopped=START_AGAIN,
    ),
    Command(
        "upgrade-bundle",
        "write the ONNX graph of a bundle",
        "Bundles of earlier versions have none, and only torch can run them. The weights are not changed.",
        "zoobot3d upgrade-bundle results/bundle",
        _upgrade_options,
        _upgrade,
        stopped=START_AGAIN,
    ),
    Command(
        "import-galaxy-builder",
        "make a training set of galaxies that volunteers drew in Galaxy Builder",
        "Arms drawn as lines become areas, bars become rectangles, and each volunteer is a vote, as in Galaxy Zoo: 3D. "
        "Pictures are grey, from one band. Stray marks are dropped and counted. Writes ROOT/images/drawn, "
        "ROOT/marks/drawn and ROOT/data/galaxy_builder.parquet, a catalogue for train and evaluate.",
        "zoobot3d import-galaxy-builder galaxy_builder/ --root galaxies",
        _drawn_options,
        _drawn,
    ),
)
