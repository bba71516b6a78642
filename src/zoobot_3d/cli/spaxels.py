"""The command that writes masks on the spaxels of integral-field cubes."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command, cluster_option, report

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="+", help="folder that zoobot3d predict wrote; or FITS files of masks")
    parser.add_argument(
        "--cubes",
        required=True,
        metavar="FOLDER_OR_TABLE",
        help="folder of cubes or maps whose names hold those of the galaxies; or a table with columns id and file",
    )
    parser.add_argument("--out", required=True, help="folder for the files, NAME_spaxels.fits for each galaxy")
    parser.add_argument(
        "--fwhm",
        type=float,
        default=0.0,
        help="convolve the masks first with a Gaussian of this FWHM in arcsec, that of the cubes' point spread "
        "function; about 2.5 for MaNGA",
    )
    cluster_option(parser)


def _run(args: argparse.Namespace) -> int:
    from zoobot_3d.measure.spaxel_files import write_spaxel_masks

    return report(write_spaxel_masks(args.input, args.cubes, args.out, fwhm=args.fwhm, cluster=args.cluster))


COMMANDS = (
    Command(
        "spaxels",
        "write masks on the spaxels of MaNGA, SAMI and other cubes",
        "Each file has the world coordinates and the spatial shape of its cube, so that it opens beside it: the mean "
        "fraction of volunteers over each spaxel, for arms and bars, and the part of the spaxel that lies in the "
        "field of the masks. Masks need positions on the sky. You can stop the command and run it again.",
        "zoobot3d spaxels masks --cubes cubes --out on_spaxels --fwhm 2.5",
        _options,
        _run,
    ),
)
