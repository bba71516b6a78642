"""How good a bundle is on galaxies with marks: overlap, error, calibration, and what volunteers agree on themselves.

Everything is measured on the network's own pixels, pooled over all pixels of all galaxies, so that a galaxy without
arms counts through what is wrongly found there. The ceiling is the agreement of two random halves of the volunteers.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoobot_3d.catalog.reading import catalog_root, read_catalog, split_of
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.errors import CatalogError
from zoobot_3d.networks.metrics import SegmentationMetrics
from zoobot_3d.schema import CLASSES, COL_ID

if TYPE_CHECKING:
    from zoobot_3d.dataset.data import HalfVotes, MaskDataset
    from zoobot_3d.infer.segmenter import Segmenter

__all__ = [
    "Evaluation",
    "Reliability",
    "batches",
    "evaluate",
    "evaluate_catalog",
    "network_input",
    "open_dataset",
    "open_datasets",
]

N_BINS = 20

OCCUPIED = 0.025
"""A pixel where no more than this is predicted counts as empty sky, and not for the calibration.

What volunteers said must not decide it: faint predictions would then count only where volunteers saw something, and the
best of networks would seem to predict too little there.
"""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes
    ----------
    n_galaxies, n_failed : int
        Galaxies measured, and those whose picture or marks could not be read.
    model : dict
        ``<class>_mae``, ``_iou_0``, ``_iou_0.2``, ``_soft_iou``: model against all volunteers.
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
        Galaxy -> why it could not be read.
    """

    n_galaxies: int
    n_failed: int
    model: dict[str, float]
    ceiling: dict[str, float]
    reliability: dict[str, dict[str, list[float]]]
    calibration_error: dict[str, float]
    failures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON, which has no NaN: None for a measure that is undefined."""
        content = dataclasses.asdict(self)
        for name in ("model", "ceiling", "calibration_error"):
            content[name] = {key: value if math.isfinite(value) else None for key, value in content[name].items()}
        return content

    def table(self) -> list[list[str]]:
        """Rows of text under a header: each measure for the model, the volunteers' halves, and their ratio."""
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
                rows.append([f"{name}: {label}", f"{model:.4f}", f"{ceiling:.4f}", ratio])
            rows.append([f"{name}: calibration error", f"{self.calibration_error[name]:.4f}", "", ""])
        return rows


class Reliability:
    """Sums in bins of the prediction, per class: what was predicted, and what volunteers said there."""

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
            }
            errors[name] = float(np.abs(observed - predicted).sum() / pixels.sum()) if pixels.size else float("nan")
        return curves, errors

    def _errors(self, c: int) -> NDArray[np.float64]:
        """Return the standard error of the observed fraction in each bin: pixels of one galaxy are not independent.

        That of a ratio of sums over clusters (Cochran 1977, Sampling Techniques, eq. 2.39).
        """
        n = len(self.galaxies)
        pixels, _, observed = self.sums[c]
        if n < 2:
            return np.full(N_BINS, np.nan)
        each = np.stack(self.galaxies)[:, c]
        ratio = observed / np.maximum(pixels, 1)
        scatter = ((each[:, 2] - ratio * each[:, 0]) ** 2).sum(axis=0)
        return np.sqrt(n / (n - 1) * scatter) / np.maximum(pixels, 1)


def evaluate(
    segmenter: Segmenter,
    dataset: MaskDataset | Sequence[MaskDataset],
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Measure a bundle, or an ensemble, on a dataset with marks.

    Parameters
    ----------
    segmenter : Segmenter
        The bundles at work, with or without test-time augmentation.
    dataset : MaskDataset or sequence of MaskDataset
        Galaxies the bundles have not seen, at their input size and field, with ``on_error="skip"``. Bundles that differ
        in these need a dataset each, of the same galaxies, as `open_datasets` gives; what is measured is on the pixels
        of the first.
    seed : int
        Of the split of the volunteers into halves.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Evaluation

    Raises
    ------
    CatalogError
        If no galaxy of the dataset has a picture and marks.
    """
    model, ceiling, reliability = SegmentationMetrics(), SegmentationMetrics(), Reliability()
    datasets = list(dataset) if isinstance(dataset, Sequence) else [dataset] * len(segmenter.bundles)
    failures: dict[str, str] = {}
    measured = 0
    for first, items in batches(datasets[0], segmenter.batch_size):
        failures |= {item["id"]: item["error"] for item in items if item["error"]}
        fraction = _predict(segmenter, datasets, first, items)
        votes = torch.stack([item["votes"] for item in items])
        n_asked = torch.stack([item["n_asked"] for item in items])
        measured += int((n_asked.flatten(1) > 0).any(1).sum())
        model.update(torch.from_numpy(fraction), votes, n_asked)
        reliability.update(fraction, votes.numpy(), n_asked.numpy())
        for index, item in enumerate(items, start=first):
            halves = None if item["error"] else datasets[0].half_votes(index, seed)
            if halves is not None:
                against = _against_each_other(halves, item["n_asked"].numpy())
                ceiling.update(*(torch.from_numpy(array)[None] for array in against))
        if progress is not None:
            progress(len(items))
    if measured == 0:
        reason = next(iter(failures.values()), "none has marks")
        raise CatalogError(f"no galaxy could be evaluated: {reason}")
    curves, errors = reliability.compute()
    return Evaluation(
        n_galaxies=measured,
        n_failed=len(failures),
        model={name: float(value) for name, value in model.compute().items()},
        ceiling={name: float(value) for name, value in ceiling.compute().items()},
        reliability=curves,
        calibration_error=errors,
        failures=failures,
    )


def evaluate_catalog(
    catalog: str | os.PathLike[str],
    bundle: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    split: str = "test",
    root: str | os.PathLike[str] | None = None,
    tta: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure a bundle on the rows of a master catalogue.

    Parameters
    ----------
    catalog, bundle : path
        Master catalogue with marks, and folder of the bundle.
    split : str
        ``train``, ``val``, ``test``, or ``all``.
    root : path, optional
        Folder that the catalogue's paths start from.
    seed : int
        Of the split of the volunteers into halves.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Evaluation

    Raises
    ------
    CatalogError
        If the catalogue has no such rows, or none can be evaluated.
    BundleError
        If the bundle cannot be used.
    """
    from zoobot_3d.infer.segmenter import load_segmenter

    segmenter = load_segmenter(bundle, tta=tta)
    datasets = open_datasets(catalog, segmenter, split=split, root=root)
    with progress_bar("evaluating", len(datasets[0]), show=progress) as advance:
        return evaluate(segmenter, datasets, seed=seed, progress=advance)


def open_dataset(
    catalog: str | os.PathLike[str], segmenter: Segmenter, *, split: str, root: str | os.PathLike[str] | None = None
) -> MaskDataset:
    """Open the rows of a split of a catalogue as a bundle sees them, or as the first of an ensemble does.

    Raises
    ------
    CatalogError
        If the catalogue has no such rows.
    """
    return open_datasets(catalog, segmenter, split=split, root=root)[0]


def open_datasets(
    catalog: str | os.PathLike[str], segmenter: Segmenter, *, split: str, root: str | os.PathLike[str] | None = None
) -> list[MaskDataset]:
    """Open the rows of a split as each bundle of an ensemble sees them; those that see alike share a dataset.

    Raises
    ------
    CatalogError
        If the catalogue has no such rows.
    """
    from zoobot_3d.dataset.data import MaskDataset

    frame = read_catalog(catalog, [COL_ID])
    if split != "all":
        frame = frame[split_of(frame) == split].reset_index(drop=True)
    if frame.empty:
        raise CatalogError(f"{catalog}: no galaxies in split {split!r}; choose another")
    folder = catalog_root(catalog) if root is None else root
    seen = [(bundle.info.input_size, bundle.info.field_fraction) for bundle in segmenter.bundles]
    unlike = {key: MaskDataset(frame, folder, *key, on_error="skip") for key in dict.fromkeys(seen)}
    return [unlike[key] for key in seen]


def batches(dataset: MaskDataset, size: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield the number of the first item of each batch, and the batch's items."""
    for first in range(0, len(dataset), size):
        yield first, [dataset[index] for index in range(first, min(first + size, len(dataset)))]


def _predict(
    segmenter: Segmenter, datasets: Sequence[MaskDataset], first: int, items: list[dict[str, Any]]
) -> NDArray[np.float32]:
    """Predict a batch of the first dataset, read again for networks that see it otherwise."""
    views: dict[int, NDArray[np.float32]] = {}
    for dataset in datasets:
        if id(dataset) not in views:
            seen = items if not views else [dataset[index] for index in range(first, first + len(items))]
            views[id(dataset)] = network_input(seen)
    if len(views) == 1:
        return segmenter.fractions(views[id(datasets[0])])
    return segmenter.fractions([views[id(dataset)] for dataset in datasets])


def network_input(items: Sequence[dict[str, Any]]) -> NDArray[np.float32]:
    """Stack the pictures of a dataset's items to what a network takes: (B, 3, S, S) in 0-1."""
    return np.stack([item["image"].numpy() for item in items]).astype(np.float32) / np.float32(255)


def _against_each_other(
    halves: HalfVotes, shown: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """One half as the prediction, the other as the volunteers, only where pixels were shown (n_asked of all > 0)."""
    asked_a, asked_b = halves.asked_a[:, None, None], halves.asked_b[:, None, None]
    prediction = halves.votes_a / np.maximum(asked_a, 1)
    n_asked = np.where((shown > 0) & (asked_a > 0), asked_b, 0)
    return prediction.astype(np.float32), halves.votes_b.astype(np.int64), n_asked
