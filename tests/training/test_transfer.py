"""Frozen layers: none of their weights changes, and batch normalization is in inference mode."""

import keras
import numpy as np
import pytest
from support import prepare, tiny, train

from mnist_exp.data.dataset import Dataset
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.training.transfer import freeze, layer_weights, layers_by_name

SMALL_CONV = ["model=cnn", "model.filters=[2,2]", "model.units=[]", "optimizer=adamw"]


@pytest.mark.parametrize("average", ["train.ema=null", "train.ema=0.5"])
def test_frozen_layers_stay_with_decay_averages_and_statistics(
    few_digits: Dataset, average: str
) -> None:
    frozen = "train.freeze=[conv2d,batch_normalization*]"
    config = tiny(*SMALL_CONV, "optimizer.weight_decay=0.1", frozen, average)
    loop = prepare(config, few_digits)
    before = layer_weights(loop.model)
    train(loop, config)
    for name, after in layer_weights(loop.model).items():
        same = [np.array_equal(a, b) for a, b in zip(before[name], after, strict=True)]
        is_frozen = name == "conv2d" or name.startswith("batch_normalization")
        assert all(same) if is_frozen else not any(same), name


def test_layers_are_numbered_within_their_model() -> None:
    keras.layers.Dense(3)  # counted by Keras
    layers = [keras.layers.Dense(2), keras.layers.Dense(2, name="block_7"), keras.layers.Dense(2)]
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="block_7")])
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.ReLU(), inner])
    assert [*layers_by_name(model)] == ["dense", "block_7", "dense_1", "block_7_1"]


def test_what_is_saved_is_frozen_too_down_to_the_layers_in_a_layer() -> None:
    images = keras.Input((4, 8))
    hidden = keras.layers.MultiHeadAttention(2, 4)(images, images)
    model = keras.Model(images, keras.layers.Dense(3)(hidden))
    saved = to_stock_keras(freeze(model, ["multi*"]))
    assert [v.shape for v in saved.trainable_variables] == [(8, 3), (3,)]
    assert all(map(np.array_equal, saved.get_weights(), model.get_weights()))
