"""Where recorded files are now: a store keeps absolute paths, and projects are moved or copied."""

import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cache
from os.path import exists  # Path.exists may raise
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mnist_exp.core.files import moved_roots, relocated
from mnist_exp.core.layout import JOURNAL

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"
FOLDER_TAG, JOURNAL_TAG = "folder", "record"  # the run folder, and what tells it from others
COLUMNS = {  # of a store: tables and where they name places
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
DEPTH = {"experiments": 0, "runs": 2}  # of their places below MLRUNS
MLRUNS = "mlruns"  # the folder of all artifacts, below that where an experiment was first used
Update = tuple[str, tuple[str, int | str]]  # a statement of SQL and its values
FOLDERS = f"""
select run_uuid, folder.value, record.value from runs
join tags folder using (run_uuid) join tags record using (run_uuid)
where folder.key = '{FOLDER_TAG}' and record.key = '{JOURNAL_TAG}'
"""


def sqlite_file(where: str) -> Path:
    """The absolute path of the SQLite file that the URI names."""
    return Path(os.path.abspath(unquote(where.removeprefix(SQLITE).partition("?")[0])))


def sqlite_uri(file: Path, options: str = "") -> str:
    """The URI of a SQLite file.

    With `%` or `?` in its path all of it is quoted, slashes too: MLflow would make the folder of a
    path that it reads without unquoting.
    """
    path = quote(str(file), safe="") if set("%?") & set(str(file)) else str(file)
    return f"{SQLITE}{path}{'?' * bool(options)}{options}"


def to_path(place: str | None) -> Path | None:
    """The local path of a recorded place; None for none, or one elsewhere."""
    if place and place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return None if not place or re.match(r"[\w+.-]{2,}:", place) else Path(place)


def to_place(path: Path) -> str:
    """The path as MLflow reads it: a URI where it has signs of one, or quotes, which SQL has."""
    return path.as_uri() if set("%?#'\"") & set(str(path)) else str(path)


def current_path(path: Path, where: str, is_same: Callable[[Path], bool]) -> Path:
    """The path that the store at `where` recorded, as it is now.

    Where the project was moved or copied with its store, it is below a folder around the store's
    file, also while the original exists; where it was moved alone, below the current folder.
    """
    around = sqlite_file(where).parents if where.startswith(SQLITE) else ()
    is_there = exists(path)
    if is_there and (not around or around[0] in path.parents):
        return path
    for base in (*around, *([] if is_there else [Path.cwd()])):
        for length in range(len(path.parts) - 1, 0, -1):
            found = base.joinpath(*path.parts[-length:])
            if exists(found) and is_same(found):
                return path if is_there and found.samefile(path) else found
    return path


def artifacts_now(place: str, where: str) -> str:
    """The artifacts of a run or a model that the store recorded at `place`, as they are now."""
    path = to_path(place)
    if path is None or (found := _same_artifacts(path, where)) == path:
        return place
    _tell_moved(*moved_roots(path, found), repair_command(where))
    return to_place(found)


def _same_artifacts(path: Path, where: str) -> Path:
    return current_path(path, where, lambda other: other.parent.name == path.parent.name)  # the id


def run_folder(tags: Mapping[str, str], run_id: str, where: str) -> Path:
    """The run folder that the tags name, as it is now."""
    own = tags.get(JOURNAL_TAG, run_id)

    def is_same(folder: Path) -> bool:
        try:
            return own in (folder / JOURNAL).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False

    return current_path(Path(tags.get(FOLDER_TAG, "")), where, is_same)


def repair_command(where: str) -> str:
    """What rewrites the paths in the store."""
    is_default = where == sqlite_uri(Path.cwd() / "mlflow.db")
    option = "" if is_default else f" --tracking-uri {shlex.quote(where)}"
    return f"python -m mnist_exp doctor --repair{option}"


@cache  # once
def _tell_moved(old: Path, new: Path, command: str) -> None:
    logger.warning(
        f"the store names files in {old} that are read from {new}; to rewrite its paths: {command}"
    )


def correct_places(where: str, experiment_id: str, run_id: str) -> None:
    """Let new files of the experiment, and of this run of it, go to where its project is now."""
    if not where.startswith(SQLITE):
        return
    own = {"experiments": ("experiment_id", experiment_id), "runs": ("run_uuid", run_id)}
    with closing(sqlite3.connect(sqlite_file(where))) as database, database:
        for table, (key, value) in own.items():
            for row, place, path in _places(database, table, f"{key} = ?", value):
                root = path.parents[DEPTH[table]]
                new = _root_now(database, root, where)
                if new == root and root.name == MLRUNS and not exists(root.parent):
                    new = Path.cwd() / MLRUNS  # moved, and no file shows where to
                update, values = _update(table, row, new / path.relative_to(root))
                if values[0] != place:
                    database.execute(update, values)
                if new != root and table == "experiments":
                    logger.warning(
                        f"new files go to {new}, no longer to {root}; "
                        f"to rewrite the paths in the store: {repair_command(where)}"
                    )


def stale_paths(where: str, *, rewrite: bool) -> int:
    """The number of paths in the store that are those before a move; they may be rewritten."""
    if not where.startswith(SQLITE):
        return 0
    with closing(sqlite3.connect(sqlite_file(where))) as database, database:
        stale = [*_stale_places(database, where), *_stale_folders(database, where)]
        for update, values in stale if rewrite else []:
            database.execute(update, values)
    return len(stale)


def _places(
    database: sqlite3.Connection, table: str, condition: str = "true", *values: str
) -> list[tuple[int, str, Path]]:
    """The local places that rows of the table name: row, place and path."""
    query = f"select rowid, {COLUMNS[table]} from {table} where {condition}"
    found = database.execute(query, values).fetchall()
    return [(row, place, path) for row, place in found if (path := to_path(place))]


def _update(table: str, row: int, path: Path) -> Update:
    """Let the row name this path."""
    return f"update {table} set {COLUMNS[table]} = ? where rowid = ?", (to_place(path), row)


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
        found = _same_artifacts(path, where)
        if found == path and run_id in folders:
            folder, record = folders[run_id]
            after = run_folder({FOLDER_TAG: folder, JOURNAL_TAG: record}, run_id, where)
            found = relocated(path, Path(folder), after)
        if found != path or exists(path):
            return relocated(root, path, found)
    return root


def _stale_places(database: sqlite3.Connection, where: str) -> Iterator[Update]:
    places = {table: _places(database, table) for table in COLUMNS}
    roots = {path.parents[depth] for table, depth in DEPTH.items() for *_, path in places[table]}
    moves = {root: _root_now(database, root, where) for root in roots}
    for table, found in places.items():
        for row, _, path in found:
            root = next((root for root in roots if root in path.parents), path)
            new = moves.get(root, root) / path.relative_to(root)
            if new != path and (table == "experiments" or exists(new) or not exists(path)):
                yield _update(table, row, new)


def _stale_folders(database: sqlite3.Connection, where: str) -> Iterator[Update]:
    for run_id, folder, record in database.execute(FOLDERS).fetchall():
        found = run_folder({FOLDER_TAG: folder, JOURNAL_TAG: record}, run_id, where)
        if found != Path(folder):
            update = f"update tags set value = ? where key = '{FOLDER_TAG}' and run_uuid = ?"
            yield update, (str(found), run_id)
