"""Whether a tracking store can be used: asked before training, and without importing MLflow."""

import json
import os
import re
import sqlite3
import ssl
from base64 import b64encode
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPSConnection
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from mnist_exp.core.errors import InputError
from mnist_exp.tracking.places import SQLITE, sqlite_file, to_path
from mnist_exp.tracking.schema import check_schema, part_of

PORTS = {"http": 80, "https": 443}
DIALECTS = ("postgresql", "mysql", "mssql")  # that MLflow has beside SQLite
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
CONNECT_SECONDS, ANSWER_SECONDS = 3, 10
LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
CERTIFICATES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
OPTIONS = r"((timeout=[\d.]+|check_same_thread=(true|false))&?)*"  # of a SQLite address
LONGEST = 512  # bytes of a path
OLDEST = 3  # MLflow's major version: earlier servers have no logged models


class UnusableError(Exception):
    """The store cannot be used; the text says why."""


def probe_store(where: str, experiment: str, *, to_write: bool, answer_seconds: float) -> None:
    """Raise `UnusableError`, `OSError` or an error of the library when the store cannot be used.

    `InputError` is raised for one that only another MLflow can use. One real request is made.
    """
    try:
        scheme = urlsplit(where).scheme
        if where.startswith(SQLITE):
            _refuse_options(where)
            _probe_file(sqlite_file(where), experiment, to_write)
        elif scheme in PORTS:
            _probe_server(where, experiment, to_write, answer_seconds)
        elif scheme.partition("+")[0] in DIALECTS:
            _probe_database(where)
        else:
            _refuse_scheme(where, scheme)
    except ValueError as error:  # of a port that is none, or a host
        raise UnusableError(f"no valid address: {error}; write http://host:5000") from error


def _refuse_scheme(where: str, scheme: str) -> None:
    """Raise `UnusableError` unless MLflow or a plugin of it knows the scheme."""
    if where.startswith("databricks"):
        _ask_by_mlflow(where)
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
    known = ", ".join(["sqlite", *PORTS, *DIALECTS])
    raise UnusableError(f"no store of MLflow begins with {scheme}:, but with {known}")


def _ask_by_mlflow(where: str) -> None:
    from mlflow import MlflowClient

    MlflowClient(where).search_experiments(max_results=1)


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


def _probe_server(where: str, experiment: str, to_write: bool, answer_seconds: float) -> None:
    """Raise an error when no MLflow answers, or its artifacts could not be written."""
    parts = urlsplit(where)
    if not parts.hostname:
        raise UnusableError("expected the name of a host")
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname):
        _ask_by_mlflow(where)
        return
    port = parts.port or PORTS[parts.scheme]
    with closing(_connection(parts.scheme, parts.hostname, port)) as server:
        try:
            server.connect()
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "")
            advice = f"{CERTIFICATES[0]} names its certificate"
            if not reason:
                reason, advice = str(error.reason), "use http:// for a server without TLS"
            raise UnusableError(f"{reason}: {advice}") from error
        server.sock.settimeout(answer_seconds)
        version = _get(server, parts, "/version")[1]
        if (match := re.fullmatch(r"(\d+)\.\d[\w.]*", version)) and int(match[1]) < OLDEST:
            raise UnusableError(
                f"it is a server of MLflow {version}, and {OLDEST} or newer is needed"
            )
        api = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
        found = _experiment(*_get(server, parts, api))
        if to_write:
            number, stage = found.get("experiment_id", ""), found.get("lifecycle_stage", "")
            _refuse_deleted(experiment, number, stage)
            api = "/api/2.0/mlflow/experiments/get?experiment_id=0"  # of a new one: beside this
            found = found or _experiment(*_get(server, parts, api))
            _refuse_place(found.get("artifact_location", ""))


def _connection(scheme: str, host: str, port: int) -> HTTPConnection:
    """A connection that trusts, and shows, the certificates that MLflow would."""
    if scheme == "http":
        return HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    import certifi

    named = next(filter(None, map(os.environ.get, CERTIFICATES)), certifi.where())
    if not os.path.exists(named):
        raise UnusableError(f"{named}: no such file of certificates; {CERTIFICATES[0]} names one")
    file, folder = (None, named) if os.path.isdir(named) else (named, None)
    context = ssl.create_default_context(cafile=file, capath=folder)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if own := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(own)
    return HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=context)


def _experiment(status: int, text: str) -> dict[str, str]:
    """The experiment in the answer, empty for none; raises `UnusableError` for another answer."""
    try:
        answer = json.loads(text)
        found: dict[str, str] = answer.get("experiment", {})
    except (AttributeError, ValueError):
        raise UnusableError(f"what answers there, with status {status}, is no MLflow") from None
    if status >= 400 and answer.get("error_code") != "RESOURCE_DOES_NOT_EXIST":
        raise UnusableError(f"it answers with status {status}: {answer.get('message', '')}")
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


def _get(server: HTTPConnection, parts: SplitResult, path: str) -> tuple[int, str]:
    """The status and the text of the answer; raises `UnusableError` for a login or a detour."""
    server.request("GET", f"{parts.path.rstrip('/')}{path}", headers=_login(parts))
    answer = server.getresponse()
    text = answer.read().decode(errors="replace").strip()
    if answer.status in (401, 403):
        raise UnusableError(f"it wants a login, status {answer.status}: {LOGIN}")
    if 300 <= answer.status < 400:
        raise UnusableError(f"it sends on to {answer.getheader('Location')}: name that address")
    return answer.status, text


def _login(parts: SplitResult) -> dict[str, str]:
    """The header that MLflow would send."""
    user = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if user:
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refuse_deleted(experiment: str, number: str, stage: str) -> None:
    if stage == "deleted":
        raise InputError(
            f"experiment {experiment} was deleted in MLflow; restore it with: mlflow experiments "
            f"restore --experiment-id {number}, or name another with tracking.experiment=..."
        )
