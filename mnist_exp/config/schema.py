"""The config's groups, keys, types and ranges, as pydantic models."""

from math import inf
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mnist_exp.config.augment import AugmentConfig
from mnist_exp.config.base import AS_TEXT, UNSET, ConfigGroup, Fraction, dotted_keys
from mnist_exp.config.callbacks import CallbackConfig, PlateauConfig
from mnist_exp.config.data import AnyDataConfig
from mnist_exp.config.model import ModelConfig
from mnist_exp.config.optimizer import AnyOptimizer
from mnist_exp.config.parts import Build, PythonPart
from mnist_exp.core.layout import CHECKPOINTS, FIGURES, TABLES, TENSORBOARD, FigureFormat


class ScheduleConfig(ConfigGroup):
    """The learning rate over all steps; `warmup` is the fraction of them in which it rises."""

    name: Literal["constant", "cosine", "onecycle"]
    warmup: Fraction


class PythonScheduleConfig(PythonPart):
    """A function `(steps (k,), total, **args) -> (k,) factors of optimizer.learning_rate`."""

    name: Literal["python"]
    warmup: Literal[0] = 0


AnySchedule = ScheduleConfig | PythonScheduleConfig


def _class_weight(value: Any) -> Any:
    numbers = value if isinstance(value, (list, tuple)) else ()
    is_valid = all(type(each) in (int, float) and 0 <= each < inf for each in numbers)
    if value in (None, "balanced") or (is_valid and any(numbers)):
        return tuple(map(float, numbers)) or value
    text = "balanced or a list of numbers of at least 0, one for each class"
    raise PydanticCustomError("class_weight", text)


Loss = Literal[
    "sparse_categorical_crossentropy", "categorical_crossentropy", "categorical_focal_crossentropy"
]  # fmt: skip
ClassWeight = Annotated[
    Literal["balanced"] | tuple[float, ...] | None, BeforeValidator(_class_weight), UNSET
]
Patterns = Annotated[  # of names of layers, as in the shell
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(strict=False, exclude_if=lambda value: not value),
]


class TrainConfig(ConfigGroup):
    """Epochs, batches, loss, averaging and numerics of the training."""

    epochs: Annotated[int, Field(ge=1)]
    clean_epochs: Annotated[int, Field(ge=0)] = 0  # at the end, without augmentation
    checkpoint_every: Annotated[int, Field(ge=1)] = 1  # epochs
    batch_size: Annotated[int, Field(ge=1)]
    loss: Loss | Build  # a function (labels, scores), both (n, classes) -> (n,)
    label_smoothing: Fraction
    class_weight: ClassWeight = None
    patience: Annotated[int, Field(ge=1)] | None
    freeze: Patterns = ()
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    jit: Literal["auto", True, False]


class MetricConfig(PythonPart):
    """A function `(labels (n,), probabilities (n, classes), **args) -> number`."""


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
FOLDERS = (CHECKPOINTS, FIGURES, TABLES, TENSORBOARD)  # of a run
MODEL_SUFFIXES = (".keras", ".h5", "")  # none is a SavedModel folder


def _model_files(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        path = PurePath(name)
        if path.name != name or name.startswith(".") or name in FOLDERS:
            raise PydanticCustomError("file", "plain file names such as [model.keras]")
        if path.suffix not in MODEL_SUFFIXES:
            raise PydanticCustomError("file", "names ending in .keras or .h5, or without a suffix")
    if not names or len(set(names)) < len(names):
        raise PydanticCustomError("file", "at least one file name, each once")
    return names


OWN_METRICS = {  # of the test images
    "loss", "accuracy", "accuracy_low", "accuracy_high", "errors", "top2_accuracy", "ece", "brier",
    "loss_calibrated", "ece_calibrated",
}  # fmt: skip


def _metric_name(name: str) -> str:
    if name in OWN_METRICS or not name.isidentifier():
        raise PydanticCustomError("metric", "a name of letters and digits that is none of ours")
    return name


TagName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=250)]
MetricName = Annotated[str, AfterValidator(_metric_name)]
TagValue = Annotated[str, Field(max_length=MAX_NOTE), AS_TEXT]


class Config(ConfigGroup):
    """One experiment, fully specified."""

    model: Annotated[ModelConfig, Discriminator("family")]
    optimizer: Annotated[AnyOptimizer, Discriminator("name")]
    schedule: Annotated[AnySchedule, Discriminator("name")]
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig
    data: Annotated[AnyDataConfig, Discriminator("name")]
    tracking: TrackingConfig
    report: ReportConfig = ReportConfig()
    name: Annotated[str, Field(min_length=1, max_length=250), AS_TEXT] | None = None  # of the run
    notes: Annotated[str, Field(max_length=MAX_NOTE), AS_TEXT] | None = None  # Markdown
    tags: Annotated[dict[TagName, TagValue], Field(default_factory=dict)]
    # Left out where it is empty: earlier runs have no such key.
    callbacks: Annotated[
        dict[str, CallbackConfig], Field(default_factory=dict, exclude_if=lambda value: not value)
    ]
    # Each is recorded as test/<name>.
    metrics: Annotated[
        dict[MetricName, MetricConfig],
        Field(default_factory=dict, exclude_if=lambda value: not value),
    ]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    start_from: Annotated[Annotated[str, Field(min_length=1), AS_TEXT] | None, UNSET] = None
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
        if self.optimizer.name == "ftrl" and self.schedule.name == "cosine":
            raise ValueError(
                "schedule=cosine ends at 0, by which optimizer=ftrl divides: set schedule=onecycle"
            )
        if self.data.validation and not self.data.validation_split:
            raise ValueError(
                f"data.validation={self.data.validation} is drawn from the last "
                "data.validation_split of the training images, which is 0: set "
                "data.validation_split=0.1"
            )
        self._check_plateaus()
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

    def _check_plateaus(self) -> None:
        for key, callback in self.callbacks.items():
            if not isinstance(callback, PlateauConfig):
                continue
            if self.schedule.name != "constant" or self.schedule.warmup:
                reason, mended = "one rate for all steps", "schedule=constant schedule.warmup=0"
            elif callback.monitor.startswith("val/") and not self.data.validation_split:
                reason, mended = "validation images", "data.validation_split=0.1"
            else:
                continue
            raise ValueError(f"callbacks.{key}: it needs {reason}: set {mended} or leave it out")


def keys() -> list[str]:
    """Every dotted key that some config may hold."""
    search = dotted_keys(SearchSettings, "hydra.sweeper.")
    plateau = dotted_keys(PlateauConfig, "callbacks.reduce_on_plateau.")
    return sorted({*dotted_keys(Config), *search, *plateau, "resume"})
