"""Sweeps in processes of their own: killed, resumed, shared out among workers."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import psutil
import pytest

SWEEP = [sys.executable, "-m", "mnist_exp.run", "-m", "data=mnist5k", "data.limit=500"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SWEEP, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def recorded(folder: Path) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("mnist").experiment_id
    return list(client.search_runs([experiment], order_by=["attributes.start_time"]))


def tables(folder: Path) -> list[list[dict[str, str]]]:
    """The rows of each sweep, the oldest first."""
    found = sorted((folder / "outputs").rglob("sweep.csv"))
    return [list(csv.DictReader(path.open())) for path in found]


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    said = []
    for said_now in process.stdout:
        said.append(said_now)
        if said_now.startswith(line):
            return
    pytest.fail(f"{line!r} was never said:\n{''.join(said)}")


def test_a_killed_sweep_is_resumed_by_its_own_command(tmp_path: Path) -> None:
    """Twelve jobs, SIGKILL in the sixth: the second time exactly the missing seven run."""
    command = ["train.epochs=1", "seed=range(0,12)", "tracking.skip_finished=true"]
    first = start(tmp_path, *command)
    wait_for(first, "job 5:")
    first.kill()
    first.communicate(timeout=60)
    assert tables(tmp_path) == []
    second = start(tmp_path, *command)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert said.count("training and") == 7
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["reused"] * 5 + ["finished"] * 7
    runs = recorded(tmp_path)
    jobs = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    done = {run.info.run_id for run in jobs if run.info.status == "FINISHED"}
    assert done == {row["run_id"] for row in rows}
    parents = [run for run in runs if run not in jobs]
    assert [run.info.status for run in parents] == ["KILLED", "FINISHED"]
    assert parents[1].data.metrics["sweep/reused"] == 5
    assert "RUNNING" not in {run.info.status for run in runs}


def test_joblib_workers_share_one_store(tmp_path: Path) -> None:
    """Eight jobs on two workers that make the store's schema together; no figure is lost."""
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "train.epochs=3",
        "seed=range(0,8)",
    )  # fmt: skip
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    runs = recorded(tmp_path)
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


def test_what_a_killed_worker_was_doing_is_started_again(tmp_path: Path) -> None:
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "train.epochs=300",
        "seed=range(0,4)",
    )  # fmt: skip
    wait_for(process, "epoch ")
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "loky" in " ".join(child.cmdline()) and "tracker" not in " ".join(child.cmdline())
    ]
    workers[0].send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "a worker died" in said
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["finished"] * 4
    statuses = [run.info.status for run in recorded(tmp_path)]
    assert statuses.count("FINISHED") == 5
    assert set(statuses) == {"FINISHED", "KILLED"}
    assert all((Path(row["folder"]) / "model.keras").exists() for row in rows)


def test_sigterm_ends_the_workers_too(tmp_path: Path) -> None:
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "train.epochs=100000",
        "seed=range(0,4)",
    )  # fmt: skip
    wait_for(process, "epoch ")
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    psutil.wait_procs(family, timeout=10)
    assert not [child for child in family if child.is_running()]
    assert {run.info.status for run in recorded(tmp_path)} == {"KILLED"}
    (rows,) = tables(tmp_path)
    assert [row["state"] for row in rows] == ["unfinished"] * 4
