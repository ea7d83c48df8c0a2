"""Model families: plain functions from a config to a Keras model that takes raw 28x28 pixels."""

from collections.abc import Callable, Iterator
from textwrap import shorten
from typing import Any

import keras
import numpy as np

from mnist_exp.config.model import ConvConfig, Convolution, DenseConfig, ModelConfig, PythonConfig
from mnist_exp.config.parts import Part, call_part, load_part
from mnist_exp.core.errors import InputError
from mnist_exp.models.layers import FAST, BatchNormalization, Conv2D, Dropout

SOME = 7  # images of a trial
PIXELS = "pixels_0_to_255"  # the input's name, a warning: floats in [0, 1] are nearly black


def build_model(
    config: ModelConfig, *, classes: int = 10, precision: str = "float32"
) -> keras.Model:
    """The untrained model: (n, 28, 28) pixels of 0-255 in, (n, classes) scores out."""
    pixels = keras.Input((28, 28), name=PIXELS)
    unit = keras.layers.Rescaling(1 / 255, name="to_unit_range", dtype="float32")(pixels)
    if isinstance(config, PythonConfig):
        return python(config, pixels, unit, classes, precision)
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


def python(
    config: PythonConfig, pixels: Any, unit: Any, classes: int, precision: str
) -> keras.Model:
    """The model of the user's own function, layer or model, with faster layers where we have them.

    Raises `InputError` where it gives no scores, or could not be loaded again.
    """
    given, before = f"model.build={config.build}", keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        images = keras.layers.Reshape((28, 28, 1), dtype="float32")(unit)
        part = Part("model.build", config.build, config.args)
        is_class = isinstance(load_part(part), type)
        scores = call_part(part, classes) if is_class else call_part(part, images, classes)
        if isinstance(scores, keras.Layer):
            scores = scores(images)
    finally:
        keras.config.set_dtype_policy(before)
    shape = getattr(scores, "shape", None)
    if shape != (None, classes):
        got = f"the shape {shape}" if isinstance(shape, tuple) else type(scores).__name__
        raise InputError(f"{given}: expected scores of the shape (None, {classes}), got {got}")
    outputs = keras.layers.Activation(config.output, name="scores", dtype="float32")(scores)
    try:
        model = keras.Model(pixels, outputs, name=config.name)
        stored = keras.saving.serialize_keras_object(model)
        keras.saving.deserialize_keras_object(stored, safe_mode=True)
        fast = keras.models.clone_model(model, clone_function=_fast, recursive=True)
        fast.set_weights(model.get_weights())  # a model given from Python goes on from its own
        return fast
    except Exception as error:  # of whatever type, by whichever layer
        reason = shorten(str(error), 200, placeholder=" ...")
        raise InputError(
            f"{given}: the model could not be loaded again ({reason}); give layers of your own a "
            "get_config, and @keras.saving.register_keras_serializable() above their class"
        ) from error


def refuse_unusable(config: PythonConfig, classes: int) -> None:
    """Raise `InputError` for a model from Python that cannot be built, or reads no images."""
    scores = np.asarray(build_model(config, classes=classes)(np.zeros((SOME, 28, 28), np.float32)))
    given = f"model.build={config.build}"
    if scores.shape != (SOME, classes):
        raise InputError(f"{given}: expected {SOME} rows for {SOME} images, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError(f"{given}: its scores of black images are no numbers before any training")


def all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of the model, and of the models in it."""
    for layer in model.layers:
        yield from all_layers(layer) if isinstance(layer, keras.Model) else [layer]


def _fast(layer: keras.Layer) -> keras.Layer:
    kind: Any = FAST.get(type(layer), type(layer))
    return kind.from_config(layer.get_config())


FAMILIES: dict[str, Callable[..., Any]] = {"dense": dense, "conv": conv}


def _dense_layers(config: DenseConfig | ConvConfig, hidden: Any, precision: str) -> Any:
    for units in config.units:
        hidden = keras.layers.Dense(units, config.activation, dtype=precision)(hidden)
        if config.dropout:
            hidden = Dropout(config.dropout, dtype=precision)(hidden)
    return hidden
