"""What breaks in the middle of a run costs nothing: a process killed, a server gone, a lock."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
from support import figures
from tracking_server import TrackingServer

from mnist_exp.config.compose import compose
from mnist_exp.core.layout import JOURNAL
from mnist_exp.experiment import run_experiment
from mnist_exp.tracking.journal import Journal

EVERYTHING = [
    "data=mnist5k", "data.limit=2000", "train.epochs=8", "train.ema=0.9", "train.clean_epochs=1",
    "augment=affine", "schedule=onecycle", "optimizer=adamw", "train.batch_size=48",
]  # fmt: skip
KINDS = {
    "dense": ["model=dropout", "model.units=[64]"],
    "conv": ["model=cnn", "model.filters=[8,8]", "model.units=[16]", "model.dropout=0.3"],
}
# A run that kills itself: some time after its training began, or while a checkpoint is written.
SELF_KILLING_RUN = """
import os, random, signal, sys, threading
from mnist_exp import run
from mnist_exp.training import callbacks

seed = sys.argv.pop(1)
chance = random.Random(seed)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if int(seed) % 2:
    writes = iter([0] * chance.randrange(1, 5))
    real = os.fsync
    os.fsync = lambda file: die() if next(writes, None) is None else real(file)
else:
    real = callbacks.EpochBar.on_train_begin

    def begin(bar, logs=None):
        threading.Timer(chance.uniform(0, 0.7), die).start()
        real(bar, logs)

    callbacks.EpochBar.on_train_begin = begin
run.main()
"""


def begin(folder: Path, *arguments: str, code: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    how = ["-c", *code] if code else ["-m", "mnist_exp.run"]
    return subprocess.Popen(
        [sys.executable, *how, *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def after_third_epoch(folder: Path, epochs: int) -> subprocess.Popen[str]:
    process = begin(folder, "data=mnist5k", f"train.epochs={epochs}")
    assert process.stdout
    while not re.match(r"epoch +3/", process.stdout.readline()):
        assert process.poll() is None
    return process


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=240)
    assert "Traceback" not in said, said
    return said


def assert_same(ours: Path, theirs: Path) -> None:
    assert figures(ours) == figures(theirs)
    found = [np.load(path / "predictions.npz")["probabilities"] for path in (ours, theirs)]
    assert np.array_equal(*found)


def killed_until_done(kind: str, seeds: Iterator[int], folder: Path) -> int:
    """How often it was killed."""
    first = begin(folder, str(next(seeds)), *EVERYTHING, *KINDS[kind], code=(SELF_KILLING_RUN,))
    kills = 0
    process = first
    while True:
        said = ended(process)
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, said
        kills += 1
        (run,) = (path.parent for path in (folder / "outputs").rglob("config.yaml"))
        seed = next(seeds, None)
        resume = f"resume={run.relative_to(folder)}"
        if seed is None:
            process = begin(folder, resume)
        else:
            process = begin(folder, str(seed), resume, code=(SELF_KILLING_RUN,))


def kill_and_compare(kind: str, seeds: range, folder: Path) -> int:
    config = compose([*EVERYTHING, *KINDS[kind], "tracking.enabled=false"])
    run_experiment(config, folder=folder / "whole")
    kills = killed_until_done(kind, iter(seeds), folder)
    (run,) = (path.parent for path in (folder / "outputs").rglob("config.yaml"))
    assert_same(run, folder / "whole")
    assert not (run / "checkpoints").exists()
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    record = client.get_run(Journal(run).run_id)
    assert record.info.status == "FINISHED"
    history = client.get_metric_history(record.info.run_id, "train/loss")
    assert [metric.step for metric in history] == list(range(1, 9))
    experiment = record.info.experiment_id
    others = [r for r in client.search_runs([experiment]) if r.info.run_id != record.info.run_id]
    assert [r.data.metrics for r in others] == [{}] * len(others)  # killed before it had a journal
    return kills


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    assert kill_and_compare("dense", range(2), tmp_path) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_again_and_again_comes_to_the_same_end(kind: str, tmp_path: Path) -> None:
    kills = 0
    for number, first in enumerate(range(100, 200, 5)):
        place = tmp_path / str(number)
        place.mkdir()
        kills += kill_and_compare(kind, range(first, first + 5), place)
        if kills >= 10:
            return
    pytest.fail(f"only {kills} kills")


# A run whose tracking server dies at a moment of its choice.
SERVER_KILLING_RUN = """
import os, signal, sys
from mnist_exp import experiment, run
from mnist_exp.runs import report
from mnist_exp.runs.folder import RunFolder
from mnist_exp.tracking import store

moment, server = sys.argv.pop(1), int(sys.argv.pop(1))

def then_kill(real):
    def called(*arguments, **more):
        found = real(*arguments, **more)
        try:
            os.killpg(server, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return found
    return called

if moment == "before":
    experiment.store.check_reachable = then_kill(store.check_reachable)
elif moment == "during":
    RunFolder.append_epoch = then_kill(RunFolder.append_epoch)
else:
    report.write_report = then_kill(report.write_report)
run.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_server_that_dies_costs_nothing(moment: str, tmp_path: Path) -> None:
    server = TrackingServer(tmp_path / "server")
    try:
        server.start()
        assert server.process
        arguments = [moment, str(server.process.pid), f"tracking.uri={server.uri}"]
        run = begin(tmp_path, *arguments, *EVERYTHING, *KINDS["dense"], code=(SERVER_KILLING_RUN,))
        said = ended(run)
        assert run.returncode == 0, said
        server.process.wait(30)
        (folder,) = (path.parent for path in (tmp_path / "outputs").rglob(JOURNAL))
        assert "not all of this run could be published" in said
        assert f"published with: python -m mnist_exp sync {folder}" in said
        assert (folder / "figures/confusion_matrix.png").exists()
        server.start()
        sync = [sys.executable, "-m", "mnist_exp", "sync", "outputs"]
        for words in ("published", "complete already"):
            told = subprocess.run(
                sync, cwd=tmp_path, check=True, timeout=240, capture_output=True, text=True
            )
            assert told.stdout == f"{folder.relative_to(tmp_path)}: {words}\n"
            client = mlflow.MlflowClient(server.uri)
            experiment = client.get_experiment_by_name("mnist").experiment_id
            (record,) = client.search_runs([experiment])
            assert record.info.status == "FINISHED"
            history = client.get_metric_history(record.info.run_id, "val/accuracy")
            assert [m.step for m in history] == list(range(1, 9))
            assert [f"{m.value}" for m in history] == [r["val/accuracy"] for r in figures(folder)]
            times = [m.timestamp for m in history]
            assert times == sorted(times)
            assert record.info.start_time < times[0] < times[-1] < record.info.end_time
            assert len(record.outputs.model_outputs) == 1
    finally:
        server.kill()


@pytest.mark.slow
def test_a_store_locked_by_another_is_waited_for(tmp_path: Path) -> None:
    """Locked from the third epoch until the run says at its end that it cannot publish."""
    quick = ["data=mnist5k", "data.limit=500", "train.epochs=3", "tracking.uri=sqlite:///a.db"]
    assert ended(begin(tmp_path, *quick)).count("epoch") == 3
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as database:
        database.execute("begin immediate")
        run = begin(tmp_path, *quick, "seed=1")
        assert run.stdout
        said = []
        for line in run.stdout:
            said.append(line)
            if line.startswith("warning: the run cannot be published now"):
                break
        assert "database is locked" in said[-1], said
        database.execute("rollback")
    rest = ended(run)
    assert run.returncode == 0, rest
    assert "not all of this run" not in rest
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/a.db")
    experiment = client.get_experiment_by_name("mnist").experiment_id
    assert [r.info.status for r in client.search_runs([experiment])] == ["FINISHED"] * 2


# A run on a disk that takes no file of more than so many bytes.
CRAMPED = """
import resource, sys
most = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
from mnist_exp import run
run.main()
"""


@pytest.mark.slow
def test_a_full_disk_ends_in_a_sentence_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    quick = ["data=mnist5k", "train.epochs=3", "tracking.enabled=false"]
    run = begin(tmp_path, "50000", *quick, code=(CRAMPED,))
    said = ended(run)
    assert run.returncode == 1, said
    (folder,) = (path.parent for path in (tmp_path / "outputs").rglob(JOURNAL))
    assert f"warning: {folder}/checkpoints: File too large; training goes on" in said
    assert said.splitlines()[-1] == (
        f"{folder}: File too large; what was written before is kept; mend that and go on with: "
        f"python -m mnist_exp.run resume={folder}"
    )
    assert len(figures(folder)) == 3
    assert not list(folder.rglob("*.part")) + list(folder.rglob("*.keras"))
    again = begin(tmp_path, f"resume={folder}")
    said = ended(again)
    assert again.returncode == 0, said
    run_experiment(compose(quick), folder=tmp_path / "whole")
    assert_same(folder, tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; only root may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be made here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)  # MLflow's client keeps its store open


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [60, 1000, 2500, 4000])
def test_a_disk_that_is_full_of_store_and_run_costs_nothing(
    small_disk: Path, kilobytes: int, tmp_path: Path
) -> None:
    quick = ["data=mnist5k", "train.epochs=3"]
    resize(small_disk, kilobytes)
    run = begin(small_disk, *quick)
    said = ended(run)
    assert run.returncode == 1, said
    (folder,) = (path.parent for path in (small_disk / "outputs").rglob(JOURNAL))
    assert said.splitlines()[-1] == (
        f"{folder}: No space left on device; what was written before is kept; mend that and go on "
        f"with: python -m mnist_exp.run resume={folder}"
    )
    resize(small_disk, 50_000)
    again = begin(small_disk, f"resume={folder}")
    said = ended(again)
    assert again.returncode == 0, said
    run_experiment(compose([*quick, "tracking.enabled=false"]), folder=tmp_path / "whole")
    assert_same(folder, tmp_path / "whole")
    record = mlflow.MlflowClient(f"sqlite:///{small_disk}/mlflow.db").get_run(
        Journal(folder).run_id
    )
    assert record.info.status == "FINISHED"
    assert record.data.metrics["test/accuracy"] > 0.8


# A run whose store becomes read-only once it has the first epoch.
FROZEN = """
import subprocess, sys
from mnist_exp import run
from mlflow import MlflowClient

place = sys.argv.pop(1)
real = MlflowClient.log_batch

def then_freeze(*arguments, **more):
    real(*arguments, **more)
    if not more.get("metrics"):
        return
    MlflowClient.log_batch = real
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)

MlflowClient.log_batch = then_freeze
run.main()
"""


@pytest.mark.slow
def test_a_store_that_becomes_read_only_costs_nothing(small_disk: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{small_disk}/mlflow.db"
    quick = ["data=mnist5k", "train.epochs=3", f"tracking.uri={store}"]
    run = begin(tmp_path, str(small_disk), *quick, code=(FROZEN,))
    said = ended(run)
    subprocess.run(["umount", small_disk], check=True)
    assert run.returncode == 0, said
    assert "warning: the run cannot be published now (" in said
    (folder,) = (path.parent for path in (tmp_path / "outputs").rglob(JOURNAL))
    assert f"published with: python -m mnist_exp sync {folder}" in said
    client = mlflow.MlflowClient(store)
    record = client.get_run(Journal(folder).run_id)
    assert record.info.status == "RUNNING"
    sync = [sys.executable, "-m", "mnist_exp", "sync", "outputs"]
    subprocess.run(sync, cwd=tmp_path, check=True, timeout=240)
    record = client.get_run(Journal(folder).run_id)
    assert record.info.status == "FINISHED"
    history = client.get_metric_history(record.info.run_id, "val/accuracy")
    assert [f"{m.value}" for m in history] == [row["val/accuracy"] for row in figures(folder)]


# One of many processes that record at once, into a store that none of them found there.
TALKER = """
import sys
from pathlib import Path
from mnist_exp.tracking.open_run import track_run
from mnist_exp.config.schema import TrackingConfig

number, uri = sys.argv[1:]
config = TrackingConfig(enabled=True, uri=uri, experiment="many", skip_finished=False)
folder = Path(number)
folder.mkdir()
about = {"name": number, "folder": folder, "params": {"number": number}, "tags": {}}
with track_run(config, **about) as record:
    for step in range(1, 11):
        record.log_metrics({"figure": step * int(number)}, step)
"""


@pytest.mark.slow
def test_sixteen_processes_record_at_once_in_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    talkers = [begin(tmp_path, str(n), uri, code=(TALKER,)) for n in range(16)]
    for talker in talkers:
        said = ended(talker)
        assert talker.returncode == 0, said
        assert "not all of this run" not in said
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("many").experiment_id])
    assert sorted(int(run.data.params["number"]) for run in found) == list(range(16))
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        history = client.get_metric_history(run.info.run_id, "figure")
        number = int(run.data.params["number"])
        assert [(m.step, m.value) for m in history] == [(n, n * number) for n in range(1, 11)]


@pytest.mark.slow
def test_two_runs_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    quick = ["data=mnist5k", "data.limit=200", "train.epochs=1", "tracking.enabled=false"]
    both = [begin(tmp_path, *quick, "hydra.run.dir=same", f"seed={n}") for n in (0, 1)]
    for run in both:
        said = ended(run)
        assert run.returncode == 0, said
    found = {path.parent.name for path in tmp_path.rglob("outcome.json")}
    assert found == {"same", "same-2"}
    seeds = {(tmp_path / name / "overrides.txt").read_text().splitlines()[-1] for name in found}
    assert seeds == {"seed=0", "seed=1"}


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["| head -1 >&2", ">&-", "2>&-", ">/dev/full"])
def test_output_that_nobody_reads_costs_no_job_of_a_sweep(redirection: str, tmp_path: Path) -> None:
    line = f'"$0" -m mnist_exp.run -m debug=fast data=mnist5k seed=1,2 {redirection}'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}", sys.executable],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path) == ["FINISHED"] * 3


@pytest.mark.slow
def test_a_closed_terminal_ends_the_run_as_killed(tmp_path: Path) -> None:
    process = after_third_epoch(tmp_path, epochs=3000)
    process.send_signal(signal.SIGHUP)
    ended(process)
    assert process.returncode == 143
    assert statuses(tmp_path) == ["KILLED"]


@pytest.mark.slow
def test_a_stopped_run_is_not_taken_for_dead_and_goes_on(tmp_path: Path) -> None:
    process = after_third_epoch(tmp_path, epochs=100)
    process.send_signal(signal.SIGSTOP)  # as Ctrl-Z does, also without a terminal
    pid, status = os.waitpid(process.pid, os.WUNTRACED)
    assert (pid, os.WIFSTOPPED(status)) == (process.pid, True)
    doctor = [sys.executable, "-m", "mnist_exp", "doctor"]
    done = subprocess.run(doctor, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "close" not in done.stdout
    process.send_signal(signal.SIGCONT)
    ended(process)
    assert process.returncode == 0
    assert statuses(tmp_path) == ["FINISHED"]
    with next(tmp_path.glob("outputs/*/*/history.csv")).open() as history:
        assert len(list(history)) == 101


def statuses(folder: Path) -> list[str]:
    """How the runs of the folder's store ended."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return [status for (status,) in database.execute("select status from runs")]


@pytest.mark.slow
def test_a_project_may_have_any_name_and_be_moved(tmp_path: Path) -> None:
    project, settings = tmp_path / "a?b=c%20d#e ${z}&;:+é'\"", ("debug=fast", "data=mnist5k")
    project.mkdir()
    assert "could be published" not in ended(begin(project, *settings))
    assert "(2 of 2)  seed=2  val" in ended(begin(project, "-m", *settings, "seed=1,2"))
    moved = project.rename(tmp_path / "moved")
    assert "warning: new files go to" in ended(begin(moved, *settings, "seed=3"))
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    evaluate = ["-m", "mnist_exp", "evaluate", "--run", "best", "--experiment", "debug"]
    done = subprocess.run(
        [sys.executable, *evaluate], cwd=moved, capture_output=True, text=True, check=True
    )
    assert "every probability are exactly those recorded" in done.stdout
