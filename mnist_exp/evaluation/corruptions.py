"""Corruptions of test images, to measure robustness: noise, blur, brightness, affine warps.

After MNIST-C (Mu and Gilmer, 2019, "MNIST-C: a robustness benchmark for computer vision"), at
severities from the middle of its tables, sampled by a seed.
"""

from collections.abc import Callable
from math import cos, sin, tan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[Any]  # (n, 28, 28) float32 in [0, 1]
Generator = np.random.Generator
CENTRE = 13.5


def corrupt(images: NDArray[np.uint8], kind: str, seed: int = 0) -> NDArray[np.uint8]:
    """The images (n, 28, 28) with one of `CORRUPTIONS` applied, the same for the same seed."""
    unit = images.astype(np.float32) / np.float32(255)
    corrupted = CORRUPTIONS[kind](unit, np.random.default_rng(seed)).clip(0, 1)
    pixels: NDArray[np.uint8] = np.rint(255 * corrupted).astype(np.uint8)
    return pixels


def gaussian_noise(images: Images, rng: Generator) -> Images:
    """Add noise of standard deviation 0.26 to every pixel."""
    return images + rng.normal(0, 0.26, images.shape).astype(np.float32)


def impulse_noise(images: Images, rng: Generator) -> Images:
    """Set 17 % of the pixels to black or white."""
    mask = rng.random(images.shape) < 0.17
    return np.where(mask, rng.integers(0, 2, images.shape), images).astype(np.float32)


def blur(images: Images, rng: Generator) -> Images:
    """Blur by a Gaussian of 1 pixel, which is half a stroke."""
    blurred: Images = ndimage.gaussian_filter(images, (0, 1, 1))
    return blurred


def brightness(images: Images, rng: Generator) -> Images:
    """Add 0.3 to every pixel."""
    return images + np.float32(0.3)


def rotate(images: Images, rng: Generator) -> Images:
    """Rotate by 23 degrees in a random direction."""
    angle = 0.4
    return _warp_by_sign(
        images, rng, lambda s: [[cos(angle), s * sin(angle)], [-s * sin(angle), cos(angle)]]
    )


def shear(images: Images, rng: Generator) -> Images:
    """Shear by 23 degrees in a random direction."""
    return _warp_by_sign(images, rng, lambda s: [[1, 0], [s * tan(0.4), 1]])


def scale(images: Images, rng: Generator) -> Images:
    """Shrink to 0.7 of the size."""
    return _warp(images, [[1 / 0.7, 0], [0, 1 / 0.7]])


def translate(images: Images, rng: Generator) -> Images:
    """Shift by 3 pixels along each axis, towards a random corner."""
    translated = np.empty_like(images)
    corners = rng.integers(0, 4, len(images))
    for corner, shift in enumerate(((3, 3), (3, -3), (-3, 3), (-3, -3))):
        chosen = corners == corner
        translated[chosen] = _warp(images[chosen], [[1, 0], [0, 1]], shift)
    return translated


CORRUPTIONS: dict[str, Callable[[Images, Generator], Images]] = {
    "gaussian_noise": gaussian_noise,
    "impulse_noise": impulse_noise,
    "blur": blur,
    "brightness": brightness,
    "rotate": rotate,
    "shear": shear,
    "scale": scale,
    "translate": translate,
}


def _warp_by_sign(
    images: Images, rng: Generator, matrix: Callable[[int], list[list[float]]]
) -> Images:
    """Warp each image by `matrix` of a random sign."""
    signs = rng.choice([-1, 1], len(images))
    warped = np.empty_like(images)
    for sign in (-1, 1):
        warped[signs == sign] = _warp(images[signs == sign], matrix(sign))
    return warped


def _warp(images: Images, matrix: list[list[float]], shift: tuple[float, float] = (0, 0)) -> Images:
    """Warp all images about their centre: the value at x comes from matrix (x - shift)."""
    affine = np.eye(3)  # the first axis counts images
    affine[1:, 1:] = matrix
    centre = np.array([0, CENTRE, CENTRE])
    offset = centre - affine @ (centre + np.array([0, *shift]))
    warped: Images = ndimage.affine_transform(images, affine, offset, order=1)
    return warped
