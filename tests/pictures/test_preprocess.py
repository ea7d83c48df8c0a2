"""Preprocess pictures as people make them: MNIST's own pixels come back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures.picture_files import saved
from PIL import Image, ImageFilter, ImageOps

from mnist_exp.data.dataset import Dataset
from mnist_exp.pictures.preprocess import PreprocessedPicture, preprocess

Pixels = NDArray[np.uint8]


def enlarged(digit: Pixels, side: int = 200) -> Image.Image:
    """Light on black, `side` pixels."""
    return Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)


def photo(
    digit: Pixels,
    ink: tuple[int, int, int] = (30, 30, 90),
    paper: tuple[int, int, int] = (225, 220, 205),
) -> Image.Image:
    """The digit on a page that is lit from one side, with noise and blur."""
    rng = np.random.default_rng(0)
    opacity = np.zeros((480, 640, 1))
    opacity[100:350, 300:550, 0] = np.asarray(enlarged(digit, 250)) / 255
    light = np.linspace(1, 0.6, 640)[None, :, None]
    scene = (opacity * ink + (1 - opacity) * paper) * light + rng.normal(0, 4, (480, 640, 3))
    sharp = Image.fromarray(scene.clip(0, 255).astype(np.uint8))
    return sharp.filter(ImageFilter.GaussianBlur(1))


def rotated_by_exif(digit: Pixels) -> bytes:
    """As a camera held upright saves it."""
    exif = Image.Exif()
    exif[0x112] = 6
    rotated = photo(digit).transpose(Image.Transpose.ROTATE_90)
    return saved(rotated, "JPEG", quality=80, exif=exif)


def transparent(digit: Pixels) -> bytes:
    """White strokes on a transparent page, as drawing programs save it."""
    rgba = np.full((200, 200, 4), 255, np.uint8)
    rgba[..., 3] = np.asarray(enlarged(digit))
    return saved(Image.fromarray(rgba))


def cropped_closely(digit: Pixels) -> bytes:
    rows, columns = (np.flatnonzero(digit.max(axis=axis) > 50) for axis in (1, 0))
    cropped = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return saved(ImageOps.invert(enlarged(cropped, 160).resize((8 * cropped.shape[1], 160))))


SCENES: dict[str, Callable[[Pixels], bytes]] = {
    "light on dark": lambda digit: saved(enlarged(digit)),
    "dark on light": lambda digit: saved(ImageOps.invert(enlarged(digit))),
    "small": lambda digit: saved(ImageOps.invert(enlarged(digit, 40))),
    "large": lambda digit: saved(ImageOps.invert(enlarged(digit, 2000)), "JPEG"),
    "black frame": lambda d: saved(ImageOps.expand(ImageOps.invert(enlarged(d)), 6, 0)),
    "bitmap": lambda digit: saved(
        ImageOps.invert(enlarged(digit)).point(lambda v: 255 * (v > 99)).convert("1"), "BMP"
    ),
    "gif": lambda digit: saved(ImageOps.invert(enlarged(digit)).convert("P"), "GIF"),
    "webp": lambda digit: saved(photo(digit), "WEBP"),
    "16 bits": lambda digit: saved(
        Image.fromarray(
            np.asarray(photo(digit, (235, 235, 225), (40, 60, 50)).convert("L")).astype("u2") * 16
        )
    ),
    "photo": lambda digit: saved(photo(digit), "JPEG", quality=80),
    "chalk": lambda digit: saved(photo(digit, ink=(235, 235, 225), paper=(40, 60, 50)), "JPEG"),
    "red on yellow": lambda digit: saved(photo(digit, ink=(220, 90, 60), paper=(250, 240, 120))),
    "equally bright": lambda d: saved(photo(d, ink=(220, 60, 60), paper=(50, 190, 100)), "JPEG"),
    "near": lambda digit: saved(photo(digit).crop((310, 110, 540, 340)), "JPEG"),
    "rotated by EXIF": rotated_by_exif,
    "transparent": transparent,
    "cropped closely": cropped_closely,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scene", SCENES)
def test_a_digit_in_a_picture_is_close_to_the_original(digits: Dataset, scene: str) -> None:
    for digit in range(10):
        original = digits.validation_images[(digits.validation_labels == digit).argmax()]
        pixels = pixels_of(preprocess(SCENES[scene](original), scene))
        assert correlation(pixels, original) > 0.8, digit


def test_a_picture_in_mnist_form_is_unchanged(digits: Dataset) -> None:
    for original in digits.validation_images[:50]:
        for picture in (original, 255 - original):
            assert (pixels_of(preprocess(saved(Image.fromarray(picture)), "x")) == original).all()


def test_the_result_is_in_mnist_form(digits: Dataset) -> None:
    """As by LeCun et al. (1998): fitted into 20x20, the centre of mass in the middle of 28x28."""
    for original in digits.validation_images[:10]:
        pixels = pixels_of(preprocess(saved(photo(original)), "x"))
        rows, columns = (np.flatnonzero(pixels.max(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        mass = pixels / pixels.sum()
        middle = (mass.sum(1) @ np.arange(28) + 0.5, mass.sum(0) @ np.arange(28) + 0.5)
        assert middle == pytest.approx((14, 14), abs=1)


def test_strokes_of_a_thin_pen_are_widened() -> None:
    page = np.full((1000, 1000), 255, np.uint8)
    page[200:800, 500:504] = 0
    pixels = pixels_of(preprocess(saved(Image.fromarray(page)), "x"))
    assert (pixels[14] > 127).sum() >= 2


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.full((100, 100), 255), "no digit found: the picture is blank"),
        (np.zeros((28, 28)), "no digit found: the picture is blank"),
        (np.random.default_rng(0).integers(0, 256, (200, 200)), "no digit found"),
        (230 + np.random.default_rng(0).normal(0, 3, (200, 200)), "no digit found"),
        (np.linspace(0, 255, 300) * np.ones((200, 1)), "no digit found"),
    ],
    ids=["white", "black", "noise", "grain", "gradient"],
)
def test_a_picture_without_a_digit_gives_the_reason(picture: Any, reason: str) -> None:
    reading = preprocess(saved(Image.fromarray(np.asarray(picture).astype(np.uint8))), "x")
    assert reading.pixels is None
    assert reading.note.startswith(reason)


def test_several_digits_are_counted(digits: Dataset) -> None:
    page = Image.new("L", (700, 300))
    for number in range(3):
        page.paste(enlarged(digits.validation_images[number]), (20 + 220 * number, 50))
    reading = preprocess(saved(ImageOps.invert(page)), "x")
    assert reading.pixels is None
    assert reading.note.startswith("3 separate marks could be digits")


def test_a_net_of_lines_and_a_wide_mark_are_no_digit() -> None:
    page = np.full((300, 300), 255, np.uint8)
    page[40:261, 40:261:44] = page[40:261:44, 40:261] = 0
    page[260:264, 40:264] = page[40:264, 260:264] = 0
    assert "a net of lines" in preprocess(saved(Image.fromarray(page)), "x").note
    page[:] = 255
    page[140:160, 50:250] = 0
    assert "too wide for one digit" in preprocess(saved(Image.fromarray(page)), "x").note


def test_noise_and_a_chequered_square_are_no_digit() -> None:
    noise = np.random.default_rng(0).random((600, 600)) < 0.5
    rows, columns = np.indices((200, 200))
    chequered = ((rows + columns) % 2 == 0) & (abs(rows - 100) < 50) & (abs(columns - 100) < 50)
    for ink in (noise, chequered):
        page = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8))
        assert (
            preprocess(saved(page), "x").note == "no digit found: a pattern or noise, not one digit"
        )


def test_two_high_marks_close_together_are_two_digits() -> None:
    page = np.full((300, 300), 255, np.uint8)
    page[50:250, 100:120] = page[60:240, 150:170] = 0
    assert preprocess(saved(Image.fromarray(page)), "x").note.startswith("2 separate marks")


def test_a_five_of_two_strokes_is_one_digit_and_dirt_is_dropped() -> None:
    page = np.full((300, 300), 255, np.uint8)
    page[80:180, 100:112] = page[170:182, 100:180] = page[170:250, 170:182] = 0
    page[60:70, 120:190] = 0  # the upper bar, apart
    clean = pixels_of(preprocess(saved(Image.fromarray(page)), "x"))
    page[10:13, 20:23] = page[280:283, 250:254] = page[255:260, 60:66] = 0
    assert (pixels_of(preprocess(saved(Image.fromarray(page)), "x")) == clean).all()
    rows = np.flatnonzero(clean.max(axis=1))
    assert np.ptp(rows) + 1 == 20


def test_the_first_frame_of_an_animation_is_read(digits: Dataset) -> None:
    first, second = (enlarged(image) for image in digits.validation_images[:2])
    animation = saved(first, "GIF", save_all=True, append_images=[second])
    assert preprocess(animation, "x").note == "an animation: its first frame was read"


def pixels_of(reading: PreprocessedPicture) -> Pixels:
    assert reading.pixels is not None, reading.note
    assert reading.pixels.shape == (28, 28)
    assert reading.pixels.dtype == np.uint8
    return reading.pixels


def correlation(one: Pixels, other: Pixels) -> float:
    """Pearson's correlation of the pixels, the highest of nine shifts."""
    shifts = [(rows, columns) for rows in (-1, 0, 1) for columns in (-1, 0, 1)]
    shifted = [np.roll(one, shift, (0, 1)).ravel() for shift in shifts]
    return float(max(np.corrcoef(pixels, other.ravel())[0, 1] for pixels in shifted))
