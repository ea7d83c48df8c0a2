"""Learning curves: loss and accuracy per epoch and within epochs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnist_exp.plots.base import BLUE, GREY, INK, PALE, VERMILLION, Array, axes_at, new_figure


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
    figure = new_figure(10, 4.1, title, f"Learning curves. {note}.")
    panels = [axes_at(figure, left, 0.6, 4.1, 3.1) for left in (0.8, 5.7)]
    for axes, kind in zip(panels, ("loss", "accuracy"), strict=True):
        _plot_curve(axes, _series(history, f"train/{kind}"), "training")
        if validated:
            _plot_curve(axes, _series(history, f"val/{kind}"), "validation")
        if steps:
            _plot_steps(axes, steps, kind)
        axes.set_title(kind.capitalize(), loc="left", fontsize=10, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        epochs = max(1, len(history))
        axes.set_xlim((0, 1.03 * epochs) if steps else (0.5, epochs + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=PALE, linewidth=0.6)
    panels[0].set_ylabel("cross-entropy (nats)", fontsize=9, color=INK)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if validated:
        _mark_epoch(panels, _series(history, "val/accuracy"), kept)
    low, high = panels[1].get_ylim()
    panels[1].set_ylim(low, min(high, 1.0 if low < 1 else high))  # no accuracy is above 100 %
    panels[0].legend(fontsize=9, frameon=False)
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
    reason = " for its loss" if kept else ""
    text = f"weights kept{reason}: epoch {epoch}, validation {100 * accuracy[epoch - 1]:.2f} %"
    panels[-1].set_title(text, loc="right", fontsize=9, color=GREY)
