"""Plots of a sweep by key: validation accuracy against each, numbers on an axis, names in rows."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import mean, stdev
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_exp.plots import points
from mnist_exp.plots.base import BLUE, GREY, INK, LINES, axes_at, in_own_style, new_figure
from mnist_exp.plots.points import CATEGORY, Dimension, Trial

WIDTH, HEIGHT, ROW = 7.4, 2.7, 0.26  # inches of a panel with its labels, and of a row
RIGHT, GAP = 2.2, 0.85  # inches for those labels, and between two panels
MAX_ROWS = 40

Places = list[tuple[Trial, float]]
Place = TypeVar("Place", str, float)


@in_own_style
def by_value(dimensions: Sequence[Dimension], trials: Sequence[Trial], title: str) -> Figure:
    """A panel per swept key, a dot per trial: numbers on an axis, categories as rows.

    In a grid a line per combination of the other keys joins the means over seeds. Categories alone
    are one panel with a row per combination.
    """
    if all(dimension.scale == CATEGORY for dimension in dimensions):
        dimensions, trials = _combined(dimensions, trials)
    rows = {d.key: _rows(d.key, trials) for d in dimensions if d.scale == CATEGORY}
    lines = {d.key: _lines(d.key, trials) for d in dimensions if d.scale != CATEGORY}
    heights = [ROW * len(rows[d.key]) + 0.2 if d.key in rows else HEIGHT for d in dimensions]
    names = [points.short_name(row) for panel in rows.values() for row in panel]
    left = max(0.95, 0.35 + 0.078 * max(map(len, names), default=0))
    has_labels = not lines or "seed" in lines or any(len(panel) > 1 for panel in lines.values())
    right = RIGHT if has_labels else 0.4
    note = "Validation accuracy by value. A dot is a run"
    if not lines and any(len(scores) > 1 for panel in rows.values() for scores in panel.values()):
        note += ", a stroke the mean of a row"
    if any(lines.values()):
        note += ", a line joins the means over seeds"
    if any(len(panel) > len(LINES) for panel in lines.values()):
        note += "; the line with the best run is blue"
    if any(len(panel) == MAX_ROWS for panel in rows.values()):
        note += f"; the best {MAX_ROWS} rows are drawn"
    bottom = sum(heights) + GAP * len(heights)
    figure = new_figure(left + WIDTH, bottom, title, f"{note}.")
    for dimension, height in zip(dimensions, heights, strict=True):
        bottom -= height + GAP
        axes = axes_at(figure, left, bottom + 0.55, WIDTH - right, height)
        if dimension.scale == CATEGORY:
            _plot_rows(axes, dimension, rows[dimension.key], trials, not lines)
        else:
            _plot_numbers(axes, dimension, trials, lines[dimension.key])
    points.add_legend(figure.axes[0])
    return figure


def _combined(
    dimensions: Sequence[Dimension], trials: Sequence[Trial]
) -> tuple[list[Dimension], list[Trial]]:
    """One dimension in place of all, and the trials with its value: 'cnn, adam'."""
    key = ", ".join(dimension.label for dimension in dimensions)
    values = [", ".join(trial.choices[d.key] for d in dimensions) for trial in trials]
    joined = zip(trials, values, strict=True)
    return [Dimension(key, key, CATEGORY)], [replace(t, choices={key: v}) for t, v in joined]


def _rows(key: str, trials: Sequence[Trial]) -> dict[str, list[float]]:
    """The values of a key and their accuracies, by the mean, the best first."""
    scores = _accuracies((trial, trial.choices[key]) for trial in trials)
    ordered = sorted(scores, key=lambda value: -mean(scores[value] or [-1]))
    return {value: scores[value] for value in ordered[:MAX_ROWS]}


def _lines(key: str, trials: Sequence[Trial]) -> dict[str, Places]:
    """The trials by their other values, the best first; empty for samples, which share no value."""
    groups: dict[str, Places] = {}
    for trial in sorted(trials, key=lambda t: (t.state != "complete", -t.accuracy)):
        others = [f"{k}={v}" for k, v in trial.choices.items() if k not in (key, "seed")]
        groups.setdefault(", ".join(others), []).append((trial, float(trial.choices[key])))
    settings = len({tuple(v for k, v in t.choices.items() if k != "seed") for t in trials})
    shared = len(groups) == 1 or 2 * len({trial.choices[key] for trial in trials}) <= settings
    return groups if shared and 2 * len(groups) <= settings else {}


def _plot_rows(
    axes: Axes, dimension: Dimension, rows: dict[str, list[float]], trials: Sequence[Trial],
    is_alone: bool,
) -> None:  # fmt: skip
    """A row per category; where its trials differ in the seed only, with their mean ± sd."""
    points.accuracy_axis(axes, trials, across=True)
    heights = {row: float(y) for y, row in enumerate(rows)}
    drawn = [t for t in trials if t.choices[dimension.key] in rows]
    places = [(trial, heights[trial.choices[dimension.key]]) for trial in drawn]
    points.mark(axes, places, points.best_trial(trials), across=True)
    for row, scores in rows.items() if is_alone else ():
        if len(scores) > 1:
            axes.plot(mean(scores), heights[row], "|", color=INK, markersize=14, markeredgewidth=2)
        points.label_at(axes, axes.get_xlim()[1], heights[row], _mean_text(scores), 12)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [points.short_name(row) for row in rows], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"validation accuracy by {dimension.label}")


def _plot_numbers(
    axes: Axes, dimension: Dimension, trials: Sequence[Trial], lines: dict[str, Places]
) -> None:
    """Accuracy against a number, with a labelled line per combination of the other keys."""
    points.accuracy_axis(axes, trials)
    axes.set_xscale(dimension.scale)
    places = [(trial, float(trial.choices[dimension.key])) for trial in trials]
    low, high = axes.get_ylim()
    right = {"xycoords": axes.get_yaxis_transform()}
    if dimension.key == "seed":
        seeds = [trial.accuracy for trial in trials if trial.state == "complete"]
        axes.axhline(mean(seeds), color=INK, linewidth=1.2)
        points.label_at(axes, 1.0, mean(seeds), f"mean {_mean_text(seeds)}", 8, **right)
    colours = LINES if len(lines) <= len(LINES) else [BLUE, *[GREY] * len(lines)]
    ends = {}
    for (label, group), colour in reversed([*zip(lines.items(), colours, strict=False)]):
        points.mark(axes, group, points.best_trial(trials), colour)
        scores = _accuracies(sorted(group, key=lambda pair: pair[1]))
        if means := {x: mean(values) for x, values in scores.items() if values}:
            axes.plot([*means], [*means.values()], color=colour, linewidth=1.4)
            ends[label] = ([*means.values()][-1], colour)
    if not lines:
        points.mark(axes, places, points.best_trial(trials))
    labelled = {label: max(y, low) for label, (y, c) in ends.items() if label and c != GREY}
    for label, y in _spread(labelled, 0.06 * (high - low)).items():
        points.label_at(axes, 1.0, y, label, 8, color=ends[label][1], **right)
    numbers = points.ticks(dimension.scale, [x for _, x in places])
    axes.set_xticks([*numbers], [*numbers.values()])
    axes.minorticks_off()
    scale = ", logarithmic" if dimension.scale == "log" else ""
    axes.set_xlabel(f"{dimension.label}{scale}")


def _accuracies(places: Iterable[tuple[Trial, Place]]) -> dict[Place, list[float]]:
    """The accuracies of the complete trials at each place."""
    scores: dict[Place, list[float]] = {}
    for trial, place in places:
        scores.setdefault(place, []).extend([trial.accuracy] * (trial.state == "complete"))
    return scores


def _mean_text(scores: Sequence[float]) -> str:
    """'97.58 ± 0.16 %, n = 3'; the accuracy alone of a single run."""
    if len(scores) < 2:
        return "".join(f"{100 * score:.2f} %" for score in scores)
    return f"{100 * mean(scores):.2f} ± {100 * stdev(scores):.2f} %, n = {len(scores)}"


def _spread(heights: dict[str, float], gap: float) -> dict[str, float]:
    """The heights moved apart, upwards and then all back by half, so that no labels overlap."""
    moved: dict[str, float] = {}
    for label in sorted(heights, key=lambda label: heights[label]):
        moved[label] = max(heights[label], max(moved.values(), default=-1) + gap)
    shift = mean(moved[label] - heights[label] for label in moved) if moved else 0
    return {label: height - shift for label, height in moved.items()}
