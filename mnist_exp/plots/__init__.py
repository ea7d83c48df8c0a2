"""Numbers in, matplotlib `Figure` out: nothing is saved, and pyplot's global state is not used."""

from mnist_exp.plots.curves import learning_curves
from mnist_exp.plots.digits import digit_sheet, sample_predictions, worst_mistakes
from mnist_exp.plots.scores import confusion_matrix, reliability, score_title
from mnist_exp.plots.sweeps import by_value, importances, optimisation_history, parallel_coordinates

__all__ = [
    "by_value",
    "confusion_matrix",
    "digit_sheet",
    "importances",
    "learning_curves",
    "optimisation_history",
    "parallel_coordinates",
    "reliability",
    "sample_predictions",
    "score_title",
    "worst_mistakes",
]
