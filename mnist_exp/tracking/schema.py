"""The schema of a SQLite store: created whole, copied before a migration, refused when newer."""

import importlib.util
import logging
import os
import re
import sqlite3
import uuid
from contextlib import closing, suppress
from functools import cache
from glob import escape
from importlib.metadata import version
from pathlib import Path

from mnist_exp.core.errors import InputError
from mnist_exp.tracking.places import sqlite_uri, to_place

logger = logging.getLogger(__name__)


def check_schema(file: Path) -> bool:
    """Whether the installed MLflow migrates this store when it opens it.

    Raises `InputError` for a store of a newer MLflow. Imports nothing of MLflow.
    """
    known, newest = _revisions()
    revision = _revision(file)
    if revision and revision not in known:
        raise InputError(
            f"{file}: this store was made or migrated by a newer MLflow than the installed "
            f"{version('mlflow')}, which does not know its schema {revision}; upgrade MLflow (pip "
            "install --upgrade mlflow), or name another store with MLFLOW_TRACKING_URI"
        )
    return bool(revision) and revision not in newest


def create_whole(file: Path) -> None:
    """Create the database, if there is none, under another name, and rename it.

    MLflow takes a second: a process killed meanwhile would leave half a schema that no MLflow
    could use or complete.
    """
    if file.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in file.parent.glob(f"{escape(file.name)}.*.part"):
        left.unlink(missing_ok=True)
    part = part_of(file)
    SqlAlchemyStore(sqlite_uri(part), to_place(Path.cwd() / "mlruns")).engine.dispose()
    with suppress(FileExistsError):  # an mlflow ui created it meanwhile
        os.link(part, file)
    part.unlink()


def part_of(file: Path) -> Path:
    """Another name for the file while it is made; MLflow remembers those it has seen."""
    return file.with_name(f"{file.name}.{uuid.uuid4().hex}.part")


def copy_before_migration(file: Path) -> None:
    """Where MLflow is going to migrate the store, which it cannot undo, copy it before."""
    if not check_schema(file):
        return
    copy = file.with_name(f"{file.name}.schema-{_revision(file)}")
    if copy.exists() and copy.stat().st_mtime >= file.stat().st_mtime:
        return  # MLflow refused to migrate it, and its reason was shown
    part = copy.with_name(f"{copy.name}.part")
    with closing(sqlite3.connect(file)) as store, closing(sqlite3.connect(part)) as target:
        store.backup(target)
    os.replace(part, copy)
    logger.warning(
        f"{file} is of an older MLflow: {version('mlflow')} migrates it now, and no older one can "
        f"read it afterwards; a copy of it is kept in {copy}"
    )


def _revision(file: Path) -> str:
    """The revision of the store's schema; empty where MLflow has not made one."""
    place = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(place, timeout=0, uri=True)) as database:
        try:
            rows = database.execute("select version_num from alembic_version").fetchall()
        except sqlite3.OperationalError:  # no such table, or another process is at it
            return ""
    return str(rows[0][0]) if rows else ""


@cache
def _revisions() -> tuple[set[str], set[str]]:
    """The revisions that the installed MLflow knows, and those that no other follows: one."""
    package = importlib.util.find_spec("mlflow")  # located, not imported
    assert package
    assert package.origin
    folder = Path(package.origin).parent / "store/db_migrations/versions"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    found = [dict(re.findall(r'^(revision|down_revision) = "(\w+)"', t, re.M)) for t in texts]
    known = {each["revision"] for each in found if "revision" in each}
    return known, known - {each["down_revision"] for each in found if "down_revision" in each}
