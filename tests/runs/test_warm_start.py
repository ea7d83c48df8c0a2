"""A run that begins with the weights of another: which are taken, recorded, and found again."""

import logging
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.callbacks import LambdaCallback
from support import tiny

from mnist_exp.config.compose import PINNED, compose, fingerprint_values, params
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError
from mnist_exp.experiment import run_experiment
from mnist_exp.resume import resume_experiment
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.runs.names import short_value
from mnist_exp.runs.warm_start import pinned

Recorded = dict[str, RunResult]
NAME = "dense128 seed=0"
OTHER_HEAD = ["model.units=[128,64]", "train.freeze=[dense]"]


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "model.keras").get_weights()


def started(recorded: Recorded, *overrides: str) -> Config:
    uri = f"tracking.uri=sqlite:///{recorded[NAME].folder.parent / 'mlflow.db'}"
    return tiny(f"start_from={recorded[NAME].run_id}", "seed=3", uri, *overrides)


def test_what_fits_is_taken_and_told_and_frozen_layers_stay(
    recorded: Recorded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = started(recorded, *OTHER_HEAD, "optimizer=adamw", "optimizer.weight_decay=0.1")
    result = run_experiment(config, folder=tmp_path / "run")
    told = (
        f"start_from={recorded[NAME].run_id}: took the weights of 1 of 3 layers, not dense_1 "
        "(128, 64) (64,) (there (128, 128) (128,)), scores (64, 10) (10,) (there (128, 10) (10,))"
    )
    assert caplog.messages.count(told) == 1
    assert told in (result.folder / "run.log").read_text()
    before, after = weights(recorded[NAME].folder), weights(result.folder)
    for old, new in zip(before[:2], after[:2], strict=True):
        assert np.array_equal(old, new)
    recorded_as = str(RunFolder(result.folder).config().start_from)
    assert recorded_as.startswith(f"{recorded[NAME].run_id}{PINNED}")


@pytest.mark.slow
def test_a_run_that_broke_off_is_resumed_to_the_same_bits(
    recorded: Recorded, tmp_path: Path
) -> None:
    config = started(recorded, "train.epochs=2", "train.freeze=[dense]")

    def interrupt(epoch: int, logs: object) -> None:
        raise KeyboardInterrupt

    for number, hook in enumerate(("on_train_begin", "on_epoch_end")):
        callback = LambdaCallback()
        setattr(callback, hook, lambda *_: interrupt(0, None))
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, folder=tmp_path / str(number), callbacks=[callback])
    whole = weights(run_experiment(config, folder=tmp_path / "whole").folder)
    for number in (0, 1):
        resumed = weights(resume_experiment(tmp_path / str(number)).folder)
        assert all(map(np.array_equal, resumed, whole))
    assert not np.array_equal(whole[2], weights(recorded[NAME].folder)[2])


def test_it_is_known_by_the_digest_of_its_weights(recorded: Recorded, tmp_path: Path) -> None:
    run = pinned(started(recorded))
    file = tmp_path / "copy.keras"
    file.write_bytes((recorded[NAME].folder / "model.keras").read_bytes())
    copy, bare = started(recorded).model_copy(update={"start_from": str(file)}), tiny()
    assert fingerprint_values(pinned(copy)) == fingerprint_values(run)
    assert fingerprint_values(run)["start_from"] == str(run.start_from)[-16:]
    assert pinned(run) == run
    assert not {"start_from", "train.freeze"} & params(bare).keys()
    assert short_value(str(run.start_from)) == str(recorded[NAME].run_id)[:8]
    recorded_copy = pinned(copy)
    file.write_bytes((recorded["dense128 seed=1"].folder / "model.keras").read_bytes())
    with pytest.raises(InputError, match=r"copy\.keras: its weights are not those that were rec"):
        pinned(recorded_copy)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("start_from=nosuch", "start_from=nosuch: no run of experiment mnist has this id or name"),
        ("start_from=gone.keras", "start_from=gone.keras: there is no such file; mend the path"),
        ("train.freeze=[conv*]", "train.freeze: no layer conv* with weights; there are dense, "),
        ("train.freeze=[dens]", "train.freeze: no layer dens with weights (did you mean dense?)"),
        ("train.freeze=['*']", "train.freeze: no layer is left to train of dense, dense_1, scores"),
        (
            "model=sigmoid100",
            "none of its layers has the name and shapes of one here: dense (784, 100) (100,) (ther",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_is_begun(
    recorded: Recorded, workplace: Path, override: str, sentence: str
) -> None:
    chosen = compose(["data=mnist5k", override])
    changed = {"start_from": chosen.start_from} if "start" in override else {"model": chosen.model}
    config = started(recorded).model_copy(update=changed)
    with pytest.raises(InputError) as refused:
        run_experiment(config.model_copy(update={"train": chosen.train}), folder=workplace / "run")
    assert sentence in str(refused.value)
    assert not (workplace / "run").exists()


def test_a_sweep_wants_the_id_of_the_best_run(recorded: Recorded) -> None:
    config = started(recorded).model_copy(update={"start_from": "best"})
    with pytest.raises(InputError, match=r"best: each job .* it is now, start_from=\w{8}$"):
        pinned(config, in_sweep=True)
    assert pinned(config).start_from


@pytest.mark.parametrize("reference", ["12345678", "00123456", "1234e567", "a b~.keras"])
def test_an_id_that_reads_as_a_number_stays_what_it_is(reference: str) -> None:
    assert compose([f"start_from={reference}"]).start_from == reference
