"""The page's API over a real connection."""

import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image
from support import Command, served

from mnist_exp.data.dataset import Dataset
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import store_config

Recorded = dict[str, RunResult]


@pytest.fixture(scope="module")
def run(made_once: tuple[str, Recorded]) -> Run:
    return resolve_run("dense128 seed=0", store_config(uri=made_once[0]))


@pytest.fixture(scope="module")
def site(run: Run) -> Iterator[str]:
    from mnist_exp.deployment.server import create_app

    with served(create_app(run)) as address:
        yield address


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_predictions_match_the_recorded_ones(site: str, run: Run, digits: Dataset) -> None:
    assert run.temperature() != 1
    probabilities = run.evaluation().at_temperature(run.temperature()).probabilities[0]
    pixels = digits.test_images[0]
    for body in ({"json": {"pixels": pixels.tolist()}}, {"files": {"file": png(pixels)}}):
        response = requests.post(f"{site}/predict", **body, timeout=30)
        assert response.status_code == 200
        answer = response.json()
        assert answer["run"] == run.run_id
        assert answer["digit"] == probabilities.argmax()
        assert answer["second"] == probabilities.argsort()[-2]
        assert answer["probabilities"] == pytest.approx(probabilities, abs=1e-6)
        assert answer["pixels"] == pixels.tolist()
        assert answer["note"] == ""


def test_a_request_may_name_another_run(site: str, recorded: Recorded, digits: Dataset) -> None:
    models = requests.get(f"{site}/models", timeout=30).json()
    assert models[0]["name"] == "dense128 seed=0"
    assert {model["name"] for model in models} == set(recorded)
    best = resolve_run(models[0]["run"], store_config())
    assert models[0]["accuracy"] == best.metrics["test/accuracy"]
    other = next(model["run"] for model in models if model["name"] == "sigmoid100 seed=1")
    body = {"pixels": digits.test_images[3].tolist()}
    answer = requests.post(f"{site}/predict?run={other}", json=body, timeout=30).json()
    found = resolve_run(other, store_config())
    expected = found.evaluation().at_temperature(found.temperature()).probabilities[3]
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_the_cache_forgets_the_oldest_but_never_the_first(run: Run, recorded: Recorded) -> None:
    from mnist_exp.inference.predictor import PredictorCache

    cache = PredictorCache(run, size=2)
    kept = cache.get("")
    before = cache.get("dense128 seed=1")
    assert cache.get("dense128 seed=1") is before
    assert cache.get("sigmoid100 seed=0").run.name == "sigmoid100 seed=0"
    assert cache.get("") is kept
    assert cache.get("dense128 seed=1") is not before
    assert cache.test_set("sigmoid100 seed=0")[1].n == cache.test_set("")[1].n == 1000


def test_a_blank_page_has_no_digit(site: str) -> None:
    blank = png(np.full((50, 50), 255, np.uint8))
    answer = requests.post(f"{site}/predict", files={"file": blank}, timeout=30).json()
    assert answer["digit"] is answer["probabilities"] is answer["pixels"] is None
    assert answer["note"].startswith("no digit found")


def test_an_invalid_body_is_refused_with_a_sentence(site: str) -> None:
    huge = Image.new("1", (7000, 7000))
    file = BytesIO()
    huge.save(file, "PNG")
    assert len(file.getvalue()) < 100_000
    invalid = "expected a picture as the multipart field file"
    for body, code, sentence in [
        ({}, 400, invalid),
        ({"json": {"pixels": [[0]]}}, 400, invalid),
        ({"json": {"pixels": [[256] * 28] * 28}}, 400, invalid),
        ({"files": {"picture": b"x"}}, 400, invalid),
        ({"files": {"file": b"hello"}}, 400, "the picture: expected a picture (PNG"),
        ({"files": {"file": file.getvalue()}}, 400, "expected at most 40 million pixels, got 7000"),
        ({"files": {"file": bytes(11_000_000)}}, 413, "expected at most 10,000 kB"),
        ({"json": {"pixels": [[0] * 28] * 2000}}, 413, "expected at most 100 kB; send less"),
        ({"json": {"pixels": [["0"] * 28] * 28}}, 400, invalid),
        ({"params": {"run": "nobody"}, "files": {"file": b"x"}}, 400, "no run of experiment"),
    ]:
        response = requests.post(f"{site}/predict", **body, timeout=30)
        assert response.status_code == code
        assert sentence in response.json()["detail"]


def test_a_malformed_body_is_refused(site: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s\r\n\r\nx\r\n--b--\r\n'
    form = "multipart/form-data; boundary=b"
    for kind, body in [
        ("multipart/form-data", part % b'"'),
        (f"{form}; charset=undefined", part % b'\xe9"'),
        (f"{form}; charset=punycode", part % b'a.png"'),
        (form, part % b'../../../../etc/passwd"'),
        (form, part % (b'"\r\n' + b"X: y\r\n" * 100_000)),
        ("application/json", b"[" * 90_000),
        ("application/json", b'{"pixels": [[' + b"9" * 90_000 + b"]]}"),
        ("application/json; charset=utf-16", b"\xff\xfe"),
        ("application/x-www-form-urlencoded", b"file=../../etc/passwd"),
    ]:
        headers = {"Content-Type": kind}
        response = requests.post(f"{site}/predict", data=body, headers=headers, timeout=30)
        assert response.status_code == 400, (kind, body[:100])
        assert "expected a picture" in response.json()["detail"]


def start_upload(site: str, length: int) -> HTTPConnection:
    """A connection that has sent the start of an upload of `length` bytes."""
    connection = HTTPConnection(site.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(length))
    connection.endheaders(b"--b\r\n")
    return connection


def test_a_disconnected_client_is_not_logged(
    site: str, digits: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    server = logging.getLogger("uvicorn.error")  # it does not propagate
    server.addHandler(caplog.handler)
    for _ in range(10):
        start_upload(site, 5000).close()
    file = {"file": png(digits.test_images[0])}
    assert requests.post(f"{site}/predict", files=file, timeout=30).status_code == 200
    server.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_a_large_or_slow_body_is_refused(site: str, run: Run) -> None:
    from mnist_exp.deployment.server import create_app

    large = refused_upload(site, 10**11)
    assert large == (413, "expected at most 10,000 kB; send less")
    with served(create_app(run, upload_seconds=0.01)) as impatient:
        slow = refused_upload(impatient, 5000)
    assert slow == (408, "expected all of it within 0.01 seconds; send it again")


def refused_upload(site: str, length: int) -> tuple[int, str]:
    """The status and the sentence that answer the start of an upload of `length` bytes."""
    connection = start_upload(site, length)
    response = connection.getresponse()
    sentence = json.loads(response.read())["detail"]
    connection.close()
    return response.status, sentence


def test_hostile_run_names_are_refused(site: str) -> None:
    strange = ["'\"", "' or '1'='1", "\\", "\0", "%", "<script>alert(1)</script>", "a" * 50_000]
    paths = ["../../etc/passwd", "file:///etc/passwd", "models:/../..", "models:/a@b'", "models:/"]
    for name in (*strange, *paths):
        response = requests.get(f"{site}/examples", {"run": name}, timeout=30)
        assert response.status_code == 400, name
        assert response.headers["Content-Type"] == "application/json"
        assert response.json()["detail"].startswith("run=")


def test_no_path_escapes_the_web_folder(site: str) -> None:
    parents = ["/web/../server.py", "/web/%2e%2e/server.py", "/web/..%2f..%2fserver.py"]
    for path in (*parents, "/web//etc/passwd", "/web/%00", "/web/page.js%00.html", "//etc/passwd"):
        connection = HTTPConnection(site.removeprefix("http://"), timeout=30)
        connection.request("GET", path)  # requests would normalise it
        response = connection.getresponse()
        assert (response.status, response.read()) == (404, b'{"detail":"Not Found"}'), path
        connection.close()


def test_every_response_has_the_security_headers(site: str) -> None:
    for path in ("/", "/docs", "/web/page.js", "/nowhere", "/examples?label=x", "/predict"):
        headers = requests.get(site + path, timeout=30).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert ("unsafe-inline" in policy) == (path == "/docs")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"


def test_test_images_are_listed_worst_first(site: str, run: Run) -> None:
    evaluation = run.evaluation().at_temperature(run.temperature())
    query = {
        "label": 3,
        "prediction": int(evaluation.predictions[evaluation.labels == 3][0]),
        "count": 200,
    }
    answer = requests.get(f"{site}/examples", query, timeout=30).json()
    matches = (evaluation.labels == 3) & (evaluation.predictions == query["prediction"])
    assert answer["matching"] == matches.sum() == len(answer["examples"])
    assert answer["total"] == 1000
    of_truth = [evaluation.probabilities[example["index"], 3] for example in answer["examples"]]
    assert of_truth == sorted(of_truth)
    everything = requests.get(f"{site}/examples", {"below": 0.2}, timeout=30).json()
    assert everything["matching"] == (evaluation.confidence <= 0.2).sum()
    assert requests.get(f"{site}/examples", {"label": 12}, timeout=30).status_code == 400


def test_fifty_clients_at_once_get_their_own_answers(site: str, run: Run, digits: Dataset) -> None:
    expected = run.evaluation().predictions

    def predict(number: int) -> int:
        file = {"file": png(digits.test_images[number])}
        response = requests.post(f"{site}/predict", files=file, timeout=60)
        return int(response.json()["digit"])

    with ThreadPoolExecutor(50) as clients:
        assert list(clients.map(predict, range(200))) == expected[:200].tolist()


def test_the_page_loads_no_external_resources(site: str) -> None:
    for path in ("/", "/web/page.js", "/web/style.css", "/docs"):
        response = requests.get(site + path, timeout=30)
        assert response.status_code == 200
        assert "https://" not in response.text
    assert requests.get(f"{site}/health", timeout=30).json()["status"] == "ok"
    assert requests.head(f"{site}/health", timeout=30).status_code == 200
    paths = requests.get(f"{site}/openapi.json", timeout=30).json()["paths"]
    assert set(paths["/predict"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
    }


def test_an_occupied_port_is_reported_in_one_sentence(recorded: Recorded, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, _, err = command("serve", "--run", "dense128 seed=0", "--port", port)
    assert code == 2
    assert err.startswith(f"127.0.0.1:{port}: Address already in use")
    assert err.endswith("give another with --port or --host\n")
