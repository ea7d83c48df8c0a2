"""An alias moves to a model that is not worse and predicts the same after registration."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from support import Command

from mnist_exp.core.errors import InputError
from mnist_exp.deployment.registry import promote
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.search import store_config
from mnist_exp.tracking.logged_model import MODEL_FILE

Recorded = dict[str, RunResult]


@pytest.fixture
def ranked(recorded: Recorded) -> tuple[str, str]:
    """The names of the runs with the highest and the lowest val/accuracy."""
    names = sorted(recorded, key=lambda name: recorded[name].metrics["val/accuracy"])
    assert float(recorded[names[0]]) < float(recorded[names[-1]])
    return names[-1], names[0]


def test_the_alias_stays_with_the_better_run_unless_forced(
    ranked: tuple[str, str], command: Command
) -> None:
    better, worse = ranked
    code, out, err = command("promote", "--run", better, "--name", "ranked")
    assert (code, err) == (0, "")
    assert "models:/ranked@champion is version 1" in out
    assert "predicts the same on all 1,000 images" in out
    code, _, err = command("promote", "--run", worse, "--name", "ranked")
    assert code == 2
    assert "less than the" in err
    assert versions("ranked") == 1
    run, client = resolve_run(better, store_config()), mlflow.MlflowClient()
    version = client.get_model_version("ranked", "1")
    (linked,) = client.get_run(run.run_id).outputs.model_outputs
    tags = client.get_logged_model(linked.model_id).tags  # its page names the registered versions
    registered = json.loads(tags["mlflow.modelVersions"])
    assert [(each["name"], str(each["version"])) for each in registered] == [("ranked", "1")]
    assert version.description == f"{run.title}\n\nOf [{better}](#/runs/{run.run_id})."
    assert version.tags["val/accuracy"] == f"{run.metrics['val/accuracy']:.4f}"
    assert "28x28 pixels of 0-255" in client.get_registered_model("ranked").description
    code, out, _ = command("promote", "--run", worse, "--name", "ranked", "--force")
    assert code == 0
    assert f"before: run {resolve_run(better, store_config()).run_id[:8]} ({better})" in out
    assert resolve_run("models:/ranked@champion", store_config()).name == worse


def test_runs_that_cannot_be_compared_are_refused(
    ranked: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    better, worse = (resolve_run(name, store_config()) for name in ranked)
    promote(worse, "mixed", "champion")
    for attribute, key, value, reason in [
        ("tags", "data.digest", "0", "one is on the bundled"),
        ("metrics", "val/accuracy", None, "was trained without validation"),
    ]:
        with monkeypatch.context() as patch:
            values: Any = getattr(better, attribute)
            patch.setitem(values, key, value) if value else patch.delitem(values, key)
            with pytest.raises(InputError, match=f"cannot be compared with .*{reason}.*--force"):
                promote(better, "mixed", "champion")
    foreign = replace(better, run_id="0" * 32, tags={}, artifact_uri="")
    with pytest.raises(InputError, match=r"logged by another program and has no config\.yaml"):
        promote(foreign, "mixed", "champion")
    assert promote(better, "mixed", "champion").version == "2"


def test_a_version_with_other_predictions_is_deleted(ranked: tuple[str, str]) -> None:
    better, worse = (resolve_run(name, store_config()) for name in ranked)
    better.model()  # a copy of it is kept, so that only the version is another one
    client = mlflow.MlflowClient()
    (logged,) = client.get_run(better.run_id).outputs.model_outputs
    place = client.get_logged_model(logged.model_id).artifact_location
    model = Path(unquote(urlsplit(place).path)) / MODEL_FILE
    whole = model.read_bytes()
    model.chmod(0o600)
    model.write_bytes(worse.file(MODEL_FILE).read_bytes())
    with pytest.raises(InputError, match="does not predict what that of run"):
        promote(better, "damaged", "champion")
    model.write_bytes(whole)
    assert versions("damaged") == 0
    names = {model.name for model in mlflow.MlflowClient().search_registered_models()}
    assert "damaged" not in names


def test_a_version_without_a_run_is_reported(ranked: tuple[str, str], command: Command) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model("by_hand")
    client.create_model_version("by_hand", "file:///nowhere")
    client.set_registered_model_alias("by_hand", "champion", "1")
    code, _, err = command("predict", "x.png", "--run", "models:/by_hand@champion")
    assert code == 2
    assert err.startswith("--run models:/by_hand@champion: this version names no run")
    code, _, err = command("promote", "--name", "by_hand")
    assert code == 2
    assert "was registered by hand and names no run; --force" in err
    assert command("promote", "--name", "by_hand", "--force")[0] == 0


def test_a_failing_store_is_not_mistaken_for_a_free_alias(
    ranked: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    better, _ = (resolve_run(name, store_config()) for name in ranked)
    failure = MlflowException("the server is overloaded", error_code=INTERNAL_ERROR)
    # Patched: a server that fails at this request only.
    monkeypatch.setattr(
        mlflow.MlflowClient, "get_model_version_by_alias", Mock(side_effect=failure)
    )
    with pytest.raises(InputError, match="the server is overloaded"):
        promote(better, "overloaded", "champion")
    assert versions("overloaded") == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--alias", "a b"], "--alias a b: Invalid alias name: 'a b'."),
        (["--name", "a/b"], "--name a/b --alias champion: Invalid model name 'a/b'."),
        (["--alias", "latest"], "--alias latest: 'latest' alias name (case insensitive) is rese"),
    ],
)
def test_names_that_mlflow_refuses_register_nothing(
    recorded: Recorded, command: Command, workplace: Path, arguments: list[str], sentence: str
) -> None:
    code, _, err = command("promote", *arguments)
    assert code == 2
    assert sentence in err
    assert versions("mnist") == 0


def versions(name: str) -> int:
    return len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'"))
