"""Runs that other programs logged into the experiment: listed, not chosen, used where possible."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from PIL import Image
from support import Command

from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.inference.predictor import digit_model
from mnist_exp.models.forward import timed_scores
from mnist_exp.runs.find import find_run, resolve_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.search import store_config


@pytest.fixture(scope="module")
def weights(digits: Dataset) -> np.ndarray:
    """A linear model (785, 10) of pixels from 0 to 1, and a constant, by least squares."""
    inputs = np.column_stack([digits.train_images.reshape(-1, 784) / 255, np.ones(3600)])
    targets = 10 * np.eye(10)[digits.train_labels]
    return np.linalg.solve(inputs.T @ inputs + 10 * np.eye(785), inputs.T @ targets)


def saved(path: Path, weights: np.ndarray, shape: tuple[int, ...], activation: str) -> Path:
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation)]
    model = keras.Sequential([keras.Input(shape), *layers])
    model.layers[-1].set_weights([weights[:-1], weights[-1]])
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("pixels", "shape", "activation", "output"),
    [
        ("0 to 1", (784,), "softmax", "softmax"),
        ("0 to 255", (28, 28, 1), "linear", "softmax"),
        ("-1 to 1", (28, 28), "sigmoid", "sigmoid"),
    ],
)
def test_a_model_gets_the_pixels_and_the_shape_it_was_made_for(
    pixels: str, shape: tuple[int, ...], activation: str, output: str, weights: np.ndarray,
    digits: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    slope, constant = weights[:-1], weights[-1]
    # Without a constant the digits are the same at any scale: the loss decides.
    constant = constant * {"0 to 1": 0, "0 to 255": 0.1, "-1 to 1": 1}[pixels]
    expected = digits.test_images.reshape(-1, 784) / 255 @ slope + constant
    if pixels == "0 to 255":  # too certain, so that its loss is large: the accuracy decides
        slope, constant = 20 * slope / 255, 20 * constant
    if pixels == "-1 to 1":  # 5 less: a digit that it is not has none of 0.5
        slope, constant = slope / 2, constant + slope.sum(axis=0) / 2 - 5
    path = saved(tmp_path / "model.keras", np.vstack([slope, constant]), shape, activation)
    run: Any = SimpleNamespace(file=lambda name: path)
    model, kind = digit_model(run)
    assert kind == output
    assert f"its model is given pixels from {pixels}, with which it reads" in caplog.text
    scores, _ = timed_scores(model, digits.test_images)
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.99
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((14, 14)), keras.layers.Flatten()])
    model.save(tmp_path / "model.keras")
    run: Any = SimpleNamespace(file=lambda name: tmp_path / "model.keras")
    with pytest.raises(
        InputError, match=r"expected a model of \(n, 28, 28\) or \(n, 28, 28, 1\) or"
    ):
        digit_model(run)


@pytest.mark.slow
def test_a_run_of_another_program_is_listed_and_used_where_that_is_possible(
    recorded: dict[str, RunResult], command: Command, workplace: Path, weights: np.ndarray,
    digits: Dataset,
) -> None:  # fmt: skip
    client = mlflow.MlflowClient()
    run_id = client.create_run("1", run_name="theirs").info.run_id
    client.log_metric(run_id, "val/accuracy", 0.999)
    client.log_metric(run_id, "test/accuracy", 97.5)
    client.set_terminated(run_id)
    Image.fromarray(digits.test_images[3]).save("digit.png")
    try:
        assert {find_run(name).run_id for name in ("best", "last")} < {
            result.run_id for result in recorded.values()
        }
        listed = command("runs")[1]
        assert "theirs (foreign)" in listed
        assert "9750" not in listed
        assert "foreign: logged by another program" in listed
        assert [run["foreign"] for run in json.loads(command("runs", "--json")[1])][:2] == [
            True,
            False,
        ]
        assert command("compare")[0] == 0
        assert command("compare", "--diff", run_id, "best")[0] == 0
        theirs = f"run {run_id[:8]} (theirs) was logged by another program and has no "
        for verb in ("evaluate", "export", "promote", "reproduce", "visualize"):
            code, _, err = command(verb, "--run", run_id)
            assert (code, err.startswith(theirs)) == (2, True), (verb, err)
        for verb in (["predict", "digit.png"], ["serve", "--port", "0"]):
            code, _, err = command(*verb, "--run", run_id)
            assert (code, err) == (2, f"{theirs}Keras model; choose another with --run\n"), verb
        path = saved(workplace / "model.keras", weights, (28, 28, 1), "softmax")
        client.log_artifact(run_id, str(path), "model/data")
        code, out, _ = command("predict", "digit.png", "--json", "--run", run_id)
        assert (code, json.loads(out)[0]["digit"]) == (0, digits.test_labels[3])
    finally:
        client.delete_run(run_id)


@pytest.mark.slow
def test_a_run_of_keras_autologging_predicts(
    store: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    number = mlflow.MlflowClient().create_experiment("autologged")
    mlflow.keras.autolog()
    try:
        with mlflow.start_run(experiment_id=number) as run:
            model.fit(digits.train_images[..., None] / 255, digits.train_labels, verbose=0)
    finally:
        mlflow.keras.autolog(disable=True)
    found = resolve_run(run.info.run_id, store_config("autologged", store))
    assert found.is_foreign
    read, _ = digit_model(found)
    scores, _ = timed_scores(read, digits.test_images)
    assert (scores.argmax(axis=1) == digits.test_labels).mean() > 0.8
