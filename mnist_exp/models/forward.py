"""Forward passes: pixels in, scores out."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BATCH = 1000  # images per forward pass


def timed_scores(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The scores (n, 10) float32 of (n, 28, 28) pixels, and images per second once warm."""
    forward = cached_forward(model)
    forward(tf.constant(images[:BATCH]))  # building the graph is not inference
    started = time.perf_counter()
    scores = batched_scores(forward, images)
    return scores, len(images) / (time.perf_counter() - started)


def batched_scores(forward: Callable[[Any], Any], images: np.ndarray) -> np.ndarray:
    """The scores (n, 10) float32 of (n, 28, 28) uint8 pixels, in batches."""
    starts = range(0, len(images), BATCH)
    return np.concatenate([forward(tf.constant(images[i : i + BATCH])).numpy() for i in starts])


def forward_function(model: keras.Model) -> Callable[[Any], Any]:
    """The model as a graph of its own: (n, 28, 28) uint8 pixels in, (n, 10) scores out."""
    function = tf.function(
        lambda batch: model(tf.cast(batch, tf.float32), training=False), autograph=False
    )
    # A graph, not the function: of many models' functions TensorFlow warns as of one retraced.
    graph: Callable[[Any], Any] = function.get_concrete_function(
        tf.TensorSpec((None, 28, 28), tf.uint8)
    )
    graph.model = model  # type: ignore[attr-defined]  # a graph does not keep its weights alive
    return graph


cached_forward = lru_cache(maxsize=1)(forward_function)  # a sweep's jobs may share their model
