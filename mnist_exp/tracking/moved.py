"""The store of a project that was moved or copied: where new files go, and its paths rewritten."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from os.path import exists
from pathlib import Path

from mnist_exp.core.files import relocated
from mnist_exp.tracking.places import (
    FOLDER_TAG,
    JOURNAL_TAG,
    SQLITE,
    artifacts_now,
    repair_command,
    run_folder,
    sqlite_file,
    to_path,
    to_place,
)  # fmt: skip

logger = logging.getLogger(__name__)

COLUMNS = {  # of a store: tables and where they name places
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
DEPTH = {"experiments": 0, "runs": 2}  # of their places below MLRUNS
MLRUNS = "mlruns"  # the folder of all artifacts, below that where an experiment was first used
FOLDERS = f"""
select run_uuid, folder.value, record.value from runs
join tags folder using (run_uuid) join tags record using (run_uuid)
where folder.key = '{FOLDER_TAG}' and record.key = '{JOURNAL_TAG}'
"""


def correct_places(where: str, experiment_id: str, run_id: str) -> None:
    """Let new files of the experiment, and of this run of it, go to where its project is now."""
    if not where.startswith(SQLITE):
        return
    with _open(where) as database:
        for table, key, value in [
            ("experiments", "experiment_id", experiment_id),
            ("runs", "run_uuid", run_id),
        ]:
            query = f"select {COLUMNS[table]} from {table} where {key} = ?"
            for (place,) in database.execute(query, [value]).fetchall():
                if (path := to_path(place)) is None:
                    continue
                root = path.parents[DEPTH[table]]
                new = _root_now(database, root, where)
                if new == root and root.name == MLRUNS and not exists(root.parent):
                    new = Path.cwd() / MLRUNS  # moved, and no file shows where to
                if (new_place := to_place(new / path.relative_to(root))) != place:
                    update = f"update {table} set {COLUMNS[table]} = ? where {key} = ?"
                    database.execute(update, [new_place, value])
                if new != root and table == "experiments":
                    logger.warning(
                        f"new files go to {new}, no longer to {root}; "
                        f"to rewrite the paths in the store: {repair_command(where)}"
                    )


def stale_paths(where: str, *, rewrite: bool) -> int:
    """The number of paths in the store that are those before a move; they may be rewritten."""
    if not where.startswith(SQLITE):
        return 0
    with _open(where) as database:
        stale = [*_stale_places(database, where), *_stale_folders(database, where)]
        for update, values in stale if rewrite else []:
            database.execute(update, values)
    return len(stale)


@contextmanager
def _open(where: str) -> Iterator[sqlite3.Connection]:
    """Context manager: the database; what was written is committed at its end."""
    with closing(sqlite3.connect(sqlite_file(where))) as database, database:
        yield database


def _root_now(database: sqlite3.Connection, root: Path, where: str) -> Path:
    """Where the folder of artifacts is now: as the newest run with files, or a folder, shows."""
    if exists(root) and sqlite_file(where).parent in root.parents:
        return root
    folders = {run: tags for run, *tags in database.execute(FOLDERS)}
    newest = "select run_uuid, artifact_uri from runs order by start_time desc"
    for run_id, place in database.execute(newest):
        path = to_path(place)
        if path is None or root not in path.parents:
            continue
        found = to_path(artifacts_now(place, where, tell=False)) or path
        if found == path and run_id in folders:
            folder, record = folders[run_id]
            after = run_folder({FOLDER_TAG: folder, JOURNAL_TAG: record}, run_id, where)
            found = relocated(path, Path(folder), after)
        if found != path or exists(path):
            return relocated(root, path, found)
    return root


def _stale_places(
    database: sqlite3.Connection, where: str
) -> Iterator[tuple[str, tuple[str, int]]]:
    rows = {
        table: database.execute(f"select {column}, rowid from {table}").fetchall()
        for table, column in COLUMNS.items()
    }
    paths = {
        table: [(path, row) for place, row in found if (path := to_path(place))]
        for table, found in rows.items()
    }
    roots = {path.parents[depth] for table, depth in DEPTH.items() for path, _ in paths[table]}
    moves = {root: _root_now(database, root, where) for root in roots}
    for table, found in paths.items():
        for path, row in found:
            root = next((root for root in roots if root in path.parents), path)
            new = moves.get(root, root) / path.relative_to(root)
            if new != path and (table == "experiments" or exists(new) or not exists(path)):
                update = f"update {table} set {COLUMNS[table]} = ? where rowid = ?"
                yield update, (to_place(new), row)


def _stale_folders(
    database: sqlite3.Connection, where: str
) -> Iterator[tuple[str, tuple[str, str]]]:
    for run_id, folder, record in database.execute(FOLDERS).fetchall():
        found = run_folder({FOLDER_TAG: folder, JOURNAL_TAG: record}, run_id, where)
        if found != Path(folder):
            update = f"update tags set value = ? where key = '{FOLDER_TAG}' and run_uuid = ?"
            yield update, (str(found), run_id)
