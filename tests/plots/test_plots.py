"""Learning curves, scores and digits: the text and the shapes that are drawn."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import imread
from plots.figure_text import full_text, texts

from mnist_exp import plots

TITLE = plots.score_title("dense128", "MNIST", 0.9783, 0.97526, 0.98097, 10_000)


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


def test_the_title_names_model_data_accuracy_and_n():
    expected = "dense128 on MNIST: 97.83 % of 10,000 test images (95 % interval 97.53-98.10)"
    assert expected == TITLE


def test_learning_curves_compare_training_with_validation():
    figure = plots.learning_curves(history(15), TITLE)
    words = full_text(figure)
    assert TITLE in words
    assert "training" in words
    assert "weights kept: the last, epoch 15, validation " in words
    assert figure.axes[1].get_ylim()[1] <= 1  # no accuracy is above 100 %
    loss, accuracy = figure.axes
    assert [len(axes.get_lines()) for axes in (loss, accuracy)] == [
        3,
        3,
    ]  # the third: the kept epoch
    assert [line.get_linestyle() for line in loss.get_lines()[:2]] == ["-", "--"]
    assert loss.get_lines()[0].get_xydata()[-1] == pytest.approx((15, 1 / 15))
    assert accuracy.get_lines()[1].get_ydata()[1] == pytest.approx(0.97)
    assert all(tick == int(tick) for tick in loss.get_xticks())


def test_learning_curves_mark_the_epoch_restored_by_early_stopping():
    assert "weights kept for their loss: epoch 4, validation 95.00 %" in full_text(
        plots.learning_curves(history(6), TITLE, kept=4)
    )


def test_learning_curves_without_validation():
    figure = plots.learning_curves(history(4, validated=False), TITLE)
    assert "validation" not in full_text(figure)
    assert [len(axes.get_lines()) for axes in figure.axes] == [1, 1]


def test_learning_curves_of_one_epoch_and_of_none():
    one = plots.learning_curves(history(1), TITLE)
    assert "epoch 1" in full_text(one)
    ticks = [tick for tick in one.axes[0].get_xticks() if 0.5 <= tick <= 1.5]
    assert ticks == [1]
    assert isinstance(plots.learning_curves([], TITLE), Figure)


def test_learning_curves_show_the_training_within_epochs():
    """A single epoch's from its start; of more, the first half epoch does not set the scale."""
    for epochs, lowest in ((1, 0.1), (4, 0.9)):
        steps = [
            {"step": 8 * i, "epoch": i / 50, "step/train_loss": 5 / i, "step/train_accuracy": 0.1}
            | ({"step/train_accuracy": 1 - 2 / i} if i > 3 else {})
            for i in range(1, 50 * epochs + 1)
        ]
        figure = plots.learning_curves(history(epochs), TITLE, steps=steps)
        assert "training, means of 8 steps" in full_text(figure)
        accuracy = figure.axes[1]
        assert accuracy.get_lines()[2].get_xydata()[0] == pytest.approx((1 / 50, 0.1))
        assert lowest - 0.1 < accuracy.get_ylim()[0] < lowest
        assert accuracy.get_xlim()[0] == 0


def test_learning_curves_of_constant_values():
    """As of an accuracy of 100 % from the start."""
    steps = [
        {"step": i, "epoch": i / 2, "step/train_loss": 0.5, "step/train_accuracy": 1.0}
        for i in (1, 2, 3, 4)
    ]
    epochs = [{"train/loss": 0.5, "train/accuracy": 1.0}] * 2
    low, high = plots.learning_curves(epochs, TITLE, steps=steps).axes[1].get_ylim()
    assert low < high == 1


def test_learning_curves_accept_a_nan_loss():
    diverged = [*history(2), {"train/loss": float("nan"), "val/accuracy": float("nan")}]
    assert "epoch 2" in full_text(plots.learning_curves(diverged, TITLE, kept=2))
    assert "kept" not in full_text(plots.learning_curves(diverged, TITLE))


def test_confusion_matrix_shows_counts_and_shades_only_errors():
    counts = np.diag(np.full(10, 990))
    counts[4, 9], counts[7, 2] = 10, 5
    figure = plots.confusion_matrix(counts, TITLE)
    words = texts(figure)
    assert words.count("990") == 10
    assert {"10", "5", "true digit", "predicted digit"} <= set(words)
    assert "99.0 %" in words  # recall of the 4s
    assert "at most 1.0 %" in " ".join(words)
    shade = np.asarray(figure.axes[0].images[0].get_array())
    assert (shade[0, 0] == shade[4, 4]).all()  # one colour on the diagonal
    assert shade[0, 1] == pytest.approx((1, 1, 1))  # no error: white
    assert shade[4, 9].sum() < shade[7, 2].sum() < 3  # more errors are darker


def test_confusion_matrix_without_errors_or_without_images_of_a_digit():
    counts = np.diag([5] * 9 + [0])
    words = texts(plots.confusion_matrix(counts, TITLE))
    assert "No errors" in " ".join(words)
    assert "none" in words  # no images, no recall


def test_sample_predictions_mark_correct_and_wrong_ones(digits):
    images, labels = digits
    rows = np.eye(10)[labels] * 0.8 + 0.02
    rows[3] = 0.1 * np.eye(10)[3] + 0.9 * np.eye(10)[5]
    figure = plots.sample_predictions(images, labels, rows, TITLE)
    words = texts(figure)
    assert len(figure.axes) == 1
    assert sum("✓" in word for word in words) == 11
    assert "✗ true 3, said 5 (90.0 %)" in words
    bars, names = figure.axes[0].collections[-2:]
    assert len(bars.get_paths()) == len(names.get_offsets()) == 120
    lengths = [np.ptp(path.vertices[:, 0]) for path in bars.get_paths()[30:40]]
    assert lengths[5] == pytest.approx(9 * lengths[3])  # 90 % against 10 %
    colours = {tuple(colour) for colour in bars.get_facecolors()[[33, 35, 30]]}
    assert len(colours) == 3  # true digit, wrong prediction, the rest


def test_sample_predictions_are_one_of_each_digit_then_the_least_certain(digits):
    images, labels = digits
    labels = np.sort(labels)  # four of each, in order
    rows = np.eye(10)[labels] * 0.8 + 0.02
    rows[[7, 30]] = np.eye(10)[labels[[7, 30]]] * 0.1 + 0.09
    words = texts(plots.sample_predictions(images, labels, rows, TITLE))
    assert [word[:3] for word in words if "✓" in word] == [f"✓ {d}" for d in [*range(10), 1, 7]]


def test_sample_predictions_of_one_image(digits):
    images, labels = digits
    assert "✓ 0" in full_text(
        plots.sample_predictions(images[:1], labels[:1], np.eye(10)[:1], TITLE)
    )


def test_worst_mistakes_have_captions(digits):
    images, labels = digits
    confidences = np.linspace(0.9999, 0.6, 40)[:, None]
    rows = np.eye(10)[(labels + 5) % 10] * confidences + np.eye(10)[labels] * (1 - confidences)
    figure = plots.worst_mistakes(images, labels, rows, TITLE)
    captions = [word for word in texts(figure) if word.startswith("true")]
    assert len(captions) == 25
    assert captions[0] == "true 0, said 5 (>99.9 %)"  # a mistake is never 100.0 %
    assert captions[24] == f"true 4, said 9 ({100 * confidences[24, 0]:.1f} %)"
    assert "25 of 40 wrong answers" in full_text(figure)
    right = np.eye(10)[labels]
    last = plots.worst_mistakes(images, labels, np.concatenate([right[:39], rows[39:]]), TITLE)
    assert [word for word in texts(last) if word.startswith("true")] == ["true 9, said 4 (60.0 %)"]
    first = plots.worst_mistakes(images, labels, np.concatenate([rows[:1], right[1:]]), TITLE)
    mosaic = first.axes[0].images[0].get_array()
    drawn = 1 - mosaic[:28, :28].mean(axis=2)
    assert np.corrcoef(drawn.ravel(), images[0].ravel())[0, 1] > 0.999  # upright


def test_worst_mistakes_without_mistakes(digits):
    images, labels = digits
    figure = plots.worst_mistakes(images, labels, np.eye(10)[labels], TITLE)
    assert "No mistakes among 40 images." in texts(figure)


def test_reliability_draws_only_filled_bins():
    counts = np.array([0] * 13 + [50, 9_950])
    confidence = np.array([np.nan] * 13 + [0.9, 0.99])
    accuracy = np.array([np.nan] * 13 + [0.8, 0.98])
    intervals = accuracy - 0.05, accuracy + 0.01
    bins = counts, confidence, accuracy, *intervals
    figure = plots.reliability(bins, 0.0123, TITLE, smoothing=0.05)
    words = texts(figure)
    assert {"50", "9,950"} <= set(words)
    assert "0.0123 over 15 bins" in " ".join(words)
    assert "0.05 of each label was spread over all digits" in " ".join(words).replace("\n", " ")
    assert "spread" not in full_text(plots.reliability(bins, 0.0123, TITLE))
    after = np.array([29, 30, 999]), np.array([0.2, 0.5, 0.99]), np.array([0, 0.4, 0.98])
    calibrated = plots.reliability(bins, 0.0123, TITLE, calibrated=(after, 0.0021))
    assert "0.0021 once calibrated" in full_text(calibrated).replace("\n", " ")
    points = calibrated.axes[0].get_lines()[-1].get_xydata()
    assert points == pytest.approx(np.array([(0.5, 0.4), (0.99, 0.98)]))
    assert "calibrated" not in full_text(figure)
    upper, lower = figure.axes
    assert [
        round(float(np.ptp(box.vertices[:, 1])), 6) for box in upper.collections[0].get_paths()
    ] == [0.06, 0.06]
    assert [bar.get_height() for bar in lower.patches] == [50, 9_950]
    centre = lower.patches[1].get_x() + lower.patches[1].get_width() / 2
    assert centre == pytest.approx(14.5 / 15)
    assert upper.collections[1].get_segments()[0].tolist() == [[0.9, 0.9], [0.9, 0.8]]


def test_digit_sheet_is_one_image_with_a_row_per_digit(digits):
    images, labels = digits
    figure = plots.digit_sheet(images, labels[::-1], "bundled 5,000 digits", columns=12)
    words = texts(figure)
    assert {str(digit) for digit in range(10)} <= set(words)
    assert words.count("4") == 11  # ten counts and a row label
    assert len(figure.axes) == len(figure.axes[0].images) == 1
    mosaic = figure.axes[0].images[0].get_array()
    assert mosaic.shape == (300, 360, 3)
    drawn = 1 - mosaic[30:58, 30:58].mean(axis=2)  # row of the 1s, second column
    second = images[np.flatnonzero(labels[::-1] == 1)[1]]
    assert np.corrcoef(drawn.ravel(), second.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("name", ["m" * 60, "a$b_{2$", "many short words " * 12])
def test_a_long_title_is_wrapped_inside_the_figure(name):
    figure = plots.confusion_matrix(np.eye(10, dtype=int), f"{name} on MNIST: 97.83 %")
    words = full_text(figure)
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


def test_pyplot_is_not_imported():
    code = (
        "import sys, numpy as np; from mnist_exp import plots;"
        "plots.confusion_matrix(np.eye(10, dtype=int), 't').savefig('/dev/null', format='png');"
        "print('matplotlib.pyplot' in sys.modules, 'tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]


def test_names_of_groups_are_folded_not_cut():
    names = [f"cnn {'optimizer.learning_rate=0.001 ' * 3}dropout={k}" for k in range(2)]
    drawn = plots.accuracies(names, [0.9, 0.8], [(0.8, 1.0)] * 2, [[0.9], [0.8]], TITLE)
    written = [" ".join(text.split()) for text in texts(drawn)]
    assert all(name in written for name in names)


def test_figures_of_many_groups_stay_readable():
    names = [f"group {k}" for k in range(25)]
    agreement = full_text(plots.agreement(names, np.full((25, 25), 0.9), TITLE))
    assert "the first 20 groups" in agreement
    assert "group 20" not in agreement
    cost, accuracy = np.arange(1.0, 26), np.linspace(0.9, 0.8, 25)  # only the first is worth it
    trade_off = plots.trade_off(names, accuracy, cost, cost, TITLE)
    assert [text for text in texts(trade_off) if "group " in text] == ["1  group 0"]


def test_a_png_has_the_dpi_asked_for(digits, tmp_path):
    images, labels = digits
    for dpi in (50, 200):
        figure = plots.digit_sheet(images, labels, TITLE)
        plots.save({f"at_{dpi}": figure}, tmp_path, ["png"], dpi)
    coarse, fine = (imread(tmp_path / f"at_{dpi}.png").shape[1] for dpi in (50, 200))
    assert fine == pytest.approx(4 * coarse, abs=4)


def test_numbers_of_groups_that_cost_the_same_do_not_lie_over_each_other():
    accuracy, cost = [0.97, 0.9701, 0.9702, 0.98], [10, 10, 10, 20]
    figure = plots.trade_off(list("abcd"), accuracy, cost, cost, TITLE)
    for axes in figure.axes:
        places = [
            np.array(text.xyann) + axes.transData.transform(text.xy) * 72 / figure.dpi
            for text in axes.texts
        ]
        assert len(places) == 4
        gaps = [np.abs(a - b).max() for n, a in enumerate(places) for b in places[:n]]
        assert min(gaps) > 6  # points


def test_no_style_of_the_user_changes_a_figure(tmp_path):
    for name, style in (("plain", {}), ("styled", {"text.usetex": True, "axes.facecolor": "red"})):
        with rc_context(style):
            figure = plots.confusion_matrix(np.diag(range(10)), TITLE)
            plots.save({name: figure}, tmp_path, ["png"])
    plain, styled = ((tmp_path / f"{name}.png").read_bytes() for name in ("plain", "styled"))
    assert plain == styled


LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


def test_many_classes_are_named_and_empty_cells_stay_blank():
    counts = np.diag(np.full(26, 40))
    counts[25, 2] = 7
    figure = plots.confusion_matrix(counts, TITLE, LETTERS)
    words = texts(figure)
    assert words.count("40") == 26
    assert "0" not in words
    assert {"7", "z", "predicted class", "true class"} <= {*words}
    large = plots.confusion_matrix(np.eye(47, dtype=int), TITLE, [f"class {k}" for k in range(47)])
    assert large.get_figwidth() > figure.get_figwidth() > 8.4


def test_of_many_classes_the_ten_most_probable_are_drawn(digits):
    images = digits[0]
    labels = np.arange(40) % 26
    rows = np.eye(26)[labels] * 0.4 + np.eye(26)[(labels + 1) % 26] * 0.3 + 0.3 / 26
    figure = plots.sample_predictions(images, labels, rows, TITLE, LETTERS)
    words = texts(figure)
    assert sum("✓" in word for word in words) == 12
    assert "✓ a (41.2 %)" in words
    assert "the first of six classes" in full_text(figure)
    bars = figure.axes[0].collections[-2]
    assert len(bars.get_paths()) == 120
    names = ["cat", "d$og$", "hen"]
    named = plots.sample_predictions(images, labels % 3, rows[:, :3], TITLE, names)
    assert "the first of each class" in full_text(named)
    assert any("true cat, said hen" in word or "✓ cat" in word for word in texts(named))


def test_mistakes_and_sheets_have_names(digits):
    images, names = digits[0], ("a very long name of a class", "b")
    wrong = np.tile([0.1, 0.9], (40, 1))
    labels = np.arange(40) % 2
    captions = texts(plots.worst_mistakes(images, labels, wrong, TITLE, names))
    assert "true a very long n…, said b (90.0 %)" in captions
    figure = plots.digit_sheet(images, np.arange(40) % 26, TITLE, columns=4, classes=LETTERS)
    assert {*LETTERS} <= {*texts(figure)}
    assert figure.axes[0].images[0].get_array().shape == (26 * 30, 8 * 30, 3)
