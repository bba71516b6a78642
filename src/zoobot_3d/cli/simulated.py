"""Commands that need no network connection and no data: demo, simulate, archive."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from zoobot_3d.cli.command import Command, positive, print_table
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["COMMANDS"]


# demo


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="demo", help="folder for report.html, metrics.json and everything that they are made from"
    )
    parser.add_argument(
        "--images",
        help="folder of real Galaxy Zoo pictures (424 px) to predict as well; by default that in ../shared, if it "
        "exists",
    )
    parser.add_argument("--galaxies", type=positive, default=800, help="number of galaxies in the simulated survey")
    parser.add_argument(
        "--steps", type=positive, default=120, help="number of steps of the fine-tuning, of 32 galaxies each"
    )
    parser.add_argument(
        "--bundle", default="default", help="bundle that is shown and fine-tuned; by default the package's own"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the survey, of the training, and of the split of the volunteers into halves",
    )
    parser.add_argument(
        "--restart", action="store_true", help="remove the results of an earlier demonstration in OUT and start again"
    )
    parser.add_argument(
        "--through-archive",
        action="store_true",
        help="collect the training set over HTTP, from a server on this machine that imitates the archives",
    )


def _demo(args: argparse.Namespace) -> None:
    from zoobot_3d.demo.run import DemoConfig, demo, find_real_pictures

    config = DemoConfig(galaxies=args.galaxies, steps=args.steps, bundle=args.bundle, seed=args.seed)
    images = find_real_pictures(args.images)
    report, measured = Path(args.out) / "report.html", Path(args.out) / "metrics.json"
    finished = measured.exists() and not args.restart
    metrics = demo(
        args.out,
        images=images,
        config=config,
        through_archive=args.through_archive,
        restart=args.restart,
        program=_program(),
    )
    rows = [["IoU at > 0.2", "package's model", "fine-tuned", "volunteers' halves"]]
    for name, label in (("spiral", "spiral arms"), ("bar", "bars")):
        rows.append([label, *(f"{metrics[f'{kind}{name}']:.3f}" for kind in ("iou_", "tuned_iou_", "ceiling_"))])
    print_table(rows, "held-out simulated galaxies")
    if finished:
        print("This demonstration was finished before, and its measurements are kept; --restart begins anew.")
    print(f"report: {report.resolve().as_uri()}")


def _program() -> str:
    """Say how a user calls this program from the current folder."""
    if shutil.which("zoobot3d") is not None:
        return "zoobot3d"
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.name == "zoobot3d" else f"{Path(sys.executable).name} -m zoobot_3d.cli"


# simulate


def _simulate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", help="folder of the survey")
    parser.add_argument("--galaxies", type=positive, default=200, help="number of galaxies")
    parser.add_argument("--seed", type=int, default=0, help="seed of the survey; the same seed gives the same files")
    parser.add_argument("--workers", type=positive, help="number of processes; by default one per core")
    parser.add_argument(
        "--pictures-only", action="store_true", help="write no FITS files, which training does not need"
    )
    parser.add_argument(
        "--broad",
        action="store_true",
        help="vary depth, seeing, stretch, JPEG quality and size in the field from galaxy to galaxy, to train a model "
        "for many surveys",
    )


def _simulate(args: argparse.Namespace) -> None:
    from zoobot_3d.simulate.survey import simulate_survey

    simulate_survey(
        args.out,
        args.galaxies,
        seed=args.seed,
        workers=args.workers,
        files="pictures" if args.pictures_only else "all",
        broad=args.broad,
    )
    print(f"{args.galaxies} galaxies in {args.out}; catalogue {Path(args.out) / DEFAULT_MASTER}")


# archive


def _archive_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("survey", help="folder of a simulated survey with FITS files")
    parser.add_argument(
        "--faults", type=float, default=0.0, metavar="SHARE", help="fraction of requests that fail on purpose, in 0-1"
    )
    parser.add_argument("--port", type=int, default=8765, help="port on this machine; 0 takes a free one")
    parser.add_argument("--urls", metavar="JSON", help="also write the addresses into this file, for scripts")


def _archive(args: argparse.Namespace) -> None:
    from zoobot_3d.io import write_atomic
    from zoobot_3d.simulate.archive import Archive
    from zoobot_3d.simulate.faulty_server import Faults
    from zoobot_3d.sources.addresses import ARCHIVE_VARIABLE

    with Archive(args.survey, faults=Faults(share=args.faults), port=args.port) as archive:
        urls = archive.urls()
        print(f"export {ARCHIVE_VARIABLE}={archive.url}", flush=True)
        for kind, url in urls.items():
            print(f"zoobot3d fetch {kind:<8} --url {url}", flush=True)
        if args.urls:
            write_atomic(args.urls, json.dumps(urls, indent=1))
        archive.wait()


COMMANDS = (
    Command(
        "demo",
        "simulate galaxies, find their arms and bars, fine-tune the model, and write a report",
        "Takes at most six minutes on two cores, and needs no network connection. The report appears after about a "
        "minute with the masks of the package's model, and is completed after the fine-tuning. You can stop the "
        "command and run it again. A finished demonstration is kept.",
        "zoobot3d demo --out demo",
        _demo_options,
        _demo,
    ),
    Command(
        "simulate",
        "write a simulated survey in the formats of the real archives",
        "Writes GZ3D FITS files with the marks of simulated volunteers, grz cutouts (in nanomaggies), 424 px "
        "pictures, catalogues, and the true shapes of the galaxies. You can stop the command and run it again. A "
        "larger number of galaxies adds to a survey that is there.",
        "zoobot3d simulate survey --galaxies 500 --seed 1",
        _simulate_options,
        _simulate,
    ),
    Command(
        "archive",
        "serve a simulated survey over HTTP on this machine, imitating the archives",
        "Use it to try the data commands without the network: set ZOOBOT3D_ARCHIVE as the command prints, and every "
        "download goes to this server. Runs until you interrupt it.",
        "zoobot3d archive survey --faults 0.3",
        _archive_options,
        _archive,
        stopped="nothing was changed; its addresses are gone until the same command runs again",
    ),
)
