"""A logged model takes what people send, from Python and by HTTP, and refuses what it cannot."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow.pyfunc import PyFuncModel, scoring_server
from support import served, tiny

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import probabilities
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.families import build_model
from mnist_exp.models.io import save_model
from mnist_exp.runs.find import resolve_run
from mnist_exp.tracking import served_model
from mnist_exp.tracking.open_run import track_run


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, store: str) -> tuple[str, keras.Model]:
    """The address of a logged model, and the model: its last layer has sigmoids."""
    folder = tmp_path_factory.mktemp("served")
    model = to_stock_keras(build_model(tiny("model=sigmoid100").model))
    save_model(model, folder / "model.keras")
    config = TrackingConfig(enabled=True, uri=store, experiment="served", skip_finished=False)
    params = {"model.name": "my%sigmoids"}
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        for name in ("uv.lock", "pyproject.toml"):  # of some project, which is no part of the model
            (folder / name).touch()
        with track_run(config, name="", folder=folder, params=params, tags={}) as record:
            record.log_model("model.keras", np.zeros((2, 28, 28), np.uint8))
    return f"runs:/{record.run_id}/my-sigmoids", model


@pytest.fixture(scope="module")
def loaded(logged: tuple[str, keras.Model], store: str) -> PyFuncModel:
    mlflow.set_tracking_uri(store)
    try:
        return mlflow.pyfunc.load_model(logged[0])
    finally:
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def address(loaded: PyFuncModel) -> Iterator[str]:
    with served(scoring_server.init(loaded)) as address:
        yield f"{address}/invocations"


MANY: dict[str, Callable[[np.ndarray], Any]] = {
    "uint8": np.asarray,
    "int64": lambda images: images.astype(np.int64),
    "float32": lambda images: images.astype(np.float32),
    "float64": lambda images: images.astype(np.float64),
    "lists": lambda images: images.tolist(),
    "list of images": list,
    "channels last": lambda images: images[..., None],
    "channels first": lambda images: images[:, None],
    "rows": lambda images: images.reshape(-1, 784),
    "table": lambda images: pd.DataFrame(images.reshape(-1, 784)),
}
ONE: dict[str, Callable[[np.ndarray], Any]] = {
    "square": np.asarray,
    "float32": lambda image: image.astype(np.float32),
    "lists": lambda image: image.tolist(),
    "row": np.ravel,
    "channel": lambda image: image[..., None],
}


@pytest.mark.parametrize("form", MANY)
def test_images_are_taken_in_every_usual_form(
    form: str, loaded: PyFuncModel, logged: tuple[str, keras.Model], digits: Dataset
) -> None:
    images = digits.test_images[:20]
    expected = probabilities(logged[1](images.astype(np.float32)), "sigmoid")
    assert np.array_equal(loaded.predict(MANY[form](images)), expected)


@pytest.mark.parametrize("form", ONE)
def test_one_image_is_a_batch_of_one(form: str, loaded: PyFuncModel, digits: Dataset) -> None:
    image = digits.test_images[3]
    assert np.array_equal(loaded.predict(ONE[form](image)), loaded.predict(image[None]))


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("form", ["uint8", "float32", "channels last", "rows", "one", "one row"])
def test_the_scoring_server_answers_as_python_does(
    key: str, form: str, address: str, loaded: PyFuncModel, digits: Dataset
) -> None:
    images = digits.test_images[:5]
    sent = (
        MANY[form](images) if form in MANY else images[0].reshape(28, -1 if form == "one" else 28)
    )
    sent = sent.ravel() if form == "one row" else sent
    answer = requests.post(address, timeout=60, json={key: sent.tolist()})
    assert answer.status_code == 200, answer.text
    assert np.array_equal(np.float32(answer.json()["predictions"]), loaded.predict(sent))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x / 255, "none above 1; multiply those of 0-1 by 255"),
        (lambda x: x > 127, "none above 1"),
        (lambda x: x / 127.5 - 1, "values of -1 to 1; do not scale or normalize them"),
        (lambda x: x * 257.0, "values of 0 to 65535"),
        (lambda x: x * np.nan, "values of nan to nan"),
        (lambda x: x[:, 1:], r"an array of shape \(5, 27, 28\)"),
        (lambda x: np.stack([x] * 3, axis=1), r"an array of shape \(5, 3, 28, 28\)"),
        (lambda x: x[:0], r"an array of shape \(0, 28, 28\)"),
        (lambda x: [x[0].tolist(), x[1, 1:].tolist()], "a list of lists of different lengths"),
        (lambda x: {"pixels": x}, "an object of type dict that is no array of numbers"),
        (lambda x: x.astype(str), "an object of type ndarray that is no array of numbers"),
        (lambda x: pd.DataFrame(np.zeros((3, 785))), r"an array of shape \(3, 785\)"),
    ],
)
def test_what_would_be_misread_is_refused(
    change: Callable[[np.ndarray], Any], reason: str, loaded: PyFuncModel, digits: Dataset
) -> None:
    with pytest.raises(mlflow.MlflowException, match=f"^expected .*; got {reason}"):
        loaded.predict(change(digits.test_images[:5]))


def test_the_scoring_server_refuses_in_a_sentence(address: str, digits: Dataset) -> None:
    answer = requests.post(
        address, timeout=60, json={"inputs": (digits.test_images[:2] / 255).tolist()}
    )
    assert answer.status_code == 400
    assert answer.json()["message"].endswith("; got none above 1; multiply those of 0-1 by 255")


def test_black_images_and_zero_scores_are_predicted(loaded: PyFuncModel, digits: Dataset) -> None:
    assert loaded.predict(np.zeros((1001, 28, 28))).shape == (1001, 10)
    reader = served_model.DigitReader()
    reader.model, reader.has_sigmoids = lambda batch, training: np.zeros((len(batch), 10)), True
    assert np.array_equal(reader.predict(digits.test_images[:2]), np.full((2, 10), np.float32(0.1)))


def test_the_accepted_forms_are_named_where_the_model_is_seen(
    loaded: PyFuncModel, logged: tuple[str, keras.Model], store: str
) -> None:
    assert loaded.metadata.metadata == {
        "inputs": served_model.INPUTS,
        "outputs": served_model.outputs(),
    }
    model = mlflow.MlflowClient(store).get_logged_model(loaded.model_id)
    assert model.tags["mlflow.note.content"] == served_model.description()
    place = Path(model.artifact_location.removeprefix("file://"))
    assert str(Path(served_model.__file__).parent) not in (place / "MLmodel").read_text()
    assert sorted(path.name for path in place.iterdir()) == [
        *("MLmodel", "conda.yaml", "data", "input_example.json", "python_env.yaml"),
        *("requirements.txt", "served_model.py", "serving_input_example.json"),
    ]


def test_the_keras_model_itself_is_loaded_by_mlflow_too(
    logged: tuple[str, keras.Model], store: str, digits: Dataset
) -> None:
    images = digits.test_images[:2].astype(np.float32)
    mlflow.set_tracking_uri(store)
    try:
        for flavor in (mlflow.keras, mlflow.tensorflow):
            found = flavor.load_model(logged[0])
            assert np.array_equal(found(images), logged[1](images))
    finally:
        mlflow.set_tracking_uri(None)


def test_a_model_in_an_hdf5_file_is_logged_as_keras_file(
    tmp_path: Path, store: str, digits: Dataset
) -> None:
    model = to_stock_keras(build_model(tiny("model=sigmoid100").model))
    save_model(model, tmp_path / "model.h5")
    config = TrackingConfig(enabled=True, uri=store, experiment="served", skip_finished=False)
    with track_run(config, name="", folder=tmp_path, params={}, tags={}) as record:
        record.log_model("model.h5", digits.test_images[:2])
    found = resolve_run(record.run_id, config).model()
    images = digits.test_images[:2].astype(np.float32)
    assert np.array_equal(found(images), model(images))


def test_the_code_of_a_logged_model_imports_nothing_of_this_package() -> None:
    nodes = list(ast.walk(ast.parse(Path(served_model.__file__).read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in names}
    assert packages == {"keras", "mlflow", "numpy", "pathlib", "typing"}
