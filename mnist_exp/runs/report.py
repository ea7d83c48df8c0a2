"""Writes what a run found into its folder: figures, tables, predictions."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp import plots
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import Evaluation

METRICS = "metrics.json"
PREDICTIONS = "predictions.npz"
SUMMARY = "summary.txt"


def write(
    folder: Path,
    title: str,
    summary: str,
    data: Dataset,
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    metrics: Mapping[str, float],
    kept: int | None,
) -> None:
    """Fills the run folder: metrics, model summary, predictions, tables and figures.

    `history` has a row per epoch; `kept` is the epoch whose weights early stopping kept.
    """
    (folder / METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n")
    (folder / SUMMARY).write_text(summary)
    np.savez_compressed(
        folder / PREDICTIONS, labels=evaluation.labels, probabilities=evaluation.probabilities
    )
    write_tables(folder / "tables", evaluation)
    write_figures(folder / "figures", title, data, history, evaluation, kept)


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
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    kept: int | None,
) -> None:
    """Every figure of the run as a PNG; arguments as of `write`."""
    folder.mkdir(parents=True, exist_ok=True)
    images, said = data.test_images, evaluation
    worst = said.worst_mistakes()
    train = f"{data.label}: {len(data.train_labels):,} training images"
    for name, figure in {
        "learning_curves": plots.learning_curves(history, title, kept),
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
