"""Optimizers and learning rate schedules as configured."""

import inspect
from functools import partial
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import prepare, tiny

from mnist_exp.config.compose import CONF
from mnist_exp.config.optimizer import ARGUMENTS, AnyOptimizer
from mnist_exp.config.schema import ScheduleConfig
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.families import build_model
from mnist_exp.training import optimizers

LEFT_OUT = {"ScheduleFreeAdamW", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
BY_TRAIN = {
    "use_ema", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor",
    "gradient_accumulation_steps", "name", "kwargs",
}  # fmt: skip
KERAS = {
    name.lower(): kind
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type) and kind is not keras.optimizers.Optimizer and name not in LEFT_OUT
}


def test_every_optimizer_of_keras_has_a_yaml_with_its_learning_rate() -> None:
    assert set(ARGUMENTS) == set(KERAS) == {path.stem for path in (CONF / "optimizer").iterdir()}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_arguments_are_those_of_keras_and_its_defaults_are_in_range(name: str) -> None:
    arguments = inspect.signature(KERAS[name]).parameters.values()
    defaults = {each.name: each.default for each in arguments if each.name not in BY_TRAIN}
    (kind,) = (kind for kind in get_args(AnyOptimizer) if kind.__name__.lower() == f"{name}config")
    assert set(defaults) | {"name"} == set(kind.model_fields)
    needed = {k for k, field in kind.model_fields.items() if field.is_required()} - {"name"}
    keras_own = KERAS[name](name="x").get_config()
    for given in (defaults, {argument: defaults[argument] for argument in needed}):
        built = optimizers.build(kind.model_validate({"name": name} | given))
        assert built.get_config() | {"name": "x"} == keras_own


UNUSUAL = {"adafactor", "muon", "nadam"}  # in their state


@pytest.mark.parametrize(
    "name", [n if n in UNUSUAL else pytest.param(n, marks=pytest.mark.slow) for n in ARGUMENTS]
)
def test_every_optimizer_trains_resumes_and_is_saved_with_its_state(
    few_digits: Dataset, tmp_path: Path, name: str
) -> None:
    """Three epochs of two steps; the second and the third once more from the first one's state."""
    config = tiny(f"optimizer={name}", "model.units=[16]", "train.batch_size=90")
    loop = prepare(config, few_digits)
    rates, slots = np.full(2, config.optimizer.learning_rate, np.float32), np.zeros(2, np.int32)

    def epochs(n: int) -> tuple[list[float], list[np.ndarray]]:
        rows = [loop.run(np.arange(180), rates, slots, lambda *_: None)[0] for _ in range(n)]
        return [row["train/loss"] for row in rows], loop.state()

    first, middle = epochs(1)
    rest, end = epochs(2)
    assert rest[1] < first[0] < 2.7
    loop.restore(middle)
    again, same_end = epochs(2)
    assert again == rest
    assert all((a == b).all() for a, b in zip(end, same_end, strict=True))
    whole = optimizers.with_optimizer_state(
        to_stock_keras(loop.model), loop.optimizer, "categorical_focal_crossentropy"
    )
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    saved = zip(loop.optimizer.variables, loaded.variables, strict=True)
    assert all((a.numpy() == b.numpy()).all() for a, b in saved)


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
@pytest.mark.parametrize(
    ("name", "more"), [("adam", "beta_1=0.8"), ("adamw", "clipvalue=0.3"), ("adam", "amsgrad=true")]
)
def test_the_update_equals_keras_own(name: str, more: str, jit: bool) -> None:
    random = np.random.default_rng(0)
    start, *gradients = random.normal(size=(5, 7, 5)).astype(np.float32)
    given = tiny(f"optimizer={name}", "optimizer.beta_2=0.95", f"optimizer.{more}")
    ours = optimizers.build(given.optimizer)
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
