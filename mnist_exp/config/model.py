"""The `model` group: the settings of each model family."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mnist_exp.config.base import ConfigGroup, Fraction, Widths
from mnist_exp.config.parts import PythonPart

Activation = Literal[  # Keras', without those that need arguments or mix the units of a layer
    "relu", "gelu", "silu", "elu", "selu", "leaky_relu", "tanh", "sigmoid", "celu", "exponential",
    "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "linear", "log_sigmoid",
    "mish", "relu6", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid",
    "squareplus", "swish", "tanh_shrink",
]  # fmt: skip


def _stages(value: Any) -> tuple[int | tuple[int, ...], ...]:
    """Per stage the filters of its only convolution, or of each."""
    stages = value if isinstance(value, (list, tuple)) else []
    lists = [stage if isinstance(stage, (list, tuple)) else [stage] for stage in stages]
    widths = [width for stage in lists for width in stage]
    if not all(lists) or not lists or not all(type(w) is int and w >= 1 for w in widths):
        example = "a list such as [32, 64] or [32, [64, 64]] of whole numbers of at least 1"
        raise PydanticCustomError("stages", example)
    return tuple(stage if isinstance(stage, int) else tuple(stage) for stage in stages)


Stages = Annotated[tuple[int | tuple[int, ...], ...], BeforeValidator(_stages)]


class Convolution(NamedTuple):
    """One convolution of a model and the pooling after it."""

    filters: int
    kernel: int
    stride: int
    padding: str
    pool: str
    starts_last_stage: bool


class Size(NamedTuple):
    """The number of weights, and of activations per image."""

    weights: int
    activations: int


def _dense_size(inputs: int, units: tuple[int, ...]) -> Size:
    widths = [inputs, *units, 10]
    return Size(sum((a + 1) * b for a, b in pairwise(widths)), sum(widths[1:]))


class DenseConfig(ConfigGroup):
    """Fully connected layers of the given `units`, dropout after each, ten outputs."""

    has_convolutions: ClassVar[bool] = False

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    family: Literal["dense"]
    units: Widths
    activation: Activation
    dropout: Fraction
    output: Literal["softmax", "sigmoid"]

    def size(self) -> Size:
        """The size of the model, to estimate its memory."""
        return _dense_size(28 * 28, self.units)


class ConvConfig(ConfigGroup):
    """Stages of convolutions, 2x2 max pooling between them, then `units`, ten outputs."""

    has_convolutions: ClassVar[bool] = True

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    family: Literal["conv"]
    filters: Stages
    kernel: Annotated[int, Field(ge=1, le=28)] = 3  # of the first convolution; the others are 3x3
    stride: Annotated[int, Field(ge=1, le=28)] = 1  # of the first convolution
    padding: Literal["valid", "same"] = "valid"  # the first and the last are always valid
    last_pool: Literal["max", "global_max", "none"] = "max"  # after the last stage
    batch_norm: bool = False
    units: Widths
    activation: Activation
    dropout: Fraction
    output: Literal["softmax", "sigmoid"]

    def convolutions(self) -> Iterator[Convolution]:
        """The convolutions in order."""
        stages = [(stage,) if isinstance(stage, int) else stage for stage in self.filters]
        pools = ["max"] * (len(stages) - 1) + [self.last_pool]
        n = sum(len(stage) for stage in stages)
        number = 0
        for stage, stage_pool in zip(stages, pools, strict=True):
            for place, filters in enumerate(stage, start=1):
                number += 1
                yield Convolution(
                    filters,
                    kernel=self.kernel if number == 1 else 3,
                    stride=self.stride if number == 1 else 1,
                    padding=self.padding if 1 < number < n else "valid",
                    pool=stage_pool if place == len(stage) else "none",
                    starts_last_stage=place == 1 and number > n - len(stage),
                )

    def size(self) -> Size:
        """The size of the model, to estimate its memory; batch normalisation is negligible."""
        weights, activations, side, channels = 0, 0, 28, 1
        for conv in self.convolutions():
            convolved, side = _sides(side, conv)
            weights += conv.kernel**2 * channels * conv.filters
            activations += convolved**2 * conv.filters
            channels = conv.filters
        inputs = channels * (1 if self.last_pool == "global_max" else side**2)
        dense = _dense_size(inputs, self.units)
        return Size(weights + dense.weights, activations + dense.activations)

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        side = 28
        for number, conv in enumerate(self.convolutions(), start=1):
            _, side = _sides(side, conv)
            if side < 1:
                raise ValueError(
                    f"model.filters: after convolution {number} and its pooling nothing is left of "
                    "28x28 pixels; take fewer stages, a smaller model.kernel or model.stride, "
                    "model.padding=same or model.last_pool=global_max"
                )
        return self


def _sides(side: int, conv: Convolution) -> tuple[int, int]:
    """The side in pixels after the convolution, and after its pooling."""
    side -= conv.kernel - 1 if conv.padding == "valid" else 0
    side = (side + conv.stride - 1) // conv.stride
    return side, side // (2 if conv.pool == "max" else 1)


class PythonConfig(PythonPart):
    """A function `(images (n, 28, 28, 1) in [0, 1], classes, **args) -> scores before `output`.

    Or a Keras layer, or a model, that maps images so.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    family: Literal["python"]
    output: Literal["softmax", "sigmoid"] = "softmax"

    def size(self) -> Size:
        """Nothing is known of its memory."""
        return Size(0, 0)


ModelConfig = DenseConfig | ConvConfig | PythonConfig
