"""Commands that make a training set: extract-marks, catalog, crossmatch, build-master, make-masks, check."""

from __future__ import annotations

import argparse
import contextlib

from zoobot_3d.cli.command import Command, cluster_option, print_table, report
from zoobot_3d.cli.ending import START_AGAIN
from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_MASTER, GZ_FIELD_PX

__all__ = ["COMMANDS"]


# extract-marks


def _extract_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gz3d", nargs="*", default=["gz3d"], help="GZ3D FITS files, or folders of them")
    parser.add_argument(
        "--out", default="marks", help="folder for one JSON file per galaxy, or a .parquet file for all"
    )
    cluster_option(parser)


def _extract(args: argparse.Namespace) -> int:
    from zoobot_3d.prepare.extract import extract_marks

    return report(extract_marks(args.gz3d, args.out, cluster=args.cluster))


# catalog


def _catalog_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gz3d", nargs="*", default=["gz3d"], help="GZ3D FITS files, or folders of them")
    parser.add_argument(
        "--out", default="catalogues/gz3d_metadata.parquet", help="table to write: .csv, .parquet or .fits"
    )
    cluster_option(parser)


def _catalog(args: argparse.Namespace) -> int:
    from zoobot_3d.prepare.extract import catalog

    return report(catalog(args.gz3d, args.out, cluster=args.cluster))


# crossmatch


def _crossmatch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("galaxies", help="table of galaxies: .csv, .parquet or .fits")
    parser.add_argument("catalogue", help="table to find them in; a Parquet file may have millions of rows")
    parser.add_argument(
        "--out",
        required=True,
        help="table of matches to write: .csv, .parquet or .fits; the other outputs are written beside it",
    )
    parser.add_argument("--radius", type=float, default=3.0, help="largest separation of a match, in arcsec")
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME",
        help="columns of CATALOGUE to keep besides names and positions; the word all keeps every column",
    )
    parser.add_argument("--ra", default="ra", help="column of right ascension in GALAXIES")
    parser.add_argument("--dec", default="dec", help="column of declination in GALAXIES, in degrees")
    parser.add_argument("--ra-unit", choices=("deg", "hour"), default="deg", help="unit of right ascension in GALAXIES")
    parser.add_argument(
        "--catalogue-ra-unit", choices=("deg", "hour"), default="deg", help="unit of right ascension in CATALOGUE"
    )
    parser.add_argument("--id", help="column of names in GALAXIES; by default the first column that looks like one")
    parser.add_argument("--catalogue-ra", default="ra", help="column of right ascension in CATALOGUE")
    parser.add_argument("--catalogue-dec", default="dec", help="column of declination in CATALOGUE, in degrees")
    parser.add_argument(
        "--catalogue-id", help="column of names in CATALOGUE; by default the first column that looks like one"
    )
    parser.add_argument(
        "--suffix", default="_galaxy", help="added to the names of columns of GALAXIES that CATALOGUE has too"
    )
    parser.add_argument(
        "--keep-duplicates",
        action="store_true",
        help="keep galaxies whose match is nearer to another galaxy, such as repeated observations; the column "
        "duplicate_of names that galaxy",
    )
    parser.add_argument(
        "--engine",
        choices=("tree", "lsdb"),
        default="tree",
        help="tree works in memory; lsdb reads HATS catalogues with Dask (extra lsdb)",
    )
    parser.add_argument(
        "--cluster",
        help="where LSDB works, as for zoobot3d check; only with --engine lsdb. By default in threads of this process",
    )


def _crossmatch(args: argparse.Namespace) -> None:
    from zoobot_3d.compute.cluster import active_cluster
    from zoobot_3d.prepare.crossmatch import CrossmatchOptions, SkyColumns, crossmatch

    if args.cluster and args.engine != "lsdb":
        raise ConfigError("zoobot3d crossmatch: --cluster is for --engine lsdb; the engine tree needs one process")
    options = CrossmatchOptions(
        radius=args.radius,
        engine=args.engine,
        columns=args.columns,
        galaxies=SkyColumns(args.ra, args.dec, args.ra_unit, args.id),
        catalogue=SkyColumns(args.catalogue_ra, args.catalogue_dec, args.catalogue_ra_unit, args.catalogue_id),
        suffix=args.suffix,
        keep_duplicates=args.keep_duplicates,
    )
    with active_cluster(args.cluster) if args.cluster else contextlib.nullcontext():
        summary = crossmatch(args.galaxies, args.catalogue, args.out, options=options)
    print(summary)


# build-master


def _master_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matches", help="table that zoobot3d crossmatch wrote for the GZ3D galaxies")
    parser.add_argument("--root", default=".", help="data root: the folder that paths in the catalogue start from")
    parser.add_argument("--out", help=f"table to write; by default ROOT/{DEFAULT_MASTER}")
    parser.add_argument(
        "--desi",
        nargs="+",
        default=(),
        metavar="TABLE",
        help="tables with a column dr8_id to join: predicted fractions, sizes, votes",
    )
    parser.add_argument("--gz2", metavar="TABLE", help="table of Galaxy Zoo 2 votes to join, by position")
    parser.add_argument("--radius", type=float, default=3.0, help="largest separation of a match with --gz2, in arcsec")


def _master(args: argparse.Namespace) -> None:
    from zoobot_3d.prepare.master import build_master

    summary = build_master(args.matches, args.out, root=args.root, desi=args.desi, gz2=args.gz2, radius=args.radius)
    rows = [
        ["rows with", "count"],
        *([name, f"{count:,}"] for name, count in (summary.counts | summary.splits).items()),
    ]
    print_table(rows, f"{summary.n_rows:,} observations of {summary.n_galaxies:,} galaxies")
    for note in summary.notes:
        print(note)
    print(summary.path)


# make-masks


def _masks_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("marks", help="master catalogue, or folder of marks (JSON files)")
    parser.add_argument("--out", default="masks", help="folder to write")
    parser.add_argument(
        "--grid",
        choices=("picture", "frame"),
        help="pixels of the masks: those of the picture, or those of the 525 px frame that volunteers saw. By default "
        "the picture for a catalogue, else the frame",
    )
    parser.add_argument(
        "--format",
        choices=("png", "fits"),
        default="png",
        help="8-bit grey pictures in which 255 is all volunteers, or FITS with a WCS",
    )
    parser.add_argument(
        "--rule",
        choices=("volunteers", "official"),
        default="volunteers",
        help="volunteers counts each volunteer once in a pixel; official counts paths and drops those that cross "
        "themselves, as the masks in GZ3D files do",
    )
    cluster_option(parser)


def _masks(args: argparse.Namespace) -> int:
    from zoobot_3d.prepare.mask_files import MaskOptions, make_masks

    options = MaskOptions(grid=args.grid, format=args.format, rule=args.rule)
    return report(make_masks(args.marks, args.out, options=options, cluster=args.cluster))


# check


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("catalogue", help="master catalogue")
    parser.add_argument("--root", help="folder that paths in the catalogue start from; by default found beside it")
    parser.add_argument(
        "--size", type=int, default=GZ_FIELD_PX, help="expected side of pictures and cutouts, in pixels"
    )
    parser.add_argument("--report", metavar="CSV", help="table to write, with a row for each problem")
    cluster_option(parser)


def _check(args: argparse.Namespace) -> int:
    from zoobot_3d.prepare.check import check_catalog

    report = check_catalog(args.catalogue, root=args.root, size=args.size, report=args.report, cluster=args.cluster)
    print_table(report.table(), f"{report.n_galaxies:,} galaxies, {report.n_files:,} files read")
    return 1 if len(report.problems) else 0


COMMANDS = (
    Command(
        "extract-marks",
        "extract volunteers' marks from GZ3D FITS files",
        "Keeps every volunteer who was asked, including those who marked nothing. Files that cannot be read are "
        "listed in failed.csv with the reason. You can stop the command and run it again.",
        "zoobot3d extract-marks gz3d --out marks",
        _extract_options,
        _extract,
    ),
    Command(
        "catalog",
        "make a table of GZ3D FITS files, with one row per file",
        "A row holds the metadata of the file (its HDU 5), and how many volunteers were asked and how many marked "
        "something.",
        "zoobot3d catalog gz3d --out catalogues/gz3d_metadata.parquet",
        _catalog_options,
        _catalog,
    ),
    Command(
        "crossmatch",
        "find galaxies in another catalogue by position",
        "Takes the nearest row within the radius. Beside OUT it writes the unmatched rows of both tables, matches that "
        "were nearer to another galaxy, and a histogram of separations, which shows whether the radius is right.",
        "zoobot3d crossmatch mine.csv catalogues/external_catalog.parquet --out matches.parquet",
        _crossmatch_options,
        _crossmatch,
        stopped=START_AGAIN,
    ),
    Command(
        "build-master",
        "join marks, matches, votes and file names into the master catalogue that training reads",
        "Writes one row per observation. The split into training, validation and test galaxies is a hash of the "
        "galaxy's name, so it stays the same when rows are added.",
        "zoobot3d build-master matches.parquet --desi catalogues/gz_desi_deep_learning_catalog_friendly.parquet",
        _master_options,
        _master,
        stopped=START_AGAIN,
    ),
    Command(
        "make-masks",
        "write volunteers' masks as pictures or FITS",
        "Training does not need these files: it rasterizes the marks itself.",
        f"zoobot3d make-masks {DEFAULT_MASTER} --format fits",
        _masks_options,
        _masks,
    ),
    Command(
        "check",
        "read every file of a catalogue and list what is wrong",
        "Finds files that are missing, unreadable, blank, of another size or off-centre. The exit status is 1 if there "
        "are problems.",
        f"zoobot3d check {DEFAULT_MASTER}",
        _check_options,
        _check,
    ),
)
