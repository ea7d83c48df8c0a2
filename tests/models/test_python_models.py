"""Models of one's own: built from a function, trained, saved, refused before training."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support import fit, tiny

from mnist_exp import run_experiment
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.convert import at_temperature
from mnist_exp.models.families import all_layers, build_model
from mnist_exp.models.layers import BatchNormalization, Conv2D, Dropout
from mnist_exp.runs.find import find_run
from mnist_exp.training.auto import resolve_auto

SOURCE = """
import keras
from keras import layers

@keras.saving.register_keras_serializable("my_nets")
class Scale(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=shape[-1:], initializer="ones", name="factor")

    def call(self, inputs):
        return inputs * self.factor

class Forgetful(layers.Layer):
    def __init__(self, factor, **more):
        super().__init__(**more)
        self.factor = [factor.__class__]

    def call(self, inputs):
        return inputs

def scaled(images, classes, *, width=8):
    hidden = layers.Dense(width, "relu")(layers.Flatten()(images))
    return layers.Dense(classes)(Scale()(hidden))

def residual(images, classes):
    x = layers.Conv2D(4, 3, 3)(images)
    y = layers.Dropout(0.1)(layers.BatchNormalization(momentum=0.9)(x))
    return layers.Dense(classes)(layers.Flatten()(layers.Add()([x, y])))

def sequential(images, classes):
    return keras.Sequential([layers.Flatten(), layers.Dense(classes)])

def few(images, classes):
    return layers.Dense(3)(layers.Flatten()(images))

def batch(images, classes):
    scores = layers.Dense(classes)(layers.Flatten()(images))
    return layers.Concatenate(axis=0)([scores, scores])

def nothing(images, classes):
    pass

def anonymous(images, classes):
    return layers.Dense(classes)(layers.Lambda(lambda x: x)(layers.Flatten()(images)))

def forgetful(images, classes):
    return layers.Dense(classes)(Forgetful(lambda x: x)(layers.Flatten()(images)))

def endless(images, classes):
    return layers.Dense(classes, bias_initializer=keras.initializers.Constant(float("nan")))(
        layers.Flatten()(images)
    )
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_nets.py").write_text(SOURCE)
    yield
    del sys.modules["my_nets"]


def own(name: str, *overrides: str, **args: Any) -> Config:
    values = {"name": name, "family": "python", "build": f"my_nets:{name}", "args": args}
    values |= {"output": "softmax"}
    return Config.model_validate(tiny(*overrides).model_dump() | {"model": values})


@pytest.mark.parametrize("name", ["residual", "sequential"])
def test_a_model_of_ones_own_trains_and_loads(name: str, few_digits: Dataset) -> None:
    config = own(name, "train.epochs=2", "train.ema=0.9")
    model, history = fit(config, few_digits)
    again, _ = fit(config, few_digits)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert history.epochs[1]["train/loss"] < history.epochs[0]["train/loss"]
    model.save("model.keras")
    loaded = keras.models.load_model("model.keras", compile=False, safe_mode=True)
    images = few_digits.test_images[:8].astype(np.float32)
    assert np.array_equal(loaded(images), model(images))
    assert {type(layer).__module__.partition(".")[0] for layer in all_layers(model)} <= {
        "keras",
        "my_nets",
    }


def test_its_layers_are_the_fast_ones() -> None:
    kinds = {type(layer) for layer in all_layers(build_model(own("residual").model))}
    assert {BatchNormalization, Conv2D, Dropout} < kinds


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("few", r"expected scores of the shape \(None, 10\), got the shape \(None, 3\)"),
        ("batch", r"expected 7 rows for 7 images, got \(14, 10\)"),
        ("endless", "its scores of black images are no numbers"),
        ("nothing", r"expected scores of the shape \(None, 10\), got NoneType"),
        ("anonymous", "could not be loaded again .*Lambda"),
        ("forgetful", "could not be loaded again .*Forgetful"),
    ],
)
def test_what_is_no_model_is_refused_before_a_run_is_begun(
    name: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        run_experiment(own(name), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_read_with_the_part_where_the_user_stands(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = run_experiment(own("scaled", f"tracking.uri={store}"), folder=tmp_path / "run")
    run = find_run(outcome.run_id, uri=store)
    assert run.params["model.build"] == "my_nets:scaled"
    caplog.clear()
    assert run.model().count_params() == 784 * 8 + 8 + 8 + 90
    assert not caplog.text
    with Path("my_nets.py").open("a") as file:
        file.write("# another\n")
    run.model()
    assert "made with my_nets.py" in caplog.text
    Path("my_nets.py").unlink()
    with pytest.raises(InputError, match=r"was made with my_nets.py \w+; model.build: no module"):
        run.model()


def test_auto_tries_layers_that_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mnist_exp")
    auto = {"precision": "auto", "jit": "auto"}
    config = own("scaled")
    train = config.train.model_copy(update=auto)
    resolved = resolve_auto(train, config.model)
    assert isinstance(resolved.jit, bool)
    assert "float32 with XLA" in caplog.text
    caplog.clear()
    assert resolve_auto(train, own("residual").model).jit is False  # by the rule
    assert not caplog.text


def test_its_scores_are_calibrated_for_export(few_digits: Dataset) -> None:
    model = build_model(own("scaled").model)
    images = few_digits.test_images[:8].astype(np.float32)
    shares = np.asarray(model(images)) ** (1 / 2)
    expected = shares / shares.sum(axis=1, keepdims=True)
    assert np.allclose(at_temperature(model, "softmax", 2.0)(images), expected, atol=1e-5)
