"""The words of the report; its figures are looked at by people."""

import numpy as np
import pandas as pd
import pytest

from zoobot_3d import io
from zoobot_3d.demo.page import PACKAGE, TUNED, Findings, write_page
from zoobot_3d.report.evaluation import Evaluation


def evaluation(iou, both):
    """Two galaxies of 100 pixels in either map, of which `both` are in both maps."""
    model = {"spiral_iou_0.2": iou, "bar_iou_0.2": iou}
    columns = {
        f"{name}_{key}_px": values
        for name in ("spiral", "bar")
        for key, values in (("both", both), ("either", [100, 100]))
    }
    curve = {"predicted": [0.1], "observed": [0.2], "pixels": [10], "error": [0.01], "galaxies": [3]}
    error = dict.fromkeys(model, 0.03)
    return Evaluation(
        2, 0, model, dict.fromkeys(model, 0.6), {"spiral": curve, "bar": curve}, {"spiral": 0.01, "bar": 0.02}, {},
        model_error=error, ceiling_error=error, galaxies=pd.DataFrame(columns),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in ("held_out", "real", "training"):
        io.write_png(tmp_path / "figures" / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
    return tmp_path


def test_the_first_report_shows_the_packages_model_and_says_that_more_follows(folder):
    write_page(folder, Findings({PACKAGE: evaluation(0.4, [40, 40])}, "", 20, 5))
    page = (folder / "report.html").read_text()
    assert "still running" in page and "0.400 ± 0.030" in page and "Your own galaxies next" in page
    assert "Real galaxies" not in page


@pytest.mark.parametrize(
    ("both", "meaning"),
    [([60, 40], "Neither change is larger"), ([51, 51], "Both changes are larger than twice their errors.")],
)
def test_the_report_says_whether_fine_tuning_changed_more_than_chance(folder, both, meaning):
    results = {PACKAGE: evaluation(0.4, [40, 40]), TUNED: evaluation(sum(both) / 200, both)}
    write_page(folder, Findings(results, "Two real pictures.", 20, 5, {"simulate": 3.0}))
    page = (folder / "report.html").read_text()
    assert meaning in page and "still running" not in page and "Two real pictures." in page


def test_commands_call_the_program_as_the_user_does(folder):
    write_page(folder, Findings({PACKAGE: evaluation(0.4, [40, 40])}, "", 20, 5), program=".venv/bin/zoobot3d")
    assert "<code>.venv/bin/zoobot3d predict --name &quot;NGC 3351&quot;" in (folder / "report.html").read_text()


def test_the_example_table_is_one_that_predict_understands(folder):
    from zoobot_3d.catalog.reading import read_catalog

    write_page(folder, Findings({PACKAGE: evaluation(0.4, [40, 40])}, "", 20, 5))
    table = read_catalog(folder / "example_galaxies.csv")
    assert list(table.columns) == ["name", "ra", "dec", "radius"] and len(table) == 3
