"""A finished run's model at work: pixels in, probabilities out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.console import quiet_stderr
from mnist_exp.evaluation.metrics import Evaluation, probabilities
from mnist_exp.pictures.preprocess import Reading
from mnist_exp.runs.run import Run


@dataclass(frozen=True)
class Prediction:
    """What a model says about a picture."""

    image: str  # what the user calls it
    digit: int | None  # None: the note says why
    probability: float | None
    second: int | None  # the next likely digit
    note: str


def predictions(
    names: Sequence[str],
    readings: Sequence[Reading],
    probabilities: Iterable[NDArray[np.float32]],
) -> list[Prediction]:
    """An answer for each picture; `probabilities` (n, 10) are of those that hold a digit."""
    rows = iter(probabilities)
    return [
        Prediction(name, None, None, None, reading.note)
        if reading.pixels is None
        else _prediction(name, next(rows), reading.note)
        for name, reading in zip(names, readings, strict=True)
    ]


def _prediction(name: str, shares: NDArray[np.float32], note: str) -> Prediction:
    second, first = (int(digit) for digit in shares.argsort()[-2:])
    return Prediction(name, first, float(shares[first]), second, note)


class Predictor:
    """The model of a run, or another copy of it, ready to read digits.

    Raises `InputError` when the run has none.
    """

    def __init__(self, run: Run, model: Any = None) -> None:
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            from mnist_exp.models.forward import batched_scores, forward_function

        self.run = run
        self.model = model or run.model()
        self.output = run.config().model.output
        self.scores = partial(batched_scores, forward_function(self.model))

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability (n, 10) of each digit, for (n, 28, 28) pixels in MNIST's form."""
        return probabilities(self.scores(pixels), self.output)

    def evaluate(self, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Evaluation:
        """How well it reads them."""
        return Evaluation(labels, self.probabilities(pixels))
