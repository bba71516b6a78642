import numpy as np
import pytest

from zoobot_3d.errors import ConfigError
from zoobot_3d.measure.disk import Disk, disk_of_light, inclination_of


def test_an_axis_ratio_is_an_inclination():
    assert inclination_of(1.0) == 0
    assert inclination_of(0.2) == pytest.approx(90)
    assert inclination_of(0.1) == pytest.approx(90)
    assert inclination_of(0.5, thickness=0.0) == pytest.approx(60)
    # sqrt((0.25 - 0.04) / 0.96) = 0.4677
    assert inclination_of(0.5) == pytest.approx(62.11, abs=0.01)


def test_plane_and_sky_are_each_others_inverse():
    disk = Disk(55, 130)
    u, v = disk.to_plane(*disk.to_sky(np.array([3.0, -7.0]), np.array([2.0, 5.0])))
    np.testing.assert_allclose(u, [3, -7])
    np.testing.assert_allclose(v, [2, 5])


def test_the_line_of_nodes_points_to_its_position_angle():
    # At 90 deg, east: to the left on a picture, x falls.
    dx, dy = Disk(0, 90).to_sky(10.0, 0.0)
    assert (dx, dy) == pytest.approx((-10, 0), abs=1e-9)
    dx, dy = Disk(60, 0).to_sky(0.0, 10.0)  # from north through east, shortened by half
    assert (dx, dy) == pytest.approx((-5, 0), abs=1e-9)


@pytest.mark.parametrize(("ratio", "pa"), [(0.5, 30.0), (0.7, 140.0)])
def test_outer_isophotes_of_an_exponential_disk(ratio, pa):
    y, x = np.indices((300, 300)) - 149.5
    s, c = np.sin(np.radians(pa)), np.cos(np.radians(pa))
    along, across = -x * s - y * c, (-x * c + y * s) / ratio
    rng = np.random.default_rng(1)
    image = 100 * np.exp(-np.hypot(along, across) / 18) + rng.normal(0, 1, x.shape)
    found = disk_of_light(image)
    assert found.axis_ratio == pytest.approx(ratio, abs=0.04)
    assert (found.pa - pa + 90) % 180 - 90 == pytest.approx(0, abs=3)
    assert 40 < found.semi_major < 130


def test_a_neighbour_that_touches_does_not_flatten_a_round_disk():
    y, x = np.indices((300, 300)) - 149.5
    rng = np.random.default_rng(1)
    alone = 100 * np.exp(-np.hypot(x, y) / 18) + rng.normal(0, 1, x.shape)
    found = disk_of_light(alone + 100 * np.exp(-np.hypot(x - 70, y) / 10))
    assert found.axis_ratio > 0.9
    assert found.axis_ratio == pytest.approx(disk_of_light(alone).axis_ratio, abs=found.axis_ratio_err)


def test_an_error_of_the_axis_ratio_is_one_of_the_position_angle():
    y, x = np.indices((300, 300)) - 149.5
    noise = np.random.default_rng(1).normal(0, 1, x.shape)
    found = disk_of_light(100 * np.exp(-np.hypot(x, y / 0.8) / 18) + noise)
    # 0.04 / (1 - 0.8) / 2 = 0.1 rad; the isophotes agree, and add little.
    assert found.axis_ratio == pytest.approx(0.8, abs=0.03)
    assert found.axis_ratio_err == pytest.approx(0.04, abs=0.01)
    assert found.pa_err == pytest.approx(np.degrees(0.02 / (1 - found.axis_ratio)), rel=0.15)


def test_nothing_but_sky_has_no_isophotes():
    assert disk_of_light(np.random.default_rng(1).normal(0, 1, (100, 100))) is None
    assert disk_of_light(np.zeros((100, 100, 3), np.uint8)) is None


def test_impossible_disks_are_refused():
    with pytest.raises(ConfigError, match="cannot be deprojected"):
        Disk(90, 0)
