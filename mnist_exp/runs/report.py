"""What a run found, written into its folder: metrics, predictions, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_exp import plots
from mnist_exp.config.schema import Config
from mnist_exp.core.console import quiet_stderr
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.runs.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Report:
    """What the figures of a run show."""

    title: str
    config: Config
    data: Dataset
    history: Sequence[Mapping[str, float]]  # a row per epoch
    curve: Sequence[Mapping[str, float]]  # points within epochs
    evaluation: Evaluation
    kept: int | None = None  # the epoch whose weights early stopping kept
    temperature: float = 1.0  # of the calibration


def write_report(
    folder: RunFolder, report: Report, summary: str, metrics: Mapping[str, float]
) -> None:
    """Fill the run folder with metrics, model summary, predictions, tables and figures."""
    folder.write_metrics(metrics)
    folder.write_summary(summary)
    folder.write_evaluation(report.evaluation)
    write_tables(folder, report.evaluation)
    write_figures(folder.figures, report)


def write_tables(folder: RunFolder, evaluation: Evaluation) -> None:
    """Write per_class.csv, confusion.csv and most_confused.csv."""
    classes = [vars(scores) for scores in evaluation.per_class()]
    folder.write_table("per_class", list(classes[0]), [list(row.values()) for row in classes])
    header = ["true", *(f"predicted_{digit}" for digit in range(10))]
    counts = [[digit, *row] for digit, row in enumerate(evaluation.confusion.tolist())]
    folder.write_table("confusion", header, counts)
    pairs = evaluation.most_confused()
    folder.write_table("most_confused", ["true", "predicted", "count"], pairs)


def write_figures(folder: Path, report: Report) -> None:
    """Write every figure of the run."""
    config, data, evaluation = report.config, report.data, report.evaluation
    if not config.report.formats:
        return
    title, images, worst = report.title, data.test_images, evaluation.worst_mistakes()
    train = f"{data.label}: {len(data.train_labels):,} training images"
    seen = data.train_images
    if config.augment.name != "none":
        train += ", as the first epoch saw them"
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            from mnist_exp.training.augmentation import augment

            seen = np.asarray(augment(config.augment, [config.seed, 0, 1], seen))
    bins, calibrated = evaluation.reliability, None
    if report.temperature != 1:
        after = evaluation.at_temperature(report.temperature)
        calibrated = (*after.reliability[:3], after.ece)
    figures = {
        "learning_curves": plots.learning_curves(report.history, title, report.kept, report.curve),
        "confusion_matrix": plots.confusion_matrix(evaluation.confusion, title),
        "sample_predictions": plots.sample_predictions(
            images, evaluation.labels, evaluation.probabilities, title
        ),
        "worst_mistakes": plots.worst_mistakes(
            images, evaluation.labels, evaluation.predictions, evaluation.confidence, worst, title
        ),
        "reliability": plots.reliability(
            bins.confidence,
            bins.accuracy,
            bins.counts,
            bins.low,
            bins.high,
            evaluation.ece,
            title,
            smoothing=config.train.label_smoothing,
            calibrated=calibrated,
        ),
        "training_digits": plots.digit_sheet(seen, data.train_labels, train),
    }
    plots.save(figures, folder, config.report.formats)
