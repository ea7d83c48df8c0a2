"""What is said of a run: kept in its folder first, published in order, once, whenever it can be."""

import json
import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from support import tiny

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.core.layout import JOURNAL
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.families import build_model
from mnist_exp.models.io import save_model
from mnist_exp.runs.find import resolve_run
from mnist_exp.tracking import store as tracking_store
from mnist_exp.tracking.events import (
    VERSION,
    Close,
    Event,
    LogCurve,
    LogFiles,
    LogMetrics,
    LogTags,
    Opening,
    Published,
    Reopen,
)
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.mlflow_backend import MlflowBackend
from mnist_exp.tracking.open_run import track_run
from mnist_exp.tracking.places import JOURNAL_TAG
from mnist_exp.tracking.recovery import COMPLETE, DELETED, PUBLISHED, sync
from mnist_exp.tracking.tracker import RETRY_SECONDS, RunTracker


@pytest.fixture
def config(store: str) -> TrackingConfig:
    return TrackingConfig(enabled=True, uri=store, experiment="records", skip_finished=False)


class FakeBackend:
    """Stands in for MLflow's run: notes what it is told, and fails as it is asked to."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.errors: dict[str, list[Exception]] = {}  # by what it is told, one for each time
        self.experiment_id = self.run_id = ""

    def open(
        self, config: TrackingConfig, opening: Opening, folder: Path, run_id: str
    ) -> "FakeBackend":
        self.run_id = run_id or "new"
        self._hear("open", run_id)
        return self

    def _hear(self, what: str, *said: Any) -> None:
        if self.errors.get(what):
            raise self.errors[what].pop(0)
        self.told.append((what, *said))

    def publish(self, event: Event) -> None:
        match event:
            case LogMetrics(_, step, at):
                self._hear("metrics", step, at)
            case LogTags(tags):
                self._hear("tags", tags)
            case LogFiles(names):
                self._hear("files", names)
            case Close(status):
                self._hear("close", status)


@dataclass
class FakeClock:
    """Each look at the time is ten seconds later, or `step` at what is waited by; nobody sleeps."""

    step: float = RETRY_SECONDS
    now: float = 0.0
    waited: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def time(self) -> float:
        self.now += 10
        return self.now

    def monotonic(self) -> float:
        self.waited += self.step
        return self.waited

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def tracker_of(config: TrackingConfig, backend: FakeBackend) -> Callable[..., RunTracker]:
    """Makes a tracker of a folder, which publishes to the fake backend."""

    def make(folder: Path, config: TrackingConfig = config, **more: Any) -> RunTracker:
        given = {"open_backend": backend.open, "clock": FakeClock()} | more
        return RunTracker(folder, config, **given)

    return make


@pytest.fixture
def begun(tracker_of: Callable[..., RunTracker]) -> Callable[..., RunTracker]:
    """Makes such a tracker of a new run."""

    def make(folder: Path, *arguments: Any, **more: Any) -> RunTracker:
        tracker = tracker_of(folder, *arguments, **more)
        tracker.journal.append(opening(tracker.config))
        return tracker

    return make


def opening(config: TrackingConfig, journal: str = "abc") -> Opening:
    return Opening(str(config.uri), config.experiment, "a run", {JOURNAL_TAG: journal}, 1)


def test_what_was_logged_before_publishing_starts_arrives_in_order_with_its_time(
    tmp_path: Path, backend: FakeBackend, begun: Callable[..., RunTracker]
) -> None:
    tracker = begun(tmp_path)
    tracker.log_metrics({"x": 1.0}, 1)
    assert backend.told == []  # nothing starts by itself
    tracker.start()
    tracker.log_metrics({"x": 2.0}, 2)
    assert tracker.run_id == "new"
    tracker.close("FINISHED")
    assert backend.told == [
        ("open", ""), ("metrics", 1, 10.0), ("metrics", 2, 20.0), ("close", "FINISHED"),
    ]  # fmt: skip
    assert Journal(tmp_path).is_published


def test_a_store_that_fails_is_warned_of_once_and_receives_everything_later(
    tmp_path: Path,
    backend: FakeBackend,
    begun: Callable[..., RunTracker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING", "mnist_exp")
    backend.errors["metrics"] = [OSError("server gone\nand more"), OSError("server gone")]
    tracker = begun(tmp_path)
    tracker.log_metrics({"x": 1.0}, 1)
    assert tracker.run_id == "new"
    for step in (2, 3, 4):
        tracker.log_metrics({"x": 1.0}, step)
    tracker.close("FINISHED")
    assert [step for what, step, *_ in backend.told if what == "metrics"] == [1, 2, 3, 4]
    assert backend.told[-1] == ("close", "FINISHED")
    assert caplog.messages == [
        "the run cannot be published now (server gone); it goes on, and what is missing follows "
        "when the store can be used"
    ]


def test_a_store_that_failed_is_left_alone_for_a_while(
    tmp_path: Path, backend: FakeBackend, begun: Callable[..., RunTracker]
) -> None:
    backend.errors["metrics"] = [OSError("server gone")]
    tracker = begun(tmp_path, clock=FakeClock(step=0))
    tracker.log_metrics({"x": 1.0}, 1)
    assert tracker.run_id == "new"
    tracker.log_metrics({"x": 1.0}, 2)
    assert tracker._thread.submit(lambda: backend.told).result() == [("open", "")]
    tracker.close("FINISHED")
    assert len(backend.told) == 4


def test_the_same_metrics_of_an_epoch_are_logged_once(
    tmp_path: Path, begun: Callable[..., RunTracker], tracker_of: Callable[..., RunTracker]
) -> None:
    """As when a run resumes from the checkpoint before the one that was damaged."""
    tracker = begun(tmp_path)
    tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.close("KILLED")
    again = tracker_of(tmp_path)
    again.log_metrics({"train/loss": 1.0}, 1)
    again.log_metrics({"test/loss": 1.0}, 1)
    again.log_metrics({"train/loss": 1.0}, 2)
    steps = [e.step for e in Journal(tmp_path).events if isinstance(e, LogMetrics)]
    assert steps == [1, 1, 2]


def test_the_points_of_a_curve_are_logged_once(
    tmp_path: Path, begun: Callable[..., RunTracker], tracker_of: Callable[..., RunTracker]
) -> None:
    """As when a run resumes: it has the points of its checkpoint, and adds to them."""
    rows = [{"step": step, "epoch": step / 4, "step/loss": 1 / step} for step in range(1, 5)]
    tracker = begun(tmp_path)
    tracker.log_curve(rows[:2])
    tracker.close("KILLED")
    again = tracker_of(tmp_path)
    again.log_curve(rows[:2])
    again.log_curve(rows)
    events = [event for event in Journal(tmp_path).events if isinstance(event, LogCurve)]
    assert [(event.steps, event.metrics) for event in events] == [
        ([1, 2], {"step/loss": [1, 1 / 2]}),
        ([3, 4], {"step/loss": [1 / 3, 1 / 4]}),
    ]


def test_a_long_curve_published_twice_has_every_point_once(
    store: str, config: TrackingConfig, tmp_path: Path
) -> None:
    opening = Opening(store, "records", "run", {JOURNAL_TAG: "of a curve"}, 0)
    backend = MlflowBackend(config, opening, tmp_path, "")
    steps = list(range(1, 601))
    curve = {"step/loss": [1 / step for step in steps], "step/accuracy": [0.5] * 600}
    for _ in range(2):
        backend.publish(LogCurve(curve, steps, at=1.0))
    points = mlflow.MlflowClient(store).get_metric_history(backend.run_id, "step/loss")
    assert [(point.step, point.value) for point in points] == [(s, 1 / s) for s in steps]


def test_what_cannot_be_published_leaves_no_finished_run_until_it_is(
    tmp_path: Path,
    backend: FakeBackend,
    begun: Callable[..., RunTracker],
    tracker_of: Callable[..., RunTracker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING", "mnist_exp")
    backend.errors["files"] = [OSError("artifacts: Permission denied")]
    tracker = begun(tmp_path)
    tracker.log_files(["figures"])
    tracker.log_tags({"a": "b"})
    tracker.close("FINISHED")
    assert backend.told == [
        ("open", ""), ("tags", {"a": "b"}), ("tags", {"outcome": "unpublished"}),
        ("close", "FAILED"),
    ]  # fmt: skip
    assert not Journal(tmp_path).is_published
    assert caplog.messages == [
        "not all of this run could be published (artifacts: Permission denied); it is kept in "
        f"{tmp_path}, and published with: python -m mnist_exp sync {tmp_path}"
    ]
    backend.told.clear()
    assert tracker_of(tmp_path).publish()
    assert backend.told == [
        ("open", "new"), ("files", ["figures"]), ("tags", {"a": "b"}), ("close", "FINISHED"),
    ]  # fmt: skip


def test_a_server_that_is_gone_at_the_end_is_asked_once(
    tmp_path: Path,
    backend: FakeBackend,
    begun: Callable[..., RunTracker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(_: TrackingConfig) -> None:
        raise InputError("nobody answers")

    monkeypatch.setattr(tracking_store, "check_reachable", silent)  # patched: the network
    tracker = begun(tmp_path, clock=FakeClock(step=0))
    assert tracker.run_id == "new"
    backend.errors["tags"] = [OSError("server gone") for _ in range(9)]
    for _ in range(3):
        tracker.log_tags({})
    tracker.close("FINISHED")
    assert backend.told == [("open", "")]
    assert len(backend.errors["tags"]) == 7  # one attempt while training, one at the end


def test_a_locked_store_is_waited_for_at_the_end(
    tmp_path: Path, backend: FakeBackend, begun: Callable[..., RunTracker]
) -> None:
    clock = FakeClock(step=0)
    backend.errors["tags"] = [OSError("(sqlite3) database is locked") for _ in range(5)]
    tracker = begun(tmp_path, clock=clock)
    tracker.log_tags({})
    tracker.close("FINISHED")
    assert len(clock.sleeps) == 5
    assert backend.told[-1] == ("close", "FINISHED")


def test_a_journal_outlives_a_torn_line(tmp_path: Path, begun: Callable[..., RunTracker]) -> None:
    begun(tmp_path).log_tags({"a": "b"})
    path = tmp_path / JOURNAL
    whole = path.read_text()
    path.write_text(whole + '{"log_tags": {"ta')
    journal = Journal(tmp_path)
    assert journal.events == [LogTags({"a": "b"})]
    journal.append(LogTags({"c": "d"}))
    assert path.read_text() == whole + '{"log_tags": {"tags": {"c": "d"}}}\n'


def test_a_journal_is_published_until_more_is_logged(
    tmp_path: Path, begun: Callable[..., RunTracker]
) -> None:
    journal = begun(tmp_path).journal
    journal.append(Published())
    assert Journal(tmp_path).is_published
    journal.append(Reopen())
    assert not journal.is_published
    assert not Journal(tmp_path).is_published


def test_a_line_that_found_no_room_is_cut_away_by_the_next(
    tmp_path: Path, begun: Callable[..., RunTracker], caplog: pytest.LogCaptureFixture
) -> None:
    tracker = begun(tmp_path)
    path = tmp_path / JOURNAL
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, most))
    try:
        tracker.log_tags({"lost": "b"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert f"{path}: File too large; MLflow alone is told" in caplog.text
    tracker.log_tags({"kept": "d"})
    assert Journal(tmp_path).events == [LogTags({"kept": "d"})]


def test_a_journal_says_nothing_that_is_no_part_of_a_record(
    tmp_path: Path, config: TrackingConfig
) -> None:
    (tmp_path / JOURNAL).write_text('{"__init__": {}}\n')
    with pytest.raises(ValueError, match="no entry of a record"):
        RunTracker(tmp_path, config)


@pytest.fixture
def complete(tmp_path: Path, config: TrackingConfig, digits: Any) -> Callable[[Path], RunTracker]:
    """Makes a tracker of everything in a real store."""

    def make(folder: Path) -> RunTracker:
        folder.mkdir()
        save_model(to_stock_keras(build_model(tiny().model)), folder / "model.keras")
        (folder / "history.csv").write_text("epoch\n")
        tracker = RunTracker(folder, config)
        tags = {JOURNAL_TAG: folder.as_posix(), "folder": str(folder)}
        new = Opening("", config.experiment, "a run", tags, 1)
        tracker.open(new, {"units": [128], "none": None})
        tracker.log_dataset(digits.name, digits.digest, digits.source, digits.counts())
        tracker.log_metrics({"val/accuracy": 0.5}, 1)
        tracker.log_metrics({"val/accuracy": 0.75}, 2)
        tracker.log_model("model.keras", digits.test_images[:2])
        tracker.log_files(["history.csv"])
        return tracker

    return make


def contents(run_id: str, uri: str) -> dict[str, Any]:
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    history = client.get_metric_history(run_id, "val/accuracy")
    return {
        "status": run.info.status,
        "end": run.info.end_time,
        "params": run.data.params,
        "tags": run.data.tags,
        "figures": [(m.step, m.value, m.timestamp) for m in history],
        "models": [model.model_id for model in run.outputs.model_outputs],
        "data": [named.dataset.digest for named in run.inputs.dataset_inputs],
        "files": [file.path for file in client.list_artifacts(run_id)],
    }


def test_a_record_published_twice_is_there_once(
    tmp_path: Path, config: TrackingConfig, complete: Callable[[Path], RunTracker]
) -> None:
    tracker = complete(tmp_path / "run")
    tracker.close("FINISHED")
    once = contents(tracker.run_id, str(config.uri))
    assert [figure[:2] for figure in once["figures"]] == [(1, 0.5), (2, 0.75)]
    assert (once["status"], len(once["models"]), once["files"]) == ("FINISHED", 1, ["history.csv"])
    assert once["params"] == {"units": "[128]", "none": "null"}
    again = RunTracker(tmp_path / "run", config)
    assert again.publish()
    assert contents(tracker.run_id, str(config.uri)) == once


def test_a_run_whose_opening_got_no_answer_is_not_opened_twice(
    tmp_path: Path, config: TrackingConfig
) -> None:
    ids = []

    def unheard(*arguments: Any) -> Any:
        ids.append(MlflowBackend(*arguments).run_id)
        raise OSError("the answer never came")

    tracker = RunTracker(tmp_path, config, open_backend=unheard)
    tracker.journal.append(opening(config, "unheard"))
    tracker.close("FINISHED")
    tracker = RunTracker(tmp_path, config)
    assert tracker.publish()
    assert set(ids) == {tracker.journal.run_id}


def test_the_next_start_publishes_what_an_ended_run_left(
    tmp_path: Path,
    config: TrackingConfig,
    complete: Callable[[Path], RunTracker],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import platform

    left = complete(tmp_path / "left")
    left.log_tags({"host": platform.node()})
    run_id = left.run_id
    left.journal.append(Close("FINISHED", 5.0))  # the server died before it heard
    assert contents(run_id, str(config.uri))["status"] == "RUNNING"
    caplog.set_level(logging.INFO, "mnist_exp")
    (tmp_path / "next").mkdir()
    about = {"name": "next", "folder": tmp_path / "next", "params": {}, "tags": {}}
    with track_run(config, **about):
        pass
    found = contents(run_id, str(config.uri))
    assert (found["status"], found["end"], len(found["models"])) == ("FINISHED", 5000, 1)
    assert Journal(tmp_path / "left").is_published
    assert f"run {run_id[:8]} had not been published whole; now it is" in caplog.messages


def test_sync_closes_a_run_whose_process_died(
    tmp_path: Path, config: TrackingConfig, complete: Callable[[Path], RunTracker]
) -> None:
    died = complete(tmp_path / "died")
    (tmp_path / "died" / ".running").touch()  # its lock went with its process
    assert sync(tmp_path / "died", config.uri) == PUBLISHED
    found = contents(Journal(tmp_path / "died").run_id, str(config.uri))
    assert (found["status"], found["tags"]["outcome"]) == ("KILLED", "interrupted")
    assert len(found["figures"]) == 2
    assert died.folder.exists()


def test_a_run_without_tracking_can_be_published_later(
    tmp_path: Path, config: TrackingConfig
) -> None:
    off = config.model_copy(update={"enabled": False, "uri": "http://127.0.0.1:9"})
    about = {"name": "a", "folder": tmp_path, "params": {"x": 1}, "tags": {}}
    with track_run(off, **about) as run:
        run.log_metrics({"val/accuracy": 0.5}, 1)
    assert run.run_id == ""
    assert sync(tmp_path, config.uri) == PUBLISHED
    found = contents(Journal(tmp_path).run_id, str(config.uri))
    assert (found["status"], found["params"]) == ("FINISHED", {"x": "1"})


def test_the_example_of_a_model_is_the_one_given(
    tmp_path: Path, complete: Callable[[Path], RunTracker], digits: Any
) -> None:
    complete(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / JOURNAL).read_text().splitlines()]
    (said,) = [line["log_model"] for line in lines if "log_model" in line]
    assert np.array_equal(said["example"], digits.test_images[:2])


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"log_tags": 3}',
        '{"open": {"uri": ""}}',
        '{"opened": {}}',
        '{"close": {}}',
        '{"log_metrics": {"metrics": {}}}',
        '{"log_files": {"names": ["figures", "../secret"]}}',
        '{"log_model": {"name": "/etc/passwd", "example": []}}',
    ],
)
def test_a_line_that_no_record_has_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(f"{line}\n")
    is_foreign = "log_files" in line or "log_model" in line
    reason = "files that are not the run's own: " if is_foreign else "no entry of a record: "
    with pytest.raises(ValueError, match=reason):
        Journal(tmp_path)
    with pytest.raises(InputError, match="expected the record of a run"):
        sync(tmp_path)


def test_a_run_is_published_anew_where_the_store_does_not_have_it(
    tmp_path: Path, config: TrackingConfig, complete: Callable[[Path], RunTracker]
) -> None:
    complete(tmp_path / "run").close("FINISHED")
    first = Journal(tmp_path / "run").run_id
    other = f"sqlite:///{tmp_path}/other.db"
    assert sync(tmp_path / "run", other) == PUBLISHED
    second = Journal(tmp_path / "run").run_id
    assert first != second
    ours, theirs = contents(second, other), contents(first, str(config.uri))
    for same in ("status", "params", "figures", "data", "files"):
        assert ours[same] == theirs[same]


def test_two_processes_do_not_work_on_one_run(tmp_path: Path, config: TrackingConfig) -> None:
    about = {"name": "a", "folder": tmp_path, "params": {}, "tags": {}}
    with track_run(config, **about):
        told = "another process is at work on this run"
        with pytest.raises(InputError, match=told), track_run(config, **about):
            pass


def test_a_model_whose_files_did_not_arrive_is_published_again(
    tmp_path: Path,
    config: TrackingConfig,
    complete: Callable[[Path], RunTracker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLflow links it to the run before it has its files."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError("artifacts: No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository,
                       "log_artifacts", full)  # fmt: skip
        complete(tmp_path / "run").close("FINISHED")
    run_id = Journal(tmp_path / "run").run_id
    assert contents(run_id, str(config.uri))["status"] == "FAILED"
    assert sync(tmp_path / "run", config.uri) == PUBLISHED
    again = RunTracker(tmp_path / "run", config)
    assert again.publish()  # and says nothing twice
    client = mlflow.MlflowClient(config.uri)
    experiment = client.get_run(run_id).info.experiment_id
    found = [m for m in client.search_logged_models([experiment]) if m.source_run_id == run_id]
    assert [str(model.status) for model in found] == ["READY"]
    assert resolve_run(run_id, config).model().count_params() > 0


def test_sync_publishes_again_what_the_store_has_lost_and_not_what_was_deleted(
    tmp_path: Path, config: TrackingConfig
) -> None:
    config = config.model_copy(update={"uri": f"sqlite:///{tmp_path}/a.db"})
    tracker = RunTracker(tmp_path, config)
    tracker.open(opening(config), {})
    tracker.close("FINISHED")
    assert sync(tmp_path) == COMPLETE
    client = mlflow.MlflowClient(config.uri)
    client.delete_run(tracker.run_id)
    assert sync(tmp_path) == COMPLETE  # a run in MLflow's bin is there
    client._tracking_client.store._hard_delete_run(tracker.run_id)
    assert sync(tmp_path) == DELETED  # for good, and stays so
    experiment = client.get_experiment_by_name(config.experiment)
    assert experiment
    assert not client.search_runs([experiment.experiment_id])
    assert sync(tmp_path, restore=True) == PUBLISHED
    assert len(client.search_runs([experiment.experiment_id])) == 1
    (tmp_path / "a.db").rename(tmp_path / "lost.db")
    other = tmp_path / "b.db"
    assert sync(tmp_path, f"sqlite:///{other}") == PUBLISHED


def test_a_journal_names_its_version_and_an_older_one_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(LogTags({"a": "b"}))
    first, *others = (tmp_path / JOURNAL).read_text().splitlines()
    assert json.loads(first) == {"v": VERSION}
    (tmp_path / JOURNAL).write_text("\n".join([*others, '{"go_on": {}}', ""]))
    assert Journal(tmp_path).events == [LogTags({"a": "b"}), Reopen()]


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text('{"v": 9}\n{"log_thoughts": {}}\n')
    told = r"expected a journal of version 2 or older, got version 9; upgrade mnist_exp"
    with pytest.raises(InputError, match=told):
        sync(tmp_path)
