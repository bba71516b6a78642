"""How good a bundle is on galaxies with marks: overlap, error, calibration, and what volunteers agree on themselves.

Everything is measured on the network's own pixels, pooled over all pixels of all galaxies, so that a galaxy without
arms counts through what is wrongly found there. The ceiling is the agreement of two random halves of the volunteers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.catalog.splits import split_of
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.errors import CatalogError
from zoobot_3d.networks.metrics import SegmentationMetrics
from zoobot_3d.report.binary_masks import BinaryScores
from zoobot_3d.report.evaluation import Evaluation
from zoobot_3d.report.galaxy_scores import GalaxyScores
from zoobot_3d.report.reliability import Reliability
from zoobot_3d.schema import COL_ID

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
    model, ceiling, reliability, galaxies = SegmentationMetrics(), SegmentationMetrics(), Reliability(), GalaxyScores()
    binary, binary_ceiling = BinaryScores(), BinaryScores()
    datasets = list(dataset) if isinstance(dataset, Sequence) else [dataset] * len(segmenter.bundles)
    failures: dict[str, str] = {}
    for first, items in batches(datasets[0], segmenter.batch_size):
        failures |= {item["id"]: item["error"] for item in items if item["error"]}
        fraction = predict_items(segmenter, datasets, first, items)
        votes = torch.stack([item["votes"] for item in items])
        n_asked = torch.stack([item["n_asked"] for item in items])
        model.update(torch.from_numpy(fraction), votes, n_asked)
        reliability.update(fraction, votes.numpy(), n_asked.numpy())
        binary.update(fraction, votes.numpy(), n_asked.numpy())
        for row, item in enumerate(items):
            if not (n_asked[row] > 0).any():
                continue
            halves = datasets[0].half_votes(first + row, seed)
            against = None if halves is None else _against_each_other(halves, item["n_asked"].numpy())
            if against is not None:
                ceiling.update(*(torch.from_numpy(array)[None] for array in against))
                binary_ceiling.update(*(array[None] for array in against))
            galaxies.add(first + row, item["id"], (fraction[row], votes[row].numpy(), n_asked[row].numpy()), against)
        if progress is not None:
            progress(len(items))
    if len(galaxies) == 0:
        reason = next(iter(failures.values()), "none has marks")
        raise CatalogError(f"no galaxy could be evaluated: {reason}")
    curves, errors = reliability.compute()
    return Evaluation(
        n_galaxies=len(galaxies),
        n_failed=len(failures),
        model={name: float(value) for name, value in model.compute().items()} | binary.compute(),
        ceiling={name: float(value) for name, value in ceiling.compute().items()} | binary_ceiling.compute(),
        reliability=curves,
        calibration_error=errors,
        failures=failures,
        model_error=galaxies.errors("model"),
        ceiling_error=galaxies.errors("halves"),
        galaxies=galaxies.table(),
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


def predict_items(
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
