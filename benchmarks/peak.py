"""What share of the machine's matrix peak the training of each variant reaches."""

import statistics
import time
from collections.abc import Iterator

import keras
import tensorflow as tf

from benchmarks import machine
from benchmarks.epochs import ours
from mnist_exp.config.compose import compose
from mnist_exp.core import hardware

TITLE = "Share of the matrix peak"
PRECISIONS = {"float32": tf.float32, "mixed_bfloat16": tf.bfloat16}
SIDE = 2048
VARIANTS = {
    "dense128": [("model=dense128", 32), ("model=dense128", 256)],
    "dropout": [("model=dropout", 128)],
    "cnn_fast": [("model=cnn_fast", 200)],
    "cnn": [("model=cnn", 128)],
    "cnn_wide": [("model=cnn_wide", 128)],
}


def peak(precision: str, n: int) -> list[float]:
    """GFLOP/s of the product of two large matrices."""
    matrix = tf.cast(tf.random.normal((SIDE, SIDE)), PRECISIONS[precision])
    product = tf.function(lambda a: tf.matmul(a, a))
    product(matrix)
    rates = []
    for _ in range(n):
        started = time.perf_counter()
        product(matrix)[0, 0].numpy()
        rates.append(2 * SIDE**3 / (time.perf_counter() - started) / 1e9)
    return rates


def products(model: keras.Model) -> float:
    """Floating-point operations of an image's training step that are matrix products.

    Two for each multiplication forward, two for the gradient of the weights, and two, but for
    the first layer, for that of the input.
    """
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
    ]
    total = 0.0
    for number, layer in enumerate(layers):
        *places, _ = layer.output.shape[1:]
        multiplications = float(tf.reduce_prod(layer.kernel.shape))
        for side in places:
            multiplications *= side
        total += multiplications * (6 if number else 4)
    return total


def measure(quick: bool) -> Iterator[str]:
    data = machine.mnist()
    names = ["dense128", "cnn_fast", "cnn"] if quick else list(VARIANTS)
    precisions = ["float32"]
    if hardware.has_bfloat16():
        precisions.append("mixed_bfloat16")
    yield (
        f"The peak is that of the product of two {SIDE}x{SIDE} matrices, measured before and "
        "after each variant. Counted are a variant's own matrix products and convolutions only; "
        "its seconds are those of a whole epoch of 48,000 images."
    )
    yield ""
    yield from machine.head(
        "variant", "batch", "precision", "epoch", "GFLOP/s", "peak GFLOP/s", "share"
    )
    for name in names:
        for model, batch in VARIANTS[name]:
            for precision in precisions:
                if precision != "float32" and compose([model]).model.family == "dense":
                    continue  # auto stays in float32
                overrides = [model, f"train.batch_size={batch}", f"train.precision={precision}"]
                network, epoch = ours(data, overrides)
                epoch()
                before = peak(precision, 10)
                seconds = [epoch() for _ in range(1 if quick else 3)]
                middle = statistics.median([*before, *peak(precision, 10)])
                rate = products(network) * len(data.train_labels)
                rate /= statistics.median(seconds) * 1e9
                yield machine.row(
                    name, batch, precision, machine.spread(seconds, " s"),
                    f"{rate:.0f}", f"{middle:.0f}", f"{100 * rate / middle:.0f} %",
                )  # fmt: skip
