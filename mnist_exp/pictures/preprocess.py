"""Preprocess a picture of a handwritten digit into 28x28 pixels in MNIST's form, for `predict`.

The picture is decoded and binarized, specks are dropped, strokes are grouped into digits, and the
one digit is normalized as by LeCun et al. (1998, section III.A): fitted into 20x20, its centre of
mass in the middle of 28x28.
"""

from dataclasses import dataclass
from itertools import chain
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_exp.pictures.binarize import ink_by_background, ink_by_threshold, to_grey
from mnist_exp.pictures.decode import Floats, decode

BOX, SIDE = 20, 28
MIN_STROKE = 0.1  # of the largest stroke: a smaller one is dirt
MIN_DIGIT = 0.04  # of the picture's side: a smaller mark is no digit
MIN_SECOND_DIGIT = 0.4  # of the largest stroke: a smaller mark is no second digit
MAX_GAP = 0.25  # of the larger stroke: between the strokes of one digit
MAX_COMPONENTS = 20_000  # more are noise, not a page
MAX_STROKES = 300  # that are grouped
MAX_WIDTH = 2.2  # by height: 99.9 % of MNIST's digits are below 1.7
MAX_HOLES, MIN_HOLE = 4, 0.003  # enclosed areas of a digit; smaller shares of its box are pores
MAX_PORES = 0.1  # the share of all pores
MIN_PEN_WIDTH = 2.0  # pixels of a stroke within 28x28

NO_DIGIT = "no digit found: the picture is blank, too faint or too noisy; write larger or darker"
_lock = Lock()  # one at a time: a picture takes up to 800 MiB

Mask = NDArray[np.bool_]
Place = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class PreprocessedPicture:
    """The preprocessed digit of a picture, or a note with the reason why there is none."""

    pixels: NDArray[np.uint8] | None  # (28, 28), light strokes on black as in MNIST
    note: str  # why there is no digit, or a remark on the file; else empty


def preprocess(content: bytes, name: str) -> PreprocessedPicture:
    """The one digit in a picture file; raises `InputError` as `decode` does."""
    with _lock:
        return _preprocess(*decode(content, name))


def _preprocess(picture: Floats, note: str) -> PreprocessedPicture:
    if picture.shape == (SIDE, SIDE):
        for pixels in (picture, 255 - picture):
            if _is_mnist(pixels):
                return PreprocessedPicture(pixels.astype(np.uint8), note)
    grey = to_grey(picture)
    if np.ptp(grey) < 1:  # of 255: a smaller range comes from rounding
        return PreprocessedPicture(None, NO_DIGIT)
    for binarize in (ink_by_threshold, ink_by_background):  # the second takes five times as long
        ink = binarize(grey)
        labels, marks = _find_marks(ink)
        if len(marks) == 1:
            mark = np.isin(labels, marks[0])
            if reason := _reason_to_reject(mark):
                return PreprocessedPicture(None, reason)
            return PreprocessedPicture(_normalize(ink, mark), note)
    several = f"{len(marks)} separate marks could be digits: give one picture per digit"
    return PreprocessedPicture(None, several if marks else NO_DIGIT)


def resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture (h, w) made to fill a square in one direction, (side, side)."""
    size = [max(1, round(side * length / max(pixels.shape))) for length in pixels.shape]
    image = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)
    canvas = np.zeros((side, side), np.uint8)
    top, left = ((side - length) // 2 for length in size)
    canvas[top : top + size[0], left : left + size[1]] = np.asarray(image)
    return canvas


def _is_mnist(pixels: Floats) -> bool:
    """Whether 28x28 pixels are in MNIST's form already."""
    if not pixels.any():
        return False
    rows, columns = ndimage.find_objects((pixels > 0).astype(np.int8))[0]
    centre = np.array(ndimage.center_of_mass(pixels))
    return max(_sides((rows, columns))) == BOX and bool((abs(centre + 0.5 - SIDE / 2) < 1).all())


def _reason_to_reject(mark: Mask) -> str:
    """Why the only mark is not one digit; empty when it may be one."""
    place = ndimage.find_objects(mark.astype(np.int8))[0]
    height, width = _sides(place)
    if width > MAX_WIDTH * height:
        return "the mark is too wide for one digit: give one picture per digit"
    background = np.pad(~mark[place], 1, constant_values=True)
    areas = np.bincount(ndimage.label(background)[0].ravel())[1:]
    holes = areas > MIN_HOLE * background.size
    if holes.sum() - 1 > MAX_HOLES:  # less the area around the digit
        return "no digit found: a net of lines, not one digit"
    if areas[~holes].sum() > MAX_PORES * background.size:
        return "no digit found: a pattern or noise, not one digit"
    return ""


def _find_marks(ink: Floats) -> tuple[NDArray[np.int32], list[list[int]]]:
    """The strokes as labels (h, w) from 1, and the labels of each mark that could be a digit."""
    labels, count = ndimage.label(ink >= 0.5, np.ones((3, 3)))
    if count > MAX_COMPONENTS:
        return labels, []
    places = ndimage.find_objects(labels)
    longest = np.array([max(_sides(place)) for place in places])
    outside = _along_border(labels, places)
    largest = max((longest[k] for k in range(count) if k not in outside), default=0)
    strokes = [k for k in range(count) if k not in outside and longest[k] >= MIN_STROKE * largest]
    marks: list[list[int]] = []
    for k in strokes[:MAX_STROKES]:
        near = [mark for mark in marks if any(_same_digit(places[k], places[j]) for j in mark)]
        marks = [mark for mark in marks if mark not in near] + [[k, *chain(*near)]]
    least = max(MIN_DIGIT * max(ink.shape), 6, MIN_SECOND_DIGIT * largest)
    marks = [mark for mark in marks if longest[mark].max() >= least]
    return labels, [[k + 1 for k in mark] for mark in marks]


def _sides(place: Place) -> tuple[int, int]:
    """Height and width."""
    rows, columns = place
    return rows.stop - rows.start, columns.stop - columns.start


def _along_border(labels: NDArray[np.int32], places: list[Place]) -> set[int]:
    """The strokes that are a table's edge or a shadow, not a digit cropped closely."""
    heights, widths = np.array([_sides(place) for place in places]).reshape(-1, 2).T
    top, bottom, left, right = labels[0], labels[-1], labels[:, 0], labels[:, -1]
    sides = (top, widths), (bottom, widths), (left, heights), (right, heights)
    contact = [np.bincount(side, minlength=len(places) + 1)[1:] / extent for side, extent in sides]
    along = (np.array(contact) > 0.6).sum(axis=0)
    within = (np.array(contact) == 0).any(axis=0)
    return set(np.flatnonzero((along > 1) | (along > 0) & within))


def _same_digit(one: Place, other: Place) -> bool:
    """Whether two strokes are of one digit: near, and not two high ones side by side."""
    pairs = zip(one, other, strict=True)
    gaps = [max(a.start, b.start) - min(a.stop, b.stop) for a, b in pairs]  # < 0: they overlap
    smaller = np.minimum(_sides(one), _sides(other))
    larger = np.maximum(_sides(one), _sides(other))
    rivals = smaller[0] > 0.6 * larger[0] and any(gaps > -0.2 * smaller)
    return max(gaps) <= MAX_GAP * larger.max() and not rivals


def _normalize(ink: Floats, mark: Mask) -> NDArray[np.uint8]:
    """The marked strokes in MNIST's size, pen width and position, (28, 28)."""
    rows, columns = ndimage.find_objects(mark.astype(np.int8))[0]
    padded = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in (rows, columns))
    ink, mark = ink[padded], mark[padded]
    soft = np.where(ndimage.binary_dilation(mark, np.ones((3, 3))), ink, 0)
    place = ndimage.find_objects((soft > 0.1).astype(np.int8))[0]
    soft = _thicken(soft[place], mark[place])
    scale = BOX / max(soft.shape)
    size = [max(1, round(scale * side)) for side in reversed(soft.shape)]
    soft = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BOX)).clip(0, 1)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    at = tuple(_centred(soft.sum(axis=1 - axis), side) for axis, side in enumerate(soft.shape))
    pixels[at] = np.round(soft * (255 / soft.max()))
    return pixels


def _centred(weights: Floats, side: int) -> slice:
    """The slice of `side` rows, or columns, whose centre of mass is in the middle of 28."""
    centre = float(weights @ np.arange(side) / weights.sum())
    start = min(max(round(SIDE / 2 - centre), 0), SIDE - side)
    return slice(start, start + side)


def _thicken(soft: Floats, mark: Mask) -> Floats:
    """The strokes, widened to `MIN_PEN_WIDTH` if the pen was thinner."""
    scale = BOX / max(soft.shape)
    depth = ndimage.distance_transform_edt(np.pad(mark, 1))[1:-1, 1:-1][mark]
    width = 4 * float(depth.mean()) - 1  # of a bar, whose depths are 0.5 to half of it
    grow = (MIN_PEN_WIDTH / scale - width) / 2
    if grow < 0.5 or scale >= 1:
        return soft
    distance = ndimage.distance_transform_edt(~np.pad(mark, int(np.ceil(grow)) + 1))
    return np.asarray((grow + 0.5 - distance).clip(0, 1), np.float32)
