"""Temperature scaling finds the temperature that was put in, and changes no prediction."""

import numpy as np
import pytest

from mnist_exp.evaluation.calibration import HIGHEST, LOWEST, Calibration, fit_calibration
from mnist_exp.evaluation.metrics import Evaluation, calibrated, from_scores


def softmax(logits):
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def too_sharp_by(temperature, output="softmax", n=3000):
    """Predictions for labels drawn from a softmax, with its logits times `temperature`."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=2, size=(n, 10))
    labels = (softmax(logits).cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=9)
    scaled = temperature * logits
    scores = softmax(scaled) if output == "softmax" else 1 / (1 + np.exp(-scaled))
    return from_scores(labels, scores, output)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_the_temperature_is_found_and_calibrates(temperature, output):
    before = too_sharp_by(temperature, output)
    found = fit_calibration(before)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    after = before.at_temperature(found.temperature)
    assert found == Calibration(
        found.temperature, 3000, before.loss, after.loss, before.ece, after.ece
    )
    assert after.ece < 0.03
    assert before.ece > 0.1
    assert np.array_equal(after.predictions, before.predictions)
    for factor in (0.99, 1.01):  # the loss is lowest here
        assert before.at_temperature(found.temperature * factor).loss > after.loss


def test_probabilities_that_are_calibrated_stay_nearly_as_they_are():
    assert fit_calibration(too_sharp_by(1)).temperature == pytest.approx(1, abs=0.05)


def test_a_row_by_hand():
    row = np.array([[0.8, 0.2] + [0] * 8], np.float32)
    assert calibrated(row, 1) is row
    assert calibrated(row, 0.5)[0, :2] == pytest.approx([0.64 / 0.68, 0.04 / 0.68])
    assert calibrated(row, 2)[0, 0] == pytest.approx(0.8**0.5 / (0.8**0.5 + 0.2**0.5), rel=1e-6)
    assert calibrated(row, LOWEST)[0] == pytest.approx(np.eye(10)[0], abs=1e-9)
    assert calibrated(row, 2).dtype == np.float32


@pytest.mark.parametrize(("wrong", "is_fitted"), [(0, False), (2, False), (3, True), (20, True)])
def test_few_wrong_answers_give_no_temperature(wrong, is_fitted):
    rows = np.full((20, 10), 0.01, np.float32)
    rows[:, 4] = 0.91
    labels = np.where(np.arange(20) < wrong, 5, 4)
    found = fit_calibration(Evaluation(labels, rows))
    assert (found is not None) == is_fitted
    if wrong == 20:  # the less certain the better, as far as is looked
        assert found.temperature == pytest.approx(HIGHEST)


@pytest.mark.parametrize("temperature", [0, -1, LOWEST / 2, 2 * HIGHEST, float("nan")])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(ValueError, match="expected a temperature of"):
        Calibration(temperature, 1, 1, 1, 1, 1)
