"""The command that writes predicted masks as files."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", help="folder that zoobot3d predict wrote")
    parser.add_argument(
        "--format",
        required=True,
        choices=("fits", "png", "npz"),
        help="FITS with a WCS, 8-bit grey PNG, or NumPy arrays in NPZ",
    )
    parser.add_argument("--out", help="folder for the files; by default masks in PREDICTIONS")
    parser.add_argument(
        "--threshold", type=float, help="write binary masks: 1 where the fraction of volunteers is at least this"
    )


def _run(args: argparse.Namespace) -> None:
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.infer.export import export_masks
    from zoobot_3d.infer.predictions import count_rows

    n_rows = count_rows(args.predictions)
    with progress_bar("writing masks", n_rows) as advance:
        summary = export_masks(args.predictions, args.format, out=args.out, threshold=args.threshold, progress=advance)
    print(summary)


COMMANDS = (
    Command(
        "export",
        "write predicted masks as FITS, PNG or NPZ files",
        "Reads the shards of a prediction and needs no network. Files that are there are kept, so you can stop the "
        "command and run it again.",
        "zoobot3d export masks --format fits --threshold 0.2",
        _options,
        _run,
    ),
)
