"""A run's tracker: what is logged goes into the journal first, and from there to MLflow."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.signals import defer_interrupts
from mnist_exp.tracking import events, store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.mlflow_backend import OUTCOME_TAG, MlflowBackend

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10  # after a failure the next event is the next attempt, at the earliest after this
LOCKED_SECONDS = 60  # how long the end of a run waits for another writer of the store


class Clock(Protocol):
    """The module `time`, or a test's."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class RunTracker:
    """Logs one run: into its journal at once, and to MLflow in order by a thread, which retries.

    Training never waits for the store. A failure is a warning; the next attempt comes with a later
    event, the last one with `publish`.
    """

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        *,
        on_open: Callable[[MlflowBackend], None] = lambda backend: None,
        open_backend: Callable[..., MlflowBackend] = MlflowBackend,
        clock: Clock = time,
    ) -> None:
        """For the run in `folder`, new or existing; `on_open` receives the open backend."""
        self.folder, self.config, self.journal = folder, config, Journal(folder)
        logged = self.journal.events
        self._logged = {each.key for each in logged if isinstance(each, events.LogMetrics)}
        curves = [each.steps for each in logged if isinstance(each, events.LogCurve)]
        self._logged_steps = {step for steps in curves for step in steps}
        self._queue = deque(logged)  # not published yet
        self._on_open, self._open_backend, self._clock = on_open, open_backend, clock
        self._backend: MlflowBackend | None = None
        self._started: Future[None] | None = None
        self._error: Exception | None = None
        self._silent_until = 0.0
        self._thread = ThreadPoolExecutor(1, "mlflow")

    def start(self) -> None:
        """Start to publish in the background."""
        if self._started is None and self.config.enabled:
            self._started = self._thread.submit(self._drain)

    @property
    def run_id(self) -> str:
        """The MLflow run's id; empty when there is none, or it could not be opened."""
        if not self.journal.run_id:
            self.start()
            if self._started:
                self._started.result()  # of the first attempt
        return self.journal.run_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags that the run was opened with."""
        return self.journal.opening.tags if self.journal.opening else {}

    @property
    def page(self) -> str:
        """Where the run is seen in MLflow; empty as long as it is not open."""
        run = self._backend
        return store.page(self.config, run.experiment_id, run.run_id) if run else ""

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
        if not self.config.enabled:
            return True
        self._started = self._thread.submit(self._drain_to_the_end)
        self._thread.shutdown()  # when that is done
        self._thread = ThreadPoolExecutor(1, "mlflow")  # of what may be logged later
        if self._queue and self._error:
            logger.warning(
                f"not all of this run could be published ({store.reason(self._error)}); it is kept "
                f"in {self.folder}, and published with: python -m mnist_exp sync {self.folder}"
            )
        return not self._queue

    @defer_interrupts()  # journal and queue stay the same
    def _append(self, event: events.Event) -> None:
        self.journal.append(event)
        self._queue.append(event)

    def _log(self, event: events.Event) -> None:
        """Log the event; it is published in the background, once `start` was called."""
        self._append(event)
        if self._started:
            self._thread.submit(self._drain)

    def _drain(self, *, last: bool = False) -> None:
        """Publish the events in order; stop at the first failure.

        The `last` time a failure is skipped as long as the store answers: the run must be closed.
        """
        if self._clock.monotonic() < self._silent_until and not last:
            return
        skipped: list[events.Event] = []
        try:
            backend = self._opened()
            while self._queue:
                try:
                    self._apply(self._queue[0], backend, is_complete=not skipped)
                except Exception as error:
                    if not last or _is_locked(error):
                        raise
                    self._error = error
                    store.check_reachable(self.config)
                    skipped.append(self._queue[0])
                self._queue.popleft()
            if not skipped:
                self._error = None
        except Exception as error:  # whatever a store raises: training goes on without it
            if not self._error and not last:
                logger.warning(
                    f"the run cannot be published now ({store.reason(error)}); it goes on, and "
                    "what is missing follows when the store can be used"
                )
            self._error = error
            self._silent_until = self._clock.monotonic() + RETRY_SECONDS
        self._queue.extendleft(reversed(skipped))

    def _drain_to_the_end(self) -> None:
        """Publish the events a last time, waiting for a store that another process has locked."""
        until = self._clock.monotonic() + LOCKED_SECONDS
        self._drain(last=True)
        if self._queue and _is_locked(self._error):
            logger.info(f"another process has locked the store; waiting {LOCKED_SECONDS} s at most")
        while self._queue and _is_locked(self._error) and self._clock.monotonic() < until:
            self._clock.sleep(0.5)
            self._drain(last=True)
        if not self._queue:
            self.journal.append(events.Published())

    def _apply(self, event: events.Event, backend: MlflowBackend, *, is_complete: bool) -> None:
        """Publish the event; a run that lacks something is not FINISHED."""
        if isinstance(event, events.Close) and event.status == "FINISHED" and not is_complete:
            backend.publish(events.LogTags({OUTCOME_TAG: "unpublished"}))
            event = replace(event, status="FAILED")
        backend.publish(event)

    def _opened(self) -> MlflowBackend:
        """The run in the store, opened once."""
        if self._backend is None:
            assert self.journal.opening
            known = self.journal.run_id
            opened = self._open_backend(self.config, self.journal.opening, self.folder, known)
            if opened.run_id != known:
                self.journal.append(events.Opened(opened.run_id))
            self._backend = opened
            self._on_open(opened)
        return self._backend


def _is_locked(error: Exception | None) -> bool:
    return "database is locked" in str(error)
