"""How near predicted fractions are to volunteers' fractions, for each class: MAE, IoU and soft IoU.

Torch and torchmetrics only. All scores pool the pixels of all galaxies before dividing, so a galaxy with much arm
weighs more than one with little. Pixels of which n_asked is 0 do not count. A score of which the denominator is 0 is
NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.labels import broadcast_asked
from zoobot_3d.schema import CLASSES

IOU_THRESHOLDS = (0.0, 0.2)
"""A pixel is in the mask when its fraction is above this. 0 means: when at least one volunteer enclosed it."""

_ROUNDING = 1e-6  # 3 votes of 15 are not above 0.2, whatever the last bit of the division says


def _checked(fraction: Tensor, votes: Tensor, n_asked: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return fraction, true fraction, n_asked (at least 1) and known, all (B, classes, H, W); unknown pixels are 0."""
    asked = broadcast_asked(n_asked, votes).expand_as(votes)
    if fraction.shape != votes.shape:
        raise ConfigError(f"fractions have shape {tuple(fraction.shape)} and votes {tuple(votes.shape)}; give the same")
    if not fraction.is_floating_point():
        raise ConfigError(f"fractions are {fraction.dtype}; give floats in 0-1")
    known, nothing = asked > 0, torch.zeros((), device=votes.device)
    safe_asked = asked.clamp_min(1.0)
    truth = torch.where(known, votes.float() / safe_asked, nothing)
    return torch.where(known, fraction.float(), nothing), truth, safe_asked, known


def _above(fraction: Tensor, asked: Tensor, threshold: float) -> Tensor:
    """Return where a fraction is above a threshold; above 0 means that it rounds to at least one vote.

    A sigmoid is never exactly 0, so without that rule every pixel of every prediction would be above 0.
    """
    return fraction > ((0.5 / asked) if threshold == 0 else threshold + _ROUNDING)


def _per_class(values: Tensor) -> Tensor:
    return values.sum(dim=(0, 2, 3))


def _sums(fraction: Tensor, votes: Tensor, n_asked: Tensor) -> dict[str, Tensor]:
    """Return what the scores divide, each (classes,): numerators and denominators that add up over batches."""
    fraction, truth, asked, known = _checked(fraction, votes, n_asked)
    sums = {
        "error": _per_class((fraction - truth).abs()),
        "pixels": _per_class(known),
        "minimum": _per_class(torch.minimum(fraction, truth)),
        "maximum": _per_class(torch.maximum(fraction, truth)),
    }
    for threshold in IOU_THRESHOLDS:
        model, volunteers = (_above(each, asked, threshold) for each in (fraction, truth))
        sums[f"both_{_label(threshold)}"] = _per_class(model & volunteers)
        sums[f"either_{_label(threshold)}"] = _per_class(model | volunteers)
    return sums


def _label(threshold: float) -> str:
    """Return the threshold as a Python name may hold it."""
    return f"{round(threshold * 100):02d}"


def masked_mae(fraction: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
    """Mean absolute error of the fraction, for each class.

    Parameters
    ----------
    fraction : Tensor
        Predicted fractions in 0-1, (B, classes, H, W).
    votes : Tensor
        Volunteers who enclosed each pixel, (B, classes, H, W).
    n_asked : Tensor
        Volunteers asked, (B, classes) or (B, classes, H, W); 0 where unknown.

    Returns
    -------
    Tensor
        (classes,); NaN where nothing is known.

    Raises
    ------
    ConfigError
        If shapes do not go together or fractions are not floats.
    """
    fraction, truth, _, known = _checked(fraction, votes, n_asked)
    return _per_class((fraction - truth).abs()) / _per_class(known)


def masked_iou(fraction: Tensor, votes: Tensor, n_asked: Tensor, threshold: float = 0.2) -> Tensor:
    """Intersection over union of the pixels above a threshold, for each class.

    Parameters
    ----------
    fraction, votes, n_asked : Tensor
        As in `masked_mae`.
    threshold : float
        Both masks are where the fraction is above this. At 0, where it rounds to at least one vote:
        ``fraction > 0.5 / n_asked``.

    Returns
    -------
    Tensor
        (classes,); NaN where neither mask has a pixel.

    Raises
    ------
    ConfigError
        As in `masked_mae`.
    """
    fraction, truth, asked, _ = _checked(fraction, votes, n_asked)
    model, volunteers = _above(fraction, asked, threshold), _above(truth, asked, threshold)
    return _per_class(model & volunteers) / _per_class(model | volunteers)


def masked_soft_iou(fraction: Tensor, votes: Tensor, n_asked: Tensor) -> Tensor:
    """Sum of the smaller over sum of the larger of predicted and true fraction, for each class.

    Parameters
    ----------
    fraction, votes, n_asked : Tensor
        As in `masked_mae`.

    Returns
    -------
    Tensor
        (classes,); NaN where both are 0 everywhere.

    Raises
    ------
    ConfigError
        As in `masked_mae`.
    """
    fraction, truth, _, _ = _checked(fraction, votes, n_asked)
    return _per_class(torch.minimum(fraction, truth)) / _per_class(torch.maximum(fraction, truth))


class MeanLoss(Metric):
    """Weighted mean of a loss over batches and processes, of which some may have nothing to add."""

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, weight: Tensor | float) -> None:
        """Add the mean loss of a batch, and how much it weighs.

        Parameters
        ----------
        loss : Tensor
            Scalar.
        weight : Tensor or float
            E.g. the number of galaxies; 0 if the batch has nothing to say, whatever the loss.
        """
        if weight > 0:
            self.total = self.total + loss.detach() * weight
            self.weight = self.weight + weight

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the mean, 0 without any weight, and the sum of the weights."""
        return self.total / self.weight if self.weight > 0 else self.total, self.weight


class SegmentationMetrics(Metric):
    """All scores of both classes, added up over batches and processes."""

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("error", "minimum", "maximum"):
            self.add_state(name, torch.zeros(len(CLASSES)), dist_reduce_fx="sum")
        counts = [f"{kind}_{_label(threshold)}" for kind in ("both", "either") for threshold in IOU_THRESHOLDS]
        for name in ("pixels", *counts):
            self.add_state(name, torch.zeros(len(CLASSES), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, fraction: Tensor, votes: Tensor, n_asked: Tensor) -> None:
        """Add a batch.

        Parameters
        ----------
        fraction, votes, n_asked : Tensor
            As in `masked_mae`.

        Raises
        ------
        ConfigError
            As in `masked_mae`.
        """
        for name, value in _sums(fraction.detach(), votes, n_asked).items():
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores.

        Returns
        -------
        dict
            ``<class>_mae``, ``<class>_iou_0``, ``<class>_iou_0.2``, ``<class>_soft_iou``, each a scalar; NaN where
            undefined.
        """
        state: Mapping[str, Tensor] = {name: getattr(self, name) for name in self._defaults}
        scores = {"mae": state["error"] / state["pixels"]}
        for threshold in IOU_THRESHOLDS:
            both, either = (state[f"{kind}_{_label(threshold)}"] for kind in ("both", "either"))
            scores[f"iou_{threshold:g}"] = both / either
        scores["soft_iou"] = state["minimum"] / state["maximum"]
        return {f"{name}_{key}": value[i] for i, name in enumerate(CLASSES) for key, value in scores.items()}
