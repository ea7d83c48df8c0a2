"""Inference with a finished run's model: pixels in, probabilities out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.output import quiet_stderr
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import Evaluation, calibrated, from_scores, probabilities
from mnist_exp.inference.foreign import digit_model
from mnist_exp.pictures.preprocess import PreprocessedPicture
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.run import Run

CACHE_SIZE = 8  # models in memory, each with its test set


@dataclass(frozen=True)
class Prediction:
    """The digit on a picture."""

    image: str  # its name
    digit: int | None  # None: the note gives the reason
    probability: float | None
    second: int | None  # the second most probable digit
    note: str


def predictions(
    names: Sequence[str],
    pictures: Sequence[PreprocessedPicture],
    probabilities: Iterable[NDArray[np.float32]],
) -> list[Prediction]:
    """A prediction per picture; `probabilities` (n, 10) are of those that hold a digit."""
    rows = iter(probabilities)
    return [
        Prediction(name, None, None, None, picture.note)
        if picture.pixels is None
        else _prediction(name, next(rows), picture.note)
        for name, picture in zip(names, pictures, strict=True)
    ]


def _prediction(name: str, probabilities: NDArray[np.float32], note: str) -> Prediction:
    second, first = (int(digit) for digit in probabilities.argsort()[-2:])
    return Prediction(name, first, float(probabilities[first]), second, note)


class Predictor:
    """The model of a run, or another copy of it, as a compiled graph.

    Raises `InputError` when the run has no model.
    """

    def __init__(self, run: Run, model: Any = None) -> None:
        with quiet_stderr():  # TensorFlow prints a page of hints at import
            from mnist_exp.models.forward import batched_scores, forward_function

        self.run = run
        if run.is_foreign:
            self.model, self.output = digit_model(run)
        else:
            self.model, self.output = model or run.model(), run.config().model.output
        self.temperature = run.temperature()
        self.scores = partial(batched_scores, forward_function(self.model))

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The calibrated probability (n, 10) of each digit, for (n, 28, 28) pixels."""
        return calibrated(probabilities(self.scores(pixels), self.output), self.temperature)

    def evaluate(self, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Evaluation:
        """The model's evaluation on labelled pixels, uncalibrated as in the record."""
        return from_scores(labels, self.scores(pixels), self.output)

    @cached_property
    def test_set(self) -> tuple[Dataset, Evaluation]:
        """The run's test set and its recorded evaluation, calibrated; raises `InputError`."""
        return self.run.dataset(), self.run.evaluation().at_temperature(self.temperature)


class PredictorCache:
    """The experiment's models, loaded on first use."""

    def __init__(self, first: Run, size: int = CACHE_SIZE) -> None:
        self.first, self.size = first, size
        self._predictors = {first.run_id: Predictor(first)}
        self._loading = Lock()

    def get(self, reference: str) -> Predictor:
        """The run's predictor, by default the first run's; raises `InputError`."""
        predictor = self._predictors.get(reference or self.first.run_id)
        if predictor is None:
            run = resolve_run(reference, self.first.tracking)
            predictor = self._predictors.get(run.run_id) or self._load(run)
        return predictor

    def _load(self, run: Run) -> Predictor:
        with self._loading:  # cached ones answer meanwhile
            predictor = self._predictors.get(run.run_id) or Predictor(run)
            if len(self._predictors) == self.size and run.run_id not in self._predictors:
                del self._predictors[list(self._predictors)[1]]  # the first run's is kept
            self._predictors[run.run_id] = predictor
            return predictor
