"""The loss of a step: cross-entropy or focal loss, smoothed and weighted as configured."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

TINY = 1e-30  # keeps the logarithm of a probability that underflowed finite, and its gradient
FOCAL = "categorical_focal_crossentropy"


def loss_function(
    activation: Any,
    name: str = "categorical_crossentropy",
    label_smoothing: float = 0.0,
    class_weight: Any = None,
) -> Callable[[Any, Any], Any]:
    """(integer labels, scores) -> the summed loss in nats, for scores of `activation`.

    `class_weight` holds a number for each class, by which the loss of its images is multiplied.
    Keras' categorical cross-entropies differ only in the labels' form, so one stands for both.
    """
    is_plain = name != FOCAL and not label_smoothing and class_weight is None
    if activation is keras.activations.softmax and is_plain:
        return _cross_entropy
    losses = keras.losses
    kind = losses.CategoricalFocalCrossentropy if name == FOCAL else losses.CategoricalCrossentropy
    loss = kind(label_smoothing=label_smoothing, reduction="sum")

    def summed(labels: Any, scores: Any) -> Any:
        weights = None if class_weight is None else tf.gather(tf.constant(class_weight), labels)
        return loss(tf.one_hot(labels, scores.shape[-1]), scores, weights)

    return summed


def _cross_entropy(labels: Any, scores: Any) -> Any:
    """Keras' formula; with Keras' own graph of it a dense epoch took 5 % longer."""
    classes = scores.shape[-1]
    true = tf.reduce_sum(tf.one_hot(labels, classes) * scores, axis=1)
    total = tf.reduce_sum(scores, axis=1)
    return tf.reduce_sum(tf.math.log(total + classes * TINY) - tf.math.log(true + TINY))
