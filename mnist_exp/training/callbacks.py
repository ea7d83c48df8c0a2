"""Training's progress: a live bar in a terminal, a plain line per epoch everywhere."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mnist_exp.core.console import TimeLeft, console

logger = logging.getLogger(__name__)


class EpochBar(keras.callbacks.Callback):
    """Shows epoch, loss, accuracy, validation metrics, images per second and the time left.

    Its `bar` is a context manager, which ends the display.
    """

    def __init__(self, images: int, screen: Console = console) -> None:
        """For epochs of so many `images`."""
        super().__init__()
        self.images = images
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeLeft(compact=True),
            console=screen,
            transient=True,
            disable=not (screen.is_terminal or screen.is_jupyter),
        )
        self.task = self.bar.add_task("compiling", total=None, metrics="")

    def on_train_begin(self, logs: Any = None) -> None:
        """Set the bar's length: all steps of all epochs."""
        self.bar.update(self.task, total=self.params["epochs"] * self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Show the epoch's number."""
        self.done = epoch * self.params["steps"]
        self.started = time.perf_counter()
        self.bar.update(self.task, description=f"epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Move the bar to this step, with the epoch's metrics so far."""
        logs, steps = logs or {}, batch + 1
        speed = steps / self.params["steps"] * self.images / (time.perf_counter() - self.started)
        text = f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:6.2%}"
        self.bar.update(
            self.task, completed=self.done + steps, metrics=f"{text}  {speed:,.0f} images/s"
        )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Log the epoch's line."""
        logger.info(epoch_line(epoch + 1, self.params["epochs"], logs or {}, self.images))


def epoch_line(epoch: int, epochs: int, row: Mapping[str, float], images: int) -> str:
    """One epoch's metrics in a line."""
    seconds = row["train/epoch_seconds"]
    text = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  "
    text += f"loss {row['train/loss']:.4f}  accuracy {row['train/accuracy']:.2%}  "
    if "val/loss" in row:
        text += f"val {row['val/loss']:.4f}  {row['val/accuracy']:.2%}  "
    return f"{text}{seconds:.1f} s  {images / seconds:,.0f} images/s"
