"""The faster layers compute what Keras' own compute."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_exp.models import layers


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_batch_normalisation_matches_keras(precision: str) -> None:
    images = np.random.default_rng(0).normal(3, 2, (64, 5, 5, 4)).astype(np.float32)
    ours = layers.BatchNormalization(dtype=precision)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=precision)
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 0.02}[precision]
    for _ in range(3):
        one, other = (np.asarray(layer(images, training=True), float) for layer in (ours, theirs))
        assert one == pytest.approx(other, abs=tolerance)
    for weight, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert weight == pytest.approx(expected, rel=2e-3)  # the variance is over n - 1
    theirs.set_weights(ours.get_weights())
    assert (np.asarray(ours(images)) == np.asarray(theirs(images))).all()


def test_dropout_drops_the_rate_and_keeps_the_mean() -> None:
    layer = layers.Dropout(0.25, seed=1)
    values = np.asarray(layer(np.ones((200, 200), np.float32), training=True))
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert set(np.unique(values)) == {0, np.float32(1 / 0.75)}
    again = np.asarray(layer(np.ones((200, 200), np.float32), training=True))
    assert (again != values).any()
    assert (np.asarray(layer(np.ones((2, 2), np.float32))) == 1).all()


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_convolution_and_its_gradients_match_keras(
    padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "has_gpu", lambda: False)  # patched: the machine itself
    images = np.random.default_rng(0).normal(0, 1, (5, 6, 7, 3)).astype(np.float32)
    results = []
    for kind, dtype in ((layers.Conv2D, "mixed_bfloat16"), (keras.layers.Conv2D, "float32")):
        layer = kind(layers.MIN_FILTERS, 3, padding=padding, dtype=dtype)
        layer.build(images.shape)
        layer.kernel.assign(np.random.default_rng(1).normal(0, 1, layer.kernel.shape))
        layer.bias.assign(np.random.default_rng(2).normal(0, 1, layer.bias.shape))
        with tf.GradientTape() as tape:
            tape.watch(pixels := tf.constant(images))
            scores = layer(pixels)
            loss = tf.reduce_sum(tf.cast(scores, tf.float32) ** 2)
        weights = [layer.kernel.value, layer.bias.value]
        results.append([scores, *tape.gradient(loss, [pixels, *weights])])
    for ours, theirs in zip(*results, strict=True):
        expected = np.asarray(theirs, float)
        tolerance = 0.05 * np.abs(expected).max()  # bfloat16 has 8 bits
        assert np.asarray(ours, float) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("filters", "kernel", "side", "precision", "gpu", "products"),
    [
        (128, 3, 8, "mixed_bfloat16", False, True),
        (127, 3, 8, "mixed_bfloat16", False, False),
        (128, 2, 8, "mixed_bfloat16", False, False),
        (128, 3, 9, "mixed_bfloat16", False, False),
        (128, 3, 8, "float32", False, False),
        (128, 3, 8, "mixed_bfloat16", True, False),
    ],
)
def test_many_filters_on_small_maps_have_a_gradient_of_matrix_products(
    filters: int,
    kernel: int,
    side: int,
    precision: str,
    gpu: bool,
    products: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "has_gpu", lambda: gpu)  # patched: the machine itself
    layer = layers.Conv2D(filters, kernel, padding="same", dtype=precision)
    layer.build((4, side, side, 2))

    def gradient(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            scores = layer(images)
        return tape.gradient(scores, layer.kernel.value)

    images = tf.TensorSpec((4, side, side, 2))
    graph = tf.function(gradient).get_concrete_function(images).graph
    uses_onednn = "Conv2DBackpropFilter" in {node.type for node in graph.get_operations()}
    assert uses_onednn != products
