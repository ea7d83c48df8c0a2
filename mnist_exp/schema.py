"""What may be written: the config's groups, keys, types and ranges, as pydantic models."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Widths = Annotated[tuple[Width, ...], Field(strict=False)]  # a YAML list
Activation = Literal["relu", "gelu", "silu", "elu", "selu", "leaky_relu", "tanh", "sigmoid"]


def _stages(value: Any) -> tuple[int | tuple[int, ...], ...]:
    """Per stage the filters of its one convolution, or of each."""
    stages = value if isinstance(value, (list, tuple)) else []
    each = [stage if isinstance(stage, (list, tuple)) else [stage] for stage in stages]
    widths = [width for stage in each for width in stage]
    if not all(each) or not each or not all(type(w) is int and w >= 1 for w in widths):
        example = "a list such as [32, 64] or [32, [64, 64]] of whole numbers of at least 1"
        raise PydanticCustomError("stages", example)
    return tuple(stage if isinstance(stage, int) else tuple(stage) for stage in stages)


Stages = Annotated[tuple[int | tuple[int, ...], ...], BeforeValidator(_stages)]


class Convolution(NamedTuple):
    """One convolution of a model, and the pooling after it."""

    filters: int
    kernel: int
    stride: int
    padding: str
    pool: str
    starts_last_stage: bool


class Part(BaseModel):
    """One group of the config: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DenseModel(Part):
    """Fully connected layers of the given `units`, dropout after each, ten outputs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    family: Literal["dense"]
    units: Widths
    activation: Activation
    dropout: Fraction
    output: Literal["softmax", "sigmoid"]


class ConvModel(Part):
    """Stages of convolutions, 2x2 max pooling between them, then `units`, ten outputs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    family: Literal["conv"]
    filters: Stages
    kernel: Annotated[int, Field(ge=1, le=28)] = 3  # the first convolution's; the others' is 3x3
    stride: Annotated[int, Field(ge=1, le=28)] = 1  # the first convolution's
    padding: Literal["valid", "same"] = "valid"  # between the first and the last, which are valid
    last_pool: Literal["max", "global_max", "none"] = "max"  # after the last stage
    batch_norm: bool = False
    units: Widths
    activation: Activation
    dropout: Fraction
    output: Literal["softmax", "sigmoid"]

    def convolutions(self) -> Iterator[Convolution]:
        """Each convolution in turn."""
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        side = 28
        for number, each in enumerate(self.convolutions(), start=1):
            side -= each.kernel - 1 if each.padding == "valid" else 0
            side = (side + each.stride - 1) // each.stride // (2 if each.pool == "max" else 1)
            if side < 1:
                raise PydanticCustomError(
                    "pair",
                    "model.filters: after convolution {number} and its pooling nothing is left of "
                    "28x28 pixels; take fewer stages, model.padding=same or "
                    "model.last_pool=global_max",
                    {"number": number},
                )
        return self


class Adam(Part):
    """Kingma and Ba, 2015."""

    name: Literal["adam"]
    learning_rate: Positive
    beta_1: Fraction
    beta_2: Fraction


class AdamW(Part):
    """Adam with decoupled weight decay: Loshchilov and Hutter, 2019."""

    name: Literal["adamw"]
    learning_rate: Positive
    weight_decay: NotNegative
    beta_1: Fraction
    beta_2: Fraction


class Sgd(Part):
    """Gradient descent with momentum."""

    name: Literal["sgd"]
    learning_rate: Positive
    momentum: Fraction
    nesterov: bool


class RmsProp(Part):
    """Hinton's lecture 6e, 2012."""

    name: Literal["rmsprop"]
    learning_rate: Positive
    rho: Fraction


OptimizerConfig = Adam | AdamW | Sgd | RmsProp
ModelConfig = DenseModel | ConvModel


class Schedule(Part):
    """How the learning rate moves over all steps; `warmup` is the rising fraction of them."""

    name: Literal["constant", "cosine", "onecycle"]
    warmup: Fraction


class NoAugment(Part):
    """The training images as they are."""

    name: Literal["none"]


class Affine(Part):
    """A fresh random affine map of each image in each epoch, drawn evenly from +- these."""

    name: Literal["affine"]
    rotate: Annotated[float, Field(ge=0, le=180)]  # degrees
    shift: Annotated[float, Field(ge=0, lt=28)]  # pixels
    zoom: Fraction
    shear: Annotated[float, Field(ge=0, lt=90)]  # degrees


AugmentConfig = NoAugment | Affine


class Train(Part):
    """How long, on what batches, towards which loss, and how to compute it."""

    epochs: Annotated[int, Field(ge=1)]
    clean_epochs: Annotated[int, Field(ge=0)] = 0  # the last ones, without augmentation
    batch_size: Annotated[int, Field(ge=1)]
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy"]
    label_smoothing: Fraction
    patience: Annotated[int, Field(ge=1)] | None
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    jit: Literal["auto", True, False]


class Data(Part):
    """Which images, from where, and how they are split."""

    name: Literal["mnist", "mnist5k"]
    path: str | None
    fallback: Literal["bundled", "error"]
    validation_split: Fraction
    limit: Annotated[int, Field(ge=2)] | None


class Tracking(Part):
    """Where the run is recorded."""

    enabled: bool
    uri: str | None
    experiment: Annotated[str, Field(min_length=1)]
    skip_finished: bool


class SearchSettings(Part):
    """How `hydra/sweeper=optuna` searches."""

    n_trials: Annotated[int, Field(ge=1)]  # in all, those of earlier commands included
    n_jobs: Annotated[int, Field(ge=1)]  # trials drawn and launched at once
    sampler: Literal["tpe", "random"]
    seed: Annotated[int, Field(ge=0)]
    prune: bool
    max_failed: Annotated[int, Field(ge=0)]
    storage: str | None


MODEL_SUFFIXES = {".keras": "Keras archive", ".h5": "HDF5", "": "SavedModel folder"}
RUN_FILES = ("figures", "tables")  # folders that every run has


def _model_files(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        path = PurePath(name)
        if path.name != name or name.startswith(".") or name in RUN_FILES:
            raise PydanticCustomError("file", "plain file names such as [model.keras]")
        if path.suffix not in MODEL_SUFFIXES:
            raise PydanticCustomError("file", "names ending in .keras or .h5, or without a suffix")
    if not names or len(set(names)) < len(names):
        raise PydanticCustomError("file", "at least one file name, each once")
    return names


class Config(Part):
    """One experiment, wholly determined."""

    model: Annotated[ModelConfig, Discriminator("family")]
    optimizer: Annotated[OptimizerConfig, Discriminator("name")]
    schedule: Schedule
    augment: Annotated[AugmentConfig, Discriminator("name")] = NoAugment(name="none")
    train: Train
    data: Data
    tracking: Tracking
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    save_as: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_model_files)]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.train.patience and not self.data.validation_split:
            raise PydanticCustomError(
                "pair",
                "train.patience={patience} needs validation images, but data.validation_split=0: "
                "set data.validation_split=0.1 or train.patience=null",
                {"patience": self.train.patience},
            )
        return self


def keys() -> list[str]:
    """Every dotted key that some config may hold."""

    def walk(kind: type[Part], prefix: str) -> Iterator[str]:
        for name, field in kind.model_fields.items():
            yield prefix + name
            for part in _parts(field.annotation):
                yield from walk(part, f"{prefix}{name}.")

    return sorted({*walk(Config, ""), *walk(SearchSettings, "hydra.sweeper.")})


def siblings(whole: type[Part], location: tuple[int | str, ...]) -> list[str]:
    """The names beside the one in `whole` that a validation error points at."""
    kinds = [whole]
    for name in location[:-1]:
        if name in kinds[0].model_fields:
            kinds = _parts(kinds[0].model_fields[str(name)].annotation)
        else:  # a union's branch, by its tag
            kinds = [kind for kind in kinds if name in _tags(kind)]
    return sorted(kinds[0].model_fields) if kinds else []


def _parts(annotation: Any) -> list[type[Part]]:
    kinds = (annotation, *get_args(annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part)]


def _tags(kind: type[Part]) -> list[str]:
    return [tag for field in kind.model_fields.values() for tag in get_args(field.annotation)]
