"""A model in other forms: written, loaded by its own runtime, and held against the original."""

import importlib.util
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.metrics import probabilities
from mnist_exp.inference.predictor import Classifier
from mnist_exp.models import families as models

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (n, 28, 28) pixels -> (n, 10)
# Of a probability. Seen were 0.01 for a model that computes in bfloat16, 2e-6 for others.
TOLERATED = {"bfloat16": 0.1, "float32": 1e-4}


@dataclass(frozen=True)
class Export:
    """One written form of a model."""

    format: str
    name: str  # of the file, or folder
    bytes: int
    images_per_second: float
    furthest: float  # the largest difference of a probability over all test images
    changed: int  # test images that are read as another digit


class Format(NamedTuple):
    """How a form is called, written and read."""

    name: str
    write: Callable[[keras.Model, Path], None]
    read: Callable[[Path], Scores]


def export(classifier: Classifier, kind: str, folder: Path, images: NDArray[np.uint8]) -> Export:
    """The model in this form in the folder, tried on the images; raises `InputError`.

    An export that does not agree with the original is not left behind.
    """
    form = FORMATS[kind]
    _refuse_what_is_no_export(folder / form.name)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as place:
        path = Path(place) / form.name
        form.write(classifier.model, path)
        scores, seconds = _timed(form.read(path), images)
        again = probabilities(np.nan_to_num(scores), classifier.output)
        original = classifier.probabilities(images)
        furthest = float(np.abs(again - original).max())
        computes_in = {layer.compute_dtype for layer in classifier.model.layers}
        kind_of_number = "bfloat16" if "bfloat16" in computes_in else "float32"
        if np.isnan(scores).any() or furthest > TOLERATED[kind_of_number]:
            raise InputError(
                f"--format {kind}: the export does not agree with the original (a probability "
                f"differs by {furthest:.2g}) and is not kept; choose another format"
            )
        changed = int((again.argmax(axis=1) != original.argmax(axis=1)).sum())
        size = _size(path)
        _move(path, folder / form.name)
    return Export(kind, form.name, size, len(images) / seconds, furthest, changed)


def refuse_missing_tools(kinds: Iterable[str]) -> None:
    """Raises `InputError` saying what to install, before anything is written."""
    for kind in kinds:
        missing = [name for name in NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"--format {kind} needs {' and '.join(missing)}: install them with "
                f"pip install 'mnist-exp[{kind}]'"
            )


def _in_float32(model: keras.Model) -> keras.Model:
    """The same weights in layers that compute in float32, which is all that other runtimes know."""

    def plain(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=plain)
    clone.set_weights(model.get_weights())
    return clone


def _write_tflite(model: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # only from a SavedModel are weights frozen
        models.save(_in_float32(model), Path(folder) / "saved_model")
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved_model")
        path.write_bytes(converter.convert())


def _write_onnx(model: keras.Model, path: Path) -> None:
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    whole = _in_float32(model)
    tf2onnx.convert.from_function(
        tf.function(lambda images: whole(tf.cast(images, tf.float32), training=False)),
        input_signature=[tf.TensorSpec((None, 28, 28), tf.uint8, models.PIXELS)],
        output_path=str(path),
    )


def _read_keras(path: Path) -> Scores:
    graph = models.forward(models.load(path, str(path)))
    return lambda images: models.scores(graph, images)


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
    "keras": Format("model.keras", models.save, _read_keras),
    "h5": Format("model.h5", models.save, _read_keras),
    "saved_model": Format("saved_model", models.save, _read_saved_model),
    "tflite": Format("model.tflite", _write_tflite, _read_tflite),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx),
}
NEEDS = {"onnx": ("tf2onnx", "onnxruntime")}


def _timed(read: Scores, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """The scores of all images, and the seconds they took once warm."""
    batches = [images[i : i + models.BATCH] for i in range(0, len(images), models.BATCH)]
    read(batches[0])
    started = time.perf_counter()
    scores = np.concatenate([read(batch) for batch in batches])
    return scores, time.perf_counter() - started


def _refuse_what_is_no_export(path: Path) -> None:
    """Only an earlier export is replaced."""
    if path.suffix:
        is_other = path.is_dir()
    else:
        is_other = path.exists() and not (path / "saved_model.pb").exists()
    if is_other:
        raise InputError(f"{path}: this is no earlier export; move it, or give another --output")


def _move(path: Path, to: Path) -> None:
    """The file or folder takes the place of an earlier one."""
    if to.is_dir():
        shutil.rmtree(to)
    path.replace(to)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return sum(file.stat().st_size for file in files)
