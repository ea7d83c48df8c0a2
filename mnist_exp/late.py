"""A record whose run is opened while training goes on: importing MLflow takes as long."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp.data import Dataset
from mnist_exp.records import Record
from mnist_exp.signals import uninterrupted


class LateRecord(Record):
    """A run that a thread of its own opens, from `begin` on or when it is needed.

    Tags and figures told before the run is open are published in order as soon as it is; what
    could not be is tried again, and its error raised, when something is told later.
    """

    def __init__(self, open_run: Callable[[], Record]) -> None:
        self._open_run = open_run
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._opening: Future[Record] | None = None
        self._waiting: list[Callable[[Record], None]] = []
        self._told: list[tuple[Callable[[Record], None], Future[None]]] = []

    @uninterrupted()
    def begin(self) -> None:
        if self._opening is None:
            self._opening = self._thread.submit(self._open_run)
            for tell in self._waiting:
                self._later(self._opening, tell)

    def check(self) -> None:
        if self._opening and self._opening.done():
            self._opening.result()

    @property
    def run_id(self) -> str:  # type: ignore[override]
        """The run's id; empty when it could not be opened."""
        opening = self._begun()
        return "" if opening.exception() else opening.result().run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._tell(lambda run: run.log_params(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int, at: float | None = None) -> None:
        found = at or time.time()  # not when the run is open
        self._tell(lambda run: run.log_metrics(metrics, step, found))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        self._tell(lambda run: run.log_tags(tags))

    def log_data(self, data: Dataset) -> None:
        self._tell(lambda run: run.log_data(data))

    def log_model(self, model: Any, example: np.ndarray) -> None:
        self._opened().log_model(model, example)

    def log_files(self, folder: Path, names: Sequence[str]) -> None:
        self._opened().log_files(folder, names)

    def close(self, status: str) -> None:
        run = self._begun().result()
        self._thread.shutdown()
        run.close(status)

    def _tell(self, tell: Callable[[Record], None]) -> None:
        """Tells the run at once where it is open, else as soon as it is."""
        if self._opening is None:
            self._waiting.append(tell)
        elif self._opening.done():
            tell(self._opened())
        else:
            self._later(self._opening, tell)

    def _later(self, opening: Future[Record], tell: Callable[[Record], None]) -> None:
        self._told.append((tell, self._thread.submit(lambda: tell(opening.result()))))

    def _opened(self) -> Record:
        """The open run, once it was told all; raises the first thing that went wrong."""
        run = self._begun().result()
        while self._told:
            tell, future = self._told[0]
            if future.exception():
                tell(run)
            del self._told[0]
        return run

    def _begun(self) -> Future[Record]:
        self.begin()
        assert self._opening
        return self._opening
