"""Layers that compute what Keras' own do, in less time."""

from typing import Any

import keras
import tensorflow as tf

from mnist_exp.core.hardware import has_gpu

MANY = 128  # filters
SMALL = 8  # pixels of a side of the output; on larger maps oneDNN's gradient is the faster one


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation over (n, height, width, channels), in one pass while training.

    Keras' momentum of 0.99 is too slow for a handful of epochs. Its own graph casts to float32 and
    passes over the activations several times: a step of `cnn` at twice its width took 1.2 times
    as long in bfloat16.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **settings: Any) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **settings)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The inputs normalised by their own statistics while training, else by the moving ones."""
        return self._normalise(inputs, self.momentum) if training else super().call(inputs)

    def recompute_statistics(self, inputs: Any) -> Any:
        """The inputs normalised by their own statistics, which become the moving ones."""
        return self._normalise(inputs, 0.0)

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
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(momentum * moving + (1 - momentum) * now)
        return normal


class Dropout(keras.layers.Dropout):
    """Keras' dropout, its mask drawn by Philox: XLA makes that five times faster."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The inputs, with a fraction `rate` of them zeroed while training."""
        if not training or self.rate == 0:
            return inputs
        seed = tf.cast(self.seed_generator.next() % tf.int32.max, tf.int32)  # XLA wants int32
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed, rng_alg="philox")


class Conv2D(keras.layers.Conv2D):
    """Keras' convolution; many filters on small maps have a gradient of matrix products.

    oneDNN's gradient of such a kernel is slow in bfloat16: a step of `cnn_wide` took 1.1 times as
    long with it.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The inputs convolved with the kernel."""
        side = self.compute_output_shape(inputs.shape)[1]
        gains = self.compute_dtype == "bfloat16" and self.filters >= MANY and side <= SMALL
        plain = self.kernel_size == (3, 3) and self.strides == (1, 1)
        if gains and plain and not has_gpu():
            return _convolve(inputs, tf.convert_to_tensor(kernel), self.padding.upper())
        return super().convolution_op(inputs, kernel)


def _convolve(inputs: Any, kernel: Any, padding: str) -> Any:
    def convolved(inputs: Any, kernel: Any) -> tuple[Any, Any]:
        return tf.nn.conv2d(inputs, kernel, 1, padding), gradients

    def gradients(upstream: Any) -> tuple[Any, Any]:
        of_inputs = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(inputs),
            filter=kernel,
            out_backprop=upstream,
            strides=[1] * 4,
            padding=padding,
        )
        return of_inputs, _kernel_gradient(inputs, upstream, kernel.shape, padding)

    return tf.custom_gradient(convolved)(inputs, kernel)


def _kernel_gradient(inputs: Any, upstream: Any, shape: Any, padding: str) -> Any:
    """For each place of the kernel: the pixels it met, times the gradient of what it made of them.

    `shape` is the kernel's, (3, 3, channels, filters).
    """
    rows, columns, channels, filters = shape
    height, width = upstream.shape[1:3]
    if padding == "SAME":
        inputs = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    met = [
        tf.reshape(inputs[:, y : y + height, x : x + width], [-1, channels])
        for y in range(rows)
        for x in range(columns)
    ]
    products = tf.matmul(tf.stack(met), tf.reshape(upstream, [1, -1, filters]), transpose_a=True)
    return tf.reshape(products, shape)


STOCK = {
    BatchNormalization: keras.layers.BatchNormalization,
    Conv2D: keras.layers.Conv2D,
    Dropout: keras.layers.Dropout,
}
