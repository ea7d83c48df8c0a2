"""Training as a sequence of epochs: fit, validate, keep the best weights, stop early."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from textwrap import shorten

import keras
import numpy as np
import tensorflow as tf

from mnist_exp.config.augment import AugmentConfig
from mnist_exp.config.model import ModelConfig
from mnist_exp.config.optimizer import OptimizerConfig
from mnist_exp.config.parts import digests
from mnist_exp.config.schema import AnySchedule, TrainConfig
from mnist_exp.core.errors import DivergedError, UnsupportedError
from mnist_exp.data.dataset import Dataset
from mnist_exp.models import families
from mnist_exp.training import augmentation, optimizers
from mnist_exp.training.auto import class_weights
from mnist_exp.training.callbacks import TensorBoard
from mnist_exp.training.checkpoints import BestWeights, Checkpoint, Checkpoints
from mnist_exp.training.epoch import EpochLoop
from mnist_exp.training.step_curve import StepCurve
from mnist_exp.training.transfer import freeze

NOT_COMPILED = {"epochs": 1, "clean_epochs": 0, "checkpoint_every": 1, "patience": None}


@dataclass
class History:
    """The metrics of every epoch, and the time spent."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0  # of training steps, without compiling and validation
    compile_seconds: float = 0.0
    best_epoch: int | None = None  # from 1; None without early stopping: the last one is kept

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on after the epochs of the checkpoint."""
        self.epochs = list(checkpoint.epochs)
        self.seconds = checkpoint.scalars["seconds"]
        self.compile_seconds += checkpoint.scalars["compile_seconds"]

    def metrics(self) -> dict[str, float]:
        """The kept weights' validation metrics, and the seconds of training and compiling."""
        kept = self.best_epoch or len(self.epochs)
        row = self.epochs[kept - 1]
        return {name: value for name, value in row.items() if name.startswith("val/")} | {
            "train/kept_epoch": kept,
            "train/seconds": self.seconds,
            "train/compile_seconds": self.compile_seconds,
        }


def prepare(
    model: ModelConfig, optimizer: OptimizerConfig, train: TrainConfig, data: Dataset, *, seed: int
) -> EpochLoop:
    """The untrained model, its optimizer and its data, ready for `fit`.

    `train` has no `auto` left. The previous call's loop is reused, and its model overwritten, where
    nothing compiled would differ: compiling takes 0.8 s and memory that is never given back.
    """
    weights = class_weights(train.class_weight, data.train_labels, len(data.classes))
    loop = _compiled(
        model,
        optimizer.model_copy(update={"learning_rate": 1.0}),
        train.model_copy(update={**NOT_COMPILED, "class_weight": weights}),
        len(data.train_labels),
        len(data.classes),
        str([digests(each) for each in (model, optimizer, train)]),
    )
    keras.utils.set_random_seed(seed)
    fresh = families.build_model(model, classes=len(data.classes), precision=train.precision)
    loop.start(freeze(fresh, train.freeze), optimizers.build(optimizer), data)
    return loop


def fit(
    loop: EpochLoop,
    train: TrainConfig,
    schedule: AnySchedule,
    augment: AugmentConfig,
    *,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    curve: StepCurve | None = None,
    checkpoints: Checkpoints | None = None,
    start: Checkpoint | None = None,
) -> History:
    """Train the loop's model; it ends with the last, the best or the averaged weights.

    Callbacks receive every epoch's logs, by our names and by Keras', and a batch's once per chunk
    of steps; before an epoch's, `curve` gets its points. From the checkpoint `start`, whose curve
    the caller restores, training resumes bit for bit.
    Raises `UnsupportedError` when this machine cannot do it in this way, and `DivergedError` when
    an epoch's loss is not finite.
    """
    model, optimizer = loop.model, loop.optimizer
    model.optimizer, model.stop_training = optimizer, False  # where callbacks look
    peak = float(optimizer.learning_rate)
    hooks = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=train.epochs, steps=loop.steps
    )
    history, best = History(compile_seconds=_compile(loop)), BestWeights(train.patience)
    curve = curve or StepCurve(loop.steps, train.epochs)
    if start:
        loop.restore(start.arrays["state"])
        history.restore(start)
        best = BestWeights.restored(start, train.patience)
    hooks.on_train_begin()
    if any(isinstance(each, keras.callbacks.ReduceLROnPlateau) for each in callbacks):
        optimizer.learning_rate = peak  # which they reduce again
    _replay(hooks, history.epochs)
    for epoch in range(len(history.epochs), train.epochs):
        if best.is_stale(epoch) or model.stop_training:
            break
        hooks.on_epoch_begin(epoch)
        permutation = np.random.default_rng([seed, epoch]).permutation(len(loop.labels))
        rates = _learning_rates(loop, schedule, peak, epoch, train.epochs)
        is_clean = epoch >= train.epochs - train.clean_epochs
        settings = None if is_clean else augment
        change = partial(augmentation.augment, settings, [seed, epoch, 1])
        slots = curve.slots(epoch)
        row, sums = loop.run(permutation, rates, slots, hooks.on_train_batch_end, change)
        _refuse_divergence(row["train/loss"], epoch, peak)
        curve.add(epoch, sums, rates)
        is_due = checkpoints is not None and checkpoints.is_due(epoch + 1)
        state = loop.state() if is_due else []
        with loop.averaged_weights():
            row |= loop.validate()
            _refuse_divergence(row.get("val/loss", 0.0), epoch, peak)
            history.epochs.append(row)
            history.seconds += row["train/epoch_seconds"]
            best.update(model, epoch + 1, row)
            if checkpoints and state:
                checkpoints.save(epoch + 1, _checkpoint(state, history, best, curve))
            hooks.on_epoch_end(epoch, _logs(row))
    done = len(history.epochs)
    if checkpoints and not checkpoints.is_due(done):  # the run may be extended from its end
        checkpoints.save(done, _checkpoint(loop.state(), history, best, curve))
    loop.keep_averaged_weights()
    history.best_epoch = best.restore(model)
    if not loop.is_finite():  # no epoch's loss includes the last step's update
        _refuse_divergence(math.nan, len(history.epochs) - 1, peak)
    hooks.on_train_end(history.epochs[-1])
    return history


def _logs(row: dict[str, float]) -> dict[str, float]:
    """The epoch's figures by our names, and by those that Keras' callbacks monitor: val_loss."""
    return row | {
        name.removeprefix("train/").replace("/", "_"): value
        for name, value in row.items()
        if name != "train/epoch_seconds"
    }


def _replay(hooks: keras.callbacks.CallbackList, epochs: list[dict[str, float]]) -> None:
    """Show the epochs before a checkpoint to those callbacks whose state they make up."""
    for epoch, row in enumerate(epochs):
        for callback in hooks.callbacks:
            if isinstance(callback, (keras.callbacks.ReduceLROnPlateau, TensorBoard)):
                callback.on_epoch_end(epoch, _logs(row))


def _compile(loop: EpochLoop) -> float:
    """The seconds of compiling. oneDNN reports only at a step what it cannot do in bfloat16."""
    state = [] if loop.precision == "float32" else loop.state()
    try:
        seconds = loop.compile(steps=1 if state else 0)
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError as error:
        raise UnsupportedError(
            f"train.precision={loop.precision} train.jit={str(loop.jit).lower()}: TensorFlow "
            f"cannot do this here ({shorten(error.message, 160, placeholder=' ...')}); set "
            "train.precision=float32 train.jit=false"
        ) from error
    if state:
        loop.restore(state)
    return seconds


def _learning_rates(
    loop: EpochLoop, schedule: AnySchedule, peak: float, epoch: int, epochs: int
) -> np.ndarray:
    """The learning rate of each step of the epoch, counted from 0."""
    if schedule.name == "constant" and not schedule.warmup:
        # Read anew: a callback such as ReduceLROnPlateau may have changed it.
        return np.full(loop.steps, loop.optimizer.learning_rate, np.float32)
    steps = range(epoch * loop.steps, (epoch + 1) * loop.steps)
    return optimizers.learning_rate_schedule(schedule, peak, epochs * loop.steps, steps)


def _checkpoint(
    state: Sequence[np.ndarray], history: History, best: BestWeights, curve: StepCurve
) -> Checkpoint:
    scalars = {
        "seconds": history.seconds,
        "compile_seconds": history.compile_seconds,
        "best_loss": best.loss,
        "best_epoch": best.epoch,
        "patience_since": best.patience_since,
    }
    arrays = {"state": state, "best": best.weights, "curve": curve.state()}
    return Checkpoint(list(history.epochs), scalars, arrays)


@lru_cache(maxsize=1)
def _compiled(
    model: ModelConfig,
    optimizer: OptimizerConfig,
    train: TrainConfig,
    n: int,
    classes: int,
    sources: str,
) -> EpochLoop:
    """The loop shared by all trainings that differ in none of these."""
    built = families.build_model(model, classes=classes, precision=train.precision)
    return EpochLoop(freeze(built, train.freeze), optimizers.build(optimizer), train, n=n)


def _refuse_divergence(loss: float, epoch: int, rate: float) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss} in epoch {epoch + 1}: lower optimizer.learning_rate "
            f"(now {rate:g}) and run again"
        )
