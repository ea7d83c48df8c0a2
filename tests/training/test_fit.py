"""Training against Keras' own, and against itself bit for bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import fit, prepare, tiny, train

from mnist_exp.core.errors import DivergedError
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation import metrics as evaluation
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.forward import timed_scores
from mnist_exp.training import fit as training
from mnist_exp.training import optimizers
from mnist_exp.training.checkpoints import Checkpoints, with_new_patience
from mnist_exp.training.epoch import EpochLoop
from mnist_exp.training.losses import FOCAL, loss_function

NORMALIZED = ["model=cnn", "model.filters=[4,8]", "model.units=[]", "model.batch_norm=true"]


class Stop(keras.callbacks.Callback):
    """Ends training after two epochs."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = epoch == 1


class Batches(keras.callbacks.Callback):
    """The last step of each chunk, and the weights after it."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[int] = []
        self.weights: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ends.append(batch)
        self.weights.append(self.model.get_weights())


def same(a: keras.Model, b: keras.Model) -> bool:
    return all((x == y).all() for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("jit", "name", "loss", "weights"),
    [
        (True, "dense128", "sparse_categorical_crossentropy", None),
        (False, "sigmoid100", "categorical_crossentropy", [*range(10)]),
        (False, "sigmoid100", "categorical_focal_crossentropy", None),
    ],
)
def test_an_epoch_equals_keras_own(
    few_digits: Dataset, jit: bool, name: str, loss: str, weights: list[int] | None
) -> None:
    """In file order, the last partial batch included: 180 images in batches of 32."""
    weighted = f"train.class_weight={json.dumps(weights)}"
    config = tiny(f"model={name}", f"train.loss={loss}", f"train.jit={jit}", weighted)
    loop = prepare(config, few_digits)
    ours, theirs = loop.model, to_stock_keras(loop.model)
    rates, slots = np.full(loop.steps, 1e-3, np.float32), np.zeros(loop.steps, np.int32)
    row, _ = loop.run(np.arange(180), rates, slots, lambda *_: None)
    theirs.compile(optimizers.build(config.optimizer), loss=loss, metrics=["accuracy"])
    labels = few_digits.train_labels
    if loss.startswith("categorical"):
        labels = keras.utils.to_categorical(labels, 10)
    history = theirs.fit(
        few_digits.train_images,
        labels,
        shuffle=False,
        verbose=0,
        class_weight=weights and dict(enumerate(weights)),
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=2e-5)
    assert row["train/loss"] == pytest.approx(history.history["loss"][0], rel=1e-4)
    assert row["train/accuracy"] == pytest.approx(history.history["accuracy"][0], abs=1e-6)


@pytest.mark.parametrize("jit", ["false", pytest.param("auto", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_bits(few_digits: Dataset, jit: str) -> None:
    config = tiny("model=dropout", "model.units=[16]", f"train.jit={jit}")
    first, _ = fit(config, few_digits)
    training._compiled.cache_clear()
    assert same(first, fit(config, few_digits)[0])


def test_another_seed_is_another_batch_order(few_digits: Dataset) -> None:
    """From the same starting weights: only the order of the images differs."""
    ends = []
    for seed in (0, 1):
        loop = prepare(tiny(), few_digits)
        train(loop, tiny(f"seed={seed}"))
        ends.append(to_stock_keras(loop.model))
    assert not same(*ends)


@pytest.mark.slow
def test_a_step_in_bfloat16_is_nearly_that_in_float32(few_digits: Dataset) -> None:
    """With fused normalization, gradients by matrix products, AdamW and averaged weights."""
    overrides = [
        "model=cnn_wide", "model.filters=[4,[4,4],[128,128]]", "optimizer=adamw", "model.dropout=0",
        "train.ema=0.9", "train.jit=false",
    ]  # fmt: skip
    one_batch = replace(
        few_digits,
        train_images=few_digits.train_images[:32],
        train_labels=few_digits.train_labels[:32],
    )
    rows = []
    for precision in ("float32", "mixed_bfloat16"):
        _, history = fit(tiny(*overrides, f"train.precision={precision}"), one_batch)
        rows.append(history.epochs[0])
    assert rows[0]["train/loss"] != rows[1]["train/loss"]
    assert rows[0]["train/loss"] == pytest.approx(rows[1]["train/loss"], rel=0.02)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(["model=dropout"], id="dropout"),
        pytest.param(["model=cnn", "model.filters=[4,8]"], id="cnn", marks=pytest.mark.slow),
    ],
)
def test_a_reused_loop_trains_like_a_new_one(few_digits: Dataset, model: list[str]) -> None:
    """Only what is compiled is shared: weights, masks, averages and optimizer are reset."""
    one = [*model, "train.ema=0.9", "train.epochs=2", "optimizer=adamw"]
    other = [*one, "seed=1", "optimizer.learning_rate=0.01", "train.patience=1"]
    first, _ = fit(tiny(*one), few_digits)
    loop = prepare(tiny(*other), few_digits)
    assert prepare(tiny(*one), few_digits) is loop
    second, _ = fit(tiny(*other), few_digits)
    assert not same(first, second)
    assert same(first, fit(tiny(*one), few_digits)[0])
    assert same(second, fit(tiny(*other), few_digits)[0])


def test_a_loop_is_not_reused_where_the_graph_differs(few_digits: Dataset) -> None:
    loop = prepare(tiny(), few_digits)
    for other in (
        "optimizer.beta_1=0.8",
        "train.batch_size=16",
        "model.dropout=0.1",
        "optimizer=sgd",
    ):
        assert prepare(tiny(other), few_digits) is not loop


@pytest.mark.parametrize(
    ("overrides", "losses", "rel"),
    [
        (["model=dense128"], [2.2269755, 1.7897605], 1e-4),
        (["model=cnn"], [2.4001434, 0.7440289], 2e-3),  # without AVX-512: 2.4000909, 0.7432885
    ],
)
def test_a_fixed_seed_has_a_fixed_loss(
    few_digits: Dataset, overrides: list[str], losses: list[float], rel: float
) -> None:
    """A refactoring proves itself neutral."""
    _, history = fit(tiny(*overrides, "train.epochs=2"), few_digits)
    assert [row["train/loss"] for row in history.epochs] == pytest.approx(losses, rel=rel)


@pytest.mark.parametrize("jit", ["false", pytest.param("auto", marks=pytest.mark.slow)])
def test_chunks_do_not_change_the_result(
    few_digits: Dataset, jit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("train.batch_size=4", f"train.jit={jit}")
    monkeypatch.setattr(prepare(config, few_digits), "chunk_seconds", 0.0)
    steps, by_step = fit(config, few_digits, callbacks=[batches := Batches()])
    assert batches.ends == [*range(45)]
    monkeypatch.setattr(prepare(config, few_digits), "chunk_seconds", 60.0)
    chunks, by_chunk = fit(config, few_digits, callbacks=[batches := Batches()])
    assert batches.ends == [0, 4, 20, 44]
    assert same(steps, chunks)
    assert by_step.epochs[0]["train/loss"] == by_chunk.epochs[0]["train/loss"]


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_keras_own(name: str, smoothing: float) -> None:
    activation = keras.activations.get(name)
    labels = np.arange(10) % 4
    logits = np.random.default_rng(0).normal(scale=3, size=(10, 10)).astype(np.float32)
    keras_loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing, reduction="sum")

    @tf.function
    def both() -> Any:
        scores = activation(tf.constant(logits))
        one_hot = tf.one_hot(labels, 10)
        ours = loss_function(activation, label_smoothing=smoothing)
        return ours(labels, scores), keras_loss(one_hot, scores)

    ours, theirs = (float(value) for value in both())
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_probability_of_zero_keeps_the_loss_and_its_gradient_finite() -> None:
    scores = tf.Variable([[0.0] * 10, [1.0] + [0.0] * 9])
    with tf.GradientTape() as tape:
        loss = loss_function(keras.activations.softmax)(tf.constant([3, 3]), scores)
    assert float(loss) == pytest.approx(np.log(10) - np.log(1e-30), rel=1e-5)
    assert np.isfinite(tape.gradient(loss, scores)).all()


@pytest.mark.parametrize("settings", [{"name": FOCAL}, {"class_weight": (0.5,) * 4}])
def test_the_loss_is_of_as_many_classes_as_there_are_scores(settings: dict[str, Any]) -> None:
    scores = keras.activations.softmax(tf.constant([[2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 3.0]]))
    loss = loss_function(keras.activations.softmax, **settings)(tf.constant([0, 2]), scores)
    true = np.array([scores[0, 0], scores[1, 2]])
    plain = -np.log(true)
    expected = 0.25 * (1 - true) ** 2 * plain if "name" in settings else 0.5 * plain
    assert float(loss) == pytest.approx(expected.sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["dense128", "sigmoid100"])
def test_validation_loss_is_that_of_the_probabilities_whatever_is_trained(
    few_digits: Dataset, name: str
) -> None:
    weights = "train.class_weight=balanced"
    config = tiny("train.label_smoothing=0.3", f"train.loss={FOCAL}", weights, f"model={name}")
    model, history = fit(config, few_digits)
    scores, _ = timed_scores(model, few_digits.validation_images)
    found = evaluation.from_scores(few_digits.validation_labels, scores, config.model.output)
    assert history.epochs[-1]["val/loss"] == pytest.approx(found.loss, rel=1e-4)


def test_averaged_weights_follow_the_formula(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average of the weights after each step, which the first step starts."""
    config = tiny("train.batch_size=90", "train.ema=0.9", "train.epochs=3", "optimizer=sgd")
    averaged, _ = fit(config, few_digits)
    plain = tiny("train.batch_size=90", "train.epochs=3", "optimizer=sgd")
    monkeypatch.setattr(prepare(plain, few_digits), "chunk_seconds", 0.0)  # a chunk per step
    fit(plain, few_digits, callbacks=[batches := Batches()])
    expected = batches.weights[0]
    for weights in batches.weights[1:]:
        expected = [0.9 * a + 0.1 * w for a, w in zip(expected, weights, strict=True)]
    assert len(batches.weights) == 6
    for a, b in zip(averaged.get_weights(), expected, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_normalization_has_the_statistics_of_the_averaged_weights(few_digits: Dataset) -> None:
    """Those of the training images in a network of these weights, layer by layer."""
    config = tiny(*NORMALIZED, "train.ema=0.9", "train.epochs=2", "optimizer.learning_rate=0.01")
    model, history = fit(config, few_digits)
    hidden = few_digits.train_images.astype(np.float32)
    normalized = 0
    for layer in model.layers[1:]:
        if isinstance(layer, keras.layers.BatchNormalization):
            normalized += 1
            values = np.asarray(hidden)
            n = values.size // values.shape[-1]
            assert layer.moving_mean.numpy() == pytest.approx(values.mean((0, 1, 2)), abs=1e-4)
            unbiased = values.var((0, 1, 2)) * n / (n - 1)
            assert layer.moving_variance.numpy() == pytest.approx(unbiased, rel=1e-3)
        hidden = layer(hidden)
    assert normalized == 2
    scores, _ = timed_scores(model, few_digits.validation_images)
    accuracy = (scores.argmax(1) == few_digits.validation_labels).mean()
    assert history.epochs[-1]["val/accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_averaging_does_not_change_training(few_digits: Dataset) -> None:
    overrides = [*NORMALIZED, "train.epochs=2", "model.dropout=0.1"]
    _, without = fit(tiny(*overrides), few_digits)
    _, averaged = fit(tiny(*overrides, "train.ema=0.9"), few_digits)
    assert [r["train/loss"] for r in averaged.epochs] == [r["train/loss"] for r in without.epochs]


def test_every_epoch_and_seed_has_maps_of_its_own_and_clean_epochs_none(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmented = []
    for seed in (0, 1):
        overrides = ["augment=affine", "train.epochs=3", "train.clean_epochs=1", f"seed={seed}"]
        loop = prepare(tiny(*overrides), few_digits)
        run = loop.run

        def spy(*arguments: Any, loop: Any = loop, run: Any = run) -> Any:
            augmented.append(arguments[-1](loop.images).numpy())
            return run(*arguments)

        with monkeypatch.context() as patch:  # an epoch's images leave the loop in no other way
            patch.setattr(loop, "run", spy)
            train(loop, tiny(*overrides))
    assert (augmented[2] == few_digits.train_images).all()
    assert (augmented[5] == few_digits.train_images).all()
    different = [few_digits.train_images, *augmented[:2], *augmented[3:5]]
    assert len({images.tobytes() for images in different}) == 5


def test_augmented_training_differs_and_repeats_bit_for_bit(few_digits: Dataset) -> None:
    config = tiny("augment=affine", "train.epochs=2")
    first, history = fit(config, few_digits)
    again, same_history = fit(config, few_digits)
    plain, _ = fit(tiny("train.epochs=2"), few_digits)
    assert same(first, again)
    assert not same(first, plain)
    assert history.epochs[1]["train/loss"] == same_history.epochs[1]["train/loss"]


def test_validation_scores_the_averaged_weights(few_digits: Dataset) -> None:
    model, history = fit(tiny("train.ema=0.5", "train.epochs=2"), few_digits)
    scores, _ = timed_scores(model, few_digits.validation_images)
    accuracy = (scores.argmax(1) == few_digits.validation_labels).mean()
    assert history.epochs[-1]["val/accuracy"] == pytest.approx(accuracy)


def test_patience_stops_and_restores_the_best_weights(few_digits: Dataset) -> None:
    config = tiny("train.patience=2", "train.epochs=60", "optimizer.learning_rate=0.02")
    model, history = fit(config, few_digits)
    losses = [row["val/loss"] for row in history.epochs]
    assert len(losses) < 60
    assert history.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 2
    labels, images = few_digits.validation_labels, few_digits.validation_images
    scores, _ = timed_scores(model, images)
    loss = -np.log(scores[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)
    assert history.metrics()["val/loss"] == min(losses)
    assert history.metrics()["train/kept_epoch"] == history.best_epoch


def test_new_patience_goes_on_from_the_last_weights(few_digits: Dataset, tmp_path: Path) -> None:
    early = tiny("train.patience=2", "train.epochs=60", "optimizer.learning_rate=0.02")
    checkpoints = Checkpoints(tmp_path, every=100)  # the last epoch has one all the same
    stopped = train(prepare(early, few_digits), early, checkpoints=checkpoints)
    checkpoints.close()
    start, number = checkpoints.newest(), len(stopped.epochs)
    assert start
    ended = train(prepare(early, few_digits), early, start=start)
    assert len(ended.epochs) == number < 60
    renewed = with_new_patience(start, 2)
    extended = train(prepare(early, few_digits), early, start=renewed)
    assert len(extended.epochs) >= number + 2
    whole = tiny(f"train.epochs={number + 1}", "optimizer.learning_rate=0.02")
    rows = train(prepare(whole, few_digits), whole).epochs
    for ours, theirs in zip(extended.epochs, rows, strict=False):
        assert ours["train/loss"] == theirs["train/loss"]
    assert with_new_patience(start, 60) is start  # there is some left


def test_a_loss_that_is_not_finite_is_an_error(few_digits: Dataset) -> None:
    config = tiny("optimizer=sgd", "optimizer.learning_rate=1e30")
    with pytest.raises(DivergedError, match=r"became (nan|inf) in epoch 1: lower optimizer\.learn"):
        fit(config, few_digits)


def test_a_schedule_sets_the_learning_rate(few_digits: Dataset) -> None:
    _, history = fit(tiny("schedule=cosine", "train.epochs=2"), few_digits)
    assert history.epochs[0]["train/learning_rate"] == pytest.approx(6.545e-4, rel=1e-3)
    assert history.epochs[1]["train/learning_rate"] == 0


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_huge_number_of_epochs_costs_nothing_up_front(few_digits: Dataset, name: str) -> None:
    config = tiny(f"schedule={name}", "train.epochs=1000000000000", "train.patience=1")
    _, history = fit(config, few_digits, callbacks=[Stop()])
    assert len(history.epochs) == 2


def test_keras_callbacks_take_effect(few_digits: Dataset) -> None:
    slower = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", min_delta=100, patience=1)
    _, history = fit(tiny("train.epochs=9"), few_digits, callbacks=[slower, Stop()])
    assert len(history.epochs) == 2
    assert history.epochs[0]["train/learning_rate"] == pytest.approx(1e-3)
    _, history = fit(tiny("train.epochs=3"), few_digits, callbacks=[slower])
    assert history.epochs[2]["train/learning_rate"] == pytest.approx(1e-4)


def test_it_learns(digits: Dataset) -> None:
    _, history = fit(tiny("train.epochs=4"), digits)
    assert history.epochs[-1]["val/accuracy"] > 0.9
    assert history.epochs[-1]["train/loss"] < 0.3 < history.epochs[0]["train/loss"]
    assert history.compile_seconds > 0
    assert history.seconds == pytest.approx(
        sum(row["train/epoch_seconds"] for row in history.epochs)
    )


@pytest.mark.parametrize("size", [1, 200, 500])
def test_batches_larger_than_the_data_and_of_one_image(few_digits: Dataset, size: int) -> None:
    _, history = fit(tiny(f"train.batch_size={size}"), few_digits)
    assert 0 < history.epochs[0]["train/loss"] < 5


def test_the_step_that_tries_a_precision_changes_nothing(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("model=dropout", "train.precision=mixed_bfloat16", "train.ema=0.9")
    real, steps_tried = EpochLoop.compile, []

    def compile_only(loop: EpochLoop, steps: int = 0) -> float:
        steps_tried.append(steps)
        return real(loop)

    model, history = fit(config, few_digits)
    monkeypatch.setattr(EpochLoop, "compile", compile_only)
    other, untried = fit(config, few_digits)
    assert steps_tried == [1]
    assert history.epochs[0]["train/loss"] == untried.epochs[0]["train/loss"]
    for weight, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
