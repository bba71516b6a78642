"""Raw output of a network to fractions of volunteers and their variance, in NumPy.

The same as `zoobot_3d.networks.losses` does on tensors; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from zoobot_3d.errors import ConfigError

__all__ = ["MAX_CONCENTRATION", "MIN_CONCENTRATION", "fraction", "variance"]

MIN_CONCENTRATION, MAX_CONCENTRATION = 0.1, 1000.0
"""Limits of the beta-binomial's concentration, as in `zoobot_3d.networks.losses`."""


def fraction(raw: NDArray[Any], loss: str, temperature: Sequence[float]) -> NDArray[np.float32]:
    """Turn raw output into calibrated fractions of volunteers.

    Parameters
    ----------
    raw : numpy.ndarray
        (B, out_channels, S, S), of the network.
    loss : str
        The network was trained with; as in `zoobot_3d.networks.losses.LOSS_NAMES`.
    temperature : sequence of float
        What the logit of each class's fraction is divided by.

    Returns
    -------
    numpy.ndarray
        (B, classes, S, S) float32 in 0-1.

    Raises
    ------
    ConfigError
        If there is no such loss.
    """
    divisor = np.asarray(temperature, np.float32)[:, None, None]
    raw = np.asarray(raw, np.float32)
    if loss in ("bce", "beta_binomial"):
        logits = raw[:, 0::2] if loss == "beta_binomial" else raw
        return np.asarray(expit(logits / divisor), np.float32)
    if loss not in ("l1", "mse"):
        raise ConfigError(f"no loss is called {loss!r}")
    clipped = raw.clip(0.0, 1.0)
    if (divisor == 1).all():
        return clipped
    return np.asarray(expit(logit(clipped) / divisor), np.float32)


def variance(raw: NDArray[Any], loss: str, temperature: Sequence[float]) -> NDArray[np.float32] | None:
    """Tell the variance (B, classes, S, S) of the fraction that the network predicts; None unless `beta_binomial`."""
    if loss != "beta_binomial":
        return None
    mean = fraction(raw, loss, temperature)
    concentration = np.logaddexp(np.float32(0), np.asarray(raw, np.float32)[:, 1::2]) + np.float32(MIN_CONCENTRATION)
    return np.asarray(mean * (1 - mean) / (1 + concentration.clip(max=MAX_CONCENTRATION)), np.float32)
