"""Deleted and failed runs, and checkpoints of finished ones: their size, and their removal."""

import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import is_orphaned, remove_empty
from mnist_exp.core.layout import CHECKPOINTS, JOURNAL
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import FINISHED, OURS, search
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.mlflow_backend import HOST_TAG
from mnist_exp.tracking.places import artifacts_now, to_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

FAILED = f"attributes.status = 'FAILED' and {OURS}"


@dataclass(frozen=True)
class RemovableRun:
    """A deleted or failed run, and what goes with it."""

    run: Run
    state: str  # "deleted" or "failed"
    folder: Path | None  # None where it is gone, on another machine or another run's
    places: dict[str, str]  # of its artifacts by the id of a logged model; "" for the run's own

    @property
    def sizes(self) -> tuple[int, int]:
        """The bytes of its artifacts, as far as they are on this machine, and of its folder."""
        artifacts = [path for place in self.places.values() if (path := to_path(place))]
        return sum(map(size_of, artifacts)), size_of(self.folder) if self.folder else 0


def find_removable(where: TrackingConfig) -> tuple[list[RemovableRun], list[Run]]:
    """The experiment's deleted and failed runs, and those kept for a registered model of theirs.

    Raises `InputError` for a tracking server: only what holds the database can remove a run.
    """
    uri = store.uri(where)
    if uri.startswith("http"):
        raise InputError(
            f"{store.display_uri(where)}: expected a store that this command can open itself, got "
            "a tracking server; delete the runs there, and run mlflow gc on its machine"
        )
    found, kept = [], []
    with store.connect_to_read(where) as client, _database(where) as database:
        for state, runs in [
            ("deleted", search(client, where, "", deleted=True)),
            ("failed", search(client, where, FAILED)),
        ]:
            for run in runs:
                if client.search_model_versions(f"run_id = '{run.run_id}'"):
                    kept.append(run)
                    continue
                places = {"": run.artifact_uri} | _model_places(client, database, run.run_id)
                places = {key: artifacts_now(each, uri) for key, each in places.items()}
                found.append(RemovableRun(run, state, _folder(run), places))
    return found, kept


def remove(runs: Sequence[RemovableRun], where: TrackingConfig) -> None:
    """Remove run folders, artifacts and records; what is gone already is no error.

    A record goes last: a removal that broke off is finished by the next one.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with _database(where) as database:
        for removable in runs:
            if removable.folder:
                shutil.rmtree(removable.folder, ignore_errors=True)
                remove_empty(removable.folder.parent)
            for model, place in removable.places.items():
                get_artifact_repository(place).delete_artifacts()
                with suppress(OSError):  # on this machine the folder around them is empty now
                    if path := to_path(place):
                        path.parent.rmdir()
                if model:  # by what `mlflow gc` calls, which would remove deleted experiments, too
                    database._hard_delete_logged_model(model)
            database._hard_delete_run(removable.run.run_id)


def find_checkpoints(where: TrackingConfig) -> list[tuple[Run, Path]]:
    """The experiment's finished runs that can be extended, and the folders of their checkpoints.

    Those whose run folders are on this machine.
    """
    with store.connect_to_read(where) as client:
        runs = [*search(client, where, FINISHED)]
    found = [(run, Path(run.folder) / CHECKPOINTS) for run in runs]
    return [(run, path) for run, path in found if path.is_dir() and _owns(run, path.parent)]


@contextmanager
def _database(where: TrackingConfig) -> Iterator["SqlAlchemyStore"]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database = SqlAlchemyStore(store.uri(where), "./mlruns")
    try:
        yield database
    finally:
        database.engine.dispose()


def _model_places(
    client: "MlflowClient", database: "SqlAlchemyStore", run_id: str
) -> dict[str, str]:
    """Where the artifacts of the run's logged models are, by the models' ids."""
    from mlflow.exceptions import MlflowException

    places = {}
    for output in client.get_run(run_id).outputs.model_outputs:
        try:
            model = database.get_logged_model(output.model_id, allow_deleted=True)
        except MlflowException:  # removed before; the link stays
            continue
        places[output.model_id] = model.artifact_location
    return places


def _folder(run: Run) -> Path | None:
    """The run folder, if it is this run's alone, on this machine and in no process's hands."""
    folder = Path(run.folder)
    if not _owns(run, folder):
        return None
    others = [path for path in folder.rglob(JOURNAL) if path.parent != folder]
    return None if others else folder


def _owns(run: Run, folder: Path) -> bool:
    """Whether the folder is of this run, on this machine and in no process's hands."""
    if run.tags.get(HOST_TAG) != platform.node() or not is_orphaned(folder):
        return False
    try:
        return Journal(folder).run_id == run.run_id
    except (InputError, OSError, ValueError):  # not readable, so perhaps another's
        return False


def size_of(folder: Path) -> int:
    """The bytes of the files below; a model that run folder and store share counts half in each."""
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(file.st_size // file.st_nlink for file in files)
