"""A trained model's scores: its predictions of the test images, and its calibration."""

import logging
from typing import TYPE_CHECKING

from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.calibration import Calibration, fit_calibration
from mnist_exp.evaluation.metrics import (
    ECE_CALIBRATED,
    LOSS_CALIBRATED,
    Evaluation,
    Output,
    from_scores,
)

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def score(
    model: "keras.Model", data: Dataset, output: Output
) -> tuple[Evaluation, Calibration | None, dict[str, float]]:
    """The evaluation on the test images, the calibration by the validation images, the metrics."""
    from mnist_exp.models.forward import timed_scores

    scores, images_per_second = timed_scores(model, data.test_images)
    evaluation = from_scores(data.test_labels, scores, output)
    metrics = evaluation.metrics()
    calibration = calibrate(model, data, output)
    if calibration:
        after = evaluation.at_temperature(calibration.temperature)
        metrics |= {ECE_CALIBRATED: after.ece, LOSS_CALIBRATED: after.loss}
        logger.info(
            f"calibrated on {calibration.images:,} validation images, temperature "
            f"{calibration.temperature:.3g}: test ECE {evaluation.ece:.4f} -> {after.ece:.4f}, "
            f"loss {evaluation.loss:.4f} -> {after.loss:.4f}"
        )
    metrics["model/parameters"] = model.count_params()
    metrics["model/bytes"] = sum(weights.nbytes for weights in model.get_weights())
    metrics["model/images_per_second"] = images_per_second
    return evaluation, calibration, metrics


def calibrate(model: "keras.Model", data: Dataset, output: Output) -> Calibration | None:
    """The calibration by the validation images; None without any, or with too few wrong answers."""
    from mnist_exp.models.forward import cached_scores

    labels = data.validation_labels
    if not len(labels):
        return None
    scores = cached_scores(model, data.validation_images)
    return fit_calibration(from_scores(labels, scores, output))
