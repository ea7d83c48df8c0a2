"""The bytes of a picture file become pixels, or a sentence says why they cannot."""

import re
import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from mnist_exp.core.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
OTHERS = {  # what people send instead, by its first bytes
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xm": "SVG",
}  # fmt: skip
MAX_BYTES, MAX_PIXELS = 50_000_000, 40_000_000
MAX_READS = 300_000  # of a file; Pillow needs five for each part, 50 MB of a PNG have 12,000
MAX_SCANNED = 500_000_000  # pixels times the scans of a JPEG; ten of them are usual
MIN_SIDE = 8
MAX_ASPECT = 20
SIDE = 1000  # pixels that a picture is made small to: every later step takes milliseconds

Floats = NDArray[np.float32]


class _Frugal(BytesIO):
    """A file that ends its reader's work after MAX_READS; raises `InputError`."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._left, self._name = MAX_READS, name

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise InputError(_laborious(self._name, "of very many small parts"))
        return super().read(size)


def decode(content: bytes, name: str) -> tuple[Floats, str]:
    """Pixels (h, w) or (h, w, 3) of 0-255, at most about 1000 a side, and a note, mostly empty.

    Not for two threads at once: the filters of warnings are the whole process's.
    `name` is what the user calls the picture. Raises `InputError` for what is no picture, or none
    that can be opened safely.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: expected at most {MAX_BYTES // 1_000_000} MB; make it smaller")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: what they tell is refused below
        try:
            with Image.open(_Frugal(content, name), formats=FORMATS) as image:
                _check_size(image.size, name)
                if image.format in ("JPEG", "MPO"):
                    _check_scans(content, image.size, name)
                return _pixels(image)
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(_too_large(name, "far more")) from error
        except UnidentifiedImageError as error:
            raise InputError(_unknown(content, name)) from error
        except Exception as error:  # Pillow raises nearly every kind for broken bytes
            raise InputError(
                f"{name}: expected a whole picture, got one that is broken or cut short; "
                "save or copy it again"
            ) from error


def _unknown(content: bytes, name: str) -> str:
    kind = "HEIC or AVIF" if content[4:8] == b"ftyp" else OTHERS.get(content[:4].lower())
    kind = kind or OTHERS.get(content[:4])
    came = kind or ("bytes of no such picture" if content else "an empty file")
    return f"{name}: expected a picture (PNG, JPEG, BMP, WebP or GIF), got {came}; save it as PNG"


def _check_scans(content: bytes, size: tuple[int, int], name: str) -> None:
    """How often a JPEG goes through its pixels: a small file may ask for hours."""
    width, height = size
    scans = content.count(b"\xff\xda\0")
    if width * height * scans > MAX_SCANNED:
        raise InputError(_laborious(name, f"of {scans:,} scans"))
    sides = height.to_bytes(2) + width.to_bytes(2)
    if re.search(rb"\xff[\xc9-\xcb\xcd-\xcf]..." + re.escape(sides), content, re.DOTALL):
        raise InputError(_laborious(name, "in arithmetic coding"))


def _laborious(name: str, make: str) -> str:
    return f"{name}: expected a picture that is quick to read, got one {make}; save it as PNG anew"


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, f"{width}x{height}"))
    if min(size) < MIN_SIDE or max(size) > MAX_ASPECT * min(size):
        raise InputError(
            f"{name}: expected sides of at least {MIN_SIDE} pixels, one at most {MAX_ASPECT} times "
            f"the other, got {width}x{height}; give a picture of the whole digit"
        )


def _too_large(name: str, came: str) -> str:
    return (
        f"{name}: expected at most {MAX_PIXELS // 1_000_000} million pixels, got {came}; "
        "crop it or make it smaller"
    )


def _pixels(image: Image.Image) -> tuple[Floats, str]:
    moves = image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False)
    image.draft(None, (SIDE, SIDE))  # a JPEG decodes at a half, quarter or eighth
    deep = image.mode.startswith("I")
    grey = "F" if deep else "L"
    mode = "RGBA" if image.has_transparency_data else grey if deep or image.mode in "1L" else "RGB"
    frame: Image.Image = image.convert(mode)
    frame.info.update(image.info)  # the rotation that a camera noted
    frame = frame.reduce(max(1, round(max(frame.size) / SIDE)))
    pixels = np.asarray(ImageOps.exif_transpose(frame), np.float32)
    if deep:  # 16 bits, of which a camera uses 10 or 12
        pixels = pixels * (255 / max(float(pixels.max()), 1))
    if mode == "RGBA":
        pixels = _opaque(pixels)
    return pixels, "an animation: its first frame was read" if moves else ""


def _opaque(pixels: Floats) -> Floats:
    """The picture without transparency: strokes of any colour on nothing become dark on light."""
    colours, alpha = pixels[..., :3], pixels[..., 3] / max(float(pixels[..., 3].max()), 1)
    seen = alpha > 0.5
    if seen.all() or not seen.any():
        return colours if seen.all() else 0 * alpha
    page = colours[seen]
    box = ndimage.find_objects(seen.astype(np.int8))[0]
    if seen[box].mean() > 0.8 and page.std(axis=0).max() > 16:  # paper with transparent corners
        blank = np.median(page, axis=0)
        whole: Floats = blank + alpha[..., None] * (colours - blank)
        return whole
    return 255 * (1 - alpha)
