"""Geometry against torch's own flips and rotations, alignment of picture and masks, and what is unknown afterwards."""

import pytest
import torch

from zoobot_3d.errors import ConfigError
from zoobot_3d.networks.augment import Affine, Augment, Geometry, center_crop, warp

SIZE = 16


def affine(batch=1, **changes):
    """Return the identity, but for ``changes``."""
    values = {"angle": 0.0, "scale": 1.0, "shift_x": 0.0, "shift_y": 0.0, "mirror": 0.0} | changes
    return Affine(**{name: torch.full((batch,), float(value)) for name, value in values.items()})


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand((1, 3, SIZE, SIZE), generator=generator)
    votes = torch.randint(0, 16, (1, 2, SIZE, SIZE), generator=generator)
    return picture, votes, torch.tensor([[15, 12]])


def disc(x, y, radius=4.0, size=64):
    """Return a (size, size) disc around column x, row y."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((columns - x) ** 2 + (rows - y) ** 2) <= radius**2).float()


def centroid(image):
    rows, columns = torch.meshgrid(torch.arange(image.shape[0]), torch.arange(image.shape[1]), indexing="ij")
    return ((image * columns).sum() / image.sum()).item(), ((image * rows).sum() / image.sum()).item()


def test_identity_changes_nothing(sample):
    picture, votes, asked = warp(*sample, affine(), SIZE)
    torch.testing.assert_close(picture, sample[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(votes, sample[1].float(), atol=1e-4, rtol=0)
    assert (asked == torch.tensor([15.0, 12.0])[None, :, None, None]).all()
    assert asked.shape == (1, 2, SIZE, SIZE)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_by_quarter_turns_is_rot90(sample, turns):
    picture, votes, asked = warp(*sample, affine(angle=90 * turns), SIZE)
    torch.testing.assert_close(picture, torch.rot90(sample[0], turns, (2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(votes, torch.rot90(sample[1], turns, (2, 3)).float(), atol=1e-3, rtol=0)
    assert (asked > 0).all()


def test_mirror_comes_before_rotation(sample):
    picture, _, _ = warp(*sample, affine(mirror=1), SIZE)
    torch.testing.assert_close(picture, sample[0].flip(3), atol=1e-4, rtol=0)
    picture, _, _ = warp(*sample, affine(mirror=1, angle=90), SIZE)
    torch.testing.assert_close(picture, torch.rot90(sample[0].flip(3), 1, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("angle", "x", "y"), [(0, 0.5, 1.0), (90, 1.0, 0.5), (45, 0.75, 0.75)])
def test_a_squash_brings_points_nearer_along_its_direction(angle, x, y):
    # A disc 12 px to the right of the centre and one 12 px above it, apart in two classes.
    votes = torch.stack([disc(43.5, 31.5), disc(31.5, 19.5)])[None]
    picture, squash = votes[:, :1].repeat(1, 3, 1, 1), affine(squash=0.5, squash_angle=angle)
    _, moved, _ = warp(picture, votes, torch.full((1, 2), 15), squash, 64)
    right, above = (centroid(plane) for plane in moved[0])
    assert right[0] - 31.5 == pytest.approx(12 * x, abs=0.2)
    assert 31.5 - above[1] == pytest.approx(12 * y, abs=0.2)
    # At 45 deg from the right, counterclockwise, both discs come nearer to the line at right angles to it.
    shear = 12 * 0.25 if angle == 45 else 0
    assert right[1] - 31.5 == pytest.approx(shear, abs=0.2)


def test_half_of_the_galaxies_are_squashed_within_the_limit():
    affine_of = Augment(geometry=Geometry(squash=0.5), seed=0).draw_affine(2000, torch.device("cpu"))
    assert 0.45 < (affine_of.squash < 1).float().mean() < 0.55
    assert affine_of.squash.min() >= 0.5 and affine_of.squash.max() == 1
    assert Augment(seed=0).draw_affine(4, torch.device("cpu")).squash is None


def test_pictures_lose_their_colour_as_often_as_asked_for(sample):
    pictures = sample[0].repeat(400, 1, 1, 1)
    grey = Augment(grey=0.3, photometric=1.0, seed=0).jitter(pictures)
    colourless = (grey.amax(1) - grey.amin(1)).amax((1, 2)) < 1e-6
    assert 0.2 < colourless.float().mean() < 0.4
    assert torch.equal(pictures[0], sample[0][0])  # the input is left alone


def test_larger_input_gives_its_centre_at_the_same_scale(sample):
    picture, votes, asked = warp(*sample, affine(), SIZE - 4)
    torch.testing.assert_close(picture, center_crop(sample[0], SIZE - 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(votes, sample[1][..., 2:-2, 2:-2].float(), atol=1e-4, rtol=0)
    assert (asked > 0).all()


def test_picture_and_masks_move_together_as_documented():
    picture = disc(44, 32).expand(1, 3, 64, 64)
    votes = 15 * disc(44, 32).expand(1, 2, 64, 64)
    turn = affine(angle=90, scale=1.25, shift_x=0.125, shift_y=-0.0625)
    moved, moved_votes, _ = warp(picture, votes, torch.tensor([[15, 15]]), turn, 64)
    # 12.5 px right of the centre (31.5) turns to 12.5 px above; 1.25 times; then 8 px right, 4 px up.
    expected = (31.5 + 0.5 * 1.25 + 8, 31.5 - 12.5 * 1.25 - 4)
    assert centroid(moved[0, 0]) == pytest.approx(expected, abs=0.1)
    torch.testing.assert_close(moved_votes / 15, moved[:, :2])
    assert moved[0, 0].sum().item() == pytest.approx(1.25**2 * picture[0, 0].sum().item(), rel=0.03)


def test_beyond_the_input_is_unknown():
    votes = torch.full((1, 2, 64, 64), 15)
    picture = torch.full((1, 3, 64, 64), 0.5)
    moved, moved_votes, asked = warp(picture, votes, torch.tensor([[15, 15]]), affine(shift_x=0.25), 64)
    assert (asked[..., :16] == 0).all()
    assert (moved_votes[..., :16] == 0).all()
    assert (asked[..., 16:] == 15).all()
    torch.testing.assert_close(moved_votes[..., 16:], torch.full((1, 2, 64, 48), 15.0))
    torch.testing.assert_close(moved, picture)  # the picture is reflected


def test_turning_by_45_deg_loses_the_corners_only():
    _, _, asked = warp(
        torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 64, 64), torch.tensor([[15, 15]]), affine(angle=45), 64
    )
    assert (asked[..., [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    assert (disc(31.5, 31.5, 30.0) * (asked[0, 0] == 0)).sum() == 0


def test_pixels_next_to_unknown_ones_become_unknown():
    asked = torch.full((1, 2, 8, 8), 10.0)
    asked[:, 0, :, 4:] = 0
    _, _, moved = warp(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 8), asked, affine(shift_x=0.5 / 8), 8)
    assert (moved[0, 0, 0] > 0).tolist() == [False, True, True, True, False, False, False, False]
    torch.testing.assert_close(moved[0, 0, :, 1:4], torch.full((8, 3), 10.0))
    assert (moved[0, 1, :, 1:] > 0).all()


def test_a_bend_that_is_the_same_everywhere_is_a_shift(sample):
    bend = torch.zeros(1, 2, 4, 4)
    bend[:, 0] = 0.25  # looks 4 px further right: what is there moves left
    bent, bent_votes, bent_asked = warp(*sample, affine(), SIZE, bend)
    moved, moved_votes, moved_asked = warp(*sample, affine(shift_x=-0.25), SIZE)
    torch.testing.assert_close(bent, moved, atol=1e-4, rtol=0)
    torch.testing.assert_close(bent_votes, moved_votes, atol=1e-3, rtol=0)
    assert torch.equal(bent_asked, moved_asked)


def test_a_bend_moves_picture_and_masks_together_and_smoothly():
    picture = disc(32, 16).expand(1, 3, 64, 64)
    votes = 15 * disc(32, 16).expand(1, 2, 64, 64)
    bend = torch.zeros(1, 2, 3, 3)
    bend[0, 1, 0] = -0.125  # the upper edge looks 8 px further up, the middle and below stay: things above move down
    bent, bent_votes, _ = warp(picture, votes, torch.tensor([[15, 15]]), affine(), 64, bend)
    torch.testing.assert_close(bent_votes / 15, bent[:, :2])
    x, y = centroid(bent[0, 0])
    assert x == pytest.approx(32, abs=0.1)
    assert 18 < y < 22
    low = disc(32, 50).expand(1, 3, 64, 64)
    assert centroid(warp(low, votes, torch.tensor([[15, 15]]), affine(), 64, bend)[0][0, 0])[1] == pytest.approx(
        50, abs=1
    )


def test_bends_have_the_scatter_that_was_asked_for():
    assert Augment(geometry=Geometry(bend=0.0)).draw_bend(2, torch.device("cpu")) is None
    assert Augment(geometry=Geometry(bend=0.03), seed=0).draw_bend(500, torch.device("cpu")).std() == pytest.approx(
        0.03, rel=0.05
    )


def test_class_nobody_was_asked_stays_unknown(sample):
    picture, votes, _ = sample
    _, _, asked = Augment(seed=0)(picture, votes, torch.tensor([[0, 15]]))
    assert (asked[:, 0] == 0).all()
    assert (asked[:, 1] > 0).any()


def test_uint8_and_float_pictures_give_the_same():
    picture = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    votes, asked = torch.zeros(2, 2, SIZE, SIZE), torch.full((2, 2), 15)
    one, _, _ = Augment(seed=1)(picture, votes, asked)
    other, _, _ = Augment(seed=1)(picture / 255.0, votes, asked)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert one.dtype == torch.float32
    assert one.min() >= 0
    assert one.max() <= 1


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64, torch.float64])
def test_votes_may_be_of_any_type(sample, dtype):
    picture, votes, asked = sample
    expected, one = Augment(seed=1)(picture, votes.float(), asked), Augment(seed=1)(picture, votes.to(dtype), asked)
    torch.testing.assert_close(one[1], expected[1])


def test_autocast_does_not_reach_the_geometry(sample):
    expected = Augment(seed=1)(*sample)
    with torch.autocast("cpu", torch.bfloat16):
        inside = Augment(seed=1)(*sample)
    for left, right in zip(inside, expected, strict=True):
        assert torch.equal(left, right)


def test_seed_repeats_and_calls_differ(sample):
    first = Augment(seed=3)
    one, two, again = first(*sample), first(*sample), Augment(seed=3)(*sample)
    for left, right in zip(one, again, strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(one[0], two[0])
    assert not torch.equal(one[0], Augment(seed=4)(*sample)[0])


def test_seed_does_not_touch_torchs_own_generator(sample):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Augment(seed=3)(*sample)
    assert torch.equal(torch.rand(1), expected)


def test_samples_of_a_batch_get_their_own_affine(sample):
    picture, votes, asked = (tensor.repeat(8, *[1] * (tensor.ndim - 1)) for tensor in sample)
    _, moved, _ = Augment(seed=0)(picture, votes, asked)
    assert len({tuple(each.flatten().tolist()) for each in moved}) == 8


def test_draws_stay_within_their_limits():
    draw = Augment(geometry=Geometry(rotate=30, scale=1.25, shift=0.05, flip=True), seed=0).draw_affine(
        2000, torch.device("cpu")
    )
    assert 29 < draw.angle.abs().max() <= 30
    assert draw.scale.min() == pytest.approx(0.8, abs=0.01)
    assert draw.scale.max() == pytest.approx(1.25, abs=0.01)
    assert 0.049 < draw.shift_x.abs().max() <= 0.05
    assert draw.mirror.mean() == pytest.approx(0.5, abs=0.05)
    assert Augment(geometry=Geometry(flip=False), seed=0).draw_affine(100, torch.device("cpu")).mirror.sum() == 0


def test_jitter_is_for_the_picture_alone(sample):
    still = {"rotate": 0.0, "scale": 1.0, "shift": 0.0, "flip": False, "bend": 0.0}
    picture, votes, asked = Augment(geometry=Geometry(**still), seed=0)(*sample)
    assert (picture - sample[0]).abs().mean() > 0.01
    torch.testing.assert_close(votes, sample[1].float(), atol=1e-4, rtol=0)
    assert (asked > 0).all()
    picture, _, _ = Augment(geometry=Geometry(**still), photometric=0.0, seed=0)(*sample)
    torch.testing.assert_close(picture, sample[0], atol=1e-5, rtol=0)


def test_jitter_is_mild():
    pictures = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    jittered = Augment(seed=0).jitter(pictures.clone())
    assert 0.02 < (jittered - pictures).abs().mean() < 0.15


def test_input_is_left_alone(sample):
    before = [tensor.clone() for tensor in sample]
    Augment(seed=0)(*sample)
    for left, right in zip(before, sample, strict=True):
        assert torch.equal(left, right)


def test_wrong_input_is_refused(sample):
    picture, votes, asked = sample
    with pytest.raises(ConfigError, match="output of 32 px"):
        Augment(32)(picture, votes, asked)
    with pytest.raises(ConfigError, match="give squares of one size"):
        Augment()(picture[..., :8], votes[..., :8], asked)
    with pytest.raises(ConfigError, match="give squares of one size"):
        Augment()(picture, votes[..., :8, :8], asked)
    with pytest.raises(ConfigError, match="scale >= 1"):
        Augment(geometry=Geometry(scale=0.8))
    with pytest.raises(ConfigError, match="bend >= 0"):
        Augment(geometry=Geometry(bend=-0.1))
    with pytest.raises(ConfigError, match="squash above 0"):
        Augment(geometry=Geometry(squash=0.0))
    with pytest.raises(ConfigError, match="grey in 0-1"):
        Augment(grey=1.5)
    with pytest.raises(ConfigError, match="cannot crop 20 px from 16 x 16 px"):
        center_crop(picture, 20)
