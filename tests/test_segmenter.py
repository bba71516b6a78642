import numpy as np
import pytest
import torch

import zoobot_3d
from zoobot_3d.errors import BadPictureError, BundleError


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    return zoobot_3d.load_segmenter(tiny_bundle, device="cpu")


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [32, 100, 424])
def test_masks_lie_on_the_pictures_own_pixels(segmenter, size):
    masks = segmenter.segment(picture(size))
    assert masks.shape == (2, size, size) and masks.dtype == np.float32
    assert 0 < masks.max() <= 1 and masks.min() >= 0


def test_nothing_is_said_outside_the_field_that_was_trained_on(segmenter):
    masks = segmenter.segment(picture(400))
    inside = masks[:, 50:350, 50:350]  # field_fraction 0.75
    assert (inside > 0).all()
    masks[:, 50:350, 50:350] = 0
    assert (masks == 0).all()


def test_the_crop_is_the_middle_of_the_picture(segmenter, monkeypatch):
    # A network that returns the picture's own brightness shows where each pixel went and came back to.
    monkeypatch.setattr(segmenter, "fractions", lambda views: np.stack([views[:, 0], views[:, 1]], 1))
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[40:48, 80:88, 0] = 255  # blocks of 8 px, so that 3 px of network input (4 -> 1 of 3) resolve them
    rgb[90:98, 30:38, 1] = 255
    spiral, bar = segmenter.segment(rgb)
    yy, xx = np.indices(spiral.shape)
    for mask, (row, column) in ((spiral, (43.5, 83.5)), (bar, (93.5, 33.5))):
        assert (mask * yy).sum() / mask.sum() == pytest.approx(row, abs=0.3)
        assert (mask * xx).sum() / mask.sum() == pytest.approx(column, abs=0.3)


def test_a_batch_of_unlike_sizes_equals_one_at_a_time(segmenter):
    pictures = [picture(64, 1), picture(424, 2), picture(100, 3)]
    for together, picture_ in zip(segmenter.segment_batch(pictures), pictures, strict=True):
        np.testing.assert_allclose(together, segmenter.segment(picture_), atol=1e-5)


def test_the_same_network_as_in_the_bundle(segmenter):
    views = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    with torch.inference_mode():
        expected = segmenter.bundle.fraction(segmenter.bundle.model(torch.from_numpy(views))).numpy()
    np.testing.assert_allclose(segmenter.fractions(views), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([1, 2], "expected a NumPy array"),
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


def test_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match="bundle"):
        zoobot_3d.load_segmenter(tmp_path)
