"""Pictures of any field: networks see a window about the galaxy, or windows of several sizes. Knows no networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zoobot_3d.infer.field import galaxy_window
from zoobot_3d.infer.uncertainty import Found, combine, mean_disagreement

__all__ = ["over_windows"]

_ZOOMS = (0.8, 1.0, 1.25)  # windows of a picture of any field: about as far as the measured size scatters


def over_windows(
    pictures: Sequence[NDArray[np.uint8]], find: Callable[[list[NDArray[np.uint8]]], list[Found]], several: bool
) -> Iterator[Found]:
    """Yield what is found in each picture, over windows about its galaxy, on the picture's pixels.

    Parameters
    ----------
    pictures : sequence of numpy.ndarray
        (H, W, 3) uint8, of any shape.
    find : callable
        What finds arms and bars in the windows of all pictures, (S, S, 3), and tells standard deviations or not.
    several : bool
        Take the mean over windows of several sizes.
    """
    told: list[list[Found]] = [[] for _ in pictures]
    for zoom in _ZOOMS if several else (1.0,):
        windows = [galaxy_window(picture, zoom) for picture in pictures]
        cuts = [window.cut(picture) for window, picture in zip(windows, pictures, strict=True)]
        for index, (window, found) in enumerate(zip(windows, find(cuts), strict=True)):
            shape = pictures[index].shape[:2]
            sigma = None if found.sigma is None else window.put_back(found.sigma**2, shape)
            told[index].append(Found(window.put_back(found.masks, shape), sigma, found.disagreement))
    for maps in told:
        mean, variance = combine([found.masks for found in maps], owns=[found.sigma for found in maps])
        apart = mean_disagreement(found.disagreement for found in maps)
        yield Found(mean, None if maps[0].sigma is None else np.sqrt(variance), apart)
