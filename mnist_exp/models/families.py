"""Model families: plain functions from a config to a Keras model that takes raw 28x28 pixels."""

import shutil
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any
from zipfile import BadZipFile, ZipFile

import keras
import numpy as np
import tensorflow as tf

from mnist_exp.config.model import ConvModel, Convolution, DenseModel, ModelConfig
from mnist_exp.core.errors import InputError
from mnist_exp.models.layers import STOCK, BatchNormalization, Conv2D, Dropout
from mnist_exp.training import optimizers

PIXELS = "pixels_0_to_255"  # the input's name: floats in [0, 1] would be read as nearly black
CHOOSE = "choose a run made by python -m mnist_exp.run"
MOST_UNPACKED = 20  # times its size: Keras does not compress
BATCH = 1000  # images per forward pass when nothing is learned


def build(config: ModelConfig, *, precision: str = "float32") -> keras.Model:
    """The untrained model: (n, 28, 28) pixels of 0-255 in, (n, 10) scores out."""
    pixels = keras.Input((28, 28), name=PIXELS)
    unit = keras.layers.Rescaling(1 / 255, name="to_unit_range", dtype="float32")(pixels)
    hidden = FAMILIES[config.family](config, unit, precision)
    outputs = keras.layers.Dense(10, config.output, name="scores", dtype="float32")(hidden)
    return keras.Model(pixels, outputs, name=config.name)


def dense(config: DenseModel, images: Any, precision: str) -> Any:
    """Fully connected layers, dropout after each."""
    hidden = keras.layers.Flatten(dtype=precision)(images)
    return _dense_layers(config, hidden, precision)


def conv(config: ConvModel, images: Any, precision: str) -> Any:
    """Stages of convolutions, pooled, then fully connected layers.

    Normalisation and activation follow the pooling: as accurate, at a quarter of the work (for a
    rising activation without normalisation even the same). Without units, dropout comes before the
    last stage.
    """
    hidden = keras.layers.Reshape((28, 28, 1), dtype=precision)(images)
    for each in config.convolutions():
        if each.starts_last_stage and config.dropout and not config.units:
            hidden = Dropout(config.dropout, dtype=precision)(hidden)
        hidden = _convolution(each, hidden, config.batch_norm, precision)
        hidden = keras.layers.Activation(config.activation, dtype=precision)(hidden)
    if config.last_pool == "global_max":
        hidden = keras.layers.GlobalMaxPooling2D(dtype=precision)(hidden)
    hidden = keras.layers.Flatten(dtype=precision)(hidden)
    return _dense_layers(config, hidden, precision)


def _convolution(each: Convolution, hidden: Any, batch_norm: bool, precision: str) -> Any:
    hidden = Conv2D(
        each.filters,
        each.kernel,
        each.stride,
        each.padding,
        use_bias=not batch_norm,  # normalisation would take it away again
        dtype=precision,
    )(hidden)
    if each.pool == "max":
        hidden = keras.layers.MaxPooling2D(dtype=precision)(hidden)
    return BatchNormalization(dtype=precision)(hidden) if batch_norm else hidden


FAMILIES: dict[str, Callable[..., Any]] = {"dense": dense, "conv": conv}


def summary(model: keras.Model) -> str:
    """Keras' own table of layers, shapes and parameters."""
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=78)
    return "\n".join(lines) + "\n"


def save(model: keras.Model, path: Path) -> None:
    """Saves the model, whole or not at all; the suffix is the format, none a SavedModel folder."""
    from absl import logging as absl

    with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".part") as place:
        part = Path(place) / path.name
        if path.suffix:
            with_advice = absl.get_verbosity()
            absl.set_verbosity(absl.ERROR)  # Keras advises against .h5; the user asked for it
            model.save(part)
            absl.set_verbosity(with_advice)
        else:
            pixels = keras.InputSpec("uint8", (None, 28, 28), name=PIXELS)
            model.export(part, verbose=False, input_signature=[pixels])
        if path.is_dir():  # of the attempt that a resumed run repeats
            shutil.rmtree(path)
        part.replace(path)


def load(path: Path, name: str) -> keras.Model:
    """The saved model, loaded in Keras' safe mode: no code that it may carry is run.

    Raises `InputError`, calling it `name`, for a file that is no model of 28x28 pixels and 10
    scores.
    """
    if path.suffix == ".keras":
        _refuse_no_archive(path, name)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a damaged archive or an unsafe layer comes to
        reason = shorten(str(error), 160, placeholder=" ...")
        raise InputError(
            f"{name}: expected a Keras model that loads in safe mode ({reason}); {CHOOSE}"
        ) from error
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if shapes != ((None, 28, 28), (None, 10)):
        raise InputError(
            f"{name}: expected a model of (n, 28, 28) pixels and (n, 10) scores, got {shapes[0]} "
            f"and {shapes[1]}; {CHOOSE}"
        )
    return model


def _refuse_no_archive(path: Path, name: str) -> None:
    """Raises `InputError` for a pickle, which runs code when it is opened, and for a zip bomb."""
    try:
        with ZipFile(path) as archive:
            unpacked = sum(file.file_size for file in archive.infolist())
    except (BadZipFile, OSError) as error:
        came = "one of another kind or a damaged one"
        raise InputError(f"{name}: expected a .keras file, got {came}; {CHOOSE}") from error
    if unpacked > MOST_UNPACKED * path.stat().st_size:
        came = f"an archive that would unpack to {unpacked / 2**30:.1f} GiB"
        raise InputError(f"{name}: expected a .keras file, got {came}; {CHOOSE}")


def stock(model: keras.Model) -> keras.Model:
    """The same model in Keras' own layers only, so that it loads without this package."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = STOCK.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=plain)
    clone.set_weights(model.get_weights())
    return clone


def compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: str) -> keras.Model:
    """The model compiled with a copy of the optimizer and its state, as after Keras' own `fit`."""
    copy = optimizers.stock(optimizer)
    model.compile(optimizer=copy, loss=loss, metrics=["accuracy"])
    copy.build(model.trainable_variables)
    for ours, theirs in zip(copy.variables, optimizer.variables, strict=True):
        ours.assign(theirs)
    return model


def timed_scores(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The scores (n, 10) float32 of (n, 28, 28) pixels, and images per second once warm."""
    ready = _forward(model)
    ready(tf.constant(images[:BATCH]))  # building the graph is not inference
    started = time.perf_counter()
    found = scores(ready, images)
    return found, len(images) / (time.perf_counter() - started)


def scores(forward: Callable[[Any], Any], images: np.ndarray) -> np.ndarray:
    """The scores (n, 10) float32 that `forward` gives (n, 28, 28) uint8 pixels."""
    starts = range(0, len(images), BATCH)
    return np.concatenate([forward(tf.constant(images[i : i + BATCH])).numpy() for i in starts])


def forward(model: keras.Model) -> Callable[[Any], Any]:
    """The model as a graph of its own: (n, 28, 28) uint8 pixels in, (n, 10) scores out."""
    function = tf.function(
        lambda batch: model(tf.cast(batch, tf.float32), training=False), autograph=False
    )
    # A graph rather than a function: of many models' functions TensorFlow warns as of one retraced.
    graph: Callable[[Any], Any] = function.get_concrete_function(
        tf.TensorSpec((None, 28, 28), tf.uint8)
    )
    graph.model = model  # type: ignore[attr-defined]  # a graph does not keep its weights alive
    return graph


_forward = lru_cache(maxsize=1)(forward)  # a sweep's jobs may share their model


def _dense_layers(config: ModelConfig, hidden: Any, precision: str) -> Any:
    for units in config.units:
        hidden = keras.layers.Dense(units, config.activation, dtype=precision)(hidden)
        if config.dropout:
            hidden = Dropout(config.dropout, dtype=precision)(hidden)
    return hidden
