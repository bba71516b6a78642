import numpy as np
import pandas as pd
import pytest
import regions
from astropy import units
from astropy.io import fits
from astropy.wcs import WCS

from made_predictions import SCALE, SIZE, write_prediction
from shapes import rectangle, spiral
from zoobot_3d.cli import main
from zoobot_3d.errors import BadFileError, ConfigError
from zoobot_3d.infer.export import export_masks
from zoobot_3d.infer.shards import ShardLog, write_shard
from zoobot_3d.io import encode_mask_png
from zoobot_3d.measure.arms import measure_arms
from zoobot_3d.measure.disk import Disk
from zoobot_3d.measure.galaxy import Given, measure_masks
from zoobot_3d.measure.table import arms_path, measure_table, read_measurements
from zoobot_3d.report.regions import bar_region, export_regions, mask_regions, trace_regions
from zoobot_3d.sky.grid import PixelGrid

GRID = PixelGrid((SIZE, SIZE), SCALE, 150.0, 2.0)


def tagged(found, tag):
    return [region for region in found if tag in region.meta["tag"]]


def cone(at, slope=0.02):
    """A mask that falls from 1 at a point (x, y), so that its contours are circles of known radius."""
    y, x = np.indices((SIZE, SIZE))
    return np.clip(1 - slope * np.hypot(x - at[0], y - at[1]), 0, 1)


def test_contours_are_where_the_mask_has_the_level():
    found = mask_regions(np.stack([cone((120, 60)), np.zeros((SIZE, SIZE))]), GRID, (0.3, 0.5))
    assert [region.meta["tag"] for region in found] == [["spiral", "spiral 0.3"], ["spiral", "spiral 0.5"]]
    for region, radius in zip(found, (35, 25), strict=True):
        away = np.hypot(region.vertices.x - 120, region.vertices.y - (SIZE - 1 - 60))  # row 0 south
        np.testing.assert_allclose(away, radius, atol=0.1)
        assert region.area == pytest.approx(np.pi * radius**2, rel=0.01)


def test_a_hole_is_told_from_an_island_and_contours_end_with_the_field():
    y, x = np.indices((SIZE, SIZE)) - 99.5
    ring = (np.hypot(x, y) < 60) & (np.hypot(x, y) > 20)
    bar = np.where(x < 0, 1.0, np.nan)
    found = mask_regions(np.stack([ring.astype(float), bar]), GRID, (0.5,))
    outer, inner = sorted(tagged(found, "spiral"), key=lambda region: -region.area)
    assert ("hole" in outer.meta["tag"], "hole" in inner.meta["tag"]) == (False, True)
    assert inner.area == pytest.approx(np.pi * 20**2, rel=0.03)
    (half,) = tagged(found, "bar")
    assert half.area == pytest.approx(SIZE * SIZE / 2, rel=0.02)


@pytest.mark.parametrize("pa", [0, 30, 90, 145])
def test_the_rectangle_of_a_bar_is_the_bar(pa):
    mask = rectangle(SIZE, 80, 20, pa, at=(4, -6))
    row = measure_masks(np.stack([np.zeros_like(mask), mask]), GRID).row()
    region = bar_region(row, GRID)
    inside = np.flipud(region.to_mask(mode="exact").to_image((SIZE, SIZE)))
    assert np.minimum(inside, mask).sum() / np.maximum(inside, mask).sum() > 0.93
    assert bar_region(row | {"bar_pa": np.nan}, GRID) is None


@pytest.mark.parametrize("anticlockwise", [True, False])
def test_traces_run_along_the_arms(anticlockwise):
    disk = Disk(50, 30)
    mask = spiral(SIZE, 18, inclination=50, pa=30, anticlockwise=anticlockwise)
    arms = pd.DataFrame(
        {"arm": number, **arm.row()} for number, arm in enumerate(measure_arms(mask, GRID, disk=disk).arms, 1)
    )
    found = trace_regions({"disk_inclination": 50.0, "disk_pa": 30.0}, arms, GRID)
    assert {tag for region in found for tag in region.meta["tag"]} == {"spiral", "arm 1", "arm 2"}
    points = [point for region in found for point in (region.start, region.end)]
    x, y = np.array([point.x for point in points]), SIZE - 1 - np.array([point.y for point in points])
    # Foreshortened, an arm 8 px wide is 5 px wide at the minor axis.
    assert (mask[np.round(y).astype(int), np.round(x).astype(int)] > 0.5).mean() > 0.95
    radius = np.hypot(*disk.to_plane(x - 99.5, y - 99.5))
    assert radius.min() == pytest.approx(20, abs=3) and radius.max() == pytest.approx(90, abs=5)


def test_without_a_pixel_scale_arms_have_no_traces_and_bars_do():
    grid = PixelGrid((SIZE, SIZE), np.nan)
    masks = np.stack([spiral(SIZE, 18), rectangle(SIZE, 30, 8, 20)])
    measured = measure_masks(masks, grid, given=Given())
    arms = pd.DataFrame(measured.arm_rows())
    assert len(arms) and trace_regions({"disk_inclination": np.nan, "disk_pa": np.nan}, arms, grid) == []
    assert bar_region(measured.row(), grid) is not None


@pytest.fixture
def prediction(tmp_path):
    return write_prediction(tmp_path / "masks", {"a": 20.0, "b": 70.0, "c": 130.0}, failed=("c",))


def test_files_lie_on_the_fits_masks(prediction, tmp_path, capsys):
    table = tmp_path / "t.parquet"
    measure_table(prediction, table, progress=False)
    asked = ["export", str(prediction), "--format", "regions", "--levels", "0.25", "--measurements", str(table)]
    assert main(asked) == 0
    assert "files of 2 galaxies written, 0 were there, 1 galaxies have no masks" in capsys.readouterr().out
    assert sorted(path.name for path in (prediction / "regions").glob("[!.]*")) == ["a.reg", "b.reg"]
    export_masks(prediction, "fits")
    read = regions.Regions.read(prediction / "regions" / "b.reg", format="ds9")
    with fits.open(prediction / "masks" / "b_masks.fits") as hdus:
        wcs, mask = WCS(hdus["BAR"].header), hdus["BAR"].data
    on_pixels = [region.to_pixel(wcs) for region in read]
    row = read_measurements(table)[0].set_index("id").loc["b"]
    (bar,) = tagged(on_pixels, "bar length")
    expected = bar_region(row, GRID)
    assert (bar.center.x, bar.center.y) == pytest.approx((expected.center.x, expected.center.y), abs=0.01)
    assert (bar.width, bar.height) == pytest.approx((expected.width, expected.height), abs=0.01)
    assert bar.angle.to_value(units.deg) % 180 == pytest.approx(expected.angle.to_value(units.deg) % 180, abs=0.01)
    (outline,) = tagged(on_pixels, "bar 0.25")
    direct = tagged(mask_regions(np.stack([np.zeros_like(mask), np.flipud(mask)]), GRID, (0.25,)), "bar 0.25")[0]
    away = np.hypot(outline.vertices.x - direct.vertices.x, outline.vertices.y - direct.vertices.y)
    assert away.max() < 0.1
    assert tagged(on_pixels, "arm 1") and tagged(on_pixels, "arm 2")


def test_what_is_there_is_kept_and_what_changed_is_written_again(prediction, tmp_path):
    table = tmp_path / "t.parquet"
    measure_table(prediction, table, progress=False)
    assert export_regions(prediction, measurements=table).written == 2
    assert export_regions(prediction, measurements=table).skipped == 2
    rows, arms = pd.read_parquet(table), pd.read_parquet(arms_path(table))
    rows.assign(bar_pa=rows["bar_pa"] + 1).to_parquet(table)
    assert export_regions(prediction, measurements=table).written == 2
    arms.iloc[:1].to_parquet(arms_path(table))
    assert export_regions(prediction, measurements=table).written == 2
    assert export_regions(prediction).written == 2  # without measurements
    assert "box" not in (prediction / "regions" / "a.reg").read_text()
    with pytest.raises(ConfigError, match="holds regions files of another levels"):
        export_regions(prediction, levels=(0.4,))


def with_columns(folder, **columns):
    """Write the first shard of a prediction again with other values."""
    shard = next((folder / "shards").glob("*.parquet"))
    write_shard(ShardLog(folder), 0, pd.read_parquet(shard).assign(stamp="0", **columns), {})
    return folder


def test_galaxies_without_a_position_have_regions_in_pixels_of_the_file(tmp_path):
    folder = with_columns(write_prediction(tmp_path / "masks", {"a": 20.0}), ra=np.nan)
    export_regions(folder)
    read = regions.Regions.read(folder / "regions" / "a.reg", format="ds9")
    export_masks(folder, "fits")
    mask = fits.getdata(folder / "masks" / "a_masks.fits", "BAR")
    (bar,) = tagged(read, "bar 0.5")
    inside = bar.to_mask(mode="exact").to_image(mask.shape)
    assert inside[mask > 0.99].mean() > 0.99 and inside[mask < 0.01].mean() < 0.01


def test_a_galaxy_with_nothing_has_a_file_without_regions(tmp_path):
    blank = encode_mask_png(np.zeros((SIZE, SIZE)))
    folder = with_columns(write_prediction(tmp_path / "m", {"a": 20.0}), spiral_mask_png=blank, bar_mask_png=blank)
    export_regions(folder)
    assert len(regions.Regions.read(folder / "regions" / "a.reg", format="ds9")) == 0


@pytest.mark.parametrize("level", [0, 1, -0.2, 20, np.nan])
def test_impossible_levels_are_refused(prediction, level):
    with pytest.raises(ConfigError, match="fractions of volunteers above 0 and below 1"):
        export_regions(prediction, levels=(level,))


def test_other_tables_and_options_that_do_not_go_together_are_refused(prediction, tmp_path, capsys):
    pd.DataFrame({"id": ["a"]}).to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"id": ["a"]}).to_parquet(arms_path(tmp_path / "t.parquet"))
    with pytest.raises(BadFileError, match=r"has no column bar_axis_ratio; give the table that zoobot3d measure wrote"):
        export_regions(prediction, measurements=tmp_path / "t.parquet")
    assert main(["export", str(prediction), "--format", "fits", "--levels", "0.2"]) == 2
    assert "--levels does not go with --format fits" in capsys.readouterr().err
    assert main(["export", str(prediction), "--format", "regions", "--threshold", "0.2"]) == 2
    assert "--threshold does not go with --format regions" in capsys.readouterr().err
