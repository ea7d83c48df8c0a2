"""How long the page waits for an answer: one client alone, then fifty at once."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import requests
from PIL import Image

from benchmarks import machine

TITLE = "How long the page waits"
MODELS = ("dense128", "cnn")
ALONE, TOGETHER, CLIENTS = 300, 1000, 50


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `serve --run best` in a process of its own."""
    command = [sys.executable, "-m", "mnist_exp", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=machine.environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            for line in server.stdout or ():
                if found := re.search(r"http://\S+", line):
                    yield found.group()
                    break
        finally:
            server.terminate()


def drawings() -> list[bytes]:
    """Digits as the page sends them: 420x420, dark on white."""
    from mnist_exp import compose
    from mnist_exp.data.dataset import load_dataset

    files = []
    for pixels in load_dataset(compose(["data=mnist5k"]).data).test_images[:50]:
        image = Image.fromarray(255 - pixels).resize((420, 420), Image.Resampling.BICUBIC)
        image.save(file := BytesIO(), "PNG")
        files.append(file.getvalue())
    return files


def ask(session: requests.Session, address: str, drawing: bytes) -> float:
    """The milliseconds until the answer."""
    started = time.perf_counter()
    response = session.post(f"{address}/predict", files={"file": drawing}, timeout=60)
    response.raise_for_status()
    return 1000 * (time.perf_counter() - started)


def client(address: str, files: list[bytes], count: int) -> list[float]:
    """The milliseconds of so many questions, one after the other."""
    with requests.Session() as session:
        return [ask(session, address, files[k % len(files)]) for k in range(count)]


def train(model: str, folder: Path) -> None:
    command = [sys.executable, "-m", "mnist_exp.run", f"model={model}", "data=mnist5k"]
    subprocess.run(command, cwd=folder, env=machine.environment(), check=True, capture_output=True)


def measure(quick: bool) -> Iterator[str]:
    yield (
        f"Milliseconds for a drawing as the page sends it, from the 5th to the 95th percentile: "
        f"one client with {ALONE} questions, then {CLIENTS} clients at once with {TOGETHER}."
    )
    yield ""
    yield from machine.head("model", "one client", "all at once", "per second")
    files = drawings()
    for model in MODELS[:1] if quick else MODELS:
        with tempfile.TemporaryDirectory() as folder:
            train(model, Path(folder))
            with served(Path(folder)) as address:
                client(address, files, 20)  # warm
                alone = client(address, files, ALONE)
                ask_some = partial(client, address, files)
                started = time.perf_counter()
                with ThreadPoolExecutor(CLIENTS) as pool:
                    waits = [*chain(*pool.map(ask_some, [TOGETHER // CLIENTS] * CLIENTS))]
                rate = len(waits) / (time.perf_counter() - started)
        yield machine.row(model, percentiles(alone), percentiles(waits), f"{rate:.0f}")


def percentiles(milliseconds: list[float]) -> str:
    low, middle, high = np.percentile(milliseconds, [5, 50, 95])
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"
