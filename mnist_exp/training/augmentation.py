"""Random affine maps of the training images, drawn anew in every epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_exp.config.schema import AffineConfig, AugmentConfig

CENTRE = 13.5  # of 28 pixels, counted from 0


def augment(
    config: AugmentConfig | None, seed: Sequence[int] | np.random.Generator, images: Any
) -> Any:
    """The (n, 28, 28) uint8 images, augmented, unless `config` is None; the same for the same seed.

    All n at once, on every core, rather than a batch in each step: XLA has no such operation.
    """
    if not isinstance(config, AffineConfig):
        return images
    maps = affine_maps(config, np.random.default_rng(seed), len(images))
    augmented = tf.raw_ops.ImageProjectiveTransformV3(
        images=images[..., None],
        transforms=maps,
        output_shape=images.shape[1:],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return augmented[..., 0]


def affine_maps(config: AffineConfig, random: np.random.Generator, n: int) -> np.ndarray:
    """(n, 8) float32: from each pixel (x, y) of the result to its source pixel.

    A row a, b, c, d, e, f, 0, 0 means (ax + by + c, dx + ey + f): rotated, sheared and zoomed about
    the centre, then shifted.
    """
    angle = np.deg2rad(random.uniform(-config.rotate, config.rotate, n))
    slant = np.tan(np.deg2rad(random.uniform(-config.shear, config.shear, n)))
    size = 1 + random.uniform(-config.zoom, config.zoom, n)
    shift = random.uniform(-config.shift, config.shift, (2, n))
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    a, b, d, e = cos, cos * slant - sin, sin, sin * slant + cos
    x, y = CENTRE + shift
    zeros = np.zeros(n)
    rows = [a, b, CENTRE - a * x - b * y, d, e, CENTRE - d * x - e * y, zeros, zeros]
    return np.stack(rows, axis=1).astype(np.float32)
