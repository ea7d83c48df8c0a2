"""Python objects given to `run_experiment` in place of options of the config."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mnist_exp.config.compose import parse
from mnist_exp.config.parts import GIVEN, Given
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError

if TYPE_CHECKING:
    import keras


def with_given(
    config: Config, *, model: Any = None, optimizer: Any = None, data: Sequence[Any] | None = None
) -> Config:
    """The config with these objects in the place of its own choices; raises `InputError`."""
    if model is None and optimizer is None and data is None:
        return config
    values = config.model_dump()
    if model is not None:
        name = getattr(model, "__name__", None) or model.name
        build = _build("model", model) or _give("model", _model(model), model.to_json())
        values["model"] = {"name": name, "family": "python", "build": build, "args": {}}
    if optimizer is not None:
        build, rate = _build("optimizer", optimizer), config.optimizer.learning_rate
        if not build:
            settings, rate = optimizer.get_config(), float(optimizer.learning_rate)
            source = json.dumps(settings, default=str)
            build = _give("optimizer", lambda _: type(optimizer).from_config(settings), source)
        values["optimizer"] = {"name": "python", "build": build, "learning_rate": rate, "args": {}}
    if data is not None:
        build = _build("data", data) or _give("data", lambda: tuple(data), "")
        splits = {"test_split": 0.2} if not callable(data) and len(data) == 2 else {}
        values["data"] = {"name": "own", "build": build, "args": {}} | splits
    return parse(values)


def _model(model: "keras.Model") -> Any:
    """A function that applies a copy of the model, with the weights it has."""

    def build(images: Any, classes: int) -> Any:
        import keras

        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy(images)

    return build


def _build(key: str, thing: Any) -> str:
    """`module:name` of a function or class; empty for an object of another kind."""
    if not callable(thing) or not hasattr(thing, "__qualname__"):
        return ""
    if not thing.__qualname__.isidentifier():
        raise InputError(
            f"{key}: expected a function or class at the top of a module, got {thing.__qualname__}"
        )
    return f"{thing.__module__}:{thing.__qualname__}"


def _give(key: str, function: Any, source: str) -> str:
    """Keep the function for this process, in which `given:<key>` names it."""
    GIVEN[key] = Given(function, hashlib.sha256(source.encode()).hexdigest()[:12])
    return f"given:{key}"
