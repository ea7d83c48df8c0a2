"""What a run found, written into its folder: metrics, predictions, tables and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mnist_exp import plots
from mnist_exp.config.schema import Config
from mnist_exp.core.console import quiet_stderr
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.runs.folder import RunFolder


def write_report(
    folder: RunFolder,
    title: str,
    summary: str,
    data: Dataset,
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    metrics: Mapping[str, float],
    kept: int | None,
    config: Config,
    temperature: float,
) -> None:
    """Fill the run folder with metrics, model summary, predictions, tables and figures.

    `history` has a row per epoch; `kept` is the epoch whose weights early stopping kept;
    `temperature` is that of the calibration, 1 without one.
    """
    folder.write_metrics(metrics)
    folder.write_summary(summary)
    folder.write_evaluation(evaluation)
    write_tables(folder, evaluation)
    curve = folder.curve()
    write_figures(
        folder.figures, title, data, history, curve, evaluation, kept, config, temperature
    )


def write_tables(folder: RunFolder, evaluation: Evaluation) -> None:
    """Write per_class.csv, confusion.csv and most_confused.csv."""
    classes = [vars(scores) for scores in evaluation.per_class()]
    folder.write_table("per_class", list(classes[0]), [list(row.values()) for row in classes])
    header = ["true", *(f"predicted_{digit}" for digit in range(10))]
    counts = [[digit, *row] for digit, row in enumerate(evaluation.confusion.tolist())]
    folder.write_table("confusion", header, counts)
    pairs = evaluation.most_confused()
    folder.write_table("most_confused", ["true", "predicted", "count"], pairs)


def write_figures(
    folder: Path,
    title: str,
    data: Dataset,
    history: Sequence[Mapping[str, float]],
    curve: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    kept: int | None,
    config: Config,
    temperature: float = 1.0,
) -> None:
    """Write every figure of the run; arguments as of `write_report`."""
    if not config.report.formats:
        return
    images, worst = data.test_images, evaluation.worst_mistakes()
    train = f"{data.label}: {len(data.train_labels):,} training images"
    seen = data.train_images
    if config.augment.name != "none":
        train += ", as the first epoch saw them"
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            from mnist_exp.training.augmentation import augment

            seen = np.asarray(augment(config.augment, [config.seed, 0, 1], seen))
    bins, calibrated = evaluation.reliability, None
    if temperature != 1:
        after = evaluation.at_temperature(temperature)
        calibrated = (*after.reliability[:3], after.ece)
    figures = {
        "learning_curves": plots.learning_curves(history, curve, title, kept),
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
