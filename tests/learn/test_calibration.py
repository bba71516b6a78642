import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import zoobot_3d
from tiny_survey import make_survey
from zoobot_3d import cli
from zoobot_3d.errors import BundleError, CatalogError
from zoobot_3d.infer.bundle import load_bundle, read_info
from zoobot_3d.learn.calibration import VoteHistogram, calibrate
from zoobot_3d.report.evaluate import Reliability, evaluate_catalog


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return make_survey(tmp_path_factory.mktemp("survey"), n=12)


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def histogram(logits, observed, asked=15):
    """Pixels predicted sigmoid(logit), of whose volunteers a part `observed` enclosed each."""
    result = VoteHistogram()
    result.update(expit(np.asarray(logits, float)), asked * np.asarray(observed), np.full(np.shape(logits), asked))
    return result


def test_cost_is_the_cross_entropy_by_hand():
    found = histogram(np.log([0.2 / 0.8, 0.5 / 0.5]), [3 / 15, 15 / 15])
    by_hand = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8) + np.log(0.5)) / 2
    assert found.cost(1) == pytest.approx(by_hand, abs=1e-12)
    p = expit(np.log(0.25) / 2)  # 1/3, as the square root of 0.25 is 0.5
    assert p == pytest.approx(1 / 3)
    assert found.cost(2) == pytest.approx(-(0.2 * np.log(p) + 0.8 * np.log(1 - p) + np.log(0.5)) / 2, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_finds_the_temperature_that_was_put_in(temperature):
    logits = np.random.default_rng(0).normal(-2, 3, 5000)
    assert histogram(logits, expit(logits / temperature)).fit() == pytest.approx(temperature, rel=1e-3)


def test_volunteers_who_were_more_count_more():
    # 10 of 10 say yes at one pixel, 30 of 90 at the other: 40 of 100 volunteers, though the fractions' mean is 2/3.
    found = VoteHistogram()
    found.update(np.full(2, expit(-2)), np.array([10, 30]), np.array([10, 90]))
    assert expit(-2 / found.fit()) == pytest.approx(0.4, abs=1e-3)


def test_unknown_pixels_do_not_count():
    found = histogram([1.0, -1], [0.5, 0.25])
    cost = found.cost(1)
    found.update(np.array([0.9, 0.1]), np.zeros(2), np.zeros(2))
    assert found.cost(1) == cost


def test_0_and_1_stay_and_do_not_spoil_the_fit():
    logits = np.linspace(-4, 4, 1001)
    found = histogram(logits, expit(logits / 2))
    found.update(np.array([0.0, 1.0]), np.array([15, 0]), np.array([15, 15]))  # as wrong as can be
    assert found.fit() == pytest.approx(2, rel=1e-3)
    assert found.predicted(3.0)[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_nothing_to_fit_gives_1(observed):
    assert histogram([-1.0, 0, 2], np.full(3, observed)).fit() == 1
    assert VoteHistogram().fit() == 1


def test_calibration_error_from_the_histogram_is_that_of_the_pixels():
    rng = np.random.default_rng(1)
    fraction = expit(rng.normal(-2, 3, (2, 2, 64, 64)))
    votes, n_asked = rng.binomial(15, fraction**1.5), np.full(fraction.shape, 15)
    exact, grouped = Reliability(), Reliability()
    exact.update(fraction, votes, n_asked)
    for c in range(2):
        found = VoteHistogram()
        found.update(fraction[:, c], votes[:, c], n_asked[:, c])
        pixels, observed = found.observed()
        grouped.add(c, found.predicted(1.0), observed, pixels)
    for name, error in exact.compute()[1].items():
        assert error > 0.01
        assert grouped.compute()[1][name] == pytest.approx(error, abs=5e-4)


def test_calibrate_writes_the_temperature_and_leaves_the_weights(survey, bundle):
    weights = (bundle / "weights.safetensors").read_bytes()
    before = evaluate_catalog(survey, bundle, split="val", progress=False)
    found = calibrate(bundle, survey, progress=False)
    assert found.before == (1, 1) and found.n_galaxies == 3 and found.n_failed == 0
    assert read_info(bundle).temperature == found.temperature != (1, 1)
    assert (bundle / "weights.safetensors").read_bytes() == weights
    after = evaluate_catalog(survey, bundle, split="val", progress=False)
    for c, name in enumerate(("spiral", "bar")):
        assert found.error_before[c] == pytest.approx(before.calibration_error[name], abs=5e-4)
        assert found.error_after[c] == pytest.approx(after.calibration_error[name], abs=5e-4)
        assert found.likelihood_after[c] < found.likelihood_before[c]
    assert read_info(bundle).training["calibration"]["split"] == "val"
    assert len(found.table()) == 3
    blind = dataclasses.replace(found, error_after=(0.1, float("nan")))
    assert [row[3] for row in blind.table()[1:]] == ["0.1000", "-"]


def test_calibrating_twice_is_calibrating_once(survey, bundle):
    first = calibrate(bundle, survey, progress=False)
    content = (bundle / "bundle.json").read_bytes()
    second = calibrate(bundle, survey, progress=False)
    assert second.temperature == first.temperature == second.before
    assert second.error_before == second.error_after == first.error_after
    assert load_bundle(bundle).info.temperature == first.temperature
    calibrate(bundle, survey, split="all", progress=False)
    assert (bundle / "bundle.json").read_bytes() != content


def test_the_segmenter_uses_the_temperature(survey, bundle):
    view = np.random.default_rng(0).random((1, 3, 32, 32))
    plain = zoobot_3d.load_segmenter(bundle, device="cpu").fractions(view).astype(float)
    found = calibrate(bundle, survey, progress=False)
    calibrated = zoobot_3d.load_segmenter(bundle, device="cpu").fractions(view)
    temperature = np.array(found.temperature)[:, None, None]
    np.testing.assert_allclose(calibrated, expit(np.log(plain / (1 - plain)) / temperature), atol=1e-6)


def test_nothing_to_calibrate_on_leaves_the_bundle(survey, bundle, tmp_path):
    frame = pd.read_parquet(survey).assign(relative_segmap_json_loc=None)
    frame.to_parquet(tmp_path / "c.parquet")
    content = (bundle / "bundle.json").read_bytes()
    with pytest.raises(CatalogError, match=r"c\.parquet: nothing to calibrate on"):
        calibrate(bundle, tmp_path / "c.parquet", root=survey.parents[1], progress=False)
    assert (bundle / "bundle.json").read_bytes() == content


def test_the_packages_own_bundle_stays_as_it_is(survey):
    with pytest.raises(BundleError, match=r"^default: is part of the package .*; copy .*default_bundle and calibrate"):
        calibrate("default", survey, progress=False)


def test_from_the_command_line(survey, bundle, tiny_bundle, capsys):
    assert cli.main(["calibrate", str(bundle), str(survey), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "3 galaxies, 0 unreadable" in out and f"calibrated: {bundle}" in out.replace("\n", "")
    assert f"{read_info(bundle).temperature[0]:.3f}" in out
    both = ["--bundle", str(bundle), str(tiny_bundle), "--tta", "--split", "all"]
    assert cli.main(["evaluate", str(survey), *both]) == 0
    assert "12 galaxies" in capsys.readouterr().out
