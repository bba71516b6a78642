import math

import numpy as np
import pytest

from zoobot_3d.report.binary_masks import BinaryScores


def test_precision_and_recall_by_hand():
    fraction = np.array([[[[0.2, 0.6, 0.5, 0.1]], [[0.0, 0.0, 0.0, 0.0]]]], np.float32)
    votes = np.array([[[[3, 2, 9, 8]], [[0, 0, 0, 15]]]])
    scores = BinaryScores()
    scores.update(fraction, votes, np.full((1, 2, 1, 4), 15))
    found = scores.compute()
    # At 0.2 the prediction has pixels 0, 1, 2 and the volunteers 0, 2, 3; at 0.5 they have 1, 2 and 2, 3.
    assert found["spiral_precision_0.2"] == found["spiral_recall_0.2"] == pytest.approx(2 / 3)
    assert found["spiral_precision_0.5"] == found["spiral_recall_0.5"] == pytest.approx(1 / 2)
    assert math.isnan(found["bar_precision_0.2"]) and found["bar_recall_0.2"] == 0


def test_pixels_that_nobody_was_asked_about_do_not_count():
    scores = BinaryScores()
    scores.update(np.ones((1, 2, 1, 2), np.float32), np.array([[[[15, 0]], [[15, 0]]]]), np.array([[[[15, 0]]] * 2]))
    assert set(scores.compute().values()) == {1.0}


@pytest.mark.parametrize("asked", [5, 10, 15, 20, 40])
def test_a_fifth_of_the_volunteers_is_at_the_threshold(asked):
    scores = BinaryScores()
    votes = np.full((1, 2, 1, 1), asked // 5)
    scores.update(np.full((1, 2, 1, 1), 0.2, np.float32), votes, np.full((1, 2, 1, 1), asked))
    assert scores.compute()["spiral_recall_0.2"] == 1
