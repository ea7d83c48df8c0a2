"""The eight corruptions: reproducible, and as strong as documented."""

import numpy as np
import pytest

from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.corruptions import CORRUPTIONS, corrupt


def spot(row: int, column: int, n: int = 200) -> np.ndarray:
    """n black images with a white 2x2 spot."""
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, row : row + 2, column : column + 2] = 255
    return images


def centres(images: np.ndarray) -> np.ndarray:
    """The centre of mass of each image, (n, 2)."""
    weights = images / images.sum(axis=(1, 2), keepdims=True)
    grid = np.arange(28)
    return np.stack([(weights.sum(axis=2) * grid).sum(1), (weights.sum(axis=1) * grid).sum(1)], 1)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_seed_gives_the_same_pixels(kind: str, digits: Dataset) -> None:
    images = digits.test_images[:100]
    once, again, other = (corrupt(images, kind, seed) for seed in (1, 1, 2))
    random = kind not in ("blur", "brightness", "scale")
    assert once.dtype == np.uint8
    assert once.shape == images.shape
    assert np.array_equal(once, again)
    assert not np.array_equal(once, images)
    assert np.array_equal(once, other) != random


def test_affine_corruptions_move_pixels_as_far_as_documented() -> None:
    up = spot(3, 13)  # 10 pixels above the centre of 13.5
    rotated = centres(corrupt(up, "rotate")) - 13.5
    angles = np.degrees(np.arctan2(rotated[:, 1], -rotated[:, 0]))
    assert sorted({round(float(angle)) for angle in angles}) == [-23, 23]
    sheared = centres(corrupt(up, "shear")) - 13.5
    assert np.abs(sheared[:, 1]) == pytest.approx(10 * np.tan(0.4), abs=0.1)
    assert {np.sign(value) for value in sheared[:, 1]} == {-1, 1}
    translated = centres(corrupt(spot(13, 13), "translate")) - 13.5
    corners = {(3, 3), (3, -3), (-3, 3), (-3, -3)}
    assert {tuple(value) for value in translated.round(6)} == corners
    shrunk = centres(corrupt(up, "scale")) - 13.5
    assert shrunk[:, 0] == pytest.approx(-7, abs=0.1)


def test_noise_and_brightness_are_as_strong_as_documented() -> None:
    grey = np.full((200, 28, 28), 128, np.uint8)
    assert corrupt(grey, "gaussian_noise").std() / 255 == pytest.approx(0.25, abs=0.015)  # clipped
    impulses = corrupt(grey, "impulse_noise")
    assert (impulses != 128).mean() == pytest.approx(0.17, abs=0.005)
    assert set(np.unique(impulses)) == {0, 128, 255}
    assert corrupt(grey, "brightness").mean() == pytest.approx(128 + 0.3 * 255, abs=1)
