"""Settings of a training: what the user gives, completed from the bundle that the training starts from.

Imports no torch, so that ``zoobot3d train --help`` and a wrong key are quick.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from zoobot_3d.config.reading import read_config
from zoobot_3d.config.schema import Config
from zoobot_3d.infer.bundle import read_info

__all__ = ["load_config"]


def load_config(path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a training's settings: defaults, then a YAML file, then overrides.

    Where ``train.init`` names a bundle, the network, the loss, and the size and field of the pictures that are not
    given are the bundle's.

    Parameters
    ----------
    path : path, optional
        YAML with any of the keys of `Config`, e.g. ``data: {batch_size: 32}``, or a recipe, e.g. ``default``
        (`zoobot_3d.config.recipes`).
    overrides : sequence of str
        ``"data.batch_size=32"``, or as on a command line: ``"--data.batch_size", "32"`` or ``"--data.batch_size=32"``.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        The file is missing or no YAML mapping, a key does not exist, or a value has the wrong type or range.
    BundleError
        ``train.init`` names no bundle, and something would be taken from it.
    """
    return read_config(path, overrides, _from_bundle)


def _from_bundle(given: Mapping[str, Any]) -> dict[str, Any]:
    """Network, loss, size and field of the pictures of the bundle that ``train.init`` names."""
    init, has_model = given.get("train.init"), any(key.startswith(("model.name", "model.options")) for key in given)
    wanted = ("data.input_size", "data.field_fraction", "train.loss")
    if not isinstance(init, str) or init == "null" or (has_model and all(key in given for key in wanted)):
        return {}
    info = read_info(init)
    found = {key: getattr(info, key.partition(".")[2]) for key in wanted}
    if not has_model:
        options = dict(info.model_options)
        loss = given.get("train.loss", info.loss)
        if "relu_output" in options and loss != info.loss:
            options["relu_output"] = loss in ("l1", "mse")  # logits must be free to be negative
        found |= {"model.name": info.model_name, "model.options": options}
    return found
