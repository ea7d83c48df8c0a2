"""Progress of training in a terminal, in a pipe and in TensorBoard; Keras' callbacks by name."""

import inspect
import io
import logging
from pathlib import Path

import keras
import pytest
from rich.console import Console
from support import scalars, tiny

from mnist_exp.config.callbacks import PlateauConfig
from mnist_exp.experiment import run_experiment
from mnist_exp.runs.folder import RunFolder
from mnist_exp.training.callbacks import EpochBar, epoch_line

ROW = {
    "train/loss": 0.15765,
    "train/accuracy": 0.95189,
    "val/loss": 0.04594,
    "val/accuracy": 0.9885,
    "train/epoch_seconds": 2.0,
}


def test_one_line_per_epoch() -> None:
    line = epoch_line(1, 10, ROW, images=54_000)
    assert line == (
        "epoch  1/10  loss 0.1577  accuracy 95.19%  val 0.0459  98.85%  2.0 s  27,000 images/s"
    )
    without = {name: value for name, value in ROW.items() if not name.startswith("val/")}
    assert "val" not in epoch_line(1, 10, without, images=54_000)


def test_a_terminal_gets_a_bar_and_every_output_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for is_terminal in (True, False):
        output = io.StringIO()
        screen = Console(file=output, force_terminal=is_terminal, width=120)
        bar = EpochBar(images=100, screen=screen)
        with bar.bar:
            bar.set_params({"epochs": 2, "steps": 4})
            bar.on_train_begin()
            bar.on_epoch_begin(1)
            bar.on_train_batch_end(1, {"loss": 0.5, "accuracy": 0.75})
            bar.bar.refresh()
            bar.on_epoch_end(1, ROW)
        for part in ("epoch 2/2", "loss 0.5000", "accuracy 75.00%", "images/s"):
            assert (part in output.getvalue()) == is_terminal
    assert [record.message[:9] for record in caplog.records] == ["epoch 2/2"] * 2


def test_tensorboard_shows_what_is_recorded_and_a_plateau_lowers_the_learning_rate(
    tmp_path: Path,
) -> None:
    plateau = ["name=ReduceLROnPlateau", "monitor=val/accuracy", "patience=1", "min_delta=1"]
    settings = ["train.epochs=3", "tracking.enabled=false", *(f"callbacks.a.{p}" for p in plateau)]
    result = run_experiment(tiny("callbacks=tensorboard", *settings), folder=tmp_path / "run")
    folder = RunFolder(result.folder)
    rows = [*enumerate(folder.history(), 1), *((int(row["step"]), row) for row in folder.curve())]
    rates = [row["train/learning_rate"] for row in folder.history()]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4])
    rows.append((0, {k: v for k, v in folder.metrics().items() if k not in folder.history()[-1]}))
    recorded = {
        (name, step): value
        for step, row in rows
        for name, value in row.items()
        if "/" in name and "second" not in name
    }
    found = scalars(result.folder)
    assert found == pytest.approx(recorded)
    assert {("test/accuracy", 0), ("val/loss", 2), ("step/train_loss", 6)} <= found.keys()


def test_the_settings_of_reduce_on_plateau_are_keras_own() -> None:
    theirs = inspect.signature(keras.callbacks.ReduceLROnPlateau).parameters
    ours = {k: f.default for k, f in PlateauConfig.model_fields.items() if k != "name"}
    assert ours.pop("monitor").replace("/", "_") == theirs["monitor"].default
    assert ours == {name: theirs[name].default for name in ours}
