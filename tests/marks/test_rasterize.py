"""Outlines to counts: small cases worked by hand, and matplotlib as the judge of all others."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.path import Path

from zoobot_3d.errors import BadMarksError
from zoobot_3d.marks.rasterize import FlatPaths, rasterize_marks

SQUARE = [[0.5, 0.5], [3.5, 0.5], [3.5, 2.5], [0.5, 2.5]]  # holds the centres x 1-3, y 1-2
BOW_TIE = [[0.5, 0.5], [4.5, 4.5], [4.5, 0.5], [0.5, 4.5]]


def by_matplotlib(path, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return Path(path).contains_points(np.c_[x.ravel(), y.ravel()]).reshape(shape)


def arm(rng, n=150, centre=262.0):
    """An outline as a hand draws an arm: steps of 0.1 px, an outer and an inner edge that may cross."""
    angle = np.linspace(0, 3, n // 2) + rng.uniform(0, 6)
    radius = 40 + 55 * (angle - angle[0]) + rng.normal(0, 2, n // 2)
    edges = [(radius + side * 12) * np.array([np.cos(angle), np.sin(angle)]) for side in (1, -1)]
    return np.round(np.concatenate([edges[0].T, edges[1].T[::-1]]) + centre, 1)


def test_square_covers_the_centres_inside():
    expected = [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    votes = rasterize_marks([[SQUARE]], (4, 5))
    assert votes.dtype == np.uint16
    np.testing.assert_array_equal(votes, expected)


def test_x_is_the_column_and_y_the_row():
    votes = rasterize_marks([[[[3.5, -0.5], [4.5, -0.5], [4.5, 0.5], [3.5, 0.5]]]], (3, 6))
    assert np.argwhere(votes).tolist() == [[0, 4]]


@pytest.mark.parametrize(("count", "both"), [("volunteers", 1), ("paths", 2)])
def test_overlapping_paths_of_one_volunteer(count, both):
    shifted = [[x + 1, y] for x, y in SQUARE]
    votes = rasterize_marks([[SQUARE, shifted]], (4, 6), count=count)
    assert votes[1].tolist() == [0, 1, both, both, 1, 0]


def test_volunteers_add_up_and_blank_ones_do_not_shift_them():
    votes = rasterize_marks([[], [SQUARE], [], [SQUARE, SQUARE], [[]]], (4, 5))
    assert votes.max() == 2 and votes.sum() == 12


def test_same_path_twice_is_one_vote_not_a_hole():
    np.testing.assert_array_equal(rasterize_marks([[SQUARE, SQUARE]], (4, 5)), rasterize_marks([[SQUARE]], (4, 5)))


def test_closed_and_unclosed_are_alike():
    np.testing.assert_array_equal(
        rasterize_marks([[[*SQUARE, SQUARE[0]]]], (4, 5)), rasterize_marks([[SQUARE]], (4, 5))
    )


def test_even_odd_leaves_a_hole_where_a_path_winds_twice():
    outer = [[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]
    inner = [[2.5, 2.5], [5.5, 2.5], [5.5, 5.5], [2.5, 5.5], [2.5, 2.5]]
    votes = rasterize_marks([[outer + inner]], (9, 9))
    assert votes[4, 4] == 0 and votes[4, 1] == 1


@pytest.mark.parametrize("path", [[], [[2, 2]], [[1, 1], [4, 4]], [[1, 2], [4, 2]], np.empty((0, 2))])
@pytest.mark.parametrize("count", ["volunteers", "paths"])
def test_fewer_than_three_vertices_cover_nothing(path, count):
    assert rasterize_marks([[path, SQUARE]], (6, 6), count=count).sum() == 6


def test_no_marks_at_all():
    assert not rasterize_marks([], (3, 4)).any()
    assert rasterize_marks([[], []], (3, 4)).shape == (3, 4)


def test_transform_moves_vertices():
    # Twice as many pixels over the same field: pixel centres map by x' = 2 x + 0.5.
    votes = rasterize_marks([[SQUARE]], (8, 10), transform=[[2, 0, 0.5], [0, 2, 0.5]])
    np.testing.assert_array_equal(votes, np.kron(rasterize_marks([[SQUARE]], (4, 5)), np.ones((2, 2))))


def test_transform_with_a_turn():
    # x' = 3 - y, y' = x: a quarter turn of a 4 x 4 image.
    votes = rasterize_marks([[SQUARE]], (4, 4), transform=[[0, -1, 3], [1, 0, 0]])
    np.testing.assert_array_equal(votes, np.rot90(rasterize_marks([[SQUARE]], (4, 4)), -1))


def test_outside_is_cut_off():
    everywhere = [[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]]
    left = [[-9, -9], [1.5, -9], [1.5, 99], [-9, 99]]
    beside = [[20, 0], [30, 0], [30, 5], [20, 5]]
    votes = rasterize_marks([[everywhere], [left], [beside]], (4, 5))
    assert (votes == [2, 2, 1, 1, 1]).all()


@pytest.mark.parametrize("shape", [(60, 60), (40, 70)])
@pytest.mark.parametrize("step", [0.0, 0.1, 0.5, 1.0])
def test_equals_matplotlib_on_random_scribbles(shape, step):
    """Also on pixel centres that lie on an edge, which the coarser steps make common."""
    rng = np.random.default_rng(0)
    for n in (3, 4, 7, 30, 200):
        path = rng.uniform(-10, 75, (n, 2))
        if step:
            path = np.round(path / step) * step
        np.testing.assert_array_equal(rasterize_marks([[path]], shape), by_matplotlib(path, shape))


def test_union_equals_matplotlib_for_many_overlapping_paths():
    rng = np.random.default_rng(1)
    paths = [rng.uniform(0, 50, (12, 2)) for _ in range(9)]
    union = np.any([by_matplotlib(path, (50, 50)) for path in paths], axis=0)
    np.testing.assert_array_equal(
        rasterize_marks([paths[:5], [], paths], (50, 50))[union],
        np.any([by_matplotlib(path, (50, 50)) for path in paths[:5]], axis=0)[union] + 1,
    )
    assert not rasterize_marks([paths], (50, 50))[~union].any()


def test_ten_thousand_vertices():
    rng = np.random.default_rng(2)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 10_000))
    path = 60 + (40 + rng.normal(0, 4, (10_000, 1))) * np.c_[np.cos(angle), np.sin(angle)]
    np.testing.assert_array_equal(rasterize_marks([[path]], (120, 120)), by_matplotlib(path, (120, 120)))


def test_flat_and_nested_are_the_same():
    rng = np.random.default_rng(3)
    nested = [[arm(rng)], [], [arm(rng), arm(rng)]]
    flat = FlatPaths.from_nested(nested)
    np.testing.assert_array_equal(rasterize_marks(flat, (525, 525)), rasterize_marks(nested, (525, 525)))
    as_lists = [[path.tolist() for path in paths] for paths in nested]
    assert FlatPaths.from_nested(as_lists) == flat
    assert FlatPaths.from_nested(flat.nested(3)) == flat


def test_drop_self_intersecting_drops_only_those():
    votes = rasterize_marks([[BOW_TIE], [SQUARE]], (6, 6), drop_self_intersecting=True)
    np.testing.assert_array_equal(votes, rasterize_marks([[SQUARE]], (6, 6)))
    assert rasterize_marks([[BOW_TIE]], (6, 6))[1, 2] == 0 and rasterize_marks([[BOW_TIE]], (6, 6))[2, 4] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e12])
def test_a_vertex_that_is_no_place_names_volunteer_and_path(bad):
    broken = [*SQUARE, [bad, 3]]
    with pytest.raises(BadMarksError, match=r"volunteer 2, path 1: vertex 4 is"):
        rasterize_marks([[SQUARE], [], [SQUARE, broken]], (4, 5))


def test_a_transform_that_throws_vertices_off_is_told():
    with pytest.raises(BadMarksError, match=r"volunteer 0, path 0: vertex 0 .* after the transform"):
        rasterize_marks([[SQUARE]], (4, 5), transform=[[1e12, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ([SQUARE], r"volunteer 0, path 0: must be \(N, 2\)"),  # the list of volunteers is missing
        ([[[SQUARE]]], r"volunteer 0, path 0: must be \(N, 2\)"),  # one list too many
        ([[], [SQUARE, [[1, 2], [3]]]], r"volunteer 1, path 1: must be \(N, 2\)"),
        ([[[["a", 1], [2, 3], [4, 5]]]], r"volunteer 0, path 0: .* not numbers"),
        ([[SQUARE], 7], "volunteer 1: give a list of paths, not int"),
        ("marks", "list of volunteers, not str"),
    ],
)
def test_wrong_nesting_is_told(marks, message):
    with pytest.raises(BadMarksError, match=message):
        rasterize_marks(marks, (4, 5))


def test_arguments_that_do_not_exist():
    with pytest.raises(ValueError, match='use "volunteers" or "paths"'):
        rasterize_marks([[SQUARE]], (4, 5), count="people")
    with pytest.raises(ValueError, match=r"use a \(2, 3\) affine"):
        rasterize_marks([[SQUARE]], (4, 5), transform=np.eye(3))
    with pytest.raises(ValueError, match="at least one pixel"):
        rasterize_marks([[SQUARE]], (0, 5))


def test_flat_arrays_that_do_not_fit():
    with pytest.raises(BadMarksError, match="path_start must rise"):
        FlatPaths(np.zeros((4, 2)), np.array([0, 3]), np.array([0]))
    with pytest.raises(BadMarksError, match="sorted by volunteer"):
        FlatPaths(np.zeros((4, 2)), np.array([0, 2, 4]), np.array([1, 0]))
    with pytest.raises(BadMarksError, match=r"\(N, 2\)"):
        FlatPaths(np.zeros((4, 3)), np.array([0, 4]), np.array([0]))


def test_read_only_arrays_are_taken():
    flat = FlatPaths.from_nested([[SQUARE]])
    for array in (flat.vertices, flat.path_start, flat.volunteer):
        array.flags.writeable = False
    again = FlatPaths(flat.vertices, flat.path_start, flat.volunteer)
    assert rasterize_marks(again, (4, 5)).sum() == 6


def test_official_counts_of_a_real_galaxy(realdata):
    """1-304336: 32 freehand arms by 15 volunteers, 18 of them self-intersecting."""
    folder = realdata / "gz3d_marks" / "1-304336_127_14724446"
    rows = json.loads((folder / "hdu9_spiral_classifications.json").read_text())["rows"]
    official = np.load(folder / "spiral_masks_525.npz")
    paths = [row["spiral_paths"] for row in rows]
    for name, drop in (("keep_all", False), ("gz3d_rule", True)):
        counts = rasterize_marks(paths, (525, 525), count="paths", drop_self_intersecting=drop)
        assert np.mean(counts != official[name]) <= 0.0005, name
    assert rasterize_marks(paths, (525, 525)).max() <= len(paths)


def test_works_where_no_folder_can_be_written():
    """A container may have a read-only install and home: the loops are then compiled anew, and it still imports."""
    program = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import zoobot_3d.marks.polygons as p, numpy as np\n"
        "print(p.compiled(lambda x: x + 1).__class__.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "CPUDispatcher"
