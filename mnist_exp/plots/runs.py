"""Figures of one run: learning curves, confusion matrix, reliability diagram."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnist_exp.core.classes import DIGITS, noun, shorten
from mnist_exp.plots import base
from mnist_exp.plots.base import BLUE, GREY, INK, PALE, VERMILLION, Array, in_own_style


@in_own_style
def learning_curves(
    history: Sequence[Mapping[str, float]],
    title: str,
    kept: int | None = None,
    steps: Sequence[Mapping[str, float]] = (),
) -> Figure:
    """Loss and accuracy per epoch, training against validation, with the kept epoch marked.

    `kept` is the epoch, from 1, whose weights early stopping restored; without it the last's stay.
    `steps` are points of the training within epochs.
    """
    note = "Training figures are means over an epoch, while the weights still move"
    validated = any("val/accuracy" in epoch for epoch in history)
    if validated:
        note += "; validation is measured after it"
    if steps and steps[-1]["epoch"] > 1:
        note += ". The first half epoch may begin outside the axes"
    figure = base.new_figure(10, 4.1, title, f"Learning curves. {note}.")
    panels = [base.axes_at(figure, left, 0.6, 4.1, 3.1) for left in (0.8, 5.7)]
    for axes, kind in zip(panels, ("loss", "accuracy"), strict=True):
        _plot_curve(axes, _series(history, f"train/{kind}"), "training")
        if validated:
            _plot_curve(axes, _series(history, f"val/{kind}"), "validation")
        if steps:
            _plot_steps(axes, steps, kind)
        axes.set_title(kind.capitalize(), loc="left", fontsize=10, color=INK, y=1)
        epochs = max(1, len(history))
        axes.set(xlabel="epoch", xlim=(0, 1.03 * epochs) if steps else (0.5, epochs + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
    panels[0].set_ylabel("cross-entropy (nats)")
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if validated:
        _mark_epoch(panels, _series(history, "val/accuracy"), kept)
    low, high = panels[1].get_ylim()
    # No accuracy is above 100 %, or below 0.
    panels[1].set_ylim(max(low, 0.0), min(high, 1.0 if low < 1 else high))
    panels[0].legend(fontsize=9)
    return figure


def _plot_curve(axes: Axes, values: Array, label: str) -> None:
    style, colour = ("s--", VERMILLION) if label == "validation" else ("o-", BLUE)
    size = 4 if len(values) <= 30 else 0
    axes.plot(range(1, len(values) + 1), values, style, color=colour, markersize=size, label=label)


def _plot_steps(axes: Axes, steps: Sequence[Mapping[str, float]], kind: str) -> None:
    """Draw training within epochs; in a longer run its first half epoch may leave the axes.

    From a loss of 2.3 and an accuracy of 10 %, it would leave no room for the rest.
    """
    epochs, values = _series(steps, "epoch"), _series(steps, f"step/train_{kind}")
    every = int(steps[-1]["step"] - (steps[-2]["step"] if len(steps) > 1 else 0))
    label = "training, each step" if every == 1 else f"training, means of {every} steps"
    axes.plot(epochs, values, color=BLUE, linewidth=0.8, alpha=0.5, label=label)
    if epochs[-1] > 1:
        curves = [line.get_ydata() for line in axes.get_lines()[:-1]]
        shown = np.concatenate([*curves, values[epochs > 0.5]])
        low, high = np.nanmin(shown), np.nanmax(shown)
        if low < high:
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _series(history: Sequence[Mapping[str, float]], key: str) -> Array:
    """The metric per epoch, NaN where it is missing."""
    return np.array([epoch.get(key, np.nan) for epoch in history])


def _mark_epoch(panels: Sequence[Axes], accuracy: Array, kept: int | None) -> None:
    """Draw a line at the epoch whose weights were kept."""
    epoch = kept or len(accuracy)
    if not epoch or np.isnan(accuracy[epoch - 1]):
        return
    for axes in panels:
        axes.axvline(epoch, color=GREY, linewidth=1, linestyle=":", zorder=0)
    which = "weights kept for their loss: " if kept else "weights kept: the last, "
    text = f"{which}epoch {epoch}, validation {100 * accuracy[epoch - 1]:.2f} %"
    panels[-1].set_title(text, loc="right", fontsize=9, color=GREY, y=1)


MAX_NAME = 20  # characters of a class
FEW = 30  # images of a bin; the accuracy of fewer is mostly chance


def score_title(model: str, data: str, accuracy: float, low: float, high: float, n: int) -> str:
    """'dense128 on MNIST: 97.83 % of 10,000 test images (95 % interval 97.53-98.10)'."""
    return (
        f"{model} on {data}: {100 * accuracy:.2f} % of {n:,} test images "
        f"(95 % interval {100 * low:.2f}-{100 * high:.2f})"
    )


@in_own_style
def confusion_matrix(confusion: Array, title: str, classes: Sequence[str] = DIGITS) -> Figure:
    """Counts of true class (row) against predicted class (column), errors shaded by row share.

    The diagonal has one flat colour: on a common scale it would hide the errors. Of more than ten
    classes the empty cells stay blank.
    """
    totals = confusion.sum(axis=1)
    shares = confusion / np.maximum(totals, 1)[:, None]
    errors = np.where(np.eye(len(confusion), dtype=bool), 0, shares)
    darkest = float(errors.max())
    shade = base.blend(errors / darkest if darkest else errors, "#FFFFFF", VERMILLION)
    shade[np.eye(len(confusion), dtype=bool)] = to_rgb("#D3E7F3")
    scale = (
        f"Errors, orange, are shaded by their share of the row, at most {base.percent(darkest)}."
    )
    note = f"Confusion matrix. {scale if darkest else 'No errors.'}"
    n, is_large = len(classes), len(classes) > len(DIGITS)
    names = [shorten(name, MAX_NAME) for name in classes]
    longest = max(map(len, names))
    margin = 0.08 * (longest - 1)  # inches, for names
    grown = 0.38 * max(0, n - 16)  # inches
    figure = base.new_figure(8.4 + margin + grown, 6.9 + margin + grown, title, note)
    axes = base.axes_at(figure, 0.8 + margin, 0.1, 6.6 + grown, 6.2 + grown)
    axes.imshow(shade)
    for (row, column), count in np.ndenumerate(confusion):
        if is_large and not count:
            continue
        bold = row == column or errors[row, column] > 0.6 * darkest
        axes.text(
            column, row, f"{count:,}", ha="center", va="center", fontsize=8 if is_large else 10,
            color=INK if count else PALE, fontweight="bold" if bold and count else "normal",
        )  # fmt: skip
    for label, total in enumerate(totals):
        recall = base.percent(shares[label, label]) if total else "none"
        axes.text(n - 0.38, label, recall, va="center", fontsize=9, color=GREY)
    axes.text(n - 0.38, -0.75, "recall", va="center", fontsize=9, color=GREY)
    axes.set_yticks(range(n), names, parse_math=False)
    axes.set_xticks(range(n), names, parse_math=False, rotation=90 if longest > 2 else 0)
    axes.xaxis.set(label_position="top", ticks_position="top")
    axes.set_xlabel(f"predicted {noun(classes)}", fontsize=10)
    axes.set_ylabel(f"true {noun(classes)}", fontsize=10)
    return figure


@in_own_style
def reliability(
    bins: Sequence[Array],
    ece: float,
    title: str,
    smoothing: float = 0.0,
    calibrated: tuple[Sequence[Array], float] | None = None,
    classes: Sequence[str] = DIGITS,
) -> Figure:
    """Reliability diagram: accuracy against confidence per bin, above the images per bin.

    `bins` are their counts, confidence, accuracy and the ends of its 95 % interval, low and high;
    `smoothing` is that of the labels; `calibrated` are bins and ECE at the run's temperature.
    """
    note = f"Reliability. Calibration error (ECE) {ece:.4f} over {len(bins[0])} bins"
    if calibrated:
        note += f", {calibrated[1]:.4f} once calibrated by the run's temperature"
    note += "; shaded: the 95 % interval of the accuracy."
    if smoothing:
        kinds = "digits" if noun(classes) == "digit" else "classes"
        note += (
            f" In training {smoothing:g} of each label was spread over all {kinds}, "
            "which makes the model say less than it knows."
        )
    figure = base.new_figure(8.4, 6.6, title, note)
    upper, lower = (
        base.axes_at(figure, 0.8, 2.3, 7.3, 4.2),
        base.axes_at(figure, 0.8, 0.55, 7.3, 1.45),
    )
    filled = np.flatnonzero(bins[0])
    middles, width = (filled + 0.5) / len(bins[0]), 0.9 / len(bins[0])
    counts, confidence, accuracy, low, high = (each[filled] for each in bins)
    boxes = [
        base.box(x - width / 2, bottom, x + width / 2, top)
        for x, bottom, top in zip(middles, low, high, strict=True)
    ]
    upper.add_collection(PolyCollection(boxes, facecolors=BLUE, alpha=0.3, label="95 % interval"))
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfect calibration")
    gaps = [((x, x), (x, y)) for x, y in zip(confidence, accuracy, strict=True)]
    upper.add_collection(LineCollection(gaps, colors=VERMILLION, label="gap"))
    style: dict[str, Any] = {"markersize": 5, "clip_on": False, "zorder": 3}
    upper.plot(confidence, accuracy, "o", color=VERMILLION, label="accuracy", **style)
    if calibrated:
        after_counts, *after = calibrated[0][:3]
        points = np.array(after)[:, after_counts >= FEW]
        style |= {"markerfacecolor": "none", "label": f"calibrated (bins of {FEW} or more)"}
        upper.plot(*points, "o", color=INK, **style)
    upper.set(xlim=(0, 1), ylim=(0, 1.13), yticks=np.arange(0, 1.1, 0.2), xticklabels=[])
    upper.set_ylabel("accuracy")
    upper.legend(fontsize=9, loc="upper center", ncols=5, columnspacing=1.2)
    lower.bar(middles, counts, width, color=GREY)
    for middle, count in zip(middles, counts, strict=True):
        base.text_at(lower, middle, 1.25 * count, f"{count:,}", size=8, ha="center", va="bottom")
    lower.set(xlim=(0, 1), yscale="log", ylim=(0.7, 5 * counts.max()))
    lower.minorticks_off()
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.set(xlabel=f"confidence: the probability of the predicted {noun(classes)}")
    lower.set_ylabel("images (log)")
    return figure
