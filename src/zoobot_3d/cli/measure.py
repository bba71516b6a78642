"""The command that measures bars and arms on masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoobot_3d.cli.command import Command, cluster_option, report

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="+",
        help="folder that zoobot3d predict wrote; or FITS files of masks; or images in FITS or pictures, whose masks "
        "are predicted first",
    )
    parser.add_argument(
        "--out", required=True, help="table to write, .parquet; that of single arms gets _arms added to its name"
    )
    parser.add_argument(
        "--galaxies",
        metavar="TABLE",
        help="table with names as those of the predictions, and redshifts, inclinations or position angles",
    )
    parser.add_argument(
        "--redshift", metavar="NAME", default="redshift", help="column of redshifts in TABLE; or z_spec, z, ..."
    )
    parser.add_argument("--inclination", metavar="NAME", default="inclination", help="column of inclinations, in deg")
    parser.add_argument(
        "--pa", metavar="NAME", default="pa", help="column of position angles of the disk, in deg north through east"
    )
    parser.add_argument("--cosmology", default="Planck18", help="cosmology of lengths in kpc, as astropy names it")
    parser.add_argument(
        "--no-isophotes",
        action="store_true",
        help="do not measure the inclination on the picture where it is not given",
    )
    parser.add_argument(
        "--light",
        action="store_true",
        help="measure the light of arms, inter-arm and bar in FITS images too: fluxes, contrasts and colours, in a "
        "table with _light added to its name",
    )
    parser.add_argument(
        "--images",
        metavar="NAME",
        default="relative_desi_fits_loc",
        help="column in TABLE with the paths of these images, if masks were predicted on pictures",
    )
    parser.add_argument(
        "--stars",
        metavar="NAME",
        default="relative_gz3d_fits_loc",
        help="column in TABLE with the paths of Galaxy Zoo: 3D files, whose stars are left out of the light",
    )
    cluster_option(parser)


def _run(args: argparse.Namespace) -> int:
    from zoobot_3d.io import table_columns
    from zoobot_3d.measure.table import MeasureOptions, check_table_name, measure_table

    columns = (args.redshift, args.inclination, args.pa)
    options = MeasureOptions(args.cosmology, not args.no_isophotes, *columns, args.light, args.images, args.stars)
    check_table_name(args.out)  # before pictures are predicted
    if args.galaxies is not None:
        table_columns(args.galaxies)
    source = _with_masks([Path(name) for name in args.input], Path(args.out))
    return report(measure_table(source, args.out, galaxies=args.galaxies, options=options, cluster=args.cluster))


def _with_masks(paths: list[Path], out: Path) -> list[Path]:
    """Return what to measure: the input, or a prediction of its pictures beside the table."""
    from zoobot_3d.io import is_mask_file

    is_prediction = len(paths) == 1 and (paths[0] / "shards").is_dir()
    if is_prediction or all(is_mask_file(path) for path in paths if path.exists()):
        return paths
    from zoobot_3d.catalog.listing import list_galaxies
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.infer.predict import predict
    from zoobot_3d.infer.segmenter import load_segmenter

    folder = out.with_name(f"{out.stem}_predictions")
    galaxies = list_galaxies([str(path) for path in paths], leave_out=folder)
    with progress_bar("predicting", len(galaxies)) as advance:
        print(f"{folder}: {predict(galaxies, load_segmenter(), folder, progress=advance)}")
    return [folder]


COMMANDS = (
    Command(
        "measure",
        "measure bars and spiral arms: lengths, position angles, pitch angles, with errors and quality flags",
        "Writes one row per galaxy, and a second table with one row per arm; with --light a third, with one row per "
        "galaxy and band. Every column has its unit and definition "
        "in its metadata. The disk is deprojected with the inclination and position angle in TABLE or, without them, "
        "with those of the outer isophotes of the picture.",
        "zoobot3d measure masks --out bars_and_arms.parquet --galaxies galaxies.csv",
        _options,
        _run,
    ),
)
