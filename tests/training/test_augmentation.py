"""What each augmentation does to an image, and the ranges it is drawn from."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support import tiny

from mnist_exp.data.dataset import Dataset
from mnist_exp.training.augmentation import affine_maps, augment

ALL = "rotate=9 elastic=1 brightness=0.2 contrast=0.2 noise=0.1 erase=0.2 mixup=0.2"
IDENTITY = {"rotate": 0, "shift": 0, "zoom": 0, "shear": 0}


class UpperBound(np.random.Generator):
    """Draws the upper bound of every range."""

    def uniform(self, low: float, high: float, size: Any) -> np.ndarray:
        return np.full(size, high, float)


def affine(**ranges: float) -> Any:
    settings = [f"augment.{name}={value}" for name, value in (IDENTITY | ranges).items()]
    return tiny("augment=affine", *settings).augment


def at_the_upper_bound(images: np.ndarray, **ranges: float) -> np.ndarray:
    random = UpperBound(np.random.PCG64())
    return np.asarray(augment(affine(**ranges), random, tf.constant(images)))


def centroid(image: np.ndarray) -> np.ndarray:
    """(x, y) in pixels."""
    ink = image.astype(float)
    rows, columns = np.indices(image.shape)
    return np.array([(columns * ink).sum(), (rows * ink).sum()]) / ink.sum()


def test_without_augmentation_the_images_are_unchanged(few_digits: Dataset) -> None:
    images = tf.constant(few_digits.train_images)
    assert augment(tiny().augment, [0], images) is images
    assert (np.asarray(augment(affine(), [0], images)) == few_digits.train_images).all()


def test_a_quarter_turn_is_exact(few_digits: Dataset) -> None:
    turned = at_the_upper_bound(few_digits.train_images, rotate=90)
    expected = np.rot90(few_digits.train_images, axes=(1, 2))
    assert np.abs(turned.astype(int) - expected).max() <= 1  # a pixel's value is rounded down


def test_whole_pixels_move_right_and_down(few_digits: Dataset) -> None:
    images = few_digits.train_images
    moved = at_the_upper_bound(images, shift=3)
    assert (moved[:, 3:, 3:] == images[:, :-3, :-3]).all()
    assert not moved[:, :3].any()
    assert not moved[:, :, :3].any()


def test_zoom_enlarges_about_the_centre() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 10:18, 10:18] = 255
    larger = at_the_upper_bound(square, zoom=0.25)
    assert larger.sum() / square.sum() == pytest.approx(1.25**2, rel=0.02)
    assert centroid(larger[0]) == pytest.approx([13.5, 13.5], abs=0.05)


def test_shear_slants_about_the_centre() -> None:
    bar = np.zeros((1, 28, 28), np.uint8)
    bar[0, 4:24, 13:15] = 255
    slanted = at_the_upper_bound(bar, shear=20)[0]
    centres = [centroid(slanted[row : row + 1])[0] for row in range(6, 22)]
    slopes = np.diff(centres)
    assert slopes == pytest.approx(np.full(15, -np.tan(np.deg2rad(20))), abs=0.05)


def test_equal_seeds_draw_equal_maps_and_each_image_has_its_own(few_digits: Dataset) -> None:
    images = tf.constant(np.stack([few_digits.train_images[0]] * 50))
    config = tiny("augment=affine").augment
    first, again, other = (np.asarray(augment(config, [0, n], images)) for n in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any(axis=(1, 2)).all()
    assert len(np.unique(first, axis=0)) == 50
    assert first.dtype == np.uint8


def test_the_draws_fill_their_ranges() -> None:
    config = affine(rotate=10, shift=2)
    maps = affine_maps(config, np.random.default_rng(0), 10_000)
    angles = np.rad2deg(np.arctan2(maps[:, 3], maps[:, 0]))
    assert np.quantile(angles, [0, 0.5, 1]) == pytest.approx([-10, 0, 10], abs=0.3)
    a, b, c, d, e, f = maps[:, :6].T
    source = np.linalg.solve(  # the pixel that the map takes to the centre
        np.stack([[a, b], [d, e]]).transpose(2, 0, 1), np.stack([13.5 - c, 13.5 - f], 1)[..., None]
    )
    moved = source[..., 0] - 13.5
    assert np.quantile(moved, [0, 0.5, 1]) == pytest.approx([-2, 0, 2], abs=0.1)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.05


def augmented(keys: str, images: np.ndarray, seed: int = 0) -> np.ndarray:
    config = tiny(*(f"augment.{key}" for key in keys.split())).augment
    return np.asarray(augment(config, [seed], tf.constant(images)))


def grey(n: int, level: int = 100) -> np.ndarray:
    return np.full((n, 28, 28), level, np.uint8)


@pytest.mark.parametrize("axis", [1, 2])
def test_elastic_displaces_smoothly_by_so_many_pixels_on_average(axis: int) -> None:
    ramp = np.broadcast_to(np.arange(28), (28, 28)) * 8 + 16
    ramp = np.stack([ramp if axis == 2 else ramp.T] * 1100).astype(np.uint8)
    moved = (augmented("elastic=1.2", ramp).astype(float) - ramp)[:, 6:22, 6:22] / 8
    assert np.sqrt((moved**2).mean()) == pytest.approx(1.2, rel=0.03)
    assert moved.mean() == pytest.approx(0, abs=0.1)
    steps = np.diff(moved, axis=axis)
    assert np.sqrt((steps**2).mean()) == pytest.approx(1.2 / 4 / np.sqrt(2), rel=0.1)


def test_elastic_is_composed_with_the_affine_map(few_digits: Dataset) -> None:
    images, keys = few_digits.train_images, "rotate=20 shift=2 shear=9 zoom=0.2"
    both = augmented(f"{keys} elastic=1e-6", images).astype(int)
    assert np.abs(both - augmented(keys, images)).max() <= 1  # which is rounded down


def test_brightness_scales_the_ink_and_contrast_keeps_the_mean() -> None:
    images = grey(2000)
    factors = augmented("brightness=0.4", images)[:, 0, 0] / 100
    assert np.quantile(factors, [0, 0.5, 1]) == pytest.approx([0.6, 1, 1.4], abs=0.03)
    images[:, :14] = 150
    changed = augmented("contrast=0.4", images).astype(float)
    assert changed.mean(axis=(1, 2)) == pytest.approx(125, abs=0.51)
    factors = (changed[:, 0, 0] - changed[:, -1, 0]) / 50
    assert np.quantile(factors, [0, 0.5, 1]) == pytest.approx([0.6, 1, 1.4], abs=0.03)


def test_noise_is_normal_and_new_in_every_pixel() -> None:
    noise = augmented("noise=0.1", grey(300)).astype(float) - 100
    assert noise.std() == pytest.approx(25.5, rel=0.01)
    assert np.quantile(noise, [0.1587, 0.5, 0.8413]) == pytest.approx([-25.5, 0, 25.5], abs=0.6)
    assert abs(np.corrcoef(noise[:150].ravel(), noise[150:].ravel())[0, 1]) < 0.02


def test_erase_blackens_a_rectangle_of_at_most_that_part() -> None:
    black = augmented("erase=0.3", grey(1500)) == 0
    rows, columns = black.any(axis=2), black.any(axis=1)
    assert (black == (rows[:, :, None] & columns[:, None])).all()
    assert np.diff(rows, axis=1).sum(axis=1).max() <= 2
    area = black.mean(axis=(1, 2))
    assert np.quantile(area, [0.5, 1]) == pytest.approx([0.15, 0.3], abs=0.03)
    assert black.mean(axis=0)[4:24, 4:24].min() > 0.05


def test_mixup_has_the_loss_of_mixed_labels_on_average(few_digits: Dataset) -> None:
    """Against Zhang et al.'s formula, for a linear softmax model."""
    repeats = 100
    images = np.tile(few_digits.train_images, (repeats, 1, 1))
    labels = np.tile(few_digits.train_labels, repeats)
    random, n = np.random.default_rng(0), len(images)
    weights = np.stack([images[labels == k].mean(axis=0).ravel() / 255 for k in range(10)], axis=1)

    def losses(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
        scores = pixels.reshape(n, 784) / 255 @ weights
        return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(n), labels]

    share, partner = random.beta(0.4, 0.4, n), random.permutation(n)
    mixed = share[:, None, None] * images + (1 - share)[:, None, None] * images[partner]
    expected = share * losses(mixed, labels) + (1 - share) * losses(mixed, labels[partner])
    ours = losses(augmented("mixup=0.4", images), labels)
    error = np.sqrt((ours.var() + expected.var()) / n)
    assert abs(ours.mean() - expected.mean()) < 3 * error
    assert abs(losses(mixed, labels).mean() - expected.mean()) > 10 * error  # shares of one label


def test_all_together_repeat_and_each_image_has_its_own(few_digits: Dataset) -> None:
    images = np.stack([few_digits.train_images[0]] * 1300)
    first, again, other = (augmented(ALL, images, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any(axis=(1, 2)).all()
    assert len(np.unique(first, axis=0)) == 1300


def test_blocks_keep_the_order_of_the_images(few_digits: Dataset) -> None:
    images = np.tile(few_digits.train_images, (10, 1, 1))[:1234]
    assert (augmented("brightness=1e-9 erase=1e-9", images) == images).all()


@pytest.mark.parametrize("key", ["rotate=181", "shift=28", "zoom=1", "shear=90", "rotate=-1"])
def test_ranges_that_no_image_survives_are_refused(key: str) -> None:
    from mnist_exp.core.errors import InputError

    with pytest.raises(InputError, match=f"augment.{key.partition('=')[0]}: expected a number"):
        tiny("augment=affine", f"augment.{key}")
