import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from zoobot_3d import cli, io
from zoobot_3d.demo.run import DemoConfig, demo, find_real_pictures
from zoobot_3d.errors import BadFileError
from zoobot_3d.schema import CLASSES, DEFAULT_MASTER

SCORES = [f"{kind}_{name}" for kind in ("iou", "tuned_iou", "ceiling") for name in CLASSES]


@pytest.fixture(scope="module")
def config(tiny_bundle):
    return DemoConfig(galaxies=24, steps=2, bundle=str(tiny_bundle), show=2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    rng = np.random.default_rng(0)
    for name in "ab":
        io.write_jpeg(folder / f"{name}.jpg", rng.integers(0, 255, (424, 424, 3), dtype=np.uint8))
    (folder / "c.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, config, pictures):
    """Folder and measurements of a small demonstration; simulating and training take some seconds."""
    folder = tmp_path_factory.mktemp("here") / "demo"
    return folder, demo(folder, images=pictures, config=config, progress=False)


@pytest.mark.slow  # simulates, trains and predicts, if only a little
def test_both_models_and_the_volunteers_are_measured(finished):
    folder, metrics = finished
    for key in (*SCORES, "simulate_s", "package_model_s", "fine_tune_s", "evaluate_s", "wall_s", "peak_rss_mb"):
        assert np.isfinite(metrics[key])
    assert metrics["ceiling_spiral"] > 0.1
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "on 2 real pictures" in page and "1 could not be used" in page
    assert "still running" not in page


@pytest.mark.slow  # needs the demonstration above
def test_a_finished_demonstration_is_kept(finished, config, pictures):
    folder, metrics = finished
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    assert demo(folder, images=pictures, config=config, progress=False) == metrics
    for other in ({"config": replace(config, steps=3), "images": pictures}, {"config": config}):
        with pytest.raises(BadFileError, match=r"other settings \((steps|pictures)\).*add --restart"):
            demo(folder, **other, progress=False)
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


@pytest.mark.slow  # needs the demonstration above, and runs three commands
def test_the_commands_at_the_end_work_as_they_are_printed(finished, monkeypatch):
    import html
    import re

    folder, _ = finished
    page = (folder / "report.html").read_text()
    commands = [html.unescape(text) for text in re.findall(r"<pre><code>(.*?)</code></pre>", page)]
    assert len(commands) == 7
    monkeypatch.chdir(folder.parent)
    ran = []
    for command in commands:
        program, name, *words = shlex.split(command)
        assert program == "zoobot3d"
        if name in ("predict", "figures", "describe") and not {"--fetch", "--name"} & set(words):
            assert cli.main([name, *words]) == 0
            ran.append(name)
    assert ran == ["predict", "figures", "describe"]


@pytest.mark.slow  # a second demonstration, of which the first stages are done
def test_restart_removes_what_the_demonstration_made_and_gives_the_same_numbers(finished, config, tmp_path):
    import shutil

    folder = tmp_path / "demo"
    shutil.copytree(finished[0], folder)
    (folder / "mine.txt").touch()
    (folder / "survey" / "mine.txt").touch()
    again = demo(folder, config=config, progress=False, restart=True)
    numbers = {key: finished[1][key] for key in SCORES}
    assert {key: again[key] for key in SCORES} == pytest.approx(numbers, abs=2e-3)
    assert (folder / "mine.txt").exists() and not (folder / "survey" / "mine.txt").exists()
    assert not (folder / "predictions").exists()  # no pictures were given


@pytest.mark.slow  # the stages after the first are done anew
def test_a_demonstration_that_was_stopped_goes_on_and_keeps_its_times(finished, config, pictures, tmp_path):
    import json
    import shutil

    folder, before = finished
    shutil.copytree(folder, tmp_path / "kept")
    try:
        for name in ("metrics.json", "report.html"):
            (folder / name).unlink()
        (folder / "stages.json").write_text(json.dumps({"simulate": 1234.5}))
        metrics = demo(folder, images=pictures, config=config, progress=False)
    finally:
        shutil.rmtree(folder)
        (tmp_path / "kept").rename(folder)
    assert metrics["simulate_s"] == 1234.5 and metrics["wall_s"] > 1234.5
    assert {key: metrics[key] for key in SCORES} == {key: before[key] for key in SCORES}


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


def test_a_folder_of_an_older_demonstration_is_not_overwritten(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(BadFileError, match="older version; add --restart"):
        demo(tmp_path, config=DemoConfig(galaxies=4), progress=False)
