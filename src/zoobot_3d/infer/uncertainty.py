"""Several answers to one picture, from views or from networks: their mean, and how far they scatter.

Every answer is one part of a mixture, all parts alike (Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4).
The variance of a mixture is the mean of its parts' own variances plus the variance of its parts' means: the law of
total variance. (Kendall & Gal 2017, arXiv:1703.04977, equation 9, name the two aleatoric and epistemic.) Arrays only:
knows nothing of bundles, pictures or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "N_SYMMETRIES",
    "Answer",
    "Found",
    "combine",
    "disagreement",
    "mean_disagreement",
    "over_symmetries",
    "symmetry",
    "undo_symmetry",
]

N_SYMMETRIES = 8
"""Of the square: four quarter turns, each also mirrored."""


class Answer(NamedTuple):
    """What one network says of a batch of pictures.

    Attributes
    ----------
    mean : numpy.ndarray
        (B, class, S, S): the fraction of volunteers.
    spread : numpy.ndarray or None
        Of the same shape: variance of the fraction over views of the picture; None if there was one view.
    own : numpy.ndarray or None
        Of the same shape: variance of the fraction that the network itself predicts; None if it predicts none.
    disagreement : numpy.ndarray or None
        (B, class), see `disagreement`; None if there was one view.
    """

    mean: NDArray[Any]
    spread: NDArray[Any] | None = None
    own: NDArray[Any] | None = None
    disagreement: NDArray[Any] | None = None

    def map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Answer:
        """Change every map that there is."""
        return Answer(*(maps if maps is None else change(maps) for maps in self))  # type: ignore[arg-type]

    @classmethod
    def join(cls, answers: Sequence[Answer]) -> Answer:
        """Make one batch of answers of the same network to several."""
        columns = zip(*answers, strict=True)
        return cls(*(None if column[0] is None else np.concatenate(column) for column in columns))  # type: ignore[arg-type]


class Found(NamedTuple):
    """What all networks say of one picture, on its own pixels.

    Attributes
    ----------
    masks : numpy.ndarray
        (class, H, W) float32 fractions in 0-1, NaN outside the field.
    sigma : numpy.ndarray or None
        Of the same shape: their standard deviations; None if they were not asked for.
    disagreement : numpy.ndarray or None
        (class,), mean of the networks and windows, see `disagreement`; None without test-time augmentation.
    """

    masks: NDArray[Any]
    sigma: NDArray[Any] | None = None
    disagreement: NDArray[Any] | None = None


def symmetry(maps: NDArray[Any], index: int) -> NDArray[Any]:
    """Turn maps (..., S, S) by ``index % 4`` quarters, after mirroring them if ``index`` is 4 or more."""
    return np.rot90(maps[..., ::-1] if index >= 4 else maps, index % 4, (-2, -1))


def undo_symmetry(maps: NDArray[Any], index: int) -> NDArray[Any]:
    """Turn maps back to how they were before `symmetry`."""
    turned = np.rot90(maps, -(index % 4), (-2, -1))
    return turned[..., ::-1] if index >= 4 else turned


def over_symmetries(
    network: Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any] | None]], views: NDArray[Any]
) -> Answer:
    """Ask a network about a picture in its eight orientations, all in one batch.

    Parameters
    ----------
    network : callable
        (B, 3, S, S) to the fraction (B, class, S, S) and its own variance, or None.
    views : numpy.ndarray
        (B, 3, S, S); `N_SYMMETRIES` times as many go through the network at once.

    Returns
    -------
    Answer
        Mean fraction, variance of the eight fractions, and mean own variance, each after turning back; and how far the
        eight disagree.
    """
    fraction, own = network(np.concatenate([symmetry(views, index) for index in range(N_SYMMETRIES)]))
    fractions = _turned_back(fraction)
    spread = fractions.var(0)
    owns = None if own is None else _turned_back(own).mean(0)
    return Answer(fractions.mean(0), spread, owns, disagreement(fractions))


def disagreement(fractions: NDArray[Any]) -> NDArray[np.float64]:
    """Tell how far masks of one galaxy disagree: 1 minus their overlap with their mean.

    The overlap is the soft intersection over union: the sum over masks and pixels of the smaller of a mask and the
    mean, over the sum of the larger. It is 1 where all masks are the same, so that the disagreement of a network that
    is equivariant under the symmetries is 0.

    Parameters
    ----------
    fractions : numpy.ndarray
        (views, ..., S, S) in 0-1, turned back.

    Returns
    -------
    numpy.ndarray
        (...), in 0-1; 0 where all masks are 0.
    """
    masks = fractions.astype(np.float64)  # the mean of eight equal float32 would differ from them
    mean = np.broadcast_to(masks.mean(0), masks.shape)
    axes = (0, -2, -1)
    smaller, larger = np.minimum(masks, mean).sum(axes), np.maximum(masks, mean).sum(axes)
    apart: NDArray[np.float64] = np.where(larger > 0, 1 - smaller / np.where(larger > 0, larger, 1), 0.0)
    return apart


def mean_disagreement(told: Iterable[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Mean of `disagreement` over networks or windows, of those that tell it; None if none does."""
    known = [each for each in told if each is not None]
    return np.mean(known, axis=0) if known else None


def _turned_back(maps: NDArray[Any]) -> NDArray[Any]:
    """Turn a batch of eight orientations back: (8 B, ...) to (8, B, ...)."""
    return np.stack([undo_symmetry(part, index) for index, part in enumerate(np.split(maps, N_SYMMETRIES))])


def combine(
    means: Sequence[NDArray[Any]],
    spreads: Sequence[NDArray[Any] | None] = (),
    owns: Sequence[NDArray[Any] | None] = (),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Combine what several networks say of the same pixels.

    Parameters
    ----------
    means : sequence of numpy.ndarray
        Of one shape, one for each network: the fraction, NaN outside what it sees.
    spreads : sequence of (numpy.ndarray or None)
        Of the same shape: variances over views. None: one view, 0.
    owns : sequence of (numpy.ndarray or None)
        Of the same shape: variances that networks predict. Those that predict none take no part in the mean of these:
        they do not claim to be certain.

    Returns
    -------
    mean, variance : numpy.ndarray
        float32, over the networks that see a pixel; NaN where none does.
    """
    unseen = np.logical_and.reduce([np.isnan(mean) for mean in means])
    centre = _mean(means)
    variance = _mean([(mean - centre) ** 2 for mean in means])
    known = zip(means, spreads or [None] * len(means), strict=True)
    variance += _mean([np.where(np.isnan(mean), np.nan, 0 if spread is None else spread) for mean, spread in known])
    variance += _mean([own for own in owns if own is not None])
    nan = np.float32(np.nan)
    return np.where(unseen, nan, centre).astype(np.float32), np.where(unseen, nan, variance).astype(np.float32)


def _mean(values: Sequence[NDArray[Any]]) -> Any:
    """Mean of the arrays that are not NaN at a pixel; 0 where all are, or where there are none."""
    if not values:
        return 0.0
    seen = [~np.isnan(array) for array in values]
    total = sum(np.where(known, array, 0.0) for known, array in zip(seen, values, strict=True))
    return total / np.maximum(sum(known.astype(np.float32) for known in seen), 1)
