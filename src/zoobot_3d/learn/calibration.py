"""Temperature scaling: make a bundle's fractions mean what they say, on galaxies it was not trained on.

The logit of each class's fraction is divided by one number, the temperature, for which the votes of the validation
galaxies are likeliest (Guo et al. 2017, arXiv:1706.04599, section 4.2): above 1 where a network is too sure of itself,
below 1 where it is too timid. The order of pixels stays; 0, 1/2 and 1 stay; so a mask cut at 1/2 stays too, and one
cut at 0.2 grows where the temperature is above 1. Knows nothing of training.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.errors import BundleError, CatalogError
from zoobot_3d.infer.bundle import DEFAULT, load_bundle, save_info
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.report.evaluate import Reliability, batches, network_input, open_dataset
from zoobot_3d.schema import CLASSES

__all__ = ["Calibration", "VoteHistogram", "calibrate"]

_BOUNDS = (0.2, 5.0)  # of a temperature; a network that needs more than this needs more than a temperature
_EDGE = 16.0  # logits beyond this (a fraction of 1e-7) are taken as this
_BINS = 4096  # over 2 * _EDGE: a bin is 0.008 wide, so that a fraction is known to 0.001 where it changes fastest


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found; each tuple is in the order of `zoobot_3d.schema.CLASSES`.

    Attributes
    ----------
    temperature : tuple of float
        Now in the bundle.
    before : tuple of float
        The temperature that was there.
    error_before, error_after : tuple of float
        Expected calibration error with each, see `zoobot_3d.report.evaluate.Evaluation.calibration_error`.
    likelihood_before, likelihood_after : tuple of float
        Negative log likelihood of the votes with each, a volunteer and pixel.
    n_galaxies, n_failed : int
        Galaxies with marks, and those that could not be read.
    """

    temperature: tuple[float, ...]
    before: tuple[float, ...]
    error_before: tuple[float, ...]
    error_after: tuple[float, ...]
    likelihood_before: tuple[float, ...]
    likelihood_after: tuple[float, ...]
    n_galaxies: int
    n_failed: int

    def table(self) -> list[list[str]]:
        """Rows of text under a header, a class a row."""
        rows = [["", "temperature", "calibration error before", "after", "cost of the votes before", "after"]]
        for c, name in enumerate(CLASSES):
            errors = (self.error_before[c], self.error_after[c])
            costs = (self.likelihood_before[c], self.likelihood_after[c])
            rows.append(
                [name, f"{self.temperature[c]:.3f}", *(_told(v, 4) for v in errors), *(_told(v, 5) for v in costs)]
            )
        return rows


class VoteHistogram:
    """Votes of all pixels of one class, by the logit of the fraction predicted there.

    Every pixel counts and nothing is drawn at random, in the memory of a few thousand bins. Pixels that are predicted
    to be exactly 0 or 1 are kept apart: no temperature moves them.
    """

    def __init__(self) -> None:
        self.sums = np.zeros((5, _BINS + 2))  # pixels, asked, votes, sum of logits, sum of observed fractions

    def update(self, fraction: NDArray[Any], votes: NDArray[Any], n_asked: NDArray[Any]) -> None:
        """Add pixels.

        Parameters
        ----------
        fraction : numpy.ndarray
            Predicted, without any temperature; of any shape.
        votes, n_asked : numpy.ndarray
            Of the same shape. ``n_asked`` 0: unknown.
        """
        known = n_asked > 0
        fraction, votes, asked = (array[known].astype(float) for array in (fraction, votes, n_asked))
        inside = (fraction > 0) & (fraction < 1)
        logits = np.clip(logit(np.where(inside, fraction, 0.5)), -_EDGE, _EDGE)
        bins = 1 + np.minimum(((logits + _EDGE) * (_BINS / (2 * _EDGE))).astype(int), _BINS - 1)
        bins = np.where(inside, bins, np.where(fraction > 0.5, _BINS + 1, 0))
        for row, values in enumerate((np.ones_like(asked), asked, votes, logits, votes / asked)):
            self.sums[row] += np.bincount(bins, values, _BINS + 2)

    def cost(self, temperature: float) -> float:
        """Binomial negative log likelihood, a volunteer and pixel, without pixels predicted to be exactly 0 or 1.

        ``-(k log p + (n - k) log(1 - p)) / n`` with ``p = sigmoid(logit / temperature)``; the binomial coefficient is
        left out, as in `zoobot_3d.networks.losses.BCELoss`. NaN if there are no pixels.
        """
        _, asked, votes, _, _ = self.sums[:, 1:-1]
        scaled = self._logits()[1:-1] / temperature
        total = asked.sum()
        return float((asked * np.logaddexp(0, scaled) - votes * scaled).sum() / total) if total else math.nan

    def fit(self) -> float:
        """Find the temperature of the least `cost`, within 0.2 and 5; 1 where volunteers enclosed nothing, or all."""
        _, asked, votes, _, _ = self.sums[:, 1:-1].sum(1)
        if not 0 < votes < asked:
            return 1.0
        low, high = np.log(_BOUNDS)
        found = minimize_scalar(lambda log: self.cost(math.exp(log)), bounds=(low, high), method="bounded")
        return math.exp(float(found.x))

    def predicted(self, temperature: float) -> NDArray[np.float64]:
        """Fraction predicted in each bin, (bins,)."""
        fraction = expit(self._logits() / temperature)
        fraction[[0, -1]] = 0, 1
        return fraction

    def observed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels, and mean fraction of volunteers, in each bin (bins,)."""
        return self.sums[0], self.sums[4] / np.maximum(self.sums[0], 1)

    def _logits(self) -> NDArray[np.float64]:
        """Mean logit of the pixels in each bin."""
        pixels, _, _, logits, _ = self.sums
        return np.asarray(logits / np.maximum(pixels, 1))


def calibrate(
    bundle: str | os.PathLike[str],
    catalog: str | os.PathLike[str],
    split: str = "val",
    *,
    root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Calibration:
    """Fit a bundle's temperatures on galaxies with marks, and write them into its ``bundle.json``.

    The weights stay as they are, and a temperature that is there already is replaced, so that doing it twice is doing
    it once. The file appears whole or not at all.

    Parameters
    ----------
    bundle : path
        Folder of the bundle.
    catalog : path
        Master catalogue with marks.
    split : str
        Rows to fit on: ``val`` (the network was not trained on them), ``train``, ``test`` or ``all``.
    root : path, optional
        Folder the catalogue's paths start from; by default found beside it.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"mps"``; by default the best there is.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Calibration

    Raises
    ------
    CatalogError
        If the catalogue has no such rows, or none has a picture and marks.
    BundleError
        If the bundle cannot be used, or is the package's own.
    """
    loaded = load_bundle(bundle)
    if bundle == DEFAULT:
        raise BundleError(
            f"{DEFAULT}: is part of the package and stays as it is; copy {loaded.path} and calibrate that"
        )
    before = loaded.info.temperature
    neutral = dataclasses.replace(loaded.info, temperature=(1.0,) * len(CLASSES))
    segmenter = Segmenter(dataclasses.replace(loaded, info=neutral), device=device)
    dataset = open_dataset(catalog, segmenter, split=split, root=root)
    histograms = [VoteHistogram() for _ in CLASSES]
    failures: list[str] = []
    measured = 0
    with progress_bar("calibrating", len(dataset), show=progress) as advance:
        for _, items in batches(dataset, segmenter.batch_size):
            failures += [item["error"] for item in items if item["error"]]
            fraction = segmenter.fractions(network_input(items))
            votes, n_asked = (np.stack([item[name].numpy() for item in items]) for name in ("votes", "n_asked"))
            measured += int(n_asked.any((1, 2, 3)).sum())
            for c, histogram in enumerate(histograms):
                histogram.update(fraction[:, c], votes[:, c], n_asked[:, c])
            advance(len(items))
    if measured == 0:
        raise CatalogError(f"{os.fspath(catalog)}: nothing to calibrate on: {[*failures, 'none has marks'][0]}")
    temperature = tuple(histogram.fit() for histogram in histograms)
    result = Calibration(
        temperature=temperature,
        before=before,
        error_before=_errors(histograms, before),
        error_after=_errors(histograms, temperature),
        likelihood_before=tuple(h.cost(value) for h, value in zip(histograms, before, strict=True)),
        likelihood_after=tuple(h.cost(value) for h, value in zip(histograms, temperature, strict=True)),
        n_galaxies=measured,
        n_failed=len(failures),
    )
    note = {"catalogue": Path(catalog).name, "split": split, "galaxies": measured}
    note |= {"error_before": _numbers(result.error_before), "error_after": _numbers(result.error_after)}
    save_info(
        bundle,
        dataclasses.replace(
            loaded.info, temperature=temperature, training=loaded.info.training | {"calibration": note}
        ),
    )
    return result


def _errors(histograms: list[VoteHistogram], temperature: tuple[float, ...]) -> tuple[float, ...]:
    """Tell the expected calibration error of each class at its temperature."""
    reliability = Reliability()
    for c, (histogram, value) in enumerate(zip(histograms, temperature, strict=True)):
        pixels, observed = histogram.observed()
        filled = pixels > 0
        reliability.add(c, histogram.predicted(value)[filled], observed[filled], pixels[filled])
    _, errors = reliability.compute()
    return tuple(errors[name] for name in CLASSES)


def _told(value: float, digits: int) -> str:
    """Write a number, or a dash where it is undefined: without predictions above empty sky there is no error."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _numbers(values: tuple[float, ...]) -> list[float | None]:
    """JSON has no NaN."""
    return [round(value, 5) if math.isfinite(value) else None for value in values]
