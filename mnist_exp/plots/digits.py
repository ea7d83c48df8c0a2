"""Images of digits, drawn as one mosaic: a figure of 100 axes took 1.4 s to draw."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from mnist_exp.plots import base
from mnist_exp.plots.base import BLUE, GREY, INK, TILE, VERMILLION, Array, in_own_style

SIDE = 28  # pixels of a digit
Pixels = tuple[int, int]  # of a digit: across, down


@in_own_style
def sample_predictions(images: Array, labels: Array, probabilities: Array, title: str) -> Figure:
    """12 of `images` (n, 28, 28), each with its ten probabilities as bars.

    The first of each digit, then the least certain others.
    """
    first = np.unique(labels, return_index=True)[1].tolist()
    doubtful = np.argsort(probabilities.max(axis=1), kind="stable").tolist()
    chosen = [*dict.fromkeys([*first, *doubtful])][:12]
    images, labels, probabilities = images[chosen], labels[chosen], probabilities[chosen]
    note = (
        "Sample predictions: the first of each digit, then the least certain. Blue bar: the true "
        "digit. Orange bar: a wrong answer."
    )
    figure = base.new_figure(11.1, 1.95 * ceil(len(images) / 4), title, note)
    axes, corners = _cards(figure, images, probabilities, labels, down=38)
    for (x, y), label, row in zip(corners, labels, probabilities, strict=True):
        predicted = int(row.argmax())
        correct = predicted == label
        caption = f"✓ {predicted}" if correct else f"✗ true {label}, said {predicted}"
        caption += f" ({base.percent(row[predicted])})"
        colour = BLUE if correct else VERMILLION
        base.text_at(axes, x, y + 31, caption, size=9, color=colour, fontweight="bold")
    return figure


@in_own_style
def preprocessed_pictures(
    images: Array, probabilities: Array, names: Sequence[str], title: str
) -> Figure:
    """The model's inputs (n, 28, 28) made from named pictures, each with its ten probabilities."""
    note = "The 28x28 pixels that the model saw, as dark on light, and its ten probabilities."
    figure = base.new_figure(11.1, 2.15 * ceil(len(images) / 4), title, note)
    predictions = probabilities.argmax(axis=1)
    axes, corners = _cards(figure, images, probabilities, predictions, down=42)
    for (x, y), name, digit, row in zip(corners, names, predictions, probabilities, strict=True):
        caption = f"{digit} ({base.percent(row[digit])})"
        base.text_at(axes, x, y + 31, caption, size=9, color=BLUE, fontweight="bold")
        base.text_at(axes, x, y + 35, name if len(name) <= 32 else f"...{name[-29:]}", color=GREY)
    return figure


@in_own_style
def worst_mistakes(images: Array, labels: Array, probabilities: Array, title: str) -> Figure:
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
    figure = base.new_figure(9.1, 1.44 * ceil(len(chosen) / 5), title, note)
    axes, corners = _mosaic(figure, images[chosen], columns=5, pitch=(44, 36), scale=0.04, left=0.3)
    for (x, y), index in zip(corners, chosen, strict=True):
        caption = (
            f"true {labels[index]}, said {predictions[index]} ({base.percent(confidences[index])})"
        )
        base.text_at(axes, x, y + 31, caption, size=8.5)
    return figure


@in_own_style
def digit_sheet(images: Array, labels: Array, title: str, *, columns: int = 16) -> Figure:
    """A row per digit: its first `columns` images in file order and its count in `labels`."""
    tiles = np.zeros((10, columns, SIDE, SIDE), images.dtype)
    counts = np.bincount(labels, minlength=10)
    for digit in range(10):
        examples = images[np.flatnonzero(labels == digit)[:columns]]
        tiles[digit, : len(examples)] = examples
    note = f"The first {columns} of each digit, and how many there are in {len(labels):,} images."
    figure = base.new_figure(0.6 * columns + 1.4, 6.1, title, note)
    axes, corners = _mosaic(
        figure, tiles.reshape(-1, SIDE, SIDE), columns=columns, pitch=(30, 30), scale=0.02, left=0.6
    )
    for digit, (x, y) in enumerate(corners[::columns]):
        base.text_at(axes, x - 8, y + 14, str(digit), size=12, ha="right", fontweight="bold")
        base.text_at(axes, x + 30 * columns + 4, y + 14, f"{counts[digit]:,}", size=9, color=GREY)
    return figure


@in_own_style
def corruption_sheet(rows: Sequence[Array], captions: Sequence[str], title: str) -> Figure:
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


def _cards(
    figure: Figure, images: Array, probabilities: Array, labels: Array, *, down: int
) -> tuple[Axes, list[Pixels]]:
    """As `_mosaic`, with probabilities (n, 10) as bars: the label's blue, a wrong answer's orange.

    `down` is the distance between rows, in pixels of a digit.
    """
    axes, corners = _mosaic(figure, images, columns=4, pitch=(54, down), scale=0.05, left=0.3)
    backgrounds, bars, colours, places = [], [], [], []
    for (x, y), row, label in zip(corners, probabilities, labels, strict=True):
        predicted = int(row.argmax())
        for digit, probability in enumerate(row):
            middle = y + 2.8 * (digit + 0.5)
            places.append((x + 32, middle))
            backgrounds.append(base.box(x + 33, middle - 1, x + 48, middle + 1))
            bars.append(base.box(x + 33, middle - 1, x + 33 + 15 * probability, middle + 1))
            wrong = VERMILLION if digit == predicted else GREY
            colours.append(BLUE if digit == label else wrong)
    axes.add_collection(PolyCollection(backgrounds, facecolors=TILE), autolim=False)
    axes.add_collection(PolyCollection(bars, facecolors=colours), autolim=False)
    outlines = []
    for digit in range(10):
        outline = TextPath((0, 0), str(digit), size=7)
        right, top = outline.vertices.max(axis=0)
        outlines.append(outline.transformed(Affine2D().translate(-right, -top / 2)))
    # As 120 texts they took an eighth of the time of all figures of a run.
    names = PathCollection(outlines, offsets=places, offset_transform=axes.transData, color=INK)
    names.set(linewidth=0, transform=Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    axes.add_collection(names, autolim=False)
    return axes, corners
