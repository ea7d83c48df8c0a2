"""Writes what a run found into its folder: figures, tables, predictions, models."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mnist_exp import models, plots
from mnist_exp.data import Dataset
from mnist_exp.evaluation import Evaluation
from mnist_exp.training import History

HISTORY = "history.csv"
METRICS = "metrics.json"
PREDICTIONS = "predictions.npz"
SUMMARY = "summary.txt"
EPOCH_COLUMNS = (
    "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy",
    "train/learning_rate", "train/epoch_seconds",
)  # fmt: skip


class EpochFile(keras.callbacks.Callback):
    """Adds each epoch to history.csv as it ends, so that it is kept whatever comes next."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / HISTORY
        _write_csv(self.path, EPOCH_COLUMNS, [])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Appends the epoch's row."""
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, EPOCH_COLUMNS, extrasaction="ignore")
            writer.writerow({"epoch": epoch + 1, **(logs or {})})


def save_models(folder: Path, model: keras.Model, names: Sequence[str]) -> None:
    """Saves the model under each name; the suffix is the format, none a SavedModel folder."""
    from absl import logging as absl

    for name in names:
        path = folder / name
        if path.suffix:
            with_advice = absl.get_verbosity()
            absl.set_verbosity(absl.ERROR)  # Keras advises against .h5; the user asked for it
            model.save(path)
            absl.set_verbosity(with_advice)
        else:
            pixels = keras.InputSpec("uint8", (None, 28, 28), name=models.PIXELS)
            model.export(path, verbose=False, input_signature=[pixels])


def write(
    folder: Path,
    title: str,
    model: keras.Model,
    data: Dataset,
    history: History,
    evaluation: Evaluation,
    metrics: Mapping[str, float],
) -> None:
    """Fills the run folder: metrics, model summary, predictions, tables and figures."""
    (folder / METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n")
    (folder / SUMMARY).write_text(models.summary(model))
    np.savez_compressed(
        folder / PREDICTIONS, labels=evaluation.labels, probabilities=evaluation.probabilities
    )
    write_tables(folder / "tables", evaluation)
    write_figures(folder / "figures", title, data, history, evaluation)


def write_tables(folder: Path, evaluation: Evaluation) -> None:
    """per_class.csv, confusion.csv and most_confused.csv."""
    folder.mkdir(exist_ok=True)
    rows = [vars(row) for row in evaluation.per_class()]
    _write_csv(folder / "per_class.csv", list(rows[0]), [list(row.values()) for row in rows])
    header = ["true", *(f"predicted_{digit}" for digit in range(10))]
    counts = [[digit, *row] for digit, row in enumerate(evaluation.confusion.tolist())]
    _write_csv(folder / "confusion.csv", header, counts)
    pairs = evaluation.most_confused()
    _write_csv(folder / "most_confused.csv", ["true", "predicted", "count"], pairs)


def write_figures(
    folder: Path,
    title: str,
    data: Dataset,
    history: History,
    evaluation: Evaluation,
) -> None:
    """Every figure of the run as a PNG."""
    folder.mkdir(exist_ok=True)
    images, said = data.test_images, evaluation
    worst = said.worst_mistakes()
    train = f"{data.label}: {len(data.train_labels):,} training images"
    for name, figure in {
        "learning_curves": plots.learning_curves(history.epochs, title, history.best_epoch),
        "confusion_matrix": plots.confusion_matrix(said.confusion, title),
        "sample_predictions": plots.sample_predictions(
            images, said.labels, said.probabilities, title
        ),
        "worst_mistakes": plots.worst_mistakes(
            images, said.labels, said.predictions, said.confidence, worst, title
        ),
        "reliability": plots.reliability(
            said.reliability.confidence,
            said.reliability.accuracy,
            said.reliability.counts,
            said.ece,
            title,
        ),
        "training_digits": plots.digit_sheet(data.train_images, data.train_labels, train),
    }.items():
        figure.savefig(folder / f"{name}.png")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
