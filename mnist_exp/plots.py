"""Numbers in, matplotlib `Figure` out: nothing is saved, and pyplot's global state is not used.

Axes are placed in inches under a header that grows with its text, so nothing overlaps and no
layout engine has to draw everything twice. Digits go in as one mosaic: 100 axes took 1.4 s to draw.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

# Okabe and Ito's colours, told apart with any colour vision; blue is right, vermillion is wrong.
BLUE, VERMILLION = "#0072B2", "#D55E00"
INK, GREY, PALE, TILE = "#222222", "#6B7280", "#D1D5DB", "#F1F3F5"
SIDE = 28  # pixels of a digit

Array = NDArray[Any]


def score_title(model: str, data: str, accuracy: float, low: float, high: float, n: int) -> str:
    """'dense128 on MNIST: 97.83 % of 10,000 test images (95 % interval 97.53-98.10)'."""
    return (
        f"{model} on {data}: {100 * accuracy:.2f} % of {n:,} test images "
        f"(95 % interval {100 * low:.2f}-{100 * high:.2f})"
    )


def learning_curves(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Loss and accuracy per epoch, training against validation, the best epoch marked."""
    note = "Training figures are means over an epoch, while the weights still move"
    validated = any("val/accuracy" in epoch for epoch in history)
    if validated:
        note += "; validation is measured after it"
    figure = _page(10, 4.1, title, f"Learning curves. {note}.")
    panels = [_axes(figure, left, 0.6, 4.1, 3.1) for left in (0.8, 5.7)]
    for axes, kind in zip(panels, ("loss", "accuracy"), strict=True):
        _curve(axes, _series(history, f"train/{kind}"), "training")
        if validated:
            _curve(axes, _series(history, f"val/{kind}"), "validation")
        axes.set_title(kind.capitalize(), loc="left", fontsize=10, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        axes.set_xlim(0.5, max(1, len(history)) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=PALE, linewidth=0.6)
    panels[0].set_ylabel("cross-entropy (nats)", fontsize=9, color=INK)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    if validated:
        _mark_best(panels, _series(history, "val/accuracy"))
    panels[0].legend(fontsize=9, frameon=False)
    return figure


def confusion_matrix(confusion: Array, title: str) -> Figure:
    """Counts of true digit (row) against predicted digit (column), errors shaded by their share.

    The diagonal keeps one flat colour: on any common scale it would drown the errors.
    """
    totals = confusion.sum(axis=1)
    shares = confusion / np.maximum(totals, 1)[:, None]
    errors = np.where(np.eye(len(confusion), dtype=bool), 0, shares)
    darkest = float(errors.max())
    shade = _blend(errors / darkest if darkest else errors, "#FFFFFF", VERMILLION)
    shade[np.eye(len(confusion), dtype=bool)] = to_rgb("#D3E7F3")
    note = f"Errors, orange, are shaded by their share of the row, at most {_percent(darkest)}."
    figure = _page(8.4, 6.9, title, f"Confusion matrix. {note if darkest else 'No errors.'}")
    axes = _axes(figure, 0.8, 0.1, 6.6, 6.2)
    axes.imshow(shade, aspect="auto")
    for (row, column), count in np.ndenumerate(confusion):
        heavy = row == column or errors[row, column] > 0.6 * darkest
        axes.text(
            column, row, f"{count:,}", ha="center", va="center", fontsize=10,
            color=INK if count else PALE, fontweight="bold" if heavy and count else "normal",
        )  # fmt: skip
    for digit, total in enumerate(totals):
        recall = _percent(shares[digit, digit]) if total else "none"
        axes.text(9.62, digit, recall, va="center", fontsize=9, color=GREY)
    axes.text(9.62, -0.75, "recall", va="center", fontsize=9, color=GREY)
    axes.set(xticks=range(10), yticks=range(10))
    axes.xaxis.set(label_position="top", ticks_position="top")
    axes.set_xlabel("predicted digit", fontsize=10, color=INK)
    axes.set_ylabel("true digit", fontsize=10, color=INK)
    return figure


def sample_predictions(images: Array, labels: Array, probabilities: Array, title: str) -> Figure:
    """The first dozen of `images` (n, 28, 28), each beside its ten probabilities as bars."""
    images, labels, probabilities = images[:12], labels[:12], probabilities[:12]
    note = "Sample predictions. Blue bar: the true digit. Orange bar: a wrong answer."
    figure = _page(11.1, 1.95 * ceil(len(images) / 4), title, note)
    axes, corners = _mosaic(figure, images, columns=4, pitch=(54, 38), scale=0.05, left=0.3)
    tracks, bars, colours = [], [], []
    for (x, y), label, shares in zip(corners, labels, probabilities, strict=True):
        said = int(shares.argmax())
        answer = f"✓ {said}" if said == label else f"✗ true {label}, said {said}"
        colour = BLUE if said == label else VERMILLION
        caption = f"{answer} ({_percent(shares[said])})"
        _text(axes, x, y + 31, caption, size=9, color=colour, fontweight="bold")
        for digit, share in enumerate(shares):
            middle = y + 2.8 * (digit + 0.5)
            _text(axes, x + 32, middle, str(digit), ha="right")
            tracks.append(_bar(x + 33, middle, 15))
            bars.append(_bar(x + 33, middle, 15 * share))
            colours.append(BLUE if digit == label else colour if digit == said else GREY)
    axes.add_collection(PolyCollection(tracks, facecolors=TILE), autolim=False)
    axes.add_collection(PolyCollection(bars, facecolors=colours), autolim=False)
    return figure


def worst_mistakes(
    images: Array,
    labels: Array,
    predictions: Array,
    confidences: Array,
    indices: Array,
    title: str,
) -> Figure:
    """The first 25 of `indices` into the other arrays, as digits captioned with what was said."""
    chosen = np.asarray(indices, dtype=int)[:25]
    if not len(chosen):
        figure = _page(9.1, 1.2, title, "Worst mistakes.")
        text = f"No mistakes among {len(labels):,} images."
        figure.text(0.5, 0.6 / figure.get_figheight(), text, ha="center", fontsize=13, color=GREY)
        return figure
    wrong = int(np.not_equal(labels, predictions).sum())
    note = f"Worst mistakes: {len(chosen)} of {wrong:,} wrong answers, the most confident first."
    figure = _page(9.1, 1.44 * ceil(len(chosen) / 5), title, note)
    axes, corners = _mosaic(figure, images[chosen], columns=5, pitch=(44, 36), scale=0.04, left=0.3)
    for (x, y), index in zip(corners, chosen, strict=True):
        said = f"true {labels[index]}, said {predictions[index]} ({_percent(confidences[index])})"
        _text(axes, x, y + 31, said, size=8.5)
    return figure


def reliability(
    bin_confidence: Array, bin_accuracy: Array, bin_counts: Array, ece: float, title: str
) -> Figure:
    """Accuracy against confidence per bin, the gaps marked, over a count of images per bin."""
    note = f"Reliability. Calibration error (ECE) {ece:.4f} over {len(bin_counts)} bins"
    figure = _page(8.4, 6.6, title, f"{note}; a gap over few images may be chance.")
    upper, lower = _axes(figure, 0.8, 2.3, 7.3, 4.2), _axes(figure, 0.8, 0.55, 7.3, 1.45)
    full = np.flatnonzero(bin_counts)
    middles, width = (full + 0.5) / len(bin_counts), 0.9 / len(bin_counts)
    mean, hit, counts = (np.asarray(v)[full] for v in (bin_confidence, bin_accuracy, bin_counts))
    upper.bar(middles, hit, width, color=BLUE, alpha=0.35, label="accuracy in the bin")
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfect calibration")
    gaps = [((x, x), (x, y)) for x, y in zip(mean, hit, strict=True)]
    label = "gap: accuracy - confidence"
    upper.add_collection(LineCollection(gaps, colors=VERMILLION, label=label))
    dots: dict[str, Any] = {"markersize": 5, "clip_on": False, "zorder": 3}
    upper.plot(mean, hit, "o", color=VERMILLION, label="mean of the bin", **dots)
    upper.set(xlim=(0, 1), ylim=(0, 1.03), xticklabels=[])
    upper.set_ylabel("accuracy", fontsize=9, color=INK)
    upper.legend(fontsize=9, frameon=False, loc="upper left")
    lower.bar(middles, counts, width, color=GREY)
    for middle, count in zip(middles, counts, strict=True):
        _text(lower, middle, 1.25 * count, f"{count:,}", size=8, ha="center", va="bottom")
    lower.set(xlim=(0, 1), yscale="log", ylim=(0.7, 5 * counts.max()))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.set_ylabel("images (log)", fontsize=9, color=INK)
    lower.set_xlabel("confidence: the probability of the predicted digit", fontsize=9, color=INK)
    return figure


def digit_sheet(images: Array, labels: Array, title: str, *, columns: int = 16) -> Figure:
    """A row of examples of each digit, the first `columns` in file order, and how many there are.

    The counts are those of the arrays given, so pass the whole split.
    """
    board = np.zeros((10, columns, SIDE, SIDE), images.dtype)
    counts = np.bincount(labels, minlength=10)
    for digit in range(10):
        examples = images[np.flatnonzero(labels == digit)[:columns]]
        board[digit, : len(examples)] = examples
    note = f"The first {columns} of each digit, and how many there are in {len(labels):,} images."
    figure = _page(0.6 * columns + 1.4, 6.1, title, note)
    axes, corners = _mosaic(
        figure, board.reshape(-1, SIDE, SIDE), columns=columns, pitch=(30, 30), scale=0.02, left=0.6
    )
    for digit, (x, y) in enumerate(corners[::columns]):
        _text(axes, x - 8, y + 14, str(digit), size=12, ha="right", fontweight="bold")
        _text(axes, x + 30 * columns + 4, y + 14, f"{counts[digit]:,}", size=9, color=GREY)
    return figure


def _page(width: float, height: float, title: str, note: str) -> Figure:
    """A figure with `height` inches of body under a header as high as title and note need."""
    heading = _lines(title, width - 0.7, size=12, weight="bold")
    lines = _lines(note, width - 0.7, size=9)
    top = round(0.35 + 0.22 * len(heading) + 0.17 * len(lines), 2)
    figure = Figure(figsize=(width, height + top), dpi=100)
    x, y = 0.25 / width, (height + top - 0.15) / (height + top)
    look: dict[str, Any] = {"va": "top", "parse_math": False, "linespacing": 1.2}
    figure.text(x, y, "\n".join(heading), fontsize=12, fontweight="bold", color=INK, **look)
    y -= (0.22 * len(heading) + 0.04) / (height + top)
    figure.text(x, y, "\n".join(lines), fontsize=9, color=GREY, **look)
    return figure


def _lines(text: str, width: float, **font: Any) -> list[str]:
    """The text in as many lines as its letters need in `width` inches."""
    look = FontProperties(**font)
    columns, lines = len(text), [text]
    while columns > 1:
        sizes = (text_to_path.get_text_width_height_descent(line, look, False) for line in lines)
        widest = max(size[0] for size in sizes) / 72
        if widest <= width:
            break
        columns = min(columns - 1, int(columns * width / widest))
        lines = wrap(text, max(1, columns), break_on_hyphens=False)
    return lines


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at this place in inches."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
    axes.tick_params(labelsize=9, colors=INK, length=3, color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(PALE)
    axes.set_axisbelow(True)
    return axes


def _mosaic(
    figure: Figure,
    images: Array,
    *,
    columns: int,
    pitch: tuple[int, int],
    scale: float,
    left: float,
) -> tuple[Axes, list[tuple[int, int]]]:
    """All digits drawn as one picture, and each one's top left corner, in pixels of a digit.

    `pitch` is from digit to digit (across, down) in such pixels, `scale` their size in inches:
    a multiple of 0.01 is whole screen pixels at 100 dpi.
    """
    across, down = pitch
    wide, high = columns * across, ceil(len(images) / columns) * down
    board = np.ones((high, wide, 3))
    corners = [((k % columns) * across, (k // columns) * down) for k in range(len(images))]
    for (x, y), image in zip(corners, images, strict=True):
        board[y : y + SIDE, x : x + SIDE] = _blend(image / 255, TILE, INK)
    axes = _axes(figure, left, 0.05, wide * scale, high * scale)
    axes.imshow(board, extent=(0, wide, high, 0), aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    return axes, corners


def _curve(axes: Axes, values: Array, label: str) -> None:
    style, colour = ("s--", VERMILLION) if label == "validation" else ("o-", BLUE)
    size = 4 if len(values) <= 30 else 0
    axes.plot(range(1, len(values) + 1), values, style, color=colour, markersize=size, label=label)


def _series(history: Sequence[Mapping[str, float]], key: str) -> Array:
    """One value per epoch, NaN where an epoch has none."""
    return np.array([epoch.get(key, np.nan) for epoch in history])


def _mark_best(panels: Sequence[Axes], scores: Array) -> None:
    """A line through every panel at the epoch of the highest validation accuracy."""
    if np.isnan(scores).all():
        return
    best = int(np.nanargmax(scores))
    for axes in panels:
        axes.axvline(best + 1, color=GREY, linewidth=1, linestyle=":", zorder=0)
    text = f"best validation {100 * scores[best]:.2f} %, epoch {best + 1}"
    panels[-1].set_title(text, loc="right", fontsize=9, color=GREY)


def _text(axes: Axes, x: float, y: float, text: str, size: float = 7, **look: Any) -> None:
    look = {"va": "center", "color": INK} | look
    axes.text(x, y, text, fontsize=size, parse_math=False, **look)


def _bar(x: float, middle: float, length: float) -> list[tuple[float, float]]:
    """The corners of a horizontal bar."""
    return [
        (x, middle - 1), (x + length, middle - 1), (x + length, middle + 1), (x, middle + 1)
    ]  # fmt: skip


def _blend(amount: Array, low: str, high: str) -> Array:
    """Colours (..., 3) between `low` at 0 and `high` at 1."""
    start, end = np.array(to_rgb(low)), np.array(to_rgb(high))
    colours: Array = start + amount[..., None] * (end - start)
    return colours


def _percent(share: float) -> str:
    """'97.3 %'; never '100.0 %' of what is less than certain."""
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
