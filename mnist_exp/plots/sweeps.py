"""How the validation accuracy of a sweep depends on what was swept."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from mnist_exp.plots.page import (
    BLUE,
    GREY,
    INK,
    LINES,
    PALE,
    VERMILLION,
    Array,
    axes_at,
    blend,
    page,
)

WIDTH, HEIGHT = 4.2, 3.0  # inches of a panel

Row = tuple[Mapping[str, str], float, float]  # choices, mean accuracy, its sd (NaN for one seed)


def by_value(keys: Sequence[str], rows: Sequence[Row], title: str) -> Figure:
    """Accuracy against each swept key, a line for each choice of the others; bars are ± 1 sd."""
    bars = any(isfinite(sd) for *_, sd in rows)
    note = "Validation accuracy by value" + (", mean ± sd over seeds." if bars else ".")
    columns = min(2, len(keys))
    lines = ceil(len(keys) / columns)
    below = 0.6 + max(_slant(key, rows) for key in keys)  # inches for ticks and label
    figure = page(columns * (WIDTH + 1.0) + 0.4, lines * (HEIGHT + below + 0.3), title, note)
    for number, key in enumerate(keys):
        row, column = divmod(number, columns)
        left = 0.85 + column * (WIDTH + 1.0)
        bottom = below + (lines - 1 - row) * (HEIGHT + below + 0.3)
        _panel(axes_at(figure, left, bottom, WIDTH, HEIGHT), key, rows)
    return figure


def parallel_coordinates(keys: Sequence[str], rows: Sequence[Row], title: str) -> Figure:
    """A line per choice through an axis per key to its accuracy; the darker the better."""
    note = "Parallel coordinates: a line per choice, dark for a high accuracy; the best is blue."
    figure = page(1.9 * len(keys) + 3.4, 3.9, title, note)
    width = 1.9 * len(keys)
    axes = axes_at(figure, 1.2, 0.5, width, 3.2)
    axes.set(xlim=(0, len(keys)), ylim=(-0.05, 1.05), xticks=range(len(keys) + 1), yticks=[])
    axes.set_xticklabels([*keys, "val/accuracy"], fontsize=9, color=INK)
    axes.spines[:].set_visible(False)
    scores = np.array([mean for _, mean, _ in rows])
    low, high = float(scores.min()), float(scores.max())
    heights = (scores - low) / (high - low) if high > low else np.full(len(rows), 0.5)
    columns = [_places([choices[key] for choices, *_ in rows]) for key in keys]
    labels = [_labels(places) for places in columns]
    for place in range(len(keys) + 1):
        axes.axvline(place, color=PALE, linewidth=1, zorder=0)
    for place, values in enumerate(labels):
        for text, y in values.items():
            axes.annotate(
                text, (place, y), (-5, 0), textcoords="offset points", ha="right", va="center",
                fontsize=9, color=INK, parse_math=False,
                bbox={"color": "white", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
    ends = {1.0: high, 0.0: low} if high > low else {0.5: high}
    for share, score in ends.items():
        axes.annotate(
            f"{100 * score:.2f} %", (len(keys), share), (6, 0), textcoords="offset points",
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
    shades = blend(heights, "#E5E7EB", INK)
    for index in np.argsort(scores):
        choices = rows[index][0]
        path = [columns[place][choices[key]] for place, key in enumerate(keys)]
        is_best = index == np.argmax(scores)
        axes.plot(
            range(len(keys) + 1), [*path, heights[index]],
            color=BLUE if is_best else shades[index], linewidth=3 if is_best else 1.4,
        )  # fmt: skip
    return figure


def _panel(axes: Axes, key: str, rows: Sequence[Row]) -> None:
    others: dict[str, list[Row]] = {}
    for row in rows:
        label = ", ".join(f"{k}={v}" for k, v in row[0].items() if k != key)
        others.setdefault(label, []).append(row)
    values = [row[0][key] for row in rows]
    numbers = _numbers(values)
    places = _places(values)
    ordered = sorted(places, key=lambda value: places[value])
    if numbers is None:
        where = {value: float(place) for place, value in enumerate(ordered)}
        look: dict[str, Any] = {"rotation": 35, "ha": "right"} if _slant(key, rows) else {}
        axes.set_xticks(range(len(ordered)), ordered, parse_math=False, **look)
        axes.set_xlim(-0.5, len(ordered) - 0.5)
    else:
        where = numbers
        if _spans_decades(list(where.values())):
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        if not _is_drawn(places):
            axes.set_xticks(list(where.values()), list(where), parse_math=False)
    drawn = any(_is_drawn([row[0][k] for row in rows]) for k in rows[0][0])
    named = len(others) <= len(LINES) and not drawn
    for number, (label, unordered) in enumerate(others.items()):
        members = sorted(unordered, key=lambda row: where[row[0][key]])
        axes.errorbar(
            [where[choices[key]] for choices, *_ in members],
            [mean for _, mean, _ in members],
            [sd for *_, sd in members],  # no bar for one seed
            fmt="o-" if named else "o",
            color=LINES[number] if named else BLUE if drawn else GREY,
            markersize=4, linewidth=1.2, capsize=3, label=label,
        )  # fmt: skip
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_xlabel(key, fontsize=9, color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if named and len(others) > 1:
        axes.legend(fontsize=8, frameon=False)


def _slant(key: str, rows: Sequence[Row]) -> float:
    """The inches that slanted tick labels need; 0 where they fit side by side or are numbers."""
    words = {choices[key] for choices, *_ in rows}
    if _numbers(list(words)) is not None or sum(len(word) + 2 for word in words) < 50:
        return 0.0
    return 0.05 * max(len(word) for word in words)


def _places(values: Sequence[str]) -> dict[str, float]:
    """Each different value's place in 0-1: numbers in their order, words in order of appearance."""
    different = list(dict.fromkeys(values))
    numbers = _numbers(different)
    if numbers and _is_drawn(different):
        scaled = np.array(list(numbers.values()))
        scaled = np.log(scaled) if _spans_decades(scaled) else scaled
        low, high = scaled.min(), scaled.max()
        return dict(zip(numbers, (scaled - low) / (high - low), strict=True))
    if numbers:
        different.sort(key=lambda value: numbers[value])
    return {
        value: place / (len(different) - 1) if len(different) > 1 else 0.5
        for place, value in enumerate(different)
    }


def _labels(places: Mapping[str, float]) -> dict[str, float]:
    """What is written beside an axis, and where: of drawn numbers the ends only."""
    if not _is_drawn(list(places)):
        return dict(places)
    return {f"{float(value):.3g}": place for value, place in places.items() if place in (0.0, 1.0)}


def _is_drawn(values: Iterable[str]) -> bool:
    """Whether these are numbers that a search drew: many, or with many digits."""
    different = set(values)
    is_long = len(different) > 8 or max(map(len, different)) > 8
    return len(different) > 1 and is_long and _numbers(list(different)) is not None


def _spans_decades(numbers: Sequence[float] | Array) -> bool:
    return min(numbers) > 0 and max(numbers) / min(numbers) >= 10


def _numbers(values: Sequence[str]) -> dict[str, float] | None:
    """The values as numbers, or None when one is a word."""
    try:
        return {value: float(value) for value in values}
    except ValueError:
        return None


def optimisation_history(trials: Sequence[tuple[int, float | None, str]], title: str) -> Figure:
    """The validation accuracy of each trial of a search, and the best so far.

    `trials` are number, accuracy (of a pruned trial: after its last epoch), and the state's name.
    """
    note = "Optimisation history: the validation accuracy of each trial, and the best so far."
    figure = page(8.4, 3.9, title, note)
    axes = axes_at(figure, 0.85, 0.6, 7.2, 3.0)
    scored = sorted((number, value) for number, value, _ in trials if value is not None)
    states = {number: state for number, _, state in trials}
    looks = {
        "COMPLETE": ("o", BLUE, "complete"),
        "PRUNED": ("x", GREY, "pruned, at its last epoch"),
    }
    for state, (marker, colour, label) in looks.items():
        points = [(number, value) for number, value in scored if states[number] == state]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker, color=colour, markersize=5, label=label,
                linestyle="none",
            )  # fmt: skip
    whole = [(number, value) for number, value in scored if states[number] == "COMPLETE"]
    if whole:
        best = np.maximum.accumulate([value for _, value in whole])
        axes.step(
            [*(number for number, _ in whole), max(states)], [*best, best[-1]],
            where="post", color=VERMILLION, linewidth=1.4, label="best so far",
        )  # fmt: skip
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_xlabel("trial", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1.0))
    return figure


def importances(shares: Mapping[str, float], title: str) -> Figure:
    """A bar for each key: its share of the validation accuracy's variance."""
    note = "Importance for the validation accuracy, by fANOVA over the complete trials."
    figure = page(8.4, 0.9 + 0.42 * len(shares), title, note)
    axes = axes_at(figure, 2.6, 0.6, 5.2, 0.42 * len(shares))
    ordered = sorted(shares.items(), key=lambda item: item[1])
    bars = axes.barh([key for key, _ in ordered], [share for _, share in ordered], color=BLUE)
    axes.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=4, fontsize=9)
    axes.set_xlim(0, 1.1 * max(shares.values()))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure
