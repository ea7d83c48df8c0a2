"""A small MNIST that passes for the official one, and a web server with faults to choose."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mnist_exp.data import mnist
from mnist_exp.data.mnist import Arrays

SHAPES = {"x_train": (20, 28, 28), "y_train": (20,), "x_test": (10, 28, 28), "y_test": (10,)}


def use_small_mnist(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """The small arrays; until the test ends, their shapes and digests are the official ones."""
    random = np.random.default_rng(0)
    arrays = {k: random.integers(0, 10, shape, dtype=np.uint8) for k, shape in SHAPES.items()}
    table = [o._replace(shape=SHAPES[o.key], md5=mnist.idx_md5(arrays[o.key])) for o in mnist.MNIST]
    monkeypatch.setattr(mnist, "MNIST", tuple(table))  # patched: the true arrays are 55 MB
    return arrays


def npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def same(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@contextmanager
def unreadable(path: Path) -> Iterator[Path]:
    """Context manager: nobody may read `path`. Skips the test for root, who may all the same."""
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        yield path
    finally:
        path.chmod(0o700)


class Server(ThreadingHTTPServer):
    """On loopback; answers every path with `body`."""

    status = 200
    raw = b""  # sent instead of any HTTP
    cut: int | None = None  # closes the connection after so many bytes
    sends_length = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.requests = 0
        self.release = threading.Event()  # answers wait for it
        self.release.set()
        self.is_cut_off = threading.Event()  # the client closed before the end

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mnist.npz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests += 1
        server.release.wait(10)
        if server.raw:
            self.wfile.write(server.raw)
            return
        self.send_response(server.status)
        if server.sends_length:
            self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        try:
            self.wfile.write(server.body[: server.cut])
        except OSError:
            server.is_cut_off.set()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(body: bytes) -> Iterator[Server]:
    with Server(body) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.release.set()
        server.shutdown()
