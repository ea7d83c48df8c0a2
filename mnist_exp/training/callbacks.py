"""Training made visible: a live bar in a terminal, a plain line per epoch everywhere."""

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import keras
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mnist_exp.core.console import console

logger = logging.getLogger(__name__)


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


def epoch_line(epoch: int, epochs: int, row: Mapping[str, float], images: int) -> str:
    """One epoch in words and figures."""
    seconds = row["train/epoch_seconds"]
    text = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  "
    text += f"loss {row['train/loss']:.4f}  accuracy {row['train/accuracy']:.2%}  "
    if "val/loss" in row:
        text += f"val {row['val/loss']:.4f}  {row['val/accuracy']:.2%}  "
    return f"{text}{seconds:.1f} s  {images / seconds:,.0f} images/s"
