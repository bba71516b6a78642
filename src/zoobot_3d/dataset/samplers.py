"""Which galaxies a process sees in an epoch, and in which order. Knows nothing of files, pictures or networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch.distributed
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DistributedSampler, Sampler

__all__ = ["EpochOrder", "RankShare", "epoch_counts"]


class RankShare(DistributedSampler[int]):
    """One process's share of an order that all processes know: every n-th index, where n processes train together.

    Batches of ``b`` in each of n processes hold together what one process with batches of ``n * b`` would see, step by
    step. Lightning's own wrapper would shuffle a second time, and never tell the order which epoch it is; being a
    `DistributedSampler`, this one is left alone. In a single process it changes nothing.

    Parameters
    ----------
    order : Sampler of int
        The same in all processes. Told the epoch, if it has a ``set_epoch``.
    """

    def __init__(self, order: Sampler[int]) -> None:
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        world = torch.distributed.get_world_size() if together else 1
        rank = torch.distributed.get_rank() if together else 0
        super().__init__(order, world, rank, shuffle=False, drop_last=True)  # type: ignore[arg-type]  # needs a length
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each."""
        super().set_epoch(epoch)
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        """Return how many indices each process has; the remainder, less than one each, is left out of the epoch."""
        return len(self.order) // self.num_replicas  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Return this process's indices."""
        indices = list(self.order)
        return iter(indices[self.rank : len(self) * self.num_replicas : self.num_replicas])


def epoch_counts(marked: int, others: int, share: float, size: int = 0) -> tuple[int, int]:
    """Tell how many galaxies of each kind an epoch shows.

    Parameters
    ----------
    marked, others : int
        Galaxies with marks, and without; at least one of each.
    share : float
        Part of the shown galaxies that have marks, above 0 and below 1.
    size : int
        Galaxies of an epoch; 0: so many that each galaxy is shown at least once.

    Returns
    -------
    tuple of int
        With marks, and without.
    """
    total = size or max(math.ceil(marked / share), math.ceil(others / (1 - share)))
    shown = min(max(round(total * share), 1), total - 1) if total > 1 else total
    return shown, total - shown


class EpochOrder(Sampler[int]):
    """Shuffled rows, anew each epoch, that depend on seed and epoch alone: a resumed run goes on in the same order.

    Each kind of row is dealt out like a deck of cards, which is shuffled whenever it is used up: over the epochs, rows
    of a kind are shown equally often, to within one, whether an epoch is longer or shorter than the deck. Several kinds
    are spread evenly over the epoch, so every batch has about the same share of each.

    Parameters
    ----------
    kinds : sequence of array_like of int
        Rows of each kind.
    counts : sequence of int
        How many of each kind an epoch shows. As many as there are: each once.
    seed : int
        Of the order.
    """

    def __init__(self, kinds: Sequence[ArrayLike], counts: Sequence[int], seed: int) -> None:
        self.kinds = [np.asarray(kind, np.int64) for kind in kinds]
        self.counts, self.seed, self.epoch = tuple(counts), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of rows an epoch shows."""
        return sum(self.counts)

    def __iter__(self) -> Iterator[int]:
        """Yield the epoch's rows."""
        decks = [kind[self._deal(number)] for number, kind in enumerate(self.kinds)]
        rows = np.concatenate(decks)
        if len(decks) > 1:
            rng = np.random.default_rng((self.seed, self.epoch, len(decks)))
            places = [(np.arange(count) + rng.random(count)) / max(count, 1) for count in self.counts]
            rows = rows[np.argsort(np.concatenate(places), kind="stable")]
        return iter(rows.tolist())

    def _deal(self, number: int) -> NDArray[np.int64]:
        """Positions in a kind that this epoch shows."""
        size, count = len(self.kinds[number]), self.counts[number]
        if not count:
            return np.empty(0, np.int64)
        first = self.epoch * count
        decks = range(first // size, (first + count - 1) // size + 1)
        seeds = [(self.seed, deck, number) if number else (self.seed, deck) for deck in decks]
        dealt = np.concatenate([np.random.default_rng(seed).permutation(size) for seed in seeds])
        start = first - decks.start * size
        return dealt[start : start + count]
