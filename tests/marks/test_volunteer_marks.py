"""Who drew what: blanks are kept, halves add up, JSON gives back every digit."""

import json
import math

import numpy as np
import pytest

from zoobot_3d.errors import BadFileError, BadMarksError
from zoobot_3d.marks.volunteer_marks import PathTask, PointTask, VolunteerMarks
from zoobot_3d.sky.grid import PixelGrid

GRID = PixelGrid((40, 40), 0.5, 150.0, 20.0, center=(19.0, 19.0))
BOX = [[9.5, 9.5], [20.5, 9.5], [20.5, 15.1], [9.5, 15.1]]
BAR = [[12.0999755859375, 18.3], [25.25, 18.3], [25.25, 1 / 3], [12.1, 22.7]]


@pytest.fixture
def marks():
    """Five asked for arms (one marked, one placed a single point), three for bars."""
    return VolunteerMarks(
        GRID,
        spiral=PathTask.from_nested([[], [BOX, [[3, 4]]], [[[7.3, 8.1]]], [], []], [11, 12, 13, 14, 15], list("abcde")),
        bar=PathTask.from_nested([[BAR], [], [[], BAR]]),
        points=PointTask.from_nested([[(19.2, 19.4)], []], [[], [(3.5, 4), (7, 1 / 7)]], [5, 6]),
        metadata={"MANGAID": "1-2", "ra": 150.00001, "nsa_id": 7, "GZ_bar_votes": None},
    )


def test_everybody_asked_is_counted(marks):
    assert marks.n_asked == {"spiral": 5, "bar": 3}
    assert marks.n_asked_array.tolist() == [5, 3]
    assert marks.n_marked == {"spiral": 1, "bar": 2}
    assert marks.points.n_asked == 2
    assert [len(paths) for paths in marks.spiral.nested()] == [0, 2, 1, 0, 0]


def test_votes_on_the_mark_grid(marks):
    votes = marks.votes()
    assert votes.shape == (2, 40, 40) and votes.dtype == np.uint16
    assert votes[0].max() == 1 and votes[1].max() == 2
    assert votes[0].sum() == 11 * 6  # x 10-20, y 10-15


def test_votes_on_another_grid_cover_the_same_sky(marks):
    finer = PixelGrid((160, 160), 0.125, 150.0, 20.0)
    area = marks.votes(finer)[0].sum() * finer.pixscale**2
    assert area == pytest.approx(11 * 5.6 * 0.5**2, rel=0.02)
    y, x = np.argwhere(marks.votes(finer)[0]).mean(axis=0)
    # The box's middle, (15.0, 12.3), is 4 px left of and 6.7 px above the reference pixel.
    assert (x, y) == pytest.approx((79.5 - 4 * 4, 79.5 - 6.7 * 4), abs=0.5)


def test_votes_by_the_official_rule(marks):
    assert marks.votes(count="paths", drop_self_intersecting=True)[0].max() == 1
    twice = VolunteerMarks(GRID, PathTask.from_nested([[BOX, BOX]]), marks.bar)
    assert twice.votes(count="paths")[0].max() == 2
    assert twice.votes()[0].max() == 1


def test_json_gives_back_everything(marks, tmp_path):
    path = tmp_path / "deep" / "marks.json"
    text = marks.to_json(path)
    assert VolunteerMarks.from_json(text) == marks
    assert VolunteerMarks.from_json(path) == marks
    assert VolunteerMarks.from_json(str(path)) == marks
    assert VolunteerMarks.from_json(text).to_json() == text
    assert VolunteerMarks.from_json(text).bar.nested()[0][0][2, 1] == 1 / 3


def test_json_tells_different_marks_apart(marks):
    blank = VolunteerMarks(GRID, PathTask.from_nested([[]] * 5), marks.bar, marks.points, marks.metadata)
    assert VolunteerMarks.from_json(blank.to_json()) != marks
    assert VolunteerMarks.from_json(blank.to_json()).n_asked == marks.n_asked


@pytest.mark.parametrize("value", [0.1, 281.3, 524.9, -3.7, 1234.5, 0.30000000000000004, 1e-17, 999999.9, 1e8 + 0.1])
def test_json_keeps_every_digit(value):
    paths = [[[[value, 3.0], [value + 0.1, 0.7], [1, 2]]]]
    marks = VolunteerMarks(GRID, PathTask.from_nested(paths), PathTask.from_nested([]))
    again = VolunteerMarks.from_json(marks.to_json())
    np.testing.assert_array_equal(again.spiral.paths.vertices, marks.spiral.paths.vertices)


def test_floating_grid_survives(marks):
    floating = VolunteerMarks(PixelGrid((40, 40), 0.5), marks.spiral, marks.bar)
    assert VolunteerMarks.from_json(floating.to_json()) == floating


def test_halves_share_out_the_volunteers(marks):
    rows = [[[[n, 0], [n, 1], [n + 1, 0]]] if n % 3 else [] for n in range(15)]
    task = PathTask.from_nested(rows, range(100, 115))
    many = VolunteerMarks(GRID, task, marks.bar, marks.points, marks.metadata)
    first, second = many.split_half(0)
    assert (first.n_asked["spiral"], second.n_asked["spiral"]) == (7, 8)
    assert sorted(first.spiral.classification_id + second.spiral.classification_id) == list(range(100, 115))
    for half in (first, second):
        assert half.metadata == many.metadata and half.grid == GRID
        for number, paths in zip(half.spiral.classification_id, half.spiral.nested(), strict=True):
            np.testing.assert_array_equal(np.array(paths), np.array(rows[number - 100]))
    np.testing.assert_array_equal(first.votes() + second.votes(), many.votes())


def test_halves_depend_on_the_seed_alone(marks):
    task = PathTask.from_nested([[]] * 15)
    many = VolunteerMarks(GRID, task, task)
    assert many.split_half(1) == many.split_half(np.random.default_rng(1))
    assert many.split_half(1) != many.split_half(2)
    assert many.split_half(1)[0].spiral.classification_id != many.split_half(1)[0].bar.classification_id


def test_rows_must_fit():
    with pytest.raises(BadMarksError, match="1 time stamps for 2 volunteers"):
        PathTask.from_nested([[], []], [1, 2], ["now"])
    with pytest.raises(BadMarksError, match="belongs to volunteer 1 but only 1 were asked"):
        PathTask((7,), ("",), PathTask.from_nested([[], [BOX]]).paths)
    with pytest.raises(BadMarksError, match="1 rows of star points for 2 volunteers"):
        PointTask.from_nested([[], []], [[]])
    with pytest.raises(BadMarksError, match="center points must be"):
        PointTask.from_nested([[3, 4]], [[]])
    with pytest.raises(BadMarksError, match="volunteer 1, path 0: vertex 0"):
        PathTask.from_nested([[], [[[math.nan, 1]]]])


def test_metadata_that_json_cannot_hold(marks):
    with pytest.raises(BadMarksError, match="metadata cannot be written"):
        VolunteerMarks(GRID, marks.spiral, marks.bar, metadata={"z": math.nan}).to_json()


def changed(text, *keys, value):
    content = json.loads(text)
    place = content
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), 99, "format 99 is newer"),
        (("kind",), "else", "not volunteers' marks"),
        (("format",), None, "not volunteers' marks"),
        (("bar",), None, "no 'bar'"),
        (("spiral", "paths"), None, "no 'paths'"),
        (("grid", "pixscale"), -1, "pixscale must be positive"),
        (("spiral", "paths", 1, 0), "100 100 205", "not pairs of numbers"),
        (("spiral", "paths", 1, 0), "100 100  205 151", "not pairs of numbers"),
        (("spiral", "paths", 1, 0), "100 abc", "marks.json: "),
        (("spiral", "paths", 1, 0), [1.5, 2.5, 3.5], "marks.json: "),
        (("spiral", "paths", 1, 0), {"x": 1}, "marks.json: "),
        (("spiral", "paths"), 3, "marks.json: "),
        (("spiral", "classification_id"), [1], "volunteers"),
        (("points", "center", 0), [[1]], "center points must be"),
    ],
)
def test_json_that_is_not_right(marks, tmp_path, keys, value, message):
    path = tmp_path / "marks.json"
    path.write_text(changed(marks.to_json(), *keys, value=value))
    with pytest.raises(BadFileError, match=message) as error:
        VolunteerMarks.from_json(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_not_json(marks, tmp_path):
    path = tmp_path / "marks.json"
    with pytest.raises(BadFileError, match="no such file"):
        VolunteerMarks.from_json(path)
    path.write_text(marks.to_json()[:-9])
    with pytest.raises(BadFileError, match="broken JSON"):
        VolunteerMarks.from_json(path)
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(BadFileError, match="cannot be read"):
        VolunteerMarks.from_json(path)
    path.write_text("[1, 2]")
    with pytest.raises(BadFileError, match="not volunteers' marks"):
        VolunteerMarks.from_json(path)


def test_marks_say_in_one_line_who_drew():
    square = [[0, 0], [4, 0], [4, 4]]
    spiral = PathTask.from_nested([[square], [], [square, square]])
    points = PointTask.from_nested([[(1, 2)], []], [[], [(3, 4), (5, 6)]])
    marks = VolunteerMarks(PixelGrid((525, 525), 0.099), spiral, PathTask.from_nested([[]]), points)
    assert repr(marks) == "VolunteerMarks(arms by 2 of 3 volunteers, bar by 0 of 1, 525 x 525 px)"
    named = VolunteerMarks(marks.grid, spiral, marks.bar, points, {"MANGAID": "1-2 "})
    assert repr(named).startswith("VolunteerMarks(1-2: arms by 2")
    assert repr(spiral) == "PathTask(3 volunteers, 3 paths)"
    assert repr(points) == "PointTask(2 volunteers, 1 centres, 2 stars)"
