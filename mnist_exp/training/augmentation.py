"""The training images changed at random, anew in every epoch: geometry, then ink, then mixing."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import ndtri

from mnist_exp.config.augment import AugmentConfig
from mnist_exp.config.parts import Part, call_part
from mnist_exp.core.errors import InputError

CENTRE = 13.5  # of 28 pixels, counted from 0
PIXELS = np.arange(28, dtype=np.float32)
SMOOTHING = 4.0  # pixels: the Gaussian of elastic displacements, and between its 8x8 sources
BLOCK = 1000  # images at once: memory, and one shape for XLA to compile


def augment(
    config: AugmentConfig | None, seed: Sequence[int] | np.random.Generator, images: Any
) -> Any:
    """The (n, 28, 28) uint8 images, augmented, unless `config` is None; the same for the same seed.

    In this order: affine and elastic in one resampling, brightness, contrast, noise, erase, mixup,
    and what the user's own part does.
    All n at once, on every core, rather than a batch in each step: XLA has no affine operation.
    """
    if config is None or config.name == "none":
        return images
    random, n = np.random.default_rng(seed), len(images)
    if config.elastic:
        maps = affine_maps(config, random, n)
        sources = random.integers(-127, 128, (n, 2, 64), np.int8)
        pixels = np.full((n, 1, 1, 1), config.elastic, np.float32)
        images = _in_blocks(_warp, images, maps, sources, pixels)
    elif "affine" in config.name.split("+"):
        images = _affine(images, affine_maps(config, random, n))
    if draws := _draw_ink(config, random, n):
        images = _in_blocks(_change_ink, images, draws)
    if config.mixup:
        # With this distribution the loss for the image's own label alone is on average that for
        # both labels with a share from Beta(alpha, alpha), by the symmetry of a pair: F. Huszar,
        # "mixup: Data-Dependent Data Augmentation", 2017. So the labels stay whole numbers.
        share = random.beta(config.mixup + 1, config.mixup, (n, 1, 1)).astype(np.float32)
        images = _in_blocks(_mix, images, tf.gather(images, random.permutation(n)), share)
    if config.build:
        images = _own(config, random, images)
    return images


def _own(config: AugmentConfig, random: np.random.Generator, images: Any) -> np.ndarray:
    """The images as the user's own part returns them; raises `InputError` for other ones."""
    part = Part("augment.build", config.build or "", config.args)
    made = np.asarray(call_part(part, np.asarray(images), random))
    if made.shape != tuple(images.shape) or made.dtype != np.uint8:
        raise InputError(
            f"{part.key}={part.build}: expected images (n, 28, 28) uint8 like those it was given, "
            f"got {made.shape} {made.dtype}"
        )
    return made


def _affine(images: Any, maps: np.ndarray) -> Any:
    augmented = tf.raw_ops.ImageProjectiveTransformV3(
        images=images[..., None],
        transforms=maps,
        output_shape=images.shape[1:],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return augmented[..., 0]


def affine_maps(config: AugmentConfig, random: np.random.Generator, n: int) -> np.ndarray:
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


def _draw_ink(config: AugmentConfig, random: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """(n, ...) of each change of the ink that is on."""
    draws: dict[str, np.ndarray] = {}
    for key in ("brightness", "contrast"):
        if most := getattr(config, key):
            draws[key] = 1 + random.uniform(-most, most, (n, 1, 1)).astype(np.float32)
    if config.noise:
        draws["deviation"] = np.full((n, 1, 1), 255 * config.noise, np.float32)
        draws["quantile"] = random.integers(2**16, size=(n, 28, 28), dtype=np.uint16)
    if config.erase:
        area = 28**2 * random.uniform(0, config.erase, n)
        aspect = 3 ** random.uniform(-1, 1, n)
        sides = np.minimum(np.sqrt([area * aspect, area / aspect]), 28)
        centres = CENTRE + random.uniform(-1, 1, (2, n)) * (28 - sides) / 2
        rows, columns = np.abs(PIXELS - centres[..., None]) < sides[..., None] / 2
        draws |= {"rows": rows[:, :, None], "columns": columns[:, None]}
    return draws


def _in_blocks(change: Callable[..., Any], *arrays: Any) -> Any:
    """The change of the (n, ...) arrays, some of them in dicts, compiled and in threads.

    The last block begins earlier where the images end, so that all have one shape.
    """
    n = len(arrays[0])
    size, compiled = min(BLOCK, n), _compiled(change)

    def block(start: int) -> Any:
        first = min(start, n - size)
        part = tf.nest.map_structure(lambda array: array[first : first + size], arrays)
        return compiled(*part)[start - first :]

    with ThreadPoolExecutor() as pool:
        # The first one alone: else every thread would compile.
        return tf.concat([block(0), *pool.map(block, range(size, n, size))], axis=0)


@cache
def _compiled(change: Callable[..., Any]) -> Any:
    return tf.function(change, autograph=False, jit_compile=True)


def _warp(images: Any, maps: Any, sources: Any, pixels: Any) -> Any:
    """Sampled bilinearly where map and displacement say, black outside.

    The displacement is random, smoothed by a Gaussian (Simard, Steinkraus and Platt, 2003); its
    root mean square across, and down, is `pixels`.
    """
    n = images.shape[0]
    field = tf.reshape(tf.cast(sources, tf.float32), [-1, 64]) @ _smoothing()
    field = tf.reshape(field, [n, 2, 28, 28]) * pixels
    a, b, c, d, e, f, _, _ = (maps[:, i, None, None] for i in range(8))
    rows = PIXELS[:, None]
    x = tf.clip_by_value(a * PIXELS + b * rows + c + field[:, 0], -1.0, 28.0)
    y = tf.clip_by_value(d * PIXELS + e * rows + f + field[:, 1], -1.0, 28.0)
    left, top = tf.floor(x), tf.floor(y)
    padded = tf.reshape(tf.pad(images, [[0, 0], [1, 2], [1, 2]]), [-1])  # to 31x31
    place = tf.cast(31 * top + left + 32, tf.int32) + 31**2 * tf.range(n)[:, None, None]
    corners = [tf.cast(tf.gather(padded, place + k), tf.float32) for k in (0, 1, 31, 32)]
    upper = corners[0] + (x - left) * (corners[1] - corners[0])
    lower = corners[2] + (x - left) * (corners[3] - corners[2])
    return _to_uint8(upper + (y - top) * (lower - upper))


def _change_ink(images: Any, draws: dict[str, Any]) -> Any:
    ink = tf.cast(images, tf.float32)
    if "brightness" in draws:
        ink *= draws["brightness"]
    if "contrast" in draws:
        mean = tf.reduce_mean(ink, axis=(1, 2), keepdims=True)
        ink = mean + draws["contrast"] * (ink - mean)
    if "quantile" in draws:
        # Three times as fast as TensorFlow's own normal numbers.
        normal = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
        ink += draws["deviation"] * tf.gather(normal, tf.cast(draws["quantile"], tf.int32))
    if "rows" in draws:
        ink = tf.where(draws["rows"] & draws["columns"], 0.0, ink)
    return _to_uint8(ink)


def _mix(images: Any, partners: Any, share: Any) -> Any:
    other = tf.cast(partners, tf.float32)
    return _to_uint8(other + share * (tf.cast(images, tf.float32) - other))


def _to_uint8(ink: Any) -> Any:
    return tf.cast(tf.clip_by_value(ink, 0.0, 255.0) + 0.5, tf.uint8)


def _smoothing() -> np.ndarray:
    """(64, 784) float32: what each of 8x8 sources from -127 to 127 displaces each pixel.

    Their sum has a variance of 1. All are multiples of 2**-15, so that sums are exact, in any
    order: that of a matrix product depends on the number of threads.
    """
    sources = SMOOTHING * np.arange(8) - 0.5
    near = np.exp(-(((PIXELS - sources[:, None]) / SMOOTHING) ** 2) / 2)
    near /= np.linalg.norm(near, axis=0)
    weights = np.einsum("iy,jx->ijyx", near, near).reshape(64, 784)
    deviation = np.sqrt(np.mean(np.arange(-127.0, 128.0) ** 2))
    return np.asarray(np.round(weights / deviation * 2**15) / 2**15, np.float32)
