"""The tracking store: its URI, a client of it, and why it cannot be used."""

import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.console import REDACTED, redact
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import exclusive
from mnist_exp.tracking.logged_model import ENVIRONMENT
from mnist_exp.tracking.schema import check_schema, copy_before_migration, create_whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` is by default
ML_VIEW = "?workflowType=machine_learning"  # else MLflow shows the pages of GenAI around a run
CONNECT_SECONDS, ANSWER_SECONDS = 3, 10
PORTS = {"http": 80, "https": 443}
MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else minutes at a closed port
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds without a byte; 120 of its own
}

TO_WRITE = "name another with tracking.uri=..., or run without one: tracking.enabled=false"
TO_READ = "name the one you mean with --tracking-uri or MLFLOW_TRACKING_URI"


@contextmanager
def connect_to_read(config: TrackingConfig) -> Iterator["MlflowClient"]:
    """Context manager: a client of an existing store.

    Raises `InputError` when the store cannot be used, or was never written.
    """
    where = uri(config)
    if where.startswith(SQLITE) and not Path(where.removeprefix(SQLITE)).exists():
        raise InputError(
            f"there are no recorded runs here: {where.removeprefix(SQLITE)} does not exist; "
            f"go to the folder where python -m mnist_exp.run was used, or {TO_READ}"
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

    try:
        with schema_lock(where):
            if where.startswith(SQLITE):
                file = _sqlite_file(where)
                create_whole(file)
                copy_before_migration(file)
            yield MlflowClient(where)
    except _errors() as error:
        raise _unusable(where, error, to_write) from error


@contextmanager
def schema_lock(where: str) -> Iterator[None]:
    """Context manager: no other process creates the schema of this SQLite file.

    Raises `FileNotFoundError` when the file has no folder.
    """
    if not where.startswith(SQLITE):
        yield
        return
    file = _sqlite_file(where)
    with exclusive(file.with_name(f"{file.name}.lock")):
        yield


def uri(config: TrackingConfig) -> str:
    """The absolute URI: as configured, MLFLOW_TRACKING_URI, or mlflow.db in this folder."""
    return absolute(config.uri or os.environ.get(ENVIRONMENT) or f"{SQLITE}mlflow.db")


def page(config: TrackingConfig, experiment_id: str, run_id: str) -> str:
    """Where the run is seen: its page on the tracking server, or how to start one."""
    where = display_uri(config)
    address = f"{server(config)}/#/experiments/{experiment_id}/runs/{run_id}{ML_VIEW}"
    if where.startswith("http"):
        return address
    is_default = where == absolute(f"{SQLITE}mlflow.db")  # which MLflow opens by itself
    option = "" if is_default else f" --backend-store-uri {where}"
    return f"mlflow ui{option}, then {address}"


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
        return f"{SQLITE}{Path(where.removeprefix(SQLITE)).absolute()}"
    return where


def check_reachable(
    config: TrackingConfig, *, to_write: bool = True, answer_seconds: float = ANSWER_SECONDS
) -> None:
    """Raise `InputError` when no server answers or the file is no database.

    Imports nothing of MLflow, but prepares its environment.
    """
    _prepare_environment()
    where = uri(config)
    try:
        if where.startswith(SQLITE):
            file = _sqlite_file(where)
            _try_database(file, to_write)
            if file.exists():
                check_schema(file)
        else:
            _try_server(where, answer_seconds)
    except (OSError, sqlite3.Error, HTTPException) as error:
        raise _unusable(where, error, to_write) from error


def _prepare_environment() -> None:
    """Set MLflow's variables, where the user has not, and silence its loggers.

    This comes before a thread imports MLflow, since other threads may read the environment then.
    """
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # What is retried succeeds, or ends in an error that is reported.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _try_server(where: str, answer_seconds: float) -> None:
    """Raise an error when no server answers; behind a proxy only MLflow can tell."""
    parts = urlsplit(where)
    if parts.scheme not in PORTS or not parts.hostname or parts.scheme in getproxies():
        return
    port = parts.port or PORTS[parts.scheme]
    with closing(HTTPConnection(parts.hostname, port, timeout=CONNECT_SECONDS)) as server:
        server.connect()
        if parts.scheme == "https":
            return  # certificates are MLflow's business
        server.sock.settimeout(answer_seconds)
        server.request("GET", "/health")
        server.getresponse().read()  # of any status


def _try_database(file: Path, to_write: bool) -> None:
    """Raise an error when this is no database, or none that can be written."""
    if not file.exists():
        return
    place = f"{file.absolute().as_uri()}?mode={'rw' if to_write else 'ro'}"
    with closing(sqlite3.connect(place, timeout=0, uri=True)) as database:
        try:
            database.execute("select name from sqlite_master")
            if to_write:
                database.execute("begin immediate")
                database.execute("create table may_write (id)")  # and never committed
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # then it is in use
                raise


def _sqlite_file(where: str) -> Path:
    file = Path(where.removeprefix(SQLITE))
    if not file.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {file.parent}")
    return file


def _errors() -> tuple[type[Exception], ...]:
    """What MLflow raises, and what it lets through of the libraries it has imported."""
    from mlflow.exceptions import MlflowException

    found: list[type[Exception]] = [MlflowException, OSError]
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import SQLAlchemyError

        found.append(SQLAlchemyError)
    if "alembic" in sys.modules:
        from alembic.util import CommandError

        found.append(CommandError)
    return tuple(found)


def _unusable(where: str, error: Exception, to_write: bool) -> InputError:
    advice = TO_WRITE if to_write else TO_READ
    start = "start it, " if urlsplit(where).scheme in PORTS else ""
    return InputError(
        f"{redact(where)}: this tracking store cannot be used ({reason(error)}); {start}{advice}"
    )


def reason(error: BaseException) -> str:
    """The store's error in one line, without passwords."""
    if isinstance(error, InputError) and error.__cause__:
        return reason(error.__cause__)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if lines[0].startswith("(raised as a result of") and lines[1:]:  # SQLAlchemy's advice to MLflow
        del lines[0]
    first = re.sub(r"^\((\w+\.)+\w+\) ", "", lines[0])  # the library's name of it
    return shorten(redact(first), 160, placeholder=" ...")
