import numpy as np
import pytest

from shapes import rectangle
from zoobot_3d.errors import GridError
from zoobot_3d.measure.bars import measure_bar
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.flags import decode_flags
from zoobot_3d.sky.grid import PixelGrid

GRID = PixelGrid((200, 200), 0.5)


@pytest.mark.parametrize("pa", [0, 17, 45, 90, 133, 179])
def test_a_rectangle_has_its_length_width_and_angle(pa):
    bar = measure_bar(rectangle(200, 80, 20, pa), GRID)
    assert bar.length == pytest.approx(40, abs=0.5)  # 80 px of 0.5 arcsec
    assert bar.semi_major == pytest.approx(20, abs=0.25)
    assert (bar.pa - pa + 90) % 180 - 90 == pytest.approx(0, abs=0.2)
    assert bar.axis_ratio == pytest.approx(0.25, abs=0.015)
    assert decode_flags(bar.flags) == ()
    assert 0 < bar.length_err < 2 and 0 < bar.pa_err < 3


def test_north_is_up_and_east_to_the_left():
    mask = np.zeros((101, 101), np.float32)
    for step in range(-30, 31):  # from the lower right to the upper left: north-east
        mask[50 - step, 50 - step - 2 : 50 - step + 3] = 1
    assert measure_bar(mask, PixelGrid((101, 101), 1.0)).pa == pytest.approx(45, abs=0.5)


def test_an_ellipse_has_the_length_of_its_axis():
    y, x = np.indices((200, 200)) - 99.5
    bar = measure_bar(((x / 40) ** 2 + (y / 12) ** 2 <= 1).astype(np.float32), GRID)
    # Chords over the inner third of the width are 1.9% shorter than the axis, on average.
    assert bar.length == pytest.approx(40, rel=0.03)
    assert bar.pa == pytest.approx(90, abs=0.2)


def test_a_bar_is_deprojected_as_a_line():
    # A bar of 40 px along the minor axis of a disk at 60 deg is 80 px long in the plane.
    disk = Disk(60, 30)
    bar = measure_bar(rectangle(200, 40, 8, 120), GRID, disk=disk)
    assert bar.length_deprojected == pytest.approx(40, rel=0.03)
    assert bar.angle_deprojected == pytest.approx(90, abs=1)
    along = measure_bar(rectangle(200, 40, 8, 30), GRID, disk=disk)
    assert along.length_deprojected == pytest.approx(along.length, rel=0.01)
    assert min(along.angle_deprojected, 180 - along.angle_deprojected) < 1
    # At 45 deg to the nodes: cos and sin / cos(60 deg) of 45 deg.
    between = measure_bar(rectangle(200, 40, 8, 75), GRID, disk=disk)
    assert between.length_deprojected == pytest.approx(20 * np.sqrt(0.5 + 2), rel=0.03)
    assert between.angle_deprojected == pytest.approx(np.degrees(np.arctan(2)), abs=1)


def test_an_uncertain_disk_makes_an_uncertain_length():
    mask = rectangle(200, 40, 8, 120)
    sure, unsure = (measure_bar(mask, GRID, disk=Disk(60, 30, error, 0)) for error in (0, 10))
    assert unsure.length_deprojected_err > 3 * sure.length_deprojected_err
    assert unsure.length_err == sure.length_err


def test_only_the_region_through_the_centre_counts():
    mask = np.maximum(rectangle(200, 60, 14, 20), rectangle(200, 30, 20, 100, at=(70, 0)))
    bar = measure_bar(mask, GRID)
    assert bar.length == pytest.approx(30, abs=0.5)
    assert decode_flags(bar.flags) == ("bar_several",)


@pytest.mark.parametrize(
    ("mask", "flag"),
    [
        (np.zeros((200, 200), np.float32), "no_bar"),
        (0.15 * rectangle(200, 60, 14, 20), "no_bar"),
        (rectangle(200, 30, 14, 20, at=(80, 0)), "bar_elsewhere"),
        (rectangle(200, 4, 3, 0), "bar_small"),
    ],
)
def test_no_answer_is_nan_and_a_flag(mask, flag):
    bar = measure_bar(mask, GRID)
    assert np.isnan([bar.length, bar.length_err, bar.pa, bar.axis_ratio, bar.length_deprojected]).all()
    assert flag in decode_flags(bar.flags)


@pytest.mark.parametrize(("share", "flags"), [(0.6, ()), (0.4, ("bar_faint",))])
def test_a_faint_bar_has_the_same_shape_and_larger_errors(share, flags):
    mask = rectangle(200, 80, 20, 30)
    bar, faint = measure_bar(mask, GRID), measure_bar(share * mask, GRID)
    assert (faint.length, faint.pa, faint.axis_ratio) == pytest.approx((bar.length, bar.pa, bar.axis_ratio), rel=1e-3)
    # 40 arcsec long, and 0.7 of the relative error of such a share of 15 volunteers.
    doubt = 0.7 * np.sqrt((1 - share) / (15 * share))
    assert faint.length_err == pytest.approx(np.hypot(bar.length_err, 40 * doubt), rel=0.02)
    assert faint.pa_err > 2 * bar.pa_err
    assert decode_flags(faint.flags) == flags


@pytest.mark.parametrize(
    ("mask", "flag"),
    [
        (rectangle(200, 60, 14, 0, at=(0, 20)), "bar_off_centre"),
        (rectangle(200, 220, 20, 0), "bar_cut"),
        (rectangle(200, 40, 38, 0), "bar_round"),
        (rectangle(200, 150, 20, 0), "bar_beyond_disk"),
    ],
)
def test_doubtful_bars_have_numbers_and_a_flag(mask, flag):
    bar = measure_bar(mask, GRID, disk_semi_major=60.0)
    assert np.isfinite(bar.length)
    assert flag in decode_flags(bar.flags)


def test_a_field_that_ends_cuts_a_bar():
    mask = rectangle(200, 120, 20, 90)
    mask[:, 140:] = np.nan
    assert "bar_cut" in decode_flags(measure_bar(mask, GRID).flags)


def test_members_that_disagree_and_sigma_make_errors_larger():
    mask = rectangle(200, 80, 20, 30)
    alone = measure_bar(mask, GRID)
    members = [rectangle(200, 70, 20, 30), rectangle(200, 90, 20, 30)]  # 10 px = 5 arcsec off
    assert measure_bar(mask, GRID, members=members).length_err == pytest.approx(np.hypot(alone.length_err, 5), rel=0.05)
    soft = np.clip(mask - 0.3, 0, 1)
    soft_ends = np.maximum(soft, 0.9 * rectangle(200, 40, 20, 30))
    sigma = np.where(rectangle(200, 40, 20, 30) > 0, 0, 0.6).astype(np.float32)
    assert measure_bar(soft_ends, GRID, sigma=sigma).length_err > 2 * measure_bar(soft_ends, GRID).length_err


def test_without_a_pixel_scale_lengths_are_in_pixels_alone():
    bar = measure_bar(rectangle(200, 80, 20, 30), PixelGrid((200, 200), np.nan))
    assert np.isnan(bar.length) and bar.length_px == pytest.approx(80, abs=1) and bar.pa == pytest.approx(30, abs=0.2)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(GridError, match="does not lie on a grid"):
        measure_bar(np.zeros((10, 10), np.float32), GRID)
