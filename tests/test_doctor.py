"""The doctor: a line for each check, and exit code 1 when one of them calls for action."""

import os
import platform
import shutil
from pathlib import Path

import mlflow
import pytest
from small_mnist import npz, use_small_mnist
from support import Command

from mnist_exp.config.compose import compose
from mnist_exp.core.layout import JOURNAL
from mnist_exp.runs.folder import RunResult
from mnist_exp.tracking.events import Opening
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.places import JOURNAL_TAG
from mnist_exp.training.auto import resolve_auto


@pytest.fixture(autouse=True)
def here(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    site: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An empty folder, on a machine without faults; the real `pip check` takes 3 s."""
    data = npz(tmp_path_factory.mktemp("data") / "m.npz", use_small_mnist(monkeypatch))
    monkeypatch.setenv("MNIST_PATH", str(data))
    (site / "pip").mkdir()
    (site / "pip" / "__init__.py").touch()
    (site / "pip" / "__main__.py").write_text("print('No broken requirements found.')")
    return workplace


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a child process imports from first."""
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def line(output: str, subject: str) -> str:
    (found,) = [text for text in output.splitlines() if text[2:].startswith(subject)]
    return found


def create_run(folder: Path) -> str:
    """The id of a RUNNING run of this machine that no process holds."""
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    experiment = client.get_experiment_by_name("mnist").experiment_id
    tags = {"host": platform.node(), "folder": str(folder)}
    return str(client.create_run(experiment, tags=tags).info.run_id)


def status(run_id: str) -> str:
    return str(mlflow.MlflowClient(mlflow.get_tracking_uri()).get_run(run_id).info.status)


def test_a_machine_without_faults(command: Command) -> None:
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    assert line(out, "Python").endswith(platform.python_version())
    assert line(out, "packages") == "  packages    No broken requirements found."
    assert line(out, "data") == f"  data        MNIST, verified: {os.environ['MNIST_PATH']}"
    assert line(out, "disk").endswith(str(Path.cwd()))
    assert line(out, "store").endswith("mlflow.db: not there yet, the first run makes it")
    assert line(out, "records").endswith("is unpublished")
    config = compose(["model=cnn"])
    precision = resolve_auto(config.train, config.model).precision
    assert f"dense in float32, XLA; convolutions in {precision}" in line(out, "hardware")
    assert not list(Path.cwd().iterdir())


def test_damaged_data(command: Command) -> None:
    path = Path(os.environ["MNIST_PATH"])
    path.write_bytes(b"damaged")
    code, out, _ = command("doctor")
    assert code == 1
    assert line(out, "data").startswith(f"! data        {path}: expected an .npz")


def test_a_python_that_is_too_new(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched: the machine itself.
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.0")
    code, out, _ = command("doctor")
    assert code == 1
    assert "! Python      3.14.0, but <3.14,>=3.11 is needed" in out


def test_too_little_room(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 2_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)  # patched: the machine itself
    code, out, _ = command("doctor")
    assert code == 1
    assert "! disk        0.0 GiB free" in out


def test_a_store_that_does_not_answer(command: Command) -> None:
    code, out, _ = command("doctor", "--tracking-uri", "http://127.0.0.1:9")
    assert code == 1
    assert "! store       http://127.0.0.1:9: this tracking" in out


@pytest.mark.slow
def test_packages_that_exclude_each_other(command: Command, site: Path) -> None:
    shutil.rmtree(site / "pip")  # the real one
    metadata = site / "broken-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
        "Requires-Dist: numpy<1\nRequires-Dist: mnist-nowhere\n"
    )
    code, out, _ = command("doctor")
    assert code == 1
    assert "! packages    broken 1.0 requires mnist-nowhere, which is not installed." in out
    assert "! packages    broken 1.0 has requirement numpy<1, but you have numpy " in out


def test_an_environment_without_pip(command: Command, site: Path) -> None:
    (site / "pip" / "__main__.py").unlink()
    code, out, _ = command("doctor")
    assert code == 0
    assert line(out, "packages") == (
        "  packages    not checked, pip is missing: python -m ensurepip"
    )


def test_an_orphaned_run_is_reported_and_closed_when_asked(
    command: Command, recorded: dict[str, RunResult], here: Path
) -> None:
    run_id = create_run(here)
    _, out, _ = command("doctor")
    advice = f"{run_id[:8]} died; a sweep: run it again with tracking.skip_finished=true"
    assert advice in out.replace("\n", " ")
    (here / "config.yaml").touch()
    code, out, _ = command("doctor")
    assert code == 1
    advice = (
        f"! run         {run_id[:8]} died; go on: python -m mnist_exp.run resume={here}, or close"
    )
    assert advice in out.replace("\n", "")
    code, out, _ = command("doctor", "--close")
    assert code == 0
    assert "closed now" in out
    assert status(run_id) == "KILLED"
    assert command("doctor")[0] == 0


def test_a_run_without_its_folder_is_closed_when_asked(
    command: Command, recorded: dict[str, RunResult], here: Path
) -> None:
    run_id = create_run(here / "gone")
    code, out, _ = command("doctor")
    assert code == 1
    assert f"{run_id[:8]} is RUNNING, but {here / 'gone'} is gone" in out.replace("\n", "")
    assert command("doctor", "--close")[0] == 0
    assert status(run_id) == "KILLED"


def test_an_unpublished_run_is_reported(command: Command, here: Path) -> None:
    folder = here / "outputs/a"
    folder.mkdir(parents=True)
    Journal(folder).append(Opening("sqlite:///mlflow.db", "mnist", "a", {JOURNAL_TAG: "a"}, 1))
    code, out, _ = command("doctor")
    assert code == 1
    advice = "1 not published whole, such as outputs/a: python -m mnist_exp sync outputs"
    assert line(out, "records").endswith(advice)
    (folder / JOURNAL).write_text("damaged\n")
    code, out, _ = command("doctor")
    assert code == 1
    assert f"outputs/a/{JOURNAL}: cannot be read" in out


def test_sync_continues_after_a_damaged_journal(command: Command, here: Path) -> None:
    for name in ("a", "b"):
        (here / "outputs" / name).mkdir(parents=True)
    (here / "outputs/a" / JOURNAL).write_text("damaged\n")
    opening = Opening(f"sqlite:///{here}/mlflow.db", "mnist", "b", {JOURNAL_TAG: "b"}, 1)
    Journal(here / "outputs/b").append(opening)
    code, out, _ = command("sync", "outputs", "outputs/b")
    assert code == 1
    assert "outputs/a/record.jsonl: expected the record of a run" in out
    assert "outputs/b: published\n0 of 2 runs were complete already" in out
    code, out, err = command("sync", "outputs/a")
    assert (code, out) == (2, "")
    assert "expected the record of a run" in err
    assert command("sync", "nowhere")[0] == 2
