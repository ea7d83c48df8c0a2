"""Shared by the plots of a sweep: its trials, their markers, the axes of keys and accuracies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from mnist_exp.plots.base import BLUE, GREY, INK, VERMILLION

CATEGORY = "category"  # a scale beside matplotlib's
MAX_NAME, MAX_TICKS = 34, 8
EDGE = 0.03  # where a failed trial is drawn, as a share of the axes
MARKS: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "alpha": 0.8, "label": "complete"},
    "pruned": {"marker": "v", "markerfacecolor": "white", "label": "pruned, at its last epoch"},
    "failed": {"marker": "x", "markeredgewidth": 1.8, "label": "failed, at the edge"},
}
BELOW = {"label": "below the axis", "markersize": 7}
RING: dict[str, Any] = {
    "marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": INK,
    "markeredgewidth": 1.5,
}  # fmt: skip


@dataclass(frozen=True)
class Dimension:
    """A swept key as an axis."""

    key: str  # of a trial's choices
    label: str  # in words, with its unit
    scale: str  # linear, log or category


@dataclass(frozen=True)
class Trial:
    """A job of a sweep, or a trial of a search, as a point."""

    number: int
    choices: Mapping[str, str]  # the value of each swept key
    accuracy: float  # validation, in [0, 1]; pruned: at its last epoch; failed: NaN
    state: str  # complete, pruned or failed
    noun: str = "job"


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The complete trial of the highest accuracy."""
    complete = (trial for trial in trials if trial.state == "complete")
    return max(complete, key=lambda trial: trial.accuracy, default=None)


def best_label(trial: Trial) -> str:
    """'best: job 3, 97.58 %'."""
    return f"best: {trial.noun} {trial.number}, {100 * trial.accuracy:.2f} %"


def limits(trials: Sequence[Trial]) -> tuple[float, float]:
    """The ends of the axis of accuracies; what lies far below the upper half is left out."""
    scores = sorted(trial.accuracy for trial in trials if isfinite(trial.accuracy))
    high = scores[-1]
    low = max(scores[0], high - 6 * max(0.005, high - median(scores)))
    margin = 0.08 * (high - low) or 0.005
    return max(0.0, low - margin), min(1.0, high + margin)


def accuracy_axis(axes: Axes, trials: Sequence[Trial], across: bool = False) -> None:
    """Make the y axis, or the x axis if `across`, that of the validation accuracy."""
    (axes.set_xlim if across else axes.set_ylim)(*limits(trials))
    axis = axes.xaxis if across else axes.yaxis
    axis.set_major_formatter(lambda share, _: f"{100 * share:.5g} %")
    axis.set_label_text("validation accuracy")
    axes.grid(axis="y")


def mark(
    axes: Axes, places: Iterable[tuple[Trial, float]], best: Trial | None,
    colour: str = BLUE, across: bool = False,
) -> None:  # fmt: skip
    """Draw each trial at its place and accuracy, which is x if `across`; the best in a ring.

    What has no accuracy, or one below the axis, is drawn at the edge.
    """
    colours = {"complete": colour, "pruned": GREY, "failed": VERMILLION}
    low, _ = axes.get_xlim() if across else axes.get_ylim()
    edge = axes.get_yaxis_transform() if across else axes.get_xaxis_transform()
    below = BELOW | {"marker": "$\\leftarrow$" if across else "$\\downarrow$"}
    for trial, where in places:
        is_inside = trial.accuracy >= low  # not so for NaN
        style: dict[str, Any] = {"color": colours[trial.state], "markersize": 5, "clip_on": False}
        style |= {"transform": axes.transData if is_inside else edge, "linestyle": "none"}
        x, y = where, trial.accuracy if is_inside else EDGE
        if across:
            x, y = y, x
        axes.plot(x, y, **style | (below if trial.accuracy < low else MARKS[trial.state]))
        if trial is best:
            axes.plot(x, y, **style | RING, label=best_label(trial))


def add_legend(axes: Axes) -> None:
    """Name above the axes what was drawn; 'complete' only where there are other states."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    states = [mark["label"] for mark in MARKS.values() if mark["label"] in named]
    shown = dict.fromkeys([*states, *named])
    if states == ["complete"]:
        del shown["complete"]
    axes.legend(
        [named[label] for label in shown], [*shown], fontsize=8, ncols=5,
        loc="lower left", bbox_to_anchor=(-0.02, 1.0),
    )  # fmt: skip


def place(scale: str, low: float, high: float, number: float) -> float:
    """The place of a number on an axis between these ends, in [0, 1]."""
    if scale == "log":
        low, high, number = log(low), log(high), log(number)
    return (number - low) / (high - low) if high > low else 0.5


def ticks(scale: str, numbers: Iterable[float]) -> dict[float, str]:
    """The numbers where they are few and short, else round ones, with their texts.

    None is too close to another.
    """
    shown = sorted(set(numbers))
    low, high = shown[0], shown[-1]
    are_short = all(number.is_integer() or float(f"{number:.2g}") == number for number in shown)
    if len(shown) > MAX_TICKS or (len(shown) > 3 and not are_short):
        steps = (1.0,) if high > 50 * low else (1.0, 2.0, 5.0)
        locator = LogLocator(subs=steps) if scale == "log" else MaxNLocator(6)
        shown = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    kept = shown[:1]
    for tick in shown[1:]:
        if place(scale, low, high, tick) - place(scale, low, high, kept[-1]) > 0.06:
            kept.append(tick)
    return {tick: _text(tick) for tick in kept}


def _text(number: float) -> str:
    """'0.1', '3e-3': as the tables show it."""
    if number == 0 or 0.01 <= abs(number) < 1e4:
        return f"{number:.4g}"
    return np.format_float_scientific(number, 2, trim="-", exp_digits=1).replace("e+", "e")


def label_at(axes: Axes, x: float, y: float, text: str, shift: int, **style: Any) -> None:
    """Write literal text `shift` points right, or left, of (x, y)."""
    axes.annotate(
        short_name(text), (x, y), (shift, 0), textcoords="offset points",
        ha="left" if shift > 0 else "right", va="center", fontsize=8, parse_math=False,
        annotation_clip=False, **{"color": INK} | style,
    )  # fmt: skip


def short_name(text: str) -> str:
    """The name of a category or combination, cut where it is very long."""
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"
