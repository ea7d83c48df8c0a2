"""Whether a tracking store can be used: asked before training, and without importing MLflow."""

import os
import re
import sqlite3
import ssl
from contextlib import closing, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from mnist_exp.core.errors import InputError
from mnist_exp.tracking.places import SQLITE, sqlite_file, to_path
from mnist_exp.tracking.schema import check_schema, part_of

if TYPE_CHECKING:
    from requests import Response, Session

SERVERS = ("http", "https")
DIALECTS = ("postgresql", "mysql", "mssql")  # that MLflow has beside SQLite
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
CONNECT_SECONDS, ANSWER_SECONDS = 3, 10
LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH"  # beside requests' REQUESTS_CA_BUNDLE
INSECURE, YES = "MLFLOW_TRACKING_INSECURE_TLS", ("true", "1")
OPTIONS = r"((timeout=[\d.]+|check_same_thread=(true|false))&?)*"  # of a SQLite address
LONGEST = 512  # bytes of a path
OLDEST = 3  # MLflow's major version: earlier servers have no logged models


class UnusableError(Exception):
    """The store cannot be used; the text says why."""


def probe_store(where: str, experiment: str, *, to_write: bool) -> None:
    """Raise `UnusableError`, `OSError` or an error of the library when the store cannot be used.

    `InputError` is raised for one that only another MLflow can use. One real request is made.
    """
    try:
        scheme = urlsplit(where).scheme
        if where.startswith(SQLITE):
            _refuse_options(where)
            _probe_file(sqlite_file(where), experiment, to_write)
        elif scheme in SERVERS:
            _probe_server(where, experiment, to_write)
        elif scheme.partition("+")[0] in DIALECTS:
            _probe_database(where)
        else:
            _refuse_scheme(where, scheme)
    except ValueError as error:  # of a port that is none, or a host
        raise UnusableError(f"no valid address: {error}; write http://host:5000") from error


def _refuse_scheme(where: str, scheme: str) -> None:
    """Raise `UnusableError` unless MLflow or a plugin of it knows the scheme."""
    if where.startswith("databricks"):
        from mlflow import MlflowClient

        MlflowClient(where).search_experiments(max_results=1)
        return
    if scheme in {plugin.name for plugin in entry_points(group="mlflow.tracking_store")} - {"file"}:
        return
    if scheme == "sqlite":
        raise UnusableError(f"expected three slashes and a path: {SQLITE}mlflow.db")
    if re.match(r"[\w.-]+:\d+(/|$)", where):
        raise UnusableError(f"expected an address with its scheme: http://{where}")
    if scheme in ("", "file"):
        raise UnusableError(
            f"MLflow writes to folders no more: {SQLITE}mlflow.db is a file, and mlflow "
            "migrate-filestore copies what a folder has"
        )
    known = ", ".join(["sqlite", *SERVERS, *DIALECTS])
    raise UnusableError(f"no store of MLflow begins with {scheme}:, but with {known}")


def _refuse_options(where: str) -> None:
    """Raise `UnusableError` for what SQLAlchemy would ignore, or fail at."""
    options = where.partition("?")[2]
    if sqlite_file(where).name == ":memory:":
        raise UnusableError(f"expected the path of a file, such as {SQLITE}mlflow.db")
    if not re.fullmatch(OPTIONS, options):
        raise UnusableError(f"expected no option but timeout=SECONDS, got {options}")


def _probe_file(file: Path, experiment: str, to_write: bool) -> None:
    """Raise an error when this is no database, or none that can be written or made."""
    if not file.parent.is_dir():
        raise UnusableError(f"there is no folder {file.parent}")
    if not file.exists():
        if to_write:
            _make(part_of(file))
        return
    place = f"{file.absolute().as_uri()}?mode={'rw' if to_write else 'ro'}"
    with closing(sqlite3.connect(place, timeout=0, uri=True)) as database:
        try:
            database.execute("select name from sqlite_master")
            if to_write:
                database.execute("begin immediate")
                database.execute("create table may_write (id)")  # and never committed
                database.rollback()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # then it is in use
                raise
        query = "select experiment_id, lifecycle_stage from experiments where name = ?"
        with suppress(sqlite3.OperationalError):  # no such table yet, or it is in use
            for number, stage in database.execute(query, [experiment]) if to_write else ():
                _refuse_deleted(experiment, str(number), stage)
    check_schema(file)


def _make(part: Path) -> None:
    """Make an empty database, and remove it; raises `UnusableError` when that fails."""
    try:
        with closing(sqlite3.connect(part)) as database:
            database.execute("select name from sqlite_master")
    except sqlite3.OperationalError as error:
        why, length = str(error), len(os.fsencode(part))
        if not os.access(part.parent, os.W_OK):
            why = "no permission to write there"
        elif length > LONGEST:
            why = f"its path is {length - LONGEST} bytes too long for SQLite"
        raise UnusableError(f"no file can be made in {part.parent}: {why}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _probe_database(where: str) -> None:
    from sqlalchemy import create_engine

    try:
        engine = create_engine(where)
        with engine.connect():
            pass
        engine.dispose()
    except ModuleNotFoundError as error:
        package = DRIVERS.get(error.name or "", error.name)
        raise UnusableError(f"its driver is missing: pip install '{package}'") from error


def _probe_server(where: str, experiment: str, to_write: bool) -> None:
    """Raise an error when no MLflow answers, or its artifacts could not be written."""
    import requests

    parts = urlsplit(where)
    if not parts.hostname:
        raise UnusableError("expected the name of a host")
    _ = parts.port  # raises `ValueError` for none
    with requests.Session() as server:
        _log_in(server, is_named=parts.username is not None)
        version = _get(server, where, "/version").text.strip()
        if (match := re.fullmatch(r"(\d+)\.\d[\w.]*", version)) and int(match[1]) < OLDEST:
            raise UnusableError(
                f"it is a server of MLflow {version}, and {OLDEST} or newer is needed"
            )
        found = _experiment(server, where, f"get-by-name?experiment_name={quote(experiment)}")
        if to_write:
            number, stage = found.get("experiment_id", ""), found.get("lifecycle_stage", "")
            _refuse_deleted(experiment, number, stage)
            beside = found or _experiment(server, where, "get?experiment_id=0")  # of a new one
            _refuse_place(beside.get("artifact_location", ""))


def _log_in(server: "Session", *, is_named: bool) -> None:
    """Let the session show what MLflow would; a user named in the address it shows by itself."""
    user, password, token, server.cert = (
        os.environ.get(f"MLFLOW_TRACKING_{name}")
        for name in ("USERNAME", "PASSWORD", "TOKEN", "CLIENT_CERT_PATH")
    )
    if user and not is_named:
        server.auth = user, password or ""
    elif token:
        server.headers["Authorization"] = f"Bearer {token}"


def _get(server: "Session", where: str, path: str) -> "Response":
    """The answer; raises `UnusableError` for a login or a detour, and what made a request fail."""
    address, timeout = f"{where.rstrip('/')}{path}", (CONNECT_SECONDS, ANSWER_SECONDS)
    trusted = os.environ.get(CERTIFICATE) or os.environ.get(INSECURE, "").lower() not in YES
    try:
        answer = server.get(address, timeout=timeout, verify=trusted, allow_redirects=False)
    except OSError as error:
        raise _cause(error) from None
    if answer.status_code in (401, 403):
        raise UnusableError(f"it wants a login, status {answer.status_code}: {LOGIN}")
    if 300 <= answer.status_code < 400:
        raise UnusableError(f"it sends on to {answer.headers.get('Location')}: name that address")
    return answer


def _cause(error: OSError) -> BaseException:
    """What made the request fail: an error of the network, or an `UnusableError` with advice."""
    import requests

    cause: BaseException = error
    while deeper := cause.__cause__ or cause.__context__:
        cause = deeper
    if not isinstance(error, requests.RequestException):  # a file of certificates is missing
        return UnusableError(f"{error}; {CERTIFICATE} or MLFLOW_TRACKING_CLIENT_CERT_PATH names it")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return UnusableError(f"{cause.verify_message}: {CERTIFICATE} names its certificate")
    if isinstance(cause, ssl.SSLError) and cause.library == "SSL":
        return UnusableError(f"{cause.reason}: use http:// for a server without TLS")
    if isinstance(error, requests.exceptions.ProxyError):
        return UnusableError(f"no way to it by the proxy: {cause}")
    return cause


def _experiment(server: "Session", where: str, query: str) -> dict[str, str]:
    """The experiment in the answer, empty for none; raises `UnusableError` for another answer."""
    answer = _get(server, where, f"/api/2.0/mlflow/experiments/{query}")
    status = answer.status_code
    try:
        content = answer.json()
        found: dict[str, str] = content.get("experiment", {})
    except (AttributeError, ValueError):
        raise UnusableError(f"what answers there, with status {status}, is no MLflow") from None
    if status >= 400 and content.get("error_code") != "RESOURCE_DOES_NOT_EXIST":
        raise UnusableError(f"it answers with status {status}: {content.get('message', '')}")
    return found


def _refuse_place(location: str) -> None:
    """Raise `UnusableError` for a folder of artifacts that cannot be written here."""
    folder = to_path(location)
    try:
        for missing in reversed([folder, *folder.parents] if folder else []):
            if not missing.exists():
                missing.mkdir()
                missing.rmdir()
                break
        else:
            if folder and not os.access(folder, os.W_OK):
                raise PermissionError("no permission to write there")
    except OSError as error:
        raise UnusableError(
            f"its artifacts go to {folder}, which cannot be written here: {error.strerror or error}"
            "; start the server with --serve-artifacts, and use another experiment"
        ) from error


def _refuse_deleted(experiment: str, number: str, stage: str) -> None:
    if stage == "deleted":
        raise InputError(
            f"experiment {experiment} was deleted in MLflow; restore it with: mlflow experiments "
            f"restore --experiment-id {number}, or name another with tracking.experiment=..."
        )
