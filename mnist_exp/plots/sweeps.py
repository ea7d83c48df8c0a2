"""Plots of a sweep: validation accuracy against the swept keys, trials, importances."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from mnist_exp.plots.base import (
    BLUE,
    GREY,
    INK,
    LINES,
    PALE,
    VERMILLION,
    Array,
    axes_at,
    blend,
    new_figure,
)

WIDTH, HEIGHT = 4.2, 3.0  # inches of a panel

Row = tuple[Mapping[str, str], float, float]  # choices, mean accuracy, sd (NaN for one seed)


def by_value(keys: Sequence[str], rows: Sequence[Row], title: str) -> Figure:
    """Accuracy against each swept key, one line per choice of the others; bars are ± 1 sd."""
    has_sd = any(isfinite(sd) for *_, sd in rows)
    note = "Validation accuracy by value" + (", mean ± sd over seeds." if has_sd else ".")
    columns = min(2, len(keys))
    lines = ceil(len(keys) / columns)
    below = 0.6 + max(_tick_label_height(key, rows) for key in keys)  # inches, with the axis label
    figure = new_figure(columns * (WIDTH + 1.0) + 0.4, lines * (HEIGHT + below + 0.3), title, note)
    for index, key in enumerate(keys):
        row, column = divmod(index, columns)
        left = 0.85 + column * (WIDTH + 1.0)
        bottom = below + (lines - 1 - row) * (HEIGHT + below + 0.3)
        _panel(axes_at(figure, left, bottom, WIDTH, HEIGHT), key, rows)
    return figure


def parallel_coordinates(keys: Sequence[str], rows: Sequence[Row], title: str) -> Figure:
    """One axis per key and one for the accuracy, one line per choice; the darker the better."""
    note = "Parallel coordinates: a line per choice, dark for a high accuracy; the best is blue."
    figure = new_figure(1.9 * len(keys) + 3.4, 3.9, title, note)
    width = 1.9 * len(keys)
    axes = axes_at(figure, 1.2, 0.5, width, 3.2)
    axes.set(xlim=(0, len(keys)), ylim=(-0.05, 1.05), xticks=range(len(keys) + 1), yticks=[])
    axes.set_xticklabels([*keys, "val/accuracy"], fontsize=9, color=INK)
    axes.spines[:].set_visible(False)
    scores = np.array([mean for _, mean, _ in rows])
    low, high = float(scores.min()), float(scores.max())
    heights = (scores - low) / (high - low) if high > low else np.full(len(rows), 0.5)
    columns = [_positions([choices[key] for choices, *_ in rows]) for key in keys]
    for x in range(len(keys) + 1):
        axes.axvline(x, color=PALE, linewidth=1, zorder=0)
    for x, positions in enumerate(columns):
        for text, y in _tick_labels(positions).items():
            axes.annotate(
                text, (x, y), (-5, 0), textcoords="offset points", ha="right", va="center",
                fontsize=9, color=INK, parse_math=False,
                bbox={"color": "white", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
    ends = {1.0: high, 0.0: low} if high > low else {0.5: high}
    for y, score in ends.items():
        axes.annotate(
            f"{100 * score:.2f} %", (len(keys), y), (6, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    shades = blend(heights, "#E5E7EB", INK)
    for index in np.argsort(scores):
        choices = rows[index][0]
        path = [positions[choices[key]] for positions, key in zip(columns, keys, strict=True)]
        is_best = index == np.argmax(scores)
        axes.plot(
            range(len(keys) + 1), [*path, heights[index]],
            color=BLUE if is_best else shades[index], linewidth=3 if is_best else 1.4,
        )  # fmt: skip
    return figure


def optimisation_history(trials: Sequence[tuple[int, float | None, str]], title: str) -> Figure:
    """Validation accuracy per trial of a study, and the best so far.

    `trials` are (number, accuracy, state); a pruned trial's accuracy is its last epoch's.
    """
    note = "Optimisation history: the validation accuracy of each trial, and the best so far."
    figure = new_figure(8.4, 3.9, title, note)
    axes = axes_at(figure, 0.85, 0.6, 7.2, 3.0)
    scored = sorted((number, value) for number, value, _ in trials if value is not None)
    states = {number: state for number, _, state in trials}
    styles = {
        "COMPLETE": ("o", BLUE, "complete"),
        "PRUNED": ("x", GREY, "pruned, at its last epoch"),
    }
    for state, (marker, colour, label) in styles.items():
        points = [(number, value) for number, value in scored if states[number] == state]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker, color=colour, markersize=5, label=label,
                linestyle="none",
            )  # fmt: skip
    complete = [(number, value) for number, value in scored if states[number] == "COMPLETE"]
    if complete:
        best = np.maximum.accumulate([value for _, value in complete])
        axes.step(
            [*(number for number, _ in complete), max(states)], [*best, best[-1]],
            where="post", color=VERMILLION, linewidth=1.4, label="best so far",
        )  # fmt: skip
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_xlabel("trial", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1.0))
    return figure


def importances(shares: Mapping[str, float], title: str) -> Figure:
    """One bar per key: its share of the variance of the validation accuracy, by fANOVA."""
    note = "Importance for the validation accuracy, by fANOVA over the complete trials."
    figure = new_figure(8.4, 0.9 + 0.42 * len(shares), title, note)
    axes = axes_at(figure, 2.6, 0.6, 5.2, 0.42 * len(shares))
    ordered = sorted(shares.items(), key=lambda item: item[1])
    bars = axes.barh([key for key, _ in ordered], [share for _, share in ordered], color=BLUE)
    axes.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=4, fontsize=9)
    axes.set_xlim(0, 1.1 * max(shares.values()))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _panel(axes: Axes, key: str, rows: Sequence[Row]) -> None:
    lines: dict[str, list[Row]] = {}  # by the choices of the other keys
    for row in rows:
        label = ", ".join(f"{k}={v}" for k, v in row[0].items() if k != key)
        lines.setdefault(label, []).append(row)
    values = [row[0][key] for row in rows]
    numbers = _as_numbers(values)
    positions = _positions(values)
    if numbers is None:
        ordered = sorted(positions, key=lambda value: positions[value])
        xs = {value: float(x) for x, value in enumerate(ordered)}
        slanted = _tick_label_height(key, rows) > 0
        style: dict[str, Any] = {"rotation": 35, "ha": "right"} if slanted else {}
        axes.set_xticks(range(len(ordered)), ordered, parse_math=False, **style)
        axes.set_xlim(-0.5, len(ordered) - 0.5)
    else:
        xs = numbers
        if _spans_decades(list(xs.values())):
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        if not _is_sampled(positions):
            axes.set_xticks(list(xs.values()), list(xs), parse_math=False)
    sampled = any(_is_sampled([row[0][k] for row in rows]) for k in rows[0][0])
    has_legend = len(lines) <= len(LINES) and not sampled
    for index, (label, unordered) in enumerate(lines.items()):
        members = sorted(unordered, key=lambda row: xs[row[0][key]])
        axes.errorbar(
            [xs[choices[key]] for choices, *_ in members],
            [mean for _, mean, _ in members],
            [sd for *_, sd in members],  # no bar for one seed
            fmt="o-" if has_legend else "o",
            color=LINES[index] if has_legend else BLUE if sampled else GREY,
            markersize=4, linewidth=1.2, capsize=3, label=label,
        )  # fmt: skip
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_xlabel(key, fontsize=9, color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if has_legend and len(lines) > 1:
        axes.legend(fontsize=8, frameon=False)


def _tick_label_height(key: str, rows: Sequence[Row]) -> float:
    """Inches of slanted tick labels; 0 where they fit side by side or are numbers."""
    values = {choices[key] for choices, *_ in rows}
    if _as_numbers(list(values)) is not None or sum(len(value) + 2 for value in values) < 50:
        return 0.0
    return 0.05 * max(map(len, values))


def _positions(values: Sequence[str]) -> dict[str, float]:
    """The position of each distinct value in 0-1; numbers ascend, words keep their order."""
    distinct = list(dict.fromkeys(values))
    numbers = _as_numbers(distinct)
    if numbers and _is_sampled(distinct):
        scaled = np.array(list(numbers.values()))
        scaled = np.log(scaled) if _spans_decades(scaled) else scaled
        low, high = scaled.min(), scaled.max()
        return dict(zip(numbers, (scaled - low) / (high - low), strict=True))
    if numbers:
        distinct.sort(key=lambda value: numbers[value])
    last = len(distinct) - 1
    return {value: rank / last if last else 0.5 for rank, value in enumerate(distinct)}


def _tick_labels(positions: Mapping[str, float]) -> dict[str, float]:
    """The tick labels of an axis and their positions: of sampled numbers the ends only."""
    if not _is_sampled(positions):
        return dict(positions)
    return {f"{float(value):.3g}": y for value, y in positions.items() if y in (0.0, 1.0)}


def _is_sampled(values: Iterable[str]) -> bool:
    """Whether these are numbers from a sampler: more than 8, or of more than 8 characters."""
    distinct = set(values)
    many = len(distinct) > 8 or max(map(len, distinct)) > 8
    return len(distinct) > 1 and many and _as_numbers(list(distinct)) is not None


def _spans_decades(numbers: Sequence[float] | Array) -> bool:
    return min(numbers) > 0 and max(numbers) / min(numbers) >= 10


def _as_numbers(values: Sequence[str]) -> dict[str, float] | None:
    """The values as numbers, or None when one is not a number."""
    try:
        return {value: float(value) for value in values}
    except ValueError:
        return None
