"""MLflow's model registry: a version of a run's model, and the alias that means it."""

import tempfile
from pathlib import Path
from typing import Any

from mnist_exp.core.console import quiet_stderr
from mnist_exp.core.errors import InputError
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.run import Run
from mnist_exp.tracking import store

MODEL_FILE = "data/model.keras"  # in a version's files


def holder(run: Run, name: str, alias: str) -> Run | str | None:
    """The run whose model the alias means now, in the run's store; None when there is none.

    For a version that was registered by hand, of no run, what to call it. Raises `InputError` for a
    name or alias that MLflow does not take.
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
            raise  # the store's own trouble does not mean that nobody holds the alias
    return (
        resolve_run(version.run_id, run.tracking)
        if version.run_id
        else f"version {version.version}"
    )


def register(run: Run, name: str) -> str:
    """Makes the run's model the newest version of that name; returns its number."""
    from mlflow.exceptions import MlflowException

    with store.connect_to_read(run.tracking) as client:
        try:
            client.get_registered_model(name)
        except MlflowException:
            client.create_registered_model(name)
        source = f"runs:/{run.run_id}/model"
        return str(client.create_model_version(name, source, run.run_id).version)


def load(run: Run, name: str, version: str) -> Any:
    """The Keras model of a version, from the registry's own files, loaded in safe mode.

    Raises `InputError` when it cannot be.
    """
    import mlflow

    with quiet_stderr():
        from mnist_exp.models.io import load_model
    uri = store.uri(run.tracking)
    with (
        store.connect_to_read(run.tracking) as client,
        store.global_tracking_uri(uri),
        tempfile.TemporaryDirectory() as place,
    ):
        where = client.get_model_version_download_uri(name, version)
        files = mlflow.artifacts.download_artifacts(where, dst_path=place)
        return load_model(Path(files) / MODEL_FILE, f"models:/{name}/{version}")


def point(run: Run, name: str, alias: str, version: str) -> None:
    """From now on the alias means this version; raises `InputError` for a reserved alias."""
    from mlflow.exceptions import MlflowException

    with store.connect_to_read(run.tracking) as client:
        try:
            client.set_registered_model_alias(name, alias, version)
        except MlflowException as error:
            raise InputError(f"--alias {alias}: {error.message}") from error


def withdraw(run: Run, name: str, version: str) -> None:
    """Removes the version, and the name if it was made for it."""
    with store.connect_to_read(run.tracking) as client:
        client.delete_model_version(name, version)
        if not client.search_model_versions(f"name = '{name}'"):
            client.delete_registered_model(name)
