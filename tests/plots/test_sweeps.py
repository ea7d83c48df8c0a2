"""Plots of a sweep: panels, parallel coordinates, trials and importances."""

import numpy as np
import pytest
from plots.figure_text import full_text, texts

from mnist_exp import plots

ROWS = [
    ({"model": model, "rate": rate}, mean, sd)
    for model, rate, mean, sd in [
        ("dense", "0.001", 0.97, 0.002),
        ("dense", "0.1", 0.90, float("nan")),
        ("cnn", "0.001", 0.99, 0.001),
    ]
]


def test_accuracy_by_value_has_a_panel_per_key_and_a_line_per_choice():
    figure = plots.by_value(["model", "rate"], ROWS, "sweep of model, rate")
    words = full_text(figure)
    assert {"dense", "cnn", "model=cnn", "0.001", "0.1"} <= set(words.split("\n"))
    models, rates = figure.axes
    assert models.get_xscale() == "linear"
    assert rates.get_xscale() == "log"
    lines = {line.get_label(): line for line in rates.containers}
    drawn = lines["model=dense"].lines[0].get_xydata()
    assert drawn == pytest.approx(np.array([[0.001, 0.97], [0.1, 0.9]]))


def test_parallel_coordinates_end_at_the_accuracy_and_mark_the_best():
    figure = plots.parallel_coordinates(["model", "rate"], ROWS, "sweep of model, rate")
    words = full_text(figure)
    assert "90.00 %" in words
    assert "99.00 %" in words
    (axes,) = figure.axes
    best = [line for line in axes.get_lines() if str(line.get_color()) == "#0072B2"]
    assert [line.get_ydata()[-1] for line in best] == [1.0]
    assert best[0].get_ydata()[1] == 0.0  # 0.001 is the lower of two rates


def test_many_long_tick_labels_are_slanted_so_that_none_overlap():
    units = [f"[{width},{width},{width}]" for width in (64, 128, 256, 512)]
    rows = [({"model.units": value}, 0.9, float("nan")) for value in units]
    figure = plots.by_value(["model.units"], rows, "sweep of model.units")
    assert [label for label in texts(figure) if label in units] == units  # in the order given
    (axes,) = figure.axes
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {35.0}
    short = plots.by_value(["model"], [({"model": "cnn"}, 0.9, 0.1)], "sweep of model")
    assert {label.get_rotation() for label in short.axes[0].get_xticklabels()} == {0.0}


def test_sampled_numbers_are_placed_by_value_and_labelled_at_the_ends_only():
    rates = ["0.00010023454321", "0.0010045678912", "0.1002345432199"]
    rows = [
        ({"rate": rate, "drop": str(n)}, 0.9 + n / 100, float("nan"))
        for n, rate in enumerate(rates)
    ]
    by_value = plots.by_value(["rate", "drop"], rows, "a search")
    assert not set(rates) & set(texts(by_value))
    assert by_value.axes[0].get_xscale() == "log"
    assert by_value.axes[0].get_legend() is None
    parallel = plots.parallel_coordinates(["rate", "drop"], rows, "a search")
    assert {"0.0001", "0.1", "0", "1", "2"} <= set(texts(parallel))
    heights = sorted(
        line.get_ydata()[0] for line in parallel.axes[0].get_lines() if len(line.get_xdata()) == 3
    )
    assert heights == pytest.approx([0, 1 / 3, 1], abs=0.01)


def test_optimisation_history_shows_the_best_so_far_and_pruned_trials():
    trials = [
        (0, 0.9, "COMPLETE"),
        (1, 0.5, "PRUNED"),
        (2, 0.8, "COMPLETE"),
        (4, 0.95, "COMPLETE"),
        (5, None, "PRUNED"),
    ]
    figure = plots.optimisation_history(trials, "a search")
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
    assert lines["complete"] == [[0, 0.9], [2, 0.8], [4, 0.95]]
    assert lines["pruned, at its last epoch"] == [[1, 0.5]]
    assert lines["best so far"] == [[0, 0.9], [2, 0.9], [4, 0.95], [5, 0.95]]


def test_importances_are_bars_with_the_largest_on_top():
    figure = plots.importances({"rate": 0.2, "drop": 0.8}, "a search")
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.2, 0.8]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["rate", "drop"]
    figure.axes[0].set_xticks([])
    assert {"20 %", "80 %"} <= set(texts(figure))
