"""Random affine maps: what they do to an image, and that they are drawn as configured."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support import tiny

from mnist_exp.data.dataset import Dataset
from mnist_exp.training.augmentation import affine_maps, change

NOWHERE = {"rotate": 0, "shift": 0, "zoom": 0, "shear": 0}


class Extreme:
    """Draws the upper end of every range."""

    def uniform(self, low: float, high: float, size: Any) -> np.ndarray:
        return np.full(size, high, float)


def augment(**ranges: float) -> Any:
    settings = [f"augment.{name}={value}" for name, value in (NOWHERE | ranges).items()]
    return tiny("augment=affine", *settings).augment


def at_the_end_of_the_range(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, **ranges: float
) -> np.ndarray:
    monkeypatch.setattr(np.random, "default_rng", lambda _: Extreme())
    return np.asarray(change(augment(**ranges), [0], tf.constant(images)))


def centroid(image: np.ndarray) -> np.ndarray:
    """Across and down, in pixels."""
    ink = image.astype(float)
    rows, columns = np.indices(image.shape)
    return np.array([(columns * ink).sum(), (rows * ink).sum()]) / ink.sum()


def test_without_augmentation_the_images_are_themselves(few_digits: Dataset) -> None:
    images = tf.constant(few_digits.train_images)
    assert change(tiny().augment, [0], images) is images
    assert (np.asarray(change(augment(), [0], images)) == few_digits.train_images).all()


def test_a_quarter_turn_is_exact(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = at_the_end_of_the_range(few_digits.train_images, monkeypatch, rotate=90)
    expected = np.rot90(few_digits.train_images, axes=(1, 2))
    assert np.abs(turned.astype(int) - expected).max() <= 1  # a pixel's value is rounded down


def test_whole_pixels_move_right_and_down(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = few_digits.train_images
    moved = at_the_end_of_the_range(images, monkeypatch, shift=3)
    assert (moved[:, 3:, 3:] == images[:, :-3, :-3]).all()
    assert not moved[:, :3].any()
    assert not moved[:, :, :3].any()


def test_zoom_enlarges_about_the_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 10:18, 10:18] = 255
    larger = at_the_end_of_the_range(square, monkeypatch, zoom=0.25)
    assert larger.sum() / square.sum() == pytest.approx(1.25**2, rel=0.02)
    assert centroid(larger[0]) == pytest.approx([13.5, 13.5], abs=0.05)


def test_shear_slants_about_the_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = np.zeros((1, 28, 28), np.uint8)
    bar[0, 4:24, 13:15] = 255
    slanted = at_the_end_of_the_range(bar, monkeypatch, shear=20)[0]
    across = [centroid(slanted[row : row + 1])[0] for row in range(6, 22)]
    slopes = np.diff(across)
    assert slopes == pytest.approx(np.full(15, -np.tan(np.deg2rad(20))), abs=0.05)


def test_the_same_seed_draws_the_same_and_every_image_its_own(few_digits: Dataset) -> None:
    images = tf.constant(np.stack([few_digits.train_images[0]] * 50))
    config = tiny("augment=affine").augment
    first, again, other = (np.asarray(change(config, [0, n], images)) for n in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any(axis=(1, 2)).all()
    assert len(np.unique(first, axis=0)) == 50
    assert first.dtype == np.uint8


def test_the_draws_fill_their_ranges() -> None:
    config = augment(rotate=10, shift=2)
    maps = affine_maps(config, np.random.default_rng(0), 10_000)
    angles = np.rad2deg(np.arctan2(maps[:, 3], maps[:, 0]))
    assert np.quantile(angles, [0, 0.5, 1]) == pytest.approx([-10, 0, 10], abs=0.3)
    a, b, c, d, e, f = maps[:, :6].T
    seen = np.linalg.solve(  # where the centre goes to: what the map takes to the centre
        np.stack([[a, b], [d, e]]).transpose(2, 0, 1), np.stack([13.5 - c, 13.5 - f], 1)[..., None]
    )
    moved = seen[..., 0] - 13.5
    assert np.quantile(moved, [0, 0.5, 1]) == pytest.approx([-2, 0, 2], abs=0.1)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.05


@pytest.mark.parametrize("key", ["rotate=181", "shift=28", "zoom=1", "shear=90", "rotate=-1"])
def test_what_no_image_survives_is_refused(key: str) -> None:
    from mnist_exp.core.errors import InputError

    with pytest.raises(InputError, match=f"augment.{key.partition('=')[0]}: expected a number"):
        tiny("augment=affine", f"augment.{key}")
