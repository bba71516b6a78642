"""What is said of a picture's brightness: pictures whose answer is plain."""

import numpy as np
import pytest

from zoobot_3d import read_picture
from zoobot_3d.errors import BadPictureError
from zoobot_3d.infer.picture import check_picture, exposure

N = 64


def galaxy():
    """(N, N, 3): a round galaxy of 220 on a noisy sky of about 10."""
    yy, xx = np.mgrid[:N, :N] - (N - 1) / 2
    noise = np.random.default_rng(1).integers(0, 9, (N, N, 3))
    return (6 + noise + 210 * np.exp(-np.hypot(xx, yy) / 9)[..., None]).astype(np.uint8)


def test_a_usual_picture_has_no_remark():
    assert exposure(galaxy()) == ""


def test_a_negative_is_told():
    assert exposure(255 - galaxy()).endswith("of 255, and the middle darker: a negative? Invert it")
    black_sky = np.where(galaxy() < 40, 0, galaxy()).astype(np.uint8)  # of which the negative is white, not saturated
    assert exposure(255 - black_sky).startswith("the sky is bright, 255 of 255")


@pytest.mark.parametrize("axis", [0, 1])
def test_a_part_of_one_colour_is_told(axis):
    picture = galaxy()
    np.swapaxes(picture, 0, axis)[:16] = [7, 30, 90]
    assert exposure(picture).startswith("25% of the rows or columns are of one colour: an empty part")


def test_real_pictures_have_no_such_remark(realdata):
    paths = sorted((realdata / "gz_decals_jpg" / "jpg").glob("*.jpg"))[:40]
    assert paths
    told = [exposure(read_picture(path)) for path in paths]
    assert [words for words in told if "negative" in words or "one colour" in words] == []


def test_a_white_picture_is_not_called_outside_the_footprint():
    with pytest.raises(BadPictureError, match="white all over; are its values in nanomaggies"):
        check_picture(np.full((N, N, 3), 255, np.uint8))
