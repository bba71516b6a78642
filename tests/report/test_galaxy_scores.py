"""Maps of 2 x 2 pixels, whose scores are worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from zoobot_3d.report.galaxy_scores import GalaxyScores, difference_error, standard_error


def maps(spiral, bar, spiral_votes, bar_votes, asked=10):
    """Fractions, votes and volunteers asked, from flat lists of 4 pixels."""
    fraction = np.array([spiral, bar], np.float32).reshape(2, 2, 2)
    votes = np.array([spiral_votes, bar_votes], np.uint8).reshape(2, 2, 2)
    return fraction, votes, np.full((2, 2, 2), asked, np.uint8)


NOTHING = [0, 0, 0, 0]
HALF = maps([0.6, 0.6, 0, 0], NOTHING, [6, 6, 6, 0], NOTHING)  # arms: 2 of 3 pixels; error 0.6 / 4
MISSED = maps(NOTHING, NOTHING, NOTHING, [0, 5, 0, 0])  # bar: none of 1; error 0.5 / 4
EMPTY = maps([0.1, 0, 0, 0], NOTHING, NOTHING, NOTHING)  # nothing above 0.2 anywhere


@pytest.fixture
def scores():
    scores = GalaxyScores()
    scores.add(3, "007", EMPTY, None)
    scores.add(5, "half", HALF, MISSED)
    scores.add(8, "missed", MISSED, HALF)
    return scores


def test_the_worst_comes_first_and_what_has_no_overlap_last(scores):
    table = scores.table()
    assert list(table["id"]) == ["missed", "half", "007"]
    assert list(table.index) == [8, 5, 3]
    assert len(scores) == 3


def test_scores_of_each_galaxy_and_of_its_volunteers(scores):
    table = scores.table().set_index("id")
    assert table.loc["half", "spiral_iou_0.2"] == pytest.approx(2 / 3)
    assert np.isnan(table.loc["half", "bar_iou_0.2"])
    assert table.loc["half", "spiral_mae"] == pytest.approx(0.15)
    assert table.loc["half", "mae"] == pytest.approx(0.075)
    assert table.loc["half", ["spiral_both_px", "spiral_either_px"]].tolist() == [2, 3]
    assert table.loc["missed", "bar_iou_0.2"] == 0 and table.loc["missed", "iou_0.2"] == 0
    assert table.loc["missed", "halves_spiral_iou_0.2"] == pytest.approx(2 / 3)
    assert table.loc["half", "halves_bar_iou_0.2"] == 0
    assert np.isnan(table.loc["007", "iou_0.2"]) and np.isnan(table.loc["007", "halves_iou_0.2"])


def test_of_equal_overlap_the_larger_error_is_worse():
    scores = GalaxyScores()
    scores.add(0, "slight", maps(NOTHING, NOTHING, [3, 0, 0, 0], NOTHING), None)
    scores.add(1, "gross", maps(NOTHING, NOTHING, [9, 9, 0, 0], NOTHING), None)
    assert list(scores.table()["id"]) == ["gross", "slight"]


def test_three_votes_of_fifteen_are_not_above_a_fifth():
    scores = GalaxyScores()
    scores.add(0, "g", maps([0.2, 0, 0, 0], NOTHING, [3, 0, 0, 0], NOTHING, asked=15), None)
    assert np.isnan(scores.table()["iou_0.2"].item())


def test_pixels_that_nobody_was_asked_about_do_not_count():
    fraction, votes, asked = maps([0.9, 0.9, 0, 0], NOTHING, [9, 0, 0, 0], NOTHING)
    asked[0, 0, 1] = 0
    scores = GalaxyScores()
    scores.add(0, "g", (fraction, votes, asked), None)
    assert scores.table()["spiral_iou_0.2"].item() == 1
    assert scores.table()["spiral_mae"].item() == pytest.approx(0, abs=1e-6)


def test_the_error_of_a_ratio_follows_from_the_scatter_among_galaxies():
    # Ratio 0.5; residuals 1 - 0.5 * 4 = -1 and 3 - 0.5 * 4 = 1; sqrt(2 / 1 * (1 + 1)) / 8.
    assert standard_error(np.array([1, 3]), np.array([4, 4])) == pytest.approx(0.25)
    assert standard_error(np.array([2, 2]), np.array([4, 4])) == 0
    assert np.isnan(standard_error(np.array([1]), np.array([4])))
    assert np.isnan(standard_error(np.array([0, 0]), np.array([0, 0])))


def test_errors_name_the_scores_they_belong_to(scores):
    errors = scores.errors("model")
    assert set(errors) == {f"{name}_{key}" for name in ("spiral", "bar") for key in ("iou_0.2", "mae")}
    assert errors["spiral_iou_0.2"] == 0  # one galaxy alone has arms
    assert errors["spiral_mae"] > 0


def test_models_that_err_together_differ_with_certainty():
    columns = ["bar_both_px", "bar_either_px"]
    first = pd.DataFrame([[1, 4], [3, 4]], index=[0, 1], columns=columns)
    assert difference_error(first, first.iloc[::-1], "bar") == 0
    opposite = pd.DataFrame([[3, 4], [1, 4]], index=[0, 1], columns=columns)
    assert difference_error(first, opposite, "bar") == pytest.approx(0.5)
