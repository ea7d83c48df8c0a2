"""What tests share: a quiet environment, small data, a tracking store made once."""

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HYDRA_FULL_ERROR", "MNIST_EXP_PARENT_RUN"):
    os.environ.pop(name, None)

import pytest

from mnist_exp.config import compose
from mnist_exp.data import Dataset, load
from mnist_exp.schema import Config


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The 5,000 bundled digits: 3,600 to train on, 400 to validate, 1,000 to test."""
    return load(compose(["data=mnist5k"]).data)


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    """200 of them, a tenth for validation: enough to take a step."""
    return load(compose(["data=mnist5k", "data.limit=200"]).data)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a tracking store that the tests of a session share: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiny(*overrides: str) -> Config:
    """A config that trains in a moment on bundled digits."""
    return compose(["data=mnist5k", "data.limit=200", "train.epochs=1", *overrides])


def fit(
    config: Config, data: Dataset, *, jit: bool | None = None, callbacks: Any = ()
) -> tuple[Any, Any]:
    """The model of the config, trained as it says, and its history."""
    from mnist_exp import models, training

    loop = prepare(config, data, jit=jit)
    history = training.fit(
        loop, config.train, schedule=config.schedule, seed=config.seed, callbacks=callbacks
    )
    model = models.stock(loop.model)  # the loop's own is the next call's
    model.optimizer = loop.optimizer
    return model, history


def prepare(config: Config, data: Dataset, *, jit: bool | None = None) -> Any:
    """The loop that would train the config."""
    from mnist_exp import models, training

    return training.prepare(
        config.model,
        config.optimizer,
        config.train,
        data,
        precision="float32",
        jit=not models.is_convolutional(config.model) if jit is None else jit,
        seed=config.seed,
    )
