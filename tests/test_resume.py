"""A run that is resumed or extended is what it would have been at once, to the last bit."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from keras.callbacks import LambdaCallback
from support import figures, scalars, tiny

from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import run_lock
from mnist_exp.core.layout import CHECKPOINTS, JOURNAL
from mnist_exp.experiment import run_experiment
from mnist_exp.resume import _with_store, extend_experiment, resume_experiment
from mnist_exp.runs.find import find_resumable, resolve_run
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.runs.run import FINGERPRINT_TAG, TITLE_TAG
from mnist_exp.runs.search import finished_runs, store_config
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.recovery import BINNED, PUBLISHED, sync
from mnist_exp.training.checkpoints import dump, read

EVERYTHING = [
    "train.jit=auto", "train.epochs=4", "train.ema=0.9", "train.clean_epochs=1", "augment=affine",
    "schedule=onecycle", "optimizer=adamw", "train.batch_size=48", "train.patience=4",
]  # fmt: skip
SMALL_CONV = ["model=cnn", "model.filters=[4,4]", "model.units=[8]", "model.dropout=0.3"]
SETTINGS = {
    "dense": ["model=dropout", "model.units=[16]", *EVERYTHING],
    "conv": [*SMALL_CONV, *EVERYTHING],
    "plain": ["train.epochs=4", "optimizer=sgd", "train.checkpoint_every=2"],
    "averaged": [*SMALL_CONV, *EVERYTHING, "schedule=constant", "train.clean_epochs=0"],
    "plateau": [
        "train.epochs=4",
        "callbacks=[tensorboard,reduce_on_plateau]",
        "train.checkpoint_every=2",
        *(f"callbacks.reduce_on_plateau.{setting}" for setting in ("min_delta=1", "patience=1")),
    ],
    "early": ["train.epochs=9", "train.patience=1", "optimizer.learning_rate=0.05"],
}


def break_off(config: Config, folder: Path, epoch: int) -> None:
    """Train until the end of this epoch, and no further."""

    def interrupt(now: int, logs: object) -> None:
        if now + 1 == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, folder=folder, callbacks=[LambdaCallback(on_epoch_end=interrupt)])


def assert_same(ours: Path, theirs: Path) -> None:
    assert figures(ours) == figures(theirs)
    assert (ours / "steps.csv").read_bytes() == (theirs / "steps.csv").read_bytes()
    mine, other = (keras.models.load_model(path / "model.keras") for path in (ours, theirs))
    for a, b in zip(mine.weights, other.weights, strict=True):
        assert np.array_equal(a.numpy(), b.numpy()), a.path
    for a, b in zip(mine.optimizer.variables, other.optimizer.variables, strict=True):
        assert np.array_equal(a.numpy(), b.numpy()), a.path
    found = [np.load(path / "predictions.npz")["probabilities"] for path in (ours, theirs)]
    assert np.array_equal(*found)
    mine, other = ((path / "calibration.json").read_text() for path in (ours, theirs))
    assert mine == other


def change_tag(run: Path, name: str) -> None:
    """Let the run have begun with another value of this tag."""
    journal = run / JOURNAL
    text, changes = re.subn(rf'("{name}": ?)"\w+"', r'\1"another"', journal.read_text())
    assert changes == 1
    journal.write_text(text)


def made(name: str, store: str) -> Config:
    return tiny(f"tracking.uri={store}", "tracking.experiment=resume", *SETTINGS[name])


@pytest.fixture(scope="module")
def whole(store: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a run of these settings that did not break off."""

    @cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / name
        return run_experiment(made(name, store), folder=folder).folder

    return run


@pytest.fixture(scope="module")
def broken_once(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "run"
    break_off(made("plain", store), folder, 2)
    return folder


@pytest.fixture
def broken(broken_once: Path, tmp_path: Path) -> Path:
    """A copy of the folder of a plain run that broke off in its second epoch."""
    return Path(shutil.copytree(broken_once, tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        pytest.param("conv", 3, marks=pytest.mark.slow),
        pytest.param("plain", 4, marks=pytest.mark.slow),
        ("dense", 2),
        pytest.param("plateau", 3, marks=pytest.mark.slow),
        pytest.param("early", 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_goes_on_is_the_uninterrupted_one(
    name: str, epoch: int, tmp_path: Path, store: str, whole: Callable[[str], Path]
) -> None:
    break_off(made(name, store), tmp_path / "broken", epoch)
    run_id = Journal(tmp_path / "broken").run_id
    client = mlflow.MlflowClient(store)
    assert client.get_run(run_id).info.status == "KILLED"
    outcome = resume_experiment(tmp_path / "broken")
    assert outcome.run_id == run_id
    assert_same(tmp_path / "broken", whole(name))
    assert scalars(tmp_path / "broken") == scalars(whole(name))
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert "outcome" not in run.data.tags
    told = [m.step for m in client.get_metric_history(run_id, "train/loss")]
    assert told == list(range(1, len(figures(whole(name))) + 1))
    assert len(run.outputs.model_outputs) == 1


def test_damage_goes_back_a_checkpoint_and_tells_no_epoch_twice(
    tmp_path: Path,
    store: str,
    whole: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    break_off(made("plain", store), tmp_path / "broken", 4)
    path = tmp_path / "broken/checkpoints/epoch-000004.npz"
    path.write_bytes(path.read_bytes()[:-1000])
    outcome = resume_experiment(tmp_path / "broken")
    assert f"{path}: damaged" in caplog.text
    assert_same(tmp_path / "broken", whole("plain"))
    for name, steps in (("val/loss", 4), ("step/train_loss", 4 * 6)):  # 6 batches of 180 images
        history = mlflow.MlflowClient(store).get_metric_history(outcome.run_id, name)
        assert [m.step for m in history] == [*range(1, steps + 1)]


def test_a_run_that_broke_off_after_training_is_scored(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_exp.runs import figures

    def full(*_: object) -> None:
        raise OSError("figures: disk full")

    config = tiny(f"tracking.uri={store}", "report.formats=[png]")
    with monkeypatch.context() as patch:
        patch.setattr(figures, "write_figures", full)  # patched: a disk that is full from here on
        with pytest.raises(OSError, match="disk full"):
            run_experiment(config, folder=tmp_path / "run")
    outcome = resume_experiment(tmp_path / "run")
    assert (tmp_path / "run/figures/confusion_matrix.png").exists()
    run = mlflow.MlflowClient(store).get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == outcome.metrics["test/accuracy"]


def test_a_run_is_found_by_the_beginning_of_its_id_and_after_a_move(
    tmp_path: Path, store: str
) -> None:
    broken = tmp_path / "run"
    break_off(made("plain", store), broken, 2)
    run_id = Journal(broken).run_id
    broken.rename(tmp_path / "moved")
    where = store_config(uri=store)  # of another experiment
    assert find_resumable(run_id[:12], where).folder == str(broken)
    resume_experiment(tmp_path / "moved")
    assert find_resumable(run_id, where).folder == str(tmp_path / "moved")
    with pytest.raises(InputError, match=r"resume=zzzz: expected the folder of a run or the id"):
        find_resumable("zzzz", where)


def test_a_run_goes_on_in_the_store_it_began_in(
    broken: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/another.db")
    assert _with_store(tiny(), Journal(broken), broken).tracking.uri == store


def test_what_is_not_needed_to_go_on_may_be_gone(broken: Path) -> None:
    for name in ("overrides.txt", JOURNAL, "history.csv", "run.log"):
        (broken / name).unlink()
    assert resume_experiment(broken).run_id


def test_a_finished_run_gives_its_outcome(recorded: dict[str, RunResult]) -> None:
    known = recorded["dense128 seed=0"]
    outcome = resume_experiment(known.folder)
    assert outcome == known


def test_what_cannot_go_on_is_refused(tmp_path: Path, broken: Path) -> None:
    with pytest.raises(InputError, match=r"resume=.*: expected the folder of a run, with its conf"):
        resume_experiment(tmp_path)
    with run_lock(broken), pytest.raises(InputError, match="is still running"):
        resume_experiment(broken)
    text = (broken / "config.yaml").read_text()
    (broken / "config.yaml").write_text(text.replace("limit: 200", "limit: 210"))
    with pytest.raises(InputError, match=r"config\.yaml is not what the run began with"):
        resume_experiment(broken)


def test_a_store_that_cannot_be_used_is_refused_before_anything_is_trained(
    broken: Path, store: str
) -> None:
    for file in (broken / "config.yaml", broken / JOURNAL):
        file.write_text(file.read_text().replace(store, "http://127.0.0.1:9"))
    before = (broken / JOURNAL).read_bytes()
    with pytest.raises(InputError, match="this tracking store cannot be used"):
        resume_experiment(broken)
    assert (broken / JOURNAL).read_bytes() == before


def test_checkpoints_of_another_model_are_refused(broken: Path) -> None:
    (own,) = (broken / "checkpoints").iterdir()
    checkpoint = read(own)
    arrays = {"state": [np.zeros(3)], "best": []}
    with own.open("wb") as file:
        dump(replace(checkpoint, arrays=arrays), file)
    with pytest.raises(InputError, match="expected checkpoints of this run, got those of another"):
        resume_experiment(broken)


def test_a_run_does_not_go_on_with_other_data(broken: Path) -> None:
    change_tag(broken, "data.digest")
    with pytest.raises(InputError, match="began with other data than"):
        resume_experiment(broken)


def test_a_store_with_a_password_is_named_again_to_go_on(
    store: str, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (broken / "config.yaml", broken / JOURNAL):
        file.write_text(file.read_text().replace(store, "http://***@host"))
    with pytest.raises(InputError, match=r"password of http://\*\*\*@host is not recorded; set"):
        resume_experiment(broken)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert resume_experiment(broken).run_id


def test_a_package_that_has_changed_is_told_of(
    broken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_tag(broken, "fingerprint")
    resume_experiment(broken)
    assert "this package has changed since the run began" in caplog.text


def test_a_record_that_cannot_be_read_is_refused(broken: Path) -> None:
    (broken / JOURNAL).write_text("[]\n")
    with pytest.raises(InputError, match=r"record\.jsonl cannot be read"):
        resume_experiment(broken)


@pytest.mark.parametrize("text", [None, "[]", "{"])
def test_a_finished_run_without_its_outcome_is_refused(
    text: str | None, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    shutil.copytree(whole("plain"), tmp_path / "run")
    (tmp_path / "run/outcome.json").unlink()
    if text:
        (tmp_path / "run/outcome.json").write_text(text)
    with pytest.raises(InputError, match=r"finished, but outcome\.json cannot be read"):
        resume_experiment(tmp_path / "run")


def test_a_run_of_someone_else_is_refused(store: str) -> None:
    client = mlflow.MlflowClient(store)
    name = "of someone else"
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    run_id = client.create_run(number).info.run_id
    with pytest.raises(InputError, match="was not made by"):
        find_resumable(run_id, store_config(uri=store))


def planned(name: str, store: str, epochs: int) -> Config:
    """These settings with another number of epochs."""
    config = made(name, store)
    train = config.train.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"train": train})


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("plain", 3),
        *(pytest.param(name, 2, marks=pytest.mark.slow) for name in ("plateau", "averaged")),
    ],
)
def test_an_extended_run_is_the_one_planned_longer(
    name: str, before: int, tmp_path: Path, store: str, whole: Callable[[str], Path]
) -> None:
    longer, typed = whole(name), ["seed=0", f"train.epochs={before}"]
    origin = run_experiment(
        planned(name, store, before), folder=tmp_path / "origin", overrides=typed
    )
    record = (origin.folder / JOURNAL).read_bytes()
    extended = extend_experiment(origin.folder, 4, tmp_path / "extended")
    assert_same(extended.folder, longer)
    assert (origin.folder / JOURNAL).read_bytes() == record
    assert [path.name for path in (extended.folder / CHECKPOINTS).iterdir()] == ["epoch-000004.npz"]
    run = resolve_run(extended.run_id, store_config(uri=store))
    assert run.name.endswith("epochs=4 seed=0 extended")
    assert run.params["train.epochs"] == "4"
    assert (run.tags["extended_from"], run.tags["extended_after"]) == (origin.run_id, str(before))
    assert f"from run [{origin.run_id[:8]}](#/runs/{origin.run_id})" in run.tags[TITLE_TAG]
    history = mlflow.MlflowClient(store).get_metric_history(extended.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    (taken,) = finished_runs(made(name, store).tracking, [run.tags[FINGERPRINT_TAG]]).values()
    assert taken.run_id != extended.run_id  # by skip_finished: one planned longer


@pytest.mark.slow
def test_a_run_that_stopped_early_is_extended_from_its_last_weights(
    tmp_path: Path, store: str
) -> None:
    origin = run_experiment(made("early", store), folder=tmp_path / "origin")
    stopped = len(figures(origin.folder))
    assert stopped < 9
    extended = extend_experiment(origin.folder, 10, tmp_path / "extended")
    without = planned("early", store, stopped + 1)
    train = without.train.model_copy(update={"patience": None})
    run_experiment(without.model_copy(update={"train": train}), folder=tmp_path / "without")
    assert figures(extended.folder)[: stopped + 1] == figures(tmp_path / "without")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["schedule=cosine"], "schedule=cosine spreads the learning rate over all epochs"),
        (["schedule.warmup=0.1"], "schedule.warmup=0.1 is a share of all epochs"),
        (["augment=affine", "train.clean_epochs=1", "train.epochs=2"], "train.clean_epochs=1 leav"),
    ],
)
def test_a_run_that_depends_on_its_number_of_epochs_is_not_extended(
    overrides: list[str], reason: str, tmp_path: Path
) -> None:
    folder = RunFolder.claim(tmp_path / "run", tiny(*overrides)).path
    with pytest.raises(InputError, match=f"{reason}.*; begin a new run with train.epochs=5"):
        extend_experiment(folder, 5, tmp_path / "none")


def test_what_cannot_be_extended_is_refused(
    broken: Path, recorded: dict[str, RunResult], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="this one broke off; let it finish first, with resume="):
        extend_experiment(broken, 5, tmp_path / "none")
    folder = recorded["dense128 seed=0"].folder
    with pytest.raises(InputError, match=r"more epochs than .*=1 of the .*, got train\.epochs=1"):
        extend_experiment(folder, 1, tmp_path / "none")
    with pytest.raises(InputError, match=r"train\.epochs: expected a whole number, got 'many'"):
        extend_experiment(folder, "many", tmp_path / "none")
    (folder / CHECKPOINTS).rename(folder / "gone")
    try:
        with pytest.raises(InputError, match="an older version left none, or clean removed it"):
            extend_experiment(folder, 5, tmp_path / "none")
    finally:
        (folder / "gone").rename(folder / CHECKPOINTS)


def test_a_deleted_run_is_restored_by_resume_and_not_by_sync(broken: Path, store: str) -> None:
    client, run_id = mlflow.MlflowClient(store), Journal(broken).run_id
    client.delete_run(run_id)
    assert find_resumable(run_id[:12], store_config(uri=store)).run_id == run_id
    journal = (broken / JOURNAL).read_text().splitlines(keepends=True)
    (broken / JOURNAL).write_text("".join(journal[:-1]))  # its end is not published

    def stage() -> str:
        return str(client.get_run(run_id).info.lifecycle_stage)

    assert (sync(broken), stage()) == (BINNED, "deleted")
    assert (resume_experiment(broken).run_id, stage()) == (run_id, "active")
    client.delete_run(run_id)
    assert (resume_experiment(broken).run_id, stage()) == (run_id, "deleted")  # it is finished
    run = resolve_run(run_id, store_config(uri=store))
    taken = finished_runs(made("plain", store).tracking, [run.tags[FINGERPRINT_TAG]])
    assert run_id not in [other.run_id for other in taken.values()]  # nor by skip_finished
    assert (sync(broken, restore=True), stage()) == (PUBLISHED, "active")
    assert client.get_run(run_id).info.status == "FINISHED"
