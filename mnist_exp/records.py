"""What can be said about a run, and how MLflow hears it."""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_exp.data import Dataset
from mnist_exp.locks import is_abandoned
from mnist_exp.signals import uninterrupted
from mnist_exp.store import meant

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

HOST, FOLDER, PARENT_RUN = "host", "folder", "mlflow.parentRunId"  # tags
KIND = {"mlflow.experimentKind": "custom_model_development"}  # or the page shows GenAI's tabs
SERVING = ("mlflow", "tensorflow", "keras", "numpy")  # what a served model needs


class Record:
    """What can be said about one run; this one says it to nobody (`tracking.enabled=false`)."""

    run_id = ""

    def begin(self) -> None:
        """Opens the run, if it is not open yet, while other things go on."""

    def check(self) -> None:
        """Raises `InputError` when the run could not be opened."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Publishes config values as they would be typed."""

    def log_metrics(self, metrics: Mapping[str, float], step: int, at: float | None = None) -> None:
        """Publishes figures at `step`, which counts epochs from 1.

        `at` is when they were found, in seconds since 1970; now, if it is not given.
        """

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags on the run."""

    def log_data(self, data: Dataset) -> None:
        """Names the data set, with its digest, as the run's input."""

    def log_model(self, model: Any, example: np.ndarray) -> None:
        """Publishes the Keras model with its signature: (n, 28, 28) uint8 pixels of 0-255 in."""

    def log_files(self, folder: Path, names: Sequence[str]) -> None:
        """Publishes the files and folders of these names, as far as they are there."""

    def close_the_dead(self) -> None:
        """Ends as KILLED the experiment's runs of this machine that no process holds any more."""

    def close_children(self) -> None:
        """Ends as KILLED the runs below this one, on any machine, that are still RUNNING."""

    def close(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED."""


class MlflowRun(Record):
    """One MLflow run, open until `close`."""

    def __init__(
        self,
        client: "MlflowClient",
        uri: str,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        start_time: int,
    ) -> None:
        """`start_time` is in milliseconds since 1970."""
        self.client, self.uri = client, uri
        self.experiment_id = self._experiment_id(experiment)
        run = self.client.create_run(self.experiment_id, start_time, run_name=name, tags=dict(tags))
        self.run_id: str = run.info.run_id

    @uninterrupted()
    def log_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        values = [Param(key, _text(value)) for key, value in params.items()]
        self.client.log_batch(self.run_id, params=values)

    @uninterrupted()
    def log_metrics(self, metrics: Mapping[str, float], step: int, at: float | None = None) -> None:
        from mlflow.entities import Metric

        milliseconds = int(1000 * (at or time.time()))
        values = [Metric(key, float(value), milliseconds, step) for key, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=values)

    @uninterrupted()
    def log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    @uninterrupted()
    def log_data(self, data: Dataset) -> None:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        images = {"train": data.train_images, "test": data.test_images}
        profile = {f"{split}_images": len(values) for split, values in images.items()}
        dataset = MlflowDataset(
            name=data.name,
            digest=data.digest,
            source_type="local",
            source=json.dumps({"uri": data.source}),
            profile=json.dumps(profile | {"validation_images": len(data.validation_images)}),
        )
        context = [InputTag("mlflow.data.context", "training")]
        inputs = [DatasetInput(dataset, context)]
        try:
            self.client.log_inputs(self.run_id, inputs)
        except MlflowException:  # another run was first to name this data set: now it is there
            self.client.log_inputs(self.run_id, inputs)

    @uninterrupted()
    def log_model(self, model: Any, example: np.ndarray) -> None:
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        from mnist_exp.provenance import versions

        installed = versions()
        with _fluent(self.uri, self.experiment_id):
            mlflow.tensorflow.log_model(
                model,
                name="model",
                run_id=self.run_id,
                signature=ModelSignature(
                    Schema([TensorSpec(np.dtype(np.uint8), (-1, 28, 28))]),
                    Schema([TensorSpec(np.dtype(np.float32), (-1, 10))]),
                ),
                input_example=example,
                pip_requirements=[f"{name}=={installed[name]}" for name in SERVING],
            )

    def log_files(self, folder: Path, names: Sequence[str]) -> None:
        for path in (folder / name for name in names):
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), path.name)
            elif path.exists():
                self.client.log_artifact(self.run_id, str(path))

    def close_the_dead(self) -> None:
        for run in self._running(HOST, platform.node()):
            if is_abandoned(Path(run.data.tags[FOLDER])):
                self._bury(run.info.run_id)

    def close_children(self) -> None:
        for run in self._running(PARENT_RUN, self.run_id):
            self._bury(run.info.run_id)

    def _running(self, tag: str, value: str) -> list["Run"]:
        query = f"attributes.status = 'RUNNING' and tags.`{tag}` = '{value}'"
        return list(self.client.search_runs([self.experiment_id], query))

    def _bury(self, run_id: str) -> None:
        if self.client.get_run(run_id).info.status != "RUNNING":
            return  # it ended, and gave its lock back, while we looked
        self.client.set_tag(run_id, "outcome", "interrupted")
        self.client.set_terminated(run_id, "KILLED")
        logger.info(f"run {run_id[:8]} had died; it is closed as KILLED now")

    def close(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, tags=KIND))
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


@contextmanager
def _fluent(uri: str, experiment_id: str) -> Iterator[None]:
    """Within: what MLflow keeps for the whole process points at our run, and it stays silent."""
    import keras

    chatty = keras.config.is_interactive_logging_enabled()
    experiment_before = os.environ.get("MLFLOW_EXPERIMENT_ID")
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id  # where the model is listed
    # MLflow loads the model and tries the example: no progress bar, no hint about its tracing.
    keras.config.disable_interactive_logging()
    hints = logging.getLogger("tensorflow")
    hints_before = hints.level
    hints.setLevel(logging.ERROR)
    try:
        with meant(uri):
            yield
    finally:
        hints.setLevel(hints_before)
        if chatty:
            keras.config.enable_interactive_logging()
        del os.environ["MLFLOW_EXPERIMENT_ID"]
        if experiment_before is not None:
            os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_before


def _text(value: Any) -> str:
    """A param as it would be typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value)
