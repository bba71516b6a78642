import cv2
import numpy as np
import pytest

from zoobot_3d.marks.rasterize import rasterize_marks
from zoobot_3d.simulate.galaxies import Ridge
from zoobot_3d.simulate.visibility import Trace, bar_axes, bar_contrast, contrast_along, find_stars, look, stretches
from zoobot_3d.simulate.volunteers import Structure, draw_bar_paths, draw_marks, draw_spiral_paths
from zoobot_3d.sky.grid import PixelGrid

N = 525
GRID = PixelGrid((N, N), 0.099, 150.0, 20.0, center=(261.5, 261.5))
Y, X = np.mgrid[:N, :N].astype(float)
DISK = 130 * np.exp(-np.hypot(X - 261.5, Y - 261.5) / 70)


def picture(light: np.ndarray, noise: float = 4.0) -> np.ndarray:
    """Grey picture of the light with sky noise, as (H, W, 3) uint8."""
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (N, N)), (0, 0), 2)
    grey = light + 8 + grain * noise / grain.std()
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def lane(points: np.ndarray, height: float, sigma: float = 7.0) -> np.ndarray:
    """Light of a given height along a line."""
    image = np.zeros((N, N), np.float32)
    cv2.polylines(image, [np.round(points).astype(np.int32)], False, 1.0, 5)
    image = cv2.GaussianBlur(image, (0, 0), sigma)
    return height * image / image.max()


def arm(turn: float = 0.0, n: int = 120) -> Trace:
    t = np.linspace(0, 2.6, n)
    radius = 60 * np.exp(0.3 * t)
    return Trace(261.5 + radius * np.cos(t + turn), 261.5 + radius * np.sin(t + turn), np.full(n, 9.0))


def points(trace: Trace) -> np.ndarray:
    return np.column_stack([trace.x, trace.y])


def n_marked(people: list) -> int:
    return sum(bool(paths) for paths in people)


@pytest.mark.parametrize(("height", "least", "most"), [(60, 11, 15), (0, 0, 2)])
def test_people_mark_arms_they_can_see_and_only_those(height, least, most):
    view = look(picture(DISK + lane(points(arm()), height)))
    people = draw_spiral_paths(view, [arm()], np.random.default_rng(1))
    assert len(people) == 15
    assert least <= n_marked(people) <= most


def test_fainter_arms_get_fewer_marks():
    marked = []
    for height in (6, 11, 60):
        view = look(picture(DISK + lane(points(arm()), height)))
        marked.append(n_marked(draw_spiral_paths(view, [arm()], np.random.default_rng(2), n_asked=60)))
    assert marked[0] < marked[1] - 5 < marked[2] - 10


def test_an_arm_is_drawn_as_far_as_it_is_seen():
    whole, half = arm(), 60
    view = look(picture(DISK + lane(points(whole)[:half], 60)))
    votes = rasterize_marks(draw_spiral_paths(view, [whole], np.random.default_rng(3)), (N, N))
    on_lane = votes[np.round(whole.y).astype(int), np.round(whole.x).astype(int)]
    assert on_lane[10 : half - 10].mean() > 8
    assert on_lane[half + 25 :].mean() < 1.5


def test_many_but_not_all_carry_an_arm_on_to_the_nucleus():
    whole = arm()
    begin = len(whole.x) // 3
    view = look(picture(DISK + lane(points(whole)[begin:], 60)))
    lead = float(whole.steps()[begin])
    lane_and_lead = Trace(whole.x, whole.y, whole.half_width, inner=lead)
    votes = rasterize_marks(draw_spiral_paths(view, [lane_and_lead], np.random.default_rng(3), n_asked=60), (N, N))
    on_lane = votes[np.round(whole.y).astype(int), np.round(whole.x).astype(int)]
    assert 0.3 < on_lane[5 : begin - 8].mean() / on_lane[begin + 8 : -15].mean() < 0.95


def test_votes_lie_on_the_lane_and_people_agree():
    view = look(picture(DISK + lane(points(arm()), 60)))
    votes = rasterize_marks(draw_spiral_paths(view, [arm()], np.random.default_rng(4)), (N, N))
    distance = np.min(np.hypot(X[..., None] - arm().x[::4], Y[..., None] - arm().y[::4]), axis=-1)
    assert votes.max() >= 8
    assert votes[distance < 5].mean() > 6
    assert votes[distance > 45].mean() < 0.3


def test_people_differ_in_style():
    view = look(picture(DISK + lane(points(arm()), 60) + lane(points(arm(np.pi)), 50)))
    people = draw_spiral_paths(view, [arm(), arm(np.pi)], np.random.default_rng(5), n_asked=200)
    counts = [len(paths) for paths in people]
    vertices = [len(path) for paths in people for path in paths]
    assert counts.count(0) > 3  # some mark nothing
    assert counts.count(1) > 20  # one of two, or both in one line
    assert counts.count(2) > 80
    assert 1 in vertices  # single points
    assert np.percentile(vertices, 5) < 40 < 150 < np.percentile(vertices, 95) <= 450
    widths = [cv2.contourArea(np.array(path, np.float32)) for paths in people for path in paths if len(path) > 3]
    assert np.percentile(widths, 95) > 2 * np.percentile(widths, 20)


def test_nobody_takes_the_long_axis_of_an_inclined_smooth_disk_for_an_arm():
    smooth = 130 * np.exp(-np.hypot(X - 261.5, (Y - 261.5) / 0.45) / 80)
    t = np.linspace(20, 150, 60)
    along = Trace(261.5 + t, np.full(60, 261.5), np.full(60, 9.0))
    assert contrast_along(look(picture(smooth)), along).max() < 1.5


def test_a_star_on_the_lane_is_not_an_arm():
    trace = Trace(np.linspace(330, 430, 60), np.full(60, 430.0), np.full(60, 9.0))
    star = 200 * np.exp(-((X - 380) ** 2 + (Y - 430) ** 2) / (2 * 7**2))
    assert contrast_along(look(picture(DISK + star)), trace).max() < 1.5


BAR = np.array([[-55, -12], [-55, 12], [55, 12], [55, -12]]) @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + 261.5


def test_a_bar_is_four_corners_near_the_truth_and_unclosed():
    ends = BAR.reshape(2, 2, 2).mean(1)
    view = look(picture(DISK + lane(ends, 90, sigma=9)))
    people = draw_bar_paths(view, BAR, np.random.default_rng(6))
    boxes = [np.array(paths[0]) for paths in people if paths and len(paths[0]) == 4]
    assert len(boxes) >= 10
    votes = rasterize_marks(people, (N, N))
    assert votes[261, 261] >= 9
    axes = [bar_axes(box) for box in boxes]
    angles = np.degrees([np.arctan2(along[1], along[0]) for _, along, _, _ in axes]) % 180
    assert np.median(angles) == pytest.approx(np.degrees(np.arctan2(0.6, 0.8)), abs=5)
    assert np.std(angles) > 0.5
    assert np.median([length for _, _, length, _ in axes]) == pytest.approx(50, abs=12)


def test_few_mark_a_bar_where_there_is_none():
    people = draw_bar_paths(look(picture(DISK)), None, np.random.default_rng(7), n_asked=200)
    assert 0 < n_marked(people) < 20
    people = draw_bar_paths(look(picture(DISK)), BAR, np.random.default_rng(7), n_asked=200)  # in the recipe, unseen
    assert n_marked(people) < 20


def test_a_round_bulge_in_an_inclined_disk_is_no_bar():
    smooth = 130 * np.exp(-np.hypot(X - 261.5, (Y - 261.5) / 0.5) / 80)
    corners = np.array([[200, 250], [200, 273], [323, 273], [323, 250]], float)
    assert bar_contrast(look(picture(smooth)), corners)[0] < 1.5


def test_some_trace_the_outline_of_the_ifu():
    angle = np.arange(6) * np.pi / 3
    hexagon = 261.5 + 100 * np.column_stack([np.cos(angle), np.sin(angle)])
    people = draw_bar_paths(look(picture(DISK)), None, np.random.default_rng(8), n_asked=600, outline=hexagon)
    assert 1 <= sum(len(path) == 6 for paths in people for path in paths) <= 15


def test_stars_are_found_where_they_are_brightest_first():
    light = DISK.copy()
    for x, y, height in ((60, 80, 120), (450, 400, 200)):
        light += height * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2 * 6**2))
    stars = find_stars(look(picture(light)))
    assert stars[:, :2] == pytest.approx(np.array([[450, 400], [60, 80]]), abs=3)


def test_stretches_bridge_short_gaps_and_drop_short_runs():
    seen = np.array([0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 0], bool)
    assert stretches(seen, step=2.0, gap=2.0, shortest=6.0) == [slice(1, 6)]
    assert stretches(seen, step=2.0, gap=0.0, shortest=2.0) == [slice(1, 3), slice(4, 6), slice(9, 10)]
    assert stretches(np.zeros(4, bool), step=2.0, gap=9.0, shortest=1.0) == []


def marks(seed: int = 0, position=None, **options):
    ridge = Ridge(-(arm().x - 261.5) * 0.099, -(arm().y - 261.5) * 0.099, np.full(120, 0.6))
    corners = -(BAR - 261.5) * 0.099
    shown = picture(DISK + lane(points(arm()), 60))
    return draw_marks(
        Structure([ridge], corners, position=position), shown, GRID, np.random.default_rng(seed), **options
    )


def test_marks_are_whole_and_on_the_picture():
    found = marks()
    for task in (found.spiral, found.bar, found.points):
        assert 13 <= len(task.classification_id) <= 18
        assert list(task.classification_id) == sorted(set(task.classification_id))
        assert all(stamp.endswith(" UTC") and len(stamp) == 23 for stamp in task.time_stamp)
    vertices = found.spiral.paths.vertices
    assert vertices.min() >= 0 and vertices.max() <= N - 1
    assert vertices * 10 == pytest.approx(np.round(vertices * 10), abs=1e-6)
    centers = np.array([point for row in found.points.center for point in row])
    assert np.median(centers, axis=0) == pytest.approx([261.5, 261.5], abs=3)


def test_the_number_asked_varies():
    asked = {marks(seed).n_asked["spiral"] for seed in range(25)}
    assert 15 in asked and len(asked) > 1


def test_marks_follow_the_seed():
    assert marks(3).to_json() == marks(3).to_json() != marks(4).to_json()


def test_offsets_count_from_the_galaxy_not_from_the_picture():
    shifted = (150.0 - 4.95 / 3600 / np.cos(np.radians(20.0)), 20.0)  # 50 px to the west, to the right
    centers = np.array([point for row in marks(position=shifted).points.center for point in row])
    assert np.median(centers, axis=0) == pytest.approx([311.5, 261.5], abs=3)


def test_a_bar_as_short_as_the_seeing_goes_unseen():
    small = (BAR - 261.5) * 0.25 + 261.5
    view = look(picture(DISK + lane(small.reshape(2, 2, 2).mean(1), 100, sigma=3)))
    assert n_marked(draw_bar_paths(view, small, np.random.default_rng(9), n_asked=100)) < 15


def test_a_faint_arm_is_followed_where_its_bright_part_has_caught_the_eye():
    whole = arm()
    tail = lane(points(whole)[50:], 6)
    at = np.round(points(whole)[75:105]).astype(int)
    votes = []
    for light in (tail, tail + lane(points(whole)[:55], 40)):
        people = draw_spiral_paths(look(picture(DISK + light)), [whole], np.random.default_rng(10), n_asked=60)
        votes.append(rasterize_marks(people, (N, N))[at[:, 1], at[:, 0]].mean())
    assert votes[1] > 1.7 * votes[0] > 0
