"""What a reader of each figure would notice."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure

from mnist_exp import plots

TITLE = plots.score_title("dense128", "MNIST", 0.9783, 0.97526, 0.98097, 10_000)


def texts(figure):
    """Every word drawn, after a real drawing of the figure."""
    figure.savefig(BytesIO(), format="png")
    return [
        artist.get_text().replace("\N{NO-BREAK SPACE}", " ")
        for artist in figure.findobj(lambda a: hasattr(a, "get_text") and a.get_visible())
        if artist.get_text()
    ]


def said(figure):
    return "\n".join(texts(figure))


def history(epochs, validated=True):
    return [
        {"train/loss": 1 / e, "train/accuracy": 1 - 0.1 / e, "train/learning_rate": 1e-3}
        | ({"val/loss": 1.2 / e, "val/accuracy": 0.97 - 0.01 * abs(e - 2)} if validated else {})
        for e in range(1, epochs + 1)
    ]


@pytest.fixture(scope="module")
def digits():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (40, 28, 28), dtype=np.uint8), np.arange(40) % 10


def test_the_title_says_model_data_score_and_n():
    expected = "dense128 on MNIST: 97.83 % of 10,000 test images (95 % interval 97.53-98.10)"
    assert expected == TITLE


def test_learning_curves_compare_training_with_validation():
    figure = plots.learning_curves(history(15), TITLE)
    words = said(figure)
    assert TITLE in words
    assert "training" in words
    assert "best: epoch 2, validation 97.00 %" in words
    loss, accuracy = figure.axes
    assert [len(axes.get_lines()) for axes in (loss, accuracy)] == [3, 3]  # the third: best epoch
    assert [line.get_linestyle() for line in loss.get_lines()[:2]] == ["-", "--"]
    assert loss.get_lines()[0].get_xydata()[-1] == pytest.approx((15, 1 / 15))
    assert accuracy.get_lines()[1].get_ydata()[1] == pytest.approx(0.97)
    assert all(tick == int(tick) for tick in loss.get_xticks())


def test_learning_curves_mark_the_epoch_that_early_stopping_kept():
    assert "kept for its loss: epoch 4, validation 95.00 %" in said(
        plots.learning_curves(history(6), TITLE, kept=4)
    )


def test_learning_curves_without_validation():
    figure = plots.learning_curves(history(4, validated=False), TITLE)
    assert "validation" not in said(figure)
    assert [len(axes.get_lines()) for axes in figure.axes] == [1, 1]


def test_learning_curves_of_one_epoch_and_of_none():
    one = plots.learning_curves(history(1), TITLE)
    assert "epoch 1" in said(one)
    shown = [tick for tick in one.axes[0].get_xticks() if 0.5 <= tick <= 1.5]
    assert shown == [1]
    assert isinstance(plots.learning_curves([], TITLE), Figure)


def test_learning_curves_bear_a_loss_that_is_no_number():
    broken = [*history(2), {"train/loss": float("nan"), "val/accuracy": float("nan")}]
    assert "epoch 2" in said(plots.learning_curves(broken, TITLE))
    assert "best" not in said(plots.learning_curves(broken[2:], TITLE))


def test_confusion_matrix_shows_counts_and_shades_errors_alone():
    counts = np.diag(np.full(10, 990))
    counts[4, 9], counts[7, 2] = 10, 5
    figure = plots.confusion_matrix(counts, TITLE)
    words = texts(figure)
    assert words.count("990") == 10
    assert {"10", "5", "true digit", "predicted digit"} <= set(words)
    assert "99.0 %" in words  # recall of the 4s
    assert "at most 1.0 %" in " ".join(words)
    shade = np.asarray(figure.axes[0].images[0].get_array())
    assert (shade[0, 0] == shade[4, 4]).all()  # the diagonal is flat
    assert shade[0, 1] == pytest.approx((1, 1, 1))  # no error, no ink
    assert shade[4, 9].sum() < shade[7, 2].sum() < 3  # the worse, the darker


def test_confusion_matrix_without_errors_or_without_a_digit():
    counts = np.diag([5] * 9 + [0])
    words = texts(plots.confusion_matrix(counts, TITLE))
    assert "No errors" in " ".join(words)
    assert "none" in words  # a digit that was never shown has no recall


def test_sample_predictions_tell_right_from_wrong_in_words(digits):
    images, labels = digits
    rows = np.eye(10)[labels] * 0.8 + 0.02
    rows[3] = 0.1 * np.eye(10)[3] + 0.9 * np.eye(10)[5]
    figure = plots.sample_predictions(images, labels, rows, TITLE)
    words = texts(figure)
    assert len(figure.axes) == 1
    assert sum("✓" in word for word in words) == 11
    assert "✗ true 3, said 5 (90.0 %)" in words
    bars = figure.axes[0].collections[-1]
    assert len(bars.get_paths()) == 120
    wide = [np.ptp(path.vertices[:, 0]) for path in bars.get_paths()[30:40]]
    assert wide[5] == pytest.approx(9 * wide[3])  # 90 % against 10 %
    colours = {tuple(colour) for colour in bars.get_facecolors()[[33, 35, 30]]}
    assert len(colours) == 3  # true digit, wrong answer, the rest


def test_a_single_sample_is_enough(digits):
    images, labels = digits
    assert "✓ 0" in said(plots.sample_predictions(images[:1], labels[:1], np.eye(10)[:1], TITLE))


def test_worst_mistakes_are_captioned(digits):
    images, labels = digits
    predictions, sure = (labels + 5) % 10, np.linspace(0.9999, 0.5, 40)
    indices = np.arange(39, -1, -1)
    figure = plots.worst_mistakes(images, labels, predictions, sure, indices, TITLE)
    captions = [word for word in texts(figure) if word.startswith("true")]
    assert len(captions) == 25
    assert captions[0] == "true 9, said 4 (50.0 %)"
    assert "25 of 40 wrong answers" in said(figure)
    first = plots.worst_mistakes(images, labels, predictions, sure, np.array([0]), TITLE)
    assert "true 0, said 5 (>99.9 %)" in texts(first)  # never 100 % of what was wrong
    board = first.axes[0].images[0].get_array()
    ink = 1 - board[:28, :28].mean(axis=2)
    assert np.corrcoef(ink.ravel(), images[0].ravel())[0, 1] > 0.999  # this digit, upright


def test_no_mistakes_make_a_figure_too(digits):
    images, labels = digits
    none = np.array([], dtype=int)
    figure = plots.worst_mistakes(images, labels, labels, np.ones(40), none, TITLE)
    assert "No mistakes among 40 images." in texts(figure)


def test_reliability_draws_only_bins_that_hold_images():
    counts = np.array([0] * 13 + [50, 9_950])
    confidence = np.array([np.nan] * 13 + [0.9, 0.99])
    accuracy = np.array([np.nan] * 13 + [0.8, 0.98])
    figure = plots.reliability(confidence, accuracy, counts, 0.0123, TITLE)
    words = texts(figure)
    assert {"50", "9,950"} <= set(words)
    assert "0.0123 over 15 bins" in " ".join(words)
    upper, lower = figure.axes
    assert [bar.get_height() for bar in upper.patches] == [0.8, 0.98]
    assert [bar.get_height() for bar in lower.patches] == [50, 9_950]
    centre = upper.patches[1].get_x() + upper.patches[1].get_width() / 2
    assert centre == pytest.approx(14.5 / 15)
    assert upper.collections[0].get_segments()[0].tolist() == [[0.9, 0.9], [0.9, 0.8]]


def test_digit_sheet_has_a_row_for_each_digit_in_one_picture(digits):
    images, labels = digits
    figure = plots.digit_sheet(images, labels[::-1], "bundled 5,000 digits", columns=12)
    words = texts(figure)
    assert {str(digit) for digit in range(10)} <= set(words)
    assert words.count("4") == 11  # four of each digit, and the name of a row
    assert len(figure.axes) == len(figure.axes[0].images) == 1
    board = figure.axes[0].images[0].get_array()
    assert board.shape == (300, 360, 3)
    ink = 1 - board[30:58, 30:58].mean(axis=2)  # row of the 1s, second column
    second = images[np.flatnonzero(labels[::-1] == 1)[1]]
    assert np.corrcoef(ink.ravel(), second.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("name", ["m" * 60, "a$b_{2$", "many short words " * 12])
def test_a_long_title_is_wrapped_inside_the_figure(name):
    figure = plots.confusion_matrix(np.eye(10, dtype=int), f"{name} on MNIST: 97.83 %")
    words = said(figure)
    assert name[:20] in words
    frame = figure.get_window_extent()
    title, note = figure.texts
    for text in (title, note):
        box = text.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert box.y1 <= frame.y1
    assert title.get_window_extent().y0 > note.get_window_extent().y1
    label = figure.axes[0].xaxis.label.get_window_extent()
    assert note.get_window_extent().y0 > label.y1


def test_pyplot_stays_out_and_figures_are_forgotten():
    code = (
        "import sys, numpy as np; from mnist_exp import plots;"
        "plots.confusion_matrix(np.eye(10, dtype=int), 't').savefig('/dev/null', format='png');"
        "print('matplotlib.pyplot' in sys.modules, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


ROWS = [
    ({"model": model, "rate": rate}, mean, sd)
    for model, rate, mean, sd in [
        ("dense", "0.001", 0.97, 0.002),
        ("dense", "0.1", 0.90, float("nan")),
        ("cnn", "0.001", 0.99, 0.001),
    ]
]


def test_accuracy_by_value_has_a_panel_per_key_and_a_bar_per_spread():
    figure = plots.by_value(["model", "rate"], ROWS, "sweep of model, rate")
    words = said(figure)
    assert {"dense", "cnn", "model=cnn", "0.001", "0.1"} <= set(words.split("\n"))
    models, rates = figure.axes
    assert models.get_xscale() == "linear"
    assert rates.get_xscale() == "log"
    lines = {line.get_label(): line for line in rates.containers}
    drawn = lines["model=dense"].lines[0].get_xydata()
    assert drawn == pytest.approx(np.array([[0.001, 0.97], [0.1, 0.9]]))


def test_parallel_coordinates_lead_to_the_accuracy_and_mark_the_best():
    figure = plots.parallel_coordinates(["model", "rate"], ROWS, "sweep of model, rate")
    words = said(figure)
    assert "90.00 %" in words
    assert "99.00 %" in words
    (axes,) = figure.axes
    best = [line for line in axes.get_lines() if str(line.get_color()) == "#0072B2"]
    assert [line.get_ydata()[-1] for line in best] == [1.0]
    assert best[0].get_ydata()[1] == 0.0  # 0.001 is the lower of two rates


def test_many_long_values_are_slanted_so_that_none_covers_another():
    units = [f"[{width},{width},{width}]" for width in (64, 128, 256, 512)]
    rows = [({"model.units": value}, 0.9, float("nan")) for value in units]
    figure = plots.by_value(["model.units"], rows, "sweep of model.units")
    assert [label for label in texts(figure) if label in units] == units  # in the order given
    (axes,) = figure.axes
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {35.0}
    short = plots.by_value(["model"], [({"model": "cnn"}, 0.9, 0.1)], "sweep of model")
    assert {label.get_rotation() for label in short.axes[0].get_xticklabels()} == {0.0}


def test_numbers_that_a_search_drew_are_placed_by_size_and_not_all_written():
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


def test_the_optimisation_history_shows_the_best_so_far_and_marks_the_pruned():
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


def test_importances_are_bars_with_the_greatest_on_top():
    figure = plots.importances({"rate": 0.2, "drop": 0.8}, "a search")
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.2, 0.8]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["rate", "drop"]
    figure.axes[0].set_xticks([])
    assert {"20 %", "80 %"} <= set(texts(figure))
