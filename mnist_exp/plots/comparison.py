"""Plots of `compare`: accuracy, cost, learning curves and agreement of groups of runs."""

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from mnist_exp.plots import base
from mnist_exp.plots.base import BLUE, GREY, INK, LINES, VERMILLION, Array, in_own_style

Numbers = Sequence[float]
MAX_LINE = 46  # characters of a group's name
MAX_CURVES = len(LINES)  # one per colour
LINE = 0.2  # inches between the names below a figure
MAX_LABELS = 8  # beside their dots
# Points from a dot to its number, the first one that is free.
OFFSETS = np.array([(x, y) for r in (9, 18) for x, y in [(0, r), (0, -r), (r, 0), (-r, 0), (r, r)]])
MAX_AGREEMENT = 20  # groups: 42 would take 10 s, and 27 inches


@in_own_style
def accuracies(
    names: Sequence[str],
    means: Numbers,
    intervals: Sequence[tuple[float, float]],
    seeds: Sequence[Numbers],
    title: str,
) -> Figure:
    """One row per group: mean test accuracy, 95 % interval and a dot per run."""
    note = (
        "With 95 % interval: blue, of the mean over seeds; grey, of a single run, over the test "
        "images alone, so without the chance of its seed."
    )
    left, height = _name_width(names), 0.42 * len(names)
    figure = base.new_figure(left + 6.2, height + 0.7, title, note)
    axes = base.axes_at(figure, left, 0.6, 5.8, height)
    rows = np.arange(len(names))[::-1]
    for row, mean, (low, high), values in zip(rows, means, intervals, seeds, strict=True):
        colour = BLUE if len(values) > 1 else GREY
        axes.plot(
            [low, high], [row, row], color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt"
        )
        axes.plot([mean], [row], "D", color=colour, markersize=7)
        if len(values) > 1:
            axes.plot(values, np.full(len(values), row), "o", color=INK, markersize=3)
    axes.set_yticks(rows, [_fold(name) for name in names], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set(ylim=(-0.6, len(names) - 0.4), xlabel="test accuracy")
    return figure


@in_own_style
def trade_off(
    names: Sequence[str], accuracy: Numbers, seconds: Numbers, parameters: Numbers, title: str
) -> Figure:
    """Accuracy against training seconds and against parameters; a line joins the Pareto front."""
    panels = (seconds, "seconds of training (log)"), (parameters, "parameters (log)")
    fronts = [_front(np.array(accuracy), np.array(costs)) for costs, _ in panels]
    named = sorted({*fronts[0], *fronts[1]}) if len(names) > MAX_LABELS else range(len(names))
    limit = ", which alone are named" if len(names) > MAX_LABELS else ""
    note = (
        f"Groups are numbered below. The line joins those that none beats at the same cost{limit}."
    )
    below = 0.75 + LINE * len(named)
    figure = base.new_figure(10.6, below + 3.7, title, note)
    for left, front, (costs, label) in zip((0.9, 6.0), fronts, panels, strict=True):
        axes = base.axes_at(figure, left, below, 4.2, 3.7)
        shown = front if len(names) > MAX_LABELS else named
        _plot_front(axes, np.array(accuracy), np.array(costs), front, shown)
        axes.set_xlabel(label)
    width, height = figure.get_size_inches()
    for row, index in enumerate(named, 1):
        y = (below - 0.6 - LINE * row) / height
        text = f"{index + 1}  {names[index]}"
        figure.text(0.9 / width, y, text, fontsize=8, color=INK, parse_math=False)
    return figure


@in_own_style
def overlaid_curves(
    names: Sequence[str], curves: Sequence[Sequence[Numbers]], title: str
) -> Figure:
    """Validation accuracy per epoch: mean and range over the runs of each group.

    `curves` holds one list of runs per group, each run one value per epoch.
    """
    limit = f", the first {MAX_CURVES} groups" if len(names) > MAX_CURVES else ""
    note = f"Mean and range over the runs of a group{limit}."
    figure = base.new_figure(10.0, 4.4, title, note)
    axes = base.axes_at(figure, 0.9, 0.6, 5.2, 3.6)
    for colour, name, runs in zip(LINES, names, curves, strict=False):
        accuracy = np.array([*zip_longest(*runs, fillvalue=np.nan)])  # (epochs, runs)
        epochs = np.arange(1, len(accuracy) + 1)
        style: dict[str, Any] = {"markersize": 3 if len(accuracy) <= 30 else 0, "linewidth": 1.4}
        mean, low, high = (f(accuracy, axis=1) for f in (np.nanmean, np.nanmin, np.nanmax))
        axes.plot(epochs, mean, "o-", color=colour, label=_fold(name), **style)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set(xlabel="epoch", ylabel="validation accuracy")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1.0))
    return figure


@in_own_style
def agreement(names: Sequence[str], shares: Array, title: str, noun: str = "digit") -> Figure:
    """The share of test images (g, g) on which the runs of two groups predict the same class."""
    limit = f", the first {MAX_AGREEMENT} groups" if len(names) > MAX_AGREEMENT else ""
    names, shares = names[:MAX_AGREEMENT], shares[:MAX_AGREEMENT, :MAX_AGREEMENT]
    note = (
        f"On which share of the test images two runs say the same {noun}, right or wrong; on the "
        f"diagonal two seeds of one group{limit}."
    )
    side = 0.62 * len(names)
    left = _name_width(names) + 0.2
    figure = base.new_figure(max(left + side + 0.4, 7.5), side + 0.6, title, note)
    axes = base.axes_at(figure, left, 0.1, side, side)
    finite = shares[np.isfinite(shares)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    shade = np.nan_to_num((shares - low) / (high - low if high > low else 1))
    axes.imshow(base.blend(shade, "#FFFFFF", "#8EC1E0"))
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.1f}" if np.isfinite(share) else "-"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=INK)
    labels = [f"{_fold(name)}  {k}" for k, name in enumerate(names, start=1)]
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.set_xticks(range(len(names)), [str(k + 1) for k in range(len(names))])
    axes.xaxis.set(label_position="top", ticks_position="top")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _front(accuracy: Array, costs: Array) -> list[int]:
    """The groups that none beats at the same cost or a lower one, the lowest cost first."""
    front: list[int] = []
    for index in np.lexsort((-accuracy, costs)).tolist():
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front


def _plot_front(
    axes: Axes, accuracy: Array, costs: Array, front: Sequence[int], named: Sequence[int]
) -> None:
    axes.plot(costs[front], accuracy[front], "-", color=VERMILLION, linewidth=1.2, zorder=1)
    is_front = np.isin(np.arange(len(accuracy)), front)
    axes.scatter(costs, accuracy, s=36, c=np.where(is_front, VERMILLION, GREY), zorder=2)
    axes.set(xscale="log", ylabel="test accuracy, mean")
    axes.margins(0.14, 0.14)
    _number(axes, accuracy, costs, named)
    is_narrow = costs.max() < 4 * costs.min()
    axes.xaxis.set_major_locator(
        MaxNLocator(4) if is_narrow else LogLocator(subs=(1, 2, 5), numticks=8)
    )
    axes.xaxis.set_major_formatter(_format_cost)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(axis="y")


def _number(axes: Axes, accuracy: Array, costs: Array, named: Sequence[int]) -> None:
    """Write each group's number beside its dot, where neither a dot nor a number is."""
    axes.autoscale_view()
    points = axes.transData.transform(np.column_stack([costs, accuracy])) * 72 / axes.figure.dpi
    taken = [*points]
    for index in named:
        free = (
            offset
            for offset in OFFSETS
            if all(np.abs(points[index] + offset - other).max() > 6 for other in taken)
        )
        offset = next(free, OFFSETS[0])
        taken.append(points[index] + offset)
        text = axes.annotate(
            str(index + 1), (costs[index], accuracy[index]), offset, textcoords="offset points",
            ha="center", va="center", fontsize=8, color=INK,
        )  # fmt: skip
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _format_cost(value: float, _: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.2g}"


def _fold(name: str) -> str:
    """The whole name on as many lines as it needs: its end may be what differs."""
    return "\n".join(wrap(name, MAX_LINE))


def _name_width(names: Sequence[str]) -> float:
    """Inches of the longest line of a name, at the left."""
    return 0.4 + 0.078 * max(len(line) for name in names for line in wrap(name, MAX_LINE))
