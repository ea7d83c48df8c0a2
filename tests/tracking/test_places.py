"""Projects with odd names, moved or copied: files are found, and written, where they are now."""

import logging
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import utils

from mnist_exp import doctor
from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.layout import CONFIG
from mnist_exp.runs.clean import find_removable, remove
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.run import FINGERPRINT_TAG
from mnist_exp.runs.search import store_config
from mnist_exp.tracking import places, recovery, store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.logged_model import download_model, global_tracking_uri
from mnist_exp.tracking.open_run import track_run
from mnist_exp.tracking.places import stale_paths

ODD = "a?b=c%20d#e ${z}&;:+é'\""
MODEL = Path("data", "model.keras")
LOCATIONS = """
select artifact_location from experiments union all select artifact_uri from runs
union all select artifact_location from logged_models
union all select storage_location from model_versions
union all select value from tags where key = 'folder'
"""


def record(name: str, text: str = "", **more: str) -> str:
    """The id of a run recorded in the store of the current folder, in outputs/`name`."""
    folder = Path("outputs", name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(text or name)
    config = store_config(**more)
    tags = {FINGERPRINT_TAG: name}
    with track_run(
        config, name=name, folder=folder, params={}, tags=tags, files=[CONFIG]
    ) as tracker:
        pass
    return tracker.run_id


def contents(folder: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def locations(project: Path) -> list[str]:
    with closing(sqlite3.connect(project / "mlflow.db")) as database:
        return [place for (place,) in database.execute(LOCATIONS)]


@pytest.fixture(scope="module")
def project_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run, "first", of a registered model, in a folder of an odd name."""
    project = tmp_path_factory.mktemp("places") / "folder" / ODD
    project.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(project)
        run_id = record("first")
        client, uri = mlflow.MlflowClient(store.uri(store_config())), store.uri(store_config())
        experiment = client.get_run(run_id).info.experiment_id
        model = client.create_logged_model(experiment, "m", source_run_id=run_id)
        client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(model.model_id, 0)])
        file = places.to_path(model.artifact_location) / MODEL
        file.parent.mkdir(parents=True)
        file.write_text("a model")
        client.create_registered_model("digits")
        with global_tracking_uri(uri):
            client.create_model_version("digits", f"models:/{model.model_id}", run_id)
    return project


@pytest.fixture
def original(project_once: Path, tmp_path: Path) -> Iterator[Path]:
    """The project, which a copy of it must leave as it is."""
    before = contents(project_once.parent)
    places._tell_moved.cache_clear()
    utils._artifact_repos_cache.clear()  # MLflow's, by the ids of runs
    yield project_once
    assert contents(project_once.parent) == before


@pytest.fixture
def copied(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, the current folder; files of it tell that they are the copy's."""
    project = tmp_path / "copied"
    shutil.copytree(original, project)
    for path in (*project.glob(f"mlruns/1/*/artifacts/{CONFIG}"), *project.rglob("model.keras")):
        path.write_text("copied")
    monkeypatch.chdir(project)
    return project


def test_a_folder_may_have_any_name(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original)
    assert [path.name for path in original.parent.iterdir()] == [ODD]  # MLflow made no other
    uri = store.uri(store_config())
    assert places.sqlite_file(uri) == original / "mlflow.db"
    run = resolve_run("first", store_config())
    assert run.file(CONFIG).read_text() == "first"
    assert run.folder == str(original / "outputs" / "first")
    client = mlflow.MlflowClient(uri)
    assert [each.path for each in client.list_artifacts(run.run_id)] == [CONFIG]
    assert stale_paths(uri, rewrite=False) == 0


def test_a_copied_project_reads_its_own_files_and_says_so_once(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = resolve_run("first", store_config())
    assert run.file(CONFIG).read_text() == "copied"
    uri = store.uri(run.tracking)
    client = mlflow.MlflowClient(uri)
    model = download_model(client, run.run_id, copied, uri)
    assert model.read_text() == "copied"
    version = client.get_model_version_download_uri("digits", "1")
    assert places.artifacts_now(version, uri) == str(
        next(copied.glob("mlruns/1/models/*/artifacts"))
    )
    assert run.folder == str(copied / "outputs" / "first")
    (told,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert f"are read from {copied}" in told
    assert "python -m mnist_exp doctor --repair" in told


def test_a_copied_project_writes_to_itself(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    second = record("second")
    assert f"new files go to {copied / 'mlruns'}, no longer to" in caplog.text
    assert (copied / "mlruns" / "1" / second / "artifacts" / CONFIG).read_text() == "second"
    first = Journal(copied / "outputs" / "first").run_id
    assert record("first", "again") == first  # as resumed
    assert (copied / "mlruns" / "1" / first / "artifacts" / CONFIG).read_text() == "again"


def test_the_copy_of_a_project_without_artifacts_writes_to_itself(copied: Path) -> None:
    shutil.rmtree(copied / "mlruns")
    second = record("second")
    assert (copied / "mlruns" / "1" / second / "artifacts" / CONFIG).exists()


def test_a_copied_project_cleans_up_its_own(copied: Path) -> None:
    run = resolve_run("first", store_config())
    client = mlflow.MlflowClient(store.uri(run.tracking))
    client.delete_model_version("digits", "1")
    client.delete_run(run.run_id)
    (found,), _ = find_removable(run.tracking)
    remove([found], run.tracking)
    assert not [*copied.glob("mlruns/1/*/*"), *copied.glob("mlruns/1/models/*")]
    assert not (copied / "outputs" / "first").exists()


def test_a_copied_project_is_recovered_and_synced_by_itself(copied: Path) -> None:
    folder = copied / "outputs" / "first"
    assert Journal(folder).store == store.uri(store_config())
    assert recovery.sync(folder) == recovery.COMPLETE
    run = resolve_run("first", store_config())
    client = mlflow.MlflowClient(store.uri(run.tracking))
    client.update_run(run.run_id, "RUNNING")
    ((_, orphan),) = recovery.find_orphans(client, ["1"], run.tracking)
    assert orphan == folder
    client.delete_run(run.run_id)
    assert recovery.sync(folder) == recovery.COMPLETE


def test_doctor_rewrites_the_paths_of_a_moved_project(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "6 paths in it are from before the project was moved or copied; "
    _, found = doctor._store(store_config(), close=False, repair=False)
    assert found.needs_doing
    assert found.text == f"{told}rewrite them: python -m mnist_exp doctor --repair"
    assert not [place for place in locations(copied) if str(copied) in place]
    _, found = doctor._store(store_config(), close=False, repair=True)
    assert (found.text, found.needs_doing) == (f"{told}rewritten now", False)
    assert not [place for place in locations(copied) if str(copied) not in place]
    assert len([*doctor._store(store_config(), close=False, repair=False)]) == 1
    client = mlflow.MlflowClient(store.uri(store_config()))
    run = resolve_run("first", store_config())
    assert Path(client.download_artifacts(run.run_id, CONFIG)).read_text() == "copied"

    copied.rename(tmp_path / "moved")  # and on
    monkeypatch.chdir(tmp_path / "moved")
    assert resolve_run("first", store_config()).file(CONFIG).read_text() == "copied"
    assert stale_paths(store.uri(store_config()), rewrite=True) == 6


def test_a_store_outside_of_the_project_is_not_moved_by_a_copy(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "stores"
    shutil.copytree(original, project)
    elsewhere.mkdir()
    monkeypatch.chdir(project)
    stale_paths(store.uri(store_config()), rewrite=True)
    uri = f"sqlite:///{(project / 'mlflow.db').rename(elsewhere / 'mlflow.db')}"
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    where = store_config(uri=uri)
    assert resolve_run("first", where).file(CONFIG).is_relative_to(project)
    assert stale_paths(uri, rewrite=True) == 0
    assert (project / "mlruns" / "1" / record("second", uri=uri)).is_dir()

    shutil.rmtree(project)  # the copy is all there is
    run = resolve_run("first", where)
    assert run.file(CONFIG).is_relative_to(copy)
    assert run.folder == str(copy / "outputs" / "first")
    assert (copy / "mlruns" / "1" / record("third", uri=uri)).is_dir()


def test_a_link_to_a_project_is_the_project(
    copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stale_paths(store.uri(store_config()), rewrite=True)
    (tmp_path / "link").symlink_to(copied)
    uri = f"sqlite:///{tmp_path / 'link' / 'mlflow.db'}"
    assert resolve_run("first", store_config(uri=uri)).file(CONFIG).read_text() == "copied"
    assert stale_paths(uri, rewrite=False) == 0
    assert not caplog.records


def test_a_name_that_another_run_uses_again_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "record.jsonl").write_text("another")
    tags = {"folder": "/gone/runs/a", "record": "mine"}
    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert places.run_folder(tags, "", where) == Path("/gone/runs/a")
    (tmp_path / "runs" / "a" / "record.jsonl").write_text("mine")
    assert places.run_folder(tags, "", where) == tmp_path / "runs" / "a"


@pytest.mark.parametrize("place", ["mlflow-artifacts:/1/a", "s3://bucket/1/a", "dbfs:/1"])
def test_places_elsewhere_are_not_looked_for(place: str) -> None:
    assert places.to_path(place) is None
    assert places.artifacts_now(place, "sqlite:////a/mlflow.db") == place


def test_options_of_an_address_are_kept(workplace: Path) -> None:
    config = TrackingConfig(
        enabled=True, uri="sqlite:///my.db?timeout=30", experiment="mnist", skip_finished=False
    )
    assert store.uri(config) == f"sqlite:///{workplace}/my.db?timeout=30"
    store.check_reachable(config)
    assert not [*workplace.iterdir()]


def test_the_command_of_a_repair_names_the_store(workplace: Path) -> None:
    command = "python -m mnist_exp doctor --repair"
    assert places.repair_command(f"sqlite:///{workplace}/mlflow.db") == command
    other = "sqlite:////tmp/a b/mlflow.db"
    assert places.repair_command(other) == f"{command} --tracking-uri '{other}'"
