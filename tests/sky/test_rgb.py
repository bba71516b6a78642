import numpy as np
import pytest

from zoobot_3d.errors import BadPictureError
from zoobot_3d.io import read_cutout, read_picture
from zoobot_3d.sky.rgb import grz_from_rgb, rgb_from_grz


@pytest.mark.parametrize(
    ("cutout", "picture"),
    [
        ("a11c60_example_e.fits", "18abcc_example_e.jpeg"),
        ("737ac3_example_c.fits", "2418be_example_c.jpeg"),
        ("ba79bb_example_a.fits", "8ec267_example_a.jpeg"),
    ],
)
def test_reproduces_galaxy_zoo_pictures(realdata, cutout, picture):
    cube, _ = read_cutout(realdata / "desi_fits" / cutout)
    ours = rgb_from_grz(cube[:, ::-1])
    theirs = read_picture(realdata / "desi_fits" / picture)
    for channel in range(3):
        assert np.corrcoef(ours[..., channel].ravel(), theirs[..., channel].ravel())[0, 1] > 0.999


def test_rows_are_flipped_and_bands_reversed():
    cube = np.zeros((3, 2, 1))
    cube[2, 0, 0] = 0.1  # a red pixel in the south
    picture = rgb_from_grz(cube)
    assert picture.shape == (2, 1, 3) and picture.dtype == np.uint8
    assert picture[1, 0, 0] > picture[0, 0, 0]
    assert picture[1, 0, 0] > picture[1, 0, 2]


def test_empty_sky_is_dark_grey_and_nan_is_empty():
    # (arcsinh(0) - arcsinh(-0.5)) / (arcsinh(300) - arcsinh(-0.5)) = 0.4812 / (6.3969 + 0.4812) = 0.06996; then grey
    # stays grey but for the term a (1-w)^2 rgb with w = sin(pi/2 * 0.6).
    level = 0.06996
    w = np.sin(0.6 * np.pi / 2)
    expected = int(255 * (level + level**2 * (1 - w) ** 2))
    assert (rgb_from_grz(np.zeros((3, 2, 2))) == expected).all()
    assert (rgb_from_grz(np.full((3, 2, 2), np.nan)) == expected).all()


def test_wrong_shape():
    with pytest.raises(BadPictureError, match=r"expected \(3, H, W\)"):
        rgb_from_grz(np.zeros((4, 5)))


def test_a_picture_becomes_nanomaggies_again(examples):
    cube = read_cutout(examples / "desi_fits" / "737ac3_example_c.fits")[0][:, ::-1]
    picture = rgb_from_grz(cube)
    again = grz_from_rgb(picture)
    inside = ((picture.min(-1) > 2) & (picture.max(-1) < 250))[::-1]  # clipped levels are lost
    noise = np.array([0.003, 0.005, 0.01])  # of the sky, nanomaggies
    assert (np.median(np.abs(again - cube)[:, inside], axis=1) < noise / 4).all()
    assert np.percentile(np.abs(rgb_from_grz(again).astype(int) - picture), 99.9) <= 2


def test_only_pictures_become_nanomaggies():
    with pytest.raises(BadPictureError, match=r"\(H, W, 3\) RGB picture, got \(3, 4\)"):
        grz_from_rgb(np.zeros((3, 4)))


def test_values_of_a_picture_are_no_nanomaggies():
    with pytest.raises(BadPictureError, match="expected nanomaggies, got uint8"):
        rgb_from_grz(np.ones((3, 8, 8), np.uint8))


def test_what_is_masked_counts_as_zero():
    cube = np.full((3, 4, 4), 0.1, np.float32)
    dark = cube.copy()
    dark[:, 1, 2] = 0
    np.testing.assert_array_equal(rgb_from_grz(np.ma.masked_array(cube, dark == 0)), rgb_from_grz(dark))
