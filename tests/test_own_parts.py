"""Parts of one's own in every group: used, recorded, and refused when they give another thing."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny

from mnist_exp import compose, run_experiment
from mnist_exp.config.compose import params, parse
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError
from mnist_exp.runs.folder import RunFolder

SOURCE = """
import keras
import numpy as np
import tensorflow as tf

seen = []

class Plain(keras.optimizers.SGD):
    pass

def ramp(steps, total, *, power=1.0):
    return (1 - steps / total) ** power

def mirrored(images, random, *, share):
    images = images.copy()
    chosen = random.random(len(images)) < share
    images[chosen] = images[chosen, :, ::-1]
    return images

def squared(labels, scores):
    return tf.reduce_sum((labels - scores) ** 2, axis=-1)

def balanced(labels, probabilities):
    said = probabilities.argmax(axis=1)
    return np.mean([(said[labels == k] == k).mean() for k in np.unique(labels)])

def broken(labels, probabilities):
    raise ValueError("no number")

class Listener(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        seen.append((epoch, self.model.optimizer.__class__.__name__))

def bars(*, n=300):
    random = np.random.default_rng(0)
    labels = random.integers(3, size=n)
    images = np.zeros((n, 20, 20), np.uint8)
    for i, k in enumerate(labels):
        images[i, 6 * k : 6 * k + 4, 5:15] = random.integers(100, 255, (4, 10))
    return images, np.array(["low", "middle", "high"])[labels]

def nothing(*given):
    pass

def short(steps, total):
    return np.ones(3)

def floats(images, random):
    return images / 255

def total(labels, scores):
    return tf.reduce_sum((labels - scores) ** 2)
"""
PARTS = {
    "optimizer": {"name": "python", "build": "my_kinds:Plain", "learning_rate": 0.5},
    "schedule": {"name": "python", "build": "my_kinds:ramp", "args": {"power": 2}},
    "augment": {"build": "my_kinds:mirrored", "args": {"share": 0.5}},
    "metrics": {"balanced": {"build": "my_kinds:balanced"}, "bad": {"build": "my_kinds:broken"}},
    "callbacks": {"listener": {"name": "python", "build": "my_kinds:Listener"}},
    "data": {"name": "own", "build": "my_kinds:bars", "test_split": 0.2},
}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_kinds.py").write_text(SOURCE)
    yield
    sys.modules.pop("my_kinds", None)


def with_parts(loss: str = "my_kinds:squared", **values: Any) -> Config:
    config = tiny("train.epochs=2", "tracking.enabled=false").model_dump(mode="json")
    return parse(config | values | {"train": config["train"] | {"loss": loss}})


def test_a_run_uses_and_records_a_part_in_every_group(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_parts(**PARTS)
    outcome = run_experiment(config, folder=tmp_path / "run")
    assert sys.modules["my_kinds"].seen == [(0, "Plain"), (1, "Plain")]
    assert 0 <= outcome.metrics["test/balanced"] <= 1
    assert "test/bad" not in outcome.metrics
    assert "test/bad is missing (metrics.bad.build=my_kinds:broken: it fails" in caplog.text
    assert outcome.data == "own:bars"
    rates = [row["train/learning_rate"] for row in RunFolder(outcome.folder).history()]
    assert rates[0] == pytest.approx(0.5 * (1 - 6 / 14) ** 2)  # 216 images in batches of 32
    sources = {key for key, value in params(config).items() if str(value).startswith("my_kinds.py")}
    assert sources == {
        "optimizer.source", "schedule.source", "augment.source", "train.loss.source",
        "metrics.balanced.source", "metrics.bad.source", "callbacks.listener.source", "data.source",
    }  # fmt: skip
    first = RunFolder(outcome.folder).history()[0]["train/loss"]
    assert first < 1  # squares; the cross-entropy of three classes begins at 1.1
    again = run_experiment(config, folder=tmp_path / "again")
    stored = [np.load(run.folder / "predictions.npz")["probabilities"] for run in (outcome, again)]
    assert np.array_equal(*stored)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optimizer": {"name": "python", "build": "my_kinds:nothing", "learning_rate": 1.0}},
         "optimizer.build=my_kinds:nothing: expected a Optimizer, got NoneType"),
        ({"schedule": {"name": "python", "build": "my_kinds:short"}},
         r"expected a factor of at least 0 for each of 5 steps, got \(3,\)"),
        ({"augment": {"build": "my_kinds:floats"}},
         r"expected images \(n, 28, 28\) uint8 like those it was given, got \(5, 28, 28\) float64"),
        ({"loss": "my_kinds:total"}, r"train.loss=my_kinds:total: expected a loss for each image"),
        ({"loss": "my_kinds:totl"}, r"train.loss: no function or class totl \(did you mean total"),
        ({"data": {"name": "own", "build": "my_kinds:nothing"}},
         "data.build=my_kinds:nothing: expected a tuple, got NoneType"),
        ({"augment": {"build": "my_kinds:mirrored"}}, "augment.args.share: missing; mirrored in"),
        ({"metrics": {"accuracy": {"build": "my_kinds:balanced"}}},
         "metrics.accuracy: expected a name of letters and digits that is none of ours"),
        ({"metrics": {"x": {"build": "my_kinds:balanced", "args": {"k": 1}}}},
         "metrics.x.args.k: no such argument of balanced in my_kinds.py, line 23; there are none"),
    ],
)  # fmt: skip
def test_a_part_that_gives_another_thing_is_refused_before_a_run_is_begun(
    values: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        run_experiment(
            with_parts(**{"loss": "categorical_crossentropy"} | values), folder=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_own_data_has_one_source() -> None:
    with pytest.raises(InputError, match=r"data.path: expected the file or folder .* got neither"):
        with_parts(data={"name": "own"})


def test_a_folder_of_ones_own_holds_parts_as_options(tmp_path: Path) -> None:
    for option, text in {
        "model/mine": "name: mine\nfamily: python\nbuild: nets:mine\nargs: {depth: 2}\n",
        "augment/mirror": "build: my_kinds:mirrored\nargs: {share: 0.5}\n",
    }.items():
        file = tmp_path / "conf" / f"{option}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    config = compose(
        ["model=mine", "model.args.depth=3", "model.args.width=4", "augment=[affine,mirror]",
         "metrics.fair.build=my_kinds:balanced", "train.loss=my_kinds:squared"]
    )  # fmt: skip
    assert dict(config.model.args) == {"depth": 3, "width": 4}
    assert config.augment.name == "affine+mirrored"
    assert list(config.metrics) == ["fair"]
    assert config.train.loss == "my_kinds:squared"
