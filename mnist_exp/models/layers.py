"""Faster versions of Keras' layers, with the same results."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from mnist_exp.core.hardware import has_gpu

MIN_FILTERS = 128
MAX_SIDE = 8  # pixels of the output; on larger maps oneDNN's gradient is faster


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation over (n, height, width, channels), in one pass while training.

    Keras' momentum of 0.99 is too slow for a handful of epochs. Its graph casts to float32 and
    passes over the activations several times: in bfloat16 a step of `cnn` at twice its width took
    1.2 times as long.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **settings: Any) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **settings)

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """Normalise by the batch statistics while training, else, or frozen, by the moving ones."""
        if self.trainable and (training or _recomputes.get()):
            return self._normalise(inputs, self.momentum if training else 0.0)
        return super().call(inputs)

    def _normalise(self, inputs: Any, momentum: float) -> Any:
        normal, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(momentum * moving + (1 - momentum) * batch)
        return normal


class Dropout(keras.layers.Dropout):
    """Keras' dropout with a Philox mask, which XLA makes five times faster."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Zero a fraction `rate` of the inputs while training."""
        if not training or self.rate == 0:
            return inputs
        seed = tf.cast(self.seed_generator.next() % tf.int32.max, tf.int32)  # XLA wants int32
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed, rng_alg="philox")


class Conv2D(keras.layers.Conv2D):
    """Keras' convolution; for many filters on small maps the gradient is matrix products.

    oneDNN's gradient of such a kernel is slow in bfloat16: a step of `cnn_wide` took 1.1 times as
    long with it.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve the inputs with the kernel."""
        side = self.compute_output_shape(inputs.shape)[1]
        many_on_small = self.filters >= MIN_FILTERS and side <= MAX_SIDE
        plain = self.kernel_size == (3, 3) and self.strides == (1, 1)
        if self.compute_dtype == "bfloat16" and many_on_small and plain and not has_gpu():
            return _convolve(inputs, tf.convert_to_tensor(kernel), self.padding.upper())
        return super().convolution_op(inputs, kernel)


def _convolve(inputs: Any, kernel: Any, padding: str) -> Any:
    def convolved(inputs: Any, kernel: Any) -> tuple[Any, Any]:
        return tf.nn.conv2d(inputs, kernel, 1, padding), gradients

    def gradients(upstream: Any) -> tuple[Any, Any]:
        inputs_gradient = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(inputs),
            filter=kernel,
            out_backprop=upstream,
            strides=[1] * 4,
            padding=padding,
        )
        return inputs_gradient, _kernel_gradient(inputs, upstream, kernel.shape, padding)

    return tf.custom_gradient(convolved)(inputs, kernel)


def _kernel_gradient(inputs: Any, upstream: Any, shape: Any, padding: str) -> Any:
    """Per kernel position: the inputs under it, times the upstream gradient.

    `shape` is the kernel's, (3, 3, channels, filters).
    """
    rows, columns, channels, filters = shape
    height, width = upstream.shape[1:3]
    if padding == "SAME":
        inputs = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    patches = [
        tf.reshape(inputs[:, y : y + height, x : x + width], [-1, channels])
        for y in range(rows)
        for x in range(columns)
    ]
    products = tf.matmul(
        tf.stack(patches), tf.reshape(upstream, [1, -1, filters]), transpose_a=True
    )
    return tf.reshape(products, shape)


@contextmanager
def recomputed_statistics() -> Iterator[None]:
    """Context manager: batch normalization without training takes the statistics of its inputs.

    It makes them its moving ones.
    """
    token = _recomputes.set(True)
    try:
        yield
    finally:
        _recomputes.reset(token)


_recomputes = ContextVar("recomputes", default=False)
STOCK = {layer: layer.__base__ for layer in (BatchNormalization, Conv2D, Dropout)}
FAST = {stock: layer for layer, stock in STOCK.items()}
