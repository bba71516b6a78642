"""Which outlines cross or touch themselves."""

import json

import numpy as np
import pytest

from zoobot_3d.marks.polygons import self_intersecting
from zoobot_3d.marks.rasterize import FlatPaths


def crosses(*paths):
    flat = FlatPaths.from_nested([paths])
    return self_intersecting(flat.vertices, flat.path_start).tolist()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([[0, 0], [4, 0], [4, 4], [0, 4]], False),
        ([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], False),  # the end returns to the start
        ([[0, 0], [4, 0], [4, 0], [4, 4], [0, 4], [0, 0], [0, 0]], False),  # repeated vertices
        ([[0, 0], [2, 0], [4, 0], [4, 4], [0, 4]], False),  # a vertex along a straight edge
        ([[0, 0], [4, 4], [4, 0], [0, 4]], True),  # bow tie
        ([[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]], True),
        ([[0, 0], [4, 0], [0, 4], [4, 4]], False),  # only the edge that would close it crosses: as drawn, it does not
        ([[0, 0], [4, 0], [0, 4], [4, 4], [0, 0]], True),
        ([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4]], True),  # a vertex touches an edge
        ([[0, 0], [4, 0], [4, 4], [2, 2], [0, 4], [2, 2]], True),  # a vertex touches a vertex
        ([[0, 0], [4, 0], [2, 0], [2, 3]], True),  # folds straight back
        ([[0, 0], [4, 0], [4, 4], [3, 0], [1, 0], [0, 4]], True),  # runs along itself
        ([[2, 0], [4, 0], [4, 4], [0, 4], [0, 0], [3, 0]], True),  # the end overruns the start
        ([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0], [4, 0]], True),  # goes round and on
        ([[0, 0], [4, 0], [4, 4], [2, 0], [0, 0]], True),  # comes home along its first edge
        ([[0, 0], [4, 0], [2, 0], [0, 0]], True),
        ([[0, 0], [4, 0], [0, 0]], True),
        ([], False),
        ([[1, 1]], False),
        ([[1, 1], [1, 1], [1, 1]], False),
        ([[1, 1], [4, 4]], False),
    ],
)
def test_cases_by_hand(path, expected):
    assert crosses(path) == [expected]
    assert crosses(path[::-1]) == [expected]
    assert crosses([[y + 0.3, x * 0.1] for x, y in path]) == [expected]


def test_each_path_has_its_own_answer():
    bow_tie, square = [[0, 0], [4, 4], [4, 0], [0, 4]], [[0, 0], [4, 0], [4, 4], [0, 4]]
    assert crosses(square, bow_tie, [], square, bow_tie) == [False, True, False, False, True]


def test_a_crossing_among_ten_thousand_edges_is_found():
    angle = np.linspace(0, 6, 10_000)
    path = 200 * np.c_[np.cos(angle), np.sin(angle)]
    assert crosses(path) == [False]
    assert crosses(np.concatenate([path, [[0, 0], [250, 3]]])) == [True]


def test_real_arms(realdata):
    folder = realdata / "gz3d_marks" / "1-304336_127_14724446"
    rows = json.loads((folder / "hdu9_spiral_classifications.json").read_text())["rows"]
    found = crosses(*(path for row in rows for path in row["spiral_paths"]))
    assert (len(found), sum(found)) == (32, 18)
