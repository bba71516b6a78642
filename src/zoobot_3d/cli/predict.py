"""The command that predicts masks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from zoobot_3d.cli.command import Command, bundle_options, positive, print_table
from zoobot_3d.cli.fetch import http_options, polite
from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_LAYER

if TYPE_CHECKING:
    from zoobot_3d.infer.segmenter import Segmenter


__all__ = ["COMMANDS"]


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="*",
        help="folder of pictures, picture files, a .txt list of them, or a catalogue (CSV, Parquet, FITS) that names "
        "them in a column such as relative_desi_jpg_loc, desi_jpg_loc or relative_desi_fits_loc",
    )
    bundle_options(parser)
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="standard deviation of each mask too; needs several bundles, --tta, or a beta_binomial bundle",
    )
    parser.add_argument("--out", required=True, help="folder for the Parquet shards")
    parser.add_argument(
        "--masks", choices=("none", "png", "fits"), default="none", help="files too, in OUT/masks; FITS has a WCS"
    )
    parser.add_argument("--shard-size", type=positive, default=512, help="galaxies a shard")
    parser.add_argument("--batch-size", type=positive, default=32, help="pictures through the network at once")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")
    parser.add_argument("--threads", type=positive, default=2, help="threads that read and write beside the network")
    sky = parser.add_argument_group("instead of INPUT, a position on the sky")
    sky.add_argument(
        "--radec", nargs="+", metavar="RADEC", help="'RA Dec' in degrees or '10:56:24 +12:30:00'; the cutout is fetched"
    )
    sky.add_argument("--pixscale", type=float, default=0.262, help="arcsec per pixel of the 424 px cutout")
    sky.add_argument("--layer", default=DEFAULT_LAYER, help="of the Legacy Surveys: ls-dr8, ls-dr9, ls-dr10")
    sky.add_argument("--show", action="store_true", help="open the figure when it is done")
    sky.add_argument("--url", help="cutout service; by default the Legacy Surveys viewer")
    http_options(parser)


def _predict(args: argparse.Namespace) -> None:
    from zoobot_3d.catalog.reading import list_galaxies
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.infer.predict import predict
    from zoobot_3d.infer.segmenter import load_segmenter

    if bool(args.input) == bool(args.radec):
        raise ConfigError(
            "zoobot3d predict: give pictures or a catalogue, or --radec with a position; pictures come before "
            "--bundle, which takes all that follows"
        )
    galaxies = list_galaxies(args.input) if args.input else None  # a wrong path should not cost the loading of torch
    segmenter = load_segmenter(args.bundle, device=args.device, batch_size=args.batch_size, tta=args.tta)
    if args.uncertainty:
        segmenter.check_uncertainty()
    if galaxies is None:
        _predict_radec(args, segmenter)
        return
    options = {"masks": args.masks, "shard_size": args.shard_size, "threads": args.threads}
    options["uncertainty"] = args.uncertainty
    with progress_bar("predicting", len(galaxies)) as advance:
        summary = predict(galaxies, segmenter, args.out, **options, progress=advance)
    print(f"{summary.predicted} predicted, {summary.skipped} done before, {summary.failed} failed: {args.out}")
    for reason, count in sorted(summary.reasons.items(), key=lambda item: -item[1]):
        print(f"  {count} x {reason}")


def _predict_radec(args: argparse.Namespace, segmenter: Segmenter) -> None:
    from zoobot_3d.infer.radec import parse_radec, predict_radec
    from zoobot_3d.report import gallery
    from zoobot_3d.sources.legacy_survey import CUTOUT_URL

    found = predict_radec(
        [parse_radec(text) for text in args.radec],
        segmenter,
        args.out,
        pixscale=args.pixscale,
        layer=args.layer,
        url=args.url or CUTOUT_URL,
        options=polite(args),
        uncertainty=args.uncertainty,
    )
    rows = [["position", "arms (arcsec^2)", "bar (arcsec^2)", "arms, highest", "bar, highest"]]
    for sky in found:
        areas, highest = sky.areas(), sky.masks.max((1, 2))
        rows.append([sky.name, *(f"{area:.1f}" for area in areas.values()), *(f"{value:.2f}" for value in highest)])
    print_table(rows, "areas above 0.2, and the highest fraction of volunteers")
    for sky in found:
        file = gallery.position(sky)
        print(file)
        if args.show:
            import webbrowser

            webbrowser.open(file.resolve().as_uri())


COMMANDS = (
    Command(
        "predict",
        "find arms and bars in pictures",
        "Writes Parquet shards, a row a galaxy, with each mask as an 8-bit PNG (255: all volunteers would enclose the "
        "pixel). A picture that cannot be used is a row with the reason. Pictures show a whole Galaxy Zoo field (424 "
        "px of est_dr5_pixscale arcsec each), north up, east left. Killed, it goes on with the same command.",
        "zoobot3d predict pictures/ --bundle results/bundle --out masks --masks fits",
        _predict_options,
        _predict,
    ),
)
