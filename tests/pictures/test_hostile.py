"""Whatever bytes come as a picture, as a file or over HTTP: an answer or a sentence."""

import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from support import tiny
from test_images import chunk, saved
from test_serving import served

from mnist_exp.core.errors import InputError
from mnist_exp.experiment import run_experiment
from mnist_exp.pictures.preprocess import Reading, read
from mnist_exp.runs.find import resolve_run, store_config

seeded = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ONE = np.full((60, 50, 4), 255, np.uint8)
ONE[10:50, 20:26, :3] = 0


def whole_ones() -> list[bytes]:
    """A 1 in every format, mode and make that can be written."""
    files = []
    moving = {"save_all": True, "append_images": [Image.new("RGB", (50, 60))]}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"):
        image = Image.fromarray(ONE).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype("u2") * 200)
        for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF"):
            for options in ({}, {"progressive": True}, {"lossless": True}, moving):
                try:
                    files.append(saved(image, kind, **options))
                except (OSError, ValueError, KeyError, AttributeError):
                    continue  # this format has no such mode
    return list(dict.fromkeys(files))


WHOLE = whole_ones()
CHANGES = st.tuples(
    st.sampled_from(["cut", "set", "head", "repeat", "join"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255),
)


@st.composite
def files(draw: Any) -> bytes:
    """Bytes of a picture that was cut, changed, repeated or joined with another's."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    for how, one, other, value in draw(st.lists(CHANGES, max_size=8)):
        first, last = sorted(int(share * len(content)) for share in (one, other))
        if how == "cut":
            del content[last:]
        elif how == "set" and content:
            content[min(first, len(content) - 1)] = value
        elif how == "head" and content:
            content[min(int(64 * one), len(content) - 1)] = value
        elif how == "repeat":
            content[first:last] *= 2 + value % 8
        elif how == "join":
            content = content[:first] + draw(st.sampled_from(WHOLE))[last:]
    return bytes(content)


@st.composite
def pictures(draw: Any) -> bytes:
    """Rectangles, shades and grain of any strength, in any mode."""
    height, width = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    channels = draw(st.sampled_from([1, 3, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    page = np.full((height, width, channels), float(draw(st.integers(0, 255))))
    for value in draw(st.lists(st.integers(0, 255), max_size=6)):
        top, left = rng.integers(height), rng.integers(width)
        bottom, right = rng.integers(top, height + 1), rng.integers(left, width + 1)
        page[top:bottom, left:right, rng.integers(channels) :] = value
    page += draw(st.sampled_from([0, 0, 0.3, 1, 5, 60])) * rng.normal(size=page.shape)
    page += np.linspace(0, draw(st.sampled_from([0, 0, 3, -200])), width)[:, None]
    pixels = page.clip(0, 255).astype(np.uint8)
    return saved(Image.fromarray(pixels[..., 0] if channels == 1 else pixels))


def a_digit_or_a_sentence(content: bytes) -> None:
    said: Reading | InputError
    try:
        said = read(content, "x")
    except InputError as error:
        said = error
    if isinstance(said, InputError):
        assert str(said).startswith("x: expected ")
        assert str(said).count("\n") == 0
    elif said.pixels is None:
        assert said.note
    else:
        assert said.pixels.shape == (28, 28)
        assert said.pixels.any()


@pytest.mark.filterwarnings("error")
@settings(seeded, max_examples=800)
@given(files() | pictures())
def test_any_bytes_are_a_digit_or_a_sentence(content: bytes) -> None:
    a_digit_or_a_sentence(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@settings(seeded, max_examples=20_000)
@given(files() | pictures())
def test_a_great_many_bytes_are_a_digit_or_a_sentence(content: bytes) -> None:
    a_digit_or_a_sentence(content)


@pytest.mark.filterwarnings("error")
def test_an_even_shade_is_blank() -> None:
    """Its ink is the same everywhere: there is no second class to be told from the first."""
    shade = np.tile(np.arange(220, 244, dtype=np.uint8), (28, 1))
    note = read(saved(Image.fromarray(shade)), "x").note
    assert note.startswith("no digit found: the picture is blank")


SIDE = 6300  # just below the most pixels that are read


def png(*, side: int = SIDE, depth: int = 8, channels: int = 1, between: bytes = b"") -> bytes:
    """A black page, with other chunks before its pixels."""
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = side.to_bytes(4) * 2 + bytes([depth, colour, 0, 0, 0])
    line = 1 + side * channels * depth // 8
    pixels = zlib.compress(bytes(side * line), 9)
    parts = chunk(b"IHDR", header), between, chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(between: bytes, side: int = 64) -> bytes:
    plain = saved(Image.new("L", (side, side), 255), "JPEG")
    return plain[:2] + between + plain[2:]


def jpeg_of_scans(count: int) -> bytes:
    """A progressive one whose last scan is repeated: 82 bytes each, the whole picture's work."""
    plain = saved(Image.new("L", (SIDE, SIDE), 255), "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xc4") : -2]
    return plain[:-2] + count * last + plain[-2:]


def gif(between: bytes) -> bytes:
    plain = saved(Image.new("P", (64, 64)), "GIF")
    image = plain.index(b"\x2c\0\0\0\0")
    return plain[:image] + between + plain[image:]


def bmp_of_runs() -> bytes:
    """Compressed by run lengths: 32,000 pixels from 500 bytes."""
    pixels = (b"\xff\0" * (SIDE // 255 + 1) + b"\0\0") * SIDE + b"\0\1"
    fields = 40, SIDE, SIDE, 1 + (8 << 16), 1, len(pixels), 0, 0, 256, 0
    header = b"".join(field.to_bytes(4, "little") for field in fields)
    start = (14 + 40 + 1024).to_bytes(4, "little")
    size = (1078 + len(pixels)).to_bytes(4, "little")
    return b"BM" + size + bytes(4) + start + header + bytes(1024) + pixels


def page_of(strokes: Any) -> bytes:
    """Black where so, on white."""
    return saved(Image.fromarray(np.where(strokes, 0, 255).astype(np.uint8)))


def of_marks(height: int, width: int, every: int) -> bytes:
    """As many marks as fit on a page."""
    rows, columns = np.indices((1400, 1400)) % every
    return page_of((rows < height) & (columns < width))


def in_arithmetic_coding() -> bytes:
    plain = saved(Image.new("L", (64, 64), 255), "JPEG")
    return plain.replace(b"\xff\xc0", b"\xff\xc9")


BLANK = "no digit found: the picture is blank"
BROKEN = "expected a whole picture"
LABORIOUS = "expected a picture that is quick to read"
SIDES = "expected sides of at least 8 pixels"
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png.grey": (png, BLANK),
    "png.deep": (lambda: png(depth=16, channels=4), BLANK),
    "png.chunks": (lambda: png(side=64, between=800_000 * chunk(b"aaAa", b"")), LABORIOUS),
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
    "gif.comments": (lambda: gif(1_900_000 * b"\x21\xfe\x01a\0"), LABORIOUS),
    "bmp": (bmp_of_runs, LABORIOUS),
    "jpeg": (lambda: jpeg(b"", SIDE), BLANK),
    "jpeg.cmyk": (lambda: saved(Image.new("CMYK", (SIDE, SIDE)), "JPEG"), BLANK),
    "jpeg.padding": (lambda: jpeg(9_900_000 * b"\xff"), LABORIOUS),
    "jpeg.junk": (lambda: jpeg(b"\xff\xfe\0\2" + 9_900_000 * b"\0"), LABORIOUS),
    "jpeg.segments": (lambda: jpeg(2_400_000 * b"\xff\xe5\0\2"), LABORIOUS),
    "jpeg.scans": (lambda: jpeg_of_scans(6), BLANK),
    "jpeg.more-scans": (lambda: jpeg_of_scans(1000), LABORIOUS),
    "jpeg.arithmetic": (in_arithmetic_coding, LABORIOUS),
    "dots": (lambda: of_marks(2, 2, 5), BLANK),
    "marks": (lambda: of_marks(58, 20, 78), "289 separate marks could be digits"),
    "point": (lambda: saved(Image.new("L", (1, 1))), SIDES),
    "line": (lambda: saved(Image.new("L", (1, 100_000))), SIDES),
}
READ_ALL = """
import resource, sys
from pathlib import Path
from mnist_exp.core.errors import InputError
from mnist_exp.pictures.preprocess import read

GIB = 2**30
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + GIB, taken + GIB))
for name in sys.argv[1:]:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 5, resource.RLIM_INFINITY))
    try:
        print(name, read(Path(name).read_bytes(), "x").note, flush=True)
    except InputError as refused:
        print(name, refused, flush=True)
"""


def test_bombs_are_read_or_refused_within_a_gigabyte(tmp_path: Path) -> None:
    """A process that may take 1 GiB, and 5 s for each of them, lives to answer to each."""
    for name, (make, _) in BOMBS.items():
        (tmp_path / name).write_bytes(content := make())
        assert len(content) < 10_000_000
    child = [sys.executable, "-c", READ_ALL, *BOMBS]
    result = subprocess.run(child, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    for line, (name, (_, sentence)) in zip(result.stdout.splitlines(), BOMBS.items(), strict=True):
        assert line.startswith(f"{name} ")
        assert sentence in line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from mnist_exp.deployment import server as serving

    folder = tmp_path_factory.mktemp("site")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run_id = run_experiment(tiny(f"tracking.uri={uri}"), folder=folder / "run").run_id
    with served(serving.app(resolve_run(run_id, store_config(uri=uri)))) as address:
        yield address


def test_any_bytes_posted_are_answered(site: str) -> None:
    @settings(seeded, max_examples=200)
    @given(files() | pictures() | st.binary(max_size=300), st.text(max_size=20))
    def post(content: bytes, name: str) -> None:
        file = {"file": (name or "x", content)}
        response = requests.post(f"{site}/predict", files=file, timeout=60)
        assert response.status_code in {200, 400}
        said = response.json()
        if response.status_code == 200:
            assert (said["digit"] is None) <= bool(said["note"])
        else:
            assert said["detail"].startswith("the picture: expected ")

    post()


def test_requests_that_its_own_description_allows_or_forbids(site: str) -> None:
    """Schemathesis: no 5xx, nothing that is not described, nothing forbidden accepted."""
    schema = schemathesis.openapi.from_url(f"{site}/openapi.json")
    checks = CHECKS.get_by_names(
        [
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
            "negative_data_rejection",
        ]
    )
    allowed, forbidden = GenerationMode
    modes = {
        "/health": [allowed],  # it has nothing that could be forbidden
        "/models": [allowed],
        "/predict": [allowed, forbidden],
        "/examples": [allowed, forbidden],
    }
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in modes.pop(operation.path):

            @settings(seeded, max_examples=60)
            @given(operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                case.call_and_validate(checks=checks, timeout=60)

            ask()
    assert not modes


def test_the_strategies_start_from_pictures_that_are_read() -> None:
    assert len(WHOLE) > 25
    for content in WHOLE:
        assert Image.open(BytesIO(content)).size == (50, 60)
        assert read(content, "x").pixels is not None
