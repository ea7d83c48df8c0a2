"""The logged model of a run: what MLflow's Models tab shows, and what is loaded and served."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.core.classes import CLASSES_TAG
from mnist_exp.core.files import replace_by_link
from mnist_exp.core.provenance import versions
from mnist_exp.tracking.places import artifacts_now, to_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model

ENVIRONMENT = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_ID"
CONTEXTS = {"train": "training", "validation": "validation", "test": "testing"}  # MLflow's words
MEASURED_ON = {"val": "validation", "test": "testing"}  # by the beginning of a metric's name
NOT_IN_NAMES = r"""[/:.%"']"""  # what MLflow refuses in the name of a logged model
KERAS = ".keras"
MODEL_FILE = f"data/model{KERAS}"  # among the artifacts
NOTE_TAG = "mlflow.note.content"  # the description
SERVING = ("mlflow", "tensorflow", "keras", "numpy")  # what a served model needs


@contextmanager
def global_tracking_uri(uri: str, experiment_id: str = "") -> Iterator[None]:
    """Context manager: MLflow's process-wide tracking URI, which its model look-ups use.

    With an `experiment_id` also its process-wide experiment, where a logged model is listed.
    """
    import mlflow

    before = {name: os.environ.get(name) for name in (ENVIRONMENT, EXPERIMENT)}
    uri_before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    if experiment_id:
        os.environ[EXPERIMENT] = experiment_id
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None if uri_before == before[ENVIRONMENT] else uri_before)
        for name, value in before.items():  # set_tracking_uri changes its own, too
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class ServedFlavor:
    """The pyfunc of `served_model`, with one Keras file that MLflow's Keras flavors load, too."""

    @staticmethod
    def save_model(
        *, path: str, mlflow_model: "Model", file: Path, validate_serving_input: bool, **more: Any
    ) -> None:
        """Write the folder of the logged model around the Keras model in `file`."""
        import mlflow
        from mlflow.models.model import MLMODEL_FILE_NAME

        from mnist_exp.tracking import served_model

        mlflow.pyfunc.save_model(
            path, mlflow_model=mlflow_model, python_model=served_model.__file__, **more
        )
        stored = Path(path, MODEL_FILE)
        stored.parent.mkdir()
        if file.suffix == KERAS:
            shutil.copyfile(file, stored)
        else:
            import keras

            keras.models.load_model(file, compile=False).save(stored)
        for flavor in ("keras", "tensorflow"):
            mlflow_model.add_flavor(
                flavor, data=stored.parent.name, model_type="keras", save_format="tf"
            )
        code = mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
        code["model_code_path"] = Path(served_model.__file__).name  # not where it lay here
        mlflow_model.model_size_bytes = stored.stat().st_size
        mlflow_model.save(str(Path(path, MLMODEL_FILE_NAME)))


def log_keras_model(
    client: "MlflowClient", run_id: str, file: Path, example: Sequence[Any]
) -> None:
    """Log the model in this file by the name in the config; `example` (n, ...) inputs of it."""
    import numpy as np
    from mlflow.entities import Metric
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from mnist_exp.tracking.served_model import INPUTS, description, outputs

    installed, recorded = versions(), client.get_run(run_id).data
    classes = json.loads(recorded.tags.get(CLASSES_TAG, "[]"))
    name, scores = recorded.params.get("model.name", file.stem), (-1, len(classes) or 10)
    logged = Model.log(
        artifact_path=None,
        flavor=ServedFlavor,
        file=file,
        name=re.sub(NOT_IN_NAMES, "-", name),
        run_id=run_id,
        # Without inputs: MLflow would refuse all but one type and shape.
        signature=ModelSignature(outputs=Schema([TensorSpec(np.dtype(np.float32), scores)])),
        input_example=np.array(example, np.uint8),
        metadata={"inputs": INPUTS, "outputs": outputs(classes)},
        tags={NOTE_TAG: description(classes)},
        pip_requirements=[f"{package}=={installed[package]}" for package in SERVING],
        validate_serving_input=False,  # it would load the model once more
    )
    links = links_of_metrics(client, run_id)
    for name in ("val/loss", "val/accuracy"):  # again, which counts once, for MLflow to list them
        for last in client.get_metric_history(run_id, name)[-1:]:
            again = Metric(name, last.value, last.timestamp, last.step, **links["val"])
            client.log_batch(run_id, metrics=[again])
    location = client.get_logged_model(logged.model_id).artifact_location
    local = to_path(location)
    if local and file.suffix == KERAS:  # stored once; the run's own file has its optimizer, too
        replace_by_link(local / MODEL_FILE, file)


def logged_models(client: "MlflowClient", run_id: str) -> "Iterator[LoggedModel]":
    """The logged models of the run, whole or not, that were not deleted."""
    from mlflow.exceptions import MlflowException

    for output in client.get_run(run_id).outputs.model_outputs:
        with suppress(MlflowException):  # the link of a deleted one stays
            yield client.get_logged_model(output.model_id)


def find_model(client: "MlflowClient", run_id: str) -> "LoggedModel":
    """The run's logged model; raises `MlflowException` when it has none."""
    from mlflow.exceptions import MlflowException

    for model in logged_models(client, run_id):
        return model
    raise MlflowException(f"run {run_id} has no logged model")


def download_model(client: "MlflowClient", run_id: str, folder: Path, where: str) -> Path:
    """A copy in the folder of the Keras file of the run's first model that has one.

    Raises `MlflowException` or `OSError` when none has.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    for model in logged_models(client, run_id):
        files = get_artifact_repository(artifacts_now(model.artifact_location, where))
        with suppress(MlflowException, OSError):
            return Path(files.download_artifacts(MODEL_FILE, str(folder)))
    return Path(client.download_artifacts(run_id, f"model/{MODEL_FILE}", str(folder)))  # MLflow 2


def has_model(client: "MlflowClient", run_id: str) -> bool:
    """Whether the run has a complete model; incomplete ones are deleted.

    MLflow links a model to its run before it has the files.
    """
    for model in logged_models(client, run_id):
        if model.status == "READY":
            return True
        client.delete_logged_model(model.model_id)
    return False


def links_of_metrics(client: "MlflowClient", run_id: str) -> dict[str, dict[str, str]]:
    """The model and the data set that the run's metrics are of, by the beginning of their names."""
    model = next(logged_models(client, run_id), None)
    if model is None:
        return {}
    links = {name: {"model_id": model.model_id} for name in ("train", "val", "test", "model")}
    for each in client.get_run(run_id).inputs.dataset_inputs:
        for name, context in MEASURED_ON.items():
            if context in [tag.value for tag in each.tags]:
                data = each.dataset
                links[name] |= {"dataset_name": data.name, "dataset_digest": data.digest}
    return links
