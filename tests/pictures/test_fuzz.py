"""Fuzz `read` and the server: any bytes are a digit or an error message."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures.picture_files import saved
from PIL import Image
from support import served

from mnist_exp.core.errors import InputError
from mnist_exp.pictures.preprocess import preprocess
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.search import store_config

seeded = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ONE = np.full((60, 50, 4), 255, np.uint8)
ONE[10:50, 20:26, :3] = 0


def valid_files() -> list[bytes]:
    """A 1 in every format, mode and encoding that Pillow writes."""
    files = []
    animation = {"save_all": True, "append_images": [Image.new("RGB", (50, 60))]}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"):
        image = Image.fromarray(ONE).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype("u2") * 200)
        for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF"):
            for options in ({}, {"progressive": True}, {"lossless": True}, animation):
                try:
                    files.append(saved(image, kind, **options))
                except (OSError, ValueError, KeyError, AttributeError):
                    continue  # the format lacks this mode
    return list(dict.fromkeys(files))


VALID = valid_files()
CHANGES = st.tuples(
    st.sampled_from(["cut", "set", "head", "repeat", "join"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255),
)


@st.composite
def files(draw: Any) -> bytes:
    """A picture file, cut, changed, repeated or joined with another."""
    content = bytearray(draw(st.sampled_from(VALID)))
    for change, one, other, value in draw(st.lists(CHANGES, max_size=8)):
        first, last = sorted(int(share * len(content)) for share in (one, other))
        if change == "cut":
            del content[last:]
        elif change == "set" and content:
            content[min(first, len(content) - 1)] = value
        elif change == "head" and content:
            content[min(int(64 * one), len(content) - 1)] = value
        elif change == "repeat":
            content[first:last] *= 2 + value % 8
        elif change == "join":
            content = content[:first] + draw(st.sampled_from(VALID))[last:]
    return bytes(content)


@st.composite
def pictures(draw: Any) -> bytes:
    """Rectangles, gradients and noise of any strength, in any mode."""
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


def check_read(content: bytes) -> None:
    reading, message = None, ""
    try:
        reading = preprocess(content, "x")
    except InputError as error:
        message = str(error)
    if reading is None:
        assert message.startswith("x: expected ")
        assert "\n" not in message
    elif reading.pixels is None:
        assert reading.note
    else:
        assert reading.pixels.shape == (28, 28)
        assert reading.pixels.any()


@pytest.mark.filterwarnings("error")
@settings(seeded, max_examples=200)
@given(files() | pictures())
def test_any_bytes_are_a_digit_or_an_error_message(content: bytes) -> None:
    check_read(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@settings(seeded, max_examples=20_000)
@given(files() | pictures())
def test_many_more_bytes_are_a_digit_or_an_error_message(content: bytes) -> None:
    check_read(content)


@pytest.mark.filterwarnings("error")
def test_a_uniform_gradient_is_blank() -> None:
    """Its ink is equal everywhere, so Otsu's method finds no second class."""
    gradient = np.tile(np.arange(220, 244, dtype=np.uint8), (28, 1))
    note = preprocess(saved(Image.fromarray(gradient)), "x").note
    assert note.startswith("no digit found: the picture is blank")


@pytest.fixture(scope="module")
def site(made_once: tuple[str, Any]) -> Iterator[str]:
    from mnist_exp.deployment.server import create_app

    run = resolve_run("dense128 seed=0", store_config(uri=made_once[0]))
    with served(create_app(run)) as address:
        yield address


def test_the_server_responds_to_any_bytes(site: str) -> None:
    @settings(seeded, max_examples=100)
    @given(files() | pictures() | st.binary(max_size=300), st.text(max_size=20))
    def post(content: bytes, name: str) -> None:
        file = {"file": (name or "x", content)}
        response = requests.post(f"{site}/predict", files=file, timeout=60)
        assert response.status_code in {200, 400}
        body = response.json()
        if response.status_code == 200:
            assert (body["digit"] is None) <= bool(body["note"])
        else:
            assert body["detail"].startswith("the picture: expected ")

    post()


@pytest.mark.slow
def test_the_server_follows_its_openapi_schema(site: str) -> None:
    """No 5xx, no undocumented response, no invalid request accepted."""
    import schemathesis  # takes seconds
    from schemathesis.checks import CHECKS
    from schemathesis.core.result import Ok
    from schemathesis.generation import GenerationMode

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
    valid, invalid = GenerationMode
    modes = {
        "/health": [valid],  # no request to it is invalid
        "/models": [valid],
        "/predict": [valid, invalid],
        "/examples": [valid, invalid],
    }
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        for mode in modes.pop(operation.path):

            @settings(seeded, max_examples=60)
            @given(operation.as_strategy(generation_mode=mode))
            def request(case: Any) -> None:
                case.call_and_validate(checks=checks, timeout=60)

            request()
    assert not modes


def test_the_strategies_start_from_valid_files() -> None:
    assert len(VALID) > 25
    for content in VALID:
        assert Image.open(BytesIO(content)).size == (50, 60)
        assert preprocess(content, "x").pixels is not None
