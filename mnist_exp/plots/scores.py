"""Confusion matrix, reliability diagram and the title with the test accuracy."""

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mnist_exp.plots.base import (
    BLUE,
    GREY,
    INK,
    PALE,
    VERMILLION,
    Array,
    axes_at,
    blend,
    new_figure,
    percent,
    text_at,
)

FEW = 30  # images of a bin; the accuracy of fewer is mostly chance


def score_title(model: str, data: str, accuracy: float, low: float, high: float, n: int) -> str:
    """'dense128 on MNIST: 97.83 % of 10,000 test images (95 % interval 97.53-98.10)'."""
    return (
        f"{model} on {data}: {100 * accuracy:.2f} % of {n:,} test images "
        f"(95 % interval {100 * low:.2f}-{100 * high:.2f})"
    )


def confusion_matrix(confusion: Array, title: str) -> Figure:
    """Counts of true digit (row) against predicted digit (column), errors shaded by row share.

    The diagonal has one flat colour: on a common scale it would hide the errors.
    """
    totals = confusion.sum(axis=1)
    shares = confusion / np.maximum(totals, 1)[:, None]
    errors = np.where(np.eye(len(confusion), dtype=bool), 0, shares)
    darkest = float(errors.max())
    shade = blend(errors / darkest if darkest else errors, "#FFFFFF", VERMILLION)
    shade[np.eye(len(confusion), dtype=bool)] = to_rgb("#D3E7F3")
    note = f"Errors, orange, are shaded by their share of the row, at most {percent(darkest)}."
    figure = new_figure(8.4, 6.9, title, f"Confusion matrix. {note if darkest else 'No errors.'}")
    axes = axes_at(figure, 0.8, 0.1, 6.6, 6.2)
    axes.imshow(shade, aspect="auto")
    for (row, column), count in np.ndenumerate(confusion):
        bold = row == column or errors[row, column] > 0.6 * darkest
        axes.text(
            column, row, f"{count:,}", ha="center", va="center", fontsize=10,
            color=INK if count else PALE, fontweight="bold" if bold and count else "normal",
        )  # fmt: skip
    for digit, total in enumerate(totals):
        recall = percent(shares[digit, digit]) if total else "none"
        axes.text(9.62, digit, recall, va="center", fontsize=9, color=GREY)
    axes.text(9.62, -0.75, "recall", va="center", fontsize=9, color=GREY)
    axes.set(xticks=range(10), yticks=range(10))
    axes.xaxis.set(label_position="top", ticks_position="top")
    axes.set_xlabel("predicted digit", fontsize=10, color=INK)
    axes.set_ylabel("true digit", fontsize=10, color=INK)
    return figure


def reliability(
    bin_confidence: Array,
    bin_accuracy: Array,
    bin_counts: Array,
    bin_low: Array,
    bin_high: Array,
    ece: float,
    title: str,
    *,
    smoothing: float = 0.0,
    calibrated: tuple[Array, Array, Array, float] | None = None,
) -> Figure:
    """Reliability diagram: accuracy against confidence per bin, above the images per bin.

    `bin_low` and `bin_high` are the accuracy's 95 % interval; `smoothing` is that of the labels;
    `calibrated` are counts, confidence, accuracy and ECE at the run's temperature.
    """
    note = f"Reliability. Calibration error (ECE) {ece:.4f} over {len(bin_counts)} bins"
    if calibrated:
        note += f", {calibrated[3]:.4f} once calibrated by the run's temperature"
    note += "; shaded: the 95 % interval of the accuracy."
    if smoothing:
        note += (
            f" In training {smoothing:g} of each label was spread over all digits, which makes "
            "the model say less than it knows."
        )
    figure = new_figure(8.4, 6.6, title, note)
    upper, lower = axes_at(figure, 0.8, 2.3, 7.3, 4.2), axes_at(figure, 0.8, 0.55, 7.3, 1.45)
    filled = np.flatnonzero(bin_counts)
    middles, width = (filled + 0.5) / len(bin_counts), 0.9 / len(bin_counts)
    columns = bin_confidence, bin_accuracy, bin_counts, bin_low, bin_high
    confidence, accuracy, counts, low, high = (np.asarray(each)[filled] for each in columns)
    upper.bar(middles, accuracy, width, color=BLUE, alpha=0.15)
    boxes = [
        [(x - width / 2, a), (x + width / 2, a), (x + width / 2, b), (x - width / 2, b)]
        for x, a, b in zip(middles, low, high, strict=True)
    ]
    upper.add_collection(PolyCollection(boxes, facecolors=BLUE, alpha=0.3, label="95 % interval"))
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfect calibration")
    gaps = [((x, x), (x, y)) for x, y in zip(confidence, accuracy, strict=True)]
    upper.add_collection(LineCollection(gaps, colors=VERMILLION, label="gap"))
    style: dict[str, Any] = {"markersize": 5, "clip_on": False, "zorder": 3}
    upper.plot(confidence, accuracy, "o", color=VERMILLION, label="accuracy", **style)
    if calibrated:
        points = np.array(calibrated[1:3])[:, calibrated[0] >= FEW]
        style |= {"markerfacecolor": "none", "label": f"calibrated (bins of {FEW} or more)"}
        upper.plot(*points, "o", color=INK, **style)
    upper.set(xlim=(0, 1), ylim=(0, 1.13), yticks=np.arange(0, 1.1, 0.2), xticklabels=[])
    upper.set_ylabel("accuracy", fontsize=9, color=INK)
    upper.legend(fontsize=9, frameon=False, loc="upper center", ncols=5, columnspacing=1.2)
    lower.bar(middles, counts, width, color=GREY)
    for middle, count in zip(middles, counts, strict=True):
        text_at(lower, middle, 1.25 * count, f"{count:,}", size=8, ha="center", va="bottom")
    lower.set(xlim=(0, 1), yscale="log", ylim=(0.7, 5 * counts.max()))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.set_ylabel("images (log)", fontsize=9, color=INK)
    lower.set_xlabel("confidence: the probability of the predicted digit", fontsize=9, color=INK)
    return figure
