"""How good a bundle is on galaxies with marks: overlap, error, calibration, and what volunteers agree on themselves.

Everything is measured on the network's own pixels, pooled over all pixels of all galaxies, so that a galaxy without
arms counts through what is wrongly found there. The ceiling is the agreement of two random halves of the volunteers.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoobot_3d.catalog import assign_split, catalog_root, read_catalog
from zoobot_3d.errors import CatalogError
from zoobot_3d.metrics import SegmentationMetrics
from zoobot_3d.progress import progress_bar
from zoobot_3d.schema import CLASSES, COL_ID

if TYPE_CHECKING:
    from zoobot_3d.data import HalfVotes, MaskDataset
    from zoobot_3d.segmenter import Segmenter

__all__ = ["Evaluation", "evaluate", "evaluate_catalog", "open_dataset"]

N_BINS = 20


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
        For each class ``predicted`` (mean prediction in a bin), ``observed`` (fraction of volunteers there) and
        ``pixels``; bins are 0.05 wide, and empty ones are left out.
    calibration_error : dict
        For each class the expected calibration error: the mean of abs(observed - predicted) weighted with pixels (Guo
        et al. 2017, arXiv:1706.04599, eq. 3), over pixels where prediction or volunteers exceed 0.025, as the empty
        sky would hide everything else.
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
        """Plain numbers, for JSON."""
        return dataclasses.asdict(self)

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


class _Reliability:
    """Sums in bins of the prediction, per class."""

    def __init__(self) -> None:
        self.sums = np.zeros((2, 3, N_BINS))  # pixels, sum of predictions, sum of observed

    def update(self, fraction: NDArray[Any], votes: NDArray[Any], n_asked: NDArray[Any]) -> None:
        """Add maps (B, 2, H, W)."""
        for c in range(2):
            asked = n_asked[:, c] > 0
            predicted = fraction[:, c][asked].astype(float)
            observed = votes[:, c][asked] / n_asked[:, c][asked].astype(float)
            occupied = np.maximum(predicted, observed) > 0.025
            predicted, observed = predicted[occupied], observed[occupied]
            bins = np.minimum((predicted * N_BINS).astype(int), N_BINS - 1)
            for row, weights in enumerate((None, predicted, observed)):
                self.sums[c, row] += np.bincount(bins, weights, N_BINS)

    def compute(self) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
        """Curves and expected calibration errors."""
        curves, errors = {}, {}
        for c, name in enumerate(CLASSES):
            pixels, predicted, observed = self.sums[c][:, self.sums[c, 0] > 0]
            curves[name] = {
                "predicted": (predicted / pixels).tolist(),
                "observed": (observed / pixels).tolist(),
                "pixels": pixels.tolist(),
            }
            errors[name] = float(np.abs(observed - predicted).sum() / pixels.sum()) if pixels.size else float("nan")
        return curves, errors


def evaluate(
    segmenter: Segmenter,
    dataset: MaskDataset,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Measure a bundle on a dataset with marks.

    Parameters
    ----------
    segmenter : Segmenter
        The bundle at work.
    dataset : MaskDataset
        Galaxies the bundle has not seen, at its input size and field, with ``on_error="skip"``.
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
    model, ceiling, reliability = SegmentationMetrics(), SegmentationMetrics(), _Reliability()
    failures: dict[str, str] = {}
    measured = 0
    for first, items in _batches(dataset, segmenter.batch_size):
        failures |= {item["id"]: item["error"] for item in items if item["error"]}
        views = np.stack([item["image"].numpy() for item in items]).astype(np.float32) / 255
        fraction = segmenter.fractions(views)
        votes = torch.stack([item["votes"] for item in items])
        n_asked = torch.stack([item["n_asked"] for item in items])
        measured += int((n_asked.flatten(1) > 0).any(1).sum())
        model.update(torch.from_numpy(fraction), votes, n_asked)
        reliability.update(fraction, votes.numpy(), n_asked.numpy())
        for index, item in enumerate(items, start=first):
            halves = None if item["error"] else dataset.half_votes(index, seed)
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
    bundle: str | os.PathLike[str],
    *,
    split: str = "test",
    root: str | os.PathLike[str] | None = None,
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
    from zoobot_3d.segmenter import load_segmenter

    segmenter = load_segmenter(bundle)
    dataset = open_dataset(catalog, segmenter, split=split, root=root)
    with progress_bar("evaluating", len(dataset), show=progress) as advance:
        return evaluate(segmenter, dataset, seed=seed, progress=advance)


def open_dataset(
    catalog: str | os.PathLike[str], segmenter: Segmenter, *, split: str, root: str | os.PathLike[str] | None = None
) -> MaskDataset:
    """Open the rows of a split of a catalogue as a bundle sees them."""
    from zoobot_3d.data import MaskDataset

    frame = read_catalog(catalog, [COL_ID])
    splits = frame["split"].to_numpy() if "split" in frame else assign_split(frame[COL_ID])
    if split != "all":
        frame = frame[splits == split].reset_index(drop=True)
    if frame.empty:
        raise CatalogError(f"{catalog}: no galaxies in split {split!r}; choose another")
    info = segmenter.bundle.info
    folder = catalog_root(catalog) if root is None else root
    return MaskDataset(frame, folder, info.input_size, info.field_fraction, on_error="skip")


def _batches(dataset: MaskDataset, size: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for first in range(0, len(dataset), size):
        yield first, [dataset[index] for index in range(first, min(first + size, len(dataset)))]


def _against_each_other(
    halves: HalfVotes, shown: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """One half as the prediction, the other as the volunteers, only where pixels were shown (n_asked of all > 0)."""
    asked_a, asked_b = halves.asked_a[:, None, None], halves.asked_b[:, None, None]
    prediction = halves.votes_a / np.maximum(asked_a, 1)
    n_asked = np.where((shown > 0) & (asked_a > 0), asked_b, 0)
    return prediction.astype(np.float32), halves.votes_b.astype(np.int64), n_asked
