"""The command that checks a folder of predictions."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", help="folder that zoobot3d predict wrote")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="remove damaged shards, so that the same zoobot3d predict makes them again",
    )


def _run(args: argparse.Namespace) -> int:
    from zoobot_3d.compute.progress import progress_bar
    from zoobot_3d.infer.shards import shard_files
    from zoobot_3d.infer.verify import verify

    with progress_bar("checking", len(shard_files(args.predictions)), unit="shards") as advance:
        summary = verify(args.predictions, repair=args.repair, progress=advance)
    print(summary)
    return 1 if summary.problems else 0


COMMANDS = (
    Command(
        "verify",
        "check predictions: read every shard, count its rows and decode every mask",
        "Names shards that are truncated, changed or missing, and ends with exit status 1 if there are any.",
        "zoobot3d verify masks --repair",
        _options,
        _run,
    ),
)
