"""The figures of a sweep's jobs, drawn by another process."""

from multiprocessing import active_children
from pathlib import Path

import mlflow
import pytest
from keras.callbacks import LambdaCallback
from support import tiny

from mnist_exp import run_experiment
from mnist_exp.config.schema import Config
from mnist_exp.runs.figures import drawn_meanwhile
from mnist_exp.runs.folder import RunResult
from mnist_exp.tracking.journal import Journal

NAMES = {
    f"{name}.png"
    for name in (
        "learning_curves", "confusion_matrix", "sample_predictions", "worst_mistakes",
        "reliability", "training_digits",
    )
}  # fmt: skip


@pytest.fixture
def config(store: str) -> Config:
    return tiny(f"tracking.uri={store}", "report.formats=[png]")


def drawn(run: RunResult) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.folder / "figures").glob("*")}


def test_another_process_draws_the_same_figures_and_they_are_published_later(
    config: Config, store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unwritable = tmp_path / "second"
    in_the_way = LambdaCallback(on_train_end=lambda logs: (unwritable / "figures").touch())
    with drawn_meanwhile():
        first = run_experiment(config, folder=tmp_path / "first")
        assert Journal(first.folder).status == "FINISHED"
        second = run_experiment(config, folder=unwritable, callbacks=[in_the_way])
        assert set(drawn(first)) == NAMES  # the next run waited for them
    alone = run_experiment(config, folder=tmp_path / "alone")
    assert drawn(first) == drawn(alone)
    client = mlflow.MlflowClient(store)
    for run in (alone, first):
        published = client.list_artifacts(run.run_id, "figures")
        assert {Path(file.path).name for file in published} == NAMES
        assert client.get_run(run.run_id).info.status == "FINISHED"
        journal = Journal(run.folder)
        assert (journal.status, journal.is_published) == ("FINISHED", True)
    warning = f"{unwritable}: figures are missing, which python -m mnist_exp visualize draws"
    assert warning in caplog.text
    assert Journal(second.folder).status == "FINISHED"


@pytest.mark.slow
def test_figures_are_drawn_here_when_the_process_is_killed(config: Config, tmp_path: Path) -> None:
    with drawn_meanwhile():
        runs = []
        for name in ("first", "second"):
            runs.append(run_experiment(config, folder=tmp_path / name))
            for process in active_children():
                process.kill()
    assert all(set(drawn(run)) == NAMES for run in runs)
