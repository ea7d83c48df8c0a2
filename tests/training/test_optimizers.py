"""Optimizers and learning rate schedules as configured."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import tiny

from mnist_exp.config.schema import ScheduleConfig
from mnist_exp.models.families import build_model
from mnist_exp.training import optimizers


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_the_optimizer_is_the_configured_one(name: str) -> None:
    config = tiny(f"optimizer={name}", "optimizer.learning_rate=0.03")
    optimizer = optimizers.build(config.optimizer)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == pytest.approx(0.03)


@pytest.mark.parametrize("overrides", [[], ["model=cnn_fast"]])
def test_adamw_leaves_biases_and_normalisation_undecayed(overrides: list[str]) -> None:
    model = build_model(tiny(*overrides).model)
    ours = optimizers.build(tiny("optimizer=adamw").optimizer)
    for optimizer in (optimizers.to_stock_keras(ours), ours):
        optimizer.build(model.trainable_variables)
        decayed = [v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)]
        assert len(decayed) == (4 if overrides else 3)
        assert all(path.endswith("kernel") for path in decayed)


def apply(
    optimizer: keras.optimizers.Optimizer, weight: keras.Variable, gradient: tf.Tensor
) -> None:
    optimizer.apply([gradient], [weight])


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_update_equals_keras_own(name: str, jit: bool) -> None:
    random = np.random.default_rng(0)
    start, *gradients = random.normal(size=(5, 7, 5)).astype(np.float32)
    ours = optimizers.build(tiny(f"optimizer={name}", "optimizer.beta_2=0.95").optimizer)
    ends = []
    for optimizer in (ours, optimizers.to_stock_keras(ours)):
        weight = keras.Variable(start)
        optimizer.build([weight])
        step = tf.function(partial(apply, optimizer, weight), jit_compile=jit)
        for gradient in gradients:
            step(tf.constant(gradient))
        ends.append([weight.numpy(), *(v.numpy() for v in optimizer.variables)])
    assert type(optimizer).__module__.startswith("keras.")
    for actual, expected in zip(*ends, strict=True):
        assert actual == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.abs(ends[0][0] - start).max() > 1e-4


def rates(name: str, warmup: float, steps: int = 100) -> np.ndarray:
    schedule = ScheduleConfig(name=name, warmup=warmup)
    whole = optimizers.learning_rate_schedule(schedule, 0.5, steps, range(steps))
    parts = [range(steps // 3), range(steps // 3, steps)]
    in_parts = [optimizers.learning_rate_schedule(schedule, 0.5, steps, part) for part in parts]
    assert (whole == np.concatenate(in_parts)).all()
    return whole


def test_constant_is_the_peak_throughout() -> None:
    assert (rates("constant", 0.0) == 0.5).all()


def test_warmup_rises_linearly_to_the_peak() -> None:
    assert rates("constant", 0.1)[:10] == pytest.approx(np.arange(1, 11) * 0.05)
    assert rates("cosine", 0.1)[9:11] == pytest.approx([0.5, 0.5])


def test_cosine_falls_to_zero() -> None:
    curve = rates("cosine", 0.0, 101)
    assert curve[[0, 50, 100]] == pytest.approx([0.5, 0.25, 0.0], abs=1e-7)


def test_onecycle_starts_peaks_and_ends_as_specified() -> None:
    curve = rates("onecycle", 0.3)
    assert curve[0] == pytest.approx(0.5 / 25)
    assert curve[30] == pytest.approx(0.5)
    assert curve[-1] == pytest.approx(0.5 / 250_000)
    assert curve.argmax() == 30


@pytest.mark.parametrize("name", ["constant", "cosine", "onecycle"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_shortest_training_has_a_rate_per_step(name: str, steps: int) -> None:
    curve = rates(name, 0.3, steps)
    assert curve.shape == (steps,)
    assert (curve <= 0.5).all()
    assert np.isfinite(curve).all()
