"""A run's model becomes the one that an alias means, if it is not worse."""

from dataclasses import dataclass

import numpy as np

from mnist_exp.core.errors import InputError
from mnist_exp.deployment import registry
from mnist_exp.inference.predictor import Predictor
from mnist_exp.runs.run import OBJECTIVE, Run

SPLIT = ("data.limit", "data.validation_split")  # which images the validation accuracy is of


@dataclass(frozen=True)
class Promotion:
    """What was done."""

    version: str
    before: Run | str | None  # the alias meant its model, or a version of no run
    images: int  # test images that the registered model and the run's read alike


def promote(run: Run, name: str, alias: str, *, force: bool = False) -> Promotion:
    """Registers the run's model under the name and points the alias at it.

    Raises `InputError` when it has a lower val/accuracy than the alias's present holder or cannot
    be compared with it that way, unless forced; and when the registered model does not predict
    exactly what the run's does on the test images. Then the alias stays where it was.
    """
    before = registry.holder(run, name, alias)
    if before and not force:
        _refuse_worse(run, before, f"{name}@{alias}")
    images = run.dataset().test_images
    classifier = Predictor(run)
    expected = classifier.probabilities(images)
    version = registry.register(run, name)
    try:
        reloaded = Predictor(run, registry.load(run, name, version))
        if not np.array_equal(reloaded.probabilities(images), expected):
            raise InputError(
                f"models:/{name}/{version}: the registered model does not predict what that of "
                f"{run} does, and was withdrawn; look at the store's files"
            )
        registry.point(run, name, alias, version)
    except BaseException:
        registry.withdraw(run, name, version)
        raise
    return Promotion(version, before, len(images))


def _refuse_worse(run: Run, champion: Run | str, called: str) -> None:
    if isinstance(champion, str):
        raise InputError(
            f"{run} cannot be compared with {called}: {champion} was registered by hand "
            "and names no run; --force promotes it anyway"
        )
    why = _incomparable(run, champion)
    if why:
        raise InputError(
            f"{run} cannot be compared with {called}, {champion}: {why}; --force promotes it anyway"
        )
    ours, theirs = run.metrics[OBJECTIVE], champion.metrics[OBJECTIVE]
    if ours < theirs:
        raise InputError(
            f"{run} has {OBJECTIVE} {ours:.4f}, less than the {theirs:.4f} of {called}, "
            f"{champion}; --force promotes it anyway"
        )


def _incomparable(run: Run, champion: Run) -> str:
    """Why the two validation accuracies are not of the same images; empty when they are."""
    for one in (run, champion):
        if OBJECTIVE not in one.metrics:
            return f"{one} was trained without validation"
    if run.tags["data.digest"] != champion.tags["data.digest"]:
        return f"one is on {run.data}, the other on {champion.data}"
    for param in SPLIT:
        if run.params[param] != champion.params[param]:
            return f"their {param} differ, {run.params[param]} and {champion.params[param]}"
    return ""
