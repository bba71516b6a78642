import json

import numpy as np
import pytest

from zoobot_3d import io
from zoobot_3d.demo import DemoConfig, demo, find_real_pictures
from zoobot_3d.errors import BadFileError


@pytest.mark.slow  # simulates, trains and predicts, if only a little
def test_the_whole_road(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        io.write_jpeg(tmp_path / "real" / f"{name}.jpg", rng.integers(0, 255, (424, 424, 3), dtype=np.uint8))
    (tmp_path / "real" / "c.jpg").touch()
    config = DemoConfig(galaxies=40, epochs=1, input_size=32, show=2)
    metrics = demo(tmp_path / "demo", images=tmp_path / "real", config=config, progress=False)
    for key in ("iou_spiral", "iou_bar", "ceiling_spiral", "ceiling_bar", "wall_s", "peak_rss_mb"):
        assert np.isfinite(metrics[key])
    assert metrics["ceiling_spiral"] > 0.1
    assert json.loads((tmp_path / "demo" / "metrics.json").read_text()) == metrics
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "2 real pictures predicted" in page and "1 could not be used" in page

    again = demo(tmp_path / "demo", images=tmp_path / "real", config=config, progress=False)
    assert again["iou_spiral"] == metrics["iou_spiral"]  # nothing was made a second time
    assert again["train_s"] < metrics["train_s"]


def test_a_wrong_folder_is_found_before_the_work(tmp_path):
    with pytest.raises(BadFileError, match="no such folder"):
        find_real_pictures(str(tmp_path / "none"))
    with pytest.raises(BadFileError, match="no such file or folder"):
        demo(tmp_path / "demo", images=tmp_path / "none")
    assert not (tmp_path / "demo" / "survey").exists()
