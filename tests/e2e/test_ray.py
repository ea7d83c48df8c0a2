"""Sweeps on a Ray cluster of two nodes on this machine."""

import csv
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
import pytest
from omegaconf import OmegaConf

from hydra_plugins.mnist_exp import ray_launcher
from hydra_plugins.mnist_exp.ray_launcher import RayLauncher
from mnist_exp.core.errors import InputError

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # a token would have to be the same on every node
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # else Ray allows only one node on loopback
}


@dataclass
class Cluster:
    address: str
    nodes: list[subprocess.Popen[bytes]]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head and a second node with one core each, ended by their process ids."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # socket paths are limited to 107 bytes
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"]
    ray += [
        "--node-ip-address=127.0.0.1",
        "--object-store-memory=100000000",
        "--disable-usage-stats",
    ]
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false"]
    cluster = Cluster(address, [])
    try:
        for role in ([*head, f"--temp-dir={folder}"], [f"--address={address}"]):
            node = subprocess.Popen(
                [*ray, *role],
                env=os.environ | ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            cluster.nodes.append(node)
            _wait_for(node, b"--block")
        yield cluster
    finally:
        processes = [psutil.Process(node.pid) for node in cluster.nodes if node.poll() is None]
        processes += [child for node in processes for child in node.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for node in cluster.nodes:
            node.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(node: subprocess.Popen[bytes], words: bytes) -> None:
    assert node.stdout is not None
    output = b""
    for line in node.stdout:
        output += line
        if words in line:
            return
    pytest.fail(output.decode())


def sweep(folder: Path, cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "mnist_exp.run", "-m", "data=mnist5k", "data.limit=500"),
            *("hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}"),
            *arguments,
        ],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_six_jobs_on_two_nodes_one_of_them_failing(tmp_path: Path, cluster: Cluster) -> None:
    rates = "optimizer.learning_rate=1e-3,2e-3,1e30,3e-3,4e-3,5e-3"
    process = sweep(tmp_path, cluster, rates, "train.epochs=1")
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 1, output
    (table,) = (tmp_path / "outputs").rglob("sweep.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["state"] for row in rows] == ["finished"] * 2 + ["failed"] + ["finished"] * 3
    assert "the loss became" in rows[2]["error"]
    assert all(tmp_path in Path(row["folder"]).parents for row in rows if row["folder"])
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED"] * 2 + ["FINISHED"] * 5
    parent = next(run for run in runs if "jobs" in run.data.params)
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}


def launcher(init: dict[str, object]) -> RayLauncher:
    return RayLauncher(OmegaConf.create({"init": init, "remote": {}}))


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched: a package cannot be uninstalled for a test.
    monkeypatch.setattr(ray_launcher, "find_spec", lambda _: None)  # patched: the environment
    with pytest.raises(InputError, match=r"pip install 'mnist-exp\[ray\]' brings it"):
        launcher({}).setup(hydra_context=None, task_function=None, config=None)


def test_an_unreachable_address_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"127.0.0.1:1'}: Ray did not start or answer"):
        launcher({"address": "127.0.0.1:1"}).setup(
            hydra_context=None, task_function=None, config=None
        )


def test_unknown_settings_of_ray_are_refused() -> None:
    with pytest.raises(InputError, match="adress"):
        launcher({"adress": "auto"}).launch([], 0)


@pytest.mark.slow
def test_jobs_of_a_dead_node_are_retried(tmp_path: Path, cluster: Cluster) -> None:
    """The second node is killed while both are busy: Ray retries its job on the first."""
    process = sweep(tmp_path, cluster, "seed=0,1,2", "train.epochs=500")
    second = psutil.Process(cluster.nodes[1].pid)
    while len(list((tmp_path / "outputs").rglob("history.csv"))) < 2:  # a job on each node
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)
    for victim in [second, *second.children(recursive=True)]:
        victim.kill()
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, output
    (table,) = (tmp_path / "outputs").rglob("sweep.csv")
    assert [row["state"] for row in csv.DictReader(table.open())] == ["finished"] * 3
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 4 + ["KILLED"]
