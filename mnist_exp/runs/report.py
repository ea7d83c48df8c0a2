"""What a run found: its scores, and its folder filled with predictions, tables and models."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.config.parts import Part, call_part
from mnist_exp.config.schema import Config, MetricConfig
from mnist_exp.core import layout
from mnist_exp.core.classes import noun
from mnist_exp.core.console import only_warned_of
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.calibration import Calibration, fit_calibration
from mnist_exp.evaluation.metrics import ClassScore, Evaluation, Output, from_scores
from mnist_exp.runs.folder import RunFolder
from mnist_exp.runs.run import ECE_CALIBRATED
from mnist_exp.tracking.tracker import RunTracker

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from mnist_exp.training.epoch import EpochLoop
    from mnist_exp.training.step_curve import StepCurve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """What a trained model predicts, and the metrics of it."""

    test: Evaluation
    validation: Evaluation | None  # None without validation images
    calibration: Calibration | None
    metrics: dict[str, float]

    @property
    def temperature(self) -> float:
        """The temperature that calibrates the model; 1 without a calibration."""
        return self.calibration.temperature if self.calibration else 1.0


def epoch_recorder(
    folder: RunFolder,
    tracker: RunTracker,
    curve: "StepCurve",
    rows: Sequence[Mapping[str, float]],
) -> "Callback":
    """A Keras callback that records each epoch, after the `rows` of a run that is resumed."""
    from keras.callbacks import LambdaCallback

    folder.write_history(rows)
    folder.write_curve(curve.rows)
    tracker.log_curve(curve.rows)  # as far as it was not before the run broke off
    for epoch, row in enumerate(rows, 1):
        tracker.log_metrics(row, epoch)

    def record(epoch: int, logs: Mapping[str, float]) -> None:
        folder.append_epoch(epoch, logs)
        folder.write_curve(curve.rows)
        tracker.log_curve(curve.rows)
        tracker.log_metrics({k: v for k, v in logs.items() if "/" in k}, epoch + 1)

    return LambdaCallback(on_epoch_end=record)


def score(model: Any, data: Dataset, output: Output) -> Scores:
    """The scores of the model on test and validation images."""
    from mnist_exp.models.forward import batched_scores, cached_forward, timed_scores

    scores, images_per_second = timed_scores(model, data.test_images)
    test, validation, calibration = from_scores(data.test_labels, scores, output), None, None
    metrics = test.metrics()
    if len(data.validation_labels):
        scores = batched_scores(cached_forward(model), data.validation_images)
        validation = from_scores(data.validation_labels, scores, output)
        calibration = fit_calibration(validation)
    if calibration:
        after = test.at_temperature(calibration.temperature)
        metrics |= {ECE_CALIBRATED: after.ece, "test/loss_calibrated": after.loss}
        logger.info(
            f"calibrated on {calibration.images:,} validation images, temperature "
            f"{calibration.temperature:.3g}: test ECE {test.ece:.4f} -> {after.ece:.4f}, "
            f"loss {test.loss:.4f} -> {after.loss:.4f}"
        )
    metrics["model/parameters"] = model.count_params()
    metrics["model/bytes"] = sum(weights.nbytes for weights in model.get_weights())
    metrics["model/images_per_second"] = images_per_second
    return Scores(test, validation, calibration, metrics)


def own_metrics(metrics: Mapping[str, MetricConfig], test: Evaluation) -> dict[str, float]:
    """The user's own metrics of the test images, as test/<name>; one that fails is a warning."""
    found = {}
    for name, config in metrics.items():
        part = Part(f"metrics.{name}.build", config.build, config.args)
        with only_warned_of(f"test/{name} is missing"):
            found[f"test/{name}"] = float(call_part(part, test.labels, test.probabilities))
    return found


def write_report(
    folder: RunFolder,
    evaluation: Evaluation,
    classes: Sequence[str],
    summary: str,
    metrics: Mapping[str, float],
) -> None:
    """Fill the run folder with metrics, model summary, predictions and tables."""
    folder.write_metrics(metrics)
    folder.write_summary(summary)
    folder.write_evaluation(evaluation)
    write_tables(folder, evaluation, classes)


def write_tables(folder: RunFolder, evaluation: Evaluation, classes: Sequence[str]) -> None:
    """Write per_class.csv, confusion.csv and most_confused.csv."""
    scores = [(classes[score.label], *score[1:]) for score in evaluation.per_class()]
    folder.write_table("per_class", [noun(classes), *ClassScore._fields[1:]], scores)
    header = ["true", *(f"predicted_{name}" for name in classes)]
    counts = zip(classes, evaluation.confusion.tolist(), strict=True)
    folder.write_table("confusion", header, [[name, *row] for name, row in counts])
    pairs = [(classes[a], classes[b], count) for a, b, count in evaluation.most_confused()]
    folder.write_table("most_confused", ["true", "predicted", "count"], pairs)


def save_models(loop: "EpochLoop", config: Config, folder: RunFolder) -> str:
    """Save the trained model in every form asked for; the name of the one to log."""
    from mnist_exp.models.convert import to_stock_keras
    from mnist_exp.models.io import save_model
    from mnist_exp.training.optimizers import with_optimizer_state

    model = with_optimizer_state(to_stock_keras(loop.model), loop.optimizer, config.train.loss)
    names = [*config.save_as]
    if all(not Path(name).suffix for name in names):
        names.append(layout.MODEL)
    for name in names:
        save_model(model, folder.path / name)
    return next(name for name in names if Path(name).suffix)


def save_interrupted(model: Any, folder: RunFolder) -> None:
    """Save the weights so far; a failure is a warning, since another error is being raised."""
    from mnist_exp.models.convert import to_stock_keras
    from mnist_exp.models.io import save_model

    path = folder.path / layout.INTERRUPTED_MODEL
    try:
        save_model(to_stock_keras(model), path)
    except Exception as error:
        logger.warning(f"{path}: the weights so far could not be saved ({error})")
