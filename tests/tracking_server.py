"""A real tracking server on loopback that a test can kill and start again."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest


class TrackingServer:
    """With a database and an artifact store of its own."""

    def __init__(self, place: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.place = place
        self.place.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
                "--port", str(self.port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{self.place}/server.db",
                "--artifacts-destination", str(self.place / "artifacts"),
            ],
            cwd=self.place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        for _ in range(1200):  # beside other work it has taken more than a minute
            with suppress(OSError), urlopen(f"{self.uri}/health", timeout=1):
                return
            assert self.process.poll() is None, "the server ended"
            threading.Event().wait(0.25)
        pytest.fail("the server never answered")

    def kill(self) -> None:
        """It is gone at once, workers and all."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
