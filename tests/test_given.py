"""Python objects given to `run_experiment`: trained, recorded, and named when they are wrong."""

from pathlib import Path

import keras
import numpy as np
import pytest
from support import tiny

from mnist_exp import run_experiment
from mnist_exp.config.given import with_given
from mnist_exp.core.errors import InputError
from mnist_exp.runs.folder import RunFolder


@pytest.fixture
def model() -> keras.Model:
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential(layers, name="linear")


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Bright bars at one of three heights, 20x20 pixels."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=300)
    images = np.zeros((300, 20, 20), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[6 * label : 6 * label + 4, 5:15] = random.integers(100, 255, (4, 10))
    return images, labels


def test_a_model_an_optimizer_and_arrays_are_trained(
    model: keras.Model, arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    config = tiny("tracking.enabled=false", "train.epochs=2", "train.class_weight=balanced")
    given = {"model": model, "optimizer": keras.optimizers.SGD(0.5, momentum=0.5), "data": arrays}
    before = model.get_weights()
    outcome = run_experiment(config, folder=tmp_path / "run", **given)
    assert outcome.metrics["test/accuracy"] > 0.9
    assert outcome.data == "own:data"
    recorded = RunFolder(outcome.folder).config()
    assert (recorded.model.name, recorded.model.build) == ("linear", "given:model")
    assert recorded.optimizer.learning_rate == 0.5
    for ours, theirs in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)  # a copy was trained
    # Another model under the same name is compiled anew.
    wider = keras.Sequential([model.layers[0], keras.layers.Dense(4), keras.layers.Dense(3)])
    again = run_experiment(config, folder=tmp_path / "again", **given | {"model": wider})
    assert again.metrics["model/parameters"] != outcome.metrics["model/parameters"]


@pytest.mark.slow
def test_a_model_goes_on_from_its_weights(
    model: keras.Model, arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model.set_weights([np.zeros((784, 3)), np.array([0.0, 50.0, 0.0])])
    config = tiny("tracking.enabled=false")
    given = {"model": model, "optimizer": keras.optimizers.SGD(1e-9), "data": arrays}
    outcome = run_experiment(config, folder=tmp_path / "run", **given)
    stored = np.load(outcome.folder / "predictions.npz")["probabilities"]
    assert (stored.argmax(axis=1) == 1).all()


def test_what_no_other_process_could_find_is_told() -> None:
    with pytest.raises(InputError, match="model: expected a function or class at the top"):
        with_given(tiny(), model=lambda images, classes: images)
