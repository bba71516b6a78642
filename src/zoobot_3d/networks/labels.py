"""A batch of labels as tensors: the shape that n_asked takes beside votes. Torch only."""

from __future__ import annotations

from torch import Tensor

from zoobot_3d.errors import ConfigError
from zoobot_3d.schema import CLASSES


def broadcast_asked(n_asked: Tensor, votes: Tensor) -> Tensor:
    """Return ``n_asked`` in a shape that broadcasts against ``votes``, as float32.

    Parameters
    ----------
    n_asked : Tensor
        Volunteers asked, (B, classes), or (B, classes, H, W) where it differs from pixel to pixel.
    votes : Tensor
        Volunteers who enclosed each pixel, (B, classes, H, W).

    Returns
    -------
    Tensor
        (B, classes, 1, 1) or (B, classes, H, W).

    Raises
    ------
    ConfigError
        If the shapes do not go together.
    """
    if votes.ndim != 4 or votes.shape[1] != len(CLASSES):
        raise ConfigError(f"votes have shape {tuple(votes.shape)}; give (B, {len(CLASSES)}, H, W)")
    if n_asked.shape == votes.shape[:2]:
        n_asked = n_asked[:, :, None, None]
    elif n_asked.shape != votes.shape:
        raise ConfigError(
            f"n_asked has shape {tuple(n_asked.shape)} for votes {tuple(votes.shape)}; "
            f"give (B, {len(CLASSES)}) or the shape of votes"
        )
    return n_asked.float()
