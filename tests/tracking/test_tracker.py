"""What is said of a run: kept in its folder first, published in order, once, whenever it can be."""

import json
import logging
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import mlflow
import numpy as np
import pytest
from support import tiny

from mnist_exp.config.schema import Tracking
from mnist_exp.core.errors import InputError
from mnist_exp.models import families as models
from mnist_exp.runs import find as runs
from mnist_exp.tracking import open_run as tracking
from mnist_exp.tracking import store
from mnist_exp.tracking import tracker as records
from mnist_exp.tracking.journal import JOURNAL, Journal, Opening
from mnist_exp.tracking.mlflow_backend import RECORD, MlflowRun
from mnist_exp.tracking.tracker import Record

FOLDER_TAGS = {RECORD: "abc"}


@pytest.fixture
def config(store: str) -> Tracking:
    return Tracking(enabled=True, uri=store, experiment="records", skip_finished=False)


class Heard:
    """Stands in for MLflow's run: notes what it is told, and fails as it is asked to."""

    told: ClassVar[list[Any]] = []
    errors: ClassVar[dict[str, list[Exception]]] = {}  # by verb, one for each time

    def __init__(self, client: Any, uri: str, opening: Opening, folder: Path, run_id: str) -> None:
        self.run_id = run_id or "new"
        self._hear("open", run_id)

    def _hear(self, verb: str, *said: Any) -> None:
        if self.errors.get(verb):
            raise self.errors[verb].pop(0)
        self.told.append((verb, *said))

    def log_metrics(self, metrics: Any, step: int, at: float) -> None:
        self._hear("figures", step, at)

    def log_tags(self, tags: Any) -> None:
        self._hear("tags", tags)

    def log_files(self, names: Any) -> None:
        self._hear("files", names)

    def close(self, status: str, at: float, *, is_whole: bool = True) -> None:
        self._hear("close", status, is_whole)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> type[Heard]:
    monkeypatch.setattr(Heard, "told", [])
    monkeypatch.setattr(Heard, "errors", {})
    monkeypatch.setattr(records, "MlflowRun", Heard)
    monkeypatch.setattr(records, "RETRY_SECONDS", 0)
    return Heard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    ticks = iter(float(10 * n) for n in range(1, 100))
    real = SimpleNamespace(monotonic=time.monotonic, time=lambda: next(ticks))
    monkeypatch.setattr(records, "time", real)  # the module's: others ask for the time, too
    return ticks


def begun(folder: Path, config: Tracking) -> Record:
    record = Record(folder, config)
    opening = Opening(str(config.uri), config.experiment, "a run", FOLDER_TAGS, 1)
    record.journal.begin(opening)
    return record


def test_what_was_said_before_publishing_begins_arrives_in_order_with_its_time(
    tmp_path: Path, config: Tracking, heard: type[Heard], clock: object
) -> None:
    record = begun(tmp_path, config)
    record.log_metrics({"x": 1.0}, 1)
    assert heard.told == []  # nothing begins by itself
    record.begin()
    record.log_metrics({"x": 2.0}, 2)
    assert record.run_id == "new"
    record.close("FINISHED")
    assert heard.told == [
        ("open", ""), ("figures", 1, 10.0), ("figures", 2, 20.0), ("close", "FINISHED", True),
    ]  # fmt: skip
    assert Journal(tmp_path).is_published


def test_a_store_that_fails_is_told_of_once_and_hears_everything_later(
    tmp_path: Path,
    config: Tracking,
    heard: type[Heard],
    clock: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING", "mnist_exp")
    heard.errors["figures"] = [OSError("server gone\nand more"), OSError("server gone")]
    record = begun(tmp_path, config)
    record.log_metrics({"x": 1.0}, 1)
    assert record.run_id == "new"
    for step in (2, 3, 4):
        record.log_metrics({"x": 1.0}, step)
    record.close("FINISHED")
    assert [step for verb, step, *_ in heard.told if verb == "figures"] == [1, 2, 3, 4]
    assert heard.told[-1] == ("close", "FINISHED", True)
    assert caplog.messages == [
        "the run cannot be published now (server gone); it goes on, and what is missing follows "
        "when the store can be used"
    ]


def test_a_store_that_failed_is_left_alone_for_a_while(
    tmp_path: Path, config: Tracking, heard: type[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "RETRY_SECONDS", 1000)
    heard.errors["figures"] = [OSError("server gone")]
    record = begun(tmp_path, config)
    record.log_metrics({"x": 1.0}, 1)
    assert record.run_id == "new"
    record.log_metrics({"x": 1.0}, 2)
    assert record._thread.submit(lambda: heard.told).result() == [("open", "")]
    record.close("FINISHED")
    assert len(heard.told) == 4


def test_the_same_figures_of_an_epoch_are_said_once(
    tmp_path: Path, config: Tracking, heard: type[Heard]
) -> None:
    """As when a run goes on from the checkpoint before the one that was damaged."""
    record = begun(tmp_path, config)
    record.log_metrics({"train/loss": 1.0}, 1)
    record.close("KILLED")
    again = Record(tmp_path, config)
    again.log_metrics({"train/loss": 1.0}, 1)
    again.log_metrics({"test/loss": 1.0}, 1)
    again.log_metrics({"train/loss": 1.0}, 2)
    said = [s["step"] for verb, s in Journal(tmp_path).said if verb == "log_metrics"]
    assert said == [1, 1, 2]


def test_what_cannot_be_published_leaves_no_finished_run_until_it_is(
    tmp_path: Path, config: Tracking, heard: type[Heard], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "mnist_exp")
    config = config.model_copy(
        update={"uri": store.absolute("sqlite:///" + str(tmp_path / "a.db"))}
    )
    heard.errors["files"] = [OSError("artifacts: Permission denied")]
    record = begun(tmp_path, config)
    record.log_files(["figures"])
    record.log_tags({"a": "b"})
    record.close("FINISHED")
    assert heard.told == [("open", ""), ("tags", {"a": "b"}), ("close", "FINISHED", False)]
    assert not Journal(tmp_path).is_published
    assert caplog.messages == [
        "not all of this run could be published (artifacts: Permission denied); it is kept in "
        f"{tmp_path}, and published with: python -m mnist_exp sync {tmp_path}"
    ]
    heard.told.clear()
    assert tracking.sync(tmp_path, config.uri) == tracking.PUBLISHED
    assert heard.told == [
        ("open", "new"), ("files", ["figures"]), ("tags", {"a": "b"}), ("close", "FINISHED", True),
    ]  # fmt: skip


def test_a_server_that_is_gone_at_the_end_is_asked_once(
    tmp_path: Path, config: Tracking, heard: type[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Tracking) -> None:
        raise InputError("nobody answers")

    record = begun(tmp_path, config)
    assert record.run_id == "new"
    heard.errors["tags"] = [OSError("server gone") for _ in range(9)]
    monkeypatch.setattr(store, "knock", silent)
    monkeypatch.setattr(records, "RETRY_SECONDS", 1000)
    for _ in range(3):
        record.log_tags({})
    record.close("FINISHED")
    assert heard.told == [("open", "")]
    assert len(heard.errors["tags"]) == 7  # one attempt while training, one at the end


def test_a_locked_store_is_waited_for_at_the_end(
    tmp_path: Path, config: Tracking, heard: type[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    patient = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=waits.append)
    monkeypatch.setattr(records, "time", patient)
    heard.errors["tags"] = [OSError("(sqlite3) database is locked") for _ in range(5)]
    record = begun(tmp_path, config)
    record.log_tags({})
    record.close("FINISHED")
    assert len(waits) == 5
    assert heard.told[-1] == ("close", "FINISHED", True)


def test_a_journal_outlives_a_torn_line(tmp_path: Path, config: Tracking) -> None:
    begun(tmp_path, config).log_tags({"a": "b"})
    path = tmp_path / JOURNAL
    whole = path.read_text()
    path.write_text(whole + '{"log_tags": {"ta')
    journal = Journal(tmp_path)
    assert journal.said == [("log_tags", {"tags": {"a": "b"}})]
    journal.say("log_tags", tags={"c": "d"})
    assert path.read_text() == whole + '{"log_tags": {"tags": {"c": "d"}}}\n'


def test_a_journal_is_published_until_more_is_said(tmp_path: Path, config: Tracking) -> None:
    journal = begun(tmp_path, config).journal
    journal.published()
    assert Journal(tmp_path).is_published
    journal.say("go_on")
    assert not journal.is_published
    assert not Journal(tmp_path).is_published


def test_a_line_that_found_no_room_is_cut_away_by_the_next(
    tmp_path: Path, config: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    record = begun(tmp_path, config)
    path = tmp_path / JOURNAL
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, most))
    try:
        record.log_tags({"lost": "b"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert f"{path}: File too large; MLflow alone is told" in caplog.text
    record.log_tags({"kept": "d"})
    assert Journal(tmp_path).said == [("log_tags", {"tags": {"kept": "d"}})]


def test_a_journal_says_nothing_that_is_no_part_of_a_record(
    tmp_path: Path, config: Tracking
) -> None:
    (tmp_path / JOURNAL).write_text('{"__init__": {}}\n')
    with pytest.raises(ValueError, match="no entry of a record"):
        Record(tmp_path, config)


@pytest.fixture
def complete(tmp_path: Path, config: Tracking, digits: Any) -> Callable[[Path], Record]:
    """Makes a record of everything in a real store."""

    def make(folder: Path) -> Record:
        folder.mkdir()
        models.save(models.stock(models.build(tiny().model)), folder / "model.keras")
        (folder / "history.csv").write_text("epoch\n")
        record = Record(folder, config)
        tags = {RECORD: folder.as_posix(), "folder": str(folder)}
        record.journal.begin(Opening("", config.experiment, "a run", tags, 1))
        record.log_params({"units": [128], "none": None})
        record.log_data(digits)
        record.log_metrics({"val/accuracy": 0.5}, 1)
        record.log_metrics({"val/accuracy": 0.75}, 2)
        record.log_model("model.keras", digits.test_images[:2])
        record.log_files(["history.csv"])
        return record

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
    tmp_path: Path, config: Tracking, complete: Callable[[Path], Record]
) -> None:
    record = complete(tmp_path / "run")
    record.close("FINISHED")
    once = contents(record.run_id, str(config.uri))
    assert [figure[:2] for figure in once["figures"]] == [(1, 0.5), (2, 0.75)]
    assert (once["status"], len(once["models"]), once["files"]) == ("FINISHED", 1, ["history.csv"])
    assert once["params"] == {"units": "[128]", "none": "null"}
    again = Record(tmp_path / "run", config)
    assert again.publish()
    assert contents(record.run_id, str(config.uri)) == once


def test_a_run_whose_opening_got_no_answer_is_not_opened_twice(
    tmp_path: Path, config: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowRun.__init__
    ids = []

    def unheard(run: MlflowRun, *arguments: Any) -> None:
        real(run, *arguments)
        ids.append(run.run_id)
        if len(ids) == 1:
            raise OSError("the answer never came")

    monkeypatch.setattr(MlflowRun, "__init__", unheard)
    record = Record(tmp_path, config)
    record.journal.begin(Opening("", config.experiment, "a run", {RECORD: "unheard"}, 1))
    record.close("FINISHED")
    record = Record(tmp_path, config)
    assert record.publish()
    assert ids[0] == ids[1] == record.journal.run_id


def test_the_next_start_publishes_what_an_ended_run_left(
    tmp_path: Path,
    config: Tracking,
    complete: Callable[[Path], Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import platform

    left = complete(tmp_path / "left")
    left.log_tags({"host": platform.node()})
    run_id = left.run_id
    left.journal.say("close", status="FINISHED", at=5.0)  # the server died before it heard
    assert contents(run_id, str(config.uri))["status"] == "RUNNING"
    caplog.set_level(logging.INFO, "mnist_exp")
    (tmp_path / "next").mkdir()
    about = {"name": "next", "folder": tmp_path / "next", "params": {}, "tags": {}}
    with tracking.record(config, **about):
        pass
    found = contents(run_id, str(config.uri))
    assert (found["status"], found["end"], len(found["models"])) == ("FINISHED", 5000, 1)
    assert Journal(tmp_path / "left").is_published
    assert f"run {run_id[:8]} had not been published whole; now it is" in caplog.messages


def test_sync_closes_a_run_whose_process_died(
    tmp_path: Path, config: Tracking, complete: Callable[[Path], Record]
) -> None:
    died = complete(tmp_path / "died")
    (tmp_path / "died" / ".running").touch()  # its lock went with its process
    assert tracking.sync(tmp_path / "died", config.uri) == tracking.PUBLISHED
    found = contents(Journal(tmp_path / "died").run_id, str(config.uri))
    assert (found["status"], found["tags"]["outcome"]) == ("KILLED", "interrupted")
    assert len(found["figures"]) == 2
    assert died.folder.exists()


def test_a_run_without_tracking_can_be_published_later(tmp_path: Path, config: Tracking) -> None:
    off = config.model_copy(update={"enabled": False, "uri": "http://127.0.0.1:9"})
    about = {"name": "a", "folder": tmp_path, "params": {"x": 1}, "tags": {}}
    with tracking.record(off, **about) as run:
        run.log_metrics({"val/accuracy": 0.5}, 1)
    assert run.run_id == ""
    assert tracking.sync(tmp_path, config.uri) == tracking.PUBLISHED
    found = contents(Journal(tmp_path).run_id, str(config.uri))
    assert (found["status"], found["params"]) == ("FINISHED", {"x": "1"})


def test_the_example_of_a_model_is_the_one_given(
    tmp_path: Path, complete: Callable[[Path], Record], digits: Any
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
    with pytest.raises(ValueError, match=r"no entry of a record|not the run's own"):
        Journal(tmp_path)
    with pytest.raises(InputError, match="expected the record of a run"):
        tracking.sync(tmp_path)


def test_a_run_is_published_anew_where_the_store_does_not_have_it(
    tmp_path: Path, config: Tracking, complete: Callable[[Path], Record]
) -> None:
    complete(tmp_path / "run").close("FINISHED")
    first = Journal(tmp_path / "run").run_id
    other = f"sqlite:///{tmp_path}/other.db"
    assert tracking.sync(tmp_path / "run", other) == tracking.PUBLISHED
    second = Journal(tmp_path / "run").run_id
    assert first != second
    ours, theirs = contents(second, other), contents(first, str(config.uri))
    for same in ("status", "params", "figures", "data", "files"):
        assert ours[same] == theirs[same]


def test_two_processes_do_not_work_on_one_run(tmp_path: Path, config: Tracking) -> None:
    about = {"name": "a", "folder": tmp_path, "params": {}, "tags": {}}
    with tracking.record(config, **about):
        told = "another process is at work on this run"
        with pytest.raises(InputError, match=told), tracking.record(config, **about):
            pass


def test_a_model_whose_files_did_not_arrive_is_published_again(
    tmp_path: Path,
    config: Tracking,
    complete: Callable[[Path], Record],
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
    assert tracking.sync(tmp_path / "run") == tracking.PUBLISHED
    again = Record(tmp_path / "run", config)
    assert again.publish()  # and says nothing twice
    client = mlflow.MlflowClient(config.uri)
    experiment = client.get_run(run_id).info.experiment_id
    found = [m for m in client.search_logged_models([experiment]) if m.source_run_id == run_id]
    assert [str(model.status) for model in found] == ["READY"]
    assert runs.find(run_id, config).model().count_params() > 0


def test_sync_publishes_again_what_the_store_has_lost(
    tmp_path: Path, config: Tracking, complete: Callable[[Path], Record]
) -> None:
    config = config.model_copy(update={"uri": f"sqlite:///{tmp_path}/a.db"})
    record = begun(tmp_path, config)
    record.close("FINISHED")
    assert tracking.sync(tmp_path) == tracking.COMPLETE
    client = mlflow.MlflowClient(config.uri)
    client.delete_run(record.run_id)
    assert tracking.sync(tmp_path) == tracking.COMPLETE  # a run in MLflow's bin is there
    (tmp_path / "a.db").rename(tmp_path / "lost.db")
    other = tmp_path / "b.db"
    assert tracking.sync(tmp_path, f"sqlite:///{other}") == tracking.PUBLISHED
