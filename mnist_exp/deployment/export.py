"""Model export: written, loaded by the format's own runtime, compared with the original."""

import importlib.util
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.metrics import probabilities
from mnist_exp.inference.predictor import Predictor
from mnist_exp.models.convert import FORMATS, at_temperature
from mnist_exp.models.forward import timed

# Of a probability, by compute dtype. Measured: 0.01 with bfloat16, 2e-6 with float32.
TOLERANCES = {"bfloat16": 0.1, "float32": 1e-4}


@dataclass(frozen=True)
class Export:
    """An exported model, and how it compares with the original."""

    format: str
    name: str  # of the file or folder
    bytes: int
    images_per_second: float
    max_abs_difference: float  # of a probability, over all test images
    changed_predictions: int  # test images with another prediction


def export(predictor: Predictor, kind: str, folder: Path, images: NDArray[np.uint8]) -> Export:
    """Export the calibrated model to the folder and compare it with the original on the images.

    Raises `InputError`, and keeps no file, when the two disagree.
    """
    model_format, is_calibrated = FORMATS[kind], predictor.temperature != 1
    if kind == "h5" and is_calibrated and predictor.output == "sigmoid":
        raise InputError(
            "--format h5: cannot hold the operations that calibrate sigmoids; choose --format keras"
        )
    _check_replaceable(folder / model_format.filename)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as place:
        path = Path(place) / model_format.filename
        model = at_temperature(predictor.model, predictor.output, predictor.temperature)
        model_format.write(model, path)
        scores, images_per_second = timed(model_format.read(path), images)
        output = "softmax" if is_calibrated else predictor.output
        exported = probabilities(np.nan_to_num(scores), output)
        original = predictor.probabilities(images)
        max_abs_difference = float(np.abs(exported - original).max())
        dtypes = {layer.compute_dtype for layer in predictor.model.layers}
        tolerance = TOLERANCES["bfloat16" if "bfloat16" in dtypes else "float32"]
        if np.isnan(scores).any() or max_abs_difference > tolerance:
            raise InputError(
                f"--format {kind}: the export does not agree with the original (a probability "
                f"differs by {max_abs_difference:.2g}) and is not kept; choose another format"
            )
        changed = int((exported.argmax(axis=1) != original.argmax(axis=1)).sum())
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        _replace(path, folder / path.name)
    return Export(kind, path.name, size, images_per_second, max_abs_difference, changed)


def refuse_missing_tools(kinds: Iterable[str]) -> None:
    """Raises `InputError`, naming what to install, before anything is written."""
    for kind in kinds:
        missing = [name for name in NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"--format {kind} needs {' and '.join(missing)}: install them with "
                f"pip install 'mnist-exp[{kind}]'"
            )


NEEDS = {"onnx": ("tf2onnx", "onnxruntime")}


def _check_replaceable(path: Path) -> None:
    """Raises `InputError` for a path that holds anything but an earlier export."""
    is_earlier = not path.is_dir() if path.suffix else (path / "saved_model.pb").exists()
    if path.exists() and not is_earlier:
        raise InputError(f"{path}: this is no earlier export; move it, or give another --output")


def _replace(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)
