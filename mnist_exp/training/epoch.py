"""Training as compiled chunks of steps (Keras' `steps_per_execution`), data on the device."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import Optimizer

from mnist_exp.config.schema import TrainConfig
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.forward import BATCH
from mnist_exp.models.layers import BatchNormalization
from mnist_exp.training.step_curve import POINTS

TINY = 1e-30  # keeps the logarithm of a probability that underflowed finite, and its gradient
STATISTICS = 5000  # training images from which batch normalization's statistics are recomputed
CHUNK_SECONDS = 0.4  # between two returns to the host: bounds the response to Ctrl-C


class EpochLoop:
    """A model, its optimizer and its data, compiled into chunks of training steps."""

    def __init__(
        self, model: keras.Model, optimizer: Optimizer, config: TrainConfig, *, n: int
    ) -> None:
        """For `n` training images, which `start` brings; `config` has no `auto` left."""
        self.model, self.optimizer = model, optimizer
        self.precision, self.jit = config.precision, bool(config.jit)
        self.batch_size, self.ema = config.batch_size, config.ema
        self.full_batches, rest = divmod(n, config.batch_size)
        self.steps = self.full_batches + bool(rest)
        activation = model.layers[-1].activation
        self.loss = loss_function(activation, config.label_smoothing)
        self.plain_loss = loss_function(activation)  # val/loss, like test/loss, has no smoothing
        self.weights = model.trainable_variables
        optimizer.build(self.weights)
        self.averages = [tf.Variable(weight) for weight in self.weights] if config.ema else []
        self.chunk_seconds, self._chunk_steps = CHUNK_SECONDS, 1
        self._chunk = tf.function(self._steps, jit_compile=self.jit, autograph=False)
        batch = [tf.TensorSpec([None, 28, 28], tf.uint8), tf.TensorSpec([None], tf.int32)]
        rate = tf.TensorSpec([], tf.float32)
        self._last_batch = tf.function(self._step, [*batch, rate], autograph=False)
        self._score = tf.function(self._evaluate, batch, autograph=False)
        self._recompute = tf.function(self._recompute_statistics, batch[:1], autograph=False)

    def start(self, model: keras.Model, optimizer: Optimizer, data: Dataset) -> None:
        """Reset to this data, this untrained model and its optimizer, built like the loop's own."""
        self.images = tf.constant(data.train_images)
        self.labels = tf.constant(data.train_labels, tf.int32)
        self.validation = (data.validation_images, data.validation_labels.astype(np.int32))
        optimizer.build(model.trainable_variables)
        ours = [*self.model.variables, *self.optimizer.variables]
        for variable, fresh in zip(ours, [*model.variables, *optimizer.variables], strict=True):
            variable.assign(fresh)

    @property
    def _variables(self) -> list[Any]:
        """Every variable that a step may change, the seeds of dropout's masks included."""
        return [*self.model.variables, *self.optimizer.variables, *self.averages]

    def state(self) -> list[np.ndarray]:
        """All that the next step depends on, for `restore`."""
        return [np.array(variable.numpy()) for variable in self._variables]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Set every variable to that state; raises `InputError` for that of another model."""
        if [value.shape for value in state] != [tuple(v.shape) for v in self._variables]:
            raise InputError(
                "expected checkpoints of this run, got those of another model or optimizer; "
                "remove them to begin it anew"
            )
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)

    def compile(self, steps: int = 0) -> float:
        """Build the graphs, and take so many steps to try them; the seconds it took."""
        started = time.perf_counter()
        if self.steps > self.full_batches:
            self._last_batch.get_concrete_function()
        if len(self.validation[1]):
            self._score.get_concrete_function()
        if self.full_batches:
            rates, slots = tf.zeros(self.steps), tf.zeros(self.steps, tf.int32)
            bounds = tf.constant(0), tf.constant(steps)
            self._chunk((self.images, self.labels), rates, slots, bounds, _no_sums())
        return time.perf_counter() - started

    def run(
        self,
        permutation: np.ndarray,
        learning_rates: np.ndarray,
        slots: np.ndarray,
        progress: Callable[[int, dict[str, float]], None],
        augment: Callable[[Any], Any] = lambda images: images,
    ) -> tuple[dict[str, float], np.ndarray]:
        """Train one epoch; its mean loss and accuracy over all images, learning rate and seconds.

        `permutation` (n,) orders the images, `learning_rates` and `slots` are (steps,), `augment`
        changes the images. After every chunk `progress` gets its last step and the epoch's means so
        far. The array that comes back with the means is (slots, 3): the loss, the correct answers
        and the images of the steps of each slot.
        """
        started, n = time.perf_counter(), len(permutation)
        # All at once and in threads: a gather per step made a dense epoch 3 to 6 % longer.
        images = augment(tf.gather(self.images, permutation))
        labels = tf.gather(self.labels, permutation)
        rates, on_device = tf.constant(learning_rates, tf.float32), tf.constant(slots)
        sums, step = _no_sums(), 0
        while step < self.full_batches:
            before = time.perf_counter()
            stop = min(step + self._chunk_steps, self.full_batches)
            bounds = tf.constant(step), tf.constant(stop)
            sums = self._chunk((images, labels), rates, on_device, bounds, sums)
            means = _means(sums, stop * self.batch_size)  # waits for the device
            self._pace(stop - step, time.perf_counter() - before)
            step = stop
            progress(step - 1, means)
        sizes = np.minimum(self.batch_size, n - self.batch_size * np.arange(self.steps))
        curve = np.column_stack([sums[2][: slots[-1] + 1], np.bincount(slots, sizes)])
        if step < self.steps:  # the smaller last batch has a graph of its own
            rest = slice(step * self.batch_size, None)
            loss, correct = self._last_batch(images[rest], labels[rest], rates[step])
            means = _means((sums[0] + loss, sums[1] + correct), n)
            curve[-1, :2] += float(loss), float(correct)
            progress(step, means)
        return {
            "train/loss": means["loss"],
            "train/accuracy": means["accuracy"],
            "train/learning_rate": float(rates[-1]),
            "train/epoch_seconds": time.perf_counter() - started,
        }, curve

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation images; empty when there are none."""
        images, labels = self.validation
        n = len(labels)
        if not n:
            return {}
        batches = [slice(first, first + BATCH) for first in range(0, n, BATCH)]
        parts = [self._score(images[batch], labels[batch]) for batch in batches]
        loss, correct = (sum(float(part[k]) for part in parts) for k in (0, 1))
        return {"val/loss": loss / n, "val/accuracy": correct / n}

    def is_finite(self) -> bool:
        """Whether the model's scores of some training images are finite."""
        scores = self.model(tf.cast(self.images[:BATCH], tf.float32), training=False)
        return bool(tf.reduce_all(tf.math.is_finite(scores)))

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Context manager: the model holds the averaged weights, afterwards the trained ones."""
        trained = [v.numpy() for v in self.model.variables] if self.averages else []
        try:
            self.keep_averaged_weights()
            yield
        finally:
            for variable, value in zip(self.model.variables, trained, strict=False):
                variable.assign(value)

    def keep_averaged_weights(self) -> None:
        """Replace the model's weights by their averages, where there are any.

        Batch normalization's statistics are recomputed with them: those of the trained weights, or
        an average of such, belong to other activations.
        """
        for weight, average in zip(self.weights, self.averages, strict=False):
            weight.assign(average)
        if self.averages and any(isinstance(x, BatchNormalization) for x in self.model.layers):
            self._recompute(self.images[:STATISTICS])

    def _pace(self, steps: int, seconds: float) -> None:
        """Aim the next chunk at `chunk_seconds`; it grows at most fourfold."""
        wanted = int(steps * self.chunk_seconds / max(seconds, 1e-6))
        self._chunk_steps = max(1, min(wanted, 4 * self._chunk_steps))

    def _steps(self, data: Any, rates: Any, slots: Any, bounds: Any, sums: Any) -> Any:
        """Take the steps within the bounds; add their loss and correct answers to the sums.

        One running sum over the epoch does not depend on how it is cut into chunks.
        """
        (images, labels), (start, stop) = data, bounds

        def body(i: Any, loss: Any, correct: Any, by_slot: Any) -> Any:
            first = i * self.batch_size
            batch_images = tf.slice(images, [first, 0, 0], [self.batch_size, 28, 28])
            batch_labels = tf.slice(labels, [first], [self.batch_size])
            step_loss, step_correct = self._step(batch_images, batch_labels, rates[i])
            row = tf.stack([step_loss, tf.cast(step_correct, tf.float32)])
            by_slot += tf.where(tf.range(POINTS + 1)[:, None] == slots[i], row, 0.0)
            return i + 1, loss + step_loss, correct + step_correct, by_slot

        # tf.range would recompile for every start and stop.
        return tf.while_loop(lambda i, *_: i < stop, body, (start, *sums))[1:]

    def _step(self, images: Any, labels: Any, rate: Any) -> Any:
        with tf.GradientTape() as tape:
            scores = self.model(tf.cast(images, tf.float32), training=True)
            loss = self.loss(labels, scores)
            mean_loss = loss / tf.cast(tf.size(labels), loss.dtype)
        gradients = tape.gradient(mean_loss, [weight.value for weight in self.weights])
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(gradients, self.weights)
        self._average()
        return loss, _count_correct(labels, scores)

    def _average(self) -> None:
        # The first step starts the average, as in Keras: the random start would linger.
        first = tf.cast(tf.equal(self.optimizer.iterations.value, 1), tf.float32)
        for weight, average in zip(self.weights, self.averages, strict=False):
            keep = (1.0 - first) * self.ema
            average.assign(keep * average + (1.0 - keep) * weight.value)

    def _recompute_statistics(self, images: Any) -> None:
        hidden = tf.cast(images, tf.float32)
        for layer in self.model.layers[1:]:
            recomputes = isinstance(layer, BatchNormalization)
            hidden = layer.recompute_statistics(hidden) if recomputes else layer(hidden)

    def _evaluate(self, images: Any, labels: Any) -> Any:
        scores = self.model(tf.cast(images, tf.float32), training=False)
        return self.plain_loss(labels, scores), _count_correct(labels, scores)


def loss_function(activation: Any, label_smoothing: float = 0.0) -> Callable[[Any, Any], Any]:
    """(integer labels, scores) -> the summed cross-entropy in nats, for scores of `activation`.

    It stands for both of Keras' categorical cross-entropies, which differ only in the labels' form.
    """
    if activation is keras.activations.softmax and not label_smoothing:
        return _cross_entropy
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing, reduction="sum")
    return lambda labels, scores: loss(tf.one_hot(labels, scores.shape[-1]), scores)


def _cross_entropy(labels: Any, scores: Any) -> Any:
    """Keras' formula; with Keras' own graph of it a dense epoch took 5 % longer."""
    classes = scores.shape[-1]
    true = tf.reduce_sum(tf.one_hot(labels, classes) * scores, axis=1)
    total = tf.reduce_sum(scores, axis=1)
    return tf.reduce_sum(tf.math.log(total + classes * TINY) - tf.math.log(true + TINY))


def _no_sums() -> tuple[Any, Any, Any]:
    """Loss and correct answers of no step: of the epoch, and (slots, 2) of each slot."""
    return tf.constant(0.0), tf.constant(0), tf.zeros([POINTS + 1, 2])


def _means(sums: Sequence[Any], n: int) -> dict[str, float]:
    """The sums of loss and correct answers as means over `n` images, by Keras' names."""
    return {"loss": float(sums[0]) / n, "accuracy": int(sums[1]) / n}


def _count_correct(labels: Any, scores: Any) -> Any:
    best = tf.argmax(scores, axis=-1, output_type=labels.dtype)
    return tf.reduce_sum(tf.cast(best == labels, tf.int32))
