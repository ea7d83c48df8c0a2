"""Reproduction of a run: bit-equal, or the difference and its possible reasons."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pytest
from support import Command, tiny

from mnist_exp.analysis.reproduction import machine_changes
from mnist_exp.config.compose import from_yaml
from mnist_exp.core.errors import InputError
from mnist_exp.core.provenance import Commit, commit, rebuild
from mnist_exp.experiment import run_experiment
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import store_config

Recorded = dict[str, RunResult]
NAME = "dense128 seed=0"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train in this process, which saves an import of TensorFlow, with these config changes."""
    changes: dict[str, Any] = {}

    def train(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        config = from_yaml(Path(command[-2]).read_text()).model_copy(update=changes)
        assert not config.tracking.enabled
        run_experiment(config, folder=Path(command[-1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", train)  # patched: another process
    return changes


@pytest.mark.usefixtures("in_this_process")
def test_the_same_config_data_and_code_are_bit_equal(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    code, out, err = command("reproduce", "--run", NAME)
    assert (code, err) == (0, "")
    assert recorded[NAME].title in out
    assert "bit-equal: all weights, all probabilities and all epochs' figures" in out
    (folder,) = (workplace / "outputs/reproductions").iterdir()
    assert (folder / "predictions.npz").exists()


def test_a_difference_is_reported_with_its_possible_reasons(
    recorded: Recorded,
    command: Command,
    workplace: Path,
    in_this_process: dict[str, Any],
) -> None:
    in_this_process["seed"] = 5
    client, run_id = mlflow.MlflowClient(), recorded[NAME].run_id
    client.set_tag(run_id, "version.keras", "3.1")
    code, out, _ = command("reproduce", "--run", NAME, "--output", "again")
    client.set_tag(run_id, "version.keras", version("keras"))
    assert code == 1
    assert "not bit-equal: a weight differs by up to 0." in out
    assert "the first other figures are those of epoch 1" in out
    assert f"\n  keras is {version('keras')}, it was 3.1" in out


@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_began_with_the_weights_of_another_does_so_again(
    recorded: Recorded,
    made_once: tuple[str, Recorded],
    command: Command,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, where = f"start_from={recorded[NAME].run_id}", f"tracking.uri={made_once[0]}"
    config = tiny(start, where, "tracking.experiment=warm", "seed=3", "train.freeze=[dense]")
    run_experiment(config, folder=workplace / "run")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    options = ["--experiment", "warm", "--tracking-uri", made_once[0]]
    code, out, err = command("reproduce", "--run", "last", *options)
    assert (code, err) == (0, "")
    assert "bit-equal" in out


def test_a_folder_that_is_not_empty_is_refused(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    (workplace / "notes.txt").touch()
    code, _, err = command("reproduce", "--run", NAME, "--output", ".")
    assert code == 2
    assert "expected an empty folder; give another" in err


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    place = tmp_path / "checkout"
    (place / "mnist_exp").mkdir(parents=True)
    (place / "mnist_exp/code.py").write_text("first = 1\n")
    (place / "logo.png").write_bytes(b"\0\1")
    _git(place, "init", "-q")
    _commit(place)
    return place


def test_code_is_rebuilt_from_its_commit_and_its_changes(checkout: Path, tmp_path: Path) -> None:
    (checkout / "mnist_exp/code.py").write_text("first = 2\n")
    (checkout / "logo.png").write_bytes(b"\0\2")
    (checkout / "new.txt").touch()
    then = commit(checkout)
    (checkout / "mnist_exp/code.py").write_text("later = 3\n")
    _commit(checkout)
    assert commit(checkout).sha != then.sha
    (tmp_path / "then").mkdir()
    rebuild(then, tmp_path / "then", checkout)
    assert (tmp_path / "then/mnist_exp/code.py").read_text() == "first = 2\n"


def test_code_that_cannot_be_rebuilt_is_refused_with_the_reason(
    checkout: Path, tmp_path: Path
) -> None:
    sha = commit(checkout).sha
    (checkout / "mnist_exp/new.py").touch()
    for code, reason in [
        (Commit(), "the run names no commit"),
        (Commit("0" * 40), "its commit 00000000 is not in this checkout"),
        (commit(checkout), f"its code had files that were never in git, after {sha[:8]}"),
        (Commit(sha, "--- a/mnist_exp/code.py\n+++ b/\n"), f"its changes to commit {sha[:8]} cann"),
    ]:
        with pytest.raises(InputError, match=reason):
            rebuild(code, tmp_path, checkout)


def _commit(place: Path) -> None:
    _git(place, "add", "-A")
    _git(place, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")


def _git(place: Path, *command: str) -> None:
    subprocess.run(["git", "-C", str(place), *command], check=True)


def test_other_instructions_of_the_cpu_are_a_reason_and_unknown_ones_none() -> None:
    machine = {"cpu": "x", "gpu": "none", "instructions": "AVX2, bfloat16"}
    for tags, reasons in (
        ({"cpu": "x", "instructions": "AVX2"}, ["instructions is AVX2, bfloat16, it was AVX2"]),
        ({"cpu": "x"}, []),  # of a run recorded without
    ):
        run = Run("id", "a run", "FINISHED", {}, {}, tags, store_config())
        assert machine_changes(run, machine) == reasons
