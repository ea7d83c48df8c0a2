"""One experiment from config to record: the folder is complete, the record says the same."""

import csv
import json
import signal
import threading
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
from keras.callbacks import LambdaCallback
from support import fit, tiny

from mnist_exp import plots, run_experiment
from mnist_exp.core.errors import DivergedError, InputError
from mnist_exp.core.layout import INTERRUPTED_MODEL
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation import metrics as evaluation
from mnist_exp.evaluation.calibration import fit_calibration
from mnist_exp.models.forward import timed_scores
from mnist_exp.runs.figures import Report, drawing
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.training import augmentation
from mnist_exp.training.epoch import EpochLoop

FIGURES = {
    "learning_curves",
    "confusion_matrix",
    "sample_predictions",
    "worst_mistakes",
    "reliability",
    "training_digits",
}
TEST_METRICS = {
    f"test/{name}"
    for name in (
        "loss",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "errors",
        "top2_accuracy",
        "ece",
        "brier",
        "ece_calibrated",
        "loss_calibrated",
    )
}
MODEL_METRICS = {"model/parameters", "model/bytes", "model/images_per_second"}


@pytest.fixture(scope="module")
def outcome(store: str, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    config = tiny(
        f"tracking.uri={store}",
        "train.epochs=2",
        "save_as=[model.keras,model.h5,saved_model]",
        "report.formats=[png,svg,pdf]",
        "notes=**why**",
        "tags.team=vision",
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    secret = "tracking.uri=http://me:s3cret@host"
    return run_experiment(config, folder=folder, overrides=["train.epochs=2", secret])


def test_the_folder_tells_everything(outcome: RunResult) -> None:
    assert {path.name for path in outcome.folder.iterdir()} - {"code.diff"} == {
        "config.yaml",
        "record.jsonl",
        "checkpoints",
        "overrides.txt",
        "run.log",
        "history.csv",
        "steps.csv",
        "metrics.json",
        "outcome.json",
        "summary.txt",
        "predictions.npz",
        "validation.npz",
        "calibration.json",
        "tables",
        "figures",
        "model.keras",
        "model.h5",
        "saved_model",
    }
    assert {path.stem for path in (outcome.folder / "figures").iterdir()} == FIGURES
    assert (outcome.folder / "overrides.txt").read_text() == (
        "train.epochs=2\ntracking.uri=http://***@host\n"
    )
    assert "dense128 on the bundled 5,000 digits" in (outcome.folder / "run.log").read_text()
    rows = list(csv.DictReader((outcome.folder / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["val/accuracy"]) == outcome.metrics["val/accuracy"]


def test_the_curves_show_which_epoch_was_kept(few_digits: Dataset, tmp_path: Path) -> None:
    config = tiny("train.epochs=2", "train.patience=1", "report.formats=[png]")
    model, history = fit(config, few_digits)
    answers, _ = timed_scores(model, few_digits.test_images)
    said = evaluation.from_scores(few_digits.test_labels, answers, "softmax")
    steps = [{"step": 6, "epoch": 1, "step/train_loss": 1.5, "step/train_accuracy": 0.5}]
    epochs, best = history.epochs, history.best_epoch
    report = Report("title", config, few_digits, epochs, steps, said, best)
    drawing(report, tmp_path / "figures")()
    drawn = (tmp_path / "figures/learning_curves.png").read_bytes()
    for kept, is_equal in ((history.best_epoch, True), (None, False)):
        figure = plots.learning_curves(epochs, "title", kept, steps)
        plots.save({"expected": figure}, tmp_path, ["png"], config.report.dpi)
        assert ((tmp_path / "expected.png").read_bytes() == drawn) == is_equal


def test_the_training_digits_are_drawn_as_the_first_epoch_saw_them(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def spy(images: np.ndarray, labels: np.ndarray, title: str, classes: object) -> object:
        drawn.append((images, title))
        return plots.learning_curves([], title)

    monkeypatch.setattr(plots, "digit_sheet", spy)  # patched: pixels in a PNG are no test
    said = evaluation.from_scores(few_digits.test_labels, np.full((1000, 10), 0.1), "softmax")
    for augment in ("none", "affine"):
        config = tiny(f"augment={augment}", "report.formats=[png]")
        drawing(Report("title", config, few_digits, [], [], said), tmp_path)()
    (plain, _), (augmented, title) = drawn
    assert np.array_equal(plain, few_digits.train_images)
    assert title.endswith("180 training images, as the first epoch saw them")
    seen = augmentation.augment(config.augment, [0, 0, 1], few_digits.train_images).numpy()
    assert np.array_equal(augmented, seen)
    assert not np.array_equal(augmented, plain)


def test_the_speed_is_a_number_of_images_per_second(outcome: RunResult) -> None:
    assert 100 < outcome.metrics["model/images_per_second"] < 1e8


def test_the_score_is_that_of_the_stored_predictions(outcome: RunResult) -> None:
    stored = np.load(outcome.folder / "predictions.npz")
    assert stored["probabilities"].shape == (1000, 10)
    accuracy = (stored["probabilities"].argmax(1) == stored["labels"]).mean()
    assert accuracy == pytest.approx(outcome.metrics["test/accuracy"])
    metrics = json.loads((outcome.folder / "metrics.json").read_text())
    assert metrics == dict(outcome.metrics)
    assert set(metrics) == TEST_METRICS | MODEL_METRICS | {
        "val/loss",
        "val/accuracy",
        "train/kept_epoch",
        "train/seconds",
        "train/compile_seconds",
    }
    assert metrics["model/bytes"] == 4 * metrics["model/parameters"] == 4 * 118_282
    assert float(outcome) == metrics["val/accuracy"]


def test_the_temperature_is_that_of_the_validation_images(
    outcome: RunResult, few_digits: Dataset
) -> None:
    model = keras.models.load_model(outcome.folder / "model.keras")
    scores, _ = timed_scores(model, few_digits.validation_images)
    said = evaluation.from_scores(few_digits.validation_labels, scores, "softmax")
    stored = RunFolder(outcome.folder).calibration()
    assert stored == fit_calibration(said)
    assert stored.images == 20
    tested = RunFolder(outcome.folder).evaluation()
    assert tested.ece == outcome.metrics["test/ece"]  # as the model says it
    after = tested.at_temperature(stored.temperature)
    assert after.ece == outcome.metrics["test/ece_calibrated"]
    assert after.loss == outcome.metrics["test/loss_calibrated"]


def test_without_validation_images_there_is_no_temperature(tmp_path: Path) -> None:
    config = tiny("data.validation_split=0", "tracking.enabled=false")
    result = run_experiment(config, folder=tmp_path / "run")
    assert not (tmp_path / "run/calibration.json").exists()
    assert TEST_METRICS - result.metrics.keys() == {"test/ece_calibrated", "test/loss_calibrated"}


def test_every_saved_model_says_the_same(outcome: RunResult) -> None:
    import tensorflow as tf

    from mnist_exp.config.compose import compose
    from mnist_exp.data.dataset import load_dataset

    images = load_dataset(compose(["data=mnist5k"]).data).test_images
    expected = np.load(outcome.folder / "predictions.npz")["probabilities"]
    for name in ("model.keras", "model.h5"):
        loaded = keras.models.load_model(outcome.folder / name)
        assert loaded.predict(images, verbose=0) == pytest.approx(expected, abs=1e-5)
    served = tf.saved_model.load(outcome.folder / "saved_model")
    assert served.serve(images).numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_system_metrics_are_sampled_when_asked_for(tmp_path: Path, store: str) -> None:
    config = tiny(f"tracking.uri={store}", "tracking.system_metrics=true", "train.epochs=300")
    outcome = run_experiment(config, folder=tmp_path / "run")
    metrics = mlflow.MlflowClient(store).get_run(outcome.run_id).data.metrics
    assert 0 < metrics["system/system_memory_usage_percentage"] < 100
    assert not any(name.startswith("system/") for name in outcome.metrics)


def test_the_record_says_what_the_folder_says(outcome: RunResult, store: str) -> None:
    client = mlflow.MlflowClient(store)
    run = client.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert {k: run.data.metrics[k] for k in outcome.metrics} == pytest.approx(outcome.metrics)
    epochs = {"train/loss", "train/accuracy", "train/learning_rate", "train/epoch_seconds"}
    epochs |= {"step/train_loss", "step/train_accuracy", "step/learning_rate"}
    assert set(run.data.metrics) == set(outcome.metrics) | epochs
    assert [m.step for m in client.get_metric_history(outcome.run_id, "val/accuracy")] == [1, 2]
    for name in outcome.metrics.keys() - {"val/accuracy", "val/loss"}:  # bars, not lone dots
        assert [m.step for m in client.get_metric_history(outcome.run_id, name)] == [0], name
    wrong = round((1 - outcome.metrics["test/accuracy"]) * 1000)
    assert outcome.metrics["test/errors"] == wrong
    assert run.data.params["model.units"] == "[128, 128]"
    assert run.data.params["optimizer.learning_rate"] == "0.001"
    tags = run.data.tags
    assert tags["data.name"] == "mnist5k"
    assert tags["team"] == "vision"
    note = tags["mlflow.note.content"]
    assert note.startswith(f"{outcome.title}\n\n**why**\n\nTyped: `train.epochs=2 ")
    assert f"python -m mnist_exp predict --run {run.info.run_id[:8]} picture.png" in note
    assert run.info.run_name == "dense128 epochs=2 seed=0"
    assert tags["overrides"] == "train.epochs=2 tracking.uri=http://***@host"
    assert tags["auto.precision"] == "float32"
    assert tags["version.keras"] == keras.__version__
    assert {"threads", "cpu", "data.digest", "version.python"} <= set(tags)
    published = {artifact.path for artifact in client.list_artifacts(outcome.run_id)}
    files = {"predictions.npz", "calibration.json", "config.yaml", "run.log"}
    assert {"figures", "tables"} | files <= published
    assert not {"model.keras", "model.h5", "saved_model"} & published


def test_tables_count_every_test_image(outcome: RunResult) -> None:
    confusion = list(csv.reader((outcome.folder / "tables" / "confusion.csv").open()))[1:]
    assert sum(int(cell) for row in confusion for cell in row[1:]) == 1000
    per_class = list(csv.DictReader((outcome.folder / "tables" / "per_class.csv").open()))
    assert [int(row["support"]) for row in per_class] == [100] * 10


def test_a_taken_folder_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = tiny("tracking.enabled=false")
    first = run_experiment(config, folder=tmp_path / "run")
    before = (first.folder / "metrics.json").read_bytes()
    second = run_experiment(config, folder=tmp_path / "run")
    assert second.folder.name == "run-2"
    assert f"{first.folder} is taken, so the run is in run-2" in caplog.text
    assert (first.folder / "metrics.json").read_bytes() == before
    assert second.run_id == ""


def test_unusable_data_leaves_nothing_behind(store: str, tmp_path: Path) -> None:
    config = tiny(f"tracking.uri={store}", "tracking.experiment=refused")
    config = config.model_copy(update={"data": config.data.model_copy(update={"limit": 5000})})
    with pytest.raises(InputError, match=r"data\.limit: expected at most 4000"):
        run_experiment(config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert mlflow.MlflowClient(store).get_experiment_by_name("refused") is None


def test_a_refused_store_leaves_everything_as_it_was(workplace: Path) -> None:
    """The user's own files and folders, too, whatever they are called."""
    config = tiny("tracking.uri=http://127.0.0.1:9")
    (workplace / "mine").mkdir()
    (workplace / "mine" / "metrics.json").write_text("mine")
    for folder in (workplace / "run", workplace / "mine", workplace / "outputs" / "a" / "b"):
        with pytest.raises(InputError, match="this tracking store cannot be used"):
            run_experiment(config, folder=folder)
    assert [path.name for path in workplace.iterdir()] == ["mine"]
    assert (workplace / "mine" / "metrics.json").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run: Not a directory; .* hydra\.run\.dir="):
        run_experiment(tiny("tracking.enabled=false"), folder=tmp_path / "file" / "run")


def test_the_current_folder_holds_one_run_and_none_goes_beside_it(workplace: Path) -> None:
    config = tiny("tracking.enabled=false")
    run_experiment(config, folder=Path())
    with pytest.raises(
        InputError, match=r"not empty; give the run another folder: hydra\.run\.dir="
    ):
        run_experiment(config, folder=Path())
    assert list(workplace.parent.glob(f"{workplace.name}-*")) == []


def test_a_diverged_run_is_failed_and_keeps_its_log(store: str, tmp_path: Path) -> None:
    config = tiny(f"tracking.uri={store}", "optimizer=sgd", "optimizer.learning_rate=1e30")
    with pytest.raises(DivergedError):
        run_experiment(config, folder=tmp_path / "run")
    client = mlflow.MlflowClient(store)
    (latest,) = client.search_runs(
        [client.get_experiment_by_name("mnist").experiment_id], max_results=1
    )
    assert latest.info.status == "FAILED"
    assert "DivergedError" in (tmp_path / "run" / "traceback.txt").read_text()


@pytest.mark.parametrize(
    ("name", "number"), [("dropout", signal.SIGINT), ("dense128", signal.SIGTERM)]
)
def test_an_interrupted_run_keeps_what_it_has(
    store: str, tmp_path: Path, name: str, number: int
) -> None:
    """The signal comes from within the third epoch, as it would from outside."""

    def strike(epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            threading.Thread(target=lambda: signal.raise_signal(number)).start()

    config = tiny(f"tracking.uri={store}", f"model={name}", "train.epochs=100000")
    callbacks = [LambdaCallback(on_epoch_end=strike)]
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, folder=tmp_path / "run", callbacks=callbacks)
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").open()))
    assert len(rows) >= 2
    keras.models.load_model(tmp_path / "run" / INTERRUPTED_MODEL)
    client = mlflow.MlflowClient(store)
    (latest,) = client.search_runs(
        [client.get_experiment_by_name("mnist").experiment_id], max_results=1
    )
    assert latest.info.status == "KILLED"
    assert latest.data.metrics["train/loss"] in [float(row["train/loss"]) for row in rows]


@pytest.mark.parametrize("moment", ["models.forward.timed_scores", "plots.confusion_matrix"])
def test_a_signal_after_training_ends_the_run_too(
    store: str, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    # Patched: a signal comes at any moment, and no hook is called at these.
    monkeypatch.setattr(f"mnist_exp.{moment}", strike)
    config = tiny(f"tracking.uri={store}", "report.formats=[png]")
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, folder=tmp_path / "run")
    client = mlflow.MlflowClient(store)
    (latest,) = client.search_runs(
        [client.get_experiment_by_name("mnist").experiment_id], max_results=1
    )
    assert latest.info.status == "KILLED"
    assert (tmp_path / "run" / "model.keras").exists()


def test_a_signal_while_a_finished_run_is_published_comes_after_that(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mlflow.MlflowClient.set_terminated

    def strike(*arguments: Any, **more: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        real(*arguments, **more)

    # patched: a signal at this moment
    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", strike)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(tiny(f"tracking.uri={store}"), folder=tmp_path / "run")
    outcome = RunFolder(tmp_path / "run").result()
    assert mlflow.MlflowClient(store).get_run(outcome.run_id).info.status == "FINISHED"


def test_weights_broken_by_the_last_step_are_a_divergence(tmp_path: Path) -> None:
    config = tiny("tracking.enabled=false", "data.validation_split=0", "train.batch_size=200")
    wild = config.optimizer.model_copy(update={"learning_rate": 1e38})
    with pytest.raises(DivergedError, match="in epoch 1"):
        run_experiment(config.model_copy(update={"optimizer": wild}), folder=tmp_path / "run")


def test_an_epoch_that_mlflow_did_not_hear_of_is_told_later(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "mnist_exp")
    real, calls = mlflow.MlflowClient.log_batch, []

    def out_of_order(*arguments: Any, metrics: Any = (), **more: Any) -> None:
        calls.extend(metric.step for metric in metrics[:1])
        if metrics and len(calls) == 2:
            raise OSError("no route to host")
        real(*arguments, metrics=metrics, **more)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", out_of_order)  # patched: the network
    outcome = run_experiment(
        tiny(f"tracking.uri={store}", "train.epochs=4"), folder=tmp_path / "run"
    )
    history = mlflow.MlflowClient(store).get_metric_history(outcome.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    times = [metric.timestamp for metric in history]
    assert times == sorted(times)
    assert caplog.text.count("no route to host") == 1


def test_what_is_finished_is_not_run_again(store: str, tmp_path: Path) -> None:
    asked = (f"tracking.uri={store}", "tracking.experiment=again", "tracking.skip_finished=true")
    first = run_experiment(tiny(*asked), folder=tmp_path / "first")

    trained = []
    callbacks = [LambdaCallback(on_train_begin=trained.append)]
    again = run_experiment(
        tiny(*asked, "data.fallback=error"), folder=tmp_path / "second", callbacks=callbacks
    )
    assert not trained
    assert (again.run_id, again.title, again.data) == (first.run_id, first.title, first.data)
    assert {k: again.metrics[k] for k in first.metrics} == pytest.approx(first.metrics)
    assert again.folder == first.folder
    assert not (tmp_path / "second").exists()
    run_experiment(tiny(*asked, "seed=1"), folder=tmp_path / "third", callbacks=callbacks)
    assert trained


def test_restored_weights_have_the_last_word(store: str, tmp_path: Path) -> None:
    config = tiny(
        f"tracking.uri={store}",
        "train.patience=1",
        "train.epochs=60",
        "optimizer.learning_rate=0.02",
    )
    outcome = run_experiment(config, folder=tmp_path / "run")
    rows = list(csv.DictReader((outcome.folder / "history.csv").open()))
    best = min(float(row["val/loss"]) for row in rows)
    assert best == outcome.metrics["val/loss"] < float(rows[-1]["val/loss"])
    run = mlflow.MlflowClient(store).get_run(outcome.run_id)
    assert run.data.metrics["val/loss"] == pytest.approx(best)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_turned_into_an_error_is_still_one(
    store: str, tmp_path: Path, number: int
) -> None:
    def strike(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("something native was interrupted") from None

    callbacks = [LambdaCallback(on_epoch_end=strike)]
    with pytest.raises(KeyboardInterrupt):
        run_experiment(tiny(f"tracking.uri={store}"), folder=tmp_path / "run", callbacks=callbacks)
    client = mlflow.MlflowClient(store)
    (latest,) = client.search_runs(
        [client.get_experiment_by_name("mnist").experiment_id], max_results=1
    )
    assert latest.info.status == "KILLED"
    assert (tmp_path / "run" / INTERRUPTED_MODEL).exists()


def test_a_figure_that_cannot_be_drawn_is_a_warning(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("LaTeX is not there\nat all")

    monkeypatch.setattr(plots, "confusion_matrix", fail)  # patched: no figure fails by itself
    config = tiny(f"tracking.uri={store}", "report.formats=[png]")
    result = run_experiment(config, folder=tmp_path / "run")
    assert mlflow.MlflowClient(store).get_run(result.run_id).info.status == "FINISHED"
    warned = "figures are missing, which python -m mnist_exp visualize draws from the record (LaTeX"
    assert warned in caplog.text


def test_what_other_programs_set_in_keras_changes_no_run(tmp_path: Path) -> None:
    config = tiny("model=cnn", "model.filters=[4]", "tracking.enabled=false")
    expected = run_experiment(config, folder=tmp_path / "plain").metrics
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    try:
        metrics = run_experiment(config, folder=tmp_path / "set").metrics
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
    assert {k: v for k, v in metrics.items() if "second" not in k} == {
        k: v for k, v in expected.items() if "second" not in k
    }


def test_beside_an_active_run_of_mlflow_a_run_is_one_of_its_own(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    theirs = mlflow.MlflowClient(store).create_experiment("theirs")
    mlflow.keras.autolog()
    try:
        with mlflow.start_run(experiment_id=theirs) as outer:
            result = run_experiment(tiny(), folder=tmp_path / "run")
            active = mlflow.active_run()
    finally:
        mlflow.keras.autolog(disable=True)
    assert active is not None
    assert active.info.run_id == outer.info.run_id != result.run_id
    data = mlflow.get_run(outer.info.run_id).data
    assert (data.params, data.metrics) == ({}, {})
    assert mlflow.get_run(result.run_id).info.experiment_id != theirs


def test_auto_falls_back_where_the_machine_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As oneDNN does, when its instructions are limited: only at the first step."""
    expected = run_experiment(
        tiny("train.precision=float32", "train.jit=false", "tracking.enabled=false"),
        folder=tmp_path / "plain",
    )
    real, taken = EpochLoop.compile, []

    def fails(loop: EpochLoop, steps: int = 0) -> float:
        taken.append((loop.precision, loop.jit, steps))
        if loop.jit or loop.precision != "float32":
            raise tf.errors.AbortedError(None, None, "could not create a primitive descriptor")
        return real(loop, steps)

    monkeypatch.setattr(EpochLoop, "compile", fails)  # patched: a machine that cannot
    auto = tiny("train.precision=auto", "train.jit=auto", "tracking.enabled=false")
    result = run_experiment(auto, folder=tmp_path / "auto")
    assert taken == [("float32", True, 0), ("float32", False, 0)]
    assert result.metrics["test/loss"] == expected.metrics["test/loss"]
    assert "cannot do this here (could not create a primitive descriptor); trained in float32" in (
        caplog.text
    )
    narrow = tiny("train.precision=mixed_bfloat16", "train.jit=true", "tracking.enabled=false")
    with pytest.raises(InputError, match=r"set train\.precision=float32 train\.jit=false$"):
        run_experiment(narrow, folder=tmp_path / "narrow")
    assert taken[-1] == ("mixed_bfloat16", True, 1)
    assert not (tmp_path / "narrow" / INTERRUPTED_MODEL).exists()
