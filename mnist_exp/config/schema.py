"""The config's groups, keys, types and ranges, as pydantic models."""

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from mnist_exp.config.base import AS_TEXT, ConfigGroup, Fraction, NotNegative, Positive, dotted_keys
from mnist_exp.config.model import ModelConfig
from mnist_exp.core.layout import CHECKPOINTS, FIGURES, TABLES, FigureFormat


class AdamConfig(ConfigGroup):
    """Kingma and Ba, 2015."""

    name: Literal["adam"]
    learning_rate: Positive
    beta_1: Fraction
    beta_2: Fraction


class AdamWConfig(ConfigGroup):
    """Adam with decoupled weight decay: Loshchilov and Hutter, 2019."""

    name: Literal["adamw"]
    learning_rate: Positive
    weight_decay: NotNegative
    beta_1: Fraction
    beta_2: Fraction


class SgdConfig(ConfigGroup):
    """Gradient descent with momentum."""

    name: Literal["sgd"]
    learning_rate: Positive
    momentum: Fraction
    nesterov: bool


class RmsPropConfig(ConfigGroup):
    """Hinton's lecture 6e, 2012."""

    name: Literal["rmsprop"]
    learning_rate: Positive
    rho: Fraction


OptimizerConfig = AdamConfig | AdamWConfig | SgdConfig | RmsPropConfig


class ScheduleConfig(ConfigGroup):
    """The learning rate over all steps; `warmup` is the fraction of them in which it rises."""

    name: Literal["constant", "cosine", "onecycle"]
    warmup: Fraction


AFFINE = ("rotate", "shift", "zoom", "shear")
AFTER_AFFINE = ("elastic", "brightness", "contrast", "noise", "erase", "mixup")


class AugmentConfig(ConfigGroup):
    """What changes the training images, anew in each epoch; 0 is off."""

    name: str = "none"  # of what is on, such as affine+elastic
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees
    shift: Annotated[float, Field(ge=0, lt=28)] = 0.0  # pixels
    zoom: Fraction = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0  # degrees
    elastic: Annotated[float, Field(ge=0, lt=28)] = 0.0  # pixels, root mean square
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    noise: Fraction = 0.0  # standard deviation; white is 1
    erase: Fraction = 0.0  # of the picture, at most
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0  # alpha

    def model_post_init(self, _: Any) -> None:
        """Name what is on: options that Hydra merged would share one name."""
        has_affine = "affine" in self.name.split("+") or any(getattr(self, k) for k in AFFINE)
        on = ["affine"] * has_affine + [key for key in AFTER_AFFINE if getattr(self, key)]
        name = "+".join(on) or "none"
        if self.name not in ("none", "affine", name):
            raise ValueError(f"augment.name: expected {name!r}, as the keys say, got {self.name!r}")
        object.__setattr__(self, "name", name)

    @model_serializer
    def _what_is_on(self) -> dict[str, Any]:
        """Without the keys of what is off: runs of before they existed stay in their groups."""
        on = ["name", *self.name.split("+"), *(AFFINE if "affine" in self.name else ())]
        return {key: value for key, value in self if key in on}


class TrainConfig(ConfigGroup):
    """Epochs, batches, loss, averaging and numerics of the training."""

    epochs: Annotated[int, Field(ge=1)]
    clean_epochs: Annotated[int, Field(ge=0)] = 0  # at the end, without augmentation
    checkpoint_every: Annotated[int, Field(ge=1)] = 1  # epochs
    batch_size: Annotated[int, Field(ge=1)]
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy"]
    label_smoothing: Fraction
    patience: Annotated[int, Field(ge=1)] | None
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    jit: Literal["auto", True, False]


class DataConfig(ConfigGroup):
    """The data set, its source and its splits."""

    name: Literal["mnist", "mnist5k"]
    path: Annotated[str, AS_TEXT] | None
    fallback: Literal["bundled", "error"]
    validation_split: Fraction
    validation: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=2)] | None


class TrackingConfig(ConfigGroup):
    """The MLflow store and experiment of the run."""

    enabled: bool
    uri: Annotated[str, AS_TEXT] | None
    experiment: Annotated[str, Field(min_length=1, max_length=500), AS_TEXT]
    skip_finished: bool
    system_metrics: bool = False


class ReportConfig(ConfigGroup):
    """The figures of a run, and of a sweep: a file of each in every format; none without any."""

    formats: Annotated[
        tuple[Annotated[FigureFormat, Field(strict=False)], ...], Field(strict=False)
    ] = (FigureFormat.PNG,)
    dpi: Annotated[int, Field(ge=50, le=600)] = 100  # of PNGs


class SearchSettings(ConfigGroup):
    """The settings of `hydra/sweeper=optuna`."""

    n_trials: Annotated[int, Field(ge=1)]  # in total, with those of earlier commands
    n_jobs: Annotated[int, Field(ge=1)]  # trials asked for and launched at once
    sampler: Literal["tpe", "random"]
    seed: Annotated[int, Field(ge=0)]
    prune: bool
    max_failed: Annotated[int, Field(ge=0)]
    storage: str | None


RESERVED_TAGS = {  # what the program logs of every run
    "overrides", "fingerprint", "host", "folder", "record", "outcome", "cpu", "threads", "gpu",
    "extended_from", "extended_after",
}  # fmt: skip
MAX_NOTE = 4000  # characters: a tag of MLflow holds 8,000, of which a ranking takes its share
MODEL_SUFFIXES = (".keras", ".h5", "")  # none is a SavedModel folder


def _model_files(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        path = PurePath(name)
        if path.name != name or name.startswith(".") or name in (CHECKPOINTS, FIGURES, TABLES):
            raise PydanticCustomError("file", "plain file names such as [model.keras]")
        if path.suffix not in MODEL_SUFFIXES:
            raise PydanticCustomError("file", "names ending in .keras or .h5, or without a suffix")
    if not names or len(set(names)) < len(names):
        raise PydanticCustomError("file", "at least one file name, each once")
    return names


TagName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=250)]
TagValue = Annotated[str, Field(max_length=MAX_NOTE), AS_TEXT]


class Config(ConfigGroup):
    """One experiment, fully specified."""

    model: Annotated[ModelConfig, Discriminator("family")]
    optimizer: Annotated[OptimizerConfig, Discriminator("name")]
    schedule: ScheduleConfig
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig
    data: DataConfig
    tracking: TrackingConfig
    report: ReportConfig = ReportConfig()
    name: Annotated[str, Field(min_length=1, max_length=250), AS_TEXT] | None = None  # of the run
    notes: Annotated[str, Field(max_length=MAX_NOTE), AS_TEXT] | None = None  # Markdown
    tags: Annotated[dict[TagName, TagValue], Field(default_factory=dict)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    save_as: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_model_files)]

    @property
    def bound_to_epochs(self) -> str:
        """What depends on the number of epochs before the last one; empty without such a thing."""
        if self.schedule.name != "constant":
            return f"schedule={self.schedule.name} spreads the learning rate over all epochs"
        if self.schedule.warmup:
            return f"schedule.warmup={self.schedule.warmup:g} is a share of all epochs"
        if self.augment.name != "none" and self.train.clean_epochs:
            return f"train.clean_epochs={self.train.clean_epochs} leaves the last ones unaugmented"
        return ""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if taken := [t for t in self.tags if t in RESERVED_TAGS or t.startswith("mlflow.")]:
            raise ValueError(
                f"tags.{min(taken)}: this tag is the program's own; choose another name"
            )
        if self.data.validation and not self.data.validation_split:
            raise ValueError(
                f"data.validation={self.data.validation} is drawn from the last "
                "data.validation_split of the training images, which is 0: set "
                "data.validation_split=0.1"
            )
        if self.train.patience and not self.data.validation_split:
            raise ValueError(
                f"train.patience={self.train.patience} needs validation images, but "
                "data.validation_split=0: set data.validation_split=0.1 or train.patience=null"
            )
        if self.augment.name != "none" and self.train.clean_epochs >= self.train.epochs:
            raise ValueError(
                f"train.clean_epochs={self.train.clean_epochs} leaves none of "
                f"train.epochs={self.train.epochs} to augment: lower it or set augment=none"
            )
        return self


def keys() -> list[str]:
    """Every dotted key that some config may hold."""
    search = dotted_keys(SearchSettings, "hydra.sweeper.")
    return sorted({*dotted_keys(Config), *search, "resume"})
