"""The `augment` group: what changes the training images."""

from typing import Annotated, Any

from pydantic import Field, model_serializer

from mnist_exp.config.base import ConfigGroup, Fraction
from mnist_exp.config.parts import Args, Arguments, Build

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
    # A function `(images (n, 28, 28) uint8, random, **args) -> images`, last of all.
    build: Build | None = None
    args: Args = Arguments()

    def model_post_init(self, _: Any) -> None:
        """Name what is on: options that Hydra merged would share one name."""
        if self.args and not self.build:
            raise ValueError("augment.args: they are of augment.build, which is not set: set it")
        has_affine = "affine" in self.name.split("+") or any(getattr(self, k) for k in AFFINE)
        on = ["affine"] * has_affine + [key for key in AFTER_AFFINE if getattr(self, key)]
        on += [self.build.partition(":")[2]] if self.build else []
        if self.args and not self.build:
            raise ValueError("augment.args: they are of augment.build, which names no function")
        name = "+".join(on) or "none"
        if self.name not in ("none", "affine", name):
            raise ValueError(f"augment.name: expected {name!r}, as the keys say, got {self.name!r}")
        object.__setattr__(self, "name", name)

    @model_serializer
    def _what_is_on(self) -> dict[str, Any]:
        """Without the keys of what is off: runs of before they existed stay in their groups."""
        on = ["name", *self.name.split("+"), *(AFFINE if "affine" in self.name else ())]
        on += ["build", "args"] if self.build else []
        return {key: value for key, value in self if key in on}
