"""A run in MLflow: the backend that events are published to."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.tracking import store
from mnist_exp.tracking.events import Opening
from mnist_exp.tracking.logged_model import (
    CONTEXTS,
    global_tracking_uri,
    has_model,
    links_of_metrics,
    log_keras_model,
)
from mnist_exp.tracking.moved import correct_places
from mnist_exp.tracking.places import JOURNAL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

HOST_TAG, PARENT_TAG, OUTCOME_TAG = "host", "mlflow.parentRunId", "outcome"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # or the page shows GenAI's tabs
    "mlflow.note.content": (
        "Handwritten digits: a run per config, made by `python -m mnist_exp.run`.\n\n"
        "- `val/accuracy` chooses; `test/*` reports the 10,000 test images and chooses nothing.\n"
        "- `train/*` and `val/*` have a step per epoch, `step/*` has one per training step shown; "
        "the others are of the kept weights.\n"
        "- A sweep's runs lie below its parent, whose description ranks them.\n\n"
        "`python -m mnist_exp runs` lists them, `python -m mnist_exp compare` tests which settings "
        "are better, `python -m mnist_exp serve --run best` opens the best."
    ),
}
IN_BIN = "deleted"  # the lifecycle stage of a run that can still be restored
METRICS_PER_REQUEST = 1000  # MLflow takes no more


class MlflowBackend:
    """One MLflow run. Every method is idempotent: an event may be published again."""

    def __init__(
        self, client: "MlflowClient", uri: str, opening: Opening, folder: Path, run_id: str
    ) -> None:
        """Open the run of this id where the store has it, restored if deleted, else a new one."""
        self.client, self.uri, self.folder = client, uri, folder
        self.experiment_id = self._experiment_id(opening.experiment)
        correct_places(uri, self.experiment_id, run_id)
        stage = lifecycle_stage(client, run_id)
        self.run_id = run_id if stage else self._new(opening)
        if stage == IN_BIN:
            client.restore_run(run_id)
            logger.info(f"run {run_id[:8]} had been deleted in MLflow; it is restored")
        self._links = links_of_metrics(client, self.run_id)

    def _new(self, opening: Opening) -> str:
        """The id of a new run, or of the one that a lost answer left behind."""
        query = f"tags.{JOURNAL_TAG} = '{opening.tags[JOURNAL_TAG]}'"
        for run in self.client.search_runs([self.experiment_id], query):
            return str(run.info.run_id)
        run = self.client.create_run(
            self.experiment_id, opening.start_time, run_name=opening.name, tags=dict(opening.tags)
        )
        return str(run.info.run_id)

    def reopen(self) -> None:
        """Set the run RUNNING again."""
        self.client.update_run(self.run_id, "RUNNING")
        self._forget_outcome()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log config values as they would be typed."""
        from mlflow.entities import Param

        values = [Param(key, _text(value)) for key, value in params.items()]
        self.client.log_batch(self.run_id, params=values)

    def log_metrics(self, metrics: Mapping[str, float], step: int, at: float) -> None:
        """Log metrics of `step`, `at` so many seconds since 1970.

        Once the run has a model MLflow lists them with it, and with the data set they are of.
        """
        self.log_curve({key: [value] for key, value in metrics.items()}, [step], at)

    def log_curve(
        self, metrics: Mapping[str, Sequence[float]], steps: Sequence[int], at: float
    ) -> None:
        """Log the values of metrics at these steps, `at` so many seconds since 1970."""
        from mlflow.entities import Metric

        values = [
            Metric(key, value, int(1000 * at), step, **self._links.get(key.partition("/")[0], {}))
            for key, series in metrics.items()
            for step, value in zip(steps, series, strict=True)
        ]
        for first in range(0, len(values), METRICS_PER_REQUEST):
            part = values[first : first + METRICS_PER_REQUEST]
            self.client.log_batch(self.run_id, metrics=part)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_dataset(self, name: str, digest: str, source: str, images: Mapping[str, int]) -> None:
        """Log the splits of the data set as the run's inputs; `images` counts those of each."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        inputs = []
        for key, count in images.items():
            split = key.removesuffix("_images")
            own = f"{digest[:8]}-{split}{count}"  # MLflow has one entry for a name and digest
            where, profile = json.dumps({"uri": source}), json.dumps({key: count})
            dataset = Dataset(name, own, "local", where, profile=profile)
            context = InputTag("mlflow.data.context", CONTEXTS.get(split, split))
            inputs += [DatasetInput(dataset, [context])] if count else []
        try:
            self.client.log_inputs(self.run_id, inputs)
        except MlflowException:  # another run was first to name this data set: now it is there
            self.client.log_inputs(self.run_id, inputs)

    def log_model(self, name: str, example: Sequence[Any]) -> None:
        """Log the Keras model in the file of this name; its inputs are uint8 pixels of 0-255."""
        if not has_model(self.client, self.run_id):
            with global_tracking_uri(self.uri, self.experiment_id):
                log_keras_model(self.client, self.run_id, self.folder / name, example)
        self._links = links_of_metrics(self.client, self.run_id)

    def log_files(self, names: Sequence[str]) -> None:
        """Upload the files and folders of these names, as far as they are there."""
        for path in (self.folder / name for name in names):
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), path.name)
            elif path.exists():
                self.client.log_artifact(self.run_id, str(path))

    def close_children(self) -> None:
        """End as KILLED the child runs, on any machine, that are still RUNNING."""
        for run in running_runs(self.client, [self.experiment_id], PARENT_TAG, self.run_id):
            mark_killed(self.client, run.info.run_id)

    def close(self, status: str, at: float) -> None:
        """End the run as FINISHED, FAILED or KILLED, `at` so many seconds since 1970."""
        if status == "FINISHED":
            self._forget_outcome()
        self.client.set_terminated(self.run_id, status, end_time=int(1000 * at))

    def _forget_outcome(self) -> None:
        if OUTCOME_TAG in self.client.get_run(self.run_id).data.tags:
            self.client.delete_tag(self.run_id, OUTCOME_TAG)

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, tags=EXPERIMENT_TAGS))
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def open_mlflow_run(
    config: TrackingConfig, opening: Opening, folder: Path, run_id: str
) -> MlflowBackend:
    """The open run, new or the one of this id; raises `InputError` for an unusable store."""
    with store.connect(config) as client:
        return MlflowBackend(client, store.uri(config), opening, folder, run_id)


def lifecycle_stage(client: "MlflowClient", run_id: str) -> str:
    """MLflow's word: active, or deleted and still restorable; empty where there is no such run."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage) if run_id else ""
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return ""
        raise


def mark_killed(client: "MlflowClient", run_id: str) -> bool:
    """End an orphaned run as KILLED; whether it was still RUNNING."""
    if client.get_run(run_id).info.status != "RUNNING":
        return False  # it ended, and gave its lock back, while we looked
    client.set_tag(run_id, OUTCOME_TAG, "interrupted")
    client.set_terminated(run_id, "KILLED")
    return True


def running_runs(
    client: "MlflowClient", experiment_ids: Sequence[str], tag: str, value: str
) -> list["Run"]:
    """The RUNNING runs that have this tag."""
    query = f"attributes.status = 'RUNNING' and tags.`{tag}` = '{value}'"
    return list(client.search_runs(list(experiment_ids), query))


def _text(value: Any) -> str:
    """The param as typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value)
