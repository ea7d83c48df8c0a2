"""A run opened while other things go on: nothing is lost, nothing out of order, no error hidden."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import tiny

from mnist_exp import late as late_module
from mnist_exp import progress, tracking
from mnist_exp.errors import InputError
from mnist_exp.experiment import run_experiment
from mnist_exp.late import LateRecord
from mnist_exp.progress import EpochFile
from mnist_exp.records import Record


class Heard(Record):
    """A run that notes what it is told; opening it waits until it may."""

    def __init__(self) -> None:
        self.may_open = threading.Event()
        self.told: list[Any] = []
        self.times: list[float | None] = []
        self.run_id = "abc"
        self.error: Exception | None = None

    def open(self) -> Record:
        self.told.append("open")
        self.may_open.wait(10)
        if self.error:
            raise self.error
        return self

    def log_tags(self, tags: Any) -> None:
        self.told.append(tags)

    def log_metrics(self, metrics: Any, step: int, at: float | None = None) -> None:
        if metrics == {"bad": 1.0}:
            raise OSError("store gone")
        self.told.append((metrics, step))
        self.times.append(at)

    def log_model(self, model: Any, example: np.ndarray) -> None:
        self.told.append(model)

    def close(self, status: str) -> None:
        self.told.append(status)


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    yield heard
    heard.may_open.set()


def test_what_is_told_before_the_run_is_open_arrives_in_order(heard: Heard) -> None:
    late = LateRecord(heard.open)
    late.log_tags({"a": "1"})
    assert heard.told == []  # nothing begins by itself
    late.begin()
    late.log_metrics({"x": 1.0}, 1)
    late.begin()
    late.check()
    heard.may_open.set()
    assert late.run_id == "abc"
    late.log_model("model", np.zeros(1))
    late.log_metrics({"x": 2.0}, 2)
    late.close("FINISHED")
    assert heard.told == [
        "open", {"a": "1"}, ({"x": 1.0}, 1), "model", ({"x": 2.0}, 2), "FINISHED",
    ]  # fmt: skip


def test_a_run_that_is_needed_is_opened(heard: Heard) -> None:
    heard.may_open.set()
    late = LateRecord(heard.open)
    late.log_tags({"a": "1"})
    late.close("FAILED")
    assert heard.told == ["open", {"a": "1"}, "FAILED"]


def test_a_refused_run_is_told_by_the_next_check(heard: Heard) -> None:
    heard.error = InputError("no store")
    heard.may_open.set()
    late = LateRecord(heard.open)
    late.check()
    late.log_tags({"a": "1"})
    late.begin()
    assert late.run_id == ""
    for say in (late.check, lambda: late.close("FAILED")):
        with pytest.raises(InputError, match="no store"):
            say()


@pytest.fixture
def refused_once(heard: Heard) -> LateRecord:
    """A record whose figures could not be told while it was opened, nor when it was asked again."""
    late = LateRecord(heard.open)
    late.begin()
    late.log_metrics({"bad": 1.0}, 1)
    heard.may_open.set()
    with pytest.raises(OSError, match="store gone"):
        late.log_model("model", np.zeros(1))
    return late


def test_an_error_of_something_told_earlier_is_raised_later(
    heard: Heard, refused_once: LateRecord
) -> None:
    refused_once.close("FAILED")
    assert heard.told == ["open", "FAILED"]


def test_what_failed_at_first_is_told_before_what_comes_later(
    heard: Heard, refused_once: LateRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "log_metrics", lambda metrics, step, at: heard.told.append(step))
    refused_once.log_metrics({"x": 2.0}, 2)
    refused_once.close("FINISHED")
    assert heard.told == ["open", 1, 2, "FINISHED"]


def test_figures_have_the_time_at_which_they_were_told(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 20.0, 30.0])
    monkeypatch.setattr(late_module.time, "time", lambda: next(clock))
    late = LateRecord(heard.open)
    late.begin()
    late.log_metrics({"x": 1.0}, 1)
    late.log_metrics({"x": 2.0}, 2, at=15.0)
    late.log_metrics({"x": 3.0}, 3)
    heard.may_open.set()
    late.close("FINISHED")
    assert heard.times == [10.0, 15.0, 20.0]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_a_run_that_could_not_be_told_all_is_closed(
    error: type[BaseException],
    status: str,
    heard: Heard,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unable(params: Any) -> None:
        raise ValueError("store gone")

    heard.may_open.set()
    monkeypatch.setattr(heard, "log_params", unable)
    monkeypatch.setattr(tracking, "_open", lambda *_: heard.open())
    about = {"name": "a", "folder": tmp_path, "params": {}, "tags": {}, "late": True}
    with pytest.raises(error), tracking.record(tiny().tracking, **about) as run:
        run.begin()
        assert run.run_id
        raise error
    assert heard.told[-1] == status


def test_a_store_refused_before_the_first_epoch_ends_it_and_leaves_nothing(
    tmp_path: Any, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Record:
        raise InputError("this tracking store cannot be used")

    monkeypatch.setattr(tracking, "_open", refuse)
    config = tiny(f"tracking.uri={store}", "train.batch_size=1", "data.limit=4000")
    with pytest.raises(InputError, match="cannot be used"):
        run_experiment(config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_was_trained_before_the_store_was_refused_is_kept(
    tmp_path: Any, store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained = threading.Event()

    def refuse(*_: Any) -> Record:
        trained.wait(10)
        raise InputError("this tracking store cannot be used")

    class Bell(EpochFile):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            trained.set()

    monkeypatch.setattr(tracking, "_open", refuse)
    monkeypatch.setattr(progress, "EpochFile", Bell)
    config = tiny(f"tracking.uri={store}", "train.epochs=100000")
    with pytest.raises(InputError, match="cannot be used"):
        run_experiment(config, folder=tmp_path / "run")
    assert (tmp_path / "run" / "history.csv").exists()
    assert (tmp_path / "run" / "interrupted.keras").exists()
    assert f"what was trained until then is kept in {tmp_path / 'run'}" in caplog.text
