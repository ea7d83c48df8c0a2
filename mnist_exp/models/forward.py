"""Forward passes: pixels in, scores out."""

import time
from collections.abc import Callable
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

BATCH = 1000  # images per forward pass
ScoreFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (n, 28, 28) -> (n, classes)


def timed_scores(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The scores (n, classes) float32 of (n, 28, 28) pixels, and images per second once warm."""
    return timed(cached_forward(model), images)


def timed(score: ScoreFunction, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Like `timed_scores`, of a model as a function, in any form."""
    score(images[:BATCH])  # building the graph is not inference
    started = time.perf_counter()
    scores = batched_scores(score, images)
    return scores, len(images) / (time.perf_counter() - started)


def batched_scores(score: ScoreFunction, images: np.ndarray) -> np.ndarray:
    """The scores (n, classes) float32 of (n, 28, 28) uint8 pixels, in batches."""
    return np.concatenate([score(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])


def forward_function(model: keras.Model) -> ScoreFunction:
    """The model as a graph of its own: (n, 28, 28) uint8 pixels in, (n, classes) scores out."""
    function = tf.function(
        lambda batch: model(tf.cast(batch, tf.float32), training=False), autograph=False
    )
    # A graph, not the function: of many models' functions TensorFlow warns as of one retraced.
    graph = function.get_concrete_function(tf.TensorSpec((None, 28, 28), tf.uint8))
    graph.model = model  # a graph does not keep its weights alive
    return lambda images: graph(tf.constant(images)).numpy()


cached_forward = lru_cache(maxsize=1)(forward_function)  # a sweep's jobs may share their model
