"""Digits as the world may hand them in: noisy, blurred, turned, shifted.

In the manner of MNIST-C (Mu and Gilmer, 2019, "MNIST-C: a robustness benchmark for computer
vision"), at severities from the middle of its tables, drawn by a seed.
"""

from collections.abc import Callable
from math import cos, sin, tan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[Any]  # (n, 28, 28) float32 in [0, 1]
Random = np.random.Generator
CENTRE = 13.5


def corrupt(images: NDArray[np.uint8], kind: str, seed: int = 0) -> NDArray[np.uint8]:
    """The images (n, 28, 28) with one of `CORRUPTIONS` applied, the same for the same seed."""
    unit = images.astype(np.float32) / np.float32(255)
    changed = CORRUPTIONS[kind](unit, np.random.default_rng(seed)).clip(0, 1)
    pixels: NDArray[np.uint8] = np.rint(255 * changed).astype(np.uint8)
    return pixels


def gaussian_noise(images: Images, random: Random) -> Images:
    """Noise of standard deviation 0.26 on every pixel."""
    return images + random.normal(0, 0.26, images.shape).astype(np.float32)


def impulse_noise(images: Images, random: Random) -> Images:
    """17 % of the pixels black or white."""
    hit = random.random(images.shape) < 0.17
    return np.where(hit, random.integers(0, 2, images.shape), images).astype(np.float32)


def blur(images: Images, random: Random) -> Images:
    """A Gaussian of 1 pixel, which is half a stroke."""
    blurred: Images = ndimage.gaussian_filter(images, (0, 1, 1))
    return blurred


def brightness(images: Images, random: Random) -> Images:
    """0.3 brighter everywhere."""
    return images + np.float32(0.3)


def rotate(images: Images, random: Random) -> Images:
    """By 23 degrees to either side."""
    angle = 0.4
    return _to_either_side(
        images, random, lambda s: [[cos(angle), s * sin(angle)], [-s * sin(angle), cos(angle)]]
    )


def shear(images: Images, random: Random) -> Images:
    """By 23 degrees to either side."""
    return _to_either_side(images, random, lambda s: [[1, 0], [s * tan(0.4), 1]])


def scale(images: Images, random: Random) -> Images:
    """Shrunk to 0.7."""
    return _warp(images, [[1 / 0.7, 0], [0, 1 / 0.7]])


def translate(images: Images, random: Random) -> Images:
    """By 3 pixels in each direction, towards any corner."""
    moved = np.empty_like(images)
    corner = random.integers(0, 4, len(images))
    for number, (down, right) in enumerate(((3, 3), (3, -3), (-3, 3), (-3, -3))):
        chosen = corner == number
        moved[chosen] = _warp(images[chosen], [[1, 0], [0, 1]], (down, right))
    return moved


CORRUPTIONS: dict[str, Callable[[Images, Random], Images]] = {
    "gaussian_noise": gaussian_noise,
    "impulse_noise": impulse_noise,
    "blur": blur,
    "brightness": brightness,
    "rotate": rotate,
    "shear": shear,
    "scale": scale,
    "translate": translate,
}


def _to_either_side(
    images: Images, random: Random, matrix: Callable[[int], list[list[float]]]
) -> Images:
    sides = random.choice([-1, 1], len(images))
    warped = np.empty_like(images)
    for side in (-1, 1):
        warped[sides == side] = _warp(images[sides == side], matrix(side))
    return warped


def _warp(images: Images, matrix: list[list[float]], shift: tuple[float, float] = (0, 0)) -> Images:
    """All images by one map about their centre: the value at x comes from matrix (x - shift)."""
    whole = np.eye(3)  # the first axis counts images
    whole[1:, 1:] = matrix
    centre = np.array([0, CENTRE, CENTRE])
    offset = centre - whole @ (centre + np.array([0, *shift]))
    warped: Images = ndimage.affine_transform(images, whole, offset, order=1)
    return warped
