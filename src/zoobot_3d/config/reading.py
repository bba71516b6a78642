"""Settings of a training run as text: YAML files, command lines, and the help of both.

An unknown key, or a value of the wrong type, is a `ConfigError` that names the key and the nearest valid one. Imports
neither torch nor models, so that ``zoobot3d train --help`` is quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobot_3d.config.recipes import TRAIN, recipe_file
from zoobot_3d.config.schema import Config
from zoobot_3d.errors import ConfigError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = [
    "check_key",
    "config_parser",
    "config_to_yaml",
    "differing_keys",
    "flat_config",
    "read_config",
    "setting_help",
    "valid_keys",
]

_OTHER_NAMES = {
    **dict.fromkeys(("learning_rate", "learningrate", "max_lr", "base_lr"), "train.lr"),
    **dict.fromkeys(("max_epochs", "num_epochs", "n_epochs", "passes"), "train.epochs"),
    **dict.fromkeys(("bs", "batchsize", "batch"), "data.batch_size"),
    **dict.fromkeys(("num_workers", "n_workers"), "data.workers"),
    **dict.fromkeys(("image_size", "img_size", "resolution"), "data.input_size"),
    **dict.fromkeys(("catalogue", "csv", "dataset", "data_path", "catalog_path"), "data.catalog"),
    **dict.fromkeys(("wd", "decay"), "train.weight_decay"),
    **dict.fromkeys(("arch", "architecture", "encoder", "backbone"), "model.name"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience"), "train.patience"),
    **dict.fromkeys(("gpus", "n_gpus", "num_gpus"), "train.devices"),
    **dict.fromkeys(("random_seed", "random_state"), "train.seed"),
    **dict.fromkeys(("criterion", "loss_function"), "train.loss"),
    **dict.fromkeys(("checkpoint", "pretrained", "weights", "resume_from"), "train.init"),
    **dict.fromkeys(("grad_clip", "gradient_clip_val"), "train.clip"),
    **dict.fromkeys(("max_step", "steps", "num_steps"), "train.max_steps"),
}
"""Names that settings have elsewhere."""

_OPEN_ENDED = ("model.options.", "data.group_shares.")  # free dictionaries, whose inner keys the network itself checks


def read_config(
    path: str | os.PathLike[str] | None,
    overrides: Sequence[str],
    inherit: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Config:
    """Read settings: defaults, then a YAML file, then overrides; see `zoobot_3d.learn.settings.load_config`.

    Parameters
    ----------
    path : path or None
        YAML with any of the keys of `Config`, e.g. ``data: {batch_size: 32}``, or a recipe, e.g. ``default``.
    overrides : sequence of str
        ``"data.batch_size=32"``, or as on a command line: ``"--data.batch_size", "32"`` or ``"--data.batch_size=32"``.
    inherit : callable
        Takes the given values by dotted key (as text where they come from `overrides`) and returns values for keys
        that are not given.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        The file is missing or no YAML mapping, a key does not exist, or a value has the wrong type or range.
    """
    from jsonargparse import ArgumentError

    tree: dict[str, Any] = {} if path is None else _read_yaml(recipe_file(path, TRAIN))
    where = "" if path is None else f"{os.fspath(path)}: "
    for group, entries in tree.items():
        for key, value in entries.items():
            check_key(f"{group}.{key}", where)
            _check_null(f"{group}.{key}", value, where)
    arguments = _as_arguments(overrides)
    tree = _with_inherited(tree, arguments, inherit)
    parser = config_parser()
    try:
        namespace = parser.parse_object(tree)
        namespace = parser.parse_args(arguments, namespace=namespace)
        config = parser.instantiate(namespace)
    except ArgumentError as error:
        raise ConfigError(where + _plain(str(error))) from error
    except ConfigError as error:  # raised by a dataclass's own check
        raise ConfigError(f"{where}{error}") from error
    return Config(model=config.model, data=config.data, train=config.train)


def _with_inherited(
    tree: dict[str, Any], arguments: Sequence[str], inherit: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, Any]:
    """Add the values that `inherit` finds for keys that are not given."""
    given = {f"{group}.{key}": value for group, entries in tree.items() for key, value in entries.items()}
    given |= {key.removeprefix("--"): value for key, _, value in (argument.partition("=") for argument in arguments)}
    tree = {group: dict(tree.get(group, {})) for group in _groups()}
    for dotted, value in inherit(given).items():
        group, _, key = dotted.partition(".")
        tree[group].setdefault(key, value)  # values in the arguments are applied later and win
    return tree


def config_parser() -> ArgumentParser:
    """Build a parser with an argument for every key, e.g. ``--data.batch_size``; for help texts and other commands."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, prog="zoobot3d train")
    parser.add_class_arguments(Config)
    return parser


def config_to_yaml(config: Config) -> str:
    """`config` as YAML that `load_config` reads back to the same object."""
    import yaml

    plain = dataclasses.asdict(config)
    plain = {
        group: {k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()} for group, keys in plain.items()
    }
    return yaml.safe_dump(plain, sort_keys=False)


def differing_keys(first: Config, second: Config) -> list[str]:
    """Dotted keys whose values differ, e.g. ``["data.batch_size"]``."""
    a, b = dict(_flat(dataclasses.asdict(first))), dict(_flat(dataclasses.asdict(second)))
    return [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


def flat_config(config: Config) -> dict[str, Any]:
    """Return every value under its dotted key, e.g. ``{"data.batch_size": 32}``."""
    return dict(_flat(dataclasses.asdict(config)))


def valid_keys() -> list[str]:
    """Every dotted key that can be set, in the order of the dataclasses."""
    hints = typing.get_type_hints(Config)
    return [f"{group}.{key.name}" for group in hints for key in dataclasses.fields(hints[group])]


def setting_help() -> str:
    """Return every key with its default and its meaning, for the help of ``zoobot3d train``."""
    lines = []
    for group in _groups():
        section = typing.get_type_hints(Config)[group]
        defaults, meanings = section(), _attribute_docs(section)
        for key in dataclasses.fields(section):
            default = getattr(defaults, key.name)
            meaning = textwrap.fill(meanings[key.name], 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
            lines.append(f"  --{group}.{key.name}{_default(default)}\n{meaning}")
    return "\n".join(lines)


def _default(value: object) -> str:
    """Write a default value as it is given on the command line; nothing for an empty one."""
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return f" (default: {str(value).lower()})"
    return f" (default: {list(value) if isinstance(value, tuple) else value})"


def _attribute_docs(section: type) -> dict[str, str]:
    """Read the Attributes of a NumPy docstring: name -> text on one line."""
    body = (section.__doc__ or "").partition("Attributes\n    ----------\n")[2]
    entries = re.findall(r"^    (\w+) : .*\n((?:^        .*\n?)+)", body, re.MULTILINE)
    return {name: _one_line(text) for name, text in entries}


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give a YAML file or a recipe (zoobot3d recipes lists them)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({_one_line(str(error))}); give a YAML text file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML ({_one_line(str(error))})") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__} instead of the groups {', '.join(_groups())}")
    for group, entries in tree.items():
        if group in _groups() and entries is not None and not isinstance(entries, dict):
            raise ConfigError(f"{path}: {group}: is {entries!r} instead of keys such as {_example(group)}")
        if group not in _groups():
            check_key(str(group), f"{path}: ")
    # A group without entries ("data:" alone) means its defaults.
    return {group: entries or {} for group, entries in tree.items()}


def _as_arguments(overrides: Sequence[str]) -> list[str]:
    """Write overrides as ``--key=value`` arguments, each key checked."""
    arguments: list[str] = []
    items = iter(overrides)
    for item in items:
        key, equals, value = item.removeprefix("--").partition("=")
        if not equals:
            if not item.startswith("--"):
                raise ConfigError(f"{item!r}: is not a setting; write key=value, e.g. data.batch_size=32")
            try:
                value = next(items)
            except StopIteration:
                raise ConfigError(f"{key}: has no value; write --{key} VALUE") from None
        check_key(key, "")
        _check_null(key, None if value in ("null", "~") else value, "")
        arguments.append(f"--{key}={value}")
    return arguments


def check_key(key: str, where: str = "") -> None:
    """Make sure that a dotted key can be set.

    Parameters
    ----------
    key : str
        E.g. ``data.batch_size``, or anything in ``model.options``, which the network itself checks.
    where : str
        Begins the message, e.g. the name of the file.

    Raises
    ------
    ConfigError
        It cannot; names the nearest key.
    """
    keys = valid_keys()
    if key in keys or key.startswith(_OPEN_ENDED):
        return
    if key in _groups():
        raise ConfigError(f"{where}{key}: is a group of keys; set one of them, e.g. {_example(key)}")
    if other := _OTHER_NAMES.get(key.rpartition(".")[2].lower()):
        raise ConfigError(f"{where}{key}: no such key; did you mean {other}?")
    # Compare whole keys first, then last parts: "batch_size" alone should lead to "data.batch_size".
    nearest = difflib.get_close_matches(key, keys, 1, 0.6)
    if not nearest:
        last = {name.rpartition(".")[2]: name for name in keys}
        nearest = [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], list(last), 1, 0.5)]
    fix = f"did you mean {nearest[0]}?" if nearest else f"valid keys: {', '.join(keys)}"
    raise ConfigError(f"{where}{key}: no such key; {fix}")


def _check_null(key: str, value: object, where: str) -> None:
    """Raise `ConfigError` if a value is null where that has no meaning: the parser would let it pass."""
    group, _, name = key.partition(".")
    if value is None and not key.startswith(_OPEN_ENDED):
        hint = typing.get_type_hints(typing.get_type_hints(Config)[group])[name]
        if type(None) not in typing.get_args(hint):
            raise ConfigError(f"{where}{key}: is null; give a value, or leave it out for the default")


def _groups() -> list[str]:
    return [group.name for group in dataclasses.fields(Config)]


def _example(group: str) -> str:
    return next(key for key in valid_keys() if key.startswith(f"{group}."))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(message: str) -> str:
    """Put jsonargparse's message on a wrong value into one line: key, what is expected, what it got."""
    message = re.sub(r'^Parser key "([^"]+)": ?', r"\1: ", _one_line(message))
    message = re.sub(r"Expected an? (?:typing\.)?(.+)\. Got value: ", r"expected \1, got ", message)
    return re.sub(r"<class '(\w+)'>", r"\1", message)


def _one_line(text: str) -> str:
    return " ".join(text.split())
