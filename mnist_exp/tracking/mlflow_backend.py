"""A run in MLflow: the backend that events are published to."""

import json
import logging
from collections.abc import Sequence
from functools import singledispatchmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.tracking import events, store
from mnist_exp.tracking.logged_model import (
    CONTEXTS,
    global_tracking_uri,
    has_model,
    links_of_metrics,
    log_keras_model,
)
from mnist_exp.tracking.places import JOURNAL_TAG, correct_places

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
    """One MLflow run, which events are published to: by the method of their kind."""

    def __init__(
        self, config: TrackingConfig, opening: events.Opening, folder: Path, run_id: str
    ) -> None:
        """Open the run of this id where the store has it, restored if deleted, else a new one.

        Raises `InputError` for an unusable store.
        """
        self.uri, self.folder = store.uri(config), folder
        with store.connect(config) as self.client:
            self.experiment_id = self._experiment_id(opening.experiment)
            correct_places(self.uri, self.experiment_id, run_id)
            stage = lifecycle_stage(self.client, run_id)
            self.run_id = run_id if stage else self._new(opening)
            if stage == IN_BIN:
                self.client.restore_run(run_id)
                logger.info(f"run {run_id[:8]} had been deleted in MLflow; it is restored")
            self._links = links_of_metrics(self.client, self.run_id)

    def _new(self, opening: events.Opening) -> str:
        """The id of a new run, or of the one that a lost answer left behind."""
        query = f"tags.{JOURNAL_TAG} = '{opening.tags[JOURNAL_TAG]}'"
        for run in self.client.search_runs([self.experiment_id], query):
            return str(run.info.run_id)
        run = self.client.create_run(
            self.experiment_id, opening.start_time, run_name=opening.name, tags=dict(opening.tags)
        )
        return str(run.info.run_id)

    @singledispatchmethod
    def publish(self, event: events.Event) -> None:
        """Publish the event; doing so again leaves the run as it is."""
        raise NotImplementedError(f"{event}")

    @publish.register
    def _reopen(self, event: events.Reopen) -> None:
        """Set the run RUNNING again."""
        self.client.update_run(self.run_id, "RUNNING")
        self._forget_outcome()

    @publish.register
    def _log_params(self, event: events.LogParams) -> None:
        """Log config values as they would be typed."""
        from mlflow.entities import Param

        values = [Param(key, _text(value)) for key, value in event.params.items()]
        self.client.log_batch(self.run_id, params=values)

    @publish.register
    def _log_metrics(self, event: events.LogMetrics) -> None:
        """Log metrics of a step.

        Once the run has a model MLflow lists them with it, and with the data set they are of.
        """
        metrics = {key: [value] for key, value in event.metrics.items()}
        self.publish(events.LogCurve(metrics, [event.step], event.at))

    @publish.register
    def _log_curve(self, event: events.LogCurve) -> None:
        """Log the values of metrics at several steps."""
        from mlflow.entities import Metric

        at = int(1000 * event.at)
        values = [
            Metric(key, value, at, step, **self._links.get(key.partition("/")[0], {}))
            for key, series in event.metrics.items()
            for step, value in zip(event.steps, series, strict=True)
        ]
        for first in range(0, len(values), METRICS_PER_REQUEST):
            part = values[first : first + METRICS_PER_REQUEST]
            self.client.log_batch(self.run_id, metrics=part)

    @publish.register
    def _log_tags(self, event: events.LogTags) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, str(value)) for key, value in event.tags.items()]
        self.client.log_batch(self.run_id, tags=tags)

    @publish.register
    def _log_dataset(self, event: events.LogDataset) -> None:
        """Log the splits of the data set as the run's inputs."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        inputs = []
        where = json.dumps({"uri": event.source})
        for key, count in event.images.items():
            split = key.removesuffix("_images")
            own = f"{event.digest[:8]}-{split}{count}"  # MLflow has one entry for name and digest
            dataset = Dataset(event.name, own, "local", where, profile=json.dumps({key: count}))
            context = InputTag("mlflow.data.context", CONTEXTS.get(split, split))
            inputs += [DatasetInput(dataset, [context])] if count else []
        try:
            self.client.log_inputs(self.run_id, inputs)
        except MlflowException:  # another run was first to name this data set: now it is there
            self.client.log_inputs(self.run_id, inputs)

    @publish.register
    def _log_model(self, event: events.LogModel) -> None:
        """Log the Keras model in a file; its inputs are uint8 pixels of 0-255."""
        if not has_model(self.client, self.run_id):
            with global_tracking_uri(self.uri, self.experiment_id):
                log_keras_model(self.client, self.run_id, self.folder / event.name, event.example)
        self._links = links_of_metrics(self.client, self.run_id)

    @publish.register
    def _log_files(self, event: events.LogFiles) -> None:
        """Upload files and folders, as far as they are there."""
        for path in (self.folder / name for name in event.names):
            if path.exists():
                self.client.log_artifact(self.run_id, str(path))

    @publish.register
    def _close_children(self, event: events.CloseChildren) -> None:
        """End as KILLED the child runs, on any machine, that are still RUNNING."""
        for run in running_runs(self.client, [self.experiment_id], PARENT_TAG, self.run_id):
            mark_killed(self.client, run.info.run_id)

    @publish.register
    def _close(self, event: events.Close) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        if event.status == "FINISHED":
            self._forget_outcome()
        self.client.set_terminated(self.run_id, event.status, end_time=int(1000 * event.at))

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
