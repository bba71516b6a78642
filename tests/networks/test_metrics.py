"""Scores of arrays small enough to work out by hand."""

import pytest
import torch

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.metrics import MeanLoss, SegmentationMetrics, masked_iou, masked_mae, masked_soft_iou

# One galaxy, 2 x 2 px, 10 volunteers; bar is empty and predicted empty, but for a whisper.
VOTES = torch.tensor([[[[10, 5], [2, 0]], [[0, 0], [0, 0]]]])
FRACTION = torch.tensor([[[[0.8, 0.1], [0.3, 0.3]], [[0.0, 0.01], [0.02, 0.04]]]])
ASKED = torch.tensor([[10, 10]])


def test_mae_by_hand():
    # spiral: |0.8-1| + |0.1-0.5| + |0.3-0.2| + |0.3-0| over 4; bar: 0.07 over 4.
    torch.testing.assert_close(masked_mae(FRACTION, VOTES, ASKED), torch.tensor([0.25, 0.0175]))


def test_iou_by_hand():
    # > 0.2: volunteers have 2 px (0.2 itself is not above), the model 3, 1 in common, 4 in all.
    torch.testing.assert_close(masked_iou(FRACTION, VOTES, ASKED, 0.2), torch.tensor([0.25, torch.nan]), equal_nan=True)
    # > 0: volunteers have 3 px, the model 4 (0.1 is one vote of ten). In the bar nothing reaches half a vote.
    torch.testing.assert_close(masked_iou(FRACTION, VOTES, ASKED, 0.0), torch.tensor([0.75, torch.nan]), equal_nan=True)


def test_soft_iou_by_hand():
    # spiral: (0.8 + 0.1 + 0.2 + 0) / (1 + 0.5 + 0.3 + 0.3)
    torch.testing.assert_close(masked_soft_iou(FRACTION, VOTES, ASKED), torch.tensor([1.1 / 2.1, 0.0]))


@pytest.mark.parametrize(("fraction", "asked", "inside"), [(0.04, 15, True), (0.03, 15, False), (0.03, 30, True)])
def test_above_zero_means_at_least_half_a_vote(fraction, asked, inside):
    iou = masked_iou(torch.full((1, 2, 1, 1), fraction), torch.ones(1, 2, 1, 1), torch.tensor([[asked, asked]]), 0.0)
    assert iou.tolist() == [float(inside)] * 2


def test_3_of_15_is_not_above_a_fifth():
    iou = masked_iou(torch.full((1, 2, 1, 1), 0.9), torch.full((1, 2, 1, 1), 3), torch.tensor([[15, 15]]), 0.2)
    assert iou.tolist() == [0.0, 0.0]


def test_pooled_over_galaxies_not_averaged():
    """1 of 1 px right and 0 of 3 px right: 1/4 pooled, 1/2 averaged."""
    votes = torch.zeros(2, 2, 1, 4)
    votes[0, :, :, 0], votes[1, :, :, :3] = 10, 10
    fraction = torch.zeros(2, 2, 1, 4)
    fraction[0, :, :, 0] = 0.9
    metrics = SegmentationMetrics()
    for i in range(2):
        metrics.update(fraction[i : i + 1], votes[i : i + 1], ASKED)
    scores = metrics.compute()
    assert scores["spiral_iou_0.2"] == 0.25
    assert scores["bar_iou_0"] == 0.25


def test_metric_agrees_with_the_functions_and_names_each_score():
    metrics = SegmentationMetrics()
    metrics.update(FRACTION, VOTES, ASKED)
    scores = metrics.compute()
    expected = {
        "mae": masked_mae(FRACTION, VOTES, ASKED),
        "iou_0": masked_iou(FRACTION, VOTES, ASKED, 0.0),
        "iou_0.2": masked_iou(FRACTION, VOTES, ASKED, 0.2),
        "soft_iou": masked_soft_iou(FRACTION, VOTES, ASKED),
    }
    assert list(scores) == [f"{name}_{key}" for name in ("spiral", "bar") for key in expected]
    for key, value in expected.items():
        for i, name in enumerate(("spiral", "bar")):
            torch.testing.assert_close(scores[f"{name}_{key}"], value[i], equal_nan=True)


def test_unknown_does_not_count():
    fraction, votes = FRACTION.repeat(2, 1, 1, 1), VOTES.repeat(2, 1, 1, 1).float()
    fraction[1], votes[1] = 1.0, torch.nan
    metrics = SegmentationMetrics()
    metrics.update(fraction, votes, torch.tensor([[10, 10], [0, 0]]))
    alone = SegmentationMetrics()
    alone.update(FRACTION, VOTES, ASKED)
    torch.testing.assert_close(metrics.compute(), alone.compute(), equal_nan=True)


def test_unknown_pixels_do_not_count():
    asked = ASKED[:, :, None, None].repeat(1, 1, 2, 2)
    asked[..., 1] = 0
    torch.testing.assert_close(masked_mae(FRACTION, VOTES, asked), torch.tensor([0.15, 0.01]))


def test_nothing_known_is_nan():
    metrics = SegmentationMetrics()
    metrics.update(FRACTION, VOTES, torch.zeros(1, 2))
    assert all(torch.isnan(value) for value in metrics.compute().values())


def test_reset_forgets():
    metrics = SegmentationMetrics()
    metrics.update(torch.ones_like(FRACTION), VOTES, ASKED)
    metrics.reset()
    metrics.update(FRACTION, VOTES, ASKED)
    assert metrics.compute()["spiral_mae"].item() == pytest.approx(0.25)


def test_wrong_input_is_refused():
    with pytest.raises(ConfigError, match="give floats in 0-1"):
        masked_mae(VOTES, VOTES, ASKED)
    with pytest.raises(ConfigError, match="give the same"):
        masked_mae(FRACTION[:, :1], VOTES, ASKED)
    with pytest.raises(ConfigError, match="n_asked has shape"):
        masked_mae(FRACTION, VOTES, ASKED[0])
    with pytest.raises(ConfigError, match=r"give \(B, 2, H, W\)"):
        masked_mae(FRACTION[0], VOTES[0], ASKED)


def test_mean_loss_weighs_batches_and_forgets_those_without_weight():
    mean = MeanLoss()
    for loss, weight in ((1.0, 3), (torch.nan, 0), (5.0, 1.0)):
        mean.update(torch.tensor(loss), weight)
    value, weight = mean.compute()
    assert (value.item(), weight.item()) == (2.0, 4.0)
    mean.reset()
    mean.update(torch.tensor(torch.nan), 2)
    assert torch.isnan(mean.compute()[0])  # a loss that diverged is not forgotten
    mean.reset()
    mean.update(torch.tensor(7.0), 0)
    assert [v.item() for v in mean.compute()] == [0.0, 0.0]
