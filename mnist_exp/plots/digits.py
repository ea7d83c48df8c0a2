"""Images of digits drawn as one mosaic: a figure of 100 axes took 1.4 s to draw."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from mnist_exp.core.classes import DIGITS, noun, shorten
from mnist_exp.plots import base
from mnist_exp.plots.base import BLUE, GREY, INK, TILE, VERMILLION, Array, Names, in_own_style

SIDE = 28  # pixels of a digit
MAX_BARS, MAX_LARGE = 10, 20  # classes: beside an image; with large images in a sheet
MAX_NAME = 14  # characters of a class
Pixels = tuple[int, int]  # of a digit: across, down


@in_own_style
def sample_predictions(
    images: Array, labels: Array, probabilities: Array, title: str, classes: Names = DIGITS
) -> Figure:
    """12 of `images` (n, 28, 28), each with its probabilities as bars.

    The first of each class, or of six where there are more than twelve, then the least certain.
    """
    first = np.unique(labels, return_index=True)[1].tolist()
    many = len(classes) > 12
    first = first[:6] if many else first
    doubtful = np.argsort(probabilities.max(axis=1), kind="stable").tolist()
    chosen = [*dict.fromkeys([*first, *doubtful])][:12]
    images, labels, probabilities = images[chosen], labels[chosen], probabilities[chosen]
    note = (
        f"Sample predictions: the first of {'six classes' if many else f'each {noun(classes)}'}, "
        f"then the least certain. Blue bar: the true {noun(classes)}. Orange bar: a wrong answer."
    )
    names = [shorten(name, MAX_NAME) for name in classes]
    figure = base.new_figure(11.1, 1.95 * ceil(len(images) / _across(names)), title, note)
    axes, corners = _cards(figure, images, probabilities, labels, names, 38)
    for (x, y), label, row in zip(corners, labels, probabilities, strict=True):
        predicted = int(row.argmax())
        correct = predicted == label
        said = names[predicted]
        caption = f"✓ {said}" if correct else f"✗ true {names[label]}, said {said}"
        caption += f" ({base.percent(row[predicted])})"
        colour = BLUE if correct else VERMILLION
        base.text_at(axes, x, y + 31, caption, size=9, color=colour, fontweight="bold")
    return figure


@in_own_style
def preprocessed_pictures(
    images: Array, probabilities: Array, names: Names, title: str, classes: Names = DIGITS
) -> Figure:
    """The model's inputs (n, 28, 28) made from named pictures, each with its probabilities."""
    ten = "ten" if len(classes) >= MAX_BARS else len(classes)
    note = f"The 28x28 pixels that the model saw, as dark on light, and its {ten} probabilities."
    short = [shorten(name, MAX_NAME) for name in classes]
    figure = base.new_figure(11.1, 2.15 * ceil(len(images) / _across(short)), title, note)
    predictions = probabilities.argmax(axis=1)
    axes, corners = _cards(figure, images, probabilities, predictions, short, 42)
    for (x, y), name, label, row in zip(corners, names, predictions, probabilities, strict=True):
        caption = f"{short[label]} ({base.percent(row[label])})"
        base.text_at(axes, x, y + 31, caption, size=9, color=BLUE, fontweight="bold")
        base.text_at(axes, x, y + 35, name if len(name) <= 32 else f"...{name[-29:]}", color=GREY)
    return figure


@in_own_style
def worst_mistakes(
    images: Array, labels: Array, probabilities: Array, title: str, classes: Names = DIGITS
) -> Figure:
    """The 25 most confident wrong answers on `images` (n, 28, 28), with label and prediction."""
    predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    chosen = wrong[np.argsort(-confidences[wrong], kind="stable")[:25]]
    if not len(chosen):
        figure = base.new_figure(9.1, 1.2, title, "Worst mistakes.")
        text = f"No mistakes among {len(labels):,} images."
        figure.text(0.5, 0.6 / figure.get_figheight(), text, ha="center", fontsize=13, color=GREY)
        return figure
    count = f"{len(chosen)} of {len(wrong):,}"
    note = f"Worst mistakes: {count} wrong answers, the most confident first."
    names = [shorten(name, MAX_NAME) for name in classes]
    columns, pitch = (5, (44, 36)) if _across(names) == 4 else (3, (74, 36))
    figure = base.new_figure(9.1, 1.44 * ceil(len(chosen) / columns), title, note)
    axes, corners = _mosaic(
        figure, images[chosen], columns=columns, pitch=pitch, scale=0.04, left=0.3
    )
    for (x, y), index in zip(corners, chosen, strict=True):
        true, said = names[labels[index]], names[predictions[index]]
        caption = f"true {true}, said {said} ({base.percent(confidences[index])})"
        base.text_at(axes, x, y + 31, caption, size=8.5)
    return figure


@in_own_style
def digit_sheet(
    images: Array, labels: Array, title: str, *, columns: int = 16, classes: Names = DIGITS
) -> Figure:
    """A row per class: its first `columns` images in file order and its count in `labels`.

    Of more than 20 classes the images are half as large, and twice as many in a row.
    """
    many = len(classes) > MAX_LARGE
    scale, columns, size = (0.01, 2 * columns, 9) if many else (0.02, columns, 12)
    names = [shorten(name, MAX_NAME) for name in classes]
    tiles = np.zeros((len(classes), columns, SIDE, SIDE), images.dtype)
    counts = np.bincount(labels, minlength=len(classes))
    for label in range(len(classes)):
        examples = images[np.flatnonzero(labels == label)[:columns]]
        tiles[label, : len(examples)] = examples
    kind, n = noun(classes), f"{len(labels):,}"
    note = f"The first {columns} of each {kind}, and how many there are in {n} images."
    left = 0.6 + 0.11 * (max(map(len, names)) - 1)
    height = 30 * scale * len(classes) + 0.1
    figure = base.new_figure(30 * scale * columns + 0.8 + left, height, title, note)
    flat = tiles.reshape(-1, SIDE, SIDE)
    axes, corners = _mosaic(figure, flat, columns=columns, pitch=(30, 30), scale=scale, left=left)
    for label, (x, y) in enumerate(corners[::columns]):
        base.text_at(axes, x - 8, y + 14, names[label], size, ha="right", fontweight="bold")
        base.text_at(axes, x + 30 * columns + 4, y + 14, f"{counts[label]:,}", size=9, color=GREY)
    return figure


@in_own_style
def corruption_sheet(rows: Sequence[Array], captions: Names, title: str) -> Figure:
    """A row of images (k, 28, 28) per caption: the same digits under each corruption."""
    columns = len(rows[0])
    note = "The same test images under each corruption, and the accuracy on all of them."
    figure = base.new_figure(2.9 + 0.6 * columns, 0.6 * len(rows), title, note)
    tiles = np.concatenate(rows)
    axes, corners = _mosaic(figure, tiles, columns=columns, pitch=(30, 30), scale=0.02, left=2.6)
    for caption, (x, y) in zip(captions, corners[::columns], strict=True):
        base.text_at(axes, x - 6, y + 14, caption, size=9, ha="right")
    return figure


def _mosaic(
    figure: Figure, images: Array, *, columns: int, pitch: Pixels, scale: float, left: float
) -> tuple[Axes, list[Pixels]]:
    """Draw all digits as one picture; return its axes and each digit's top left corner.

    `pitch` is the distance between digits; `scale` is the size of their pixels in inches: a
    multiple of 0.01 is whole screen pixels at 100 dpi.
    """
    across, down = pitch
    width, height = columns * across, ceil(len(images) / columns) * down
    canvas = np.ones((height, width, 3))
    corners = [((k % columns) * across, (k // columns) * down) for k in range(len(images))]
    for (x, y), image in zip(corners, images, strict=True):
        canvas[y : y + SIDE, x : x + SIDE] = base.blend(image / 255, TILE, INK)
    axes = base.axes_at(figure, left, 0.05, width * scale, height * scale)
    axes.imshow(canvas, extent=(0, width, height, 0), interpolation="nearest")
    axes.set_axis_off()
    return axes, corners


def _across(names: Names) -> int:
    """How many cards are side by side: fewer where names of classes need room."""
    return 4 if max(map(len, names)) <= 2 else 3


def _cards(
    figure: Figure, images: Array, probabilities: Array, labels: Array, names: Names, down: int
) -> tuple[Axes, list[Pixels]]:
    """As `_mosaic`, with probabilities (n, classes) as bars: the label's blue, a wrong one orange.

    Of more than ten classes these are the ten most probable. `down` is the distance between rows,
    in pixels of a digit.
    """
    columns, bar = _across(names), 33 if _across(names) == 4 else 51
    pitch = bar + 21, down
    axes, corners = _mosaic(figure, images, columns=columns, pitch=pitch, scale=0.05, left=0.3)
    backgrounds, bars, colours, places, shown = [], [], [], [], []
    for (x, y), row, label in zip(corners, probabilities, labels, strict=True):
        predicted = int(row.argmax())
        is_large = len(row) > MAX_BARS
        best = np.argsort(-row, kind="stable")[:MAX_BARS] if is_large else np.arange(len(row))
        for line, each in enumerate(best.tolist()):
            middle = y + 2.8 * (line + 0.5)
            places.append((x + bar - 1, middle))
            shown.append(each)
            backgrounds.append(base.box(x + bar, middle - 1, x + bar + 15, middle + 1))
            bars.append(base.box(x + bar, middle - 1, x + bar + 15 * row[each], middle + 1))
            wrong = VERMILLION if each == predicted else GREY
            colours.append(BLUE if each == label else wrong)
    axes.add_collection(PolyCollection(backgrounds, facecolors=TILE), autolim=False)
    axes.add_collection(PolyCollection(bars, facecolors=colours), autolim=False)
    outlines = {}
    for each in set(shown):
        outline = TextPath((0, 0), names[each].replace("$", r"\$"), size=7)  # no mathtext
        right, top = outline.vertices.max(axis=0)
        outlines[each] = outline.transformed(Affine2D().translate(-right, -top / 2))
    # As 120 texts they took an eighth of the time of all figures of a run.
    drawn = [outlines[each] for each in shown]
    texts = PathCollection(drawn, offsets=places, offset_transform=axes.transData, color=INK)
    texts.set(linewidth=0, transform=Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    axes.add_collection(texts, autolim=False)
    return axes, corners
