"""Stores that cannot be used are refused before training, each with its reason."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mnist_exp.core.errors import InputError
from mnist_exp.runs.search import store_config
from mnist_exp.tracking.store import check_reachable

Answer = tuple[int, str]
MISSING = 404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"})


@contextmanager
def a_server(version: Answer, experiment: Answer, heard: list[Any]) -> Iterator[str]:
    """Context manager: the address of a server that answers so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            heard.append((self.path, self.headers.get("Authorization")))
            status, text = version if self.path.endswith("/version") else experiment
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Location", "https://elsewhere")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("version", "experiment", "reason"),
    [
        ((401, "no"), (401, "no"), "it wants a login, status 401: set MLFLOW_TRACKING_USERNAME"),
        ((200, "3.17.0"), (403, "no"), "it wants a login, status 403"),
        ((404, "<html>"), (404, "<html>"), "what answers there, with status 404, is no MLflow"),
        ((200, "<html>"), (200, "<html>"), "what answers there, with status 200, is no MLflow"),
        ((200, "[1]"), (200, "[1]"), "what answers there, with status 200, is no MLflow"),
        ((301, ""), (301, ""), "it sends on to https://elsewhere: name that address"),
        ((200, "2.22.1"), MISSING, "it is a server of MLflow 2.22.1, and 3 or newer is needed"),
        (
            (200, "3.17.0"),
            (500, json.dumps({"error_code": "INTERNAL_ERROR", "message": "no database"})),
            "it answers with status 500: no database",
        ),
    ],
)
def test_a_server_that_is_no_use_is_refused(
    version: Answer, experiment: Answer, reason: str
) -> None:
    with a_server(version, experiment, []) as address, pytest.raises(InputError) as refused:
        check_reachable(store_config(uri=address))
    assert f"{address}: this tracking store cannot be used ({reason}" in str(refused.value)
    assert "start it" not in str(refused.value)


def test_a_server_is_asked_as_mlflow_would_ask_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    with a_server((200, "3.17.0"), MISSING, heard) as address:
        check_reachable(store_config("a b", address.replace("//", "//me:p%40ss@") + "/base/"))
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
        check_reachable(store_config(uri=address))
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # knows no server of this machine
        check_reachable(store_config(uri=address))
    basic = "Basic bWU6cEBzcw=="  # me:p@ss
    assert heard[0] == ("/base/version", basic)
    assert heard[1][0].startswith("/base/api/2.0/mlflow/experiments/get-by-name")
    assert heard[1][0].endswith("experiment_name=a%20b")
    assert heard[2][0].endswith("experiments/get?experiment_id=0")
    assert heard[3] == ("/version", "Bearer abc")
    assert len(heard) == 9


def test_a_server_whose_artifacts_cannot_be_written_here_is_refused(
    tmp_path: Path,
) -> None:
    def asked(place: str) -> None:
        found = {"experiment_id": "1", "artifact_location": place, "lifecycle_stage": "active"}
        with a_server((200, "3.17.0"), (200, json.dumps({"experiment": found})), []) as address:
            check_reachable(store_config(uri=address))

    place = tmp_path / "a" / "b"
    for fine in (str(place), place.as_uri(), "mlflow-artifacts:/1", "s3://bucket/1"):
        asked(fine)
    assert list(tmp_path.iterdir()) == []
    place.parent.touch()
    with pytest.raises(InputError, match=f"its artifacts go to {place}, which cannot be written"):
        asked(str(place))


def test_https_of_a_server_without_it_is_refused() -> None:
    with (
        a_server((200, "3.17.0"), MISSING, []) as address,
        pytest.raises(InputError, match="use http:// for a server without TLS"),
    ):
        check_reachable(store_config(uri=address.replace("http:", "https:")))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("file:./mlruns", "MLflow writes to folders no more: sqlite:///mlflow.db is a file"),
        ("mlruns", "MLflow writes to folders no more"),
        ("sqlite:///:memory:", "expected the path of a file"),
        (
            "sqlite:///my.db?cache=shared",
            "expected no option but timeout=SECONDS, got cache=shared",
        ),
        (
            "sqlite:///my.db?timeout=long",
            "expected no option but timeout=SECONDS, got timeout=long",
        ),
        ("sqlite:////absent/my.db", "there is no folder /absent"),
        ("sqlite://mlflow.db", "expected three slashes and a path: sqlite:///mlflow.db"),
        ("localhost:5000", "expected an address with its scheme: http://localhost:5000"),
        ("htp://localhost:5000", "no store of MLflow begins with htp:, but with sqlite, http"),
        ("http://", "expected the name of a host"),
        ("databricks", "Reading Databricks credential configuration failed"),
        ("mysql://u:p@h/db", "its driver is missing: pip install 'mysqlclient'"),
        ("postgresql+psycopg2://u:p@h/db", "its driver is missing: pip install 'psycopg2-binary'"),
    ],
)
def test_an_address_of_no_store_is_refused(address: str, reason: str) -> None:
    for to_write in (True, False):
        with pytest.raises(InputError) as refused:
            check_reachable(store_config(uri=address), to_write=to_write)
        assert f"cannot be used ({reason}" in str(refused.value)
        assert "u:p@" not in str(refused.value)


def test_a_file_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "/".join(["a" * 100] * 5)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match=r"bytes too long for SQLite\); name another: "):
        check_reachable(store_config(uri=f"sqlite:///{deep}/my.db"))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=rf"made in {deep}: no permission to write there\)"):
        check_reachable(store_config(uri=f"sqlite:///{deep}/my.db"))


def test_a_deleted_experiment_is_refused_to_those_who_write(store: str) -> None:
    client = mlflow.MlflowClient(store)
    number = client.create_experiment("deleted")
    client.delete_experiment(number)
    check_reachable(store_config("deleted", store), to_write=False)
    check_reachable(store_config("another", store))
    sentence = f"restore it with: mlflow experiments restore --experiment-id {number}, or name"
    with pytest.raises(InputError, match=sentence):
        check_reachable(store_config("deleted", store))
    found = {"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}
    with a_server((200, "3.17.0"), (200, json.dumps(found)), []) as server:
        check_reachable(store_config(uri=server), to_write=False)
        with pytest.raises(InputError, match="restore --experiment-id 7, or name another"):
            check_reachable(store_config(uri=server))
    client.restore_experiment(number)
    check_reachable(store_config("deleted", store))


@pytest.mark.parametrize(
    "uri",
    ["http://h:abc", "http://h:99999", "http://[::1", f"http://{'a' * 70}", "postgresql://h:x/d"],
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="this tracking store cannot be used"):
        check_reachable(store_config("debug", uri))
