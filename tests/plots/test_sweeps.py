"""Plots of a sweep: panels by key, parallel coordinates, trials in order, importances."""

from itertools import pairwise, product
from math import nan

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plots.figure_text import full_text, texts

from mnist_exp import plots
from mnist_exp.plots import Dimension, Trial

RATE = Dimension("rate", "learning rate", "log")
DROP = Dimension("drop", "dropout (share)", "linear")
MODEL = Dimension("model", "model", "category")


def grid(score: dict[str, float], rates: list[str], seeds: str = "01") -> list[Trial]:
    """A trial per model, rate and seed; the higher the rate the better, and the seed by 0.001."""
    return [
        Trial(number, {"model": m, "rate": r, "seed": s}, score[m] + index_bonus(r, s), "complete")
        for number, (m, r, s) in enumerate(product(score, rates, seeds))
    ]


def index_bonus(rate: str, seed: str) -> float:
    return 0.01 * float(rate) + 0.001 * int(seed)


def search() -> list[Trial]:
    """Complete, pruned, failed, complete and, far below, pruned."""
    rows = [
        ("1e-4", "0", 0.90, "complete"),
        ("3.21e-4", "0.31", 0.80, "pruned"),
        ("0.011", "0.5", nan, "failed"),
        ("0.0987", "0.11", 0.95, "complete"),
        ("0.1", "0.25", 0.10, "pruned"),
    ]
    return [
        Trial(number, {"rate": rate, "drop": drop}, accuracy, state)
        for number, (rate, drop, accuracy, state) in enumerate(rows)
    ]


def drawn(axes: Axes, label: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_label() == label]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_a_grid_has_a_line_of_means_per_combination_labelled_at_its_end():
    trials = grid({"dense": 0.9, "cnn": 0.95}, ["0.01", "0.1", "1"])
    models, rates = plots.by_value([MODEL, RATE], trials, "a grid").axes
    assert (models.get_xscale(), rates.get_xscale()) == ("linear", "log")
    lines = [line.get_xydata() for line in rates.get_lines() if len(line.get_xdata()) > 1]
    expected = [[x, 0.9505 + 0.01 * x] for x in (0.01, 0.1, 1)]
    assert any(np.allclose(line, expected) for line in lines)
    assert len(lines) == 2
    assert {text.get_text() for text in rates.texts} == {"model=dense", "model=cnn"}
    assert [label.get_text() for label in rates.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert rates.get_xlabel() == "learning rate, logarithmic"


def test_of_many_lines_only_the_one_with_the_best_run_is_labelled():
    trials = grid({f"m{n:02}": 0.9 + n / 1000 for n in range(20)}, ["0.1", "1"])
    _, rates = plots.by_value([MODEL, RATE], trials, "a grid").axes
    assert [text.get_text() for text in rates.texts] == ["model=m19"]


def test_labels_of_lines_that_end_together_do_not_overlap():
    trials = grid({f"m{n}": 0.9 for n in range(7)}, ["0.1", "1"])
    figure = plots.by_value([MODEL, RATE], trials, "a grid")
    full_text(figure)
    boxes = sorted((text.get_window_extent() for text in figure.axes[1].texts), key=lambda b: b.y0)
    assert len(boxes) == 7
    assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))


def test_categories_are_rows_of_dots_with_mean_and_sd_the_best_first():
    trials = grid({"dense": 0.9, "cnn": 0.95}, ["1"], seeds="02")
    (axes,) = plots.by_value([MODEL], trials, "sweep of model, seed").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cnn", "dense"]
    assert [text.get_text() for text in axes.texts] == [
        "96.10 ± 0.14 %, n = 2",
        "91.10 ± 0.14 %, n = 2",
    ]
    assert len(drawn(axes, "complete")) == 4
    assert not [line for line in axes.get_lines() if len(line.get_xdata()) > 1]  # no order: no line


def test_categories_alone_are_one_panel_with_at_most_forty_rows():
    optimizers = Dimension("optimizer", "optimizer", "category")
    trials = [
        Trial(n, {"model": f"m{n % 10}", "optimizer": f"o{n // 10}"}, n / 100, "complete")
        for n in range(60)
    ]
    figure = plots.by_value([MODEL, optimizers], trials, "sweep of model, optimizer")
    (axes,) = figure.axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert (rows[0], rows[-1], len(rows)) == ("m9, o5", "m0, o2", 40)
    assert "the best 40 rows are drawn" in full_text(figure)


def test_seeds_alone_are_dots_about_their_mean():
    trials = [Trial(n, {"seed": str(n)}, 0.9 + n / 100, "complete") for n in range(3)]
    (axes,) = plots.by_value([Dimension("seed", "seed", "linear")], trials, "sweep of seed").axes
    assert [text.get_text() for text in axes.texts] == ["mean 91.00 ± 1.00 %, n = 3"]
    assert len(drawn(axes, "complete")) == 3


def test_a_search_shows_pruned_failed_and_far_trials_each_in_its_way():
    figure = plots.by_value([RATE, DROP], search(), "a search")
    rates, drops = figure.axes
    assert (rates.get_xscale(), drops.get_xscale()) == ("log", "linear")
    (pruned,), (failed,), (below,) = (
        drawn(rates, label)
        for label in ("pruned, at its last epoch", "failed, at the edge", "below the axis")
    )
    assert pruned.get_xydata().tolist() == [[3.21e-4, 0.8]]
    assert failed.get_xydata().tolist() == [[0.011, 0.03]]  # a share of the axes
    assert below.get_xydata().tolist() == [[0.1, 0.03]]
    assert pruned.get_marker() != failed.get_marker() != below.get_marker()
    assert rates.get_ylim()[0] > 0.3  # the rest is not crushed by 10 %
    assert not [line for line in rates.get_lines() if len(line.get_xdata()) > 1]
    assert legend(figure) == [
        "complete", "pruned, at its last epoch", "failed, at the edge", "best: job 3, 95.00 %",
        "below the axis",
    ]  # fmt: skip


def test_parallel_coordinates_have_ticks_a_scale_and_a_legend_of_shade():
    figure = plots.parallel_coordinates([RATE, DROP], search(), "a search")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["learning rate\n(logarithmic)", "dropout (share)", "validation\naccuracy"]
    words = set(texts(figure))
    assert {"1e-4", "1e-3", "0.01", "0.1", "0.5", "90 %", "or below"} <= words
    assert "0.0987" not in words  # searched values are no ticks
    assert len(axes.images) == 1  # the shades along the last axis
    paths = {line.get_label(): line for line in axes.get_lines() if len(line.get_xdata()) == 3}
    best, failed = paths["best: job 3, 95.00 %"], paths["failed, at the edge"]
    assert best.get_linewidth() > failed.get_linewidth()
    expected = np.log(0.0987 / 1e-4) / np.log(0.1 / 1e-4)
    assert best.get_ydata()[:2] == pytest.approx([expected, 0.11 / 0.5])
    assert failed.get_linestyle() == ":"


def test_samples_of_one_number_and_a_category_have_no_lines():
    trials = [
        Trial(n, {"model": "ab"[n % 2], "rate": f"{n + 1}"}, n / 100, "complete") for n in range(8)
    ]
    rates, _ = plots.by_value([RATE, MODEL], trials, "a search").axes
    assert not [line for line in rates.get_lines() if len(line.get_xdata()) > 1]


def test_many_sampled_numbers_have_round_ticks():
    rates = [10 ** (-4 + n / 7) for n in range(15)]
    trials = [
        Trial(n, {"rate": f"{rate:.6g}", "drop": str(n / 20)}, 0.9 + n / 1000, "complete")
        for n, rate in enumerate(rates)
    ]
    words = set(texts(plots.parallel_coordinates([RATE, DROP], trials, "a search")))
    assert {"1e-4", "1e-3", "0.01", "0", "0.3", "0.6"} <= words
    rates_axes, _ = plots.by_value([RATE, DROP], trials, "a search").axes
    assert [t.get_text() for t in rates_axes.get_xticklabels()] == ["1e-4", "1e-3", "0.01"]


def test_optimisation_history_shows_every_trial_and_the_best_so_far():
    figure = plots.optimisation_history(search(), "a search")
    (axes,) = figure.axes
    (best,) = drawn(axes, "best so far")
    assert best.get_xydata().tolist() == [[0, 0.9], [1, 0.9], [2, 0.9], [3, 0.95], [4, 0.95]]
    labels = ("complete", "pruned, at its last epoch", "failed, at the edge")
    numbers = [[line.get_xdata()[0] for line in drawn(axes, label)] for label in labels]
    assert numbers == [[0, 3], [1], [2]]


def test_importances_state_their_n_and_how_little_few_trials_say():
    few = plots.importances({"rate": 0.2, "drop": 0.8}, 14, "a search")
    many = plots.importances({"rate": 0.2, "drop": 0.8}, 30, "a search")
    assert [bar.get_width() for bar in few.axes[0].patches] == [0.2, 0.8]  # the largest on top
    assert {"20 %", "80 %", "rate", "drop"} <= set(texts(few))
    assert "n = 14" in full_text(few)
    assert "a hint at most" in full_text(few)
    assert "n = 30" in full_text(many)
    assert "hint" not in full_text(many)
