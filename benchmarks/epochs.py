"""One training epoch: ours in turn with `model.fit` as it comes and at its fastest."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import machine
from mnist_exp.config.compose import compose
from mnist_exp.config.schema import Config
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.families import build_model
from mnist_exp.models.forward import timed_scores
from mnist_exp.training import augmentation, optimizers
from mnist_exp.training import fit as training
from mnist_exp.training.auto import resolve_auto
from mnist_exp.training.checkpoints import Checkpoints
from mnist_exp.training.epoch import EpochLoop

TITLE = "One epoch against `model.fit`"
Epoch = Callable[[], float]  # -> its seconds
DENSE = ["model=dense128", "train.batch_size=32"]
CNN = ["model=cnn", "train.batch_size=128"]
AUGMENTATIONS = [
    "augment=affine", "augment=elastic", "augment=[affine,elastic]", "augment.brightness=0.3",
    "augment.contrast=0.3", "augment.noise=0.1", "augment.erase=0.1", "augment.mixup=0.1",
]  # fmt: skip
FITS = {
    "as it comes": {},
    "`steps_per_execution=100`": {"steps_per_execution": 100},
    "... and `jit_compile=True`": {"steps_per_execution": 100, "jit_compile": True},
}


def prepare(config: Config, data: Dataset) -> EpochLoop:
    train = resolve_auto(config.train, config.model)
    return training.prepare(config.model, config.optimizer, train, data, seed=config.seed)


def train(loop: EpochLoop, config: Config, **more: Any) -> training.History:
    parts = config.train, config.schedule, config.augment
    return training.fit(loop, *parts, seed=config.seed, **more)


def ours(data: Dataset, overrides: list[str]) -> tuple[keras.Model, Epoch]:
    config = compose(overrides)
    loop = prepare(config, data)
    loop.compile()
    learning_rates = np.full(loop.steps, config.optimizer.learning_rate, np.float32)
    slots = np.zeros(loop.steps, np.int32)
    random = np.random.default_rng(config.seed)

    def epoch() -> float:
        permutation = random.permutation(len(data.train_labels))
        change = partial(
            augmentation.augment, config.augment, random.integers(2**32, size=2).tolist()
        )
        row, _ = loop.run(permutation, learning_rates, slots, lambda *_: None, change)
        return row["train/epoch_seconds"]

    return loop.model, epoch


def keras_fit(data: Dataset, overrides: list[str], **settings: object) -> tuple[keras.Model, Epoch]:
    """Keras' own training of the same model in its own layers, in the precision of ours."""
    config = compose(overrides)
    keras.utils.set_random_seed(config.seed)
    precision = resolve_auto(config.train, config.model).precision
    model = to_stock_keras(build_model(config.model, precision=precision))
    optimizer = optimizers.to_stock_keras(optimizers.build(config.optimizer))
    model.compile(optimizer, config.train.loss, metrics=["accuracy"], **settings)

    def epoch() -> float:
        started = time.perf_counter()
        batch = config.train.batch_size
        model.fit(data.train_images, data.train_labels, batch_size=batch, verbose=0)
        return time.perf_counter() - started

    return model, epoch


def compare(data: Dataset, name: str, overrides: list[str], fits: list[str], n: int) -> list[str]:
    """Rows of the table; the first epoch of each contender warms up."""
    epochs = [keras_fit(data, overrides, **FITS[fit])[1] for fit in fits]
    epochs.append(ours(data, overrides)[1])
    rounds = [[epoch() for epoch in epochs] for _ in range(n + 1)][1:]
    *theirs, mine = zip(*rounds, strict=True)
    return [
        *(
            machine.row(
                name,
                fit,
                machine.spread(seconds, " s"),
                machine.spread([a / b for a, b in zip(seconds, mine, strict=True)]),
            )
            for fit, seconds in zip(fits, theirs, strict=True)
        ),
        machine.row(name, "**here**", machine.spread(mine, " s"), ""),
    ]


def accuracy(data: Dataset, overrides: list[str], seeds: int, epochs: int) -> str:
    """Both trained from the same seeds, scored on the validation images."""
    scores: dict[str, list[float]] = {"`model.fit`": [], "here": []}
    for seed in range(seeds):
        for name, build in (("`model.fit`", keras_fit), ("here", ours)):
            model, epoch = build(data, [*overrides, f"seed={seed}"])
            for _ in range(epochs):
                epoch()
            answers, _ = timed_scores(model, data.validation_images)
            scores[name].append(100 * (answers.argmax(1) == data.validation_labels).mean())
    told = [
        f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} % {name}"
        for name, values in scores.items()
    ]
    return (
        f"After {epochs} epochs of dense128 {' and '.join(told)} of "
        f"{len(data.validation_labels):,} validation images were read right: mean ± sd over "
        f"{seeds} seeds."
    )


def augmented(data: Dataset, n: int) -> str:
    """What random maps cost: epochs of cnn with and without them, in turn."""
    _, plain = ours(data, CNN)
    changed = ours(data, [*CNN, "augment=affine"])[1]
    rounds = [(changed(), plain()) for _ in range(n + 1)][1:]
    ratios = machine.spread([a / b for a, b in rounds])
    return f"With `augment=affine` an epoch of cnn, batch 128, takes {ratios} times as long."


def augmentations(data: Dataset, n: int) -> Iterator[str]:
    """Rows of the seconds, of wall clock and of CPU, that each takes once an epoch."""
    images = tf.tile(tf.constant(data.train_images), [2, 1, 1])[:60_000]
    for keys in AUGMENTATIONS:
        config, seconds, busy = compose(keys.split()).augment, [], []
        for seed in range(n + 1):  # the first one compiles
            clock, cpu = time.perf_counter(), time.process_time()
            augmentation.augment(config, [seed], images).numpy()
            seconds.append(time.perf_counter() - clock)
            busy.append(time.process_time() - cpu)
        spreads = [machine.spread(values[1:], " s") for values in (seconds, busy)]
        yield machine.row(f"`{keys}`", *spreads)


def checkpointed(data: Dataset, overrides: list[str], n: int) -> str:
    """What a checkpoint after each epoch costs: whole trainings with and without them, in turn."""
    config = compose(overrides)

    def seconds(folder: Path | None) -> float:
        loop = prepare(config, data)
        checkpoints = Checkpoints(folder) if folder else None
        started = time.perf_counter()
        history = train(loop, config, checkpoints=checkpoints)
        if checkpoints:
            checkpoints.wait()
        return time.perf_counter() - started - history.compile_seconds

    ratios = []
    for _ in range(n + 1):
        with tempfile.TemporaryDirectory(dir=machine.ROOT / "outputs") as place:  # no RAM disk
            ratios.append(seconds(Path(place)) / seconds(None))
    return (
        f"With a checkpoint after each epoch {config.train.epochs} epochs of {config.model.name} "
        f"take {machine.spread(ratios[1:])} times as long."
    )


def measure(quick: bool) -> Iterator[str]:
    data = machine.mnist()
    yield "Seconds for 48,000 images on the same network, and how many times as long as here."
    yield ""
    yield from machine.head("network", "`model.fit`", "seconds", "ratio")
    yield from compare(data, "dense128, batch 32", DENSE, list(FITS), n=2 if quick else 7)
    fits = list(FITS)[:1] if quick else list(FITS)[:2]  # XLA's convolutions take minutes on a CPU
    n = 1 if quick else 5
    if not quick:
        single = [*CNN, "train.precision=float32"]
        yield from compare(data, "cnn, batch 128, float32", single, fits, n)
    yield from compare(data, "cnn, batch 128, `precision=auto`", CNN, fits, n)
    if not quick:
        yield ""
        yield augmented(data, n)
        yield ""
        yield "What augmenting 60,000 images takes, once an epoch."
        yield ""
        yield from machine.head("augmentation", "seconds", "of CPU time")
        yield from augmentations(data, n)
        yield ""
        yield checkpointed(data, ["model=dense128"], 7)
        yield checkpointed(data, ["model=dropout", "train.ema=0.99", "train.epochs=4"], n)
        yield checkpointed(data, ["model=cnn", "train.epochs=2"], n)
        yield ""
        yield accuracy(data, DENSE, seeds=5, epochs=3)
