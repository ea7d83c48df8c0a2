"""Sweeps in processes of their own: killed, resumed, with workers, with a tracking server."""

import csv
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import permutations
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
from tracking_server import TrackingServer

SWEEP = [sys.executable, "-m", "mnist_exp.run", "-m", "data=mnist5k", "data.limit=500"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SWEEP, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def tracked_runs(folder: Path, uri: str = "") -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(uri or f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("mnist").experiment_id
    return list(client.search_runs([experiment], order_by=["attributes.start_time"]))


def tables(folder: Path) -> list[list[dict[str, str]]]:
    """The rows of each sweep, the oldest first."""
    paths = sorted((folder / "outputs").rglob("sweep.csv"))
    return [list(csv.DictReader(path.open())) for path in paths]


def wait_for(process: subprocess.Popen[str], start: str) -> None:
    """Read the output up to a line with this start."""
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        if line.startswith(start):
            return
    pytest.fail(f"no line starts with {start!r}:\n{''.join(output)}")


def wait_for_epoch(process: subprocess.Popen[str], folder: Path, job: str = "*") -> None:
    """Wait until a job has trained an epoch, which is not printed."""
    while not list((folder / "outputs").glob(f"multirun/*/*/{job}/history.csv")):
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_sweep_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    """Twelve jobs, SIGKILL in the sixth: the second time exactly the missing seven run."""
    command = ["train.epochs=1", "seed=range(0,12)", "tracking.skip_finished=true"]
    first = start(tmp_path, *command)
    wait_for(first, "job  4 ( 5 of 12)")
    first.kill()
    first.communicate(timeout=60)
    assert tables(tmp_path) == []
    second = start(tmp_path, *command)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert len(re.findall(r"^job .* of 12\)", output, re.MULTILINE)) == 7
    assert "jobs: 12, of them done earlier: 5;" in output
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["reused"] * 5 + ["finished"] * 7
    runs = tracked_runs(tmp_path)
    jobs = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    done = {run.info.run_id for run in jobs if run.info.status == "FINISHED"}
    assert done == {row["run_id"] for row in rows}
    parents = [run for run in runs if run not in jobs]
    assert [run.info.status for run in parents] == ["KILLED", "FINISHED"]
    assert parents[1].data.metrics["sweep/reused"] == 5
    assert "RUNNING" not in {run.info.status for run in runs}


@pytest.mark.slow
def test_a_killed_search_is_resumed_and_prunes(tmp_path: Path) -> None:
    """Eight trials, SIGKILL in the fourth, which is requeued; the last three learn nothing."""
    command = [
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=8",
        "hydra.sweeper.sampler=random",
        "hydra.sweeper.seed=1736",  # five learning rates from 5e-4 to 5e-3, then three near 3e-7
        "train.epochs=3",
        "optimizer.learning_rate=tag(log,interval(1e-7,1e-2))",
    ]
    first = start(tmp_path, *command)
    wait_for(first, "trial 2 (3 of 8)")
    wait_for_epoch(first, tmp_path, "3")  # its run is open
    first.kill()
    first.wait()
    second = start(tmp_path, *command)
    output, _ = second.communicate(timeout=200)
    assert second.returncode == 0, output
    rows = tables(tmp_path)[-1]
    assert [row["state"] for row in rows] == ["reused"] * 3 + ["finished"] * 2 + ["pruned"] * 3
    assert {row["error"] for row in rows[:5]} == {""}
    assert all(row["error"].startswith("pruned after epoch 2") for row in rows[5:])
    runs = tracked_runs(tmp_path)
    parent = next(run for run in runs[1:] if "jobs" in run.data.params and run.info.end_time)
    outcomes = [(run.info.status, run.data.tags.get("outcome", "")) for run in runs]
    assert sorted(outcomes) == [
        *[("FINISHED", "")] * 6,  # five trials and the second parent
        *[("KILLED", "interrupted")] * 2,
        *[("KILLED", "pruned")] * 3,
    ]
    best = max(rows[:5], key=lambda row: float(row["val/accuracy"]))
    assert parent.data.tags["best.run_id"] == best["run_id"]
    assert parent.data.tags["search"].startswith("mnist-")
    figures = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").list_artifacts(
        parent.info.run_id, "figures"
    )
    paths = [figure.path for figure in figures]
    assert "figures/optimisation_history.png" in paths
    note = parent.data.tags["mlflow.note.content"]
    assert "![optimisation history](get-artifact?path=" in note
    shown = re.findall(r"\(get-artifact\?path=(\S+)&run_uuid=(\w+)\)", note)
    assert sorted(shown) == sorted((path, parent.info.run_id) for path in paths)


@pytest.mark.slow
def test_joblib_workers_share_one_store(tmp_path: Path) -> None:
    """Eight jobs on two workers that create the store's schema together; no metric is lost."""
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "train.epochs=3",
        "seed=range(0,8)",
    )  # fmt: skip
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    runs = tracked_runs(tmp_path)
    assert [run.info.status for run in runs] == ["FINISHED"] * 9
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    jobs = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    assert {run.data.tags["threads"] for run in jobs} == {str(max(1, os.cpu_count() // 2))}
    for run in jobs:
        history = client.get_metric_history(run.info.run_id, "val/accuracy")
        assert [metric.step for metric in history] == [1, 2, 3]
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["finished"] * 8


@pytest.mark.slow
def test_workers_draw_no_bars_in_the_terminal_they_share(tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [*SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2"],
        cwd=tmp_path, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    output = b""
    with suppress(OSError):  # the terminal's end
        while part := os.read(terminal, 4096):
            output += part
    assert process.wait() == 0
    lines = output.decode().replace("\r", "").splitlines()
    assert [line[:11] for line in lines[1:4]] in [
        [f"job {n} ({place} of" for place, n in enumerate(order, 1)]
        for order in permutations("012")
    ]
    assert "ranked by" in lines[4]
    assert "\x1b[2K" not in output.decode()  # which moves a bar


@pytest.mark.slow
def test_jobs_of_a_killed_worker_are_relaunched(tmp_path: Path) -> None:
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "train.epochs=300",
        "seed=range(0,4)",
    )  # fmt: skip
    wait_for_epoch(process, tmp_path)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "loky" in " ".join(child.cmdline()) and "tracker" not in " ".join(child.cmdline())
    ]
    workers[0].send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "a worker died" in output
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["finished"] * 4
    statuses = [run.info.status for run in tracked_runs(tmp_path)]
    assert statuses.count("FINISHED") == 5
    assert set(statuses) == {"FINISHED", "KILLED"}
    assert all((Path(row["folder"]) / "model.keras").exists() for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_sweep(tmp_path: Path, number: signal.Signals) -> None:
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "train.epochs=100000",
        "seed=range(0,4)",
    )  # fmt: skip
    wait_for_epoch(process, tmp_path)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate(timeout=60)
    psutil.wait_procs(workers, timeout=30)
    assert not [worker for worker in workers if worker.is_running()]
    jobs = [run for run in tracked_runs(tmp_path) if "mlflow.parentRunId" in run.data.tags]
    assert {run.info.status for run in jobs} == {"KILLED"}
    if number == signal.SIGTERM:
        assert process.returncode == 143
        (rows,) = tables(tmp_path)
        assert [row["state"] for row in rows] == ["unfinished"] * 4


@pytest.fixture
def tracking_server(tmp_path: Path) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(tracking_server: TrackingServer) -> str:
    return tracking_server.uri


@pytest.mark.slow
def test_a_tracking_server_receives_everything(tmp_path: Path, server: str) -> None:
    """Workers, resuming, figures and models, all over HTTP."""
    command = [
        f"tracking.uri={server}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
        "train.epochs=2", "tracking.skip_finished=true",
    ]  # fmt: skip
    first = start(tmp_path, *command, "seed=range(0,3)")
    output, _ = first.communicate(timeout=240)
    assert first.returncode == 0, output
    second = start(tmp_path, *command, "seed=range(0,4)")
    output, _ = second.communicate(timeout=240)
    assert second.returncode == 0, output
    assert not (tmp_path / "mlflow.db").exists()
    runs = tracked_runs(tmp_path, server)
    assert [run.info.status for run in runs] == ["FINISHED"] * 6
    assert [row["state"] for row in tables(tmp_path)[1]] == ["reused"] * 3 + ["finished"]
    client = mlflow.MlflowClient(server)
    parent, *_ = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert "sweep.csv" in [a.path for a in client.list_artifacts(parent.info.run_id)]
    job = next(run for run in runs if "mlflow.parentRunId" in run.data.tags)
    history = client.get_metric_history(job.info.run_id, "val/accuracy")
    assert [metric.step for metric in history] == [1, 2]
    mlflow.set_tracking_uri(server)
    served = mlflow.pyfunc.load_model(f"runs:/{job.info.run_id}/dense128")
    mlflow.set_tracking_uri(None)
    assert served.predict(np.zeros((2, 28, 28), np.uint8)).shape == (2, 10)


@pytest.mark.slow
def test_a_search_with_a_tracking_server(tmp_path: Path, server: str) -> None:
    command = [
        f"tracking.uri={server}", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4",
        "train.epochs=2", "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))",
    ]  # fmt: skip
    for _ in range(2):
        search = start(tmp_path, *command)
        output, _ = search.communicate(timeout=240)
        assert search.returncode == 0, output
    assert [row["state"] for row in tables(tmp_path)[0]] == ["finished"] * 4
    assert [row["state"] for row in tables(tmp_path)[1]] == ["reused"] * 4
    runs = tracked_runs(tmp_path, server)
    assert [run.info.status for run in runs] == ["FINISHED"] * 6
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    files = mlflow.MlflowClient(server).list_artifacts(parents[0].info.run_id, "figures")
    assert "figures/optimisation_history.png" in [file.path for file in files]


@pytest.mark.slow
def test_a_search_with_too_many_failures_counts_the_jobs_not_started(tmp_path: Path) -> None:
    search = start(
        tmp_path, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=5", "hydra.sweeper.max_failed=0",
        "optimizer=sgd", "optimizer.learning_rate=interval(1e29,1e30)",
    )  # fmt: skip
    output, _ = search.communicate(timeout=240)
    assert search.returncode == 1, output
    assert "1 of 1 jobs failed, 4 more were not started:" in output


@pytest.mark.slow
def test_a_sweep_survives_its_tracking_server(
    tmp_path: Path, tracking_server: TrackingServer
) -> None:
    """Killed in the second of three jobs: all are trained, and uploaded when it is back."""
    uri = tracking_server.uri
    process = start(tmp_path, f"tracking.uri={uri}", "train.epochs=100", "seed=0,1,2")
    wait_for(process, "job 0 (1 of 3)")
    wait_for_epoch(process, tmp_path, "1")
    tracking_server.kill()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert [row["state"] for row in tables(tmp_path)[0]] == ["finished"] * 3
    assert "ranked by validation accuracy" in output
    # The figures of job 0, jobs 1 and 2, and the sweep.
    assert output.count("not all of this run could be published") == 4
    assert "Traceback" not in output
    tracking_server.start()
    sync = [sys.executable, "-m", "mnist_exp", "sync", "outputs"]
    subprocess.run(sync, cwd=tmp_path, check=True, timeout=240)
    runs = tracked_runs(tmp_path, uri)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    parent = next(run.info.run_id for run in runs if "jobs" in run.data.params)
    parents = [
        run.data.tags.get("mlflow.parentRunId") for run in runs if "jobs" not in run.data.params
    ]
    assert parents == [parent] * 3


@pytest.mark.slow
def test_submitit_runs_each_job_in_a_process_of_its_own(tmp_path: Path) -> None:
    process = start(
        tmp_path, "hydra/launcher=submitit_local", "train.epochs=1", "optimizer=sgd",
        "optimizer.learning_rate=0.1,1e30",
    )  # fmt: skip
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    assert "1 of 2 jobs failed:\n  the loss became" in output
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["finished", "failed"]
    runs = tracked_runs(tmp_path)
    assert [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags] == [
        "FAILED"
    ]
    assert sorted(run.info.status for run in runs) == ["FAILED", "FAILED", "FINISHED"]
