"""Figures cannot be judged by a test; what they are made from can."""

import json

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.table import QTable

import fake_sparcfire
from zoobot_3d import cli, io
from zoobot_3d.catalog.listing import list_galaxies
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.infer.predict import predict
from zoobot_3d.infer.segmenter import load_segmenter
from zoobot_3d.report import figures, gallery
from zoobot_3d.report.agreement import agreement, read_pairs

PICTURE = np.full((8, 8, 3), 100, np.uint8)


def test_overlay_tints_arms_blue_and_bars_orange_and_leaves_the_rest():
    masks = np.zeros((2, 8, 8), np.float32)
    masks[0, 0, 0] = masks[1, 7, 7] = 1
    out = figures.overlay(PICTURE, masks, strength=1.0)
    assert tuple(out[0, 0]) == (0x56, 0xB4, 0xE9)
    assert tuple(out[7, 7]) == (0xE6, 0x9F, 0x00)
    assert (out[3, 3] == 100).all()


def test_reliability_draws_a_curve_a_class():
    curve = {"predicted": [0.1, 0.5], "observed": [0.2, 0.4], "pixels": [100.0, 10.0]}
    figure = figures.reliability({"spiral": curve, "bar": curve}, {"spiral": 0.1, "bar": 0.2})
    top = figure.axes[0]
    assert [text.get_text() for text in top.get_legend().get_texts()] == [
        "perfect calibration",
        "spiral arms (calibration error 0.100)",
        "bar (calibration error 0.200)",
    ]
    assert top.get_ylabel() == "fraction of volunteers"


def test_reliability_of_nothing_predicted_is_an_empty_plot(tmp_path):
    nothing = {"predicted": [], "observed": [], "pixels": []}
    figure = figures.reliability({"spiral": nothing, "bar": nothing}, {"spiral": np.nan, "bar": np.nan})
    io.write_figure(figure, tmp_path / "reliability.png")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][2] == "bar (nothing predicted)"
    assert (tmp_path / "reliability.png").stat().st_size > 1000


def test_reliability_leaves_out_bins_of_few_galaxies():
    curve = {
        "predicted": [0.1, 0.5],
        "observed": [0.2, 0.4],
        "pixels": [9, 9],
        "error": [0.1, None],
        "galaxies": [3, 2],
    }
    figure = figures.reliability({"spiral": curve}, {"spiral": 0.1})
    assert [line.get_xdata().tolist() for line in figure.axes[1].lines] == [[0.1]]
    alone = curve | {"galaxies": [1, 1]}  # better a point without an error than nothing
    figure = figures.reliability({"spiral": alone}, {"spiral": 0.1})
    assert [line.get_xdata().tolist() for line in figure.axes[1].lines] == [[0.1, 0.5]]


def test_training_curves_average_steps_of_an_epoch():
    log = pd.DataFrame({"epoch": [0, 0, 1], "train_loss_epoch": [1.0, 3.0, 1.0], "val_loss": [np.nan, 2.0, 1.5]})
    lines = figures.training(log.assign(**{"val_bar_iou_0.2": [np.nan, 0.1, 0.2]})).axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), [2.0, 1.0])


def test_comparison_has_three_panels_a_galaxy(tmp_path):
    masks = np.zeros((2, 8, 8), np.float32)
    figure = figures.comparison([PICTURE] * 3, {"volunteers": [masks] * 3, "model": [masks] * 3}, ["a", "b", "c"])
    assert len([axes for axes in figure.axes if axes.images]) == 9
    io.write_figure(figure, tmp_path / "f.png")
    assert io.read_picture(tmp_path / "f.png").shape[2] == 3


def test_a_sheet_of_predictions(tmp_path, tiny_bundle):
    rng = np.random.default_rng(0)
    for name in "ab":
        io.write_jpeg(tmp_path / "in" / f"{name}.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    predict(list_galaxies(tmp_path / "in"), load_segmenter(tiny_bundle, device="cpu"), tmp_path / "out")
    gallery.predictions(tmp_path / "out", tmp_path / "sheet.png")
    assert io.read_picture(tmp_path / "sheet.png").shape[0] > 100
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    with pytest.raises(BadFileError, match="--pictures"):
        gallery.predictions(tmp_path / "out", tmp_path / "sheet.png")


def test_a_sheet_of_predictions_with_uncertainty(tmp_path, tiny_bundle):
    rng = np.random.default_rng(0)
    io.write_jpeg(tmp_path / "in" / "a.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    segmenter = load_segmenter(tiny_bundle, device="cpu", tta=True)
    predict(list_galaxies(tmp_path / "in"), segmenter, tmp_path / "out", uncertainty=True)
    gallery.predictions(tmp_path / "out", tmp_path / "sheet.png")
    assert io.read_picture(tmp_path / "sheet.png").shape[1] > 400


def test_uncertainty_has_one_scale_for_all_galaxies():
    masks, sigmas = np.zeros((2, 8, 8)), [np.full((2, 8, 8), level) for level in (0.1, 0.4)]
    sigmas[0][1, 0, 0] = 0.2  # the larger of the two classes is shown
    figure = figures.contact_sheet([PICTURE] * 2, [masks] * 2, columns=2, sigmas=sigmas)
    *panels, bar = figure.axes
    shown = [panels[index].images[0].get_array() for index in (2, 5)]
    assert all(part.shape == (8, 8, 3) for part in shown)
    colours = [(255 * np.array(figures.SIGMA_MAP(level))[:3]).astype(np.uint8) for level in (0.25, 0.5, 1.0)]
    np.testing.assert_array_equal([shown[0][4, 4], shown[0][0, 0], shown[1][4, 4]], colours)
    assert "standard deviation" in bar.get_xlabel()


def test_a_sheet_says_what_its_panels_are_and_where_nothing_was_found():
    nothing, found = np.full((2, 8, 8), 0.1), np.full((2, 8, 8), 0.1)
    found[0, 2:5, 2:5] = 0.6
    figure = figures.contact_sheet([PICTURE] * 3, [nothing, found, nothing], columns=2)
    assert [axes.get_title() for axes in figure.axes[:5]] == ["picture", "prediction", "picture", "prediction", ""]
    told = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert told[1] == told[5] == ["nothing above 0.2"]
    assert not told[3]


def test_no_training_log(tmp_path):
    with pytest.raises(BadFileError, match=r"no metrics\.csv"):
        gallery.training(tmp_path, tmp_path / "t.png")


def test_a_scale_bar_is_in_arcsec_or_in_pixels_where_the_scale_is_unknown():
    masks = np.zeros((2, 100, 100), np.float32)
    picture = np.zeros((100, 100, 3), np.uint8)
    figure = figures.contact_sheet([picture] * 2, [masks] * 2, columns=2, pixscales=[0.5, np.nan])
    assert [text.get_text() for axes in figure.axes[::2] for text in axes.texts] == ["10″", "20 px"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["spiral arms", "bar", "0.2", "0.5"]


def test_outlines_show_on_white_and_on_black(tmp_path):
    mask = np.zeros((2, 50, 50), np.float32)
    mask[1, 15:35, 15:35] = 1
    for brightness in (0, 255):
        picture = np.full((50, 50, 3), brightness, np.uint8)
        io.write_figure(figures.contact_sheet([picture], [mask], columns=1), tmp_path / "sheet.png")
        sheet = io.read_picture(tmp_path / "sheet.png").astype(int)
        assert (np.abs(sheet - [0xE6, 0x9F, 0x00]).max(-1) < 40).sum() > 100  # orange
        if brightness:
            panel = sheet[20:150, 240:400]
            assert (panel.max(-1) < 140).sum() > 50  # and its dark rim


# Comparisons


def test_a_comparison_for_print_has_the_width_asked_for_and_its_fonts(tmp_path):
    masks = np.zeros((2, 8, 8), np.float32)
    shown = {"volunteers": [masks] * 2, "SpArcFiRe": [masks] * 2, "this model": [masks] * 2}
    for width in (3.3, 7.0):
        figure = figures.comparison([PICTURE] * 2, shown, ["a", "b"], columns=1, width=width)
        assert figure.get_figwidth() == pytest.approx(width)
        assert [axes.get_title() for axes in figure.axes][:4] == ["picture", "volunteers", "SpArcFiRe", "this model"]
    gallery.write(figure, tmp_path / "grid", 100)
    pdf = (tmp_path / "grid.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert io.read_picture(tmp_path / "grid.png").shape[1] == 700


def test_agreement_by_hand():
    """Off by 0, 1, 2 and 5: the median is 1.5, the deviations from it 1.5, 0.5, 0.5 and 3.5, their median 1."""
    told = agreement([10, 20, 30, 40, 50, np.nan], [10, 21, 32, 45, np.nan, 7])
    assert (told.compared, told.of) == (4, 5)
    assert told.bias == 1.5 and told.scatter == pytest.approx(1.4826)
    assert told.r == pytest.approx(np.corrcoef([10, 20, 30, 40], [10, 21, 32, 45])[0, 1])
    assert np.isnan(agreement([1, 2], [1, 2]).r)
    assert str(agreement([1, 1, 1], [1, 2, 3])).startswith("3 of 3\nr = nan")


@pytest.fixture
def tables(tmp_path):
    pd.DataFrame(
        {"id": ["a", "b", "c", "d"], "pitch": [10.0, 21, 32, np.nan], "pitch_err": [1.0, 1, 2, np.nan]}
    ).to_csv(tmp_path / "measured.csv", index=False)
    pd.DataFrame({"name": ["d", "c", "b", "a", "z"], "psi": [40, 30, 20, 10, 5]}).to_csv(
        tmp_path / "reference.csv", index=False
    )
    return tmp_path


def test_measured_against_a_reference(tables, capsys):
    names = [str(tables / name) for name in ("measured.csv", "reference.csv")]
    command = ["figures", "pitch", names[0], "--reference", names[1], "--column", "psi", "--out", str(tables / "p.png")]
    assert cli.main(command) == 0
    assert "3 of 4, r = 1.00, bias +1.00, scatter 1.48" in capsys.readouterr().out
    assert np.ptp(io.read_picture(tables / "p.png")) > 100
    assert cli.main(command[:3] + command[-2:]) == 2
    assert "--reference TABLE" in capsys.readouterr().err


def test_a_folder_of_sparcfire_is_a_reference(tables):
    fake_sparcfire.write(tables / "found", "a", pa_alenWtd_avg_domChiralityOnly=-12.0)
    fake_sparcfire.write(tables / "found", "b", fit_state="failed")
    pairs = read_pairs(tables / "measured.csv", tables / "found", "pitch", "pitch").set_index("id")
    assert pairs.loc["a", ["theirs", "theirs_err", "ours"]].tolist() == [12, 3, 10]
    assert np.isnan(pairs.loc["b", "theirs"]) and pairs.loc["b", "ours"] == 21


def test_real_results_of_sparcfire_are_a_reference(realdata, tmp_path, capsys):
    names = ["1237648721789256091", "1237653622298509849", "1237654652032712862"]
    pd.DataFrame({"id": names, "pitch": [20.0, 20, 20], "pitch_err": 2.0}).to_csv(tmp_path / "ours.csv", index=False)
    folder = str(realdata / "sparcfire" / "out")
    command = ["figures", "pitch", str(tmp_path / "ours.csv"), "--reference", folder, "--out", str(tmp_path / "p.png")]
    assert cli.main(command) == 0
    assert "3 of 3" in capsys.readouterr().out
    table = pd.read_csv(realdata / "sparcfire" / "out" / "galaxy.csv", skipinitialspace=True, dtype={"name": str})
    told = table.set_index("name")["pa_alenWtd_avg_domChiralityOnly"].astype(float).abs()
    pairs = read_pairs(tmp_path / "ours.csv", folder, "pitch", "pitch").set_index("id")
    assert pairs["theirs"].to_dict() == pytest.approx(told[names].to_dict())


def test_points_of_a_large_error_are_open(tables):
    pairs = read_pairs(tables / "measured.csv", tables / "reference.csv", "pitch", "psi")
    (axes,) = figures.one_to_one([(pairs, "title")], "deg", "C0", sure=1.5).axes
    sure, unsure = (line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o")
    assert (sorted(sure), unsure) == ([10, 20], [30])
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0, 1.05 * 32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,pitch\na,1\na,2\n", "a is there twice"),
        ("id,other\na,1\n", "no column psi; it has id, other"),
        ("id,psi\nq,1\n", "no galaxy in common"),
        ("id,psi\n", "no rows"),
    ],
)
def test_a_reference_that_cannot_be_joined_says_why(tables, content, message):
    (tables / "bad.csv").write_text(content.replace("pitch", "psi"))
    with pytest.raises((CatalogError, BadFileError), match=message):
        read_pairs(tables / "measured.csv", tables / "bad.csv", "pitch", "psi")


def test_reliability_of_an_evaluation(tmp_path):
    curve = {"predicted": [0.1, 0.5], "observed": [0.2, 0.4], "pixels": [100.0, 10.0], "error": [0.1, None]}
    found = {"reliability": {"spiral": curve}, "calibration_error": {"spiral": None}}
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    assert cli.main(["figures", "reliability", str(tmp_path), "--out", str(tmp_path / "r.png")]) == 0
    assert np.ptp(io.read_picture(tmp_path / "r.png")) > 100
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(BadFileError, match="not an evaluation"):
        gallery.calibration(tmp_path, tmp_path / "r.png")


def test_arms_of_sparcfire_come_onto_the_pixels_of_the_network():
    """A picture of 424 px, whose central 0.75 a network sees in 32 px: 106 px fall on 10.7 of them."""

    class Dataset:
        input_size, field_fraction = 32, 0.75

    mask = np.zeros((424, 424), np.float32)
    mask[: 53 + 106, : 53 + 106] = 1  # the north-east of what the network sees, and of what it does not
    arms, bars = gallery._arms_on(mask, Dataset())
    assert arms[:10, :10].min() > 0.99 and arms[12:].max() < 0.01 and arms[:, 12:].max() < 0.01
    assert arms.sum() * (424 * 0.75 / 32) ** 2 == pytest.approx(106**2, rel=0.02) and not bars.any()


def test_references_are_converted_to_the_unit_of_the_measurements(tmp_path):
    ours = QTable({"id": ["a", "b", "c"], "bar_length": [60.0, 30.0, 12.0] * u.arcsec})
    theirs = QTable({"id": ["a", "b", "c"], "length": [1.0, 0.5, -9999] * u.arcmin, "length_err": [0.1, 0.2, 0.1]})
    ours.write(tmp_path / "ours.ecsv")
    theirs.write(tmp_path / "theirs.ecsv")
    pairs = read_pairs(tmp_path / "ours.ecsv", tmp_path / "theirs.ecsv", "bar_length", "length").set_index("id")
    assert pairs.loc[["a", "b", "c"], "theirs"].tolist() == pytest.approx([60, 30, np.nan], nan_ok=True)
    assert pairs["ours"].tolist() == [60, 30, 12]
