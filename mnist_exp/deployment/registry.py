"""MLflow's model registry: versions of a run's model, their aliases, and promotion."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp.core.classes import DIGITS
from mnist_exp.core.errors import InputError
from mnist_exp.core.output import quiet_stderr
from mnist_exp.inference.predictor import Predictor
from mnist_exp.runs.find import resolve_run, shared_accuracies, split
from mnist_exp.runs.run import OBJECTIVE, Run
from mnist_exp.tracking import store
from mnist_exp.tracking.logged_model import MODEL_FILE, find_model, global_tracking_uri
from mnist_exp.tracking.places import artifacts_now

MODEL_VERSIONS = "mlflow.modelVersions"  # of a logged model: its registered versions
SCORES = (OBJECTIVE, "test/accuracy")
USE = (
    "`python -m mnist_exp promote` adds versions and moves the alias; "
    "`python -m mnist_exp serve --run models:/<name>@<alias>` uses one."
)


def get_alias_holder(run: Run, name: str, alias: str) -> Run | str | None:
    """The run of the version that has the alias in the run's store; None without such a version.

    A version that was registered by hand, without a run, comes back as a description. Raises
    `InputError` for a name or alias that MLflow refuses.
    """
    from mlflow.exceptions import MlflowException

    with store.connect_to_read(run.tracking) as client:
        try:
            version = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or "not found" in error.message:
                return None
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise InputError(f"--name {name} --alias {alias}: {error.message}") from error
            raise  # a failure of the store does not mean that the alias is free
    if not version.run_id:
        return f"version {version.version}"
    return resolve_run(version.run_id, run.tracking)


def register(run: Run, name: str) -> str:
    """Register the run's model under the name; the number of the new version."""
    from mlflow.exceptions import MlflowException

    from mnist_exp.tracking.served_model import description

    uri = store.uri(run.tracking)
    note = description(None if run.classes == DIGITS else [*run.classes])
    with store.connect_to_read(run.tracking) as client, global_tracking_uri(uri):
        try:
            client.get_registered_model(name)
        except MlflowException:
            client.create_registered_model(name, description=f"{note} {USE}")
        model = find_model(client, run.run_id)
        version = client.create_model_version(
            name,
            f"models:/{model.model_id}",
            run.run_id,
            tags={key: f"{run.metrics[key]:.4f}" for key in SCORES if key in run.metrics},
            description=f"{run.title}\n\nOf [{run.name}](#/runs/{run.run_id}).",
        )
        entry = {"name": name, "version": version.version}
        listed = [*json.loads(model.tags.get(MODEL_VERSIONS, "[]")), entry]
        client.set_logged_model_tags(model.model_id, {MODEL_VERSIONS: json.dumps(listed)})
        return str(version.version)


def load_version(run: Run, name: str, version: str) -> Any:
    """The version's Keras model, from its own artifacts, in safe mode; raises `InputError`."""
    import mlflow

    with quiet_stderr():
        from mnist_exp.models.io import load_model
    uri = store.uri(run.tracking)
    with (
        store.connect_to_read(run.tracking) as client,
        global_tracking_uri(uri),
        tempfile.TemporaryDirectory() as place,
    ):
        artifacts = artifacts_now(client.get_model_version_download_uri(name, version), uri)
        folder = mlflow.artifacts.download_artifacts(artifacts, dst_path=place)
        file = Path(folder) / MODEL_FILE
        return load_model(file, f"models:/{name}/{version}", classes=len(run.classes))


def set_alias(run: Run, name: str, alias: str, version: str) -> None:
    """Move the alias to this version; raises `InputError` for a reserved alias."""
    from mlflow.exceptions import MlflowException

    with store.connect_to_read(run.tracking) as client:
        try:
            client.set_registered_model_alias(name, alias, version)
        except MlflowException as error:
            raise InputError(f"--alias {alias}: {error.message}") from error


def delete_version(run: Run, name: str, version: str) -> None:
    """Delete the version, and the registered model when no other version is left."""
    with store.connect_to_read(run.tracking) as client:
        client.delete_model_version(name, version)
        if not client.search_model_versions(f"name = '{name}'"):
            client.delete_registered_model(name)


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
    run.config()  # one of another program has none
    before = get_alias_holder(run, name, alias)
    if before and not force:
        _refuse_worse(run, before, f"{name}@{alias}")
    images = run.dataset().test_images
    expected = Predictor(run).probabilities(images)
    version = register(run, name)
    try:
        reloaded = Predictor(run, load_version(run, name, version))
        if not np.array_equal(reloaded.probabilities(images), expected):
            raise InputError(
                f"models:/{name}/{version}: the registered model does not predict what that of "
                f"{run} does, and was withdrawn; look at the store's files"
            )
        set_alias(run, name, alias, version)
    except BaseException:
        delete_version(run, name, version)
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
    if run.tags["data.digest"] != champion.tags.get("data.digest"):
        return f"one is on {run.data}, the other on {champion.data}"
    return ""
