"""Corruptions of test images, to measure robustness: noise, blur, brightness, affine warps.

After MNIST-C (Mu and Gilmer, 2019, "MNIST-C: a robustness benchmark for computer vision"), at
severities from the middle of its tables, sampled by a seed.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import cos, sin, tan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[Any]  # (n, 28, 28) float32 in [0, 1]
Generator = np.random.Generator
Warp = tuple[list[list[float]], tuple[int, ...]]  # a matrix, and a shift in pixels
CENTRE = 13.5
UPRIGHT, UNMOVED = [[1.0, 0.0], [0.0, 1.0]], (0, 0)


def corrupt(images: NDArray[np.uint8], kind: str, seed: int = 0) -> NDArray[np.uint8]:
    """The images (n, 28, 28) with one of `CORRUPTIONS` applied, the same for the same seed."""
    unit = images.astype(np.float32) / np.float32(255)
    corrupted = CORRUPTIONS[kind](unit, np.random.default_rng(seed)).clip(0, 1)
    return np.asarray(np.rint(255 * corrupted), np.uint8)


def gaussian_noise(images: Images, rng: Generator) -> Images:
    """Add noise of standard deviation 0.26 to every pixel."""
    return images + rng.normal(0, 0.26, images.shape).astype(np.float32)


def impulse_noise(images: Images, rng: Generator) -> Images:
    """Set 17 % of the pixels to black or white."""
    mask = rng.random(images.shape) < 0.17
    return np.where(mask, rng.integers(0, 2, images.shape), images).astype(np.float32)


def blur(images: Images, rng: Generator) -> Images:
    """Blur by a Gaussian of 1 pixel, which is half a stroke."""
    return np.asarray(ndimage.gaussian_filter(images, (0, 1, 1)))


def brightness(images: Images, rng: Generator) -> Images:
    """Add 0.3 to every pixel."""
    return images + np.float32(0.3)


def rotate(images: Images, rng: Generator) -> Images:
    """Rotate by 23 degrees in a random direction."""
    turns = [[[cos(a), sin(a)], [-sin(a), cos(a)]] for a in (-0.4, 0.4)]
    return _warp_by_chance(images, rng, [(turn, UNMOVED) for turn in turns])


def shear(images: Images, rng: Generator) -> Images:
    """Shear by 23 degrees in a random direction."""
    return _warp_by_chance(images, rng, [([[1, 0], [tan(a), 1]], UNMOVED) for a in (-0.4, 0.4)])


def scale(images: Images, rng: Generator) -> Images:
    """Shrink to 0.7 of the size."""
    return _warp(images, [[1 / 0.7, 0], [0, 1 / 0.7]], UNMOVED)


def translate(images: Images, rng: Generator) -> Images:
    """Shift by 3 pixels along each axis, towards a random corner."""
    return _warp_by_chance(images, rng, [(UPRIGHT, shift) for shift in product((3, -3), repeat=2)])


CORRUPTIONS: dict[str, Callable[[Images, Generator], Images]] = {
    each.__name__: each
    for each in (gaussian_noise, impulse_noise, blur, brightness, rotate, shear, scale, translate)
}


def _warp_by_chance(images: Images, rng: Generator, warps: Sequence[Warp]) -> Images:
    """Warp each image by a random one of these."""
    drawn = rng.integers(0, len(warps), len(images))
    warped = np.empty_like(images)
    for number, warp in enumerate(warps):
        warped[drawn == number] = _warp(images[drawn == number], *warp)
    return warped


def _warp(images: Images, matrix: list[list[float]], shift: tuple[int, ...]) -> Images:
    """Warp all images about their centre: the value at x comes from matrix (x - shift)."""
    affine = np.eye(3)  # the first axis counts images
    affine[1:, 1:] = matrix
    centre = np.array([0, CENTRE, CENTRE])
    offset = centre - affine @ (centre + np.array([0, *shift]))
    return np.asarray(ndimage.affine_transform(images, affine, offset, order=1))
