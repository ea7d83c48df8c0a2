"""Model conversion: stock Keras, float32, LiteRT and ONNX; each format is read back, too."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.metrics import LOG_EPSILON, SIGMOID_EPSILON, Output
from mnist_exp.models.families import PIXELS, all_layers
from mnist_exp.models.forward import ScoreFunction, forward_function
from mnist_exp.models.io import SIGNATURE, load_model, save_model
from mnist_exp.models.layers import STOCK


class Format(NamedTuple):
    """A file format: its file name, writer and reader."""

    filename: str
    write: Callable[[keras.Model, Path], None]
    read: Callable[[Path], ScoreFunction]


def to_stock_keras(model: keras.Model) -> keras.Model:
    """The same model in Keras' own layers only, so that it loads without this package."""

    def stock(layer: keras.Layer) -> keras.Layer:
        kind, config = STOCK.get(type(layer), type(layer)), layer.get_config()
        # Frozen afterwards: one built frozen, such as an attention, leaves the layers in it as are.
        return kind.from_config(config | {k: True for k in config if k == "trainable"})

    copied = _clone(model, stock)
    for ours, copy in zip(all_layers(model), all_layers(copied), strict=True):
        if not ours.trainable:
            copy.trainable = False
    return copied


def at_temperature(model: keras.Model, output: Output, temperature: float) -> keras.Model:
    """The model with calibrated probabilities as its scores; at temperature 1 the model itself.

    Sigmoids are read as `metrics.probabilities` reads them, from the float32 score: near 1 it has
    lost what the logit still tells. An HDF5 file cannot hold these operations.
    """
    if temperature == 1:
        return model
    last = model.layers[-1]
    if output == "softmax" and not last.weights:  # of a model from Python
        scores = keras.layers.Softmax(name=last.name, dtype="float32")(last.input / temperature)
        return keras.Model(model.inputs, scores, name=model.name)
    if output == "softmax":
        scaled = _clone(model, lambda layer: type(layer).from_config(layer.get_config()))
        last = scaled.layers[-1]
        last.set_weights([weights / temperature for weights in last.get_weights()])
        return scaled
    odds = model.output / keras.ops.maximum(1 - model.output, SIGMOID_EPSILON)
    logits = keras.ops.log(keras.ops.maximum(odds, LOG_EPSILON))
    scores = keras.layers.Softmax(name="probabilities")(logits / temperature)
    return keras.Model(model.inputs, scores, name=model.name)


def _clone(model: keras.Model, layer: Callable[[keras.Layer], keras.Layer]) -> keras.Model:
    clone = keras.models.clone_model(model, clone_function=layer, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def _export(model: keras.Model, path: Path, kind: str) -> None:
    """Write the same weights in layers that compute in float32: other runtimes lack bfloat16."""

    def float32(layer: keras.Layer) -> keras.Layer:
        dtype = {"dtype": "float32"} if isinstance(layer, keras.Layer) else {}  # else an operation
        return type(layer).from_config(layer.get_config() | dtype)

    # Before Keras 3.15 a LiteRT export ignores the signature and takes float32 pixels.
    _clone(model, float32).export(path, kind, verbose=False, input_signature=SIGNATURE)


def _read_keras(path: Path) -> ScoreFunction:
    return forward_function(load_model(path, str(path), classes=None))


def _read_saved_model(path: Path) -> ScoreFunction:
    loaded = tf.saved_model.load(str(path))
    return lambda images: np.asarray(loaded.serve(tf.constant(images)))


def _read_litert(path: Path) -> ScoreFunction:
    from ai_edge_litert.interpreter import Interpreter

    serve = Interpreter(str(path)).get_signature_runner()

    def scores(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            (output,) = serve(**{PIXELS: images}).values()
        except RuntimeError as error:
            flex = ", ".join(re.findall(r"Flex[A-Z]\w+", str(error)))  # TensorFlow's own kernels
            raise _unsupported(path, "LiteRT", flex or str(error)) from error
        return np.asarray(output)

    return scores


def _read_onnx(path: Path) -> ScoreFunction:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no public names
        if not (missing := re.search(r"No Op registered for (\w+)", str(error))):
            raise
        raise _unsupported(path, "ONNX", missing[1]) from error
    return lambda images: session.run(None, {PIXELS: images})[0]


def _unsupported(path: Path, format_: str, operations: str) -> InputError:
    expected = f"expected only operations that {format_} has"
    return InputError(f"{path.name}: {expected}, got {operations}; choose another format")


FORMATS = {
    "keras": Format("model.keras", save_model, _read_keras),
    "h5": Format("model.h5", save_model, _read_keras),
    "saved_model": Format("saved_model", save_model, _read_saved_model),
    "tflite": Format("model.tflite", partial(_export, kind="litert"), _read_litert),
    "onnx": Format("model.onnx", partial(_export, kind="onnx"), _read_onnx),
}
