"""Random affine maps: their effect on an image, and the ranges they are drawn from."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support import tiny

from mnist_exp.data.dataset import Dataset
from mnist_exp.training.augmentation import affine_maps, augment

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


@pytest.mark.parametrize("key", ["rotate=181", "shift=28", "zoom=1", "shear=90", "rotate=-1"])
def test_ranges_that_no_image_survives_are_refused(key: str) -> None:
    from mnist_exp.core.errors import InputError

    with pytest.raises(InputError, match=f"augment.{key.partition('=')[0]}: expected a number"):
        tiny("augment=affine", f"augment.{key}")
