"""Fractions and variances in NumPy are those of the losses that the networks learn with."""

import numpy as np
import pytest
import torch
from scipy.special import logit

from zoobot_3d.engines.answers import MAX_CONCENTRATION, MIN_CONCENTRATION, fraction, variance
from zoobot_3d.errors import ConfigError
from zoobot_3d.networks import losses
from zoobot_3d.networks.losses import LOSS_NAMES, build_loss


def raw_output(loss):
    """Moderate values, and extreme ones of either sign."""
    channels = build_loss(loss).out_channels
    values = np.random.default_rng(0).normal(0.3, 3, (2, channels, 9, 9)).astype(np.float32)
    values[0, :, 0, :3] = [-200, 0, 2000]
    return values


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_fractions(name):
    raw = raw_output(name)
    expected = build_loss(name).fraction(torch.from_numpy(raw)).numpy()
    found = fraction(raw, name, (1.0, 1.0))
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_temperature_divides_the_logit_of_its_class(name):
    plain, warm = (fraction(raw_output(name), name, t).astype(np.float64) for t in ((1.0, 1.0), (2.0, 0.5)))
    inside = (plain > 1e-4) & (plain < 1 - 1e-4)
    inside &= (warm > 1e-4) & (warm < 1 - 1e-4)
    odds = [logit(values) for values in (plain, warm)]
    for index, temperature in enumerate((2.0, 0.5)):
        known = inside[:, index]
        assert known.any()
        np.testing.assert_allclose(
            odds[1][:, index][known], odds[0][:, index][known] / temperature, rtol=2e-3, atol=1e-3
        )
    np.testing.assert_array_equal(warm[(plain == 0) | (plain == 1)], plain[(plain == 0) | (plain == 1)])


def test_variance():
    raw = raw_output("beta_binomial")
    expected = build_loss("beta_binomial").variance(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(variance(raw, "beta_binomial", (1.0, 1.0)), expected, atol=1e-6)
    assert variance(raw[:, :2], "bce", (1.0, 1.0)) is None


def test_limits_are_the_same():
    assert (MIN_CONCENTRATION, MAX_CONCENTRATION) == (losses.MIN_CONCENTRATION, losses.MAX_CONCENTRATION)


def test_an_unknown_loss():
    with pytest.raises(ConfigError, match="hinge"):
        fraction(np.zeros((1, 2, 4, 4)), "hinge", (1.0, 1.0))
