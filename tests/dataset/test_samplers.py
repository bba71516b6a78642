"""Which galaxies an epoch shows: by seed and epoch alone, each its turn, each kind its share."""

import numpy as np
import pytest

from zoobot_3d.dataset.samplers import EpochOrder, epoch_counts


def shown(order, epoch):
    order.set_epoch(epoch)
    rows = list(order)
    assert len(rows) == len(order)
    return rows


def test_one_kind_as_many_as_there_are_is_a_permutation():
    order = EpochOrder([np.arange(5)], [5], seed=3)
    for epoch in (0, 7):
        assert shown(order, epoch) == np.random.default_rng((3, epoch)).permutation(5).tolist()


@pytest.mark.parametrize("count", [2, 3, 7, 12])
def test_all_have_their_turn_in_short_and_long_epochs(count):
    order = EpochOrder([np.arange(5)], [count], seed=0)
    seen = np.zeros(5, int)
    for epoch in range(10):
        seen += np.bincount(shown(order, epoch), minlength=5)
        assert seen.max() - seen.min() <= 1


def test_the_order_is_that_of_seed_and_epoch_alone():
    kinds = [np.arange(4), np.arange(4, 20)]
    orders = [EpochOrder(kinds, [16, 16], seed) for seed in (1, 1, 2)]
    for epoch in (5, 0):
        first, again, other = (shown(order, epoch) for order in orders)
        assert first == again
        assert first != other
    assert shown(orders[0], 0) != shown(orders[0], 1)


def test_every_stretch_has_about_the_share_of_each_kind():
    marked, others = np.arange(10), np.arange(10, 1000)
    order = EpochOrder([marked, others], [330, 990], seed=0)
    rows = np.array(shown(order, 4))
    assert np.array_equal(np.bincount(rows[rows < 10]), np.full(10, 33))  # oversampled alike
    assert np.array_equal(np.sort(rows[rows >= 10]), others)
    stretches = (rows.reshape(-1, 40) < 10).sum(axis=1)  # a quarter of 40
    assert stretches.min() >= 8 and stretches.max() <= 12


@pytest.mark.parametrize(
    ("marked", "others", "share", "size", "expected"),
    [
        (10, 90, 0.5, 0, (90, 90)),  # all of the commoner kind, the other 9 times
        (90, 10, 0.5, 0, (90, 90)),
        (10, 90, 0.1, 0, (10, 90)),
        (10, 90, 0.25, 40, (10, 30)),
        (10, 90, 0.001, 40, (1, 39)),  # never none
    ],
)
def test_counts(marked, others, share, size, expected):
    assert epoch_counts(marked, others, share, size) == expected
