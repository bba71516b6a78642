"""What an evaluation found: scores, their errors, calibration, and the scores of each galaxy."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from zoobot_3d.report.binary_masks import THRESHOLDS
from zoobot_3d.schema import CLASSES

__all__ = ["Evaluation", "with_error"]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes
    ----------
    n_galaxies, n_failed : int
        Galaxies measured, and those whose picture or marks could not be read.
    model : dict
        ``<class>_mae``, ``_iou_0``, ``_iou_0.2``, ``_soft_iou``: model against all volunteers. ``_precision_0.2``,
        ``_recall_0.2``, ``_precision_0.5``, ``_recall_0.5``: both cut at this fraction, see
        `zoobot_3d.report.binary_masks`.
    ceiling : dict
        The same of one random half of the volunteers against the other; halves are noisier than the whole, so a model
        can do better.
    reliability : dict
        For each class ``predicted`` (mean prediction in a bin), ``observed`` (fraction of volunteers there), ``error``
        (standard error of that fraction, from its scatter among galaxies) and ``pixels``, over pixels where the
        prediction exceeds 0.025; bins are 0.05 wide, and empty ones are left out.
    calibration_error : dict
        For each class the expected calibration error: the mean of abs(observed - predicted) weighted with pixels (Guo
        et al. 2017, arXiv:1706.04599, eq. 3), over pixels where the prediction exceeds 0.025, as the empty sky would
        hide everything else. NaN where there are none.
    failures : dict
        Name of a galaxy that could not be read, to the reason.
    model_error, ceiling_error : dict
        Standard errors of the scores ``<class>_iou_0.2`` and ``<class>_mae`` of ``model`` and ``ceiling``, from the
        scatter among galaxies.
    galaxies : pandas.DataFrame
        Scores of each galaxy, the worst first, with the columns of `zoobot_3d.report.galaxy_scores.GalaxyScores.table`.
        Its index is the galaxy's row among those that were evaluated.
    """

    n_galaxies: int
    n_failed: int
    model: dict[str, float]
    ceiling: dict[str, float]
    reliability: dict[str, dict[str, list[float]]]
    calibration_error: dict[str, float]
    failures: dict[str, str]
    model_error: dict[str, float] = field(default_factory=dict)
    ceiling_error: dict[str, float] = field(default_factory=dict)
    galaxies: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    def __repr__(self) -> str:
        """Give the number of galaxies and the overlap of each class, in one line."""
        told = ", ".join(f"{name} {self.model.get(f'{name}_iou_0.2', math.nan):.3f}" for name in CLASSES)
        return f"Evaluation({self.n_galaxies} galaxies, {self.n_failed} unreadable; IoU at > 0.2: {told})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON, without ``galaxies``; None stands for NaN, which JSON does not have."""
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "galaxies"}
        result: dict[str, Any] = _without_nan(content)
        return result

    def table(self) -> list[list[str]]:
        """Return rows of text under a header: each score of the model and of the halves, and their ratio."""
        labels = {
            "iou_0.2": "IoU at > 0.2",
            "iou_0": "IoU at > 0",
            "soft_iou": "soft IoU",
            "mae": "mean absolute error",
        }
        rows = [["", "model", "volunteers' halves", "model / halves"]]
        for name in CLASSES:
            for key, label in labels.items():
                model, ceiling = self.model[f"{name}_{key}"], self.ceiling[f"{name}_{key}"]
                ratio = f"{model / ceiling:.2f}" if ceiling > 0 else "-"
                told = [
                    with_error(value, errors.get(f"{name}_{key}"), 4 if key == "mae" else 3)
                    for value, errors in ((model, self.model_error), (ceiling, self.ceiling_error))
                ]
                rows.append([f"{name}: {label}", *told, ratio])
            rows.append([f"{name}: calibration error", f"{self.calibration_error[name]:.3f}", "", ""])
        return rows

    def binary_table(self) -> list[list[str]]:
        """Return rows of text under a header: precision and recall of binary masks at each threshold."""
        rows = [["", *(f"{who} {score}" for who in ("model", "halves'") for score in ("precision", "recall"))]]
        for name in CLASSES:
            for threshold in THRESHOLDS:
                keys = [f"{name}_{score}_{threshold:g}" for score in ("precision", "recall")]
                found = [scores.get(key, math.nan) for scores in (self.model, self.ceiling) for key in keys]
                cells = ["-" if math.isnan(value) else f"{value:.2f}" for value in found]
                rows.append([f"{name} at {threshold:g}", *cells])
        return rows


def with_error(value: float, error: float | None, digits: int) -> str:
    """Write a number and its standard error, if that is known."""
    told = f"{value:.{digits}f}"
    return told if error is None or not math.isfinite(error) else f"{told} ± {error:.{digits}f}"


def _without_nan(content: Any) -> Any:
    """Put None in place of every NaN and infinity of nested dicts and lists."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
