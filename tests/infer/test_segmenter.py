from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoobot_3d
from zoobot_3d.errors import BadFileError, BadPictureError, BundleError, ConfigError
from zoobot_3d.infer.bundle import Bundle, BundleInfo
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.networks.losses import build_loss


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    return zoobot_3d.load_segmenter(tiny_bundle, device="cpu")


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)


class Made(torch.nn.Module):
    """A network made of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, views):
        return self.function(views)


def made(function, loss="l1", size=32, field=0.75):
    """A bundle of a hand-made network; with l1 its raw output is the fraction."""
    made_loss = build_loss(loss)
    info = BundleInfo("made", {}, made_loss.out_channels, loss, size, field)
    return Bundle(Made(function), made_loss, info, Path("made"))


def constant(spiral, bar, **options):
    values = torch.tensor([spiral, bar])[:, None, None]
    return made(lambda views: values.expand(len(views), 2, *views.shape[-2:]), **options)


@pytest.mark.parametrize("size", [32, 100, 424])
def test_masks_lie_on_the_pictures_own_pixels(segmenter, size):
    masks = segmenter.segment(picture(size))
    assert masks.shape == (2, size, size) and masks.dtype == np.float32
    assert 0 < np.nanmax(masks) <= 1 and np.nanmin(masks) >= 0


def test_nothing_is_said_outside_the_field_that_was_trained_on(segmenter):
    masks = segmenter.segment(picture(400), outside=np.nan)
    inside = masks[:, 50:350, 50:350]  # field_fraction 0.75
    assert (inside > 0).all()
    masks[:, 50:350, 50:350] = np.nan
    assert np.isnan(masks).all()
    edge = segmenter.segment(picture(400))[:, :50]
    assert (edge == 0).all()


def test_the_crop_is_the_middle_of_the_picture():
    # A network that returns the picture's own brightness shows where each pixel went and came back to.
    segmenter = Segmenter(made(lambda views: views[:, :2]), device="cpu")
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[40:48, 80:88, 0] = 255  # blocks of 8 px, so that 3 px of network input (4 -> 1 of 3) resolve them
    rgb[90:98, 30:38, 1] = 255
    spiral, bar = np.nan_to_num(segmenter.segment(rgb))
    yy, xx = np.indices(spiral.shape)
    for mask, (row, column) in ((spiral, (43.5, 83.5)), (bar, (93.5, 33.5))):
        assert (mask * yy).sum() / mask.sum() == pytest.approx(row, abs=0.3)
        assert (mask * xx).sum() / mask.sum() == pytest.approx(column, abs=0.3)


def test_a_batch_of_unlike_sizes_equals_one_at_a_time(segmenter):
    pictures = [picture(64, 1), picture(424, 2), picture(100, 3)]
    for together, picture_ in zip(segmenter.segment_batch(pictures), pictures, strict=True):
        np.testing.assert_allclose(together, segmenter.segment(picture_), atol=1e-5)


def test_the_same_network_as_in_the_bundle(segmenter, tiny_bundle):
    views = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    with torch.inference_mode():
        bundle = zoobot_3d.load_bundle(tiny_bundle)
        expected = bundle.fraction(bundle.model(torch.from_numpy(views))).numpy()
    np.testing.assert_allclose(segmenter.fractions(views), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "expected a NumPy array or a file, got NoneType$"),
        ([1, 2], "got list; for several pictures call segment_batch"),
        (np.zeros((64, 64), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((64, 64, 3)), "expected uint8"),
        (picture(64)[:50], "expected a square, got 50 x 64"),
        (picture(16), "too small"),
        (np.full((64, 64, 3), 7, np.uint8), "blank, every pixel is 7"),
    ],
)
def test_what_is_no_picture(segmenter, wrong, message):
    with pytest.raises(BadPictureError, match=message):
        segmenter.segment(wrong)


def test_a_picture_may_be_a_file_or_one_of_pillows(segmenter, tmp_path):
    array = picture(64)
    file = tmp_path / "picture.png"
    Image.fromarray(array).save(file)
    expected = segmenter.segment(array)
    for given in (file, str(file), Image.open(file), Image.fromarray(array).convert("RGBA")):
        np.testing.assert_array_equal(segmenter.segment(given), expected)
    np.testing.assert_array_equal(segmenter.segment_batch([file, array])[0], expected)


def test_a_cutout_in_fits_is_seen_with_north_up(segmenter, tmp_path):
    cube = np.zeros((3, 64, 64), np.float32)  # in memory row 0 is north
    cube[:, 5:20, 30:40] = 0.5
    zoobot_3d.io.write_cutout(tmp_path / "cutout.fits", cube, zoobot_3d.PixelGrid((64, 64), 0.3, 150.0, 2.0))
    expected = segmenter.segment(zoobot_3d.rgb_from_grz(cube[:, ::-1]))
    np.testing.assert_array_equal(segmenter.segment(tmp_path / "cutout.fits"), expected)


def test_a_file_that_is_not_there_is_named(segmenter, tmp_path):
    with pytest.raises(BadFileError, match=r"galaxy\.jpg: no such file; check the path"):
        segmenter.segment(tmp_path / "galaxy.jpg")


def test_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match="bundle"):
        zoobot_3d.load_segmenter(tmp_path)


# Uncertainty


def test_an_ensemble_is_the_mean_and_doubts_where_its_members_disagree():
    def west(views):  # both see a spiral of 0.4; one sees a bar of 0.8 in the west (right), the other none there
        maps = torch.full((len(views), 2, 32, 32), 0.4)
        maps[:, 1, :, 16:] = 0.8
        return maps

    segmenter = Segmenter([constant(0.4, 0.4), made(west)], device="cpu")
    masks, sigma = segmenter.segment_with_uncertainty(picture(64))
    inner = slice(10, 54)  # the field of 0.75 is 48 px of 64
    east, west_ = (inner, slice(10, 30)), (inner, slice(34, 54))  # two pixels away from the border between them
    np.testing.assert_allclose(masks[0][inner, inner], 0.4, atol=1e-6)
    np.testing.assert_allclose(sigma[0][inner, inner], 0, atol=1e-3)
    np.testing.assert_allclose(masks[1][west_], 0.6, atol=1e-6)
    np.testing.assert_allclose(sigma[1][west_], 0.2, atol=1e-6)  # half the distance of 0.4 and 0.8
    np.testing.assert_allclose(sigma[1][east], 0, atol=1e-3)
    np.testing.assert_array_equal(segmenter.segment(picture(64)), masks)
    assert (masks[:, :8] == 0).all() and (sigma[:, :8] == 0).all()  # outside the field
    outside = segmenter.segment_with_uncertainty(picture(64), outside=np.nan)
    assert all(np.isnan(maps[:, :8]).all() and np.isfinite(maps[:, inner, inner]).all() for maps in outside)


def test_members_may_differ_in_size_and_field():
    segmenter = Segmenter([constant(0.2, 0, size=32, field=1.0), constant(0.6, 0, size=48, field=0.5)], device="cpu")
    masks, sigma = segmenter.segment_with_uncertainty(picture(64))
    np.testing.assert_allclose(masks[0, 20:44, 20:44], 0.4, atol=1e-6)  # both see the middle half
    np.testing.assert_allclose(sigma[0, 20:44, 20:44], 0.2, atol=1e-6)
    np.testing.assert_allclose(masks[0, :15], 0.2, atol=1e-6)  # only the first sees the edge
    np.testing.assert_allclose(sigma[0, :15], 0, atol=1e-3)


def test_what_each_network_sees_of_a_picture():
    segmenter = Segmenter([constant(0.2, 0, size=32, field=1.0), constant(0.6, 0, size=48, field=0.5)], device="cpu")
    shown = np.zeros((64, 64, 3), np.uint8)
    shown[:20] = 204  # above the middle half is row 16: it sees 4 px, that is 6 of its own
    whole, middle = segmenter.views([np.zeros_like(shown), shown])
    assert whole.shape == (2, 3, 32, 32) and middle.shape == (2, 3, 48, 48) and whole.dtype == np.float32
    assert not whole[0].any() and not middle[0].any()
    assert (whole[1] > 0.4).sum(axis=1).tolist() == [[10] * 32] * 3  # half as many rows
    assert (middle[1] > 0.4).sum(axis=1).tolist() == [[6] * 48] * 3
    assert whole[1, :, :8].min() == pytest.approx(0.8, abs=0.01)
    assert segmenter.fractions([whole, middle]).shape == (2, 2, 32, 32)


def test_fractions_of_members_that_differ():
    segmenter = Segmenter([constant(0.2, 0, size=32, field=1.0), constant(0.6, 0, size=48, field=0.5)], device="cpu")
    fractions = segmenter.fractions([np.zeros((3, 3, 32, 32)), np.zeros((3, 3, 48, 48))])
    assert fractions.shape == (3, 2, 32, 32)
    np.testing.assert_allclose(fractions[:, 0, 10:22, 10:22], 0.4, atol=1e-6)
    np.testing.assert_allclose(fractions[:, 0, :7], 0.2, atol=1e-6)
    again, sigma = segmenter.fractions_with_uncertainty([np.zeros((3, 3, 32, 32)), np.zeros((3, 3, 48, 48))])
    np.testing.assert_array_equal(again, fractions)
    np.testing.assert_allclose(sigma[:, 0, 10:22, 10:22], 0.2, atol=1e-6)
    np.testing.assert_allclose(sigma[:, 0, :7], 0, atol=1e-3)
    with pytest.raises(ConfigError, match="give each its own views"):
        segmenter.fractions(np.zeros((3, 3, 32, 32)))
    with pytest.raises(ConfigError, match="1 arrays of views for 2 bundles"):
        segmenter.fractions([np.zeros((3, 3, 32, 32))])


def test_tta_turns_every_view_back():
    # This network copies the picture, so that all eight views agree once they are turned back.
    views = np.random.default_rng(0).random((5, 3, 32, 32), np.float32)
    segmenter = Segmenter(made(lambda views: views[:, :2]), device="cpu", tta=True, batch_size=16)
    np.testing.assert_allclose(segmenter.fractions(views), views[:, :2], atol=1e-6)
    _, sigma = segmenter.segment_with_uncertainty(picture(64))
    assert np.nanmax(sigma) < 1e-3


def test_tta_is_the_mean_over_eight_orientations_in_one_batch():
    batches = []

    def first_row(views):  # only what lies in the north: each pixel of an edge is there in 2 of 8 orientations
        batches.append(len(views))
        maps = torch.zeros(len(views), 2, 32, 32)
        maps[:, 0, 0] = 0.8
        return maps

    segmenter = Segmenter(made(first_row, field=1.0), device="cpu", tta=True, batch_size=16)
    fractions = segmenter.fractions(np.zeros((3, 3, 32, 32)))
    assert batches == [16, 8]  # two pictures, then one
    for edge in (
        fractions[:, 0, 0, 1:-1],
        fractions[:, 0, -1, 1:-1],
        fractions[:, 0, 1:-1, 0],
        fractions[:, 0, 1:-1, -1],
    ):
        np.testing.assert_allclose(edge, 0.2)
    np.testing.assert_allclose(fractions[:, 0, 0, 0], 0.4)  # a corner is on two edges
    assert (fractions[:, 0, 1:-1, 1:-1] == 0).all() and (fractions[:, 1] == 0).all()
    _, sigma = segmenter.segment_with_uncertainty(picture(32))
    np.testing.assert_allclose(sigma[0, 0, 1:-1], np.sqrt(0.8**2 * 0.25 * 0.75), atol=1e-6)  # of a coin that is 1 in 4


def test_the_beta_binomials_own_variance_adds_to_that_of_the_members():
    logit = {value: np.log(value / (1 - value)) for value in (0.2, 0.5)}
    # Concentration 3 (softplus of what expm1 undoes, plus its least value of 0.1), so a variance of m (1 - m) / 4.
    b = np.log(np.expm1(3 - 0.1))

    def member(mean):
        raw = torch.tensor([logit[mean], b, logit[mean], b], dtype=torch.float32)[:, None, None]
        return made(lambda views: raw.expand(len(views), 4, 32, 32), loss="beta_binomial", field=1.0)

    _, sigma = Segmenter(member(0.5), device="cpu").segment_with_uncertainty(picture(32))
    np.testing.assert_allclose(sigma, np.sqrt(0.25 / 4), rtol=1e-5)
    both = Segmenter([member(0.5), member(0.2)], device="cpu").segment_with_uncertainty(picture(32))[1]
    np.testing.assert_allclose(both, np.sqrt((0.25 / 4 + 0.16 / 4) / 2 + 0.15**2), rtol=1e-5)
    # A member that predicts no variance does not claim to be certain.
    mixed = Segmenter([member(0.5), constant(0.2, 0.2, field=1.0)], device="cpu")
    np.testing.assert_allclose(mixed.segment_with_uncertainty(picture(32))[1], np.sqrt(0.25 / 4 + 0.15**2), rtol=1e-5)


def test_one_answer_of_a_network_that_predicts_no_variance_has_no_uncertainty(segmenter):
    with pytest.raises(ConfigError, match="one answer of a network trained with bce has no uncertainty"):
        segmenter.segment_with_uncertainty(picture(64))


def test_an_ensemble_from_folders(tiny_bundle, segmenter):
    twice = zoobot_3d.load_segmenter([tiny_bundle, tiny_bundle], device="cpu")
    masks, sigma = twice.segment_with_uncertainty(picture(64))
    np.testing.assert_allclose(masks, segmenter.segment(picture(64)), atol=1e-6)
    assert np.nanmax(sigma) < 1e-3
    with pytest.raises(ConfigError, match="no bundles"):
        zoobot_3d.load_segmenter([])


def test_a_segmenter_says_in_one_line_what_it_is(tiny_bundle):
    one = zoobot_3d.load_segmenter(tiny_bundle, device="cpu")
    assert repr(one) == "Segmenter(published_unet from bundle, 32 px across 0.75 of the picture's side, on cpu)"
    assert repr(one.bundle) == f"Bundle(published_unet from {tiny_bundle}, 32 px)"
    several = zoobot_3d.load_segmenter([tiny_bundle] * 2, device="cpu", tta=True)
    assert repr(several) == "Segmenter(2 networks: published_unet, published_unet, 8 orientations, on cpu)"


def test_a_batch_may_come_from_a_generator(segmenter):
    pictures = [picture(64), picture(48)]
    found = segmenter.segment_batch(each for each in pictures)
    for masks, alone in zip(found, segmenter.segment_batch(pictures), strict=True):
        np.testing.assert_array_equal(masks, alone)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8", None, True])
def test_a_batch_size_that_is_none_is_refused(batch_size):
    # -1 answered a batch with no masks at all.
    with pytest.raises(ConfigError, match=r"batch_size is .*; give a whole number of at least 1"):
        Segmenter(constant(0.5, 0.5), batch_size=batch_size)


@pytest.mark.parametrize("bundle", [None, 3])
def test_what_is_no_bundle_is_refused(bundle):
    with pytest.raises(ConfigError, match=f"no bundle {bundle}; give a folder"):
        zoobot_3d.load_segmenter(bundle)
