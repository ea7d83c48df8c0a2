"""What tests share: a quiet environment, small data, a tracking store made once."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path

os.environ["COLUMNS"] = "120"  # wide enough for every table
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
for name in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_RUN_ID",
    "HYDRA_FULL_ERROR",
    "MNIST_EXP_PARENT_RUN",
    "MNIST_EXP_SWEEP",
):
    os.environ.pop(name, None)

import pytest
from support import Command, tiny

from mnist_exp.config.compose import compose
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.experiment import run_experiment
from mnist_exp.runs.folder import RunResult
from mnist_exp.tracking import store as tracking_store
from mnist_exp.tracking.places import to_place
from mnist_exp.tracking.schema import create_whole

GRAPHS = 24  # kept by a worker


@pytest.fixture(scope="session", autouse=True)
def _stores_are_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New stores are copies of one: MLflow takes seconds to create its schema."""
    template = tmp_path_factory.mktemp("template") / "mlflow.db"

    def copy_template(file: Path) -> None:
        if not file.exists():
            create_whole(template)
            shutil.copyfile(template, file)
            place = to_place(Path.cwd() / "mlruns" / "0")  # as MLflow would have set it here
            with closing(sqlite3.connect(file)) as database, database:
                database.execute("update experiments set artifact_location = ?", [place])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking_store, "create_whole", copy_template)
        yield


@pytest.fixture(autouse=True)
def _what_is_compiled_is_kept() -> None:
    """Trainings with equal graphs share one, as in a sweep, whatever is tested in between."""
    for module, name in (("training.fit", "_compiled"), ("models.forward", "cached_forward")):
        loaded = sys.modules.get(f"mnist_exp.{module}")  # not imported for this: it takes seconds
        cached = getattr(loaded, name, None)
        if loaded and cached.cache_parameters()["maxsize"] == 1:
            setattr(loaded, name, lru_cache(maxsize=GRAPHS)(cached.__wrapped__))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The 5,000 bundled digits: 3,600 to train on, 400 to validate, 1,000 to test."""
    return load_dataset(compose(["data=mnist5k"]).data)


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    """200 of them, a tenth for validation: enough to take a step."""
    return load_dataset(compose(["data=mnist5k", "data.limit=200"]).data)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a tracking store that the tests of a session share: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, RunResult]]:
    """The URI of a store with two models of two seeds each, tiny ones, and what they came to."""
    folder = tmp_path_factory.mktemp("recorded")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    outcomes = {}
    for model in ("sigmoid100", "dense128"):
        for seed in (0, 1):
            config = tiny(f"model={model}", f"seed={seed}", f"tracking.uri={uri}")
            outcome = run_experiment(config, folder=folder / f"{model}{seed}")
            outcomes[f"{model} seed={seed}"] = outcome
    return uri, outcomes


@pytest.fixture
def recorded(
    made_once: tuple[str, dict[str, RunResult]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, RunResult]:
    """These outcomes by the names of their runs; MLFLOW_TRACKING_URI points at the store."""
    uri, outcomes = made_once
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return outcomes


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Calls `python -m mnist_exp` in this process: exit code, stdout and stderr come back."""
    from mnist_exp import __main__

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mnist_exp", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
