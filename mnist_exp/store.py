"""The tracking store: where it is, and a client of it or a sentence saying why there is none."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from mnist_exp.config import without_password
from mnist_exp.errors import InputError
from mnist_exp.locks import alone
from mnist_exp.schema import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
CONNECT_SECONDS = 3
PORTS = {"http": 80, "https": 443}
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else minutes at a closed port
}

TO_WRITE = "name another with tracking.uri=..., or run without one: tracking.enabled=false"
TO_READ = "name the one you mean with --tracking-uri or MLFLOW_TRACKING_URI"


@contextmanager
def opened_to_read(config: Tracking) -> Iterator["MlflowClient"]:
    """Within: a client of the store that is there already.

    Raises `InputError` when the store cannot be used, or was never written.
    """
    where = uri(config)
    if where.startswith(SQLITE) and not Path(where.removeprefix(SQLITE)).exists():
        raise InputError(
            f"there are no recorded runs here: {where.removeprefix(SQLITE)} does not exist; "
            f"go to the folder where python -m mnist_exp.run was used, or {TO_READ}"
        )
    with opened(config, TO_READ) as client:
        yield client


@contextmanager
def opened(config: Tracking, advice: str = TO_WRITE) -> Iterator["MlflowClient"]:
    """Within: a client of the store; the first to come makes its schema while the others wait.

    Raises `InputError`, with the advice, when the store cannot be used.
    """
    where = uri(config)
    knock(config, advice)  # before MLflow's import of seconds, and its timeout of minutes
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with schema_lock(where):
            yield MlflowClient(where)
    except (MlflowException, OSError) as error:
        raise _unusable(where, error, advice) from error


@contextmanager
def meant(where: str) -> Iterator[None]:
    """Within: what MLflow looks up in the store of the process, such as models, is found there."""
    import mlflow

    environment = os.environ.get(ENVIRONMENT)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(where)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None if before == environment else before)
        if environment is not None:  # it follows what is set, and would be forgotten with it
            os.environ[ENVIRONMENT] = environment


@contextmanager
def schema_lock(where: str) -> Iterator[None]:
    """Within: no other process makes the schema of this SQLite file; servers see to it themselves.

    Raises `FileNotFoundError` when the file has no folder.
    """
    if not where.startswith(SQLITE):
        yield
        return
    file = _sqlite_file(where)
    with alone(file.with_name(f"{file.name}.lock")):
        yield


def uri(config: Tracking) -> str:
    """The absolute URI: as configured, MLFLOW_TRACKING_URI, or mlflow.db in this folder."""
    return absolute(config.uri or os.environ.get(ENVIRONMENT) or f"{SQLITE}mlflow.db")


def shown(config: Tracking) -> str:
    """The URI as it may be printed."""
    return without_password(uri(config))


def absolute(where: str) -> str:
    """The URI as it can be used from any folder."""
    if where.startswith(SQLITE):
        return f"{SQLITE}{Path(where.removeprefix(SQLITE)).absolute()}"
    return where


def knock(config: Tracking, advice: str = TO_WRITE) -> None:
    """Raises `InputError`, with the advice, when nobody is there, without MLflow's help.

    Sets MLflow's environment, where the user has not: before a thread imports it, since other
    threads may be reading the environment then.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # What it retries ends well, or in an error that is told.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    where = uri(config)
    try:
        _knock(where)
    except OSError as error:
        raise _unusable(where, error, advice) from error


def _knock(where: str) -> None:
    """Raises `OSError` when no server answers; behind a proxy only MLflow can tell."""
    if where.startswith(SQLITE):
        _sqlite_file(where)
        return
    parts = urlsplit(where)
    if parts.scheme in PORTS and parts.hostname and parts.scheme not in getproxies():
        address = (parts.hostname, parts.port or PORTS[parts.scheme])
        socket.create_connection(address, CONNECT_SECONDS).close()


def _sqlite_file(where: str) -> Path:
    file = Path(where.removeprefix(SQLITE))
    if not file.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {file.parent}")
    return file


def _unusable(where: str, error: Exception, advice: str) -> InputError:
    reason = shorten(without_password(str(error).strip()), 160, placeholder=" ...")
    start = "start it, " if urlsplit(where).scheme in PORTS else ""
    return InputError(
        f"{without_password(where)}: this tracking store cannot be used ({reason}); {start}{advice}"
    )
