"""Precision and recall of binary masks: which threshold to take. Numbers in, numbers out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.schema import CLASSES

__all__ = ["THRESHOLDS", "BinaryScores"]

THRESHOLDS = (0.2, 0.5)
"""Fractions of volunteers at which masks are cut."""


class BinaryScores:
    """Counts of pixels at or above each threshold, in the prediction, for the volunteers, and in both."""

    def __init__(self) -> None:
        self.counts = np.zeros((len(CLASSES), len(THRESHOLDS), 3), np.int64)  # both, predicted, volunteers

    def update(self, fraction: NDArray[Any], votes: NDArray[Any], n_asked: NDArray[Any]) -> None:
        """Add maps (B, 2, H, W): predicted fractions, votes and volunteers asked, 0 where unknown."""
        for t, threshold in enumerate(THRESHOLDS):
            known = n_asked > 0
            predicted = known & (fraction >= np.float32(threshold))
            volunteers = known & (votes >= threshold * n_asked - 1e-6)  # 3 of 15 are 0.2, whatever the rounding
            for k, mask in enumerate((predicted & volunteers, predicted, volunteers)):
                self.counts[:, t, k] += mask.sum(axis=(0, 2, 3))

    def compute(self) -> dict[str, float]:
        """Return ``<class>_precision_<threshold>`` and ``<class>_recall_<threshold>``; NaN where undefined."""
        scores = {}
        for c, name in enumerate(CLASSES):
            for t, threshold in enumerate(THRESHOLDS):
                both, predicted, volunteers = self.counts[c, t].tolist()
                scores[f"{name}_precision_{threshold:g}"] = both / predicted if predicted else math.nan
                scores[f"{name}_recall_{threshold:g}"] = both / volunteers if volunteers else math.nan
        return scores
