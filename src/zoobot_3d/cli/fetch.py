"""Commands that download data: fetch gz3d, cutouts, gz-desi, gz2, sami, hoyle; and ask SpArcFiRe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from zoobot_3d.cli.command import Command, cluster_option, positive, print_table, report
from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_LAYER, GZ_FIELD_PX

if TYPE_CHECKING:
    from zoobot_3d.sources.catalogue_files import CatalogueFile
    from zoobot_3d.sources.cutout_requests import RequestOptions
    from zoobot_3d.sources.fetch import FetchOptions

__all__ = ["FETCH", "column_options", "http_options", "polite", "request_options"]


def http_options(parser: argparse.ArgumentParser) -> None:
    """Add what every download can be told of the network."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--connections", type=positive, default=4, help="connections at the same time, of all processes together"
    )
    group.add_argument(
        "--rate", type=float, default=5.0, help="requests per second, of all processes together; 0 is no limit"
    )
    group.add_argument("--attempts", type=positive, help="tries before a file counts as failed; by default 6")
    group.add_argument("--timeout", type=float, default=60.0, help="seconds without a byte after which an attempt ends")
    group.add_argument(
        "--first-wait",
        type=float,
        default=1.0,
        help="seconds before the second attempt; each later wait is twice as long",
    )


def polite(args: argparse.Namespace, *, attempts: int = 6, connect: float = 10.0) -> FetchOptions:
    """Collect what `http_options` added; ``attempts`` counts where the user gave none."""
    from zoobot_3d.sources.fetch import FetchOptions

    return FetchOptions(
        connections=args.connections,
        rate=args.rate,
        attempts=args.attempts or attempts,
        timeout=args.timeout,
        first_wait=args.first_wait,
        connect=connect,
    )


def column_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add where a table has names, positions and sizes."""
    parser.add_argument("--id-column", metavar="NAME", help="column of names; by default id, dr8_id, name, objid, ...")
    parser.add_argument("--ra-column", metavar="NAME", help="column of right ascension; by default ra, RAJ2000, ...")
    parser.add_argument("--dec-column", metavar="NAME", help="column of declination; by default dec, DEJ2000, ...")
    parser.add_argument("--ra-unit", choices=("deg", "hour"), help="unit of right ascension; by default degrees")
    parser.add_argument(
        "--radius-column",
        metavar="NAME",
        help="column of the half-light radius in arcsec; the picture's scale is 0.04 of it per pixel, at least 0.1. By "
        "default est_dr5_pixscale, petro_th50 with petro_th90, or radius",
    )


def request_options(args: argparse.Namespace, **more: Any) -> RequestOptions:
    """Collect what `column_options` added."""
    from zoobot_3d.sources.cutout_requests import RequestOptions

    names = ("id_column", "ra_column", "dec_column", "ra_unit", "radius_column")
    return RequestOptions(**{name: getattr(args, name) for name in names}, **more)


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", default=".", help="data root: the folder that holds gz3d/, images/, catalogues/, data/"
    )


# gz3d


def _gz3d_options(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument("--limit", type=positive, help="fetch only this many files")
    parser.add_argument("--mangaid", nargs="+", metavar="ID", help="fetch only these galaxies, e.g. 1-379196")
    parser.add_argument("--retry", metavar="FAILED", help="fetch only the files in this failed.csv")
    parser.add_argument("--url", help="address of the archive; by default that of SDSS DR17")
    cluster_option(parser)
    http_options(parser)


def _gz3d(args: argparse.Namespace) -> int:
    from zoobot_3d.sources.gz3d_archive import GZ3D_URL, fetch_gz3d

    return report(
        fetch_gz3d(
            args.root,
            url=args.url or GZ3D_URL,
            limit=args.limit,
            mangaids=args.mangaid,
            retry=args.retry,
            options=polite(args),
            cluster=args.cluster,
        )
    )


# cutouts


def _cutouts_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("catalogue", help="CSV, Parquet or FITS with positions, and scales or Petrosian radii")
    _root(parser)
    parser.add_argument(
        "--center",
        choices=("desi", "manga", "sami"),
        default="desi",
        help="survey whose position is the centre of the cutout",
    )
    column_options(parser)
    parser.add_argument(
        "--sizes", metavar="TABLE", help="table with dr8_id and est_petro_th50, if CATALOGUE has no sizes"
    )
    parser.add_argument(
        "--layer", default=DEFAULT_LAYER, help="release of the Legacy Surveys: ls-dr8, ls-dr9 or ls-dr10"
    )
    parser.add_argument(
        "--size",
        type=positive,
        default=GZ_FIELD_PX,
        help="side of the cutout in pixels; the field of view stays the same",
    )
    parser.add_argument("--pictures-only", action="store_true", help="do not keep the FITS files, of 2.2 MB per galaxy")
    parser.add_argument("--retry-empty", action="store_true", help="ask again for cutouts that were empty")
    parser.add_argument("--url", help="address of the cutout service; by default the Legacy Surveys viewer")
    cluster_option(parser)
    http_options(parser)


def _cutouts(args: argparse.Namespace) -> int:
    from zoobot_3d.catalog.reading import join_columns, read_catalog
    from zoobot_3d.schema import COL_ID
    from zoobot_3d.sources.legacy_survey import CUTOUT_URL, CutoutOptions, fetch_cutouts

    galaxies = read_catalog(args.catalogue)
    if args.sizes:
        notes: list[str] = []
        galaxies = join_columns(galaxies, args.sizes, COL_ID, notes=notes)
        print(*notes, sep="\n", end="\n" if notes else "")
    summary = fetch_cutouts(
        galaxies,
        args.root,
        name=args.catalogue,
        requests=request_options(args, center=args.center),
        cutouts=CutoutOptions(args.layer, args.size, args.url or CUTOUT_URL, not args.pictures_only, args.retry_empty),
        options=polite(args),
        cluster=args.cluster,
    )
    return report(summary)


# catalogues


def _list(files: list[CatalogueFile]) -> None:
    for file in files:
        print(file)
        for problem in file.problems:
            print(f"  {problem}")


def _table_options(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument("--url", help="address of the service; by default the public one")
    http_options(parser)


def _desi_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--which",
        nargs="+",
        choices=("friendly", "external", "votes", "decals"),
        default=("friendly", "external", "votes"),
        help="tables to fetch. friendly: predicted vote fractions; external: sizes and magnitudes; votes: volunteers' "
        "votes, DR8; decals: volunteers' votes, DR1-2 and DR5",
    )
    _table_options(parser)


def _desi(args: argparse.Namespace) -> None:
    from zoobot_3d.sources.galaxy_zoo import ZENODO_URL, fetch_gz_desi

    _list(fetch_gz_desi(args.root, which=args.which, url=args.url or ZENODO_URL, options=polite(args)))


def _gz2(args: argparse.Namespace) -> None:
    from zoobot_3d.sources.galaxy_zoo import GZ2_URL, fetch_gz2

    _list(fetch_gz2(args.root, url=args.url or GZ2_URL, options=polite(args)))


def _sami(args: argparse.Namespace) -> None:
    from zoobot_3d.sources.sami import SAMI_TAP_URL, fetch_sami

    _list(fetch_sami(args.root, url=args.url or SAMI_TAP_URL, options=polite(args)))


def _hoyle(args: argparse.Namespace) -> None:
    from zoobot_3d.sources.hoyle import HOYLE_URL, fetch_hoyle

    _list(fetch_hoyle(args.root, url=args.url or HOYLE_URL, options=polite(args)))


# SpArcFiRe


def _sparcfire_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", help="JPEG or PNG files, or folders of them")
    parser.add_argument("--out", required=True, help="folder to fill, with a folder for each galaxy")
    parser.add_argument("--url", help="address of the service; by default that of UC Irvine")
    cluster_option(parser)
    http_options(parser)
    parser.set_defaults(connections=1, rate=0.5, timeout=900.0)  # it works for minutes before it answers


def _sparcfire(args: argparse.Namespace) -> int:
    from zoobot_3d.sources.sparcfire_service import SPARCFIRE_URL, fetch_sparcfire

    url, options = args.url or SPARCFIRE_URL, polite(args)
    return report(fetch_sparcfire(args.pictures, args.out, url=url, options=options, cluster=args.cluster))


WHAT = (
    ("kind", "what", "how much", "into ROOT/"),
    ("gz3d", "marks of Galaxy Zoo: 3D, SDSS DR17", "29,800 x 0.3 MB", "gz3d"),
    ("cutouts", "grz cutouts, Legacy Surveys", "2.2 MB a galaxy", "images"),
    ("gz-desi", "fractions, sizes, votes, Zenodo", "2.3 GB", "catalogues"),
    ("gz2", "votes, Hart et al. 2016", "239,695 galaxies", "catalogues"),
    ("sami", "targets of SAMI DR3, Data Central", "a small table", "catalogues"),
    ("hoyle", "bar lengths, Hoyle et al. 2011", "0.3 MB", "catalogues"),
    ("sparcfire", "arms that SpArcFiRe finds", "2 MB a galaxy", "--out FOLDER"),
)
"""What ``zoobot3d fetch --list`` shows."""


def _list_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--list", action="store_true", help="show what can be fetched, how much it is and from where")


def _fetch(args: argparse.Namespace) -> None:
    if not args.list:
        raise ConfigError(f"zoobot3d fetch: say what: {', '.join(row[0] for row in WHAT[1:])}; --list tells more")
    print_table(WHAT, "zoobot3d fetch KIND", words=True)


FETCH = Command(
    "fetch",
    "download marks, cutouts and catalogues",
    "Uses few connections and a limited rate, and waits when a server asks for it. You can stop the command and run it "
    "again: files that are complete are kept. Files that failed are listed in failed.csv with the reason.",
    "zoobot3d fetch gz3d --limit 100",
    _list_option,
    _fetch,
    kinds=(
        Command(
            "gz3d",
            "Galaxy Zoo: 3D FITS files of SDSS DR17, 29,800 of about 0.3 MB",
            "Lists the archive, downloads the files that are missing into ROOT/gz3d, and checks each file.",
            "zoobot3d fetch gz3d --root galaxies --mangaid 1-379196 1-304336",
            _gz3d_options,
            _gz3d,
        ),
        Command(
            "cutouts",
            "grz cutouts of the Legacy Surveys, and pictures made of them",
            "Writes ROOT/images/fits and ROOT/images/jpg. Cutouts outside the footprint and bands without data are "
            "recorded in ROOT/images/fetched.parquet. CATALOGUE can also be the failed.csv of an earlier run.",
            "zoobot3d fetch cutouts matches.parquet --root galaxies --center manga",
            _cutouts_options,
            _cutouts,
        ),
        Command(
            "gz-desi",
            "Galaxy Zoo DESI: 8.7 million galaxies, from Zenodo",
            "Writes into ROOT/catalogues and verifies the checksums of Zenodo. A download that was stopped continues.",
            "zoobot3d fetch gz-desi --root galaxies --which friendly external",
            _desi_options,
            _desi,
        ),
        Command(
            "gz2",
            "Galaxy Zoo 2 votes (Hart et al. 2016)",
            "Writes ROOT/catalogues/gz2_volunteer_votes.parquet, with the column names of Galaxy Zoo DESI.",
            "zoobot3d fetch gz2 --root galaxies",
            _table_options,
            _gz2,
        ),
        Command(
            "sami",
            "SAMI DR3 targets, from Data Central's TAP service",
            "Writes ROOT/catalogues/sami_targets.parquet. Needs an extra: pip install 'zoobot-3d[sami]'.",
            "zoobot3d fetch sami --root galaxies",
            _table_options,
            _sami,
        ),
        Command(
            "hoyle",
            "bar lengths that volunteers measured (Hoyle et al. 2011)",
            "Writes ROOT/catalogues/hoyle_bar_lengths.csv. Lengths are in kpc/h.",
            "zoobot3d fetch hoyle --root galaxies",
            _table_options,
            _hoyle,
        ),
        Command(
            "sparcfire",
            "arms that SpArcFiRe finds on your pictures (Davis & Hayes 2014)",
            "Uploads each picture to the web service of SpArcFiRe and unpacks its results into FOLDER/NAME, NAME being "
            "the picture's. Writes the pitch angle and hand of each galaxy into FOLDER/sparcfire.csv.",
            "zoobot3d fetch sparcfire images/jpg --out sparcfire",
            _sparcfire_options,
            _sparcfire,
        ),
    ),
)
