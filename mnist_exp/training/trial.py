"""Short trials: whether the user's own parts can be used, and how long a training step takes."""

from math import inf

import keras
import numpy as np
import tensorflow as tf

from mnist_exp.config.augment import AugmentConfig
from mnist_exp.config.model import ModelConfig, PythonConfig
from mnist_exp.config.optimizer import AnyOptimizer
from mnist_exp.config.schema import AnySchedule, TrainConfig
from mnist_exp.data.dataset import Dataset
from mnist_exp.models import families
from mnist_exp.training import augmentation, optimizers
from mnist_exp.training.epoch import EpochLoop
from mnist_exp.training.losses import loss_function

STEPS, REPEATS = 5, 3


def seconds_per_step(model: ModelConfig, train: TrainConfig) -> float:
    """The least of a few measurements, without compiling; inf where TensorFlow cannot do it."""
    built, n = families.build_model(model, precision=train.precision), STEPS * train.batch_size
    loop = EpochLoop(built, keras.optimizers.SGD(0.0), train, n=n)
    loop.images = tf.zeros([n, 28, 28], tf.uint8)
    loop.labels = tf.zeros([n], tf.int32)
    loop.validation = np.empty((0, 28, 28), np.uint8), np.empty(0, np.int32)
    try:
        loop.compile(STEPS)
        return min(loop.compile(STEPS) for _ in range(REPEATS)) / STEPS
    except tf.errors.OpError:
        return inf


def try_parts(
    model: ModelConfig,
    optimizer: AnyOptimizer,
    schedule: AnySchedule,
    augment: AugmentConfig,
    loss: str,
    data: Dataset,
) -> None:
    """Raise `InputError` for a Python part among these that gives another thing than it should."""
    classes = len(data.classes)
    if isinstance(model, PythonConfig):
        families.refuse_unusable(model, classes)
    optimizers.build(optimizer)
    optimizers.learning_rate_schedule(schedule, 1.0, STEPS, range(STEPS))
    augmentation.augment(augment, [0], data.train_images[:STEPS])
    scores = tf.fill([STEPS, classes], 1 / classes)
    loss_function(keras.activations.softmax, loss)(tf.zeros([STEPS], tf.int32), scores)
