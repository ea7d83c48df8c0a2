"""Runs compared on the training images that none of them trained on."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from mnist_exp.core.errors import InputError
from mnist_exp.runs.run import Run

SPLIT = ("data.limit", "data.validation_split", "data.validation")  # what validation depends on


def split(run: Run) -> tuple[str, ...]:
    """What the run's validation images depend on, beside its data set."""
    return tuple(run.params.get(param, "null") for param in SPLIT)


def shared_accuracies(runs: Sequence[Run]) -> tuple[list[float], int]:
    """The accuracy of each run on the validation images that all have, and the number of these.

    The runs are of one data set. Without an image, or a run's predictions, there is no accuracy.
    """
    try:
        validations = [run.validation() for run in runs]
    except InputError:
        return [], 0
    shared = reduce(np.intersect1d, [indices for indices, _ in validations])
    if not len(shared):
        return [], 0
    correct = [evaluation.correct[np.isin(indices, shared)] for indices, evaluation in validations]
    return [float(each.mean()) for each in correct], len(shared)
