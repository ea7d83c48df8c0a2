"""The loss of a step: cross-entropy or focal loss, smoothed and weighted as configured."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnist_exp.config.parts import Part, call_part
from mnist_exp.core.errors import InputError

TINY = 1e-30  # keeps the logarithm of a probability that underflowed finite, and its gradient
FOCAL = "categorical_focal_crossentropy"


def loss_function(
    activation: Any, name: str = "", label_smoothing: float = 0.0, class_weight: Any = None
) -> Callable[[Any, Any], Any]:
    """(integer labels, scores) -> the summed loss in nats, for scores of `activation`.

    `class_weight` holds a number for each class, by which the loss of its images is multiplied.
    Keras' categorical cross-entropies differ only in the labels' form, so one stands for both.
    """
    if ":" in name:
        return partial(_own_loss, Part("train.loss", name), class_weight)
    is_modified = name == FOCAL or label_smoothing or class_weight
    if activation is keras.activations.softmax and not is_modified:
        return _cross_entropy
    kinds = {FOCAL: keras.losses.CategoricalFocalCrossentropy}
    kind = kinds.get(name, keras.losses.CategoricalCrossentropy)
    loss = kind(label_smoothing=label_smoothing, reduction="sum")

    def summed(labels: Any, scores: Any) -> Any:
        weights = tf.gather(np.float32(class_weight), labels) if class_weight else None
        return loss(tf.one_hot(labels, scores.shape[-1]), scores, weights)

    return summed


def _own_loss(part: Part, class_weight: Any, labels: Any, scores: Any) -> Any:
    """The sum over the images of the user's own loss; raises `InputError` for another shape."""
    losses = call_part(part, tf.one_hot(labels, scores.shape[-1]), scores)
    if losses.shape.rank != 1:
        raise InputError(
            f"{part.key}={part.build}: expected a loss for each image, (n,), got {losses.shape}"
        )
    weights = tf.gather(np.float32(class_weight), labels) if class_weight else 1.0
    return tf.reduce_sum(losses * weights)


def _cross_entropy(labels: Any, scores: Any) -> Any:
    """Keras' formula; with Keras' own graph of it a dense epoch took 5 % longer."""
    classes = scores.shape[-1]
    true = tf.reduce_sum(tf.one_hot(labels, classes) * scores, axis=1)
    total = tf.reduce_sum(scores, axis=1)
    return tf.reduce_sum(tf.math.log(total + classes * TINY) - tf.math.log(true + TINY))
