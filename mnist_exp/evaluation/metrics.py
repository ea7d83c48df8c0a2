"""Evaluation metrics of labels and probabilities: accuracy, loss, calibration, confusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_exp.evaluation.significance import wilson_interval

BINS = 15  # of the calibration error, as in Guo et al. (2017)
LOG_EPSILON = 1e-30  # keeps the logarithm of a probability that underflowed finite
SIGMOID_EPSILON = 1e-8  # a float32 sigmoid of 1 is one of at least 1 - 6e-8
Output = Literal["softmax", "sigmoid"]  # of the model's last layer
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Bins(NamedTuple):
    """Predictions in 15 equal bins of confidence, each array (15,); NaN where a bin is empty."""

    counts: Integers
    confidence: Floats
    accuracy: Floats
    low: Floats  # the 95 % Wilson interval of the accuracy
    high: Floats


class ClassScore(NamedTuple):
    """One class's precision, recall and F1 in [0, 1] over its `support` test images."""

    label: int
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions for n images: `labels` (n,), `probabilities` (n, classes) whose rows sum to 1."""

    labels: NDArray[Any]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check(self.labels, self.probabilities)
        if np.abs(self.probabilities.sum(axis=1) - 1).max() > 1e-3:
            raise ValueError("each row of probabilities must sum to 1; use from_scores for others")

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.probabilities.shape[1])

    @cached_property
    def predictions(self) -> Integers:
        """The most probable class of each image, (n,); the smaller label where two tie."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of the predicted class, (n,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct, (n,)."""
        return np.asarray(self.predictions == self.labels)

    @cached_property
    def loss(self) -> float:
        """The mean cross-entropy in nats of the true classes."""
        truth = self.probabilities[np.arange(self.n), self.labels]
        return float(-log_probabilities(truth).mean())

    @cached_property
    def accuracy(self) -> float:
        """The share of correct predictions, in [0, 1]."""
        return float(self.correct.mean())

    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval (low, high) of the accuracy."""
        return wilson_interval(int(self.correct.sum()), self.n)

    @cached_property
    def top2_accuracy(self) -> float:
        """The share of images whose class is among the two most probable, in [0, 1]."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2]  # ties as in argmax
        return float((best == self.labels[:, None]).any(axis=1).mean())

    @cached_property
    def confusion(self) -> Integers:
        """Counts (classes, classes) of true class (row) against predicted class (column)."""
        cells = self.labels.astype(np.int64) * self.classes + self.predictions
        return np.bincount(cells, minlength=self.classes**2).reshape(self.classes, self.classes)

    @cached_property
    def reliability(self) -> Bins:
        """Confidence against accuracy in 15 equal-width bins of confidence, each (low, high]."""
        # Edges as float32 like the confidences, else float32(0.2) > 0.2 lands a bin too high.
        edges = np.linspace(0, 1, BINS + 1).astype(self.confidence.dtype)
        bins = np.searchsorted(edges[1:-1], self.confidence, side="left")
        counts = np.bincount(bins, minlength=BINS)
        with np.errstate(invalid="ignore"):
            confidence = np.bincount(bins, self.confidence, BINS) / counts
            correct = np.bincount(bins, self.correct, BINS)
            accuracy = correct / counts
        intervals = [
            wilson_interval(int(right), int(n)) if n else (np.nan, np.nan)
            for right, n in zip(correct, counts, strict=True)
        ]
        return Bins(counts, confidence, accuracy, *np.array(intervals).T)

    @cached_property
    def ece(self) -> float:
        """The expected calibration error in [0, 1]: mean |accuracy - confidence| over the bins.

        Source: Guo et al. (2017), "On calibration of modern neural networks", equation 3.
        """
        bins = self.reliability
        gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
        return float((bins.counts * gaps).sum() / self.n)

    @cached_property
    def brier(self) -> float:
        """The multi-class Brier score in [0, 2]: mean squared distance from the one-hot truth.

        Source: Brier (1950), "Verification of forecasts expressed in terms of probability".
        """
        truth = np.eye(self.classes)[self.labels]
        return float(((self.probabilities - truth) ** 2).sum(axis=1).mean())

    def at_temperature(self, temperature: float) -> "Evaluation":
        """The evaluation of the same predictions with calibrated probabilities."""
        return Evaluation(self.labels, calibrated(self.probabilities, temperature))

    def without(self, indices: Sequence[int]) -> "Evaluation":
        """The evaluation without the images at `indices`."""
        kept = np.delete(np.arange(self.n), indices)
        return Evaluation(self.labels[kept], self.probabilities[kept])

    def per_class(self) -> list[ClassScore]:
        """Precision, recall and F1 of each class; 0 where undefined."""
        from sklearn.metrics import precision_recall_fscore_support

        columns = precision_recall_fscore_support(
            self.labels, self.predictions, labels=range(self.classes), zero_division=0
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [ClassScore(label, *row) for label, row in enumerate(rows)]

    def most_confused(self, k: int = 10) -> list[tuple[int, int, int]]:
        """Up to `k` triples (true, predicted, count), the most frequent mistake first."""
        errors = self.confusion * (1 - np.eye(self.classes, dtype=np.int64))
        order = np.argsort(-errors, axis=None, kind="stable")[:k]
        mistakes = [(*divmod(int(cell), self.classes), int(errors.flat[cell])) for cell in order]
        return [mistake for mistake in mistakes if mistake[2]]

    def metrics(self) -> dict[str, float]:
        """The test metrics by their MLflow names."""
        low, high = self.accuracy_interval
        return {
            "test/loss": self.loss,
            "test/accuracy": self.accuracy,
            "test/accuracy_low": low,
            "test/accuracy_high": high,
            "test/errors": float((self.predictions != self.labels).sum()),
            "test/top2_accuracy": self.top2_accuracy,
            "test/ece": self.ece,
            "test/brier": self.brier,
        }


def from_scores(labels: NDArray[Any], scores: NDArray[Any], output: Output) -> Evaluation:
    """The evaluation of a model's `scores` (n, classes) against `labels` (n,)."""
    return Evaluation(np.asarray(labels), probabilities(scores, output))


def probabilities(scores: NDArray[Any], output: Output) -> NDArray[np.float32]:
    """The `scores` (n, classes) as rows that sum to 1; a row of zeros is uniform.

    Keras' cross-entropies apply a softmax to the logits of sigmoid scores. So sigmoids are weighted
    by their odds s / (1 - s): as shares of their sum they gave a calibration error of 0.57 instead
    of 0.003.
    """
    weights = np.asarray(scores, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] < 2:
        raise ValueError(f"scores must have shape (n, classes), got {weights.shape}")
    if not (weights >= 0).all() or (weights > 1 + 1e-3).any():
        raise ValueError("scores must lie in 0-1: softmax or sigmoid, not logits")
    if output == "sigmoid":
        weights = weights / np.maximum(1 - weights, SIGMOID_EPSILON)
    totals = weights.sum(axis=1, keepdims=True)
    zero = totals == 0
    shares = np.where(zero, 1 / weights.shape[1], weights / np.where(zero, 1, totals))
    return shares.astype(np.float32)


def calibrated(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The rows (n, classes) less certain the higher the temperature: softmax(log rows / it)."""
    if temperature == 1:
        return probabilities
    logits = log_probabilities(probabilities) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def log_probabilities(probabilities: NDArray[np.float32]) -> Floats:
    """Their logarithms, finite for a probability that underflowed, too."""
    return np.asarray(np.log(probabilities.astype(np.float64).clip(LOG_EPSILON)))


def _check(labels: NDArray[Any], rows: NDArray[Any]) -> None:
    if labels.ndim != 1 or not len(labels) or rows.ndim != 2 or len(rows) != len(labels):
        raise ValueError(
            "expected labels (n,) and probabilities (n, classes) with n >= 1, "
            f"got {labels.shape} and {rows.shape}"
        )
    last = rows.shape[1] - 1
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > last:
        raise ValueError(
            f"labels must be integers 0-{last}, got {labels.dtype} from {labels.min()} to "
            f"{labels.max()}"
        )
    if not np.isfinite(rows).all() or rows.min() < 0:
        raise ValueError("probabilities must be finite and not negative")
