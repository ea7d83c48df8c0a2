"""Optimizers as configured, and the learning rate of every step."""

import math
from typing import Any

import keras
import numpy as np

from mnist_exp.schema import AdamW, OptimizerConfig, Schedule

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}


def build(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """The Keras optimizer; AdamW leaves biases and normalisation weights undecayed."""
    settings: dict[str, Any] = config.model_dump(exclude={"name"})
    optimizer = OPTIMIZERS[config.name](**settings)
    if isinstance(config, AdamW):
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def learning_rates(schedule: Schedule, peak: float, steps: int) -> np.ndarray:
    """The learning rate of each of `steps` steps, float32 (steps,).

    onecycle follows Smith and Topin (2018) with the factors of fastai: from peak/25 up to peak and
    down to peak/250,000, both on half cosines.
    """
    warm = round(schedule.warmup * steps)
    down = np.linspace(0, 1, steps - warm, dtype=np.float64)
    match schedule.name:
        case "constant":
            up, fall = np.arange(1, warm + 1) / max(warm, 1), np.ones_like(down)
        case "cosine":
            up, fall = np.arange(1, warm + 1) / max(warm, 1), _half_cosine(down, 1, 0)
        case "onecycle":
            up = _half_cosine(np.linspace(0, 1, warm, endpoint=False), 1 / 25, 1)
            fall = _half_cosine(down, 1, 1 / 250_000)
    return (peak * np.concatenate([up, fall])).astype(np.float32)


def _half_cosine(progress: np.ndarray, start: float, end: float) -> np.ndarray:
    return end + (start - end) * (1 + np.cos(math.pi * progress)) / 2
