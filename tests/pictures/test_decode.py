"""Decode picture files: what is refused, and that no small file costs much time or memory."""

import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures.picture_files import chunk, saved
from PIL import Image

from mnist_exp.core.errors import InputError
from mnist_exp.pictures.preprocess import preprocess


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A few bytes with the header of a huge picture."""
    header = chunk(b"IHDR", width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", bytes(10))


WHOLE = saved(Image.effect_noise((64, 64), 50))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x: expected a picture (PNG, JPEG, BMP, WebP or GIF), got an empty file"),
        (b"hello, world", "got bytes of no such picture; save it as PNG"),
        (b"%PDF-1.7", "got PDF; save it as PNG"),
        (b"<svg xmlns", "got SVG; save it as PNG"),
        (b"II*\0rest", "got TIFF; save it as PNG"),
        (b"\0\0\0\x18ftypheic", "got HEIC or AVIF; save it as PNG"),
        (WHOLE[: len(WHOLE) // 2], "expected a whole picture, got one that is broken or cut short"),
        (png_of_claimed_size(30_000, 2_000), "expected at most 40 million pixels, got 30000x2000"),
        (png_of_claimed_size(60_000, 60_000), "expected at most 40 million pixels, got far more"),
        (saved(Image.new("L", (4, 40))), "expected sides of at least 8 pixels"),
        (saved(Image.new("L", (10, 400))), "one at most 20 times the other, got 10x400"),
    ],
)
def test_unreadable_files_raise_input_errors(content: bytes, message: str) -> None:
    with pytest.raises(InputError) as error, warnings.catch_warnings():
        warnings.simplefilter("error")
        preprocess(content, "x")
    assert str(error.value).startswith("x: ")
    assert message in str(error.value)


SIDE = 6300  # just below `MAX_PIXELS`


def png(*, side: int = SIDE, depth: int = 8, channels: int = 1, between: bytes = b"") -> bytes:
    """A black page, with `between` before its pixels."""
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = side.to_bytes(4) * 2 + bytes([depth, colour, 0, 0, 0])
    line = 1 + side * channels * depth // 8
    pixels = zlib.compress(bytes(side * line), 9)
    chunks = chunk(b"IHDR", header), between, chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(between: bytes, side: int = 64) -> bytes:
    plain = saved(Image.new("L", (side, side), 255), "JPEG")
    return plain[:2] + between + plain[2:]


def progressive_jpeg(count: int) -> bytes:
    """A progressive JPEG whose last scan, of 82 bytes, is repeated and decoded `count` times."""
    plain = saved(Image.new("L", (SIDE, SIDE), 255), "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xc4") : -2]
    return plain[:-2] + count * last + plain[-2:]


def gif(between: bytes) -> bytes:
    plain = saved(Image.new("P", (64, 64)), "GIF")
    image = plain.index(b"\x2c\0\0\0\0")
    return plain[:image] + between + plain[image:]


def run_length_bmp() -> bytes:
    """Run-length encoded: 32,000 pixels from 500 bytes."""
    pixels = (b"\xff\0" * (SIDE // 255 + 1) + b"\0\0") * SIDE + b"\0\1"
    fields = 40, SIDE, SIDE, 1 + (8 << 16), 1, len(pixels), 0, 0, 256, 0
    header = b"".join(field.to_bytes(4, "little") for field in fields)
    start = (14 + 40 + 1024).to_bytes(4, "little")
    size = (1078 + len(pixels)).to_bytes(4, "little")
    return b"BM" + size + bytes(4) + start + header + bytes(1024) + pixels


def marks(height: int, width: int, every: int) -> bytes:
    """A white page full of black marks."""
    rows, columns = np.indices((1400, 1400)) % every
    black = (rows < height) & (columns < width)
    return saved(Image.fromarray(np.where(black, 0, 255).astype(np.uint8)))


def arithmetic_jpeg() -> bytes:
    plain = saved(Image.new("L", (64, 64), 255), "JPEG")
    return plain.replace(b"\xff\xc0", b"\xff\xc9")


BLANK = "no digit found: the picture is blank"
BROKEN = "expected a whole picture"
SLOW = "expected a picture that is quick to read"
SIDES = "expected sides of at least 8 pixels"
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png.grey": (png, BLANK),
    "png.deep": (lambda: png(depth=16, channels=4), BLANK),
    "png.chunks": (lambda: png(side=64, between=800_000 * chunk(b"aaAa", b"")), SLOW),
    "png.text": (
        lambda: png(between=100 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7), 9))),
        BROKEN,
    ),
    "png.profile": (
        lambda: png(between=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9))),
        BROKEN,
    ),
    "webp": (lambda: saved(Image.new("RGBA", (SIDE, SIDE)), "WEBP", lossless=True), BLANK),
    "gif": (lambda: saved(Image.new("P", (SIDE, SIDE)), "GIF"), BLANK),
    "gif.comments": (lambda: gif(1_900_000 * b"\x21\xfe\x01a\0"), SLOW),
    "bmp": (run_length_bmp, SLOW),
    "jpeg": (lambda: jpeg(b"", SIDE), BLANK),
    "jpeg.cmyk": (lambda: saved(Image.new("CMYK", (SIDE, SIDE)), "JPEG"), BLANK),
    "jpeg.padding": (lambda: jpeg(9_900_000 * b"\xff"), SLOW),
    "jpeg.junk": (lambda: jpeg(b"\xff\xfe\0\2" + 9_900_000 * b"\0"), SLOW),
    "jpeg.segments": (lambda: jpeg(2_400_000 * b"\xff\xe5\0\2"), SLOW),
    "jpeg.scans": (lambda: progressive_jpeg(6), BLANK),
    "jpeg.more-scans": (lambda: progressive_jpeg(1000), SLOW),
    "jpeg.arithmetic": (arithmetic_jpeg, SLOW),
    "dots": (lambda: marks(2, 2, 5), BLANK),
    "marks": (lambda: marks(58, 20, 78), "289 separate marks could be digits"),
    "point": (lambda: saved(Image.new("L", (1, 1))), SIDES),
    "line": (lambda: saved(Image.new("L", (1, 100_000))), SIDES),
}
LONGEST = {"png.chunks", "png.deep", "webp", "marks"}  # more than a second each
READ_ALL = """
import resource, sys
from pathlib import Path
from mnist_exp.core.errors import InputError
from mnist_exp.pictures.preprocess import preprocess

GIB = 2**30
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + GIB, taken + GIB))
for name in sys.argv[1:]:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 5, resource.RLIM_INFINITY))
    try:
        print(name, preprocess(Path(name).read_bytes(), "x").note, flush=True)
    except InputError as error:
        print(name, error, flush=True)
"""


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([name for name in BOMBS if name not in LONGEST], id="most"),
        pytest.param([*LONGEST], id="longest", marks=pytest.mark.slow),
    ],
)
def test_bombs_are_read_or_refused_in_1_gib_and_5_s_each(tmp_path: Path, names: list[str]) -> None:
    bombs = {name: BOMBS[name] for name in names}
    for name, (build, _) in bombs.items():
        (tmp_path / name).write_bytes(content := build())
        assert len(content) < 10_000_000
    child = [sys.executable, "-c", READ_ALL, *bombs]
    result = subprocess.run(child, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    for line, (name, (_, message)) in zip(result.stdout.splitlines(), bombs.items(), strict=True):
        assert line.startswith(f"{name} ")
        assert message in line
