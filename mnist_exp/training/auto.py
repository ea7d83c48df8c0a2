"""The settings that `auto` and `balanced` stand for here, and the memory check."""

import logging
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mnist_exp.config.model import ModelConfig, PythonConfig
from mnist_exp.config.schema import ClassWeight, TrainConfig
from mnist_exp.core import hardware
from mnist_exp.core.errors import InputError

logger = logging.getLogger(__name__)

# Layers of which it is known whether XLA makes them faster on a CPU: it does, and it does not.
PLAIN = {
    "InputLayer", "Rescaling", "Reshape", "Flatten", "Dense", "Activation", "Dropout",
    "BatchNormalization", "MaxPooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D", "Add",
}  # fmt: skip
NOT_TRIED = {"epochs": 1, "patience": None, "class_weight": None}  # what changes no step's time
CONVOLUTIONS = {"Conv2D"}


def resolve_auto(train: TrainConfig, model: ModelConfig) -> TrainConfig:
    """The training settings, each `auto` replaced by the fastest value on this machine.

    That is mixed_bfloat16 for convolutions where the hardware multiplies it natively, and XLA
    except for convolutions on a CPU, where XLA is 30 times slower. Where a model has other layers,
    some steps are tried.
    """
    if "auto" not in (train.precision, train.jit):
        return train
    layers = _layers(model)
    if layers - PLAIN - CONVOLUTIONS:
        return _in_place_of_auto(train, *_fastest(model, train.model_copy(update=NOT_TRIED)))
    convolves = bool(layers & CONVOLUTIONS)
    precision = "mixed_bfloat16" if convolves and hardware.has_bfloat16() else "float32"
    return _in_place_of_auto(train, precision, hardware.has_gpu() or not convolves)


def _layers(model: ModelConfig) -> set[str]:
    """The names of the classes of the model's layers."""
    if not isinstance(model, PythonConfig):
        return {"Conv2D"} if model.has_convolutions else {"Dense"}
    from mnist_exp.models.families import all_layers, build_model

    return {type(layer).__name__ for layer in all_layers(build_model(model))}


@lru_cache(maxsize=1)  # for the jobs of a sweep
def _fastest(model: ModelConfig, train: TrainConfig) -> tuple[str, bool]:
    """The precision, and whether with XLA, in which some steps of the model took the least time."""
    from mnist_exp.training.trial import seconds_per_step

    precisions = ["float32", *(["mixed_bfloat16"] if hardware.has_bfloat16() else [])]
    tried = {
        (precision, jit): seconds_per_step(model, _in_place_of_auto(train, precision, jit))
        for precision in precisions
        for jit in (False, True)
    }
    told = ", ".join(
        f"{precision}{' with XLA' if jit else ''} {1000 * seconds:.3g} ms"
        for (precision, jit), seconds in tried.items()
    )
    logger.info(
        f"tried for train.precision and train.jit, a step of {train.batch_size} images: {told}"
    )
    return min(tried, key=lambda each: tried[each])


def without_auto(train: TrainConfig) -> TrainConfig:
    """The training settings, each `auto` replaced by the value that works on every machine."""
    return _in_place_of_auto(train, "float32", jit=False)


def _in_place_of_auto(train: TrainConfig, precision: str, jit: bool) -> TrainConfig:
    values = {"precision": precision, "jit": jit}
    return train.model_copy(update={k: v for k, v in values.items() if getattr(train, k) == "auto"})


def class_weights(
    setting: ClassWeight, labels: NDArray[np.uint8], classes: int
) -> tuple[float, ...] | None:
    """The weight of each class in the loss. `balanced` is n / (classes * count), as scikit-learn's.

    Raises `InputError` for another number of weights than classes.
    """
    if setting == "balanced":
        counts = np.maximum(np.bincount(labels, minlength=classes), 1)
        return tuple(len(labels) / (classes * counts))
    if setting is not None and len(setting) != classes:
        numbers = f"{classes} numbers, one for each class"
        raise InputError(f"train.class_weight: expected {numbers}, got {len(setting)}")
    return setting


def check_memory(model: ModelConfig, batch_size: int, n: int) -> None:
    """Raises `InputError` when training on `n` images needs more memory than there is.

    A lower bound: each weight with its gradient in float32, and a batch's activations in bfloat16.
    """
    size, images = model.size(), min(batch_size, n)
    bytes_needed = 8 * size.weights + 2 * images * size.activations
    if bytes_needed > hardware.memory():
        raise InputError(
            f"model: {size.weights:.3g} weights, and train.batch_size={batch_size}, "
            f"need at least {bytes_needed / 2**30:.3g} GiB of memory, and there are "
            f"{hardware.memory() / 2**30:.3g}; lower model.units, model.filters or train.batch_size"
        )
