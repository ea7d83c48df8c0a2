"""A model in other forms: written, loaded by its own runtime, and held against the original."""

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.metrics import probabilities
from mnist_exp.inference.predictor import Predictor
from mnist_exp.models.convert import FORMATS, Scores
from mnist_exp.models.forward import BATCH

# Of a probability. Seen were 0.01 for a model that computes in bfloat16, 2e-6 for others.
TOLERATED = {"bfloat16": 0.1, "float32": 1e-4}


@dataclass(frozen=True)
class Export:
    """One written form of a model."""

    format: str
    name: str  # of the file, or folder
    bytes: int
    images_per_second: float
    max_abs_difference: float  # the largest difference of a probability over all test images
    changed: int  # test images that are read as another digit


def export(predictor: Predictor, kind: str, folder: Path, images: NDArray[np.uint8]) -> Export:
    """The model in this form in the folder, tried on the images; raises `InputError`.

    An export that does not agree with the original is not left behind.
    """
    form = FORMATS[kind]
    _refuse_what_is_no_export(folder / form.name)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as place:
        path = Path(place) / form.name
        form.write(predictor.model, path)
        scores, seconds = _timed(form.read(path), images)
        again = probabilities(np.nan_to_num(scores), predictor.output)
        original = predictor.probabilities(images)
        max_abs_difference = float(np.abs(again - original).max())
        computes_in = {layer.compute_dtype for layer in predictor.model.layers}
        kind_of_number = "bfloat16" if "bfloat16" in computes_in else "float32"
        if np.isnan(scores).any() or max_abs_difference > TOLERATED[kind_of_number]:
            raise InputError(
                f"--format {kind}: the export does not agree with the original (a probability "
                f"differs by {max_abs_difference:.2g}) and is not kept; choose another format"
            )
        changed = int((again.argmax(axis=1) != original.argmax(axis=1)).sum())
        size = _size(path)
        _move(path, folder / form.name)
    return Export(kind, form.name, size, len(images) / seconds, max_abs_difference, changed)


def refuse_missing_tools(kinds: Iterable[str]) -> None:
    """Raises `InputError` saying what to install, before anything is written."""
    for kind in kinds:
        missing = [name for name in NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"--format {kind} needs {' and '.join(missing)}: install them with "
                f"pip install 'mnist-exp[{kind}]'"
            )


NEEDS = {"onnx": ("tf2onnx", "onnxruntime")}


def _timed(read: Scores, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """The scores of all images, and the seconds they took once warm."""
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
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
