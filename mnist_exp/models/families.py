"""Model families: plain functions from a config to a Keras model that takes raw 28x28 pixels."""

from collections.abc import Callable
from typing import Any

import keras

from mnist_exp.config.model import ConvConfig, Convolution, DenseConfig, ModelConfig
from mnist_exp.models.layers import BatchNormalization, Conv2D, Dropout

PIXELS = "pixels_0_to_255"  # the input's name, a warning: floats in [0, 1] are nearly black


def build_model(
    config: ModelConfig, *, classes: int = 10, precision: str = "float32"
) -> keras.Model:
    """The untrained model: (n, 28, 28) pixels of 0-255 in, (n, classes) scores out."""
    pixels = keras.Input((28, 28), name=PIXELS)
    unit = keras.layers.Rescaling(1 / 255, name="to_unit_range", dtype="float32")(pixels)
    hidden = FAMILIES[config.family](config, unit, precision)
    scores = keras.layers.Dense(classes, config.output, name="scores", dtype="float32")(hidden)
    return keras.Model(pixels, scores, name=config.name)


def dense(config: DenseConfig, images: Any, precision: str) -> Any:
    """Fully connected layers, dropout after each."""
    hidden = keras.layers.Flatten(dtype=precision)(images)
    return _dense_layers(config, hidden, precision)


def conv(config: ConvConfig, images: Any, precision: str) -> Any:
    """Stages of convolutions, pooled, then fully connected layers.

    Normalisation and activation follow the pooling: as accurate, at a quarter of the work (with a
    monotonic activation and no normalisation, identical). Without units, dropout precedes the last
    stage.
    """
    hidden = keras.layers.Reshape((28, 28, 1), dtype=precision)(images)
    for convolution in config.convolutions():
        if convolution.starts_last_stage and config.dropout and not config.units:
            hidden = Dropout(config.dropout, dtype=precision)(hidden)
        hidden = _convolution(convolution, hidden, config.batch_norm, precision)
        hidden = keras.layers.Activation(config.activation, dtype=precision)(hidden)
    if config.last_pool == "global_max":
        hidden = keras.layers.GlobalMaxPooling2D(dtype=precision)(hidden)
    hidden = keras.layers.Flatten(dtype=precision)(hidden)
    return _dense_layers(config, hidden, precision)


def _convolution(config: Convolution, hidden: Any, batch_norm: bool, precision: str) -> Any:
    hidden = Conv2D(
        config.filters,
        config.kernel,
        config.stride,
        config.padding,
        use_bias=not batch_norm,  # normalisation subtracts the mean
        dtype=precision,
    )(hidden)
    if config.pool == "max":
        hidden = keras.layers.MaxPooling2D(dtype=precision)(hidden)
    return BatchNormalization(dtype=precision)(hidden) if batch_norm else hidden


FAMILIES: dict[str, Callable[..., Any]] = {"dense": dense, "conv": conv}


def _dense_layers(config: ModelConfig, hidden: Any, precision: str) -> Any:
    for units in config.units:
        hidden = keras.layers.Dense(units, config.activation, dtype=precision)(hidden)
        if config.dropout:
            hidden = Dropout(config.dropout, dtype=precision)(hidden)
    return hidden
