"""Runs as MLflow sees them, in a real store: how they end, what they carry, that they load."""

import os
import platform
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from support import tiny

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.experiment import run_experiment
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.families import build_model
from mnist_exp.models.forward import timed_scores
from mnist_exp.models.io import save_model
from mnist_exp.tracking import open_run as tracking
from mnist_exp.tracking.events import Event, LogMetrics
from mnist_exp.tracking.mlflow_backend import MlflowBackend
from mnist_exp.tracking.open_run import PARENT_VARIABLE, track_run
from mnist_exp.tracking.recovery import find_orphans, recover_run
from mnist_exp.tracking.store import uri as store_uri
from mnist_exp.tracking.tracker import RunTracker


@pytest.fixture
def client(store: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(store)


@pytest.fixture
def config(store: str) -> TrackingConfig:
    return TrackingConfig(enabled=True, uri=store, experiment="rooms", skip_finished=False)


@pytest.fixture
def opened(config: TrackingConfig, tmp_path: Path) -> Callable[..., object]:
    def open_record(**more: object) -> object:
        settings = {"name": "a run", "folder": tmp_path, "params": {}, "tags": {}} | more
        return track_run(config, **settings)  # type: ignore[arg-type]

    return open_record


def test_a_run_carries_what_was_said(
    opened: Callable, client: mlflow.MlflowClient, tmp_path: Path, digits: Dataset
) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("history.csv", "figures/curve.png", "model.keras"):
        (tmp_path / name).write_text(name)
    params = {"train.patience": None, "model.units": [128, 10], "data.name": "mnist"}
    with opened(
        params=params, tags={"x": "y", "none": ""}, files=("history.csv", "figures", "absent")
    ) as record:
        assert client.get_run(record.run_id).info.status == "RUNNING"
        record.log_metrics({"val/accuracy": 0.5}, step=1)
        record._thread.submit(lambda: None).result()
        live = client.get_metric_history(record.run_id, "val/accuracy")
        record.log_metrics({"val/accuracy": 0.75}, step=2)
        record.log_dataset(digits.name, digits.digest, digits.source, digits.counts())
    assert [(m.step, m.value) for m in live] == [(1, 0.5)]
    run = client.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "a run"
    assert run.data.metrics == {"val/accuracy": 0.75}
    assert run.data.params == {
        "train.patience": "null",
        "model.units": "[128, 10]",
        "data.name": "mnist",
    }
    assert run.data.tags["x"] == "y"
    assert "none" not in run.data.tags
    assert [a.path for a in client.list_artifacts(record.run_id)] == ["figures", "history.csv"]
    assert [a.path for a in client.list_artifacts(record.run_id, "figures")] == [
        "figures/curve.png"
    ]
    inputs = {data.tags[0].value: data.dataset for data in run.inputs.dataset_inputs}
    start = digits.digest[:8]
    assert {context: (data.name, data.digest) for context, data in inputs.items()} == {
        "training": ("mnist5k", f"{start}-train3600"),
        "validation": ("mnist5k", f"{start}-validation400"),
        "testing": ("mnist5k", f"{start}-test1000"),
    }


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("oh no"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_is_closed_whatever_happens(
    opened: Callable,
    client: mlflow.MlflowClient,
    tmp_path: Path,
    error: BaseException,
    status: str,
) -> None:
    (tmp_path / "history.csv").write_text("so far")
    with pytest.raises(type(error)), opened(files=["history.csv"]) as record:
        raise error
    run = client.get_run(record.run_id)
    assert run.info.status == status
    assert run.data.tags.get("outcome") == ("interrupted" if status == "KILLED" else None)
    kept = [artifact.path for artifact in client.list_artifacts(record.run_id)]
    assert kept == (["history.csv", "traceback.txt"] if status == "FAILED" else ["history.csv"])
    if status == "FAILED":
        assert "ValueError: oh no" in (tmp_path / "traceback.txt").read_text()


def test_a_job_lies_below_its_sweep(
    opened: Callable, client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # must not be opened instead
    (tmp_path / "job").mkdir()
    with opened() as parent:
        monkeypatch.setenv(PARENT_VARIABLE, parent.run_id)
        with opened(folder=tmp_path / "job") as child:
            pass
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_a_logged_model_takes_raw_pixels(
    opened: Callable, client: mlflow.MlflowClient, store: str, digits: Dataset, tmp_path: Path
) -> None:
    model = build_model(tiny("model=dropout").model)
    images = digits.test_images[:20]
    save_model(to_stock_keras(model), tmp_path / "model.keras")
    with opened(params={"model.name": "dropout"}) as record:
        record.log_dataset("mnist", "0123456789", "here", {"test_images": 10})
        record.log_metrics({"val/accuracy": 0.5}, 1)
        record.log_model("model.keras", images[:2])
        record.log_metrics({"test/accuracy": 0.75}, 0)
    assert not mlflow.is_tracking_uri_set()  # what log_model needs is put back
    mlflow.set_tracking_uri(store)
    loaded = mlflow.pyfunc.load_model(f"runs:/{record.run_id}/dropout")
    requirements = mlflow.pyfunc.get_model_dependencies(f"runs:/{record.run_id}/dropout")
    assert "tensorflow==" in Path(requirements).read_text()
    assert np.array_equal(loaded.input_example, images[:2])
    expected, _ = timed_scores(model, images)
    mlflow.set_tracking_uri(None)
    assert loaded.predict(images) == pytest.approx(expected, abs=1e-6)
    experiment = client.get_run(record.run_id).info.experiment_id
    (logged,) = client.search_logged_models([experiment])
    assert logged.name == "dropout"
    listed = {m.key: (m.value, m.step, m.dataset_digest) for m in logged.metrics}
    assert listed["val/accuracy"] == (0.5, 1, None)
    assert listed["test/accuracy"] == (0.75, 0, "01234567-test10")
    assert len(client.get_metric_history(record.run_id, "val/accuracy")) == 1
    file = (tmp_path / "model.keras").stat()
    assert (file.st_nlink, file.st_mode & 0o777) == (2, 0o444)  # stored once, for good


def test_tracking_can_be_off(tmp_path: Path) -> None:
    off = TrackingConfig(
        enabled=False, uri="http://127.0.0.1:9", experiment="x", skip_finished=False
    )
    with track_run(off, name="", folder=tmp_path, params={}, tags={}) as record:
        record.log_metrics({"val/accuracy": 1.0}, step=1)
    assert record.run_id == ""


def test_the_store_is_the_one_configured(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TrackingConfig(enabled=True, uri=None, experiment="x", skip_finished=False)
    assert store_uri(plain) == f"sqlite:///{workplace}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert store_uri(plain) == "http://127.0.0.1:5000"
    relative = plain.model_copy(update={"uri": "sqlite:///a.db"})
    assert store_uri(relative) == f"sqlite:///{workplace}/a.db"


def test_telemetry_is_off() -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def with_backend(change: Callable[[MlflowBackend], None]) -> Callable[..., RunTracker]:
    """Makes trackers whose backend is changed before it is used."""

    def open_backend(*arguments: Any) -> MlflowBackend:
        backend = MlflowBackend(*arguments)
        change(backend)
        return backend

    return partial(RunTracker, open_backend=open_backend)


def test_an_interrupt_during_a_write_leaves_it_whole(
    opened: Callable, client: mlflow.MlflowClient
) -> None:
    """Broken off in the middle, it would leave the store locked and the run RUNNING."""

    def change(backend: MlflowBackend) -> None:
        real = backend.publish

        def interrupted(event: Event) -> None:
            if isinstance(event, LogMetrics):
                signal.raise_signal(signal.SIGINT)
            real(event)

        backend.publish = interrupted  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt), opened(make_tracker=with_backend(change)) as tracker:
        tracker.log_metrics({"val/accuracy": 0.5}, step=1)
        tracker._thread.submit(lambda: None).result()
    run = client.get_run(tracker.run_id)
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"val/accuracy": 0.5}


def test_an_interrupt_while_the_run_is_opened_leaves_it_killed(
    opened: Callable, client: mlflow.MlflowClient
) -> None:
    def strike(_: MlflowBackend) -> None:
        signal.raise_signal(signal.SIGINT)

    struck = opened(name="struck", make_tracker=with_backend(strike))
    with pytest.raises(KeyboardInterrupt), struck:
        pass
    experiment = client.get_experiment_by_name("rooms").experiment_id
    (run,) = client.search_runs([experiment], "attributes.run_name = 'struck'")
    assert run.info.status == "KILLED"


def test_a_dead_run_is_closed_and_a_living_one_is_not(
    opened: Callable, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    for name in ("dead", "elsewhere", "next"):
        (tmp_path / name).mkdir()
    with opened(name="living") as living:
        experiment = client.get_run(living.run_id).info.experiment_id
        here = {"host": platform.node(), "folder": str(tmp_path / "dead")}
        dead = client.create_run(experiment, tags=here).info.run_id
        other = client.create_run(experiment, tags=here | {"host": "another"}).info.run_id
        with opened(name="next", folder=tmp_path / "next"):
            pass
        assert client.get_run(living.run_id).info.status == "RUNNING"
        assert client.get_run(other).info.status == "RUNNING"
        found = client.get_run(dead)
        assert (found.info.status, found.data.tags["outcome"]) == ("KILLED", "interrupted")


def test_a_run_that_ends_while_its_lock_is_looked_at_stays_finished(
    opened: Callable, client: mlflow.MlflowClient, config: TrackingConfig, tmp_path: Path
) -> None:
    (tmp_path / "ending").mkdir()
    with opened() as tracker:
        experiment = client.get_run(tracker.run_id).info.experiment_id
        here = {"host": platform.node(), "folder": str(tmp_path / "ending")}
        ending = client.create_run(experiment, tags=here).info.run_id
        ((found, folder),) = find_orphans(client, [experiment], config)
        client.set_terminated(ending, "FINISHED")
        recover_run(client, found, folder, config)
    assert client.get_run(ending).info.status == "FINISHED"


def test_two_runs_may_name_the_same_new_data_set_at_once(
    opened: Callable, digits: Dataset, client: mlflow.MlflowClient
) -> None:
    """MLflow's stores insert it twice, and refuse the second."""

    def change(backend: MlflowBackend) -> None:
        real = backend.client.log_inputs
        calls = []

        def too_late(*arguments: object) -> None:
            calls.append(arguments)
            if len(calls) == 1:
                raise mlflow.MlflowException("duplicate key")
            real(*arguments)

        backend.client.log_inputs = too_late

    with opened(make_tracker=with_backend(change)) as tracker:
        tracker.log_dataset(digits.name, digits.digest, digits.source, digits.counts())
    run = client.get_run(tracker.run_id)
    assert [named.dataset.name for named in run.inputs.dataset_inputs] == 3 * ["mnist5k"]


def test_a_sweep_closes_what_its_dead_workers_left_on_any_machine(
    opened: Callable, client: mlflow.MlflowClient
) -> None:
    with opened() as parent:
        experiment = client.get_run(parent.run_id).info.experiment_id
        tags = {"host": "another", "mlflow.parentRunId": parent.run_id}
        lost = client.create_run(experiment, tags=tags).info.run_id
        other = client.create_run(experiment, tags=tags | {"mlflow.parentRunId": "x"}).info.run_id
        parent.close_children()
    assert client.get_run(lost).info.status == "KILLED"
    assert client.get_run(other).info.status == "RUNNING"


def test_a_closed_port_is_answered_in_a_sentence_without_the_password(tmp_path: Path) -> None:
    closed = tiny("tracking.uri='http://me:s3c@ret@127.0.0.1:9'")
    with pytest.raises(InputError, match=r"^http://\*\*\*@127.0.0.1:9: this tracking") as error:
        run_experiment(closed, folder=tmp_path / "run")
    assert "s3c" not in str(error.value)
    assert "tracking.enabled=false" in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (["/x/mnist_exp/run.py", "model=cnn"], "python -m mnist_exp.run"),
        (
            ["/x/mnist_exp/__main__.py", "reproduce", "--run", "best"],
            "python -m mnist_exp reproduce",
        ),
        (["/x/mnist_exp/__main__.py"], "python -m mnist_exp"),
        (["/home/me/study.py", "7"], "study.py"),
    ],
)
def test_a_run_names_the_command_that_made_it(
    arguments: list[str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert tracking._source() == source
    monkeypatch.setenv(PARENT_VARIABLE, "of a sweep, whose workers have other scripts")
    assert tracking._source() == "python -m mnist_exp.run"


def test_a_user_without_a_name_has_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # as in a container: nobody has this id
    monkeypatch.setenv("USER", "")  # so that it is as before afterwards
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    off = TrackingConfig(enabled=False, uri=None, experiment="x", skip_finished=False)
    with track_run(off, name="", folder=tmp_path, params={}, tags={}) as tracker:
        assert tracker.tags["mlflow.user"] == "54321"
