"""The command that writes predicted masks as files, and as regions."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", help="folder that zoobot3d predict wrote")
    parser.add_argument(
        "--format",
        required=True,
        choices=("fits", "png", "npz", "regions"),
        help="FITS with a WCS, 8-bit grey PNG, NumPy arrays in NPZ, or contours as regions for DS9 and Aladin",
    )
    parser.add_argument("--out", help="folder for the files; by default masks, or regions, in PREDICTIONS")
    parser.add_argument(
        "--threshold", type=float, help="write binary masks: 1 where the fraction of volunteers is at least this"
    )
    parser.add_argument(
        "--levels", type=float, nargs="+", metavar="FRACTION", help="of regions: where to draw contours; 0.2 and 0.5"
    )
    parser.add_argument(
        "--measurements",
        metavar="TABLE",
        help="of regions: table that zoobot3d measure wrote; adds rectangles of bars and lines along arms",
    )


def _run(args: argparse.Namespace) -> None:
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.errors import ConfigError
    from zoobot_3d.infer.export import export_masks
    from zoobot_3d.infer.predictions import count_rows

    of_masks, of_regions = {"threshold": args.threshold}, {"levels": args.levels, "measurements": args.measurements}
    is_regions = args.format == "regions"
    if wrong := [name for name, value in (of_masks if is_regions else of_regions).items() if value is not None]:
        raise ConfigError(f"--{wrong[0]} does not go with --format {args.format}; leave it out")
    with progress_bar("writing files", count_rows(args.predictions)) as advance:
        if is_regions:
            from zoobot_3d.report.regions import export_regions

            given = {name: value for name, value in of_regions.items() if value is not None}
            summary = export_regions(args.predictions, out=args.out, progress=advance, **given)
        else:
            summary = export_masks(args.predictions, args.format, out=args.out, progress=advance, **of_masks)
    print(summary)


COMMANDS = (
    Command(
        "export",
        "write predicted masks as FITS, PNG or NPZ files, or as regions for DS9 and Aladin",
        "Reads the shards of a prediction and needs no network. Files that are there are kept, so you can stop the "
        "command and run it again.",
        "zoobot3d export masks --format fits --threshold 0.2",
        _options,
        _run,
    ),
)
