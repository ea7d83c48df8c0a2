"""clean: deleted and failed runs are listed, and go when that is asked for."""

from pathlib import Path

import mlflow
import pytest
from mlflow.entities import ViewType
from support import Command, tiny

from mnist_exp.experiment import run_experiment
from mnist_exp.runs.run import FINGERPRINT_TAG
from mnist_exp.tracking.open_run import track_run


def test_deleted_and_failed_runs_go_with_all_they_occupy(
    store: str, workplace: Path, command: Command
) -> None:
    where = ("--experiment", "clean", "--tracking-uri", store)
    config = tiny(f"tracking.uri={store}", "tracking.experiment=clean")
    failed, good = workplace / "failed", workplace / "failed" / "good"
    finished = run_experiment(config, folder=good)
    tags = {FINGERPRINT_TAG: "0"}
    tracked = track_run(config.tracking, name="bad", folder=failed, params={}, tags=tags)
    with pytest.raises(ZeroDivisionError), tracked:
        raise ZeroDivisionError
    code, out, _ = command("clean", *where)
    assert code == 0
    assert "failed" in out
    assert finished.run_id[:8] not in out

    kept = good / "checkpoints"
    assert "checkpoints of finished runs: 1, 1.4 MB; --checkpoints lists them" in out
    _, out, _ = command("clean", "--checkpoints", *where)
    assert finished.run_id[:8] in out
    assert kept.is_dir()
    _, out, _ = command("clean", "--checkpoints", "--delete", *where)
    assert "removed: checkpoints of finished runs: 1, 1.4 MB; the runs stay" in out
    assert not kept.exists()
    assert finished.folder.is_dir()
    assert "has a checkpoint here" in command("clean", "--checkpoints", *where)[1]

    client = mlflow.MlflowClient(store)
    artifacts = Path(client.get_run(finished.run_id).info.artifact_uri)
    (logged,) = client.get_run(finished.run_id).outputs.model_outputs
    model = Path(client.get_logged_model(logged.model_id).artifact_location)
    client.delete_run(finished.run_id)
    client.create_registered_model("clean")
    version = client.create_model_version(
        "clean", f"runs:/{finished.run_id}/model", finished.run_id
    )
    _, out, _ = command("clean", "--delete", *where)
    assert f"kept: run {finished.run_id[:8]}" in out
    assert "removed: 1 run," in out
    assert good.is_dir()  # in the folder of the other
    assert artifacts.is_dir()

    client.delete_model_version("clean", version.version)
    _, out, _ = command("clean", *where)
    assert "1 run, 1." in out
    assert "clean --delete removes them for good" in out
    command("clean", "--delete", *where)
    assert not [path for path in (good, artifacts.parent, model.parent) if path.exists()]
    experiment = client.get_experiment_by_name("clean").experiment_id
    assert not client.search_runs([experiment], run_view_type=ViewType.ALL)
    assert "no deleted or failed run to remove" in command("clean", *where)[1]


def test_runs_on_a_server_are_not_removed(command: Command) -> None:
    code, _, err = command("clean", "--tracking-uri", "http://127.0.0.1:9")
    assert code == 2
    assert "run mlflow gc on its machine" in err
