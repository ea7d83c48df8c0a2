"""What `auto` becomes on this machine, and what does not fit into its memory."""

from mnist_exp.config.model import ModelConfig
from mnist_exp.config.schema import Train
from mnist_exp.core import hardware
from mnist_exp.core.errors import InputError


def resolve_auto(train: Train, model: ModelConfig) -> Train:
    """The training settings, each `auto` replaced by what is best on this machine.

    That is mixed_bfloat16 for convolutions where the hardware multiplies it natively, and XLA
    except for convolutions on a CPU, where XLA is 30 times slower.
    """
    convolutional = model.family == "conv"
    chosen: dict[str, object] = {}
    if train.precision == "auto":
        narrow = convolutional and hardware.has_bfloat16()
        chosen["precision"] = "mixed_bfloat16" if narrow else "float32"
    if train.jit == "auto":
        chosen["jit"] = hardware.has_gpu() or not convolutional
    return train.model_copy(update=chosen)


def check_memory(model: ModelConfig, batch_size: int, n: int) -> None:
    """Raises `InputError` when training on `n` images needs more memory than there is.

    Counted is what it takes at the very least: each weight and its gradient, and what each image of
    a batch becomes.
    """
    size, images = model.size(), min(batch_size, n)
    bytes_needed = 8 * size.weights + 2 * images * size.numbers  # bfloat16's two
    if bytes_needed > hardware.memory():
        raise InputError(
            f"model: {size.weights:.3g} weights, and train.batch_size={batch_size}, "
            f"need at least {bytes_needed / 2**30:.3g} GiB of memory, and there are "
            f"{hardware.memory() / 2**30:.3g}; lower model.units, model.filters or train.batch_size"
        )
