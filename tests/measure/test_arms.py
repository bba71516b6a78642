import numpy as np
import pytest

from shapes import rectangle, spiral
from zoobot_3d.errors import GridError
from zoobot_3d.measure.arms import measure_arms
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.flags import decode_flags
from zoobot_3d.sky.grid import PixelGrid

GRID = PixelGrid((220, 220), 0.5)


@pytest.mark.parametrize("pitch", [10, 18, 30])
def test_a_logarithmic_spiral_has_its_pitch(pitch):
    arms = measure_arms(spiral(220, pitch), GRID)
    assert arms.n_arms == 2
    assert arms.pitch == pytest.approx(pitch, abs=0.7)
    assert all(arm.pitch == pytest.approx(pitch, abs=1) for arm in arms.arms)
    assert arms.hand == "Z"


def test_an_arm_has_its_extent_and_width():
    arm = measure_arms(spiral(220, 20, starts=(40.0,)), GRID).arms[0]
    # Radii of 20 and 90 px of 0.5 arcsec; ln(4.5) / tan(20 deg) = 4.132 rad; 70 px / sin(20 deg) = 204.7 px.
    assert arm.r_inner == pytest.approx(10, abs=1.5)
    # It ends along a circle, not across the arm: at its tip it is narrower than the smoothing.
    assert arm.r_outer == pytest.approx(45, abs=3)
    assert arm.turn == pytest.approx(236.8, rel=0.1)
    assert arm.length == pytest.approx(102.3, rel=0.1)
    assert arm.width == pytest.approx(4, rel=0.35)
    assert arm.angle_inner == pytest.approx(40 + np.degrees(np.log(arm.r_inner / 10) / np.tan(np.radians(20))), abs=5)


def test_the_mirror_image_has_the_other_hand():
    mask = spiral(220, 18)
    arms, mirrored = measure_arms(mask, GRID), measure_arms(np.ascontiguousarray(mask[:, ::-1]), GRID)
    assert (arms.hand, mirrored.hand) == ("Z", "S")
    assert mirrored.pitch == pytest.approx(arms.pitch, abs=0.2)
    assert mirrored.arms[0].winding == "outward clockwise"
    assert measure_arms(spiral(220, 18, anticlockwise=False), GRID).hand == "S"


def test_the_letter_s_winds_as_s():
    mask = np.zeros((220, 220), np.float32)
    angle = np.radians(np.arange(0, 200, 0.2))
    for turn in (0, np.pi):  # an S begins at the centre, goes left and up, then over the top to the right
        radius = 15 * np.exp(angle * np.tan(np.radians(20)))
        x = 109.5 + radius * np.cos(np.pi - angle + turn)
        y = 109.5 - radius * np.sin(np.pi - angle + turn)
        for dx in range(-3, 4):
            for dy in range(-3, 4):
                mask[np.clip(y + dy, 0, 219).astype(int), np.clip(x + dx, 0, 219).astype(int)] = 1
    arms = measure_arms(mask, GRID)
    assert arms.hand == "S" and arms.pitch == pytest.approx(20, abs=1)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_has_the_same_arms(turns):
    arms, turned = (measure_arms(np.ascontiguousarray(np.rot90(spiral(220, 15), k)), GRID) for k in (0, turns))
    assert turned.pitch == pytest.approx(arms.pitch, abs=0.2)
    assert (turned.hand, turned.n_arms) == (arms.hand, arms.n_arms)
    # rot90 turns anticlockwise on the picture: as north through east.
    first = {round(arm.angle_inner) % 180 for arm in arms.arms}
    assert {round(arm.angle_inner - 90 * turns) % 180 for arm in turned.arms} <= {
        a + d for a in first for d in (-2, -1, 0, 1, 2)
    }


@pytest.mark.parametrize(("inclination", "pa"), [(40, 0), (60, 35), (60, 120)])
def test_an_inclined_spiral_is_deprojected(inclination, pa):
    mask = spiral(220, 18, inclination=inclination, pa=pa)
    arms = measure_arms(mask, GRID, disk=Disk(inclination, pa))
    assert arms.n_arms == 2
    assert arms.pitch == pytest.approx(18, abs=1)
    assert abs(measure_arms(mask, GRID).pitch - 18) > abs(arms.pitch - 18) or inclination < 50


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_arms_are_counted(count):
    starts = tuple(360 / count * index for index in range(count))
    assert measure_arms(spiral(220, 20, starts=starts, width=6), GRID).n_arms == count


def test_an_arm_that_a_gap_breaks_is_one():
    arms = measure_arms(spiral(220, 18, starts=(0.0,), gap=(40, 50)), GRID)
    assert arms.n_arms == 1
    assert arms.arms[0].length == pytest.approx(70 / np.sin(np.radians(18)) * 0.5, rel=0.1)


def test_arms_that_touch_at_the_bar_are_two():
    mask = np.maximum(spiral(220, 20, radii=(28, 90)), rectangle(220, 60, 12, 20))
    assert measure_arms(mask, GRID).n_arms == 2
    assert measure_arms(mask, GRID, bar_semi_major=30).pitch == pytest.approx(20, abs=1)


def test_a_ring_is_flagged_and_is_no_arm():
    y, x = np.indices((220, 220)) - 109.5
    radius = np.hypot(x, y)
    ring = ((radius > 50) & (radius < 60)).astype(np.float32)
    arms = measure_arms(ring, GRID)
    assert arms.has_ring and arms.n_arms == 0 and np.isnan(arms.pitch)
    assert decode_flags(arms.flags) == ("arms_untraced", "ring")
    assert not measure_arms(spiral(220, 18), GRID).has_ring


@pytest.mark.parametrize(
    ("mask", "flag"),
    [
        (np.zeros((220, 220), np.float32), "no_arms"),
        (0.15 * spiral(220, 18), "no_arms"),
        (rectangle(220, 12, 12, 0, at=(60, 0)), "arms_untraced"),
    ],
)
def test_no_answer_is_nan_and_a_flag(mask, flag):
    arms = measure_arms(mask, GRID)
    assert arms.arms == () and np.isnan([arms.pitch, arms.pitch_err]).all()
    assert flag in decode_flags(arms.flags)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_faint_mask_has_the_same_arms_and_larger_errors(count):
    bright = spiral(220, 18, starts=tuple(20 + 360 / count * index for index in range(count)), width=6)
    arms, faint = measure_arms(bright, GRID), measure_arms(0.3 * bright, GRID)
    assert faint.n_arms == arms.n_arms == count and faint.hand == arms.hand == "Z"
    assert faint.pitch == pytest.approx(arms.pitch, abs=0.05) and faint.pitch == pytest.approx(18, abs=0.7)
    for one, other in zip(arms.arms, faint.arms, strict=True):
        assert (other.length, other.turn, other.width) == pytest.approx((one.length, one.turn, one.width), rel=0.01)
    # Three of ten volunteers of 15: a relative error of sqrt(0.7 / 4.5) = 0.394, and 20 deg of pitch times it for each
    # 90 deg of turn.
    turn = sum(arm.turn for arm in faint.arms)
    assert faint.pitch_err == pytest.approx(np.hypot(arms.pitch_err, 20 * 0.394 * 90 / turn), rel=0.05)
    assert decode_flags(faint.flags) == ("arms_faint",) and decode_flags(arms.flags) == ()


@pytest.mark.parametrize("anticlockwise", [True, False])
def test_arms_too_short_to_fit_still_have_a_hand(anticlockwise):
    # Twelve bits of arms, each over less than a tenth of the radius.
    mask = spiral(220, 25, radii=(80, 87), starts=tuple(range(0, 360, 30)), width=5, anticlockwise=anticlockwise)
    arms = measure_arms(mask, GRID)
    assert arms.n_arms == 0 and np.isnan(arms.pitch) and "arms_untraced" in decode_flags(arms.flags)
    assert arms.hand == ("Z" if anticlockwise else "S")


def test_a_mask_without_direction_has_no_hand():
    arms = measure_arms(rectangle(220, 12, 12, 12, at=(60, 0)), GRID)
    assert arms.hand == "" and decode_flags(arms.flags) == ("arms_untraced",)


def test_pieces_that_are_steeper_than_any_arm_are_none():
    arms = measure_arms(spiral(220, 60), GRID)
    assert arms.n_arms == 0 and np.isnan(arms.pitch) and "arms_untraced" in decode_flags(arms.flags)
    both = np.maximum(spiral(220, 20, starts=(0.0,)), spiral(220, 60, starts=(200.0,), radii=(40, 90)))
    arms = measure_arms(both, GRID)
    assert arms.n_arms == 1 and arms.pitch == pytest.approx(20, abs=1)


def test_two_broken_arms_that_touch_at_the_bar_are_two():
    mask = np.maximum(spiral(220, 20, radii=(28, 90), gap=(48, 56)), rectangle(220, 60, 12, 20))
    arms = measure_arms(mask, GRID, bar_semi_major=30)
    assert arms.n_arms == 2 and arms.pitch == pytest.approx(20, abs=1)


def test_a_third_arm_that_is_faint_is_counted():
    bright = spiral(220, 20, starts=(0.0, 120.0), width=6)
    arms = measure_arms(np.maximum(bright, 0.5 * spiral(220, 20, starts=(240.0,), width=6)), GRID)
    assert arms.n_arms == 3 and arms.pitch == pytest.approx(20, abs=1)


def test_noise_without_arms_has_no_arms():
    rng = np.random.default_rng(0)
    assert measure_arms(rng.uniform(0, 0.15, (220, 220)).astype(np.float32), GRID).arms == ()


def test_arms_that_leave_the_field_are_flagged():
    mask = spiral(220, 18, radii=(20, 140))
    assert "arms_cut" in decode_flags(measure_arms(mask, GRID).flags)


def test_arms_of_both_hands_are_flagged_and_the_longer_count():
    long = spiral(220, 25, starts=(0.0,), radii=(20, 100))
    short = spiral(220, 25, starts=(200.0,), radii=(45, 80), anticlockwise=False)
    arms = measure_arms(np.maximum(long, short), GRID)
    assert arms.hand == "Z" and arms.n_arms == 1 and len(arms.arms) == 2
    assert "arms_both_hands" in decode_flags(arms.flags)


def test_fractions_are_weights_and_do_not_change_the_pitch():
    fading = spiral(220, 20) * np.linspace(1, 0.4, 220, dtype=np.float32)[:, None]
    assert measure_arms(fading, GRID).pitch == pytest.approx(20, abs=0.8)


def test_sigma_adds_to_the_error():
    mask = 0.6 * spiral(220, 20)
    blob = 0.6 * rectangle(220, 30, 30, 30, at=(25, 60))
    assert measure_arms(mask, GRID, sigma=blob).pitch_err >= measure_arms(mask, GRID).pitch_err


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(GridError, match="does not lie on a grid"):
        measure_arms(np.zeros((10, 10), np.float32), GRID)


def test_without_a_pixel_scale_only_lengths_are_missing():
    mask = spiral(200, 18, inclination=40, pa=60)
    disk = Disk(40, 60, 3, 3)
    with_scale, without = (measure_arms(mask, PixelGrid((200, 200), scale), disk=disk) for scale in (0.3, np.nan))
    assert without.n_arms == with_scale.n_arms == 2 and without.hand == with_scale.hand
    assert (without.pitch, without.pitch_err) == pytest.approx((with_scale.pitch, with_scale.pitch_err))
    for one, other in zip(with_scale.arms, without.arms, strict=True):
        assert np.isnan([other.length, other.width, other.r_inner]).all() and one.length > 10
        assert (other.pitch, other.turn, other.angle_inner) == (one.pitch, one.turn, one.angle_inner)
