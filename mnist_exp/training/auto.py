"""The settings that `auto` and `balanced` stand for here, and the memory check."""

import numpy as np
from numpy.typing import NDArray

from mnist_exp.config.model import ModelConfig
from mnist_exp.config.schema import ClassWeight, TrainConfig
from mnist_exp.core import hardware
from mnist_exp.core.errors import InputError


def resolve_auto(train: TrainConfig, model: ModelConfig) -> TrainConfig:
    """The training settings, each `auto` replaced by the fastest value on this machine.

    That is mixed_bfloat16 for convolutions where the hardware multiplies it natively, and XLA
    except for convolutions on a CPU, where XLA is 30 times slower.
    """
    is_narrow = model.has_convolutions and hardware.has_bfloat16()
    precision = "mixed_bfloat16" if is_narrow else "float32"
    return _in_place_of_auto(train, precision, hardware.has_gpu() or not model.has_convolutions)


def without_auto(train: TrainConfig) -> TrainConfig:
    """The training settings, each `auto` replaced by the value that works on every machine."""
    return _in_place_of_auto(train, "float32", jit=False)


def _in_place_of_auto(train: TrainConfig, precision: str, jit: bool) -> TrainConfig:
    values = {"precision": precision, "jit": jit}
    return train.model_copy(update={k: v for k, v in values.items() if getattr(train, k) == "auto"})


def class_weights(
    setting: ClassWeight, labels: NDArray[np.uint8], classes: int = 10
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
