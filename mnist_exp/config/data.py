"""The `data` group: data sets known by name, and pictures of one's own."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mnist_exp.config.base import AS_TEXT, UNSET, ConfigGroup, Fraction
from mnist_exp.config.parts import Args, Arguments, Build


class DataConfig(ConfigGroup):
    """The data set, its source and its splits."""

    name: Literal[
        "mnist", "mnist5k", "fashion_mnist", "kmnist", "k49", "emnist_digits", "emnist_letters",
        "emnist_balanced", "qmnist",
    ]  # fmt: skip
    path: Annotated[str, AS_TEXT] | None
    fallback: Literal["bundled", "error"]
    validation_split: Fraction
    validation: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=2)] | None


ClassName = Annotated[str, Field(min_length=1), AS_TEXT]


class OwnDataConfig(ConfigGroup):
    """Pictures of one's own: their file or folder, the part to test on, and the splits."""

    name: Literal["own"]
    path: Annotated[str, Field(min_length=1), AS_TEXT] | None = None
    # Or a function `(**args) -> images, labels`, of the training and perhaps of the test part.
    build: Annotated[Build | None, UNSET] = None
    args: Annotated[Args, Field(exclude_if=lambda value: not value)] = Arguments()
    test_path: Annotated[str, AS_TEXT] | None = None
    test_split: Annotated[float, Field(gt=0, lt=1)] | None = None  # where there is no test part
    classes: Annotated[tuple[ClassName, ...], Field(strict=False)] | None = None  # their names
    resize: bool = False  # to fit 28x28, rather than place smaller ones in the middle
    validation_split: Fraction = 0.1
    validation: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.args and not self.build:
            raise ValueError("data.args: they are of data.build, which names no function")
        if bool(self.path) == bool(self.build):
            raise ValueError(
                "data.path: expected the file or folder of your pictures, or data.build=module:"
                f"function that returns them, got {'both' if self.path else 'neither'}"
            )
        if self.test_path and self.test_split:
            raise ValueError(
                "data.test_split: data.test_path names the pictures to test on; leave one out"
            )
        return self


AnyDataConfig = DataConfig | OwnDataConfig
