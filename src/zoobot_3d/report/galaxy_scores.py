"""Scores of single galaxies, and the errors of pooled scores that follow from their scatter.

Arrays in, tables and numbers out; knows no networks and no files.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoobot_3d.schema import CLASSES

__all__ = ["GalaxyScores", "difference_error", "standard_error"]

_LEVEL = 0.2
_ROUNDING = 1e-6  # 3 votes of 15 are not above 0.2
_SIDES = ("model", "halves")

Maps = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Predicted fractions, votes and volunteers asked, each (2, H, W)."""


class _Sums(NamedTuple):
    """Of one galaxy, (class,) each: pixels above 0.2 in both maps and in either, sum of abs. differences, pixels."""

    both: NDArray[np.float64]
    either: NDArray[np.float64]
    error: NDArray[np.float64]
    pixels: NDArray[np.float64]

    @classmethod
    def of(cls, maps: Maps) -> _Sums:
        fraction, votes, n_asked = (np.asarray(array, float) for array in maps)
        n_asked = np.broadcast_to(n_asked, votes.shape)
        known = n_asked > 0
        truth = votes / np.maximum(n_asked, 1)
        model, volunteers = ((array > _LEVEL + _ROUNDING) & known for array in (fraction, truth))
        counts = (model & volunteers, model | volunteers, np.where(known, np.abs(fraction - truth), 0), known)
        return cls(*(count.sum((1, 2), dtype=float) for count in counts))


class GalaxyScores:
    """Sums over the pixels of each galaxy, and the scores that follow from them."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._names: list[str] = []
        self._sums: dict[str, list[_Sums | None]] = {side: [] for side in _SIDES}

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self._names)

    def add(self, row: int, name: str, model: Maps, halves: Maps | None) -> None:
        """Add a galaxy.

        Parameters
        ----------
        row : int
            Its number among the galaxies that are evaluated.
        name : str
            Its identifier.
        model : tuple of numpy.ndarray
            Predicted fractions, votes and volunteers asked (0 where unknown), each (2, H, W).
        halves : tuple of numpy.ndarray, optional
            The same, with one half of the volunteers in place of the prediction and the other half as the votes.
        """
        self._rows.append(row)
        self._names.append(name)
        self._sums["model"].append(_Sums.of(model))
        self._sums["halves"].append(None if halves is None else _Sums.of(halves))

    def table(self) -> pd.DataFrame:
        """Return the scores of each galaxy, the worst first.

        Returns
        -------
        pandas.DataFrame
            One row per galaxy, indexed by its row, with the columns

            - ``id``;
            - ``iou_0.2``: intersection over union of the model and the volunteers at fractions above 0.2, with the
              pixels of both classes pooled; rows are sorted by it, and by the mean absolute error where it is equal;
            - ``<class>_iou_0.2``, and ``mae`` and ``<class>_mae``, the mean absolute error of the fraction;
            - ``<class>_both_px``, ``<class>_either_px``: pixels of the network above 0.2 in both maps, and in either;
            - ``halves_iou_0.2``, ``halves_<class>_iou_0.2``: the same overlap for one half of the volunteers against
              the other.

            An IoU is NaN where no pixel is above 0.2 in either map. Such rows come last.
        """
        columns: dict[str, Any] = {"id": self._names} | self._scores("model", "") | self._scores("halves", "halves_")
        frame = pd.DataFrame(columns, index=pd.Index(self._rows, name="row"))
        return frame.sort_values(["iou_0.2", "mae"], ascending=[True, False], na_position="last", kind="stable")

    def errors(self, side: Literal["model", "halves"]) -> dict[str, float]:
        """Return the standard errors of the pooled scores ``<class>_iou_0.2`` and ``<class>_mae``; NaN if unknown."""
        sums = [each for each in self._sums[side] if each is not None]
        out: dict[str, float] = {}
        for c, name in enumerate(CLASSES):
            both, either, error, pixels = (
                np.array([getattr(each, key)[c] for each in sums]) for key in ("both", "either", "error", "pixels")
            )
            out |= {f"{name}_iou_0.2": standard_error(both, either), f"{name}_mae": standard_error(error, pixels)}
        return out

    def _scores(self, side: str, prefix: str) -> dict[str, NDArray[np.float64]]:
        """Columns of the table for the model or for the volunteers' halves."""
        nothing = _Sums(*(np.zeros(len(CLASSES)) for _ in range(4)))
        sums = [nothing if each is None else each for each in self._sums[side]]
        both, either, error, pixels = (
            np.array([getattr(each, key) for each in sums]).reshape(-1, len(CLASSES))
            for key in ("both", "either", "error", "pixels")
        )
        out = {f"{prefix}iou_0.2": _ratio(both.sum(1), either.sum(1))}
        out |= {f"{prefix}{name}_iou_0.2": _ratio(both[:, c], either[:, c]) for c, name in enumerate(CLASSES)}
        if side == "model":
            out |= {"mae": _ratio(error.sum(1), pixels.sum(1))}
            out |= {f"{name}_mae": _ratio(error[:, c], pixels[:, c]) for c, name in enumerate(CLASSES)}
            for c, name in enumerate(CLASSES):
                out |= {f"{name}_both_px": both[:, c], f"{name}_either_px": either[:, c]}
        return out


def standard_error(numerators: NDArray[Any], denominators: NDArray[Any]) -> float:
    """Return the standard error of a ratio of sums over galaxies; pixels of one galaxy are not independent.

    Parameters
    ----------
    numerators, denominators : numpy.ndarray
        (galaxies,).

    Returns
    -------
    float
        Cochran 1977, Sampling Techniques, eq. 2.39; NaN for fewer than 2 galaxies, or a denominator of 0.
    """
    return _spread(_influence(numerators, denominators))


def difference_error(first: pd.DataFrame, second: pd.DataFrame, name: str) -> float:
    """Return the standard error of the difference between two models' pooled IoU at > 0.2 on the same galaxies.

    Parameters
    ----------
    first, second : pandas.DataFrame
        ``galaxies`` of two `zoobot_3d.report.evaluate.Evaluation` of the same dataset.
    name : str
        Class.

    Returns
    -------
    float
        As of `standard_error`, with the correlation between the two taken into account; NaN if it is undefined.
    """
    columns = [f"{name}_both_px", f"{name}_either_px"]
    one, other = (_influence(*table.sort_index()[columns].to_numpy(float).T) for table in (first, second))
    return _spread(one - other)


def _influence(numerators: NDArray[Any], denominators: NDArray[Any]) -> NDArray[np.float64]:
    """How much each galaxy moves the ratio of the sums, in the linear approximation; NaN where that is undefined."""
    total = float(np.sum(denominators))
    if total <= 0:
        return np.full(len(numerators), np.nan)
    ratio = np.sum(numerators) / total
    return np.asarray((numerators - ratio * denominators) / total, float)


def _spread(influences: NDArray[np.float64]) -> float:
    n = len(influences)
    return float(np.sqrt(n / (n - 1) * np.sum(influences**2))) if n > 1 else float("nan")


def _ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(numerators.shape, np.nan)
    np.divide(numerators, denominators, out=out, where=denominators > 0)
    return out
