"""The command that shows the recipes in the package."""

from __future__ import annotations

import argparse

from zoobot_3d.cli.command import Command

__all__ = ["COMMANDS"]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="the recipe to print; without it, all recipes are listed")


def _run(args: argparse.Namespace) -> None:
    from zoobot_3d.config.recipes import RECIPES, recipe_text

    if args.name is not None:
        print(recipe_text(args.name), end="")
        return
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:<{width}}  {recipe.summary} ({recipe.usage})")


COMMANDS = (
    Command(
        "recipes",
        "list or print the YAML recipes in the package",
        "A recipe holds settings for a command, which takes it by name: zoobot3d train OUT --config default. To change "
        "a recipe, print it into a file and give that file instead.",
        "zoobot3d recipes slurm > my-slurm.yaml",
        _options,
        _run,
    ),
)
