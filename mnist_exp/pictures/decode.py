"""Decode a picture file: the formats that `predict` and the page read, and their limits."""

import re
import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from mnist_exp.core.errors import InputError

FORMATS = {  # Pillow's name: the suffixes of such files in a folder
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "WebP": (".webp",),
    "GIF": (".gif",),
}
UNSUPPORTED = {  # named in the error, by their first bytes
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xm": "SVG",
}  # fmt: skip
MAX_BYTES, MAX_PIXELS = 50_000_000, 40_000_000
MAX_READS = 300_000  # calls per file; Pillow needs five per chunk, a PNG of 50 MB has 12,000
MAX_SCANNED = 500_000_000  # pixels times the scans of a JPEG; ten scans are usual
MIN_SIDE = 8
MAX_ASPECT = 20
SIDE = 1000  # pixels that a picture is reduced to: every later step takes milliseconds

Floats = NDArray[np.float32]


class _LimitedFile(BytesIO):
    """A file whose `read` raises `InputError` after `MAX_READS` calls."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._left, self._name = MAX_READS, name

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise InputError(_too_slow(self._name, "of very many small parts"))
        return super().read(size)


def decode(content: bytes, name: str) -> tuple[Floats, str]:
    """Pixels (h, w) or (h, w, 3) in 0-255, at most about 1000 per side, and a note, mostly empty.

    Not thread-safe: warning filters belong to the process. Raises `InputError`, which starts with
    `name`, for what is not a picture or cannot be opened safely.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: expected at most {MAX_BYTES // 1_000_000} MB; make it smaller")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: what they warn of is refused below
        try:
            with Image.open(_LimitedFile(content, name), formats=[*FORMATS]) as image:
                _check_size(image.size, name)
                if image.format in ("JPEG", "MPO"):
                    _check_scans(content, image.size, name)
                return _pixels(image)
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(_too_large(name, "far more")) from error
        except UnidentifiedImageError as error:
            raise InputError(_unsupported(content, name)) from error
        except Exception as error:  # Pillow raises nearly every type for broken bytes
            raise InputError(
                f"{name}: expected a whole picture, got one that is broken or cut short; "
                "save or copy it again"
            ) from error


def _unsupported(content: bytes, name: str) -> str:
    start, other = content[:4], "bytes of no such picture" if content else "an empty file"
    got = UNSUPPORTED.get(start) or UNSUPPORTED.get(start.lower(), other)
    got = "HEIC or AVIF" if content[4:8] == b"ftyp" else got
    *others, last = FORMATS
    formats = f"{', '.join(others)} or {last}"
    return f"{name}: expected a picture ({formats}), got {got}; save it as PNG"


def _check_scans(content: bytes, size: tuple[int, int], name: str) -> None:
    """Refuse a JPEG of many scans or of arithmetic coding: a small one may take hours."""
    width, height = size
    scans = content.count(b"\xff\xda\0")
    if width * height * scans > MAX_SCANNED:
        raise InputError(_too_slow(name, f"of {scans:,} scans"))
    sides = height.to_bytes(2) + width.to_bytes(2)
    if re.search(rb"\xff[\xc9-\xcb\xcd-\xcf]..." + re.escape(sides), content, re.DOTALL):
        raise InputError(_too_slow(name, "in arithmetic coding"))


def _too_slow(name: str, got: str) -> str:
    return f"{name}: expected a picture that is quick to read, got one {got}; save it as PNG anew"


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, f"{width}x{height}"))
    if min(size) < MIN_SIDE or max(size) > MAX_ASPECT * min(size):
        raise InputError(
            f"{name}: expected sides of at least {MIN_SIDE} pixels, one at most {MAX_ASPECT} times "
            f"the other, got {width}x{height}; give a picture of the whole digit"
        )


def _too_large(name: str, got: str) -> str:
    return (
        f"{name}: expected at most {MAX_PIXELS // 1_000_000} million pixels, got {got}; "
        "crop it or make it smaller"
    )


def _pixels(image: Image.Image) -> tuple[Floats, str]:
    animated = image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False)
    image.draft(None, (SIDE, SIDE))  # a JPEG decodes at a half, quarter or eighth
    is_16_bit = image.mode.startswith("I")
    mode = "F" if is_16_bit else "L" if image.mode in "1L" else "RGB"
    mode = "RGBA" if image.has_transparency_data else mode
    frame: Image.Image = image.convert(mode)
    frame.info.update(image.info)  # with the EXIF rotation
    frame = frame.reduce(max(1, round(max(frame.size) / SIDE)))
    pixels = np.asarray(ImageOps.exif_transpose(frame), np.float32)
    if is_16_bit:  # a camera uses 10 or 12 of them
        pixels = pixels * (255 / max(float(pixels.max()), 1))
    if mode == "RGBA":
        pixels = _flatten(pixels)
    return pixels, "an animation: its first frame was read" if animated else ""


def _flatten(pixels: Floats) -> Floats:
    """The picture without its alpha channel: strokes on a transparent page become dark on light."""
    colours, alpha = pixels[..., :3], pixels[..., 3] / max(float(pixels[..., 3].max()), 1)
    opaque = alpha > 0.5
    if opaque.all() or not opaque.any():
        return colours if opaque.all() else 0 * alpha
    visible = colours[opaque]
    box = ndimage.find_objects(opaque.astype(np.int8))[0]
    if opaque[box].mean() > 0.8 and visible.std(axis=0).max() > 16:  # a page, clear at its corners
        paper = np.median(visible, axis=0)
        return np.asarray(paper + alpha[..., None] * (colours - paper))
    return 255 * (1 - alpha)
