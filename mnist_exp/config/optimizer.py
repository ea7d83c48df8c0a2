"""The `optimizer` group: Keras' optimizers with their arguments, checked before Keras is imported.

Left out are ScheduleFreeAdamW (Keras 3.15 reads its momentum after changing it, which on TensorFlow
makes it another method) and the arguments that `train` stands for: averaged weights (train.ema),
accumulated gradients (train.batch_size) and the scale of a float16 loss (train.precision).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import Field, create_model, model_validator

from mnist_exp.config.base import UNSET, ConfigGroup, Finite, Fraction, NotNegative, Positive

Negative = Annotated[float, Field(lt=0, allow_inf_nan=False)]
NotPositive = Annotated[float, Field(le=0, allow_inf_nan=False)]
LayerName = Annotated[str, Field(pattern=r"^[\w.-]+$")]

BETAS = {"beta_1": Fraction, "beta_2": Fraction}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "adadelta": {"rho": Fraction, "epsilon": Positive},
    "adafactor": {
        "beta_2_decay": Negative,
        "epsilon_1": Positive,
        "epsilon_2": Positive,
        "clip_threshold": Positive,
        "relative_step": bool,
    },
    "adagrad": {"initial_accumulator_value": NotNegative, "epsilon": Positive},
    "adam": BETAS | {"epsilon": Positive, "amsgrad": bool},
    "adamax": BETAS | {"epsilon": Positive},
    "adamw": {"weight_decay": NotNegative} | BETAS | {"epsilon": Positive, "amsgrad": bool},
    "ftrl": {
        "learning_rate_power": NotPositive,
        "initial_accumulator_value": Positive,  # by 0 it divides
        "l1_regularization_strength": NotNegative,
        "l2_regularization_strength": NotNegative,
        "l2_shrinkage_regularization_strength": NotNegative,
        "beta": NotNegative,
    },
    "lamb": BETAS | {"epsilon": Positive},
    "lion": BETAS | {"beta_1": Annotated[float, Field(gt=0, lt=1)]},
    "muon": {
        "adam_beta_1": Fraction,
        "adam_beta_2": Fraction,
        "adam_weight_decay": NotNegative,
        "epsilon": Positive,
        "exclude_layers": Annotated[tuple[LayerName, ...], Field(strict=False)],
        "exclude_embeddings": bool,
        "muon_a": Finite,
        "muon_b": Finite,
        "muon_c": Finite,
        "adam_lr_ratio": Positive,
        "momentum": Fraction,
        "ns_steps": Annotated[int, Field(ge=1)],
        "nesterov": bool,
        "rms_rate": Positive,
    },
    "nadam": BETAS | {"epsilon": Positive},
    "rmsprop": {"rho": Fraction, "momentum": Fraction, "epsilon": Positive, "centered": bool},
    "sgd": {"momentum": Fraction, "nesterov": bool},
}
REQUIRED = {  # all others may be left out, for Keras' own default
    "adam": {*BETAS},
    "adamw": {"weight_decay", *BETAS},
    "rmsprop": {"rho"},
    "sgd": {"momentum", "nesterov"},
}
CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


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
        given = [name for name in CLIPPING if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"optimizer.{given[0]}: Keras clips gradients in one way, and "
                f"optimizer.{given[1]} is set, too; leave one out"
            )
        return self


def _config_class(name: str) -> type[OptimizerConfig]:
    fields: dict[str, Any] = {"name": (Literal[name], ...)}
    for argument, kind in ARGUMENTS[name].items():
        is_required = argument in REQUIRED.get(name, ())
        fields[argument] = (kind, ...) if is_required else (Annotated[kind | None, UNSET], None)
    return create_model(f"{name.title()}Config", __base__=OptimizerConfig, **fields)


if TYPE_CHECKING:
    AnyOptimizer = OptimizerConfig
else:
    AnyOptimizer = Union[tuple(_config_class(name) for name in ARGUMENTS)]  # noqa: UP007
