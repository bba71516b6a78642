import json

import numpy as np
import pandas as pd
import pytest
import torch

import zoobot_3d
from tiny_survey import make_survey
from zoobot_3d.catalog.reading import catalog_root
from zoobot_3d.dataset.data import MaskDataset
from zoobot_3d.errors import CatalogError
from zoobot_3d.infer.bundle import Bundle, BundleInfo
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.networks.losses import build_loss
from zoobot_3d.report.evaluate import Evaluation, Reliability, evaluate, evaluate_catalog, open_dataset, open_datasets


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return make_survey(tmp_path_factory.mktemp("survey"), n=12)


@pytest.fixture
def segmenter(tiny_bundle):
    return zoobot_3d.load_segmenter(tiny_bundle, device="cpu", batch_size=5)


@pytest.fixture
def dataset(survey, segmenter):
    return open_dataset(survey, segmenter, split="all")


def test_a_model_that_repeats_the_volunteers_is_perfect(dataset, segmenter, monkeypatch):
    truth = np.concatenate([np.stack([dataset[i]["votes"] / 15])[None][0] for i in range(len(dataset))])
    served = iter(range(0, len(dataset), 5))
    monkeypatch.setattr(segmenter, "fractions", lambda views: truth[(start := next(served)) : start + len(views)])
    result = evaluate(segmenter, dataset)
    assert result.n_galaxies == 12 and result.n_failed == 0
    for name in ("spiral", "bar"):
        assert result.model[f"{name}_iou_0.2"] == 1 and result.model[f"{name}_mae"] < 1e-6
        assert result.calibration_error[name] < 1e-6
    curve = result.reliability["spiral"]
    assert curve["predicted"] == pytest.approx([10 / 15]) and curve["observed"] == pytest.approx([10 / 15])


def test_the_ceiling_is_what_halves_agree_on(dataset, segmenter):
    result = evaluate(segmenter, dataset)
    # All 15 drew the same bar, so halves agree; 10 of 15 drew the arm, so halves differ in fraction but not in place.
    assert result.ceiling["bar_iou_0.2"] == 1 and result.ceiling["bar_mae"] == 0
    assert result.ceiling["spiral_iou_0.2"] == 1 and result.ceiling["spiral_mae"] > 0
    assert evaluate(segmenter, dataset, seed=0).ceiling == result.ceiling
    assert evaluate(segmenter, dataset, seed=1).ceiling["spiral_mae"] != result.ceiling["spiral_mae"]
    json.dumps(result.to_dict())


def test_a_prediction_that_volunteers_bear_out_has_no_calibration_error():
    """Most pixels are near 0, where a single vote of 15 is far above the prediction."""
    rng = np.random.default_rng(0)
    fraction = rng.beta(0.3, 6, (1, 2, 400, 400))
    reliability = Reliability()
    reliability.update(fraction, rng.binomial(15, fraction), np.full(fraction.shape, 15))
    curves, errors = reliability.compute()
    for name in ("spiral", "bar"):
        assert errors[name] < 0.002
        assert curves[name]["pixels"][0] > 1000 and min(curves[name]["predicted"]) > 0.025


def test_nothing_predicted_has_no_calibration_error_and_is_null_in_json():
    reliability = Reliability()
    nothing = np.zeros((1, 2, 4, 4))
    reliability.update(nothing, np.full(nothing.shape, 5), np.full(nothing.shape, 15))
    curves, errors = reliability.compute()
    assert np.isnan(errors["bar"]) and curves["bar"]["pixels"] == []
    scores = {"bar_iou_0.2": float("nan"), "bar_mae": 0.5}
    content = Evaluation(1, 0, scores, scores, curves, errors, {}).to_dict()
    assert content["calibration_error"]["bar"] is None and content["model"] == {"bar_iou_0.2": None, "bar_mae": 0.5}


def test_a_bad_galaxy_is_named_and_left_out(survey, segmenter, tmp_path):
    frame = pd.read_parquet(survey)
    frame.loc[3, "relative_desi_jpg_loc"] = "jpg/none.jpg"
    info = segmenter.bundle.info
    dataset = MaskDataset(frame, catalog_root(survey), info.input_size, info.field_fraction, on_error="skip")
    whole = evaluate(segmenter, open_dataset(survey, segmenter, split="all"))
    result = evaluate(segmenter, dataset)
    assert result.n_failed == 1 and result.n_galaxies == 11
    assert "no such file" in result.failures["g03"].lower()
    assert result.model["bar_mae"] != whole.model["bar_mae"]


def test_no_rows_in_a_split(survey, tiny_bundle, tmp_path):
    frame = pd.read_parquet(survey).assign(split="train")
    frame.to_parquet(tmp_path / "c.parquet")
    with pytest.raises(CatalogError, match="no galaxies in split 'test'"):
        evaluate_catalog(tmp_path / "c.parquet", tiny_bundle, progress=False)


def test_table_has_a_row_for_every_measure(dataset, segmenter):
    table = evaluate(segmenter, dataset).table()
    assert len(table) == 1 + 2 * 5 and all(len(row) == 4 for row in table)
    binary = evaluate(segmenter, dataset).binary_table()
    assert len(binary) == 1 + 2 * 2 and all(len(row) == 5 for row in binary)


class Constant(torch.nn.Module):
    def __init__(self, spiral, bar):
        super().__init__()
        self.values = torch.tensor([spiral, bar])[:, None, None]

    def forward(self, views):
        return self.values.expand(len(views), 2, *views.shape[-2:])


def constant(spiral, bar, size, field):
    info = BundleInfo("constant", {}, 2, "l1", size, field)
    return Bundle(Constant(spiral, bar), build_loss("l1"), info, None)


def test_an_ensemble_whose_members_see_unlike_pictures(survey):
    # The first sees all that is measured; the second its middle half: 0.22 outside, (0.22 + 0.62) / 2 inside.
    ensemble = Segmenter([constant(0.22, 0, 32, 0.8), constant(0.62, 0, 48, 0.4)], device="cpu", batch_size=5)
    datasets = open_datasets(survey, ensemble, split="all")
    assert [(d.input_size, d.field_fraction) for d in datasets] == [(32, 0.8), (48, 0.4)]
    result = evaluate(ensemble, datasets)
    assert result.n_galaxies == 12
    curve = result.reliability["spiral"]
    assert curve["predicted"] == pytest.approx([0.22, 0.42], abs=1e-6)
    assert curve["pixels"] == [12 * (32**2 - 16**2), 12 * 16**2]
    assert result.model["bar_iou_0.2"] == 0


def test_members_that_see_alike_share_a_dataset(survey, tiny_bundle):
    ensemble = zoobot_3d.load_segmenter([tiny_bundle, tiny_bundle], device="cpu")
    first, second = open_datasets(survey, ensemble, split="all")
    assert first is second


def test_tta_changes_what_is_measured_of_a_network_that_knows_up_from_down(survey, tiny_bundle):
    plain = evaluate_catalog(survey, tiny_bundle, split="all", progress=False)
    turned = evaluate_catalog(survey, tiny_bundle, split="all", tta=True, progress=False)
    twice = evaluate_catalog(survey, [tiny_bundle, tiny_bundle], split="all", progress=False)
    assert turned.model["bar_mae"] != plain.model["bar_mae"]
    assert twice.model["bar_mae"] == pytest.approx(plain.model["bar_mae"], abs=1e-6)


def test_each_galaxy_has_its_scores_and_pooled_ones_have_errors(dataset, segmenter):
    result = evaluate(segmenter, dataset)
    assert sorted(result.galaxies["id"]) == dataset.names()
    assert (result.galaxies["halves_bar_iou_0.2"] == 1).all()
    pooled = result.galaxies["bar_both_px"].sum() / result.galaxies["bar_either_px"].sum()
    assert pooled == pytest.approx(result.model["bar_iou_0.2"])
    assert result.model_error["bar_iou_0.2"] > 0 and result.ceiling_error["bar_iou_0.2"] == 0
    assert "galaxies" not in result.to_dict()
    assert repr(result).startswith("Evaluation(12 galaxies, 0 unreadable; IoU at > 0.2: spiral 0.")


def test_bins_tell_how_many_galaxies_they_have_pixels_of():
    reliability = Reliability()
    fraction = np.zeros((3, 2, 2, 2))
    fraction[0], fraction[1] = 0.3, 0.3
    fraction[2] = 0.9
    votes = np.where(fraction > 0.5, 9, 3)
    votes[1] = 6
    reliability.update(fraction, votes, np.full(fraction.shape, 10))
    curve = reliability.compute()[0]["bar"]
    assert curve["galaxies"] == [2, 1] and curve["pixels"] == [8, 4]
    assert curve["observed"] == pytest.approx([0.45, 0.9])
    # Of 3 galaxies 2 have pixels here: residuals -0.6, 0.6 and 0; sqrt(3 / 2 * 0.72) / 8.
    assert curve["error"][0] == pytest.approx(0.1299, abs=1e-4) and np.isnan(curve["error"][1])
