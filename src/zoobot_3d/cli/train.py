"""The command that trains or fine-tunes a network."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command
from zoobot_3d.schema import DEFAULT_MASTER

__all__ = ["COMMANDS"]


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", help="folder for the bundle, logs (CSV, TensorBoard) and checkpoints")
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="a recipe (zoobot3d recipes lists them), or a YAML file with any of the settings below; "
        "options on the command line override it",
    )
    parser.add_argument("--restart", action="store_true", help="start again instead of continuing the run in OUT")
    parser.add_argument(
        "--init",
        metavar="BUNDLE",
        help="bundle to fine-tune; default is the package's own. The same as --train.init",
    )
    parser.add_argument("--logger", help="log to write besides CSV: tensorboard or wandb. The same as --train.logger")
    from zoobot_3d.config.reading import setting_help  # the keys, their units and defaults

    parser.epilog = (
        f"settings, as options (--data.batch_size 64) or in a YAML file:\n{setting_help()}\n\n{parser.epilog}"
    )


def _train(args: argparse.Namespace) -> None:
    from zoobot_3d.infer.bundle import read_info
    from zoobot_3d.io import check_regular
    from zoobot_3d.learn.settings import load_config

    given = {"train.init": args.init, "train.logger": args.logger}
    settings = [*args.settings, *(f"{key}={value}" for key, value in given.items() if value is not None)]
    config = load_config(args.config, settings)
    check_regular(config.data.catalog)  # a wrong path should not cost the loading of torch
    if config.train.init is not None:
        read_info(config.train.init)

    from pytorch_lightning.utilities import rank_zero_only

    from zoobot_3d.learn.train import train

    bundle = train(config, args.out, resume=not args.restart)
    rank_zero_only(print)(f"bundle: {bundle}")  # several processes may train together


COMMANDS = (
    Command(
        "train",
        "train a network on a master catalogue and write it as a bundle",
        "Every setting can be given in a YAML file, or as an option. You can stop the command and run it again.",
        "zoobot3d train results --config default --data.catalog survey/" + DEFAULT_MASTER,
        _train_options,
        _train,
        stopped="the last complete epoch is kept; run the same command again to go on",
    ),
)
