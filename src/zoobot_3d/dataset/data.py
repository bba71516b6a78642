"""Galaxies of a catalogue as items and batches for learning: datasets, splits, loaders.

Nothing here is random but the order of the training galaxies (`zoobot_3d.dataset.samplers`): changing what the network
sees is the business of `zoobot_3d.networks.augment`, on whole batches, or of a ``transform`` that the caller brings.
Knows nothing of networks.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoobot_3d.catalog.galaxy_files import galaxy_files, has_labels, vote_counts
from zoobot_3d.catalog.reading import catalog_root, read_catalog
from zoobot_3d.catalog.splits import split_of
from zoobot_3d.compute.batch import reason_for
from zoobot_3d.compute.progress import progress_bar
from zoobot_3d.config.schema import DataConfig
from zoobot_3d.dataset.sample import HalfVotes, Sample, check_masks, read_half_votes, read_sample
from zoobot_3d.dataset.samplers import EpochOrder, RankShare, epoch_counts
from zoobot_3d.errors import CatalogError
from zoobot_3d.schema import COL_ID, COL_PIXSCALE, GZ_FIELD_PX, vote_columns

__all__ = ["HalfVotes", "MaskDataModule", "MaskDataset"]

_WARNED_OF = 10  # galaxies that cannot be read, by name
_HOPELESS = 32  # galaxies, none of which can be read, after which nothing more is tried
_AUGMENT_MARGIN = (
    1.42  # sides of the view that training pictures have, so that a square turned by 45 degrees stays inside
)


@dataclass(frozen=True)
class ItemParts:
    """What items of a `MaskDataset` hold beside the picture and its votes.

    Attributes
    ----------
    label_cols : sequence of str
        Columns to hand on as ``label_cols``.
    vote_cols : sequence of str
        Columns of votes to hand on as ``vote_counts``; see `zoobot_3d.schema.vote_columns`.
    masks : bool
        Whether items have ``spiral_mask`` and ``bar_mask``.
    """

    label_cols: Sequence[str] = ()
    vote_cols: Sequence[str] = ()
    masks: bool = True


class MaskDataset(Dataset[dict[str, Any]]):
    """One item per row of a catalogue.

    An item is a dict:

    - ``image``: uint8 (3, S, S), RGB, row 0 north.
    - ``votes``: uint8 (2, S, S), spiral then bar: how many volunteers enclosed each pixel.
    - ``n_asked``: uint8 (2, S, S): how many were asked. 0, unknown, for a class without marks and for pixels outside
      the 52 arcsec frame that volunteers were shown.
    - ``spiral_mask``, ``bar_mask``: float32 (S, S), votes / n_asked, 0 where unknown (unless ``masks=False``).
    - ``vote_counts``: float32 (A,), if asked for: how many volunteers gave each answer about the whole galaxy; 0 where
      nobody was asked, and for a galaxy that could not be read.
    - ``label_cols``: float32 (L,), if asked for.
    - ``id``: str. ``error``: str, empty unless the galaxy could not be read.

    Parameters
    ----------
    catalog : pandas.DataFrame
        With ``dr8_id``, ``est_dr5_pixscale`` (arcsec / px of a 424 px picture) and paths: a picture in
        ``relative_desi_jpg_loc`` (or a grz cutout in ``relative_desi_fits_loc``), marks in ``relative_segmap_json_loc``
        or else mask pictures, 0-255 on the picture's pixels, in ``relative_spiral_mask_loc`` and
        ``relative_bar_mask_loc``. Each is also known without ``relative_``. ``ra`` and ``dec`` place the picture,
        ``ra_manga`` and ``dec_manga`` the frame of mask pictures (and the picture, where it has no position).
    root : path
        Folder that relative paths start from.
    input_size : int
        S, pixels.
    field_fraction : float
        Central part of the picture to show, as a fraction of its side.
    transform : callable, optional
        Called as ``transform(image=(S, S, 3) uint8, masks=[spiral votes, bar votes, spiral n_asked, bar n_asked])``,
        the signature of albumentations; must return a dict with the same keys. The image may come back as a (3, S, S)
        tensor.
    parts : ItemParts, optional
        What else items hold.
    on_error : {"raise", "skip"}
        What a galaxy that cannot be read does. ``skip`` gives a blank item with ``n_asked`` 0 everywhere, which has no
        loss and enters no metric, and says why in ``error``.
    cache : {"none", "ram"}
        ``ram`` keeps what was decoded.

    Attributes
    ----------
    marked : numpy.ndarray
        (N,) bool: which galaxies have marks or masks.

    Raises
    ------
    CatalogError
        The catalogue misses a column or a pixel scale, or holds votes that cannot be.
    """

    def __init__(
        self,
        catalog: pd.DataFrame,
        root: str | os.PathLike[str],
        input_size: int,
        field_fraction: float,
        transform: Callable[..., dict[str, Any]] | None = None,
        *,
        parts: ItemParts | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        cache: Literal["none", "ram"] = "none",
    ) -> None:
        parts = parts or ItemParts()
        self.input_size, self.field_fraction = input_size, field_fraction
        self.transform, self.on_error, self.masks = transform, on_error, parts.masks
        self.galaxies = galaxy_files(catalog, Path(root))
        self._labels: Tensor | None = None
        if parts.label_cols:
            if missing := [name for name in parts.label_cols if name not in catalog.columns]:
                raise CatalogError(f"catalogue: no column {', '.join(missing)}; label_cols must name columns it has")
            self._labels = torch.from_numpy(catalog[list(parts.label_cols)].to_numpy(np.float32, copy=True))
        self._votes = torch.from_numpy(vote_counts(catalog, parts.vote_cols)) if parts.vote_cols else None
        self.marked = has_labels(catalog)
        self._cache: dict[int, tuple[Sample, str]] | None = {} if cache == "ram" else None

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.galaxies)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item; see the class.

        Raises
        ------
        CatalogError
            The galaxy cannot be read and ``on_error`` is ``raise``; names row and file.
        """
        sample, error = self._sample(index)
        if self.transform is None:
            image, votes, n_asked = (torch.from_numpy(a) for a in (sample.image, sample.votes, sample.n_asked))
        else:
            image, votes, n_asked = _transformed(self.transform, sample)
        item = {"image": image, "votes": votes, "n_asked": n_asked, "id": self.galaxies[index].name, "error": error}
        if self.masks:
            item["spiral_mask"], item["bar_mask"] = votes.float() / n_asked.clamp_min(1)
        if self._labels is not None:
            item["label_cols"] = self._labels[index]
        if self._votes is not None:
            item["vote_counts"] = torch.zeros_like(self._votes[index]) if error else self._votes[index]
        return item

    def names(self) -> list[str]:
        """Return the galaxies' names, in order."""
        return [galaxy.name for galaxy in self.galaxies]

    def pixscale(self, index: int) -> float:
        """Return the arcsec per pixel of an item's image."""
        return self.galaxies[index].pixscale * GZ_FIELD_PX * self.field_fraction / self.input_size

    def half_votes(self, index: int, seed: int) -> HalfVotes | None:
        """Split a galaxy's volunteers into two random halves: what one half says of the other is a model's ceiling.

        Parameters
        ----------
        index : int
            Row.
        seed : int
            Of the split, together with the row.

        Returns
        -------
        HalfVotes or None
            On the same pixels as the item; None where labels are mask pictures, which do not tell volunteers apart.

        Raises
        ------
        BadFileError
            The marks cannot be read.
        """
        rng = np.random.default_rng((seed, index))
        return read_half_votes(self.galaxies[index], self.input_size, self.field_fraction, rng)

    def fill_cache(self, threads: int, *, progress: bool = False) -> None:
        """Decode every galaxy now, in threads, so that no epoch has to; does nothing without ``cache="ram"``."""
        if self._cache is None or len(self._cache) == len(self):
            return
        with (
            progress_bar("reading", len(self), show=progress) as advance,
            ThreadPoolExecutor(max(threads, 1)) as pool,
        ):
            for _ in pool.map(self._sample, range(len(self))):
                advance(1)

    def _sample(self, index: int) -> tuple[Sample, str]:
        """Return a galaxy decoded, and why it could not be, if so."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        galaxy = self.galaxies[index]
        try:
            result = read_sample(galaxy, self.input_size, self.field_fraction), ""
        except Exception as error:  # a bug too: one galaxy must not stop the others
            reason = reason_for(error, "", "")
            if self.on_error == "raise":
                raise CatalogError(f"{galaxy}: {reason}") from error
            result = Sample.blank(self.input_size), f"{galaxy}: {reason}"
        if self._cache is not None:
            self._cache[index] = result
        return result


class MaskDataModule(LightningDataModule):
    """Train, validation and test galaxies of a catalogue, each split in its own dataset.

    Only rows that name marks or masks take part, and with ``config.votes`` those that have votes. The split is the
    catalogue's, see `zoobot_3d.catalog.splits.split_of`. Only training galaxies are shuffled, anew each epoch and
    alike for a seed, whether or not the run was interrupted.

    Parameters
    ----------
    config : DataConfig
        Catalogue, sizes, workers.
    seed : int
        Of the order of the training galaxies.
    progress : bool
        Show a bar while the cache is filled.

    Attributes
    ----------
    failures : dict
        Galaxies that could not be read so far, by name, with the reason.
    """

    def __init__(self, config: DataConfig, seed: int = 0, *, progress: bool = False) -> None:
        super().__init__()
        self.config, self.seed, self.progress = config, seed, progress
        self.failures: dict[str, str] = {}
        self._any_read = False
        self.datasets: dict[str, MaskDataset] = {}

    @property
    def train_size(self) -> int:
        """Side in pixels of training pictures: with a margin that augmentation, if it is on, can turn into view."""
        size = self.config.input_size
        if not self.config.augment:
            return size
        margin = int(size * (min(_AUGMENT_MARGIN, 1 / self.config.field_fraction) - 1) / 2 + 1e-9)
        return size + 2 * margin

    def setup(self, stage: str | None = None) -> None:
        """Read the catalogue, once.

        Raises
        ------
        BadFileError, CatalogError
            It cannot be read, misses columns, or leaves nothing to train or validate on.
        """
        if self.datasets:
            return
        config = self.config
        frame = read_catalog(config.catalog, required=[COL_ID, COL_PIXSCALE])
        labelled, wanted, vote_cols = has_labels(frame), "marks or masks", vote_columns(config.votes)
        if vote_cols:
            counts = vote_counts(frame, vote_cols)
            if config.hide_votes_of_marked:
                counts[labelled] = 0
                frame[vote_cols] = counts
            labelled, wanted = labelled | counts.any(axis=1), "marks, masks or votes"
        frame = frame[labelled]
        split = split_of(frame)
        root = Path(config.root) if config.root is not None else catalog_root(config.catalog)
        for name in ("train", "val", "test"):
            rows = frame[split == name]
            if rows.empty and name != "test":
                raise CatalogError(
                    f"{config.catalog}: {len(frame)} rows have {wanted}, none of them in split {name}; "
                    "add galaxies or a column split of train, val, test"
                )
            size = self.train_size if name == "train" else config.input_size
            self.datasets[name] = MaskDataset(
                rows,
                root,
                size,
                config.field_fraction * size / config.input_size,
                on_error=config.on_error,
                cache=config.cache,
                parts=ItemParts(vote_cols=vote_cols, masks=False),
            )
        if not config.binary_masks:
            check_masks(self.datasets["train"].galaxies, config.catalog)
        train = frame[split == "train"]
        groups = train["group"].to_numpy(str) if "group" in train else np.full(len(train), "")
        self._order = self._train_order(self.datasets["train"].marked, groups)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return shuffled batches; the last, smaller one is left out, as it would upset batch statistics."""
        dataset = self.datasets["train"]
        sampler = RankShare(self._order)
        return self._loader(dataset, sampler=sampler, drop_last=len(sampler) >= self.config.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return validation galaxies in the order of the catalogue, never augmented."""
        return self._loader(self.datasets["val"])

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return test galaxies in the order of the catalogue, never augmented."""
        return self._loader(self.datasets["test"])

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Take note of galaxies that could not be read, warning once of each of the first few.

        Raises
        ------
        CatalogError
            Not one of the first galaxies can be read: the pictures lie elsewhere.
        """
        for name, reason in zip(batch["id"], batch["error"], strict=True):
            self._any_read |= not reason
            if reason and name not in self.failures:
                self.failures[name] = reason
                if len(self.failures) <= _WARNED_OF:
                    warnings.warn(f"left out: {reason}", stacklevel=2)
                elif len(self.failures) == _WARNED_OF + 1:
                    warnings.warn(
                        "left out: more galaxies, not named here; training lists all in failed.csv", stacklevel=2
                    )
        if not self._any_read and len(self.failures) >= min(_HOPELESS, len(self.datasets["train"])):
            name, reason = next(iter(self.failures.items()))
            raise CatalogError(
                f"{self.config.catalog}: none of the first {len(self.failures)} galaxies can be read; the first, "
                f"{reason}; paths in the catalogue are relative to data.root"
            )
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the galaxies that were left out so far."""
        return {"failures": dict(self.failures), "any_read": self._any_read}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.failures = {str(name): str(reason) for name, reason in state_dict["failures"].items()}
        self._any_read = bool(state_dict["any_read"])

    def _train_order(self, marked: NDArray[np.bool_], groups: NDArray[np.str_]) -> EpochOrder:
        """Order of the training galaxies, of which some are marked, or belong to groups that have a share."""
        config = self.config
        if config.group_shares:
            return self._grouped_order(groups)
        if not config.marked_share:
            return EpochOrder([np.arange(len(marked))], [config.epoch_size or len(marked)], self.seed)
        kinds = [np.flatnonzero(marked), np.flatnonzero(~marked)]
        if not all(kind.size for kind in kinds):
            raise CatalogError(
                f"{config.catalog}: data.marked_share is {config.marked_share}, but {marked.sum()} of {len(marked)} "
                "training galaxies have marks; set it to 0, or add galaxies of the other kind"
            )
        counts = epoch_counts(len(kinds[0]), len(kinds[1]), config.marked_share, config.epoch_size)
        return EpochOrder(kinds, counts, self.seed)

    def _grouped_order(self, groups: NDArray[np.str_]) -> EpochOrder:
        """Order in which each group has its share of an epoch, which shows every galaxy of the others once."""
        config = self.config
        named = {name: np.flatnonzero(groups == name) for name in config.group_shares}
        others = np.flatnonzero(~np.isin(groups, list(config.group_shares)))
        if empty := [name for name, rows in [*named.items(), ("of other groups", others)] if not len(rows)]:
            raise CatalogError(
                f"{config.catalog}: no training galaxies {empty[0]}, by the column group; see data.group_shares"
            )
        rest = 1 - sum(config.group_shares.values())
        total = config.epoch_size or round(len(others) / rest)
        counts = [max(1, round(total * share)) for share in config.group_shares.values()]
        return EpochOrder([others, *named.values()], [max(1, total - sum(counts)), *counts], self.seed)

    def _loader(self, dataset: MaskDataset, **options: Any) -> DataLoader[dict[str, Any]]:
        workers = self.config.workers
        if self.config.cache == "ram":
            # Each worker would hold a copy of its own; from memory, stacking a batch costs next to nothing.
            dataset.fill_cache(workers or os.cpu_count() or 1)
            workers = 0
        return _Loader(
            dataset,
            batch_size=self.config.batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
            # Its own, as Lightning makes iterators before an epoch is seeded or after: dropout could not be repeated.
            generator=torch.Generator(),
            **options,
        )


class _Loader(DataLoader[dict[str, Any]]):
    """A loader that asks for its order when the first batch is asked for, and not before.

    Lightning makes the iterator of a resumed training before it tells the order which epoch it is, and workers would
    begin to fetch the epoch that is over.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the batches of an epoch."""
        yield from super().__iter__()


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism


def _transformed(transform: Callable[..., dict[str, Any]], sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Image, votes and n_asked after a transform of the albumentations kind."""
    result = transform(
        image=sample.image.transpose(1, 2, 0).copy(),
        masks=[plane.copy() for plane in (*sample.votes, *sample.n_asked)],
    )
    image, *maps = (_tensor(array) for array in (result["image"], *result["masks"]))
    if image.shape[0] != 3:
        image = image.permute(2, 0, 1)
    return image.contiguous(), torch.stack(maps[:2]), torch.stack(maps[2:])


def _tensor(array: Any) -> Tensor:
    # Flipped arrays have strides that torch cannot take.
    return array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array))
