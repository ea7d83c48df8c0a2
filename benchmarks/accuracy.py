"""How long each preset takes to an accuracy, and how long from a cold start to its first epoch."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import keras
import numpy as np

from benchmarks import figure, machine
from benchmarks.epochs import CNN, DENSE, keras_fit, prepare, train
from mnist_exp.config.compose import compose
from mnist_exp.config.sources import CONF
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.forward import batched_scores, forward_function
from mnist_exp.training import fit as training

TITLE = "Seconds to an accuracy"
MARKS = (97.0, 98.0, 99.0, 99.5)
PRESETS = (
    "fast99", "one_epoch", "cnn_5_epochs", "cnn_20_epochs", "dense128_best", "dense128_augmented",
    "dense128_baseline",
)  # fmt: skip
CLAIM = re.compile(
    r"# (?P<mean>[\d.]+) ± (?P<sd>[\d.]+) % of the 10,000 test images, mean ± sd over (?P<n>\d+) "
    r"seeds \((?P<seconds>[\d.]+) s of training each\)"
)
Curve = list[tuple[float, float]]  # seconds of training, validation accuracy in %


class Watch(keras.callbacks.Callback):
    """Scores after every epoch, and often: whenever training has become a tenth longer.

    The seconds start with the watch and leave the scoring out.
    """

    def __init__(self, score: Callable[[], float], *, often: bool = True) -> None:
        super().__init__()
        self.score, self.often = score, often
        self.curve: Curve = []
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        seconds = time.perf_counter() - self.started
        if self.often and (not self.curve or seconds > 1.1 * self.curve[-1][0]):
            self.look(seconds)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.look(time.perf_counter() - self.started)

    def look(self, seconds: float) -> None:
        before = time.perf_counter()
        self.curve.append((seconds, 100 * self.score()))
        self.started += time.perf_counter() - before


def watched(data: Dataset, preset: str) -> Curve:
    """Our training of the preset, compiling included."""
    training._compiled.cache_clear()
    config = compose([f"experiment={preset}"])
    images, labels = data.validation_images, data.validation_labels
    # Nothing to validate by itself, which would be in the seconds.
    unseen = replace(data, validation_images=images[:0], validation_labels=labels[:0])
    loop = prepare(config, unseen)
    score = scoring(loop.model, images, labels)

    def score_averaged() -> float:
        with loop.averaged_weights():
            return score()

    watch = Watch(score_averaged)
    train(loop, config, callbacks=[watch])
    return watch.curve


def scoring(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """What finds the model's accuracy, as a fraction."""
    forward = forward_function(model)
    return lambda: float((batched_scores(forward, images).argmax(1) == labels).mean())


def watched_fit(
    data: Dataset, overrides: list[str], epochs: int, *, on_test: bool = False
) -> Curve:
    """Keras' own training, as it comes; with `on_test` the test accuracy after each epoch."""
    model, _ = keras_fit(data, overrides)
    images, labels = data.validation_images, data.validation_labels
    if on_test:
        images, labels = data.test_images, data.test_labels
    watch = Watch(scoring(model, images, labels), often=not on_test)
    size = compose(overrides).train.batch_size
    model.fit(
        data.train_images,
        data.train_labels,
        batch_size=size,
        epochs=epochs,
        verbose=0,
        callbacks=[watch],
    )
    return watch.curve


def first(curve: Curve, mark: float) -> str:
    return next((f"{seconds:.1f}" for seconds, accuracy in curve if accuracy >= mark), "-")


def claims() -> dict[str, dict[str, float]]:
    """Per preset its test accuracy in %, its sd, the seeds and the seconds, as its file says."""
    found = {}
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        match = CLAIM.match(path.read_text().splitlines()[2])
        found[path.stem] = {k: float(v) for k, v in match.groupdict().items()} if match else {}
    return found


def cold(contender: str) -> float:
    """The seconds until one epoch is over, in a process that has trained nothing yet."""
    command = [sys.executable, "-m", "benchmarks.accuracy", contender]
    done = subprocess.run(
        command, env=machine.environment(), capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def cold_epoch(contender: str) -> float:
    data = machine.mnist(training=60_000)
    if contender == "model.fit":
        _, epoch = keras_fit(data, DENSE)
        return epoch()
    config = compose([f"experiment={contender}"])
    loop = prepare(config, data)
    started = time.perf_counter()
    train(loop, config)
    return time.perf_counter() - started


def measure(quick: bool) -> Iterator[str]:
    n = 1 if quick else 7
    contenders = ("model.fit", "fast99", "one_epoch")
    rounds = [[cold(contender) for contender in contenders] for _ in range(n)]
    theirs, *ours = zip(*rounds, strict=True)
    yield (
        "From a cold start, each in a process of its own: one epoch of 60,000 images, tracing and "
        "compiling included, of dense128 at batch 32 by `model.fit` and of two presets."
    )
    yield ""
    yield from machine.head("what", "seconds", "part of `model.fit`'s", "test accuracy % (seeds)")
    yield machine.row("dense128, `model.fit`", machine.spread(theirs, " s"), "", "")
    for name, seconds in zip(contenders[1:], ours, strict=True):
        parts = [a / b for a, b in zip(seconds, theirs, strict=True)]
        claim = claims()[name]
        accuracy = f"{claim['mean']:.2f} ± {claim['sd']:.2f} ({claim['n']:.0f})"
        label = f"`experiment={name}`"
        yield machine.row(label, machine.spread(seconds, " s"), machine.spread(parts), accuracy)
    yield ""
    data = machine.mnist(training=50_000)
    yield (
        "Seconds of training, compiling included and scoring left out, until 10,000 validation "
        "images are read with this accuracy for the first time; trained on the other 50,000, once "
        "each (seed 0), one after the other. A mark that is never reached has a dash."
    )
    yield ""
    yield from machine.head("training", *(f"{mark:g} %" for mark in MARKS), "at the end", "after")
    watched_fit(data, DENSE, 1)  # TensorFlow's own start is nobody's
    runs = {
        f"`experiment={name}`": partial(watched, data, name)
        for name in (PRESETS[:2] if quick else PRESETS)
    }
    if not quick:
        runs["`model.fit` of dense128, batch 32"] = partial(watched_fit, data, DENSE, 10)
        runs["`model.fit` of cnn, batch 128"] = partial(watched_fit, data, CNN, 5)
    for label, run in runs.items():
        curve = run()
        end, reached = curve[-1]
        marks = [first(curve, mark) for mark in MARKS]
        yield machine.row(label, *marks, f"{reached:.2f} %", f"{end:.1f} s")
    if not quick:
        whole = machine.mnist(training=60_000)
        curves = {
            "dense128": watched_fit(whole, DENSE, 10, on_test=True),
            "cnn": watched_fit(whole, CNN, 5, on_test=True),
        }
        drawn = {name: claims()[name] for name in PRESETS}
        figure.draw(drawn, curves, machine.describe()).savefig(figure.FILE)
        yield ""
        yield "![Test accuracy against seconds of training](images/accuracy_over_seconds.png)"


if __name__ == "__main__":
    print(json.dumps(cold_epoch(sys.argv[1])))
