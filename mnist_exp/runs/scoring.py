"""A trained model's scores: its predictions of the test images, and its calibration."""

import logging
from typing import Any

from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.calibration import Calibration, fit_calibration
from mnist_exp.evaluation.metrics import Evaluation, Output, from_scores
from mnist_exp.runs.run import ECE_CALIBRATED

logger = logging.getLogger(__name__)


def score(
    model: Any, data: Dataset, output: Output
) -> tuple[Evaluation, Calibration | None, dict[str, float]]:
    """The evaluation on the test images, the calibration by the validation images, the metrics."""
    from mnist_exp.models.forward import batched_scores, cached_forward, timed_scores

    scores, images_per_second = timed_scores(model, data.test_images)
    evaluation, calibration = from_scores(data.test_labels, scores, output), None
    metrics = evaluation.metrics()
    if len(data.validation_labels):
        scores = batched_scores(cached_forward(model), data.validation_images)
        calibration = fit_calibration(from_scores(data.validation_labels, scores, output))
    if calibration:
        after = evaluation.at_temperature(calibration.temperature)
        metrics |= {ECE_CALIBRATED: after.ece, "test/loss_calibrated": after.loss}
        logger.info(
            f"calibrated on {calibration.images:,} validation images, temperature "
            f"{calibration.temperature:.3g}: test ECE {evaluation.ece:.4f} -> {after.ece:.4f}, "
            f"loss {evaluation.loss:.4f} -> {after.loss:.4f}"
        )
    metrics["model/parameters"] = model.count_params()
    metrics["model/bytes"] = sum(weights.nbytes for weights in model.get_weights())
    metrics["model/images_per_second"] = images_per_second
    return evaluation, calibration, metrics
