"""Training's progress: a bar, a line per epoch, TensorBoard's files; and Keras' callbacks."""

import logging
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mnist_exp.config.callbacks import CallbackConfig, PythonCallbackConfig, TensorBoardConfig
from mnist_exp.config.parts import Part, call_part
from mnist_exp.core.console import TimeLeft, console
from mnist_exp.core.files import short_path
from mnist_exp.training.step_curve import StepCurve

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


class TensorBoard(keras.callbacks.Callback):
    """Writes the figures of MLflow as TensorBoard's files, at the same steps."""

    def __init__(self, folder: Path, curve: StepCurve) -> None:
        """For the files in `folder`; `curve` has an epoch's points when the epoch ends."""
        super().__init__()
        self.curve, self.written = curve, 0
        self.writer = tf.summary.create_file_writer(str(folder))
        brought = "" if find_spec("tensorboard") else "pip install tensorboard, then "
        logger.info(f"in TensorBoard: {brought}tensorboard --logdir {short_path(folder.parent)}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write the epoch's figures, and the new points of the curve."""
        self._write(logs or {}, epoch + 1)
        for row in self.curve.rows[self.written :]:
            self._write(row, int(row["step"]))
        self.written = len(self.curve.rows)
        self.writer.flush()

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Write the final figures."""
        self._write(logs or {}, 0)
        self.writer.close()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        # As raw protobuf: tf.summary.scalar needs the package tensorboard.
        summary = tf.compat.v1.Summary()
        for name in filter(lambda name: "/" in name, values):  # Keras' names are the same figures
            summary.value.add(tag=name, simple_value=values[name])
        with self.writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step)


def build(config: CallbackConfig, folder: Path, curve: StepCurve) -> keras.callbacks.Callback:
    """The callback of the config; TensorBoard's files go into `folder`."""
    if isinstance(config, TensorBoardConfig):
        return TensorBoard(folder, curve)
    if isinstance(config, PythonCallbackConfig):
        part = Part("callbacks.build", config.build, config.args)
        return call_part(part, kind=keras.callbacks.Callback)
    mode = "max" if config.monitor.endswith("accuracy") else "min"
    return keras.callbacks.ReduceLROnPlateau(mode=mode, **config.model_dump(exclude={"name"}))
