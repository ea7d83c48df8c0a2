"""Progress of training as the user sees it, in a terminal and in a pipe."""

import io
import logging

import pytest
from rich.console import Console

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
