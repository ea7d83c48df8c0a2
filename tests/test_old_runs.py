"""Runs made before the packages (commit 8e6eea1) are still found, used, resumed and published."""

import json
import platform
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from PIL import Image
from support import Command

from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.resume import extend_experiment, resume_experiment
from mnist_exp.runs.find import find_run
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.recovery import PUBLISHED, sync

ARCHIVE = Path(__file__).parent / "data" / "old_runs.tar.gz"
MADE_IN, MADE_ON = "/project", "vm"  # the folder and the machine of the old runs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old project's folder, as if its runs had been made here: dense128 without figures.

    Two finished runs, the first one registered as models:/digits@champion, one that was killed
    after two of four epochs, and one whose store was lost.
    """
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for text in (*folder.rglob("record.jsonl"), *folder.rglob("MLmodel")):
        host = text.read_text().replace(f'"host": "{MADE_ON}"', f'"host": "{platform.node()}"')
        text.write_text(host.replace(MADE_IN, str(folder)))
    with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        for table, column in (
            ("experiments", "artifact_location"),
            ("logged_models", "artifact_location"),
            ("runs", "artifact_uri"),
            ("tags", "value"),
        ):
            store.execute(
                f"update {table} set {column} = replace({column}, ?, ?)", (MADE_IN, str(folder))
            )
        store.execute("update tags set value = ? where key = 'host'", (platform.node(),))
    return folder


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old project as the current folder."""
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project


def test_an_old_run_is_found_with_all_its_files(here: Path) -> None:
    run = find_run("best")
    assert run.name == "dense128-seed0"
    assert run.config().model.units == (8,)
    assert [row["val/accuracy"] for row in run.history()] == [0.1, 0.15]
    assert run.evaluation().accuracy == run.metrics["test/accuracy"] == 0.28
    assert find_run("models:/digits@champion").run_id == run.run_id
    assert run.model().count_params() == 6370


def test_an_old_run_is_scored_as_it_was(here: Path, command: Command) -> None:
    code, out, _ = command("evaluate", "--run", "best")
    assert "28.00 % of 1,000 test images" in out
    assert code == 0 or "another machine or thread count rounds otherwise" in out


def test_old_runs_are_compared(here: Path, command: Command) -> None:
    code, out, _ = command("compare")
    assert code == 0
    assert "25.30 ± 3.82" in out


def test_an_old_run_predicts(here: Path, command: Command, digits: Dataset) -> None:
    Image.fromarray(digits.test_images[0]).save("digit.png")
    code, out, _ = command("predict", "digit.png", "--json")
    assert code == 0
    assert json.loads(out)[0]["digit"] in range(10)


def test_an_old_run_resumes_from_its_checkpoint(here: Path) -> None:
    folder = here / "outputs/interrupted"
    assert Journal(folder).status == ""
    result = resume_experiment(folder)
    history = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db").get_metric_history(
        result.run_id, "val/accuracy"
    )
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert find_run(result.run_id).status == "FINISHED"


def test_an_old_finished_run_has_no_checkpoint_to_be_extended_from(here: Path) -> None:
    with pytest.raises(InputError, match="an older version left none"):
        extend_experiment(Path(find_run("models:/digits@champion").folder), 9, here / "none")


def test_an_old_journal_is_published_anew(here: Path) -> None:
    folder, store = here / "outputs/unpublished", f"sqlite:///{here}/mlflow.db"
    assert sync(folder, store) == PUBLISHED
    run = find_run(Journal(folder).run_id)
    assert (run.name, run.status) == ("sigmoid100-seed0", "FINISHED")
    assert run.metrics["test/accuracy"] == 0.28


@pytest.mark.slow
def test_an_old_run_is_reproduced_by_the_code_of_its_time(here: Path, command: Command) -> None:
    code, out, err = command("reproduce", "--run", "models:/digits@champion")
    assert (code, "bit-equal" in out) in ((0, True), (1, False)), err  # other processors round
    assert "the code is not the run's" not in out
