"""Every plot: numbers in, a matplotlib `Figure` out, which `save` writes; without pyplot."""

from matplotlib.figure import Figure

from mnist_exp.plots.base import draw, save
from mnist_exp.plots.comparison import accuracies, agreement, overlaid_curves, trade_off
from mnist_exp.plots.digits import (
    corruption_sheet,
    digit_sheet,
    preprocessed_pictures,
    sample_predictions,
    worst_mistakes,
)
from mnist_exp.plots.points import Dimension, Trial
from mnist_exp.plots.runs import confusion_matrix, learning_curves, reliability, score_title
from mnist_exp.plots.search import importances, optimisation_history, parallel_coordinates
from mnist_exp.plots.sweeps import by_value

__all__ = [
    "Dimension", "Figure", "Trial", "accuracies", "agreement", "by_value", "confusion_matrix",
    "corruption_sheet", "digit_sheet", "draw", "importances", "learning_curves",
    "optimisation_history", "overlaid_curves", "parallel_coordinates", "preprocessed_pictures",
    "reliability", "sample_predictions", "save", "score_title", "trade_off", "worst_mistakes",
]  # fmt: skip
