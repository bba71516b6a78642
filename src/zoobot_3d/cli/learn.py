"""Commands of learning and using what was learned: train, predict, evaluate, calibrate, figures, describe."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoobot_3d.cli.command import Command, positive, print_table
from zoobot_3d.cli.fetch import http_options, polite
from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import DEFAULT_LAYER, DEFAULT_MASTER

if TYPE_CHECKING:
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = ["COMMANDS"]


# train


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", help="folder for the bundle, logs (CSV, TensorBoard) and checkpoints")
    parser.add_argument("--config", help="YAML file with any of the keys below; options given here come after it")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of going on with the run in OUT")
    parser.add_argument(
        "--init",
        metavar="BUNDLE",
        help="fine-tune this bundle ('default': the package's own); the setting train.init",
    )
    parser.add_argument("--logger", help="tensorboard or wandb, beside CSV; the setting train.logger")
    from zoobot_3d.config.reading import setting_help  # the keys, their units and defaults

    parser.epilog = f"settings (--data.batch_size 64, or in the YAML file):\n{setting_help()}\n\n{parser.epilog}"


def _train(args: argparse.Namespace) -> None:
    from pytorch_lightning.utilities import rank_zero_only

    from zoobot_3d.learn.settings import load_config
    from zoobot_3d.learn.train import train

    given = {"train.init": args.init, "train.logger": args.logger}
    settings = [*args.settings, *(f"{key}={value}" for key, value in given.items() if value is not None)]
    bundle = train(load_config(args.config, settings), args.out, resume=not args.restart)
    rank_zero_only(print)(f"bundle: {bundle}")  # several processes may train together


# predict


def _bundle_options(parser: argparse.ArgumentParser) -> None:
    """Add which networks are asked, and how."""
    parser.add_argument(
        "--bundle",
        default=["default"],
        nargs="+",
        help="folder of a trained bundle; several make an ensemble; by default the one that comes with the package",
    )
    parser.add_argument(
        "--tta", action="store_true", help="show each picture in its 8 orientations and take the mean; 8 times as slow"
    )


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="*",
        help="folder of pictures, picture files, a .txt list of them, or a catalogue (CSV, Parquet, FITS) that names "
        "them in a column such as relative_desi_jpg_loc, desi_jpg_loc or relative_desi_fits_loc",
    )
    _bundle_options(parser)
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


# evaluate


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("catalog", help="master catalogue with marks")
    _bundle_options(parser)
    parser.add_argument("--out", help="folder for evaluation.json and reliability.png; by default nothing is written")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="test", help="rows to measure")
    parser.add_argument("--root", help="folder the catalogue's paths start from; by default found beside it")
    parser.add_argument("--seed", type=int, default=0, help="of the volunteers' halves")


def _evaluate(args: argparse.Namespace) -> None:
    from zoobot_3d import io
    from zoobot_3d.report import figures
    from zoobot_3d.report.evaluate import evaluate_catalog

    options = {"split": args.split, "root": args.root, "tta": args.tta, "seed": args.seed}
    evaluation = evaluate_catalog(args.catalog, args.bundle, **options)
    print_table(evaluation.table(), f"{evaluation.n_galaxies} galaxies, {evaluation.n_failed} unreadable")
    if args.out is not None:
        io.write_atomic(Path(args.out) / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
        curve = figures.reliability(evaluation.reliability, evaluation.calibration_error)
        io.write_figure(curve, Path(args.out) / "reliability.png")


# calibrate


def _calibrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a trained bundle; its bundle.json is written anew")
    parser.add_argument("catalog", help="master catalogue with marks")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="val", help="rows to fit on")
    parser.add_argument("--root", help="folder the catalogue's paths start from; by default found beside it")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")


def _calibrate(args: argparse.Namespace) -> None:
    from zoobot_3d.learn.calibration import calibrate

    found = calibrate(args.bundle, args.catalog, args.split, root=args.root, device=args.device)
    print_table(found.table(), f"{found.n_galaxies} galaxies, {found.n_failed} unreadable")
    print(f"calibrated: {args.bundle}")


# figures


def _figures_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        choices=("comparison", "predictions", "training"),
        help="comparison: picture, volunteers, model (SOURCE: master catalogue); predictions: pictures beside their "
        "masks, and their uncertainty if predicted (SOURCE: folder of predictions); training: curves (SOURCE: folder "
        "of training)",
    )
    parser.add_argument("source", help="where from; see KIND")
    parser.add_argument("--out", required=True, help="file to write: .png, .pdf or .svg")
    parser.add_argument(
        "--bundle", default="default", help="folder of a trained bundle, for comparison; by default the package's own"
    )
    parser.add_argument("--pictures", help="folder the predicted paths start from; by default where predict found them")
    parser.add_argument("--count", type=positive, default=24, help="galaxies shown, drawn at random")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="test", help="rows of the catalogue"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw")


def _figures(args: argparse.Namespace) -> None:
    from zoobot_3d.report import gallery

    if args.kind == "comparison":
        gallery.comparison(args.source, args.bundle, args.out, count=args.count, split=args.split, seed=args.seed)
    elif args.kind == "predictions":
        gallery.predictions(args.source, args.out, pictures=args.pictures, count=args.count, seed=args.seed)
    else:
        gallery.training(args.source, args.out)
    print(args.out)


# describe


def _describe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", nargs="?", default="default", help="folder of a trained bundle; by default the package's own"
    )


def _describe(args: argparse.Namespace) -> None:
    from zoobot_3d.infer.bundle import describe

    print(describe(args.bundle))


COMMANDS = (
    Command(
        "train",
        "train a network on a master catalogue and write it as a bundle",
        "Every key of the configuration is an option. Killed, it goes on with the same command.",
        "zoobot3d train results --config conf/default.yaml --data.catalog survey/" + DEFAULT_MASTER,
        _train_options,
        _train,
    ),
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
    Command(
        "evaluate",
        "measure a bundle on galaxies with marks",
        "IoU, mean absolute error and calibration (fractions of volunteers, 0-1), beside what one half of the "
        "volunteers agrees on with the other.",
        f"zoobot3d evaluate survey/{DEFAULT_MASTER} --bundle results/bundle --out evaluation",
        _evaluate_options,
        _evaluate,
    ),
    Command(
        "calibrate",
        "make a bundle's fractions mean what they say",
        "Fits a temperature for each class on galaxies the network was not trained on, and writes it into the bundle, "
        "which uses it from then on. The order of pixels stays; thresholds other than 1/2 move.",
        f"zoobot3d calibrate results/bundle survey/{DEFAULT_MASTER}",
        _calibrate_options,
        _calibrate,
    ),
    Command(
        "figures",
        "draw what was marked, predicted or learned",
        "Spiral arms are blue, bars orange; the denser, the more volunteers.",
        f"zoobot3d figures comparison survey/{DEFAULT_MASTER} --bundle results/bundle --out grid.png",
        _figures_options,
        _figures,
    ),
    Command(
        "describe",
        "say what a bundle is",
        "Network, field of view, training data and quality.",
        "zoobot3d describe results/bundle",
        _describe_options,
        _describe,
    ),
)
