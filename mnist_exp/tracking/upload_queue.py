"""The upload queue: a thread publishes a run's events to the store in order, and retries."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.tracking import store
from mnist_exp.tracking.events import Close, Event, LogTags, Opened, Opening, Published
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.mlflow_backend import OUTCOME_TAG, open_mlflow_run

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10  # after a failure the next event is the next attempt, at the earliest after this
LOCKED_SECONDS = 60  # how long the end of a run waits for another writer of the store


class Backend(Protocol):
    """Where events are published; once more leaves the run as it is."""

    experiment_id: str
    run_id: str

    def publish(self, event: Any, /) -> None: ...


OpenBackend = Callable[[TrackingConfig, Opening, Path, str], Backend]


class Clock(Protocol):
    """The module `time`, or a test's."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class UploadQueue:
    """The events of a run that are not published yet: training never waits for the store.

    A failure is a warning; the next attempt comes with a later event, the last one with `finish`.
    """

    def __init__(
        self,
        config: TrackingConfig,
        journal: Journal,
        *,
        on_open: Callable[[Any], None] = lambda backend: None,
        open_backend: OpenBackend = open_mlflow_run,
        check_reachable: Callable[[TrackingConfig], None] = store.check_reachable,
        clock: Clock = time,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """For the journal of a run folder; `on_open` receives the backend once it is open."""
        self.folder, self.config, self.journal = journal.path.parent, config, journal
        self._events: deque[Event] = deque(journal.events)
        self._on_open, self._open_backend = on_open, open_backend
        self._check_reachable, self._clock = check_reachable, clock
        self._retry_seconds = retry_seconds
        self._backend: Backend | None = None
        self._started: Future[None] | None = None
        self._error: Exception | None = None
        self._silent_until = 0.0
        self._thread = ThreadPoolExecutor(1, "mlflow")

    def start(self) -> None:
        """Start to publish in the background."""
        if self._started is None and self.config.enabled:
            self._started = self._thread.submit(self._drain)

    def wait_for_first_attempt(self) -> None:
        """Wait until the run is open in the store, or could not be opened."""
        self.start()
        if self._started:
            self._started.result()

    @property
    def page(self) -> str:
        """Where the run is seen in MLflow; empty as long as it is not open."""
        run = self._backend
        return store.page(self.config, run.experiment_id, run.run_id) if run else ""

    def append(self, event: Event) -> None:
        """Add an event of the journal; `wake` publishes it."""
        self._events.append(event)

    def wake(self) -> None:
        """Publish in the background what was appended, once `start` was called."""
        if self._started:
            self._thread.submit(self._drain)

    def finish(self) -> bool:
        """Whether the store has everything now; a warning says what it lacks, and why."""
        if not self.config.enabled:
            return True
        self._started = self._thread.submit(self._drain_to_the_end)
        self._thread.shutdown()  # when that is done
        if self._events and self._error:
            logger.warning(
                f"not all of this run could be published ({store.reason(self._error)}); it is kept "
                f"in {self.folder}, and published with: python -m mnist_exp sync {self.folder}"
            )
        return not self._events

    def _drain(self, *, last: bool = False) -> None:
        """Publish the events in order; stop at the first failure.

        The `last` time a failure is skipped as long as the store answers: the run must be closed.
        """
        if self._clock.monotonic() < self._silent_until and not last:
            return
        skipped: list[Event] = []
        try:
            backend = self._opened()
            while self._events:
                try:
                    self._apply(self._events[0], backend, is_complete=not skipped)
                except Exception as error:
                    if not last or _is_locked(error):
                        raise
                    self._error = error
                    self._check_reachable(self.config)
                    skipped.append(self._events[0])
                self._events.popleft()
            if not skipped:
                self._error = None
        except Exception as error:  # whatever a store raises: training goes on without it
            if not self._error and not last:
                logger.warning(
                    f"the run cannot be published now ({store.reason(error)}); it goes on, and "
                    "what is missing follows when the store can be used"
                )
            self._error = error
            self._silent_until = self._clock.monotonic() + self._retry_seconds
        self._events.extendleft(reversed(skipped))

    def _drain_to_the_end(self) -> None:
        """Publish the events a last time, waiting for a store that another process has locked."""
        until = self._clock.monotonic() + LOCKED_SECONDS
        self._drain(last=True)
        if self._events and _is_locked(self._error):
            logger.info(f"another process has locked the store; waiting {LOCKED_SECONDS} s at most")
        while self._events and _is_locked(self._error) and self._clock.monotonic() < until:
            self._clock.sleep(0.5)
            self._drain(last=True)
        if not self._events:
            self.journal.append(Published())

    def _apply(self, event: Event, backend: Backend, *, is_complete: bool) -> None:
        """Publish the event; a run that lacks something is not FINISHED."""
        if isinstance(event, Close) and event.status == "FINISHED" and not is_complete:
            backend.publish(LogTags({OUTCOME_TAG: "unpublished"}))
            event = replace(event, status="FAILED")
        backend.publish(event)

    def _opened(self) -> Backend:
        """The run in the store, opened once."""
        if self._backend is None:
            assert self.journal.opening
            known = self.journal.run_id
            opened = self._open_backend(self.config, self.journal.opening, self.folder, known)
            if opened.run_id != known:
                self.journal.append(Opened(opened.run_id))
            self._backend = opened
            self._on_open(opened)
        return self._backend


def _is_locked(error: Exception | None) -> bool:
    return "database is locked" in str(error)
