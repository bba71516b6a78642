"""Every command: parse, call one function, print. No logic lives here.

Heavy modules are imported inside the commands, so that ``zoobot3d --help`` answers at once. The options of ``train``
are the keys of `zoobot_3d.config`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from zoobot_3d import __version__
from zoobot_3d.errors import ConfigError, Zoobot3DError
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["main"]


@dataclass(frozen=True)
class Command:
    """A command: what it says of itself, its options, and what it calls."""

    name: str
    summary: str
    details: str
    example: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


# demo


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo", help="folder for report.html, metrics.json and all that led there")
    parser.add_argument(
        "--images", help="folder of real 424 px Galaxy Zoo pictures; by default those of ../shared, if any"
    )
    parser.add_argument("--galaxies", type=_count, default=1200, help="size of the simulated survey")
    parser.add_argument("--epochs", type=_count, default=80, help="passes over its training galaxies")
    parser.add_argument("--max-minutes", type=float, default=3.9, help="training stops here on a slow machine, minutes")
    parser.add_argument("--seed", type=int, default=0, help="of survey, training and volunteers' halves")


def _demo(args: argparse.Namespace) -> None:
    from zoobot_3d.demo import DemoConfig, demo, find_real_pictures

    config = DemoConfig(galaxies=args.galaxies, epochs=args.epochs, max_minutes=args.max_minutes, seed=args.seed)
    metrics = demo(args.out, images=find_real_pictures(args.images), config=config)
    print(json.dumps(metrics, indent=1))
    print(f"open {Path(args.out) / 'report.html'}")


# simulate


def _simulate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--galaxies", type=_count, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes, whatever --workers")
    parser.add_argument("--workers", type=_count, help="processes; by default one a core")
    parser.add_argument("--pictures-only", action="store_true", help="no FITS files: training does not need them")


def _simulate(args: argparse.Namespace) -> None:
    from zoobot_3d.simulate.survey import simulate_survey

    simulate_survey(args.out, args.galaxies, seed=args.seed, workers=args.workers, images_only=args.pictures_only)
    print(f"{args.galaxies} galaxies in {args.out}; catalogue {Path(args.out) / DEFAULT_MASTER}")


# train


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", help="folder for the bundle, logs (CSV, TensorBoard) and checkpoints")
    parser.add_argument("--config", help="YAML file with any of the keys below; options given here come after it")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of going on with the run in OUT")
    from zoobot_3d.config import setting_help  # the keys, their units and defaults

    parser.epilog = f"settings (--data.batch_size 64, or in the YAML file):\n{setting_help()}\n\n{parser.epilog}"


def _train(args: argparse.Namespace) -> None:
    from zoobot_3d.config import load_config
    from zoobot_3d.train import train

    bundle = train(load_config(args.config, args.settings), args.out, resume=not args.restart)
    print(f"bundle: {bundle}")


# predict


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="+",
        help="folder of pictures, picture files, a .txt list of them, or a catalogue (CSV, Parquet, FITS) that names "
        "them in a column such as relative_desi_jpg_loc, desi_jpg_loc or relative_desi_fits_loc",
    )
    parser.add_argument("--bundle", required=True, help="folder of a trained bundle")
    parser.add_argument("--out", required=True, help="folder for the Parquet shards")
    parser.add_argument(
        "--masks", choices=("none", "png", "fits"), default="none", help="files too, in OUT/masks; FITS has a WCS"
    )
    parser.add_argument("--shard-size", type=_count, default=512, help="galaxies a shard")
    parser.add_argument("--batch-size", type=_count, default=32, help="pictures through the network at once")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")
    parser.add_argument("--threads", type=_count, default=2, help="threads that read and write beside the network")


def _predict(args: argparse.Namespace) -> None:
    from zoobot_3d.catalog import list_galaxies
    from zoobot_3d.predict import predict
    from zoobot_3d.progress import progress_bar
    from zoobot_3d.segmenter import load_segmenter

    galaxies = list_galaxies(args.input)
    segmenter = load_segmenter(args.bundle, device=args.device, batch_size=args.batch_size)
    options = {"masks": args.masks, "shard_size": args.shard_size, "threads": args.threads}
    with progress_bar("predicting", len(galaxies)) as advance:
        summary = predict(galaxies, segmenter, args.out, **options, progress=advance)
    print(f"{summary.predicted} predicted, {summary.skipped} done before, {summary.failed} failed: {args.out}")
    for reason, count in sorted(summary.reasons.items(), key=lambda item: -item[1]):
        print(f"  {count} x {reason}")


# evaluate


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("catalog", help="master catalogue with marks")
    parser.add_argument("--bundle", required=True, help="folder of a trained bundle")
    parser.add_argument("--out", help="folder for evaluation.json and reliability.png; by default nothing is written")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="test", help="rows to measure")
    parser.add_argument("--root", help="folder the catalogue's paths start from; by default found beside it")
    parser.add_argument("--seed", type=int, default=0, help="of the volunteers' halves")


def _evaluate(args: argparse.Namespace) -> None:
    from zoobot_3d import figures, io
    from zoobot_3d.evaluate import evaluate_catalog

    evaluation = evaluate_catalog(args.catalog, args.bundle, split=args.split, root=args.root, seed=args.seed)
    _print_table(evaluation.table(), f"{evaluation.n_galaxies} galaxies, {evaluation.n_failed} unreadable")
    if args.out is not None:
        io.write_atomic(Path(args.out) / "evaluation.json", json.dumps(evaluation.to_dict(), indent=1))
        curve = figures.reliability(evaluation.reliability, evaluation.calibration_error)
        figures.save(curve, Path(args.out) / "reliability.png")


# figures


def _figures_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        choices=("comparison", "predictions", "training"),
        help="comparison: picture, volunteers, model (SOURCE: master catalogue); predictions: pictures beside their "
        "masks (SOURCE: folder of predictions); training: curves (SOURCE: folder of training)",
    )
    parser.add_argument("source", help="where from; see KIND")
    parser.add_argument("--out", required=True, help="file to write: .png, .pdf or .svg")
    parser.add_argument("--bundle", help="folder of a trained bundle, for comparison")
    parser.add_argument("--pictures", help="folder the predicted paths start from; by default where predict found them")
    parser.add_argument("--count", type=_count, default=24, help="galaxies shown, drawn at random")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="test", help="rows of the catalogue"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw")


def _figures(args: argparse.Namespace) -> None:
    from zoobot_3d import gallery

    if args.kind == "comparison":
        if args.bundle is None:
            raise ConfigError("figures comparison: needs --bundle, the folder of a trained bundle")
        gallery.comparison(args.source, args.bundle, args.out, count=args.count, split=args.split, seed=args.seed)
    elif args.kind == "predictions":
        gallery.predictions(args.source, args.out, pictures=args.pictures, count=args.count, seed=args.seed)
    else:
        gallery.training(args.source, args.out)
    print(args.out)


# describe


def _describe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a trained bundle")


def _describe(args: argparse.Namespace) -> None:
    from zoobot_3d.bundle import describe

    print(describe(args.bundle))


COMMANDS = (
    Command(
        "demo",
        "the whole road in six minutes: simulate, train, evaluate, predict real pictures, report",
        "Everything is made on this machine; nothing is downloaded. Killed, it goes on with the same command.",
        "zoobot3d demo --out demo --images pictures/",
        _demo_options,
        _demo,
    ),
    Command(
        "simulate",
        "write a simulated survey in the formats of the real archives",
        "GZ3D FITS with volunteers' marks, grz cutouts (nanomaggies), 424 px pictures, catalogues, and the truth "
        "beside them. A survey that was killed, or that should grow, is continued.",
        "zoobot3d simulate survey --galaxies 500 --seed 1",
        _simulate_options,
        _simulate,
    ),
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


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes become errors of ours: one line, exit 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults, but not the empty ones, and keep the line breaks of an epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        "zoobot3d", description="Find spiral arms and bars in galaxy images, pixel by pixel.", parents=[common]
    )
    parser.add_argument("--version", action="version", version=f"zoobot3d {__version__}")
    parser.epilog = "zoobot3d COMMAND --help explains one command"
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    chosen = {name for name in argv if not name.startswith("-")}
    for command in COMMANDS:
        sub = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary.capitalize()}.\n\n{_wrap(command.details)}",
            epilog=f"example:\n  {command.example}",
            formatter_class=_Help,
            parents=[common],
        )
        if command.name in chosen:  # the others need no options, and some are slow to collect
            command.options(sub)
        sub.set_defaults(run=command.run)
    args, settings = parser.parse_known_args(argv)
    if args.command is None:
        parser.print_help()
        raise SystemExit(0)
    if settings and args.command != "train":
        raise ConfigError(f"zoobot3d {args.command}: unknown {settings[0]}; see zoobot3d {args.command} --help")
    args.settings = settings
    return args


def _wrap(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 100)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _print_table(rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, or 2 after a user's mistake, which is told in one line on stderr; 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        args = _parse(arguments)
        args.run(args)
    except Zoobot3DError as error:
        if debug:
            raise
        print(f"zoobot3d: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, e.g. head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("zoobot3d: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
