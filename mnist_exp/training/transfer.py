"""Transfer: the weights of another model taken over, and layers that are not trained."""

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import shorten

import keras
import numpy as np

from mnist_exp.config.messages import nearest
from mnist_exp.core.errors import InputError
from mnist_exp.models.families import all_layers

Weights = Mapping[str, list[np.ndarray]]  # of each layer


def take_weights(model: keras.Model, source: Weights, given: str) -> str:
    """Set the layers that `source` has by the same name and shapes; a sentence about which.

    Raises `InputError`, naming the source as `given`, when there are none.
    """
    layers = layers_by_name(model)
    ours, there = _shapes(layer_weights(model)), _shapes(source)
    other = {name: there.get(name, "none") for name in ours if there.get(name) != ours[name]}
    told = ", ".join(f"{name} {ours[name]} (there {other[name]})" for name in other)
    told = shorten(told, 300, placeholder=" ...")
    if len(other) == len(ours):
        raise InputError(f"{given}: none of its layers has the name and shapes of one here: {told}")
    for name in ours.keys() - other.keys():
        layers[name].set_weights(source[name])
    count = f"{len(ours) - len(other)} of {len(ours)} layers"
    return f"{given}: took the weights of {count}{told and f', not {told}'}"


def freeze(model: keras.Model, patterns: Sequence[str]) -> keras.Model:
    """The model, its layers of these names not trainable.

    Raises `InputError` for a pattern without a layer, and when none is left to train.
    """
    layers = layers_by_name(model)
    for pattern in patterns:
        found = fnmatch.filter(layers, pattern)
        if not found:
            hint = f"{nearest(pattern, [*layers])}; there are {', '.join(layers)}"
            raise InputError(f"train.freeze: no layer {pattern} with weights{hint}")
        for name in found:
            layers[name].trainable = False
    if patterns and not model.trainable_variables:
        raise InputError(f"train.freeze: no layer is left to train of {', '.join(layers)}")
    return model


def layer_weights(model: keras.Model) -> Weights:
    """The weights of each layer by its name."""
    return {name: layer.get_weights() for name, layer in layers_by_name(model).items()}


def layers_by_name(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers with weights by name; those that Keras named are numbered within the model.

    Keras counts over the whole process: the first dense layer of a second model is dense_2.
    """
    named: dict[str, keras.Layer] = {}
    counts = Counter[str]()
    for layer in filter(lambda each: each.weights, all_layers(model)):
        base = re.sub(r"_\d+$", "", layer.name)
        name = base if base.replace("_", "") == type(layer).__name__.lower() else layer.name
        named[f"{name}_{counts[name]}" if counts[name] else name] = layer
        counts[name] += 1
    return named


def _shapes(weights: Weights) -> dict[str, str]:
    return {n: " ".join(str(each.shape) for each in arrays) for n, arrays in weights.items()}
