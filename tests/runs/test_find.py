"""Finding recorded runs, and what the record gives back, in a real store."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import keras
import mlflow
import numpy as np
import pytest

from mnist_exp.config.compose import compose
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import from_scores
from mnist_exp.models.forward import timed_scores
from mnist_exp.models.io import load_model
from mnist_exp.runs.data_paths import data_path
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import search_runs, store_config, without_trials

Recorded = dict[str, RunResult]


@pytest.fixture
def client(recorded: Recorded) -> mlflow.MlflowClient:
    return mlflow.MlflowClient()


def test_a_run_is_found_by_best_id_prefix_and_name(recorded: Recorded) -> None:
    best = max(recorded.values(), key=lambda outcome: outcome.metrics["val/accuracy"])
    store = store_config()
    assert resolve_run("best", store).metrics["val/accuracy"] == best.metrics["val/accuracy"]
    for name, outcome in recorded.items():
        for reference in (outcome.run_id, outcome.run_id[:12], name):
            assert resolve_run(reference, store).run_id == outcome.run_id


def test_a_registered_model_leads_to_its_run(
    recorded: Recorded, client: mlflow.MlflowClient
) -> None:
    run_id = recorded["dense128 seed=0"].run_id
    client.create_registered_model("m")
    version = client.create_model_version("m", f"runs:/{run_id}/dense128", run_id)
    client.set_registered_model_alias("m", "champion", version.version)
    assert resolve_run("models:/m@champion", store_config()).run_id == run_id
    assert resolve_run("models:/m/1", store_config()).run_id == run_id
    for uri in ("models:/m@nobody", "models:/m/7", "models:/x@champion", "models:/m"):
        with pytest.raises(InputError, match=f"--run {uri}: "):
            resolve_run(uri, store_config())


def test_a_store_that_is_named_needs_no_environment(
    made_once: tuple[str, Recorded], workplace: Path
) -> None:
    run = resolve_run("dense128 seed=0", store_config(uri=made_once[0]))
    assert run.model().count_params() == 118_282
    assert not list(workplace.iterdir())


def test_what_is_not_there_or_not_clear_is_said(recorded: Recorded) -> None:
    store = store_config()
    for reference in ("ffff", "f" * 32, "nobody", "o'neill", "'\"", "%"):
        with pytest.raises(InputError, match=r"no run of experiment mnist has this id or name"):
            resolve_run(reference, store)
    with pytest.raises(InputError, match=r"no experiment mnits; .* it has: mnist"):
        resolve_run("best", store_config("mnits"))
    with pytest.raises(InputError, match=r"MLflow does not understand it .* write it like"):
        search_runs(store, "accuracy is high")
    with pytest.raises(InputError, match=r"no FINISHED runs that fit params.seed = '9'"):
        search_runs(store, "params.seed = '9'")


def test_the_jobs_of_a_sweep_are_found_and_trials_told_apart(
    made_once: tuple[str, Recorded],
) -> None:
    store = made_once[0]
    client = mlflow.MlflowClient(store)
    experiment = client.create_experiment("with sweeps")

    def record(fingerprint: str = "", swept: str = "", **tags: str) -> str:
        tags |= {"fingerprint": fingerprint} if fingerprint else {}
        run = client.create_run(experiment, tags={k.replace("__", "."): v for k, v in tags.items()})
        if swept:
            client.log_param(run.info.run_id, "swept", swept)
        client.set_terminated(run.info.run_id)
        return run.info.run_id

    where = store_config("with sweeps", store)
    with pytest.raises(InputError, match="--sweep last: no sweeps of experiment with sweeps"):
        search_runs(where, sweep="last")
    alone = record("a")
    search = record(swept="optimizer.learning_rate", search="a-study")
    old = record(swept="optimizer.learning_rate", overrides="lr=tag(log,interval(1e-4,1e-2))")
    trials = [record("t", mlflow__parentRunId=parent) for parent in (search, old)]
    grid = record(swept="seed", overrides="seed=1,2")
    jobs = {record(seed, mlflow__parentRunId=grid) for seed in "12"}
    assert {run.run_id for run in without_trials(search_runs(where), where)} == {alone, *jobs}
    for reference, expected in (("last", jobs), (grid[:8], jobs), (search, {trials[0]})):
        found = search_runs(where, sweep=reference)
        assert {run.run_id for run in found} == expected
    with pytest.raises(
        InputError, match=f"(?s)--sweep {alone}: no sweeps .* newest:\n  {grid[:12]}"
    ):
        search_runs(where, sweep=alone)
    with pytest.raises(InputError, match="no FINISHED runs of sweep last that fit"):
        search_runs(where, "params.x = '9'", sweep="last")


def test_several_runs_of_one_name_are_listed(
    recorded: Recorded, client: mlflow.MlflowClient
) -> None:
    (experiment,) = client.search_experiments(filter_string="name = 'mnist'")
    number, ours = experiment.experiment_id, {"fingerprint": "x"}
    twins = [client.create_run(number, run_name="twin", tags=ours) for _ in range(2)]
    ids = [twin.info.run_id for twin in twins]
    with pytest.raises(InputError) as refused:
        resolve_run("twin", store_config())
    assert "2 runs match; give the id of one" in str(refused.value)
    assert all(run_id[:12] in str(refused.value) for run_id in ids)
    client.set_terminated(ids[0])
    assert resolve_run("twin", store_config()).run_id == ids[0]  # the FINISHED one is meant
    with pytest.raises(InputError, match=r"\(twin\) is FINISHED and has no model that could be"):
        resolve_run("twin", store_config()).model()
    for run_id in ids:
        client.delete_run(run_id)


def test_looking_for_runs_makes_no_store(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"there are no recorded runs here: .*mlflow.db does not"):
        resolve_run("best", store_config())
    assert not list(workplace.iterdir())


def record(
    client: mlflow.MlflowClient, limit: str, accuracy: float | None, data: str = "mnist"
) -> str:
    """The id of a FINISHED run of these figures, in an experiment of its own, started last."""
    found = client.get_experiment_by_name("ranked")
    experiment = found.experiment_id if found else client.create_experiment("ranked")
    number = len(client.search_runs([experiment], run_view_type=mlflow.entities.ViewType.ALL))
    tags = {"data.name": data, "data.label": data, "fingerprint": "x"}
    run = client.create_run(experiment, start_time=1000 * (number + 1), tags=tags)
    client.log_param(run.info.run_id, "data.limit", limit)
    if accuracy is not None:
        client.log_metric(run.info.run_id, "val/accuracy", accuracy)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


@pytest.mark.usefixtures("recorded")
def test_best_prefers_full_data_then_validation(
    client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    where = store_config("ranked")

    def best() -> tuple[str, str]:
        caplog.clear()
        return resolve_run("best", where).run_id, caplog.text

    bundled = record(client, "null", 0.999, "mnist5k")
    assert best() == (bundled, "")
    limited = record(client, "1000", 0.86)
    assert best() == (limited, "")
    unvalidated = record(client, "null", None)
    chosen, told = best()
    assert chosen == unvalidated
    assert "no run on mnist has a val/accuracy to be chosen by" in told
    newest = record(client, "null", None)
    assert best()[0] == newest
    worse, better = record(client, "null", 0.98), record(client, "null", 0.99)
    record(client, "null", 0.985)
    assert best() == (better, "")  # the newer one has a validation accuracy, too
    last = record(client, "null", None)
    chosen, told = best()
    assert chosen == better
    assert (
        f"passed over, since it was trained without validation images: the newer run {last[:8]}"
        in told
    )
    assert worse[:8] not in told
    assert resolve_run("last", where).run_id == last


@pytest.mark.usefixtures("recorded")
def test_refusals_list_what_there_is_to_choose_from(client: mlflow.MlflowClient) -> None:
    client.create_experiment("empty")
    for reference in ("best", "last", "nobody"):
        with pytest.raises(InputError, match=r"experiment empty has no FINISHED run; make one"):
            resolve_run(reference, store_config("empty"))
    with pytest.raises(InputError) as refused:
        resolve_run("nobody", store_config())
    lines = str(refused.value).splitlines()
    assert lines[0].endswith("give best, last or the id of one, of which these are the newest:")
    assert any("FINISHED  dense128 seed=1  dense128 on the bundled" in line for line in lines[1:])


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"temperature": 0}', None])
def test_a_damaged_calibration_is_reported_and_left_out(
    recorded: Recorded, workplace: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    run = resolve_run("dense128 seed=1", store_config())
    copy = run.file("calibration.json")
    whole = copy.read_text()
    assert run.temperature() == json.loads(whole)["temperature"]
    old = replace(run, metrics={"test/ece": 0.1})  # made before there were temperatures
    unreadable = replace(run, run_id=run.run_id[::-1], artifact_uri="")  # the store has none
    assert old.temperature() == 1
    assert caplog.text == ""
    try:
        if content:
            copy.write_text(content)
        assert (run if content else unreadable).temperature() == 1
    finally:
        copy.write_text(whole)
    assert len(caplog.records) == 1
    assert "calibration.json cannot be read, so its probabilities are not calibrated" in caplog.text


def test_the_record_gives_back_config_history_predictions_and_model(
    recorded: Recorded, digits: Dataset, tmp_path: Path
) -> None:
    outcome = recorded["dense128 seed=1"]
    shutil.move(outcome.folder, tmp_path / "elsewhere")  # MLflow's copy is enough
    try:
        run = resolve_run(outcome.run_id, store_config())
        config = run.config()
        assert (config.model.name, config.seed, config.data.limit) == ("dense128", 1, 200)
        (epoch,) = run.history()
        assert epoch["val/accuracy"] == run.metrics["val/accuracy"]
        assert run.evaluation().accuracy == outcome.metrics["test/accuracy"]
        scores, _ = timed_scores(run.model(), digits.test_images)
        again = from_scores(digits.test_labels, scores, config.model.output)
        assert np.array_equal(again.probabilities, run.evaluation().probabilities)
    finally:
        shutil.move(tmp_path / "elsewhere", outcome.folder)


def test_the_data_is_looked_for_where_it_was_and_where_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfPath(Run):
        def config(self) -> Config:
            return compose(["data.path=~/mnist.npz"])

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MNIST_PATH", "'/elsewhere'")
    run = OfPath("id", "name", "FINISHED", {}, {}, {"data.name": "mnist"}, store_config())
    assert run.data_config().path == "/elsewhere"
    (tmp_path / "mnist.npz").touch()
    assert run.data_config().path == str(tmp_path / "mnist.npz")
    assert run.data_config("/given").path == "/given"


def test_a_relative_data_path_is_meant_from_where_it_was_written(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_PATH", raising=False)
    project, run = workplace / "now", workplace / "now" / "outputs" / "run"
    tags = {"folder": "/before/outputs/run"}
    assert data_path("", tags, run) == ""
    assert data_path("data/mnist.npz", tags, run) == str(workplace / "data" / "mnist.npz")
    (project / "data").mkdir(parents=True)
    (project / "data" / "mnist.npz").touch()
    here = str(project / "data" / "mnist.npz")
    assert data_path("data/mnist.npz", tags, run) == here
    assert data_path("/before/data/mnist.npz", tags, run) == here
    recorded = tags | {"data.source": "/before/data/mnist.npz"}
    assert data_path("mnist.npz", recorded, run) == here  # begun in data/
    monkeypatch.setenv("MNIST_PATH", "/given")
    assert data_path("/gone/mnist.npz", tags, run) == "/given"


def test_only_a_safe_model_of_digits_is_loaded(tmp_path: Path) -> None:
    unsafe = keras.Sequential([keras.Input((28, 28)), keras.layers.Lambda(lambda x: x[:, 0, :10])])
    unsafe.save(tmp_path / "unsafe.keras")
    with pytest.raises(
        InputError, match=r"mine: expected a Keras model that loads in safe mode \(.*Lambda"
    ):
        load_model(tmp_path / "unsafe.keras", "mine")
    other = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(InputError, match=r"mine: expected a model of \(n, 28, 28\) pixels"):
        load_model(tmp_path / "other.keras", "mine")


class Harmful:
    """Unpickled, it leaves a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trace",)


def test_no_code_that_a_model_carries_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.keras").write_bytes(b"PK\3\4 no archive")
    Path("pickled.keras").write_bytes(pickle.dumps(Harmful()))
    whole = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    whole.save("whole.h5")
    Path("whole.h5").rename("hdf5.keras")
    for file in ("broken.keras", "pickled.keras", "hdf5.keras"):
        with pytest.raises(InputError, match=r"^mine: expected a \.keras file, got one of another"):
            load_model(Path(file), "mine")
    with ZipFile("bomb.keras", "w", ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**8))
    with pytest.raises(InputError, match=r"^mine: .* an archive that would unpack to 0\.1 GiB;"):
        load_model(Path("bomb.keras"), "mine")
    whole.save("whole.keras")
    harmful = {"module": "os", "class_name": "function", "config": "mkdir"}
    with ZipFile("whole.keras") as source, ZipFile("called.keras", "w") as target:
        config = json.loads(source.read("config.json"))
        config["config"]["layers"][2]["config"]["activation"] = harmful
        target.writestr("config.json", json.dumps(config))
        for name in ("metadata.json", "model.weights.h5"):
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match=r"^mine: expected a Keras model that loads in safe mode"):
        load_model(Path("called.keras"), "mine")
    assert not Path("trace").exists()
    assert load_model(Path("whole.keras"), "mine").count_params() == 7850
