"""Plots of a search: parallel coordinates (of a grid, too), the trials in order, importances."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnist_exp.plots import base, points
from mnist_exp.plots.base import BLUE, GREY, INK, PALE, VERMILLION, in_own_style
from mnist_exp.plots.points import CATEGORY, EDGE, MARKS, Dimension, Trial

RELIABLE = 30  # complete trials, below which importances are a hint at most
LINE_STYLES = {"complete": "-", "pruned": "--", "failed": ":"}


@in_own_style
def parallel_coordinates(
    dimensions: Sequence[Dimension], trials: Sequence[Trial], title: str
) -> Figure:
    """An axis per key and one for the accuracy, a line per trial: the darker the better."""
    note = "Parallel coordinates: a line per run, the darker the better, as the last axis shows."
    last, strip = len(dimensions), 0.06  # the width of the shades, where an axis is 1 from the next
    gap = max(1.7, 5.2 / last)  # inches
    figure = base.new_figure(gap * last + 3.0, 4.9, title, note)
    axes = base.axes_at(figure, 1.7, 0.75, gap * (last + strip), 3.7)
    low, high = points.limits(trials)
    shades = base.blend(np.linspace(0, 1, 100)[:, None], PALE, INK)
    axes.imshow(shades, extent=(last, last + strip, 0, 1), origin="lower")
    axes.set(xlim=(0, last + strip), ylim=(0, 1))
    for score in points.ticks("linear", np.linspace(low, high, 20)):
        y = points.place("linear", low, high, score)
        points.label_at(axes, last + strip, y, f"{100 * score:.4g} %", 5)
    if any(trial.accuracy < low for trial in trials):
        points.label_at(axes, last + strip, 0, "or below", 5)
    columns = []
    for x, dimension in enumerate(dimensions):
        heights, labels = _heights(dimension, [t.choices[dimension.key] for t in trials])
        columns.append(heights)
        axes.axvline(x, color=GREY, linewidth=1, zorder=0)
        for text, y in labels.items():
            box = {"color": "white", "alpha": 0.8, "pad": 1}
            points.label_at(axes, x, y, text, -5, bbox=box, zorder=4)
    best = points.best_trial(trials)
    for trial in sorted(trials, key=lambda trial: (trial.state == "complete", trial.accuracy)):
        path = [y[trial.choices[d.key]] for y, d in zip(columns, dimensions, strict=True)]
        is_failed = trial.state == "failed"
        end = EDGE if is_failed else max(0.0, points.place("linear", low, high, trial.accuracy))
        shade = VERMILLION if is_failed else base.blend(np.array(end), PALE, INK)
        axes.plot(
            range(last + 1), [*path, end], LINE_STYLES[trial.state], clip_on=False,
            color=BLUE if trial is best else shade, linewidth=3 if trial is best else 1.3,
            label=points.best_label(trial) if trial is best else MARKS[trial.state]["label"],
        )  # fmt: skip
    names = [f"{d.label}\n(logarithmic)" if d.scale == "log" else d.label for d in dimensions]
    axes.set_xticks(range(last + 1), [*names, "validation\naccuracy"], parse_math=False)
    axes.tick_params(axis="x", length=0, pad=12)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    points.add_legend(axes)
    return figure


@in_own_style
def optimisation_history(trials: Sequence[Trial], title: str) -> Figure:
    """Validation accuracy per trial of a search, in their order, and the best so far."""
    note = "Optimisation history: the validation accuracy of each trial, and the best so far."
    figure = base.new_figure(8.4, 4.2, title, note)
    axes = base.axes_at(figure, 0.9, 0.6, 7.1, 3.2)
    points.accuracy_axis(axes, trials)
    ordered = sorted(trials, key=lambda trial: trial.number)
    scores = [trial.accuracy if trial.state == "complete" else -1 for trial in ordered]
    best = np.maximum.accumulate(scores)
    axes.step(
        [trial.number for trial in ordered], np.where(best < 0, np.nan, best), where="post",
        color=GREY, linewidth=1.4, zorder=1, label="best so far",
    )  # fmt: skip
    points.mark(axes, [(trial, trial.number) for trial in ordered], points.best_trial(trials))
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    points.add_legend(axes)
    return figure


@in_own_style
def importances(shares: Mapping[str, float], n: int, title: str) -> Figure:
    """A bar per key: its share of the variance of the accuracy of `n` complete trials."""
    note = f"Importance by fANOVA, of n = {n} complete trials."
    if n < RELIABLE:
        note += f" Below about {RELIABLE} the shares are a hint at most: more trials change them."
    figure = base.new_figure(8.4, 0.9 + 0.42 * len(shares), title, note)
    left = 0.5 + 0.08 * max(map(len, shares))
    axes = base.axes_at(figure, left, 0.65, 7.4 - left, 0.42 * len(shares))
    ordered = sorted(shares.items(), key=lambda item: item[1])
    colour = BLUE if n >= RELIABLE else GREY
    bars = axes.barh([key for key, _ in ordered], [share for _, share in ordered], color=colour)
    axes.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=4, fontsize=9)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set(xlim=(0, 1), xlabel="share of the variance of the validation accuracy")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _heights(
    dimension: Dimension, values: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """The height of each value on its axis, in [0, 1], and of each tick label."""
    if dimension.scale == CATEGORY:
        distinct = [*dict.fromkeys(values)]
        heights = {
            value: 1 - points.place("linear", 0, len(distinct) - 1, rank)
            for rank, value in enumerate(distinct)
        }
        return heights, heights
    ends = (min(map(float, values)), max(map(float, values)))
    labels = points.ticks(dimension.scale, map(float, values)).items()
    return (
        {value: points.place(dimension.scale, *ends, float(value)) for value in values},
        {text: points.place(dimension.scale, *ends, tick) for tick, text in labels},
    )
