"""A small MNIST with its own table of digests, and a web server whose faults a test chooses."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mnist_exp.data import mnist as sources
from mnist_exp.data.mnist import Arrays

SHAPES = {"x_train": (20, 28, 28), "y_train": (20,), "x_test": (10, 28, 28), "y_test": (10,)}


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """The small arrays, which pass for the official ones until the test ends."""
    random = np.random.default_rng(0)
    arrays = {k: random.integers(0, 10, shape, dtype=np.uint8) for k, shape in SHAPES.items()}
    table = [
        o._replace(shape=SHAPES[o.key], md5=sources.idx_md5(arrays[o.key])) for o in sources.MNIST
    ]
    monkeypatch.setattr(sources, "MNIST", tuple(table))
    return arrays


def npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def same(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Nobody may read `path`; skips the test for a user whom that does not stop, such as root."""
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        yield path
    finally:
        path.chmod(0o700)


class Server(ThreadingHTTPServer):
    """On loopback; answers every path with `body`."""

    status = 0  # instead of the right one
    raw = b""  # instead of any HTTP
    cut: int | None = None  # closes the connection after so many bytes
    knows_ranges = True
    tells_length = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.ranges: list[str | None] = []  # what every request asked for
        self.release = threading.Event()  # answers wait for it
        self.release.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mnist.npz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.ranges.append(wanted)
        server.release.wait(10)
        if server.raw:
            self.wfile.write(server.raw)
            return
        start = int(wanted[6:-1]) if wanted and server.knows_ranges else 0
        beyond = start >= len(server.body) > 0
        self.send_response(server.status or (416 if beyond else 206 if start else 200))
        if start:
            span = f"bytes {start}-{len(server.body) - 1}/{len(server.body)}"
            self.send_header("Content-Range", span)
        body = b"" if beyond else server.body[start:]
        if server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(body: bytes) -> Iterator[Server]:
    with Server(body) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.release.set()
        server.shutdown()
