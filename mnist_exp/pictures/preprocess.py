"""Any picture of a handwritten digit becomes 28x28 pixels in MNIST's form.

Ink is told from paper, strokes are told from dirt and gathered into digits, and the one digit is
put where LeCun et al. (1998, section III.A) put theirs: fitted into 20x20, its centre of mass in
the middle of 28x28.
"""

from dataclasses import dataclass
from itertools import chain
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_exp.pictures.binarize import any_ink, evenly_lit_ink, to_grey
from mnist_exp.pictures.decode import Floats, decode

BOX, SIDE = 20, 28
SPECK = 0.1  # of the largest mark: what is smaller is dirt
SMALLEST = 0.04  # of the picture's side: a smaller mark is no digit
RIVAL = 0.4  # of the largest mark: what is smaller is no second digit
NEAR = 0.25  # of the larger mark: the gap that strokes of one digit may leave
SPECKS = 20_000  # more of them are noise, not a page
MOST = 300  # marks that are looked at
WIDEST = 2.2  # width by height: 99.9 % of MNIST's digits stay below 1.7
HOLES, HOLE = 4, 0.003  # enclosed areas that a digit may have, and a pore's share of the digit
PORES = 0.1  # the share of all of them
THINNEST = 2.0  # pixels of a stroke within 28x28

NOTHING = "no digit found: the picture is blank, too faint or too noisy; write larger or darker"
_reading = Lock()  # one at a time: a picture takes up to 800 MiB

Mask = NDArray[np.bool_]
Place = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a picture holds: the digit's pixels, or the note that says why there is none."""

    pixels: NDArray[np.uint8] | None  # (28, 28), light strokes on black as in MNIST
    note: str  # empty when there is nothing to say


def read(content: bytes, name: str) -> Reading:
    """The one digit in the bytes of a picture; `name` is what the user calls it.

    Raises `InputError` for what is no picture, or none that can be opened safely.
    """
    with _reading:
        return _read(*decode(content, name))


def _read(picture: Floats, note: str) -> Reading:
    if picture.shape == (SIDE, SIDE):
        for pixels in (picture, 255 - picture):
            if _is_mnist(pixels):
                return Reading(pixels.astype(np.uint8), note)
    grey = to_grey(picture)
    if np.ptp(grey) < 1:  # of 255: what is less comes from rounding
        return Reading(None, NOTHING)
    for told_from_paper in (evenly_lit_ink, any_ink):  # the second takes five times as long
        ink = told_from_paper(grey)
        strokes, marks = _marks(ink)
        if len(marks) == 1:
            mark = np.isin(strokes, marks[0])
            reason = _no_digit(mark)
            return Reading(None, reason) if reason else Reading(_fit(ink, mark), note)
    found = f"{len(marks)} separate marks could be digits: give one picture per digit"
    return Reading(None, found if marks else NOTHING)


def _is_mnist(pixels: Floats) -> bool:
    """Whether 28x28 pixels are in MNIST's form as they are."""
    if not pixels.any():
        return False
    rows, columns = ndimage.find_objects((pixels > 0).astype(np.int8))[0]
    centre = np.array(ndimage.center_of_mass(pixels))
    return max(_sides((rows, columns))) == BOX and bool((abs(centre + 0.5 - SIDE / 2) < 1).all())


def _no_digit(mark: Mask) -> str:
    """Why a single mark is not one digit; empty when it may be."""
    place = ndimage.find_objects(mark.astype(np.int8))[0]
    height, width = _sides(place)
    if width > WIDEST * height:
        return "the mark is too wide for one digit: give one picture per digit"
    paper = np.pad(~mark[place], 1, constant_values=True)
    areas = np.bincount(ndimage.label(paper)[0].ravel())[1:]
    holes = areas > HOLE * paper.size
    if holes.sum() - 1 > HOLES:  # less the paper around
        return "no digit found: a net of lines, not one digit"
    if areas[~holes].sum() > PORES * paper.size:
        return "no digit found: a pattern or noise, not one digit"
    return ""


def _marks(ink: Floats) -> tuple[NDArray[np.int32], list[list[int]]]:
    """The strokes (h, w), numbered from 1, and the numbers of each mark that could be a digit."""
    labels, count = ndimage.label(ink >= 0.5, np.ones((3, 3)))
    if count > SPECKS:
        return labels, []
    places = ndimage.find_objects(labels)
    longest = np.array([max(_sides(place)) for place in places])
    outside = _along_the_frame(labels, places)
    largest = max((longest[k] for k in range(count) if k not in outside), default=0)
    strokes = [k for k in range(count) if k not in outside and longest[k] >= SPECK * largest]
    groups: list[list[int]] = []
    for k in strokes[:MOST]:
        near = [group for group in groups if any(_joined(places[k], places[j]) for j in group)]
        groups = [group for group in groups if group not in near] + [[k, *chain(*near)]]
    least = max(SMALLEST * max(ink.shape), 6, RIVAL * largest)
    groups = [group for group in groups if longest[group].max() >= least]
    return labels, [[k + 1 for k in group] for group in groups]


def _sides(place: Place) -> tuple[int, int]:
    """Height and width."""
    rows, columns = place
    return rows.stop - rows.start, columns.stop - columns.start


def _along_the_frame(labels: NDArray[np.int32], places: list[Place]) -> set[int]:
    """The marks that are a table's edge or a shadow, not a digit that was cut close."""
    heights, widths = np.array([_sides(place) for place in places]).reshape(-1, 2).T
    top, bottom, left, right = labels[0], labels[-1], labels[:, 0], labels[:, -1]
    sides = (top, widths), (bottom, widths), (left, heights), (right, heights)
    contact = [np.bincount(side, minlength=len(places) + 1)[1:] / extent for side, extent in sides]
    along = (np.array(contact) > 0.6).sum(axis=0)
    within = (np.array(contact) == 0).any(axis=0)
    return set(np.flatnonzero((along > 1) | (along > 0) & within))


def _joined(one: Place, other: Place) -> bool:
    """Whether two marks are strokes of one digit: near, and not two high ones side by side."""
    pairs = zip(one, other, strict=True)
    gaps = [max(a.start, b.start) - min(a.stop, b.stop) for a, b in pairs]  # < 0: they overlap
    smaller = np.minimum(_sides(one), _sides(other))
    larger = np.maximum(_sides(one), _sides(other))
    rivals = smaller[0] > 0.6 * larger[0] and any(gaps > -0.2 * smaller)
    return max(gaps) <= NEAR * larger.max() and not rivals


def _fit(ink: Floats, mark: Mask) -> NDArray[np.uint8]:
    """The marked strokes at MNIST's size, thickness and place."""
    rows, columns = ndimage.find_objects(mark.astype(np.int8))[0]
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in (rows, columns))
    ink, mark = ink[around], mark[around]
    soft = np.where(ndimage.binary_dilation(mark, np.ones((3, 3))), ink, 0)
    place = ndimage.find_objects((soft > 0.1).astype(np.int8))[0]
    soft = _thick_enough(soft[place], mark[place])
    scale = BOX / max(soft.shape)
    size = [max(1, round(scale * side)) for side in reversed(soft.shape)]
    soft = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BOX)).clip(0, 1)
    page = np.zeros((SIDE, SIDE), np.uint8)
    at = tuple(_centred(soft.sum(axis=1 - axis), side) for axis, side in enumerate(soft.shape))
    page[at] = np.round(soft * (255 / soft.max()))
    return page


def _centred(weights: Floats, side: int) -> slice:
    """Where so many rows lie when their centre of mass is in the middle."""
    centre = float(weights @ np.arange(side) / weights.sum())
    start = min(max(round(SIDE / 2 - centre), 0), SIDE - side)
    return slice(start, start + side)


def _thick_enough(soft: Floats, mark: Mask) -> Floats:
    """The strokes, widened where a thin pen would leave less than MNIST's thinnest."""
    scale = BOX / max(soft.shape)
    depth = ndimage.distance_transform_edt(np.pad(mark, 1))[1:-1, 1:-1][mark]
    width = 4 * float(depth.mean()) - 1  # of a bar, whose depths run from 0.5 to half of it
    grow = (THINNEST / scale - width) / 2
    if grow < 0.5 or scale >= 1:
        return soft
    away = ndimage.distance_transform_edt(~np.pad(mark, int(np.ceil(grow)) + 1))
    wider: Floats = (grow + 0.5 - away).clip(0, 1).astype(np.float32)
    return wider
