"""A short trial of a model: how long a training step takes."""

from math import inf

import keras
import numpy as np
import tensorflow as tf

from mnist_exp.config.model import ModelConfig
from mnist_exp.config.schema import TrainConfig
from mnist_exp.models.families import build_model
from mnist_exp.training.epoch import EpochLoop

STEPS, REPEATS = 5, 3


def seconds_per_step(model: ModelConfig, batch_size: int, precision: str, jit: bool) -> float:
    """The least of a few measurements, without compiling; inf where TensorFlow cannot do it."""
    built = build_model(model, precision=precision)
    train = TrainConfig.model_construct(
        batch_size=batch_size, precision=precision, jit=jit, label_smoothing=0.0, ema=None
    )
    n = STEPS * batch_size
    loop = EpochLoop(built, keras.optimizers.SGD(0.0), train, n=n)
    loop.images = tf.zeros([n, 28, 28], tf.uint8)
    loop.labels = tf.zeros([n], tf.int32)
    loop.validation = np.empty((0, 28, 28), np.uint8), np.empty(0, np.int32)
    try:
        loop.compile(STEPS)
        return min(loop.compile(STEPS) for _ in range(REPEATS)) / STEPS
    except tf.errors.OpError:
        return inf
