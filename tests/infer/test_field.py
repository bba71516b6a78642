"""Pictures of any field: the galaxy is found and measured, and networks see it as Galaxy Zoo's pictures show it."""

import cv2
import numpy as np
import pandas as pd
import pytest

import zoobot_3d
from zoobot_3d import io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import BadPictureError, ConfigError
from zoobot_3d.infer.field import FIELD_RADII, Window, galaxy_window, measure_galaxy
from zoobot_3d.infer.predict import predict, read_masks


def galaxy(shape, x, y, scale_length, neighbours=()):
    """A round exponential disk, and Gaussian stars (x, y, sigma, height), on a noisy sky."""
    rows, columns = np.indices(shape)
    light = 6 + 200 * np.exp(-np.hypot(columns - x, rows - y) / scale_length)
    for star_x, star_y, sigma, height in neighbours:
        light += height * np.exp(-((columns - star_x) ** 2 + (rows - star_y) ** 2) / (2 * sigma**2))
    light += np.random.default_rng(3).normal(0, 1.5, shape)
    return np.repeat(np.clip(light, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_the_petrosian_radius_of_an_exponential_disk():
    x = np.linspace(0.5, 8, 100_000)
    exact = x[np.argmax(np.exp(-x) < 0.2 * 2 * (1 - (1 + x) * np.exp(-x)) / x**2)]
    for scale_length in (8, 12, 20):
        found = measure_galaxy(galaxy((424, 424), 211.5, 211.5, scale_length))
        assert found.petrosian_radius == pytest.approx(exact * scale_length, abs=3)  # rings are 2 px wide
        assert (found.x, found.y) == pytest.approx((211.5, 211.5), abs=2)


@pytest.mark.parametrize(
    ("shape", "x", "y"), [((300, 500), 260, 140), ((500, 300), 120, 260), ((1000, 1000), 450, 560)]
)
def test_any_shape_and_a_centre_anywhere_near_the_middle(shape, x, y):
    found = measure_galaxy(galaxy(shape, x, y, 12))
    factor = max(1, max(shape) / 212)
    assert (found.x, found.y) == pytest.approx((x, y), abs=factor)
    assert found.petrosian_radius == pytest.approx(3.6 * 12, rel=0.1)


def test_neighbours_do_not_count():
    alone = measure_galaxy(galaxy((424, 424), 211, 211, 12))
    crowded = measure_galaxy(
        galaxy((424, 424), 211, 211, 12, [(330, 100, 8, 240), (70, 340, 15, 240), (211, 350, 4, 250)])
    )
    assert crowded.petrosian_radius == pytest.approx(alone.petrosian_radius, rel=0.05)
    assert (crowded.x, crowded.y) == pytest.approx((alone.x, alone.y), abs=2)


def test_a_frame_is_no_galaxy():
    picture = galaxy((300, 300), 150, 140, 10)
    framed = np.zeros((700, 500, 3), np.uint8)
    framed[200:500, 100:400] = picture
    alone, found = measure_galaxy(picture), measure_galaxy(framed)
    assert (found.x - 100, found.y - 200) == pytest.approx((alone.x, alone.y), abs=2)
    assert found.petrosian_radius == pytest.approx(alone.petrosian_radius, rel=0.05)


def test_without_a_galaxy_or_with_a_tiny_one():
    noise = np.random.default_rng(0).normal(20, 2, (200, 200, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
    with pytest.raises(BadPictureError, match="no galaxy stands out from the sky"):
        measure_galaxy(noise)
    with pytest.raises(BadPictureError, match="too small to see arms or bars"):
        galaxy_window(galaxy((200, 200), 100, 100, 1.2))


def test_a_window_and_back():
    picture = galaxy((100, 160), 90, 40, 8)
    window = Window(-20, 60, 90)
    cut = window.cut(picture)
    assert cut.shape == (90, 90, 3)
    np.testing.assert_array_equal(cut[20:], picture[:70, 60:150])
    assert (cut[:20] == cut[0, 0]).all() and cut[0, 0, 0] == pytest.approx(6, abs=3)  # the sky
    back = window.put_back(np.arange(2 * 90 * 90, dtype=np.float32).reshape(2, 90, 90), (100, 160))
    assert back.shape == (2, 100, 160)
    np.testing.assert_array_equal(back[1, :70, 60:150], np.arange(8100, 16200, dtype=np.float32).reshape(90, 90)[20:])
    back[:, :70, 60:150] = np.nan
    assert np.isnan(back).all()


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    return zoobot_3d.load_segmenter(tiny_bundle, device="cpu")


def test_masks_are_those_of_the_window(segmenter):
    picture = galaxy((300, 420), 250, 130, 10)
    window = galaxy_window(picture)
    assert window.side == pytest.approx(FIELD_RADII * 36, rel=0.1)
    masks = segmenter.segment(picture, field="auto", outside=np.nan)
    assert masks.shape == (2, 300, 420)
    expected = window.put_back(segmenter.segment(window.cut(picture), outside=np.nan), (300, 420))
    np.testing.assert_array_equal(masks, expected)
    known = np.isfinite(masks[0])
    assert known[130, 250] and 0.5 * window.side**2 < known.sum() < window.side**2


def test_field_auto_with_tta_is_the_mean_over_windows(tiny_bundle):
    several = zoobot_3d.load_segmenter(tiny_bundle, device="cpu", tta=True)
    picture = galaxy((300, 300), 150, 150, 10)
    masks, sigma = several.segment_with_uncertainty(picture, field="auto")
    np.testing.assert_allclose(several.segment(picture, field="auto"), masks, atol=1e-6)
    parts = []
    for zoom in (0.8, 1.0, 1.25):
        window = galaxy_window(picture, zoom)
        parts.append(window.put_back(several.segment(window.cut(picture)), (300, 300)))
    np.testing.assert_allclose(masks[:, 150, 150], np.mean(parts, axis=0)[:, 150, 150], atol=1e-6)
    assert (sigma[:, 150, 150] >= np.std(parts, axis=0)[:, 150, 150] - 1e-6).all()


def test_a_field_that_is_none(segmenter):
    with pytest.raises(ConfigError, match="no field 'wide'; use one of picture, auto"):
        segmenter.segment(galaxy((64, 64), 32, 32, 4), field="wide")
    with pytest.raises(BadPictureError, match="use the field 'auto'"):
        segmenter.segment(galaxy((64, 80), 32, 32, 4))


def test_a_folder_of_pictures_of_any_field(segmenter, tmp_path):
    folder = tmp_path / "images"
    pictures = {
        "wide": galaxy((300, 420), 250, 130, 10),
        "large": galaxy((200, 200), 100, 100, 40),
        "empty": np.full((100, 100, 3), 7, np.uint8) + np.eye(100, dtype=np.uint8)[..., None],
        "tiny": galaxy((200, 200), 100, 100, 1.2),
    }
    for name, picture in pictures.items():
        io.write_png(folder / f"{name}.png", picture)
    galaxies = list_galaxies([folder]).assign(pixscale=0.3, field="auto")
    summary = predict(galaxies, segmenter, tmp_path / "out", masks="fits")
    assert (summary.predicted, summary.failed) == (3, 1)
    rows = pd.read_parquet(tmp_path / "out" / "shards").set_index("id")
    assert rows.loc["tiny", "error"].startswith("the galaxy has a Petrosian radius of ")
    assert rows.loc["empty", "warning"].startswith("no galaxy stands out from the sky")
    assert pd.isna(rows.loc["wide", "warning"])
    assert rows.loc["large", "warning"].startswith("the galaxy is larger than its picture")
    masks = {row["id"]: planes for row, planes in read_masks(tmp_path / "out", outside=np.nan) if planes is not None}
    for name in ("wide", "large"):
        expected = segmenter.segment(pictures[name], field="auto", outside=np.nan)
        np.testing.assert_array_equal(np.isnan(masks[name]), np.isnan(expected))
        np.testing.assert_allclose(masks[name], expected, atol=0.003)
    again = predict(galaxies, segmenter, tmp_path / "out", masks="fits")
    assert (again.predicted, again.skipped) == (0, 3)
    as_they_are = predict(galaxies.assign(field="picture"), segmenter, tmp_path / "out", masks="fits")
    assert (as_they_are.changed, as_they_are.failed) == (3, 1)  # "wide" is not square


@pytest.mark.slow  # 40 predictions
@pytest.mark.parametrize("zoom", [0.5, 0.7, 1.4, 2.0])
def test_masks_of_real_galaxies_hardly_depend_on_the_field(realdata, zoom):
    """The IoU with the answer to the picture as it is; of all galaxies together, within what both pictures show."""
    segmenter = zoobot_3d.load_segmenter(device="cpu")
    both = either = 0
    labels = pd.read_csv(realdata / "gz_examples" / "labels.csv")
    spirals = labels[(labels["arms_labelled"] == "yes") & labels["survey"].str.startswith("DECaLS")]
    for file in spirals["file"]:
        picture = io.read_picture(realdata / "gz_examples" / file)
        side = min(picture.shape[:2])
        picture = picture[:side, :side]
        whole = segmenter.segment(picture, field="auto")
        n = round(side / zoom)
        move = np.array([[zoom, 0, (side - 1) / 2 * (1 - zoom)], [0, zoom, (side - 1) / 2 * (1 - zoom)]])
        seen = cv2.warpAffine(picture, move, (side, side), flags=cv2.INTER_AREA)
        masks = segmenter.segment(seen, field="auto")
        back = [cv2.warpAffine(np.nan_to_num(m), move, (side, side), flags=cv2.WARP_INVERSE_MAP) for m in masks]
        low = max(0, (side - n) // 2)
        inside = np.s_[:, low : side - low, low : side - low]
        ours, theirs = (np.nan_to_num(np.stack(list(m)))[inside] > 0.2 for m in (back, whole))
        both, either = both + (ours & theirs).sum(), either + (ours | theirs).sum()
    assert both / either > 0.7


@pytest.mark.slow  # 200 pictures
def test_the_side_of_galaxy_zoo_pictures_in_petrosian_radii(realdata):
    files = sorted((realdata / "gz_decals_jpg" / "jpg").glob("*.jpg"))[:200]
    radii = np.array([measure_galaxy(io.read_picture(file)).petrosian_radius / 424 for file in files])
    low, middle, high = np.percentile(radii, [16, 50, 84])
    assert 1 / middle == pytest.approx(FIELD_RADII, rel=0.03)
    assert middle / low < 1.45 and high / middle < 1.45
