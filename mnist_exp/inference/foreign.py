"""The Keras model of a run that another program logged: which pixels it takes, and its scores."""

import logging
from typing import Any

import numpy as np

from mnist_exp.config.schema import DataConfig
from mnist_exp.core.output import quiet_stderr
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.evaluation.metrics import Evaluation, Output, from_scores
from mnist_exp.runs.run import Run
from mnist_exp.tracking.logged_model import MODEL_FILE

logger = logging.getLogger(__name__)

SHAPES = ((28, 28), (28, 28, 1), (784,))  # of an input
PIXELS = {"0 to 255": (1, 0), "0 to 1": (1 / 255, 0), "-1 to 1": (2 / 255, -1)}  # scale, offset
BUNDLED = DataConfig(name="mnist5k", path=None, fallback="error", validation_split=0.0, limit=None)
SAME = 0.01  # of an accuracy: networks of relus read digits alike at any scale


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
