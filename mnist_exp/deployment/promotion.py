"""Promotion: an alias moves to a run's model, if that is not worse than the present one."""

from dataclasses import dataclass

import numpy as np

from mnist_exp.core.errors import InputError
from mnist_exp.deployment import registry
from mnist_exp.inference.predictor import Predictor
from mnist_exp.runs.held_out import shared_accuracies, split
from mnist_exp.runs.run import OBJECTIVE, Run


@dataclass(frozen=True)
class Promotion:
    """The new version, and the previous holder of the alias."""

    version: str
    before: Run | str | None  # a string for a version without a run
    images: int  # test images with equal predictions of the registered and the run's model


def promote(run: Run, name: str, alias: str, *, force: bool = False) -> Promotion:
    """Register the run's model under the name and set the alias to it.

    Raises `InputError`, and leaves the alias alone, when the run's val/accuracy is lower than that
    of the alias's present holder or not comparable with it (unless forced), and when the registered
    model does not predict exactly what the run's does on the test images.
    """
    before = registry.get_alias_holder(run, name, alias)
    if before and not force:
        _refuse_worse(run, before, f"{name}@{alias}")
    images = run.dataset().test_images
    expected = Predictor(run).probabilities(images)
    version = registry.register(run, name)
    try:
        reloaded = Predictor(run, registry.load_version(run, name, version))
        if not np.array_equal(reloaded.probabilities(images), expected):
            raise InputError(
                f"models:/{name}/{version}: the registered model does not predict what that of "
                f"{run} does, and was withdrawn; look at the store's files"
            )
        registry.set_alias(run, name, alias, version)
    except BaseException:
        registry.delete_version(run, name, version)
        raise
    return Promotion(version, before, len(images))


def _refuse_worse(run: Run, champion: Run | str, alias: str) -> None:
    if isinstance(champion, str):
        raise InputError(
            f"{run} cannot be compared with {alias}: {champion} was registered by hand "
            "and names no run; --force promotes it anyway"
        )
    ours, theirs, images = _accuracies(run, champion, alias)
    if ours < theirs:
        raise InputError(
            f"{run} has {images} {ours:.4f}, less than the {theirs:.4f} of {alias}, "
            f"{champion}; --force promotes it anyway"
        )


def _accuracies(run: Run, champion: Run, alias: str) -> tuple[float, float, str]:
    """The accuracies of both on the same validation images, and what they are called.

    Raises `InputError` when there are no such images.
    """
    reason = _incomparable(run, champion)
    if not reason:
        if split(run) == split(champion):
            return run.metrics[OBJECTIVE], champion.metrics[OBJECTIVE], OBJECTIVE
        accuracies, n = shared_accuracies([run, champion])
        if n:
            ours, theirs = accuracies
            return ours, theirs, f"on the {n:,} images that both validated on an accuracy of"
        reason = "they share no stored predictions of validation images"
    raise InputError(
        f"{run} cannot be compared with {alias}, {champion}: {reason}; --force promotes it anyway"
    )


def _incomparable(run: Run, champion: Run) -> str:
    """Why no validation image can be common to both; empty when one may be."""
    for either in (run, champion):
        if OBJECTIVE not in either.metrics:
            return f"{either} was trained without validation images, and test images choose nothing"
    if run.tags["data.digest"] != champion.tags["data.digest"]:
        return f"one is on {run.data}, the other on {champion.data}"
    return ""
