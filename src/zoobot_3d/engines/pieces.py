"""A batch in small pieces, side by side: cores that share a batch wait for each other in every layer.

On two cores of an AMD EPYC pieces are faster than whole batches by what ``benchmarks/pieces.py`` prints.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.engines.threads import usable_cores

__all__ = ["most_at_once", "pieces_of"]

SIZE = 2
"""Pictures in a piece."""
MOST = 16
"""Pieces at once; each needs memory of its own."""


def most_at_once() -> int:
    """Count the pieces that are run at once: one for each core, up to `MOST`."""
    return min(usable_cores(), MOST)


def pieces_of(views: NDArray[np.float32], at_once: int) -> list[NDArray[np.float32]]:
    """Cut a batch into pieces of `SIZE` pictures; few pictures go one by one, to as many cores."""
    size = max(1, min(SIZE, math.ceil(len(views) / at_once)))
    return [views[start : start + size] for start in range(0, len(views), size)] or [views]
