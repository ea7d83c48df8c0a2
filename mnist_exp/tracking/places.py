"""Where recorded files are now: a store keeps absolute paths, and projects are moved or copied."""

import logging
import os
import re
import shlex
from collections.abc import Callable, Mapping
from functools import cache
from os.path import exists  # Path.exists may raise
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mnist_exp.core.files import moved_roots
from mnist_exp.core.layout import JOURNAL

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"
FOLDER_TAG, JOURNAL_TAG = "folder", "record"  # the run folder, and what tells it from others


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


def artifacts_now(place: str, where: str, *, tell: bool = True) -> str:
    """The artifacts of a run or a model that the store recorded at `place`, as they are now."""
    path = to_path(place)
    if path is None:
        return place
    found = current_path(path, where, lambda other: other.parent.name == path.parent.name)  # the id
    if found == path:
        return place
    if tell:
        _tell_moved(*moved_roots(path, found), repair_command(where))
    return to_place(found)


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
