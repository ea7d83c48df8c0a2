"""Every metric of an `Evaluation`, against values computed by hand or by scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from mnist_exp.evaluation.metrics import Evaluation, from_scores, probabilities


def rows(*predictions):
    """A row of probabilities (10,) per (digit, probability), the rest on the next digit."""
    rows = np.zeros((len(predictions), 10), np.float32)
    for row, (digit, probability) in zip(rows, predictions, strict=True):
        row[digit], row[(digit + 1) % 10] = probability, 1 - probability
    return rows


@pytest.fixture(scope="module")
def noisy():
    """400 images, about two thirds predicted correctly; no image shows a 9."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, 400)
    return from_scores(
        labels, (random.random((400, 10)) ** 3 + 0.9 * np.eye(10)[labels]) / 2, "softmax"
    )


@pytest.fixture
def small():
    """Four images: correct, correct, correct as second choice, wrong."""
    return Evaluation(np.array([3, 4, 6, 8]), rows((3, 0.9), (4, 0.9), (5, 0.6), (0, 1.0)))


def test_metrics_by_hand(small):
    assert small.n == 4
    assert small.predictions.tolist() == [3, 4, 5, 0]
    assert small.correct.tolist() == [True, True, False, False]
    assert small.accuracy == 0.5
    assert small.top2_accuracy == 0.75
    assert small.accuracy_interval == pytest.approx((0.1500, 0.8500), abs=1e-4)
    # A probability of zero counts as 1e-30.
    nats = -np.log([0.9, 0.9, 0.4, 1e-30]).mean()
    assert small.loss == pytest.approx(nats, rel=1e-5)
    # Brier (1950): 0.1² + 0.1², twice; 0.6² + 0.6²; 1² + 1².
    assert small.brier == pytest.approx((0.02 + 0.02 + 0.72 + 2) / 4, rel=1e-5)


def test_calibration_error_by_hand(small):
    # Bins of 1/15: 0.6 ends bin 8, 0.9 lies in bin 13, 1.0 ends bin 14.
    bins = small.reliability
    assert np.flatnonzero(bins.counts).tolist() == [8, 13, 14]
    assert bins.counts[[8, 13, 14]].tolist() == [1, 2, 1]
    assert bins.confidence[[8, 13, 14]] == pytest.approx([0.6, 0.9, 1.0])
    assert bins.accuracy[[8, 13, 14]].tolist() == [0, 1, 0]
    assert np.isnan(bins.accuracy[0])
    assert small.ece == pytest.approx((1 * 0.6 + 2 * 0.1 + 1 * 1.0) / 4, rel=1e-5)


def test_agrees_with_scikit_learn(noisy):
    labels, predictions = noisy.labels, noisy.predictions
    assert 0.5 < noisy.accuracy < 0.9  # else the comparison proves little
    assert noisy.accuracy == sk.accuracy_score(labels, predictions)
    assert noisy.loss == pytest.approx(
        sk.log_loss(labels, noisy.probabilities, labels=range(10)), rel=1e-5
    )
    assert noisy.top2_accuracy == pytest.approx(
        sk.top_k_accuracy_score(labels, noisy.probabilities, k=2, labels=range(10))
    )
    expected = sk.confusion_matrix(labels, predictions, labels=range(10))
    np.testing.assert_array_equal(noisy.confusion, expected)


def test_precision_recall_and_f1_of_each_digit(noisy, small):
    assert [score.support for score in small.per_class()] == [0, 0, 0, 1, 1, 0, 1, 0, 1, 0]
    scores = noisy.per_class()
    assert [score.label for score in scores] == list(range(10))
    correct = noisy.confusion[4, 4]
    assert scores[4].precision == pytest.approx(correct / noisy.confusion[:, 4].sum())
    assert scores[4].recall == pytest.approx(correct / noisy.confusion[4].sum())
    assert scores[4].f1 == pytest.approx(
        2 * correct / (noisy.confusion[4].sum() + noisy.confusion[:, 4].sum())
    )
    assert (scores[9].recall, scores[9].support) == (0, 0)  # no images: 0, without a warning
    assert sum(score.support for score in scores) == 400


def test_most_confused_pairs_come_first():
    labels = np.array([4, 4, 4, 7, 7, 1, 2])
    predictions = np.array([9, 9, 9, 2, 2, 1, 8])
    evaluation = from_scores(labels, np.eye(10)[predictions], "softmax")
    assert evaluation.most_confused(2) == [(4, 9, 3), (7, 2, 2)]
    assert len(evaluation.most_confused()) == 3  # correct predictions are not listed


def test_a_perfect_model():
    labels = np.arange(10)
    perfect = from_scores(labels, np.eye(10), "softmax")
    assert perfect.metrics() == pytest.approx(
        {
            "test/loss": 0,
            "test/accuracy": 1,
            "test/accuracy_low": 10 / (10 + 1.959964**2),
            "test/accuracy_high": 1,
            "test/errors": 0,
            "test/top2_accuracy": 1,
            "test/ece": 0,
            "test/brier": 0,
        }
    )
    assert perfect.most_confused() == []


def test_metrics_are_plain_floats_under_their_mlflow_names(noisy):
    metrics = noisy.metrics()
    assert list(metrics) == [
        "test/loss", "test/accuracy", "test/accuracy_low", "test/accuracy_high",
        "test/errors", "test/top2_accuracy", "test/ece", "test/brier",
    ]  # fmt: skip
    assert {type(value) for value in metrics.values()} == {float}


def test_sigmoid_scores_become_the_softmax_of_their_logits():
    logits = np.random.default_rng(0).normal(scale=4, size=(50, 10))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = probabilities(1 / (1 + np.exp(-logits)), "sigmoid")
    assert rows.dtype == np.float32
    assert rows == pytest.approx(softmax, abs=1e-6)
    assert probabilities(softmax, "softmax") == pytest.approx(softmax, abs=1e-6)


def test_saturated_sigmoids_share_the_probability_evenly():
    scores = np.zeros((2, 10), np.float32)
    scores[0, [2, 5]] = 1
    rows = probabilities(scores, "sigmoid")
    assert rows[0, [2, 5]] == pytest.approx([0.5, 0.5])
    assert rows[1] == pytest.approx(np.full(10, 0.1))  # no digit was predicted


def test_equal_probabilities_rank_by_digit_in_top2_accuracy():
    blank = from_scores(np.arange(10), np.zeros((10, 10)), "softmax")
    assert blank.accuracy == 0.1
    assert blank.top2_accuracy == 0.2


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 2], np.ones((3, 10)), "labels"),
        ([[1, 2]], np.ones((2, 10)), "labels"),
        ([], np.ones((0, 10)), "n >= 1"),
        ([1], np.ones((1, 1)), "shape"),
        ([1], np.ones(10), "shape"),
        ([10], np.ones((1, 10)), "integers 0-9"),
        ([-1], np.ones((1, 10)), "integers 0-9"),
        ([1.0], np.ones((1, 10)), "integers 0-9"),
        ([1], np.full((1, 10), -2.0), "logits"),
        ([1], np.full((1, 10), np.nan), "logits"),
    ],
)
def test_wrong_shapes_and_values_raise(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        from_scores(np.array(labels, dtype=int if labels == [] else None), scores, "softmax")


def test_rows_must_sum_to_one_and_be_probabilities():
    with pytest.raises(ValueError, match="sum to 1"):
        Evaluation(np.array([1]), np.full((1, 10), 0.5, np.float32))
    with pytest.raises(ValueError, match="not negative"):
        Evaluation(np.array([1]), np.array([[2, -1] + [0] * 8], np.float32))


def test_importing_metrics_is_cheap():
    heavy = "{'tensorflow', 'sklearn', 'matplotlib', 'scipy'}"
    code = f"import sys, mnist_exp.evaluation.metrics; print({heavy} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_any_number_of_classes():
    few = from_scores(np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 2, 0]], "softmax")
    assert few.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert [score.support for score in few.per_class()] == [1, 1, 2]
    assert few.most_confused() == [(2, 0, 1)]
    assert few.brier == 0.5
    with pytest.raises(ValueError, match="integers 0-2"):
        from_scores(np.array([3]), np.eye(3)[:1], "softmax")
