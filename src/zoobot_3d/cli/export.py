"""The command that writes predicted masks as files, as regions, and as a catalogue."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", help="folder that zoobot3d predict wrote")
    parser.add_argument(
        "--format",
        required=True,
        choices=("fits", "png", "npz", "regions", "hats"),
        help="FITS with a WCS, 8-bit grey PNG, NumPy arrays in NPZ, contours as regions for DS9 and Aladin, or the "
        "rows without their masks as a HATS catalogue for LSDB",
    )
    parser.add_argument("--out", help="folder for the files; by default masks, regions or hats in PREDICTIONS")
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
    parser.add_argument(
        "--margin", type=float, metavar="ARCSEC", help="of hats: largest radius of a cross-match; by default 10"
    )


_OPTIONS = {"regions": ("levels", "measurements"), "hats": ("margin",)}  # those of the other formats: threshold


def _run(args: argparse.Namespace) -> None:
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.errors import ConfigError
    from zoobot_3d.infer.export import export_masks
    from zoobot_3d.infer.predictions import count_rows

    mine = _OPTIONS.get(args.format, ("threshold",))
    given = {name: getattr(args, name) for name in ("threshold", "levels", "measurements", "margin")}
    given = {name: value for name, value in given.items() if value is not None}
    if wrong := [name for name in given if name not in mine]:
        raise ConfigError(f"--{wrong[0]} does not go with --format {args.format}; leave it out")
    if args.format == "hats":
        from zoobot_3d.infer.hats import export_hats

        print(export_hats(args.predictions, out=args.out, **given))
        return
    with progress_bar("writing files", count_rows(args.predictions)) as advance:
        if args.format == "regions":
            from zoobot_3d.report.regions import export_regions

            summary = export_regions(args.predictions, out=args.out, progress=advance, **given)
        else:
            summary = export_masks(args.predictions, args.format, out=args.out, progress=advance, **given)
    print(summary)


COMMANDS = (
    Command(
        "export",
        "write predicted masks as FITS, PNG or NPZ files, as regions for DS9 and Aladin, or as a HATS catalogue",
        "Reads the shards of a prediction and needs no network. Files that are there are kept, so you can stop the "
        "command and run it again.",
        "zoobot3d export masks --format fits --threshold 0.2",
        _options,
        _run,
    ),
)
