"""Models in other forms: stock Keras, float32, TFLite, ONNX; written, and read back."""

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnist_exp.models.families import PIXELS
from mnist_exp.models.forward import batched_scores, forward_function
from mnist_exp.models.io import load_model, save_model
from mnist_exp.models.layers import STOCK

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (n, 28, 28) pixels -> (n, 10)


class Format(NamedTuple):
    """How a form is called, written and read."""

    name: str
    write: Callable[[keras.Model, Path], None]
    read: Callable[[Path], Scores]


def to_stock_keras(model: keras.Model) -> keras.Model:
    """The same model in Keras' own layers only, so that it loads without this package."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = STOCK.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=plain)
    clone.set_weights(model.get_weights())
    return clone


def to_float32(model: keras.Model) -> keras.Model:
    """The same weights in layers that compute in float32, which is all that other runtimes know."""

    def plain(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=plain)
    clone.set_weights(model.get_weights())
    return clone


def _write_tflite(model: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # only from a SavedModel are weights frozen
        save_model(to_float32(model), Path(folder) / "saved_model")
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved_model")
        path.write_bytes(converter.convert())


def _write_onnx(model: keras.Model, path: Path) -> None:
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    whole = to_float32(model)
    tf2onnx.convert.from_function(
        tf.function(lambda images: whole(tf.cast(images, tf.float32), training=False)),
        input_signature=[tf.TensorSpec((None, 28, 28), tf.uint8, PIXELS)],
        output_path=str(path),
    )


def _read_keras(path: Path) -> Scores:
    graph = forward_function(load_model(path, str(path)))
    return lambda images: batched_scores(graph, images)


def _read_saved_model(path: Path) -> Scores:
    loaded = tf.saved_model.load(str(path))
    return lambda images: np.asarray(loaded.serve(tf.constant(images)))


def _read_tflite(path: Path) -> Scores:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will move to a package of its own
        runtime = tf.lite.Interpreter(str(path))
    pixels = runtime.get_input_details()[0]["index"]
    found = runtime.get_output_details()[0]["index"]

    def read(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        runtime.resize_tensor_input(pixels, images.shape)
        runtime.allocate_tensors()
        runtime.set_tensor(pixels, images)
        runtime.invoke()
        scores: NDArray[np.float32] = runtime.get_tensor(found)
        return scores

    return read


def _read_onnx(path: Path) -> Scores:
    import onnxruntime

    runtime = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = runtime.get_inputs()[0].name
    return lambda images: runtime.run(None, {name: images})[0]


FORMATS = {
    "keras": Format("model.keras", save_model, _read_keras),
    "h5": Format("model.h5", save_model, _read_keras),
    "saved_model": Format("saved_model", save_model, _read_saved_model),
    "tflite": Format("model.tflite", _write_tflite, _read_tflite),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx),
}
