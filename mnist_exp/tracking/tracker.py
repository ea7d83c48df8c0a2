"""What is said about one run: written into its folder first, then published from there."""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp.config.schema import Tracking
from mnist_exp.core.errors import InputError
from mnist_exp.core.locks import held
from mnist_exp.core.signals import uninterrupted
from mnist_exp.data.dataset import Dataset
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import CLOSE, Entry, Journal
from mnist_exp.tracking.mlflow_backend import OUTCOME, MlflowRun, bury, the_dead
from mnist_exp.training.checkpoints import FOLDER as CHECKPOINTS

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10  # between attempts while training goes on
LOCKED_SECONDS = 60  # how long the end of a run waits for another writer of the store


class Record:
    """The journal of one run, published by a thread of its own.

    Training neither waits for the store nor ends with it: what cannot be published is told in a
    warning and tried again, now and then, and when the run is closed.
    """

    def __init__(self, folder: Path, config: Tracking, *, sees_to_the_dead: bool = False) -> None:
        """Of the run in `folder`, new or there already, for the store that `config` names.

        With `sees_to_the_dead` the runs of this machine that no process holds any more are
        published as far as they came, and closed.
        """
        self.folder, self.config, self._sees_to_the_dead = folder, config, sees_to_the_dead
        self.journal = Journal(folder)
        self._waiting: deque[Entry] = deque(self.journal.said)
        self._figures = {_which(**said) for verb, said in self._waiting if verb == "log_metrics"}
        self._run: MlflowRun | None = None
        self._begun: Future[None] | None = None
        self._error: Exception | None = None
        self._silent_until = 0.0
        self._thread = ThreadPoolExecutor(1, "mlflow")

    def begin(self) -> None:
        """Begins to publish, while other things go on."""
        if self._begun is None and self.config.enabled:
            self._begun = self._thread.submit(self._publish)

    @property
    def run_id(self) -> str:
        """The MLflow run's id; empty when there is none, or it could not be opened."""
        if not self.journal.run_id:
            self.begin()
            if self._begun:
                self._begun.result()
        return self.journal.run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Config values."""
        self._say("log_params", params=dict(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Figures at `step`, which counts epochs from 1; the same ones of a step are said once."""
        figures = {name: float(value) for name, value in metrics.items()}
        if _which(figures, step) not in self._figures:
            self._figures.add(_which(figures, step))
            self._say("log_metrics", metrics=figures, step=step, at=time.time())

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the run."""
        self._say("log_tags", tags=dict(tags))

    def log_data(self, data: Dataset) -> None:
        """The data set, with its digest, as the run's input."""
        counts = {
            "train_images": len(data.train_images),
            "validation_images": len(data.validation_images),
            "test_images": len(data.test_images),
        }
        self._say("log_data", name=data.name, digest=data.digest, source=data.source, images=counts)

    def log_model(self, name: str, example: np.ndarray) -> None:
        """The Keras model in this file of the folder; `example` (n, 28, 28) are pixels for it."""
        self._say("log_model", name=name, example=example.tolist())

    def log_files(self, names: Sequence[str]) -> None:
        """The files and folders of these names, as far as they are there."""
        self._say("log_files", names=list(names))

    def close_children(self) -> None:
        """Ends as KILLED the runs below this one, on any machine, that are still RUNNING."""
        self._say("close_children")

    def go_on(self) -> None:
        """The run was closed, and is RUNNING again."""
        self._say("go_on")

    def close(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED; returns when all that can be is published."""
        self._keep(CLOSE, status=status, at=time.time())
        self.publish()

    def publish(self) -> bool:
        """Whether the store has everything now; a warning says what it does not have, and why."""
        if not self.config.enabled:
            return True
        self._begun = self._thread.submit(self._publish_all)
        self._thread.shutdown()  # when that is done
        if self._waiting and self._error:
            logger.warning(
                f"not all of this run could be published ({store.reason(self._error)}); it is kept "
                f"in {self.folder}, and published with: python -m mnist_exp sync {self.folder}"
            )
        return not self._waiting

    @uninterrupted()  # what is in the journal waits to be published, too
    def _keep(self, verb: str, **arguments: Any) -> None:
        self.journal.say(verb, **arguments)
        self._waiting.append((verb, arguments))

    def _say(self, verb: str, **arguments: Any) -> None:
        self._keep(verb, **arguments)
        if self._begun:
            self._thread.submit(self._publish)

    def _publish(self, *, last: bool = False) -> None:
        """Publishes what waits, in order, until something cannot be.

        The `last` time, what cannot be is passed over as long as the store answers: the run is to
        be closed.
        """
        if time.monotonic() < self._silent_until and not last:
            return
        passed_over: list[Entry] = []
        try:
            run = self._opened()
            while self._waiting:
                verb, arguments = self._waiting[0]
                if verb == CLOSE and passed_over:
                    arguments = {**arguments, "is_whole": False}
                try:
                    getattr(run, verb)(**arguments)
                except Exception as error:
                    if not last or _is_locked(error):
                        raise
                    self._error = error
                    store.knock(self.config)
                    passed_over.append(self._waiting[0])
                self._waiting.popleft()
            if not passed_over:
                self._error = None
        except Exception as error:  # whatever a store comes to: training goes on without it
            if not self._error and not last:
                logger.warning(
                    f"the run cannot be published now ({store.reason(error)}); it goes on, and "
                    "what is missing follows when the store can be used"
                )
            self._error, self._silent_until = error, time.monotonic() + RETRY_SECONDS
        self._waiting.extendleft(reversed(passed_over))

    def _publish_all(self) -> None:
        """As `_publish` the last time; a store that another process has locked is waited for."""
        until = time.monotonic() + LOCKED_SECONDS
        self._publish(last=True)
        if self._waiting and _is_locked(self._error):
            logger.info(f"another process has locked the store; waiting {LOCKED_SECONDS} s at most")
        while self._waiting and _is_locked(self._error) and time.monotonic() < until:
            time.sleep(0.5)
            self._publish(last=True)
        if not self._waiting:
            self.journal.published()

    def _opened(self) -> MlflowRun:
        """The open run; with the first one, those of this machine that died are seen to."""
        if self._run is None:
            assert self.journal.opening
            with store.opened(self.config) as client:
                self._run = MlflowRun(
                    client,
                    store.uri(self.config),
                    self.journal.opening,
                    self.folder,
                    self.journal.run_id,
                )
                if self._run.run_id != self.journal.run_id:
                    self.journal.opened(self._run.run_id)
            if self._sees_to_the_dead:
                client, experiment = self._run.client, self._run.experiment_id
                for run_id, folder in the_dead(client, [experiment]):
                    see_to(client, run_id, folder, self.config)
        return self._run


def see_to(client: Any, run_id: str, folder: Path, config: Tracking) -> None:
    """Publishes and closes a run whose process died, or that the store did not hear the end of."""
    try:
        status = publish_left(folder, config)
    except InputError:  # it was taken up again meanwhile
        return
    if status not in ("", "KILLED"):
        logger.info(f"run {run_id[:8]} had not been published whole; now it is")
    elif status or bury(client, run_id):
        go_on = f"; go on with it: python -m mnist_exp.run resume={folder}"
        resumable = (folder / CHECKPOINTS).is_dir()
        logger.info(f"run {run_id[:8]} had died; it is KILLED now{go_on if resumable else ''}")


def publish_left(folder: Path, config: Tracking) -> str:
    """The status that the run in this folder, which no process holds, ended with, once published.

    One that died is closed as KILLED. Empty when it cannot be published, or has no journal. Raises
    `InputError` when a process holds it after all.
    """
    try:
        with held(folder):
            record = Record(folder, config)
            if record.journal.opening is None:
                return ""
            if record.journal.status:
                record.publish()
            else:
                record.log_tags({OUTCOME: "interrupted"})
                record.close("KILLED")
    except (OSError, ValueError):  # no folder, or no journal that could be read
        return ""
    return record.journal.status if record.journal.is_published else ""


def _which(metrics: Mapping[str, float], step: int, **_: float) -> tuple[int, frozenset[str]]:
    return step, frozenset(metrics)


def _is_locked(error: Exception | None) -> bool:
    return "database is locked" in str(error)
