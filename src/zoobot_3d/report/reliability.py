"""Calibration of predicted fractions: how they compare with the fraction of volunteers, in bins of the prediction.

Numbers in, numbers out; `zoobot_3d.report.figures.reliability` draws them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.report.galaxy_scores import standard_error
from zoobot_3d.schema import CLASSES

__all__ = ["N_BINS", "OCCUPIED", "Reliability"]

N_BINS = 20

OCCUPIED = 0.025
"""A pixel where no more than this is predicted counts as empty sky, and not for the calibration.

The choice of pixels must not depend on what volunteers said. Faint predictions would then count only where volunteers
saw something, and even a perfect network would seem to predict too little there.
"""


class Reliability:
    """Sums of predicted fractions and fractions of volunteers, for each class, in bins of the predicted fraction."""

    def __init__(self) -> None:
        self.sums = np.zeros((2, 3, N_BINS))  # pixels, sum of predictions, sum of observed
        self.galaxies: list[NDArray[np.float64]] = []  # the same of single galaxies

    def update(self, fraction: NDArray[Any], votes: NDArray[Any], n_asked: NDArray[Any]) -> None:
        """Add maps (B, 2, H, W): predicted fractions, votes and volunteers asked, 0 where unknown."""
        for one_fraction, one_votes, one_asked in zip(fraction, votes, n_asked, strict=True):
            before = self.sums.copy()
            for c in range(2):
                asked = one_asked[c] > 0
                predicted = one_fraction[c][asked].astype(float)
                observed = one_votes[c][asked] / one_asked[c][asked].astype(float)
                self.add(c, predicted, observed, np.ones_like(predicted))
            self.galaxies.append(self.sums - before)

    def add(self, c: int, predicted: NDArray[Any], observed: NDArray[Any], pixels: NDArray[Any]) -> None:
        """Add groups of pixels of class ``c``: mean prediction, mean fraction of volunteers, and number of pixels."""
        occupied = predicted > OCCUPIED
        predicted, observed, pixels = predicted[occupied], observed[occupied], pixels[occupied]
        bins = np.minimum((predicted * N_BINS).astype(int), N_BINS - 1)
        for row, values in enumerate((1.0, predicted, observed)):
            self.sums[c, row] += np.bincount(bins, values * pixels, N_BINS)

    def compute(self) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
        """Curves and expected calibration errors."""
        curves, errors = {}, {}
        for c, name in enumerate(CLASSES):
            filled = self.sums[c, 0] > 0
            pixels, predicted, observed = self.sums[c][:, filled]
            curves[name] = {
                "predicted": (predicted / pixels).tolist(),
                "observed": (observed / pixels).tolist(),
                "error": self._errors(c)[filled].tolist(),
                "pixels": pixels.tolist(),
                "galaxies": self._occupied(c)[filled].tolist(),
            }
            errors[name] = float(np.abs(observed - predicted).sum() / pixels.sum()) if pixels.size else float("nan")
        return curves, errors

    def _occupied(self, c: int) -> NDArray[np.int64]:
        """Count the galaxies that have pixels in each bin."""
        return np.sum([each[c, 0] > 0 for each in self.galaxies], axis=0, dtype=np.int64) + np.zeros(N_BINS, np.int64)

    def _errors(self, c: int) -> NDArray[np.float64]:
        """Return the standard error of the observed fraction in each bin; NaN with fewer than 2 galaxies."""
        if not self.galaxies:
            return np.full(N_BINS, np.nan)
        each = np.stack(self.galaxies)[:, c]
        errors = [standard_error(each[:, 2, b], each[:, 0, b]) for b in range(N_BINS)]
        return np.where(self._occupied(c) > 1, errors, np.nan)
