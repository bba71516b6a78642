"""A bundle at work on arrays in memory: what a notebook calls. Knows nothing of catalogues or files of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoobot_3d.bundle import Bundle, load_bundle
from zoobot_3d.errors import BadPictureError
from zoobot_3d.grid import PixelGrid, resample

__all__ = ["Segmenter", "check_picture", "load_segmenter"]

_SMALLEST = 32  # px; below this no arm or bar can be told


class Segmenter:
    """Finds spiral arms and bars in pictures.

    Parameters
    ----------
    bundle : Bundle
        A trained network with all that is needed to use it rightly, from `zoobot_3d.bundle.load_bundle`.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"mps"``; by default the best there is.
    batch_size : int
        Pictures that go through the network at once.

    Examples
    --------
    >>> seg = zoobot_3d.load_segmenter("results/bundle")          # doctest: +SKIP
    >>> spiral, bar = seg.segment(rgb)                            # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, *, device: str | None = None, batch_size: int = 32) -> None:
        self.bundle = bundle
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = bundle.model.eval()
        fuse = getattr(model, "fuse", None)  # networks that fold batch norm into convolutions are faster for it
        self._model = (fuse() if fuse is not None else model).to(self.device)

    def model_grid(self, picture_grid: PixelGrid) -> PixelGrid:
        """Grid the network sees of a picture: the central field it was trained on, at its input size."""
        info = self.bundle.info
        return picture_grid.resize(info.input_size, field_fraction=info.field_fraction)

    def segment(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict the masks of one picture.

        Parameters
        ----------
        picture : numpy.ndarray
            (H, W, 3) uint8 RGB, row 0 north, square, of any size, showing a whole Galaxy Zoo field (424 px of
            ``est_dr5_pixscale``, or that field in another number of pixels).

        Returns
        -------
        numpy.ndarray
            (2, H, W) float32 in 0-1 on the picture's own pixels: the fraction of volunteers who would enclose each in a
            spiral arm (plane 0) or bar (plane 1). 0 outside the field the network was trained on.

        Raises
        ------
        BadPictureError
            If the array is not such a picture, or is blank.
        """
        return self.segment_batch([picture])[0]

    def segment_batch(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Predict the masks of many pictures, which may differ in size; see `segment`."""
        for index, picture in enumerate(pictures):
            check_picture(picture, f"picture {index}")
        return self.segment_checked(pictures)

    def segment_checked(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Do the work of `segment_batch` on pictures that passed `check_picture`."""
        masks: list[NDArray[np.float32]] = []
        for start in range(0, len(pictures), self.batch_size):
            chunk = pictures[start : start + self.batch_size]
            grids = [PixelGrid(picture.shape[:2], 1.0) for picture in chunk]
            inputs = np.stack([self._network_input(p, g) for p, g in zip(chunk, grids, strict=True)])
            for fraction, grid in zip(self.fractions(inputs), grids, strict=True):
                masks.append(resample(fraction, self.model_grid(grid), grid))
        return masks

    def fractions(self, views: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Run the network on what it sees: pictures already on its own grid.

        Parameters
        ----------
        views : numpy.ndarray
            (B, 3, S, S) in 0-1, on `model_grid`.

        Returns
        -------
        numpy.ndarray
            (B, 2, S, S) float32 in 0-1.
        """
        with torch.inference_mode():
            raw = self._model(torch.from_numpy(views.astype(np.float32)).to(self.device))
            return np.asarray(self.bundle.fraction(raw).float().cpu().numpy())

    def _network_input(self, picture: NDArray[np.uint8], grid: PixelGrid) -> NDArray[np.float32]:
        small = resample(picture, grid, self.model_grid(grid))
        return np.moveaxis(small, -1, 0) / np.float32(255)


def check_picture(picture: Any, name: str = "picture") -> None:
    """Refuse what is not a picture of a galaxy.

    Raises
    ------
    BadPictureError
        If the array is not (H, W, 3) uint8, not square, too small, or the same everywhere.
    """
    if not isinstance(picture, np.ndarray):
        raise BadPictureError(f"{name}: expected a NumPy array, got {type(picture).__name__}")
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise BadPictureError(f"{name}: expected shape (H, W, 3), got {picture.shape}")
    if picture.dtype != np.uint8:
        raise BadPictureError(
            f"{name}: expected uint8 in 0-255, got {picture.dtype}; make it with zoobot_3d.rgb_from_grz"
        )
    height, width = picture.shape[:2]
    if height != width:
        raise BadPictureError(
            f"{name}: expected a square, got {height} x {width} pixels; cut it square about the galaxy"
        )
    if height < _SMALLEST:
        raise BadPictureError(f"{name}: {height} pixels a side is too small; give at least {_SMALLEST}")
    if picture.min() == picture.max():
        raise BadPictureError(f"{name}: blank, every pixel is {picture.min()}; is it outside the survey's footprint?")


def load_segmenter(bundle: str | os.PathLike[str], *, device: str | None = None, batch_size: int = 32) -> Segmenter:
    """Load a bundle and make it ready to find arms and bars.

    Parameters
    ----------
    bundle : str or os.PathLike
        Folder written by ``zoobot3d train``.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"mps"``; by default the best there is.
    batch_size : int
        Pictures that go through the network at once.

    Returns
    -------
    Segmenter

    Raises
    ------
    BundleError
        If the folder is not a bundle this version can use.
    """
    return Segmenter(load_bundle(bundle), device=device, batch_size=batch_size)
