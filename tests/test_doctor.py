"""The doctor: a line for each thing, and exit code 1 when one of them needs doing."""

import platform
from pathlib import Path

import mlflow
import pytest
from support import Command

from mnist_exp import doctor as checkup
from mnist_exp.core import hardware
from mnist_exp.core.layout import JOURNAL
from mnist_exp.data import dataset as data
from mnist_exp.experiment import RunResult
from mnist_exp.tracking.events import Opening
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.mlflow_backend import JOURNAL_TAG


@pytest.fixture(autouse=True)
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a machine where all is well."""
    monkeypatch.setattr(data, "on_this_machine", lambda _: "somewhere")
    return workplace


def line(said: str, subject: str) -> str:
    (found,) = [each for each in said.splitlines() if each[2:].startswith(subject)]
    return found


def test_all_is_well(command: Command) -> None:
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    assert line(out, "Python").endswith(platform.python_version())
    assert line(out, "packages")
    assert line(out, "data") == "  data        MNIST, verified: somewhere"
    assert line(out, "disk").endswith(str(Path.cwd()))
    assert line(out, "store").endswith("mlflow.db: not there yet, the first run makes it")
    assert line(out, "records").endswith("is unpublished")
    assert "dense in float32, XLA; convolutions in " in line(out, "hardware")
    assert not list(Path.cwd().iterdir())


def test_what_convolutions_get_is_what_the_hardware_has(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bfloat16", lambda: True)
    assert "convolutions in mixed_bfloat16" in line(command("doctor")[1], "hardware")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("data", "on_this_machine", "! data        damaged"),
        ("python", "3.14.0", "! Python      3.14.0, but <3.14,>=3.11 is needed"),
        ("numpy", "1.26.0", "! numpy       1.26.0: pip install 'numpy<3,>=2'"),
        ("keras", "3.12.0", "other than the tested ones: keras 3.12.0 (not "),
        ("disk", "2000000", "GiB free in"),
        ("tracking", "http://127.0.0.1:9", "! store       http://127.0.0.1:9: this tracking"),
    ],
)
def test_what_is_wrong_is_told(
    name: str, value: str, told: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkup.version
    options: list[str] = []
    if name == "data":

        def damaged(_: object) -> str:
            raise checkup.InputError("damaged")

        monkeypatch.setattr(data, value, damaged)
    elif name == "python":
        monkeypatch.setattr(checkup.platform, "python_version", lambda: value)
    elif name == "disk":
        usage = type("Usage", (), {"free": int(value)})
        monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _: usage)
        told = "! disk        0.0 GiB free"
    elif name == "tracking":
        options = ["--tracking-uri", value]
    else:
        monkeypatch.setattr(checkup, "version", lambda each: value if each == name else real(each))
    code, out, _ = command("doctor", *options)
    assert told in out
    assert code == (0 if name == "keras" else 1)


def test_a_dead_run_is_told_of_and_closed_when_asked(
    command: Command, recorded: dict[str, RunResult], here: Path
) -> None:
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    experiment = client.get_experiment_by_name("mnist").experiment_id
    tags = {"host": platform.node(), "folder": str(here)}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    _, out, _ = command("doctor")
    advice = f"{run_id[:8]} died; a sweep: run it again with tracking.skip_finished=true"
    assert advice in out.replace("\n", " ")
    (here / "config.yaml").touch()
    code, out, _ = command("doctor")
    assert code == 1
    told = (
        f"! run         {run_id[:8]} died; go on: python -m mnist_exp.run resume={here}, or close"
    )
    assert told in out.replace("\n", "")
    code, out, _ = command("doctor", "--close")
    assert code == 0
    assert "closed now" in out
    assert client.get_run(run_id).info.status == "KILLED"
    assert command("doctor")[0] == 0


def test_a_run_whose_folder_is_gone_is_closed_when_asked(
    command: Command, recorded: dict[str, RunResult], here: Path
) -> None:
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    experiment = client.get_experiment_by_name("mnist").experiment_id
    tags = {"host": platform.node(), "folder": str(here / "gone")}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    code, out, _ = command("doctor")
    assert code == 1
    assert f"{run_id[:8]} is RUNNING, but {here / 'gone'} is gone" in out.replace("\n", "")
    assert command("doctor", "--close")[0] == 0
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_run_that_is_not_published_is_told_of(command: Command, here: Path) -> None:
    folder = here / "outputs/a"
    folder.mkdir(parents=True)
    Journal(folder).begin(Opening("sqlite:///mlflow.db", "mnist", "a", {JOURNAL_TAG: "a"}, 1))
    code, out, _ = command("doctor")
    assert code == 1
    told = "1 not published whole, such as outputs/a: python -m mnist_exp sync outputs"
    assert line(out, "records").endswith(told)
    (folder / JOURNAL).write_text("damaged\n")
    code, out, _ = command("doctor")
    assert code == 1
    assert f"outputs/a/{JOURNAL}: cannot be read" in out


def test_sync_goes_on_after_a_damaged_record(command: Command, here: Path) -> None:
    for name in ("a", "b"):
        (here / "outputs" / name).mkdir(parents=True)
    (here / "outputs/a" / JOURNAL).write_text("damaged\n")
    opening = Opening(f"sqlite:///{here}/mlflow.db", "mnist", "b", {JOURNAL_TAG: "b"}, 1)
    Journal(here / "outputs/b").begin(opening)
    code, out, _ = command("sync", "outputs", "outputs/b")
    assert code == 1
    assert "outputs/a/record.jsonl: expected the record of a run" in out
    assert "outputs/b: published\n0 of 2 runs were complete already" in out
    code, out, err = command("sync", "outputs/a")
    assert (code, out) == (2, "")
    assert "expected the record of a run" in err
    assert command("sync", "nowhere")[0] == 2
