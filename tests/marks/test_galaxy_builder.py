import json

import numpy as np
import pytest

from zoobot_3d.errors import BadFileError
from zoobot_3d.marks.galaxy_builder import SDSS_PIXSCALE, Rules, arm_outline, bar_outline, read_galaxy_builder
from zoobot_3d.marks.rasterize import FlatPaths, rasterize_marks

SHAPE, PETRO = (200, 200), 40.0
CENTRE = (100.0, 100.0)
DISK = {"mux": 100.0, "muy": 100.0, "Re": 30.0, "q": 1.0, "roll": 0.0}
STRAIGHT = [[x, 120.0] for x in np.arange(90.0, 111.0)]  # 20 px long, 20 to 22.4 px from the centre


def bar(**changes):
    return {"mux": 100.0, "muy": 100.0, "Re": 8.0, "q": 0.25, "roll": 0.5, **changes}


def volunteer(number, arms=(), of_bar=None):
    return {"classification_id": number, "arms": [{"points": line} for line in arms], "bar": of_bar}


def read(tmp_path, *volunteers, rules=None):
    content = {"volunteers": volunteers, "consensus": {"disk": DISK}, "fitted_arms": []}
    (tmp_path / "587.json").write_text(json.dumps(content))
    return read_galaxy_builder(tmp_path / "587.json", SHAPE, PETRO * SDSS_PIXSCALE, rules)


def area(shapes):
    votes = rasterize_marks(FlatPaths.from_nested([shapes]), SHAPE)
    return int((votes > 0).sum())


def test_an_arm_of_constant_width_has_the_area_of_a_stadium():
    rules = Rules(half_width=0.1, half_width_per_radius=0.0)  # 4 px to each side
    assert area(arm_outline(np.array(STRAIGHT), CENTRE, PETRO, rules)) == pytest.approx(20 * 8 + np.pi * 16, rel=0.04)


def test_an_arm_widens_with_distance_from_the_centre():
    rules = Rules(half_width=0.0, half_width_per_radius=0.2)
    outward = np.array([[110.0, 100.0], [150.0, 100.0]])  # 2 px to each side at its start, 10 at its end
    trapezoid = 40 * (2 + 10)
    assert area(arm_outline(outward, CENTRE, PETRO, rules)) == pytest.approx(trapezoid + np.pi * 50, rel=0.06)


def test_a_bar_is_a_rectangle_that_reaches_two_effective_radii():
    corners = bar_outline(bar(Re=10.0, q=0.3, roll=np.pi / 6))
    sides = np.hypot(*np.diff(corners[[0, 1, 2]], axis=0).T)
    assert sorted(sides) == pytest.approx([12.0, 40.0])
    np.testing.assert_allclose(corners.mean(0), (100, 100))
    along = corners[1] - corners[2] if sides[1] > sides[0] else corners[0] - corners[1]
    assert np.degrees(np.arctan2(along[1], along[0])) % 180 == pytest.approx(30)
    assert area([corners]) == pytest.approx(480, rel=0.03)


def test_one_volunteer_is_one_vote_however_many_lines_cross(tmp_path):
    crossing = [[100.0, y] for y in np.arange(110.0, 131.0)]
    marks = read(tmp_path, volunteer(1, [STRAIGHT, crossing]), volunteer(2, [STRAIGHT])).marks
    votes = marks.votes(marks.grid)
    assert votes[0].max() == 2 and votes[0, 120, 100] == 2 and votes[0, 112, 100] == 1
    assert marks.n_asked == {"spiral": 2, "bar": 2}


def test_who_drew_nothing_says_that_there_is_none_but_who_left_strays_says_nothing(tmp_path):
    click = [[50.0, 50.0], [51.0, 50.0]]
    galaxy = read(
        tmp_path,
        volunteer(1, [STRAIGHT], bar()),
        volunteer(2),
        volunteer(3, [click], bar(roll=np.pi / 2)),
        volunteer(4, [click, STRAIGHT]),
    )
    assert galaxy.marks.n_asked == {"spiral": 3, "bar": 4}
    assert galaxy.marks.n_marked == {"spiral": 2, "bar": 2}
    assert galaxy.marks.spiral.classification_id == (1, 2, 4)
    assert galaxy.dropped == {"arm: a click": 2, "bar: left as it first appeared": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ([[100.0, 100.0], [101.0, 101.0]], "arm: a click"),
        ([[50.0, 100.0], [150.0, 100.0]], "arm: a straight line"),
        ([[190.0, 190.0], [210.0, 190.0], [190.0, 150.0]], "arm: leaves the picture"),
        ([[x, y] for y in (5.0, 8.0, 11.0) for x in np.arange(5.0, 30.0)], "arm: outside the galaxy"),
        ([[100.0 + 20 * (-1) ** i, 100.0 + i % 7] for i in range(60)], "arm: longer than the galaxy"),
        ([[100.0, float("nan")], [100.0, 120.0], [100.0, 130.0]], "arm: leaves the picture"),
    ],
)
def test_strays_among_lines_are_dropped_and_counted(tmp_path, line, reason):
    galaxy = read(tmp_path, volunteer(1, [line, STRAIGHT]))
    assert galaxy.dropped == {reason: 1}
    assert galaxy.marks.n_marked["spiral"] == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"roll": 0.0}, "bar: left as it first appeared"),
        ({"roll": -np.pi / 2}, "bar: left as it first appeared"),
        ({"mux": 125.0}, "bar: off the centre"),
        ({"Re": 50.0}, "bar: longer than the galaxy"),
    ],
)
def test_strays_among_bars_are_dropped_and_counted(tmp_path, changes, reason):
    galaxy = read(tmp_path, volunteer(1, [], bar(**changes)), volunteer(2, [], bar()))
    assert galaxy.dropped == {reason: 1}
    assert galaxy.marks.n_asked["bar"] == (2 if "appeared" in reason else 1)


def test_bars_left_as_they_appeared_are_where_the_others_drew_theirs(tmp_path):
    drawn = [bar(roll=0.5), bar(roll=0.6)]
    people = [drawn[0], bar(roll=0.0), None, bar(roll=np.pi / 2), drawn[1], bar(roll=0.0)]
    marks = read(tmp_path, *(volunteer(number, [], each) for number, each in enumerate(people))).marks
    assert (marks.n_asked["bar"], marks.n_marked["bar"]) == (6, 5)
    shapes = sorted(paths[0].tolist() for paths in marks.bar.nested() if paths)
    one, other = (bar_outline(each).tolist() for each in drawn)
    assert sorted([one, one, one, other, other]) == shapes
    alone = read(tmp_path, volunteer(1, [], bar(roll=0.0)), volunteer(2)).marks  # nobody shows where
    assert (alone.n_asked["bar"], alone.n_marked["bar"]) == (1, 0)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"volunteers": [{}], "consensus": {}, "fitted_arms": []}'])
def test_files_that_are_none_of_its_kind(tmp_path, content):
    (tmp_path / "587.json").write_text(content)
    with pytest.raises(BadFileError, match=r"587\.json"):
        read_galaxy_builder(tmp_path / "587.json", SHAPE, 10.0)
    with pytest.raises(BadFileError, match="no such file"):
        read_galaxy_builder(tmp_path / "588.json", SHAPE, 10.0)


def test_example_galaxies(examples):
    folder = examples / "galaxy_builder" / "drawn"
    path = folder / "587741722819494015.json"
    image = np.load(path.with_suffix(".npz"))["image"]
    galaxy = read_galaxy_builder(path, image.shape, 13.9)
    assert galaxy.marks.n_asked["spiral"] > 20 and galaxy.marks.n_marked["bar"] >= 5
    votes = galaxy.marks.votes(galaxy.marks.grid)
    fraction = votes / galaxy.marks.n_asked_array[:, None, None]
    inside, outside = image[fraction[0] > 0.2], image[fraction[0] == 0]
    assert np.median(inside) > 3 * np.median(outside)
