import numpy as np
import pytest

from zoobot_3d.infer.uncertainty import (
    N_SYMMETRIES,
    Answer,
    combine,
    disagreement,
    over_symmetries,
    symmetry,
    undo_symmetry,
)

MAPS = np.arange(2 * 3 * 9, dtype=np.float32).reshape(2, 3, 3, 3)
NAN = float("nan")


@pytest.mark.parametrize("index", range(N_SYMMETRIES))
def test_a_symmetry_is_undone(index):
    assert np.array_equal(undo_symmetry(symmetry(MAPS, index), index), MAPS)


def test_the_eight_symmetries_are_all_unlike():
    corner = np.array([[1, 2, 0], [0, 0, 0], [0, 0, 0]])
    assert len({tuple(symmetry(corner, index).flatten().tolist()) for index in range(N_SYMMETRIES)}) == 8


def test_views_that_disagree_spread():
    def first_pixel(views):  # says 0.8 in the north-east corner of whatever it sees, and is unsure of 0.01 there
        maps = np.zeros((len(views), 1, 2, 2))
        maps[..., 0, 0] = 0.8
        return maps, maps / 80

    answer = over_symmetries(first_pixel, np.zeros((3, 3, 2, 2)))
    assert np.allclose(answer.mean, np.full((3, 1, 2, 2), 0.2))  # two of eight views in each corner
    assert np.allclose(answer.spread, 0.8**2 * 0.25 * 0.75)
    assert np.allclose(answer.own, 0.0025)
    # Each view has 0.8 in one of four corners, the mean 0.2 in all: in common 0.2, together 0.8 + 3 x 0.2.
    assert np.allclose(answer.disagreement, np.full((3, 1), 1 - 0.2 / 1.4))


def test_views_that_agree_do_not_disagree():
    views = np.random.default_rng(0).random((3, 3, 5, 5)).astype(np.float32)
    answer = over_symmetries(lambda turned: (turned[:, :2] ** 2, None), views)  # pixel by pixel: equivariant
    assert np.array_equal(answer.disagreement, np.zeros((3, 2)))


def test_disagreement_by_hand():
    masks = np.zeros((2, 3, 1, 2))  # two views, three classes, two pixels
    masks[:, 0] = 0.3  # the same
    masks[0, 1, 0, 0], masks[1, 1, 0, 1] = 0.6, 0.6  # apart: mean 0.3 and 0.3, in common 0.3 of 0.9 in each view
    np.testing.assert_allclose(disagreement(masks), [0, 1 - 0.3 / 0.9, 0], atol=1e-15)


def test_the_law_of_total_variance():
    means = [np.array([0.2, 0.5]), np.array([0.6, 0.5])]
    spreads = [np.array([0.01, 0.0]), np.array([0.03, 0.0])]
    owns = [np.array([0.04, 0.1]), np.array([0.02, 0.3])]
    mean, variance = combine(means, spreads, owns)
    np.testing.assert_allclose(mean, [0.4, 0.5])
    np.testing.assert_allclose(variance, [0.2**2 + 0.02 + 0.03, 0.2], rtol=1e-6)


def test_who_says_nothing_of_its_variance_is_not_certain():
    means = [np.array([0.5]), np.array([0.5])]
    assert combine(means, [None, None], [np.array([0.04]), None])[1] == pytest.approx(0.04)
    assert combine(means)[1] == 0


def test_who_does_not_see_a_pixel_takes_no_part_there():
    means = [np.array([0.2, 0.2, NAN]), np.array([0.6, NAN, NAN])]
    mean, variance = combine(means, [np.array([0.02, 0.02, NAN]), None], [np.array([0.1, 0.1, NAN]), None])
    np.testing.assert_allclose(mean, [0.4, 0.2, NAN])
    np.testing.assert_allclose(variance, [0.04 + 0.01 + 0.1, 0.02 + 0.1, NAN], rtol=1e-6)


def test_answers_are_joined():
    one, two = Answer(np.zeros((2, 1)), own=np.ones((2, 1))), Answer(np.ones((3, 1)), own=np.ones((3, 1)))
    joined = Answer.join([one, two])
    assert joined.mean.flatten().tolist() == [0, 0, 1, 1, 1]
    assert joined.spread is None and len(joined.own) == 5
