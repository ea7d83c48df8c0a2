"""A trained model's scores: its predictions of test and validation images, its calibration."""

import logging
from dataclasses import dataclass
from typing import Any

from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.calibration import Calibration, fit_calibration
from mnist_exp.evaluation.metrics import Evaluation, Output, from_scores
from mnist_exp.runs.run import ECE_CALIBRATED

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
