"""A run's tracker: what is logged goes into the journal first, and from there to MLflow."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.signals import defer_interrupts
from mnist_exp.tracking import events, store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.upload_queue import Clock, UploadQueue


class RunTracker:
    """Logs one run: into its journal at once, and to MLflow through the upload queue."""

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        *,
        on_open: Callable[[Any], None] = lambda backend: None,
        make_queue: Callable[..., UploadQueue] = UploadQueue,
        clock: Clock = time,
    ) -> None:
        """For the run in `folder`, new or existing; `on_open` receives the open backend."""
        self.folder, self.config = folder, config
        self.journal = Journal(folder)
        self.queue = make_queue(config, self.journal, on_open=on_open)
        self._clock = clock
        logged = self.journal.events
        self._logged = {each.key for each in logged if isinstance(each, events.LogMetrics)}
        curves = [each.steps for each in logged if isinstance(each, events.LogCurve)]
        self._logged_steps = {step for steps in curves for step in steps}

    def start(self) -> None:
        """Start to publish in the background."""
        self.queue.start()

    @property
    def run_id(self) -> str:
        """The MLflow run's id; empty when there is none, or it could not be opened."""
        if not self.journal.run_id:
            self.queue.wait_for_first_attempt()
        return self.journal.run_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags that the run was opened with."""
        return self.journal.opening.tags if self.journal.opening else {}

    @property
    def page(self) -> str:
        """Where the run is seen in MLflow; empty as long as it is not open."""
        return self.queue.page

    def open(self, opening: events.Opening, params: Mapping[str, Any]) -> None:
        """Begin the journal of a new run with its config values."""
        self.journal.append(opening)
        self._log(events.LogParams(dict(params)))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at `step`, which counts epochs from 1; those of a step are logged once."""
        values = {name: float(value) for name, value in metrics.items()}
        event = events.LogMetrics(values, step, self._clock.time())
        if event.key not in self._logged:
            self._logged.add(event.key)
            self._log(event)

    def log_curve(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log the metrics `step/...` of each row at its `step`, unless it has been logged."""
        rows = [row for row in rows if row["step"] not in self._logged_steps]
        if rows:
            steps = [int(row["step"]) for row in rows]
            names = [name for name in rows[0] if name.startswith("step/")]
            metrics = {name: [row[name] for row in rows] for name in names}
            self._logged_steps |= set(steps)
            self._log(events.LogCurve(metrics, steps, self._clock.time()))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._log(events.LogTags(dict(tags)))

    def log_dataset(self, name: str, digest: str, source: str, images: Mapping[str, int]) -> None:
        """Log the data set as the run's input; `images` counts those of each split."""
        self._log(events.LogDataset(name, digest, source, dict(images)))

    def log_model(self, name: str, example: np.ndarray) -> None:
        """Log the Keras model in this file of the folder; `example` (n, ...) uint8 inputs of it."""
        self._log(events.LogModel(name, example.tolist()))

    def log_files(self, names: Sequence[str]) -> None:
        """Upload the files and folders of these names, as far as they are there."""
        self._log(events.LogFiles(list(names)))

    def close_children(self) -> None:
        """End as KILLED the child runs, on any machine, that are still RUNNING."""
        self._log(events.CloseChildren())

    def reopen(self) -> None:
        """Set the run RUNNING again."""
        self._log(events.Reopen())

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, and publish what is left."""
        self._append(events.Close(status, self._clock.time()))
        self.publish()

    def publish(self) -> bool:
        """Whether the store has everything now; a warning says what it lacks, and why."""
        return self.queue.finish()

    @defer_interrupts()  # journal and queue stay the same
    def _append(self, event: events.Event) -> None:
        self.journal.append(event)
        self.queue.append(event)

    def _log(self, event: events.Event) -> None:
        self._append(event)
        self.queue.wake()


SECONDS = 1.0  # between two samples


@contextmanager
def sampled_system_metrics(tracker: RunTracker) -> Iterator[None]:
    """Context manager: with `tracking.system_metrics` MLflow samples `system/...` metrics.

    They go to the store directly, not through the journal: what it cannot take is lost.
    """
    config = tracker.config
    if not (config.system_metrics and config.enabled and tracker.run_id):
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        tracker.run_id,
        sampling_interval=SECONDS,
        resume_logging=True,
        tracking_uri=store.uri(config),
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
