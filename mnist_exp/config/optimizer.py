"""The `optimizer` group: Keras' optimizers with their arguments, checked before Keras is imported.

Left out are ScheduleFreeAdamW (Keras 3.15 reads its momentum after changing it, which on TensorFlow
makes it another method) and the arguments that `train` stands for: averaged weights (train.ema),
accumulated gradients (train.batch_size) and the scale of a float16 loss (train.precision).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import Field, create_model, model_validator

from mnist_exp.config.base import UNSET, ConfigGroup, Fraction, NotNegative, Positive
from mnist_exp.config.parts import PythonPart

LayerName = Annotated[str, Field(pattern=r"^[\w.-]+$")]
KINDS: list[tuple[Any, str]] = [  # types and ranges of arguments, also of one optimizer's
    (Fraction, "beta_1 beta_2 adam_beta_1 adam_beta_2 rho momentum"),
    (Positive, "epsilon epsilon_1 epsilon_2 clip_threshold rms_rate adam_lr_ratio"),
    (NotNegative, "weight_decay adam_weight_decay beta initial_accumulator_value"),
    (NotNegative, "l1_regularization_strength l2_regularization_strength"),
    (NotNegative, "l2_shrinkage_regularization_strength"),
    (bool, "amsgrad centered nesterov relative_step exclude_embeddings"),
    (Annotated[float, Field(allow_inf_nan=False)], "muon_a muon_b muon_c"),
    (Annotated[int, Field(ge=1)], "ns_steps"),
    (Annotated[float, Field(le=0, allow_inf_nan=False)], "beta_2_decay learning_rate_power"),
    (Annotated[float, Field(gt=0, lt=1)], "lion.beta_1"),
    (Positive, "ftrl.initial_accumulator_value"),  # by which it divides
    (Annotated[tuple[LayerName, ...], Field(strict=False)], "exclude_layers"),
]
ARGUMENTS = {  # those with an exclamation mark must be given; others are Keras' default if not
    "adadelta": "rho epsilon",
    "adafactor": "beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step",
    "adagrad": "initial_accumulator_value epsilon",
    "adam": "beta_1! beta_2! epsilon amsgrad",
    "adamax": "beta_1 beta_2 epsilon",
    "adamw": "weight_decay! beta_1! beta_2! epsilon amsgrad",
    "ftrl": "learning_rate_power initial_accumulator_value l1_regularization_strength "
    "l2_regularization_strength l2_shrinkage_regularization_strength beta",
    "lamb": "beta_1 beta_2 epsilon",
    "lion": "beta_1 beta_2",
    "muon": "adam_beta_1 adam_beta_2 adam_weight_decay epsilon exclude_layers exclude_embeddings "
    "muon_a muon_b muon_c adam_lr_ratio momentum ns_steps nesterov rms_rate",
    "nadam": "beta_1 beta_2 epsilon",
    "rmsprop": "rho! momentum epsilon centered",
    "sgd": "momentum! nesterov!",
}


class OptimizerConfig(ConfigGroup):
    """What every optimizer has; None is Keras' default."""

    name: str
    learning_rate: Positive
    weight_decay: Annotated[NotNegative | None, UNSET] = None
    clipnorm: Annotated[Positive | None, UNSET] = None  # of each weight's gradient
    global_clipnorm: Annotated[Positive | None, UNSET] = None  # of all gradients together
    clipvalue: Annotated[Positive | None, UNSET] = None

    @model_validator(mode="after")
    def _check_clipping(self) -> Self:
        clips = ("clipnorm", "global_clipnorm", "clipvalue")
        given = [name for name in clips if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"optimizer.{given[0]}: Keras clips in one way; leave out {given[1]}")
        return self


class PythonOptimizerConfig(PythonPart):
    """A function or class `(learning_rate, **args) -> a Keras optimizer`."""

    name: Literal["python"]
    learning_rate: Positive


def _config_class(name: str) -> type[OptimizerConfig]:
    kinds = {argument: kind for kind, arguments in KINDS for argument in arguments.split()}
    fields: dict[str, Any] = {"name": (Literal[name], ...)}
    for argument in ARGUMENTS[name].split():
        key = argument.removesuffix("!")
        kind = kinds.get(f"{name}.{key}", kinds[key])
        fields[key] = (kind, ...) if key != argument else (Annotated[kind | None, UNSET], None)
    return create_model(f"{name.title()}Config", __base__=OptimizerConfig, **fields)


if TYPE_CHECKING:
    AnyOptimizer = OptimizerConfig
else:
    AnyOptimizer = Union[(PythonOptimizerConfig, *map(_config_class, ARGUMENTS))]
