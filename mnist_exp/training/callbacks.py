"""Training made visible: a live bar in a terminal, a plain line per epoch everywhere."""

import csv
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import keras
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mnist_exp.core.console import console
from mnist_exp.sweeps.pruning import Trial

logger = logging.getLogger(__name__)

HISTORY = "history.csv"
EPOCH_COLUMNS = (
    "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy",
    "train/learning_rate", "train/epoch_seconds",
)  # fmt: skip


class EpochBar(keras.callbacks.Callback):
    """Shows epoch, loss, accuracy, validation figures, images per second and the time left."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self.task = self.bar.add_task("compiling", total=None, figures="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def on_train_begin(self, logs: Any = None) -> None:
        """Sets the bar's length: all steps of all epochs."""
        self.bar.update(self.task, total=self.params["epochs"] * self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Names the epoch."""
        self.done = epoch * self.params["steps"]
        self.started = time.perf_counter()
        self.bar.update(self.task, description=f"epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Moves the bar to the step done last, with the epoch's figures so far."""
        figures = logs or {}
        share = (batch + 1) / self.params["steps"]
        speed = share * self.images / (time.perf_counter() - self.started)
        text = f"loss {figures['loss']:.4f}  accuracy {figures['accuracy']:6.2%}"
        self.bar.update(
            self.task,
            completed=self.done + batch + 1,
            figures=f"{text}  {speed:,.0f} images/s",
        )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Leaves the epoch's line behind."""
        logger.info(epoch_line(epoch + 1, self.params["epochs"], logs or {}, self.images))


class LiveMetrics(keras.callbacks.Callback):
    """Tells each epoch's figures to `log_metrics`; `check` is called after every stretch of steps.

    `check` may raise.
    """

    def __init__(
        self, log_metrics: Callable[[Mapping[str, float], int], None], check: Callable[[], None]
    ) -> None:
        super().__init__()
        self.log_metrics, self.check = log_metrics, check

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Lets an interrupt through."""
        self.check()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Tells the epoch's."""
        row = {name: value for name, value in (logs or {}).items() if "/" in name}
        self.log_metrics(row, epoch + 1)


class TrialReport(keras.callbacks.Callback):
    """Tells a search's trial of every epoch; the trial may end the run."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Reports the validation accuracy."""
        is_last = epoch + 1 == self.params["epochs"]
        self.trial.report(epoch + 1, (logs or {})["val/accuracy"], last=is_last)


class EpochFile(keras.callbacks.Callback):
    """Adds each epoch to history.csv as it ends, so that it is kept whatever comes next."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / HISTORY

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Appends the epoch's row; the first has the header above it."""
        with self.path.open("a" if epoch else "w", newline="") as file:
            _write_rows(file, epoch, [logs or {}])


def write_history(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Makes history.csv what it was after these epochs; without any there is none."""
    path = folder / HISTORY
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="") as file:
        _write_rows(file, 0, rows)


def _write_rows(file: IO[str], before: int, rows: Sequence[Mapping[str, float]]) -> None:
    writer = csv.DictWriter(file, EPOCH_COLUMNS, extrasaction="ignore")
    if not before:
        writer.writeheader()
    for epoch, row in enumerate(rows, before + 1):
        writer.writerow({"epoch": epoch, **row})


def epoch_line(epoch: int, epochs: int, row: Mapping[str, float], images: int) -> str:
    """One epoch in words and figures."""
    seconds = row["train/epoch_seconds"]
    text = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  "
    text += f"loss {row['train/loss']:.4f}  accuracy {row['train/accuracy']:.2%}  "
    if "val/loss" in row:
        text += f"val {row['val/loss']:.4f}  {row['val/accuracy']:.2%}  "
    return f"{text}{seconds:.1f} s  {images / seconds:,.0f} images/s"
