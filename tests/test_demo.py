from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from zoobot_3d import io
from zoobot_3d.demo import DemoConfig, demo, find_real_pictures
from zoobot_3d.errors import BadFileError
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER


@pytest.mark.slow  # simulates, trains and predicts, if only a little
def test_the_whole_road(tmp_path, tiny_bundle):
    rng = np.random.default_rng(0)
    for name in "ab":
        io.write_jpeg(tmp_path / "real" / f"{name}.jpg", rng.integers(0, 255, (424, 424, 3), dtype=np.uint8))
    (tmp_path / "real" / "c.jpg").touch()
    config = DemoConfig(galaxies=40, steps=2, bundle=str(tiny_bundle), show=2)
    options = {"images": tmp_path / "real", "config": config, "progress": False}
    metrics = demo(tmp_path / "demo", **options)
    keys = [f"{kind}_{name}" for kind in ("iou", "tuned_iou", "ceiling") for name in CLASSES]
    for key in (*keys, "wall_s", "peak_rss_mb"):
        assert np.isfinite(metrics[key])
    assert metrics["ceiling_spiral"] > 0.1
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "on 2 real pictures" in page and "1 could not be used" in page and "Your own galaxies next" in page
    assert "zoobot3d predict galaxies.csv --fetch --out masks" in page

    before = (tmp_path / "demo" / "metrics.json").read_bytes()
    assert demo(tmp_path / "demo", **options) == metrics  # a finished run is not done again
    assert (tmp_path / "demo" / "metrics.json").read_bytes() == before
    with pytest.raises(BadFileError, match="add --restart to begin anew"):
        demo(tmp_path / "demo", config=replace(config, steps=3), progress=False)
    (tmp_path / "demo" / "mine.txt").touch()
    again = demo(tmp_path / "demo", **options, restart=True)
    assert {key: again[key] for key in keys} == pytest.approx({key: metrics[key] for key in keys}, abs=2e-3)
    assert (tmp_path / "demo" / "mine.txt").exists()


@pytest.mark.slow  # simulates, serves, fetches, trains
def test_the_whole_road_through_the_archive(tmp_path, tiny_bundle):
    config = DemoConfig(galaxies=24, steps=1, bundle=str(tiny_bundle))
    metrics = demo(tmp_path, config=config, through_archive=True, progress=False)
    assert metrics["collect_s"] > 0 and np.isfinite(metrics["iou_spiral"])
    master = pd.read_parquet(tmp_path / "survey" / DEFAULT_MASTER)
    assert len(master) == 24 and master["relative_desi_jpg_loc"].notna().all()
    assert master.filter(like="-dr8_").notna().any(axis=None)  # volunteers' votes came along
    # Found over HTTP: nothing of the sky's own tables but the marks and the split, which follow from names.
    truth = pd.read_parquet(tmp_path / "sky" / DEFAULT_MASTER).set_index("dr8_id").loc[master["dr8_id"]]
    assert list(master["split"]) == list(truth["split"])


def test_a_wrong_folder_is_found_before_the_work(tmp_path):
    with pytest.raises(BadFileError, match="no such folder"):
        find_real_pictures(str(tmp_path / "none"))
    with pytest.raises(BadFileError, match="no such file or folder"):
        demo(tmp_path / "demo", images=tmp_path / "none")
    assert not (tmp_path / "demo" / "survey").exists()
