"""The tracking store: its URI, a client of it, and why it cannot be used."""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from shlex import quote
from textwrap import shorten
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.console import REDACTED, redact
from mnist_exp.core.environment import AROUND, QUIET
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import exclusive
from mnist_exp.tracking.logged_model import ENVIRONMENT
from mnist_exp.tracking.places import SQLITE, sqlite_file, sqlite_uri
from mnist_exp.tracking.probe import SERVERS, UnusableError, probe_store
from mnist_exp.tracking.schema import copy_before_migration, create_whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

LOOPBACK = "localhost,127.0.0.1,::1"
LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` is by default
ML_VIEW = "?workflowType=machine_learning"  # else MLflow shows the pages of GenAI around a run
MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOG_UV_FILES": "false",  # the project in the current folder is no part of a model
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else minutes at a closed port
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds without a byte; 120 of its own
}

OLD_RUNS = (
    "{folder}/mlruns has runs in MLflow's old form, and new ones go to {name}: to read the old, "
    "copy them with mlflow migrate-filestore --source {folder} --target sqlite:///old.db, and name "
    "that database with --tracking-uri sqlite:///old.db"
)
NAME_ANOTHER = (
    "name another: a run takes tracking.uri=... or tracking.enabled=false, other commands take "
    "--tracking-uri"
)

ERRORS = (UnusableError, OSError, sqlite3.Error, HTTPException)
LIBRARIES = ("mlflow", "sqlalchemy", "alembic")  # whose errors are the store's, too


@contextmanager
def connect_to_read(config: TrackingConfig) -> Iterator["MlflowClient"]:
    """Context manager: a client of an existing store.

    Raises `InputError` when the store cannot be used, or was never written.
    """
    where = uri(config)
    if where.startswith(SQLITE) and not sqlite_file(where).exists():
        raise InputError(
            f"there are no recorded runs here: {sqlite_file(where)} does not exist; "
            "go to the folder where python -m mnist_exp.run was used, or name the store you mean "
            "with --tracking-uri or MLFLOW_TRACKING_URI"
        )
    with connect(config, to_write=False) as client:
        yield client


@contextmanager
def connect(config: TrackingConfig, *, to_write: bool = True) -> Iterator["MlflowClient"]:
    """Context manager: a client of the store; the first process creates its schema.

    Raises `InputError` when the store cannot be used.
    """
    where = uri(config)
    check_reachable(config, to_write=to_write)  # before MLflow's import of seconds
    from mlflow import MlflowClient

    with _errors_explained(where), schema_lock(where):
        if where.startswith(SQLITE):
            file = sqlite_file(where)
            if not file.exists() and _has_file_store(file.parent):
                logger.warning(OLD_RUNS.format(folder=file.parent, name=file.name))
            create_whole(file)
            copy_before_migration(file)
        yield MlflowClient(where)


@contextmanager
def schema_lock(where: str) -> Iterator[None]:
    """Context manager: no other process creates the schema of this SQLite file.

    Raises `FileNotFoundError` when the file has no folder.
    """
    if not where.startswith(SQLITE):
        yield
        return
    file = sqlite_file(where)
    if not file.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {file.parent}")
    with exclusive(file.with_name(f"{file.name}.lock")):
        yield


def uri(config: TrackingConfig) -> str:
    """The absolute URI: as configured, MLFLOW_TRACKING_URI, or mlflow.db in this folder."""
    given = (config.uri or os.environ.get(ENVIRONMENT, "")).strip(AROUND)
    return absolute(given or f"{SQLITE}mlflow.db")


def page(config: TrackingConfig, experiment_id: str, run_id: str) -> str:
    """Where the run is seen: its page on the tracking server, or how to start one."""
    where = display_uri(config)
    address = f"{server(config)}/#/experiments/{experiment_id}/runs/{run_id}{ML_VIEW}"
    if where.startswith("http"):
        return address
    is_default = where == absolute(f"{SQLITE}mlflow.db") and not _has_file_store(Path.cwd())
    option = "" if is_default else f" --backend-store-uri {quote(where)}"
    return f"mlflow ui{option}, then {address}"


def _has_file_store(folder: Path) -> bool:
    """Whether MLflow, unless told otherwise, would open old runs in this folder."""
    return any(folder.glob("mlruns/[0-9]*/meta.yaml"))


def server(config: TrackingConfig) -> str:
    """The address of the tracking server, without credentials, else that of `mlflow ui`."""
    where = display_uri(config)
    return where.replace(REDACTED, "").rstrip("/") if where.startswith("http") else LOCAL


def display_uri(config: TrackingConfig) -> str:
    """The URI as it may be printed."""
    return redact(uri(config))


def absolute(where: str) -> str:
    """The URI, independent of the current folder."""
    if where.startswith(SQLITE):
        return sqlite_uri(sqlite_file(where), where.partition("?")[2])
    return where


def check_reachable(config: TrackingConfig, *, to_write: bool = True) -> None:
    """Raise `InputError` when the store cannot be used, or its experiment was deleted.

    Imports nothing of MLflow, but prepares its environment.
    """
    _prepare_environment()
    where = uri(config)
    with _errors_explained(where):
        probe_store(where, config.experiment, to_write=to_write)


def _prepare_environment() -> None:
    """Set MLflow's variables, where the user has not, and silence its loggers.

    This comes before a thread imports MLflow, since other threads may read the environment then.
    """
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    if getproxies() and LOOPBACK not in direct:  # no proxy knows a server of this machine
        os.environ["no_proxy"] = ",".join(filter(None, [direct, LOOPBACK]))
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)


@contextmanager
def _errors_explained(where: str) -> Iterator[None]:
    """Context manager: an error of the store, or of a library below it, becomes an `InputError`."""
    try:
        yield
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if not isinstance(error, ERRORS) and library not in LIBRARIES:
            raise
        is_silent = not isinstance(error, UnusableError) and urlsplit(where).scheme in SERVERS
        advice = f"{'start it, or ' if is_silent else ''}{NAME_ANOTHER}"
        raise InputError(
            f"{redact(where)}: this tracking store cannot be used ({reason(error)}); {advice}"
        ) from error


def reason(error: BaseException) -> str:
    """The store's error in one line, without passwords."""
    if isinstance(error, InputError) and error.__cause__:
        return reason(error.__cause__)
    if isinstance(error, UnusableError):
        return redact(str(error))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if lines[0].startswith("(raised as a result of") and lines[1:]:  # SQLAlchemy's advice to MLflow
        del lines[0]
    first = re.sub(r"^\((\w+\.)+\w+\) ", "", lines[0])  # the library's name of it
    return shorten(redact(first), 160, placeholder=" ...")
