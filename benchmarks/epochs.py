"""One training epoch, ours against plain `model.fit`, in turn: A B A B.

python -m benchmarks.epochs
"""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks import machine
from mnist_exp import hardware, models, optimizers, training
from mnist_exp.config import compose
from mnist_exp.data import Dataset

Epoch = Callable[[int], float]  # its number -> its seconds


def ours(data: Dataset, overrides: list[str], seed: int = 0) -> tuple[keras.Model, Epoch]:
    config = compose(overrides)
    convolutional = models.is_convolutional(config.model)
    loop = training.prepare(
        config.model,
        config.optimizer,
        config.train,
        data,
        precision=hardware.choose_precision(config.train.precision, convolutional=convolutional),
        jit=hardware.choose_jit(config.train.jit, convolutional=convolutional),
        seed=seed,
    )
    loop.compile()
    rates = np.full(loop.steps, config.optimizer.learning_rate, np.float32)

    def epoch(number: int) -> float:
        order = np.random.default_rng([seed, number]).permutation(len(data.train_labels))
        return loop.run(order, rates, lambda *_: None)["train/epoch_seconds"]

    return loop.model, epoch


def keras_fit(data: Dataset, overrides: list[str], seed: int = 0) -> tuple[keras.Model, Epoch]:
    config = compose(overrides)
    keras.utils.set_random_seed(seed)
    model = models.stock(models.build(config.model))
    model.compile(optimizers.build(config.optimizer), config.train.loss, metrics=["accuracy"])

    def epoch(number: int) -> float:
        started = time.perf_counter()
        batch = config.train.batch_size
        model.fit(data.train_images, data.train_labels, batch_size=batch, verbose=0)
        return time.perf_counter() - started

    return model, epoch


def compare(data: Dataset, name: str, overrides: list[str], rounds: int) -> str:
    """A line of medians and the ratio pair by pair; the first epoch of each warms up."""
    _, theirs = keras_fit(data, overrides)
    _, mine = ours(data, overrides)
    pairs = [(theirs(number), mine(number)) for number in range(rounds + 1)][1:]
    seconds = [machine.spread(side, " s") for side in zip(*pairs, strict=True)]
    ratio = machine.spread([a / b for a, b in pairs])
    return f"{name}: model.fit {seconds[0]}, ours {seconds[1]}, ratio {ratio}"


def accuracy(data: Dataset, overrides: list[str], seeds: int, epochs: int) -> str:
    """Both trained from `seeds` seeds, scored on the validation images."""
    scores: dict[str, list[float]] = {"model.fit": [], "ours": []}
    for seed in range(seeds):
        for name, build in (("model.fit", keras_fit), ("ours", ours)):
            model, epoch = build(data, overrides, seed)
            for number in range(epochs):
                epoch(number)
            answers, _ = models.timed_scores(model, data.validation_images)
            scores[name].append(100 * (answers.argmax(1) == data.validation_labels).mean())
    told = [
        f"{name} {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %"
        for name, values in scores.items()
    ]
    return f"validation accuracy after {epochs} epochs, {seeds} seeds: {', '.join(told)}"


def main() -> None:
    data = machine.mnist()
    print(machine.describe())
    dense = ["model=dense128", "train.batch_size=32"]
    cnn = ["model=cnn", "train.batch_size=128"]
    print(compare(data, "dense128, batch 32", dense, rounds=7), flush=True)
    print(accuracy(data, dense, seeds=5, epochs=3), flush=True)
    print(compare(data, "cnn, batch 128, float32", [*cnn, "train.precision=float32"], rounds=5))
    print(compare(data, "cnn, batch 128, precision auto", cnn, rounds=5))


if __name__ == "__main__":
    main()
