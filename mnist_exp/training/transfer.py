"""Transfer: the weights of another model taken over, and layers that are not trained."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras

from mnist_exp.config.messages import nearest
from mnist_exp.core.errors import InputError
from mnist_exp.models.families import all_layers

TOLD = 6  # weights that were not taken, by name


def take_weights(model: keras.Model, source: Mapping[str, Any], given: str) -> str:
    """Set the weights that `source` has by the same name and shape; a sentence about which.

    Raises `InputError`, naming the source as `given`, when there are none.
    """
    ours = weights_by_name(model)
    fitting = [name for name, weight in ours.items() if _shape(source.get(name)) == weight.shape]
    missed = [
        f"{name} {weight.shape}{f', there {_shape(source[name])}' if name in source else ''}"
        for name, weight in ours.items()
        if name not in fitting
    ]
    rest = [f"{len(missed) - TOLD} more"] if len(missed) > TOLD else []
    told = "; ".join([*missed[:TOLD], *rest])
    if not fitting:
        raise InputError(f"{given}: none of its weights has the name and shape of one here: {told}")
    for name in fitting:
        ours[name].assign(source[name])
    return f"{given}: took {len(fitting)} of {len(ours)} weights{told and f', not {told}'}"


def freeze(model: keras.Model, patterns: Sequence[str]) -> keras.Model:
    """The model, its layers of these names not trainable.

    Raises `InputError` for a pattern without a layer, and when none is left to train.
    """
    layers = _layers_by_name(model)
    for pattern in patterns:
        found = [name for name in layers if fnmatchcase(name, pattern)]
        if not found:
            raise InputError(
                f"train.freeze: no layer {pattern}{nearest(pattern, [*layers])}; those with "
                f"weights are {', '.join(layers)}"
            )
        for name in found:
            layers[name].trainable = False
    if not model.trainable_variables:
        raise InputError(
            f"train.freeze=[{','.join(patterns)}]: no weights are left to train; leave out one of "
            f"{', '.join(layers)}"
        )
    return model


def weights_by_name(model: keras.Model) -> dict[str, Any]:
    """The variables by layer and name, such as dense_1/kernel."""
    pairs = [
        (f"{name}/{weight.name}", weight)
        for name, layer in _layers_by_name(model).items()
        for weight in layer.weights
    ]
    return dict(zip(_numbered([name for name, _ in pairs]), (w for _, w in pairs), strict=True))


def _layers_by_name(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers with weights by name; those that Keras named are numbered within the model.

    Keras counts over the whole process: the first dense layer of a second model is dense_2.
    """
    layers = [layer for layer in all_layers(model) if layer.weights]
    return dict(zip(_numbered([_base_name(layer) for layer in layers]), layers, strict=True))


def _base_name(layer: keras.Layer) -> str:
    base = re.sub(r"_\d+$", "", layer.name)
    return base if base.replace("_", "") == type(layer).__name__.lower() else layer.name


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, with _1, _2 and so on where one comes again."""
    counts = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name}_{n}" if n else name for name, n in zip(names, counts, strict=True)]


def _shape(weight: Any) -> tuple[int, ...] | None:
    return None if weight is None else tuple(weight.shape)
