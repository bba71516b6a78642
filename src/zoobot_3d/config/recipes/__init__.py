"""Recipes that come with the package: YAML files that a command names by one word, as ``--config default``.

A word without a slash and without a suffix, such as ``default``, is a recipe. Everything else is the path of a file;
write ``./default`` for a file that has the name of a recipe. Knows nothing of what the files mean.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from zoobot_3d.errors import ConfigError

__all__ = ["RECIPES", "Recipe", "recipe_file", "recipe_names", "recipe_text"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """What a recipe is for.

    Attributes
    ----------
    usage : str
        The option or command that takes it, e.g. ``zoobot3d train --config``.
    summary : str
        One line for a list of recipes.
    """

    usage: str
    summary: str


TRAIN, SWEEP, CLUSTER = "zoobot3d train --config", "zoobot3d sweep", "--cluster slurm:FILE"
"""What takes a recipe."""

RECIPES = {
    "default": Recipe(TRAIN, "a small, fast network for one machine"),
    "joint": Recipe(TRAIN, "masks and whole-galaxy votes, trained together"),
    "published": Recipe(TRAIN, "the network and the settings of Walmsley & Spindler 2023"),
    "timm": Recipe(TRAIN, "an encoder that was trained before, such as Zoobot's; needs the extra timm"),
    "weights": Recipe(TRAIN, "the network and the settings of the model in the package"),
    "sweep": Recipe(SWEEP, "a search for the best settings"),
    "slurm": Recipe(CLUSTER, "SLURM jobs, to copy and fill in"),
}
"""Every recipe by name."""


def recipe_names(usage: str) -> list[str]:
    """Names of the recipes that a command takes."""
    return [name for name, recipe in RECIPES.items() if recipe.usage == usage]


def recipe_file(name: str | os.PathLike[str], usage: str) -> Path:
    """Find the file that a recipe's name or a path stands for.

    Parameters
    ----------
    name : str or path
        A recipe, e.g. ``default``, or the path of a file. The recipe is taken where a file has the same name.
    usage : str
        `TRAIN`, `SWEEP` or `CLUSTER`: what is to take it.

    Returns
    -------
    pathlib.Path
        The recipe's file, or the path as it is; whether a file is there is for its reader to find out.

    Raises
    ------
    ConfigError
        A single word is neither a recipe nor a file, or the recipe is for something else.
    """
    text = os.fspath(name)
    if not re.fullmatch(r"[\w-]+", text):
        return Path(text)
    if text in RECIPES:
        if RECIPES[text].usage != usage:
            raise ConfigError(
                f"{text}: is a recipe for {RECIPES[text].usage}; recipes for {usage}: {', '.join(recipe_names(usage))}"
            )
        return _FOLDER / f"{text}.yaml"
    if Path(text).is_file():
        return Path(text)
    near = difflib.get_close_matches(text.lower(), recipe_names(usage), 1, 0.6)
    fix = f"did you mean {near[0]}? " if near else ""
    known = ", ".join(recipe_names(usage))
    raise ConfigError(f"{text}: no such recipe or file; {fix}recipes for {usage}: {known}; or give a YAML file")


def recipe_text(name: str) -> str:
    """Text of a recipe's file, comments included, e.g. to copy and change it.

    Raises
    ------
    ConfigError
        There is no such recipe; names those there are.
    """
    if name not in RECIPES:
        raise ConfigError(f"{name}: no such recipe; there are {', '.join(RECIPES)}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
