"""The `callbacks` group: what a run can have beside its own, each under a key of its own."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from mnist_exp.config.base import ConfigGroup, NotNegative
from mnist_exp.config.parts import PythonPart


class PlateauConfig(ConfigGroup):
    """The learning rate times `factor` after `patience` epochs in which `monitor` was no better."""

    name: Literal["ReduceLROnPlateau"]
    monitor: Literal["val/loss", "val/accuracy", "train/loss", "train/accuracy"] = "val/loss"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=1)] = 10
    min_delta: NotNegative = 1e-4
    cooldown: Annotated[int, Field(ge=0)] = 0
    min_lr: NotNegative = 0.0


class TensorBoardConfig(ConfigGroup):
    """The run's figures, in TensorBoard's files."""

    name: Literal["TensorBoard"]


class PythonCallbackConfig(PythonPart):
    """A function or class `(**args) -> a Keras callback`."""

    name: Literal["python"]


CallbackConfig = Annotated[
    PlateauConfig | TensorBoardConfig | PythonCallbackConfig, Discriminator("name")
]
