"""What a sweep may try: a YAML file of ranges and choices for keys of the configuration, and configurations from it.

The file has any of the keys of a training configuration, which hold for all trials, and beside them::

    config: default             # a training configuration to begin with: a recipe, or a file relative to this one
    metric: soft_iou            # soft_iou or iou_0.2: what a trial is judged by
    pruning: {startup_trials: 5, warmup_epochs: 3}
    search:
      train.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
      model.name: {choices: [fast_unet, published_unet]}
      model.options.dropouts.1: {low: 0.0, high: 0.5}    # the second of a list; only for networks with this option
      model.options.relu_output: {choices: [false], when: {train.loss: [bce, beta_binomial]}}

Knows nothing of journals, trials' folders or training: a trial is whatever can ``suggest_float`` and so on.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from zoobot_3d.config.reading import check_key, config_to_yaml, flat_config
from zoobot_3d.config.recipes import RECIPES, SWEEP, recipe_file
from zoobot_3d.config.schema import Config
from zoobot_3d.errors import ConfigError
from zoobot_3d.learn.settings import load_config
from zoobot_3d.networks import MODEL_NAMES, model_options

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["METRICS", "Parameter", "SearchSpace", "load_search_space"]

METRICS = ("soft_iou", "iou_0.2")
"""Scores that mean the same whichever loss was trained with; the validation loss does not."""
_OPTIONS = "model.options."
_GROUPS = tuple(field.name for field in dataclasses.fields(Config))
_OWN_KEYS = ("config", "metric", "pruning", "search")


@dataclass(frozen=True)
class Parameter:
    """One key to search.

    Attributes
    ----------
    key : str
        Dotted; may end in the index of a list's element.
    choices : tuple
        Values to choose from; empty for a range.
    low, high : float
        Range, both ends included. Integers if the key takes integers.
    log : bool
        Draw the logarithm evenly.
    when : dict
        Only tried when other keys have one of these values: key -> values.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    def suggest(self, trial: Trial) -> Any:
        """Let a trial choose a value."""
        if self.choices:
            # What a journal can keep: lists as text.
            texts = [c if isinstance(c, str | int | float | bool | None) else json.dumps(c) for c in self.choices]
            return self.choices[texts.index(trial.suggest_categorical(self.key, texts))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def ends(self) -> tuple[Any, ...]:
        """Return every choice, or both ends of the range."""
        return self.choices or (self.low, self.high)


@dataclass(frozen=True)
class SearchSpace:
    """All that a sweep is told.

    Attributes
    ----------
    base : Config
        What holds for all trials.
    parameters : tuple of Parameter
        What is searched; conditions look back only.
    metric : str
        One of `METRICS`; a trial's value is its mean over the classes.
    startup_trials : int
        Trials that must have finished before any is stopped early.
    warmup_epochs : int
        Epochs that every trial is given.
    """

    base: Config
    parameters: tuple[Parameter, ...]
    metric: str = METRICS[0]
    startup_trials: int = 5
    warmup_epochs: int = 3

    def configure(self, trial: Trial) -> Config:
        """Let a trial choose a value for every key that applies, and return its configuration.

        Raises
        ------
        ConfigError
            The values do not go together.
        """
        values = flat_config(self.base)
        chosen: dict[str, Any] = {}
        for parameter in self.parameters:
            if _applies(parameter, values | chosen):
                chosen[parameter.key] = parameter.suggest(trial)
        return _with_values(self.base, chosen)

    def to_yaml(self) -> str:
        """All of it, as text: equal for equal sweeps."""
        search = {p.key: _as_entry(p) for p in self.parameters}
        pruning = {"startup_trials": self.startup_trials, "warmup_epochs": self.warmup_epochs}
        own = {"metric": self.metric, "pruning": pruning, "search": search}
        return config_to_yaml(self.base) + yaml.safe_dump(own, sort_keys=False)


def load_search_space(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> SearchSpace:
    """Read a sweep's YAML file and make sure that everything in it can be tried.

    Parameters
    ----------
    path : path
        See the top of this module; or the name of a recipe, ``sweep``.
    overrides : sequence of str
        Settings for all trials, as in `zoobot_3d.learn.settings.load_config`.

    Returns
    -------
    SearchSpace

    Raises
    ------
    ConfigError
        The file cannot be read; a key does not exist or is searched and given; a range or a value does not fit.
    """
    path = recipe_file(path, SWEEP)
    tree = _read(path)
    inline = {key: tree[key] for key in _GROUPS if tree.get(key)}
    settings = [f"{key}={_as_text(value)}" for key, value in _flat(inline, path)]
    first = _first(tree.get("config"), path.parent)
    base = load_config(first, [*settings, *overrides])
    pruning = _mapping(tree.get("pruning") or {}, f"{path}: pruning", ("startup_trials", "warmup_epochs"))
    for key, value in pruning.items():
        if not isinstance(value, int) or value < 0:
            raise ConfigError(f"{path}: pruning.{key}: {value!r} is not a count; give 0 or more")
    metric = tree.get("metric", METRICS[0])
    if metric not in METRICS:
        raise ConfigError(f"{path}: metric: {metric!r} is unknown; choose one of {', '.join(METRICS)}")
    entries = tree.get("search")
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{path}: search: names no key; give some, e.g. train.lr: {{low: 0.0001, high: 0.01}}")
    names = entries.get("model.name", {})
    models = names.get("choices") if isinstance(names, dict) else None
    models = [base.model.name] if models is None else models
    for name in models:
        if name not in MODEL_NAMES:
            raise ConfigError(
                f"{path}: search.model.name: no model is called {name!r}; choose {', '.join(MODEL_NAMES)}"
            )
    parameters = [_parameter(str(key), entry, base, models, path) for key, entry in entries.items()]
    # What others depend on comes first.
    parameters.sort(key=lambda p: (p.key != "model.name", bool(p.when), p.key.startswith(_OPTIONS)))
    return SearchSpace(base, tuple(parameters), metric, **pruning)


def _first(config: Any, folder: Path) -> str | Path | None:
    """Where the settings are that hold for all trials: a recipe, or a file beside the plan."""
    return config if config is None or config in RECIPES else folder / str(config)


def _parameter(key: str, entry: Any, base: Config, models: Sequence[str], path: Path) -> Parameter:
    """Check one entry of ``search``."""
    where = f"{path}: search.{key}"
    whole, index = _split_index(key)
    if whole.startswith(_OPTIONS):
        default = _option_default(whole.removeprefix(_OPTIONS), models, where)
    else:
        check_key(whole, f"{path}: search: ")
        default = flat_config(Config())[whole]
    if index is not None:
        if not isinstance(default, list | tuple) or index >= len(default):
            raise ConfigError(f"{where}: {whole} has no element {index}; its default is {default!r}, counted from 0")
        default = default[index]
    entry = _mapping(entry, where, ("low", "high", "log", "choices", "when"))
    when = {}
    for other, values in _mapping(entry.get("when", {}), f"{where}.when").items():
        check_key(other, f"{where}.when: ")
        when[other] = tuple(values) if isinstance(values, list) else (values,)
    if "choices" in entry:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices or {"low", "high", "log"} & entry.keys():
            raise ConfigError(f"{where}: give either a list of choices, or low and high (and log)")
        parameter = Parameter(key, tuple(choices), when=when)
    else:
        if not {"low", "high"} <= entry.keys():
            raise ConfigError(f"{where}: has neither choices nor low and high; give {{low: ..., high: ...}}")
        low, high, log = _number(entry["low"], where), _number(entry["high"], where), bool(entry.get("log", False))
        if not low < high or (log and low <= 0):
            raise ConfigError(f"{where}: {low} to {high} is no range{' of logarithms' * log}; give low below high")
        whole_numbers = isinstance(default, int) and not isinstance(default, bool) and low == int(low)
        low, high = (int(low), int(high)) if whole_numbers else (float(low), float(high))
        parameter = Parameter(key, (), low, high, log, when)
    if not whole.startswith(_OPTIONS) and index is None:
        parsed = []
        for value in parameter.ends():  # the configuration's own checks of type and range
            try:
                parsed.append(flat_config(load_config(overrides=[f"{key}={_as_text(value)}"])).get(key))
            except ConfigError as error:
                raise ConfigError(f"{path}: search.{error}") from None
        if parameter.choices:
            parameter = dataclasses.replace(parameter, choices=tuple(parsed))
    return parameter


def _option_default(option: str, models: Sequence[str], where: str) -> Any:
    """Return the default of a network's option, in the first network that has it."""
    for name in models:
        if option in model_options(name):
            return model_options(name)[option]
    known = sorted({key for name in models for key in model_options(name)})
    nearest = difflib.get_close_matches(option, known, 1, 0.4)
    fix = f"did you mean {_OPTIONS}{nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    raise ConfigError(f"{where}: no such option of {', '.join(models)}; {fix}")


def _applies(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Tell whether a key means anything, given what was chosen before."""
    if parameter.key.startswith(_OPTIONS):
        option, _ = _split_index(parameter.key.removeprefix(_OPTIONS))
        if option not in model_options(values["model.name"]):
            return False
    return all(values.get(key) in allowed for key, allowed in parameter.when.items())


def _with_values(base: Config, chosen: Mapping[str, Any]) -> Config:
    """Put values into a configuration; options that the chosen network has not are left out."""
    name = chosen.get("model.name", base.model.name)
    defaults = model_options(name)
    groups: dict[str, dict[str, Any]] = {group: {} for group in _GROUPS}
    options = {key: value for key, value in base.model.options.items() if key in defaults}
    for key, value in chosen.items():
        whole, index = _split_index(key)
        if whole.startswith(_OPTIONS):
            target, last = options, whole.removeprefix(_OPTIONS)
            before = options.get(last, defaults[last])
        else:
            group, _, last = whole.partition(".")
            target = groups[group]
            before = target.get(last, getattr(getattr(base, group), last))
        target[last] = value if index is None else type(before)([*before[:index], value, *before[index + 1 :]])
    groups["model"]["options"] = options
    return Config(**{group: dataclasses.replace(getattr(base, group), **groups[group]) for group in _GROUPS})


def _as_entry(parameter: Parameter) -> dict[str, Any]:
    entry: dict[str, Any] = (
        {"choices": [list(c) if isinstance(c, tuple) else c for c in parameter.choices]}
        if parameter.choices
        else {"low": parameter.low, "high": parameter.high, "log": parameter.log}
    )
    return entry | ({"when": {k: list(v) for k, v in parameter.when.items()}} if parameter.when else {})


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; give a YAML file, or sweep, the recipe that comes with the package"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    return _mapping(tree, str(path), (*_OWN_KEYS, *_GROUPS))


def _mapping(value: Any, where: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Make sure that `value` is a mapping with no other keys than `keys`, if there are any."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: is {value!r} instead of keys and values ({', '.join(keys) or 'key: value'})")
    for key in value:
        if keys and key not in keys:
            nearest = difflib.get_close_matches(str(key), keys, 1, 0.5)
            raise ConfigError(f"{where}: no such key {key}; did you mean {(nearest or [' or '.join(keys)])[0]}?")
    return value


def _split_index(key: str) -> tuple[str, int | None]:
    whole, _, last = key.rpartition(".")
    return (whole, int(last)) if whole and last.isdigit() else (key, None)


def _flat(tree: Mapping[str, Any], path: Path) -> list[tuple[str, Any]]:
    """Dotted keys of a configuration's groups; a network's options stay together."""
    return [
        (f"{group}.{key}", value) for group in tree for key, value in _mapping(tree[group], f"{path}: {group}").items()
    ]


def _as_text(value: Any) -> str:
    """Write a value as on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: Any, where: str) -> float:
    try:
        return (
            value if isinstance(value, int | float) and not isinstance(value, bool) else float(value)
        )  # "1e-4" is text
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: {value!r} is not a number") from None
