"""Inference with a finished run's model: pixels in, probabilities out."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_exp.config.data import DataConfig
from mnist_exp.core.classes import DIGITS, noun
from mnist_exp.core.output import quiet_stderr
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.evaluation import metrics
from mnist_exp.evaluation.metrics import Evaluation, Output, from_scores
from mnist_exp.pictures.preprocess import PreprocessedPicture
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.run import Run
from mnist_exp.tracking.logged_model import MODEL_FILE

logger = logging.getLogger(__name__)

CACHE_SIZE = 8  # models in memory, each with its test set
# Of the models of other programs: the shapes of an input, and scales with offsets of its pixels.
SHAPES = ((28, 28), (28, 28, 1), (784,))
PIXELS = {"0 to 255": (1, 0), "0 to 1": (1 / 255, 0), "-1 to 1": (2 / 255, -1)}
BUNDLED = DataConfig(name="mnist5k", path=None, fallback="error", validation_split=0.0, limit=None)
SAME = 0.01  # of an accuracy: networks of relus read digits alike at any scale


@dataclass(frozen=True)
class Prediction:
    """The digit on a picture, or its class by name where the model tells others apart."""

    image: str  # its name
    digit: int | str | None  # None: the note gives the reason
    probability: float | None
    second: int | str | None  # the second most probable one
    note: str


def predictions(
    names: Sequence[str],
    pictures: Sequence[PreprocessedPicture],
    probabilities: Iterable[NDArray[np.float32]],
    classes: Sequence[str] = DIGITS,
) -> list[Prediction]:
    """A prediction per picture; `probabilities` (n, classes) are of those that could be read."""
    rows = iter(probabilities)
    return [
        Prediction(name, None, None, None, picture.note)
        if picture.pixels is None
        else _prediction(name, next(rows), picture.note, classes)
        for name, picture in zip(names, pictures, strict=True)
    ]


def _prediction(
    name: str, probabilities: NDArray[np.float32], note: str, classes: Sequence[str]
) -> Prediction:
    second, first = (int(label) for label in probabilities.argsort()[-2:])
    named = range(10) if noun(classes) == "digit" else classes
    return Prediction(name, named[first], float(probabilities[first]), named[second], note)


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
        """The calibrated probability (n, classes) of each class, for (n, 28, 28) pixels."""
        probabilities = metrics.probabilities(self.scores(pixels), self.output)
        return metrics.calibrated(probabilities, self.temperature)

    def evaluate(self, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Evaluation:
        """The model's evaluation on labelled pixels, uncalibrated as in the record."""
        return from_scores(labels, self.scores(pixels), self.output)

    @cached_property
    def test_set(self) -> tuple[Dataset, Evaluation]:
        """The run's test set and its recorded evaluation, calibrated; raises `InputError`."""
        return self.run.dataset(), self.run.evaluation().at_temperature(self.temperature)


def digit_model(run: Run) -> tuple[Any, Output]:
    """The model as one of (n, 28, 28) pixels of 0-255, and how its scores are read.

    No record says which pixels it was trained with: it gets those with which it reads the bundled
    test digits best, and of some that are as good those with the smallest loss. Raises `InputError`
    for a run without a Keras model of digits.
    """
    with quiet_stderr():
        from mnist_exp.models.io import load_model

        loaded = load_model(run.file(MODEL_FILE), str(run), SHAPES)
    data = load_dataset(BUNDLED)
    tried = {name: _scored(loaded, scaling, data) for name, scaling in PIXELS.items()}
    best = max(evaluation.accuracy for *_, evaluation in tried.values())
    good = [name for name, (*_, each) in tried.items() if each.accuracy > best - SAME]
    name = min(good, key=lambda name: tried[name][2].loss)
    model, output, evaluation = tried[name]
    logger.warning(
        f"{run} was logged by another program: its model is given pixels from {name}, with which "
        f"it reads {100 * evaluation.accuracy:.0f} % of {evaluation.n:,} bundled digits"
    )
    return model, output


def _scored(
    loaded: Any, scaling: tuple[float, float], data: Dataset
) -> tuple[Any, Output, Evaluation]:
    """The model behind this scaling of pixels, how its scores are read, and how good they are."""
    import keras

    from mnist_exp.models.forward import batched_scores, forward_function

    pixels = keras.Input((28, 28))
    shaped = keras.layers.Reshape(loaded.input_shape[1:])(keras.layers.Rescaling(*scaling)(pixels))
    outputs = loaded(shaped)
    scores = batched_scores(forward_function(keras.Model(pixels, outputs)), data.test_images)
    output: Output = "softmax"
    if scores.min() < 0 or scores.max() > 1 + 1e-3:  # logits
        outputs = keras.layers.Softmax(dtype="float32")(outputs)
        scores = np.asarray(keras.ops.softmax(scores))
    elif not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        output = "sigmoid"
    model = keras.Model(pixels, outputs)
    return model, output, from_scores(data.test_labels, scores, output)


class PredictorCache:
    """The experiment's models and test sets, loaded on first use, one at a time."""

    def __init__(self, first: Run, size: int = CACHE_SIZE) -> None:
        self.first, self.size = first, size
        self._predictors = {first.run_id: Predictor(first)}
        self._loading = Lock()

    def get(self, reference: str) -> Predictor:
        """The run's predictor, by default the first run's; raises `InputError`."""
        if cached := self._predictors.get(reference or self.first.run_id):
            return cached
        run = resolve_run(reference, self.first.tracking)
        with self._loading:  # those asked for by their whole ids answer meanwhile
            predictor = self._predictors.get(run.run_id) or Predictor(run)
            if len(self._predictors) == self.size and run.run_id not in self._predictors:
                del self._predictors[list(self._predictors)[1]]  # the first run's is kept
            self._predictors[run.run_id] = predictor
            return predictor

    def test_set(self, reference: str) -> tuple[Dataset, Evaluation]:
        """The run's test set and its calibrated evaluation; raises `InputError`."""
        predictor = self.get(reference)
        with self._loading:
            return predictor.test_set
