"""One epoch as a compiled graph: data on the device, the host looks in twice a second."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnist_exp.config.schema import Train
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.forward import BATCH
from mnist_exp.models.layers import BatchNormalization

TINY = 1e-30  # a share that underflows keeps a finite logarithm, and a gradient
STATISTICS = 5000  # training images that tell averaged weights' normalisation its statistics
CHUNK_SECONDS = 0.4  # how long the host may be away: bounds the answer to a Ctrl-C


class EpochLoop:
    """A model, its optimizer and its data, compiled into stretches of training steps."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        config: Train,
        *,
        n: int,
    ) -> None:
        """For `n` training images, which `start` brings; `config` has no `auto` left."""
        self.model, self.optimizer = model, optimizer
        self.precision, self.jit = config.precision, bool(config.jit)
        self.batch = config.batch_size
        self.whole, rest = divmod(n, config.batch_size)
        self.steps = self.whole + bool(rest)
        activation = model.layers[-1].activation
        self.loss = loss_function(activation, config.label_smoothing)
        self.plain_loss = loss_function(activation)  # what test/loss is, whatever the smoothing
        self.momentum = config.ema
        self.variables = model.trainable_variables
        optimizer.build(self.variables)
        self.averages = [tf.Variable(v) for v in self.variables] if config.ema else []
        self._chunk = tf.function(self._steps, jit_compile=self.jit, autograph=False)
        batch = [tf.TensorSpec([None, 28, 28], tf.uint8), tf.TensorSpec([None], tf.int32)]
        rate = tf.TensorSpec([], tf.float32)
        self._last_batch = tf.function(self._step, [*batch, rate], autograph=False)
        self._score = tf.function(self._evaluate, batch, autograph=False)
        self._recompute = tf.function(self._recompute_statistics, batch[:1], autograph=False)
        self._chunk_steps = 1

    def start(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, data: Dataset
    ) -> None:
        """Begins (anew) as this untrained model would with this optimizer; what is compiled stays.

        Both are built like the loop's own.
        """
        self.images = tf.constant(data.train_images)
        self.labels = tf.constant(data.train_labels, tf.int32)
        self.validation = (data.validation_images, data.validation_labels.astype(np.int32))
        optimizer.build(model.trainable_variables)
        ours = [*self.model.variables, *self.optimizer.variables]
        for variable, fresh in zip(ours, [*model.variables, *optimizer.variables], strict=True):
            variable.assign(fresh)

    @property
    def _state(self) -> list[Any]:
        """Every variable that a step may change, those that seed dropout's masks included."""
        return [*self.model.variables, *self.optimizer.variables, *self.averages]

    def state(self) -> list[np.ndarray]:
        """All that a next step depends on, to be given to `restore`."""
        return [np.array(variable.numpy()) for variable in self._state]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Goes back, or on, to that state; raises `InputError` for that of another model."""
        if [value.shape for value in state] != [tuple(v.shape) for v in self._state]:
            raise InputError(
                "expected checkpoints of this run, got those of another model or optimizer; "
                "remove them to begin it anew"
            )
        for variable, value in zip(self._state, state, strict=True):
            variable.assign(value)

    def compile(self) -> float:
        """Builds the graphs without taking a step; the seconds it took."""
        started = time.perf_counter()
        if self.steps > self.whole:
            self._last_batch.get_concrete_function()
        if len(self.validation[1]):
            self._score.get_concrete_function()
        if self.whole:
            data = (self.images, self.labels, tf.zeros(self.steps))
            self._chunk(*data, tf.constant(0), tf.constant(0), tf.constant(0.0), tf.constant(0))
        return time.perf_counter() - started

    def run(
        self,
        permutation: np.ndarray,
        learning_rates: np.ndarray,
        progress: Callable[[int, dict[str, float]], None],
        augment: Callable[[Any], Any] = lambda images: images,
    ) -> dict[str, float]:
        """The epoch's row: mean loss and accuracy over all images, rate and seconds.

        `order` (n,) is the permutation of the images, `rates` (steps,) the learning rates;
        `progress` is told the last step done, and the figures so far, after every stretch;
        `augment` changes the images.
        """
        started = time.perf_counter()
        # All at once and in threads: a gather per step made a dense epoch 3 to 6 % longer.
        images, labels = (
            augment(tf.gather(self.images, permutation)),
            tf.gather(self.labels, permutation),
        )
        learning_rates = tf.constant(learning_rates, tf.float32)
        loss, correct = tf.constant(0.0), tf.constant(0)
        step = 0
        while step < self.whole:
            before = time.perf_counter()
            stop = min(step + self._chunk_steps, self.whole)
            chunk = tf.constant(step), tf.constant(stop)
            loss, correct = self._chunk(images, labels, learning_rates, *chunk, loss, correct)
            so_far = _means(loss, correct, stop * self.batch)  # waits for the device
            self._pace(stop - step, time.perf_counter() - before)
            step = stop
            progress(step - 1, so_far)
        if step < self.steps:  # the smaller last batch has a graph of its own
            rest = slice(step * self.batch, None)
            sums = self._last_batch(images[rest], labels[rest], learning_rates[step])
            loss, correct = loss + sums[0], correct + sums[1]
            so_far = _means(loss, correct, len(permutation))
            progress(step, so_far)
        return {
            "train/loss": so_far["loss"],
            "train/accuracy": so_far["accuracy"],
            "train/learning_rate": float(learning_rates[-1]),
            "train/epoch_seconds": time.perf_counter() - started,
        }

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation images; nothing when there are none."""
        images, labels = self.validation
        n = len(labels)
        if not n:
            return {}
        parts = [
            self._score(images[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, n, BATCH)
        ]
        loss, correct = (sum(float(part[k]) for part in parts) for k in (0, 1))
        return {"val/loss": loss / n, "val/accuracy": correct / n}

    def is_finite(self) -> bool:
        """Whether the model's scores of some training images are numbers."""
        scores = self.model(tf.cast(self.images[:BATCH], tf.float32), training=False)
        return bool(tf.reduce_all(tf.math.is_finite(scores)))

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within: the model holds the averaged weights; afterwards the trained ones again."""
        trained = [v.numpy() for v in self.model.variables] if self.averages else []
        try:
            self.keep_averaged_weights()
            yield
        finally:
            for variable, value in zip(self.model.variables, trained, strict=False):
                variable.assign(value)

    def keep_averaged_weights(self) -> None:
        """The averaged weights, where there are any, become the model's.

        So do the statistics that normalisation finds with them: those of the trained weights, or an
        average of such, are of other activations.
        """
        for variable, average in zip(self.variables, self.averages, strict=False):
            variable.assign(average)
        if self.averages and any(isinstance(x, BatchNormalization) for x in self.model.layers):
            self._recompute(self.images[:STATISTICS])

    def _pace(self, steps: int, seconds: float) -> None:
        """Aims the next stretch at STRETCH_SECONDS, growing at most fourfold."""
        wanted = int(steps * CHUNK_SECONDS / max(seconds, 1e-6))
        self._chunk_steps = max(1, min(wanted, 4 * self._chunk_steps))

    def _steps(
        self,
        images: Any,
        labels: Any,
        learning_rates: Any,
        start: Any,
        stop: Any,
        loss: Any,
        correct: Any,
    ) -> Any:
        """Steps start to stop; the sums of loss and hits, those before included.

        Going on with one sum, the record does not depend on how an epoch was cut into stretches.
        (tf.range would recompile per value.)
        """

        def body(i: Any, loss: Any, correct: Any) -> Any:
            first = i * self.batch
            batch_images = tf.slice(images, [first, 0, 0], [self.batch, 28, 28])
            batch_labels = tf.slice(labels, [first], [self.batch])
            step_loss, step_correct = self._step(batch_images, batch_labels, learning_rates[i])
            return i + 1, loss + step_loss, correct + step_correct

        return tf.while_loop(lambda i, *_: i < stop, body, (start, loss, correct))[1:]

    def _step(self, images: Any, labels: Any, rate: Any) -> Any:
        with tf.GradientTape() as tape:
            scores = self.model(tf.cast(images, tf.float32), training=True)
            loss = self.loss(labels, scores)
            mean_loss = loss / tf.cast(tf.size(labels), loss.dtype)
        gradients = tape.gradient(mean_loss, [v.value for v in self.variables])
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(gradients, self.variables)
        self._average()
        return loss, _count_correct(labels, scores)

    def _average(self) -> None:
        # The first step starts the average, as Keras does: the random start would linger.
        first = tf.cast(tf.equal(self.optimizer.iterations.value, 1), tf.float32)
        for variable, average in zip(self.variables, self.averages, strict=False):
            keep = (1.0 - first) * self.momentum
            average.assign(keep * average + (1.0 - keep) * variable.value)

    def _recompute_statistics(self, images: Any) -> None:
        hidden = tf.cast(images, tf.float32)
        for layer in self.model.layers[1:]:
            recomputes = isinstance(layer, BatchNormalization)
            hidden = layer.recompute_statistics(hidden) if recomputes else layer(hidden)

    def _evaluate(self, images: Any, labels: Any) -> Any:
        scores = self.model(tf.cast(images, tf.float32), training=False)
        return self.plain_loss(labels, scores), _count_correct(labels, scores)


def loss_function(activation: Any, label_smoothing: float = 0.0) -> Callable[[Any, Any], Any]:
    """(integer labels, scores) -> the summed cross-entropy in nats, `activation` the scores' own.

    It is both of Keras' categorical cross-entropies: they differ only in how labels are written.
    """
    if activation is keras.activations.softmax and not label_smoothing:
        return _cross_entropy
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing, reduction="sum")
    return lambda labels, scores: loss(tf.one_hot(labels, 10), scores)


def _cross_entropy(labels: Any, scores: Any) -> Any:
    """As Keras', whose graph of it made a dense epoch 5 % longer."""
    true = tf.reduce_sum(tf.one_hot(labels, 10) * scores, axis=1)
    total = tf.reduce_sum(scores, axis=1)
    return tf.reduce_sum(tf.math.log(total + 10 * TINY) - tf.math.log(true + TINY))


def _means(loss: Any, correct: Any, seen: int) -> dict[str, float]:
    """The sums over `seen` images as means, by Keras' names."""
    return {"loss": float(loss) / seen, "accuracy": int(correct) / seen}


def _count_correct(labels: Any, scores: Any) -> Any:
    best = tf.argmax(scores, axis=-1, output_type=labels.dtype)
    return tf.reduce_sum(tf.cast(best == labels, tf.int32))
