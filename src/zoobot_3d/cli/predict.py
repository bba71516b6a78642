"""The command that predicts masks."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobot_3d.cli.command import Command, bundle_options, engine_option, positive, print_table
from zoobot_3d.cli.fetch import column_options, http_options, polite, request_options
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.schema import DEFAULT_LAYER, PIXSCALES

if TYPE_CHECKING:
    import pandas as pd
    from astropy.coordinates import SkyCoord

    from zoobot_3d.infer.predict import PredictSummary
    from zoobot_3d.infer.radec import FetchSettings, SkyMasks
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["COMMANDS"]


# predict


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="*",
        help="folder of pictures, picture files, a .txt list of them, or a table (CSV, Parquet, FITS, VOTable). A "
        "table names pictures in a column such as relative_desi_jpg_loc, or with --fetch has positions",
    )
    bundle_options(parser)
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also predict the standard deviation of each pixel; needs several bundles, --tta, or a bundle that was "
        "trained with the loss beta_binomial",
    )
    parser.add_argument("--out", required=True, help="folder for the predictions: Parquet shards, and mask files")
    parser.add_argument(
        "--masks",
        choices=("none", "png", "fits"),
        help="mask files too, in OUT/masks; FITS has a WCS. By default none, and fits for cutouts that are fetched",
    )
    parser.add_argument("--shard-size", type=positive, default=1000, help="number of galaxies in a shard")
    parser.add_argument("--batch-size", type=positive, default=32, help="number of pictures that are predicted at once")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the fastest that is available")
    engine_option(parser)
    parser.add_argument(
        "--cluster",
        help="predict in several processes: local or local:N for N on this machine, tcp://HOST:PORT for a Dask "
        "scheduler, slurm:FILE.yaml for SLURM jobs; by default in this process, which uses all cores or a GPU",
    )
    parser.add_argument("--threads", type=positive, default=2, help="number of threads that read and write files")
    parser.add_argument(
        "--pixscale",
        type=float,
        help="arcsec per pixel. Of fetched cutouts, which have 424 px a side, it is what is asked for (0.262 if the "
        "size is not known); of your own pictures it is that of their own pixels, and gives areas and FITS their scale",
    )
    parser.add_argument(
        "--field",
        choices=("picture", "auto"),
        help="what pictures show: a whole Galaxy Zoo field, or any field, in which the galaxy is found and measured; "
        "by default picture, and auto for fetched cutouts of galaxies whose size is not known",
    )
    parser.add_argument("--root", help="folder that the paths in a table start from; by default the table's own")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if any galaxy failed")
    _sky_options(parser)
    http_options(parser)


def _sky_options(parser: argparse.ArgumentParser) -> None:
    sky = parser.add_argument_group("cutouts of the Legacy Surveys")
    sky.add_argument("--fetch", action="store_true", help="INPUT is a table of positions; fetch a cutout for each row")
    sky.add_argument(
        "--radec",
        nargs="+",
        action="extend",
        metavar="RADEC",
        help="instead of INPUT, positions: 164.1 12.5 in degrees, or 10:56:24 +12:30:00",
    )
    sky.add_argument(
        "--name",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="instead of INPUT, names of galaxies such as 'NGC 3351'; the Sesame service finds their positions",
    )
    column_options(sky)
    sky.add_argument("--layer", help=f"release: ls-dr8, ls-dr9, ls-dr10; by default {DEFAULT_LAYER}")
    sky.add_argument("--show", action="store_true", help="open the figures in a window when they are done")
    sky.add_argument("--url", help="cutout service; by default the Legacy Surveys viewer")


def _predict(args: argparse.Namespace) -> int:
    _check_options(args)
    settings, table, galaxies = None, None, None
    if args.input and not args.fetch:
        galaxies = _pictures(args)
    else:
        settings = _settings(args)
        table = _positions(args) if args.radec or args.name else _table(args)
    _check_bundles(args.bundle)
    from zoobot_3d.infer.segmenter import load_segmenter

    segmenter = load_segmenter(
        args.bundle,
        device=args.device,
        batch_size=args.batch_size,
        tta=args.tta,
        engine=args.engine,
        start=args.cluster is None,
    )
    if args.uncertainty:
        segmenter.check_uncertainty()
    if table is not None and settings is not None:
        galaxies = _fetched(args, table, settings)
    assert galaxies is not None
    if args.field:
        galaxies["field"] = args.field
    summary = _run(args, galaxies, segmenter)
    print(summary)
    print(_made(args, summary))
    if args.radec or args.name:
        _show(args, galaxies, said=summary.warnings)
    return 1 if args.strict and summary.failed else 0


def _made(args: argparse.Namespace, summary: PredictSummary) -> str:
    """Say where the masks are, and which command looks at them."""
    out = Path(args.out)
    lines = [f"{out / 'shards'}: Parquet, a row for each galaxy with its masks, or with the reason why there are none"]
    if (out / "masks").is_dir():
        lines.append(f"{out / 'masks'}: the masks as files")
    if summary.predicted + summary.skipped and not (args.radec or args.name):
        draw = ["zoobot3d", "figures", "predictions", args.out, "--out", f"{out.name or 'masks'}.png"]
        lines.append(f"look at the masks before you use them: {shlex.join(draw)}")
    return "\n".join(lines)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, or would do nothing."""
    if args.cluster is not None:
        from zoobot_3d.compute.cluster import check_cluster

        check_cluster(args.cluster)
    ways = [bool(args.input), bool(args.radec), bool(args.name)]
    if sum(ways) != 1:
        raise ConfigError(
            "zoobot3d predict: give pictures or a table, or --radec with positions, or --name with names; pictures "
            "come before --bundle, which takes all that follows"
        )
    if args.fetch and (not args.input or len(args.input) != 1):
        raise ConfigError("zoobot3d predict: --fetch needs one table of positions as INPUT")
    fetching = args.fetch or args.radec or args.name
    columns = ("id_column", "ra_column", "dec_column", "ra_unit", "radius_column")
    idle = [name for name in ("layer", "url", *columns) if getattr(args, name) is not None and not fetching]
    if args.radec or args.name:
        idle += [name for name in columns if getattr(args, name) is not None]
    if args.show and not (args.radec or args.name):
        idle.append("show")
    if args.root is not None and (fetching or not args.input):
        idle.append("root")
    if idle:
        option = "--" + idle[0].replace("_", "-")
        needs = {"show": "--radec or --name", "root": "a table that names pictures"}.get(idle[0], "--fetch")
        raise ConfigError(f"zoobot3d predict: {option} does nothing here; it belongs to {needs}")
    if args.pixscale is not None and not PIXSCALES[0] <= args.pixscale <= PIXSCALES[1]:
        raise ConfigError(
            f"--pixscale {args.pixscale:g}: give a positive number of arcsec per pixel, such as 0.262, and at most "
            f"{PIXSCALES[1]:g}"
        )


def _check_bundles(bundles: list[str]) -> None:
    """Find a wrong bundle before torch is loaded."""
    from zoobot_3d.infer.bundle import read_info

    for bundle in bundles:
        read_info(bundle)


def _pictures(args: argparse.Namespace) -> pd.DataFrame:
    """List pictures that are on disk."""
    from zoobot_3d.catalog.listing import list_galaxies

    galaxies = list_galaxies(args.input, root=args.root, leave_out=args.out)
    named = [file for file in galaxies["file"] if file]
    if not any(Path(file).exists() for file in named):
        first = f"none of the pictures that it names is there, the first is {named[0]}" if named else "names no picture"
        raise BadFileError(args.input[0], first, "paths start from the folder of the table or list, or from --root")
    if args.pixscale is not None:
        galaxies["pixscale"], galaxies["own_pixels"] = args.pixscale, True
    return galaxies


def _table(args: argparse.Namespace) -> pd.DataFrame:
    from zoobot_3d.catalog.reading import read_catalog

    if Path(args.input[0]).is_dir():
        raise BadFileError(args.input[0], "a folder, where --fetch needs a table of positions", "give the table")
    return read_catalog(args.input[0])


def _positions(args: argparse.Namespace) -> pd.DataFrame:
    """Understand positions and names, and say how."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    from zoobot_3d.catalog.angles import parse_positions
    from zoobot_3d.infer.radec import position_table

    places: list[SkyCoord] = []
    names: list[str] | None = None
    if args.radec:
        for place in parse_positions([word.strip() for word in args.radec]):
            places.append(SkyCoord(place.ra * u.deg, place.dec * u.deg))
            print(f"position: RA {place.ra:.6f}, Dec {place.dec:+.6f} deg{f' ({place.note})' if place.note else ''}")
    else:
        from zoobot_3d.sources.sesame import resolve_name

        names = list(args.name)
        for name in names:
            print(f"looking up {name} ...", flush=True)
            places.append(resolve_name(name))
            print(f"{name}: RA {places[-1].ra.deg:.6f}, Dec {places[-1].dec.deg:+.6f} deg")
    return position_table(places, names)


def _settings(args: argparse.Namespace) -> FetchSettings:
    """Collect what is asked of the cutout service; a person who waits is told of trouble within seconds."""
    from zoobot_3d.infer.radec import DEFAULT_PIXSCALE, FetchSettings
    from zoobot_3d.sources.legacy_survey import CUTOUT_URL, CutoutOptions

    some = bool(args.radec or args.name)
    cutouts = CutoutOptions(args.layer or DEFAULT_LAYER, url=args.url or CUTOUT_URL, retry_empty=some, probe=not some)
    requests = request_options(args, pixscale=args.pixscale, default_pixscale=DEFAULT_PIXSCALE)
    return FetchSettings(requests, cutouts, polite(args, attempts=2 if some else 6, connect=2.0 if some else 10.0))


def _fetched(args: argparse.Namespace, table: pd.DataFrame, settings: FetchSettings) -> pd.DataFrame:
    """Fetch the cutouts and list them."""
    from zoobot_3d.infer.radec import fetch_galaxies

    name = args.input[0] if args.input else "--radec" if args.radec else "--name"
    galaxies, notes = fetch_galaxies(table, args.out, name=name, settings=settings)
    print(*notes, sep="\n", end="\n" if notes else "")
    if (args.radec or args.name) and galaxies["problem"].ne("").all():
        from zoobot_3d.errors import FetchError
        from zoobot_3d.sources.legacy_survey import cutout_url

        row = galaxies.iloc[0]
        scale = row["pixscale"]
        url = cutout_url(row["ra"], row["dec"], scale, size=424, layer=settings.cutouts.layer, url=settings.cutouts.url)
        raise FetchError(
            f"{row['ra']:.5f} {row['dec']:+.5f}", f"{row['problem']} ({url})", "check position and network"
        )
    return galaxies


def _run(args: argparse.Namespace, galaxies: pd.DataFrame, segmenter: Segmenter) -> PredictSummary:
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.infer.predict import Where, predict

    fetched = args.fetch or args.radec or args.name
    options: dict[str, Any] = {"shard_size": args.shard_size, "uncertainty": args.uncertainty}
    options["where"] = Where(args.cluster or "", args.threads)
    with progress_bar("predicting", len(galaxies)) as advance:
        return predict(
            galaxies,
            segmenter,
            args.out,
            masks=args.masks or ("fits" if fetched else "none"),
            progress=advance,
            **options,
        )


def _show(args: argparse.Namespace, galaxies: pd.DataFrame, said: Collection[str]) -> None:
    """Print and draw what was found at single positions."""
    import numpy as np

    from zoobot_3d.infer.radec import read_sky
    from zoobot_3d.report import gallery

    found: list[SkyMasks] = read_sky(Path(args.out), galaxies)
    rows = [["position", "arms (arcsec^2)", "bar (arcsec^2)", "arms, highest", "bar, highest"]]
    for sky in found:
        areas, highest = sky.areas(), np.nanmax(sky.masks, axis=(1, 2))
        rows.append([sky.name, *(f"{area:.1f}" for area in areas.values()), *(f"{value:.2f}" for value in highest)])
    print_table(rows, "areas above 0.2, and the highest fraction of volunteers")
    for warning in dict.fromkeys(sky.warning for sky in found if sky.warning and sky.warning not in said):
        print(f"warning: {warning}")
    for sky in found:
        file = gallery.position(sky)
        print(os.fspath(file))
        if args.show:
            import webbrowser

            webbrowser.open(file.resolve().as_uri())


COMMANDS = (
    Command(
        "predict",
        "find arms and bars in pictures",
        "Writes Parquet shards with a row for each galaxy and each mask as an 8-bit PNG (255: all volunteers would "
        "enclose the pixel). A galaxy that cannot be predicted has a row with the reason. Pictures show a whole Galaxy "
        "Zoo field (424 px of est_dr5_pixscale arcsec each), north up, east left. You can stop the command and run it "
        "again: what is done and unchanged is kept.",
        "zoobot3d predict galaxies.csv --fetch --out masks",
        _predict_options,
        _predict,
    ),
)
