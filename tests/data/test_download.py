"""The download: verified, whole or not at all, once for all processes, quick to give up."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_mnist import Server, npz, same, serving, use_small_mnist

from mnist_exp.core.errors import InputError
from mnist_exp.data import mnist
from mnist_exp.data.download import UnreachableError, fetch
from mnist_exp.data.mnist import Arrays

pytestmark = pytest.mark.filterwarnings("error")  # an unclosed socket or file is a fault


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return use_small_mnist(monkeypatch)


@pytest.fixture
def server(tmp_path: Path, arrays: Arrays) -> Iterator[Server]:
    with serving(npz(tmp_path / "served.npz", arrays).read_bytes()) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "datasets" / "mnist.npz"


def files(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_download_leaves_the_whole_file_and_nothing_else(
    server: Server, target: Path, arrays: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert same(fetch(server.url, target), arrays)
    assert target.read_bytes() == server.body
    assert files(target) == ["mnist.npz"]
    assert caplog.messages == [f"downloading {server.url} ({len(server.body)} bytes)"]


def test_a_cut_download_starts_afresh(server: Server, target: Path, arrays: Arrays) -> None:
    server.cut = 1000
    with pytest.raises(UnreachableError, match=r"cut after 1,000 of .* bytes; run again"):
        fetch(server.url, target)
    assert files(target) == []
    server.cut = None
    assert same(fetch(server.url, target), arrays)
    assert files(target) == ["mnist.npz"]


def test_a_part_of_an_earlier_version_is_replaced(
    server: Server, target: Path, arrays: Arrays
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("mnist.npz.part").write_bytes(bytes(len(server.body) + 5))
    assert same(fetch(server.url, target), arrays)
    assert target.read_bytes() == server.body
    assert files(target) == ["mnist.npz"]


def test_a_wrong_body_is_refused_and_discarded(server: Server, target: Path) -> None:
    server.body = b"<html>Please sign in</html>"
    with pytest.raises(InputError, match="discarded; try again") as error:
        fetch(server.url, target)
    assert str(error.value).startswith(server.url)
    assert files(target) == []


def test_other_digits_in_the_body_are_refused_by_name(
    server: Server, target: Path, tmp_path: Path, arrays: Arrays
) -> None:
    other = arrays | {"y_test": arrays["y_test"] + 1}
    server.body = npz(tmp_path / "other.npz", other).read_bytes()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte \(y_test\) has md5"):
        fetch(server.url, target)
    assert files(target) == []


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_body_above_the_limit_is_refused_and_discarded(
    server: Server, target: Path, sends_length: bool
) -> None:
    server.body, server.sends_length = bytes(mnist.LARGEST + 50_000_000), sends_length
    with pytest.raises(InputError, match="over 67,108,864 bytes came"):
        fetch(server.url, target)
    assert server.is_cut_off.wait(10)
    assert files(target) == []


def test_a_body_of_exactly_the_limit_is_kept(server: Server, target: Path, arrays: Arrays) -> None:
    np.savez(target.parents[2] / "plain.npz", **arrays)
    archive = (target.parents[2] / "plain.npz").read_bytes()
    server.body = bytes(mnist.LARGEST - len(archive)) + archive  # a zip may have a prefix
    assert same(fetch(server.url, target), arrays)


def test_an_error_status_counts_as_no_network(server: Server, target: Path) -> None:
    server.status = 503
    with pytest.raises(UnreachableError, match="503"):
        fetch(server.url, target)
    assert files(target) == []


def test_an_answer_that_is_not_http_counts_as_no_network(server: Server, target: Path) -> None:
    server.raw = b"220 mail ready\r\n"
    with pytest.raises(UnreachableError, match="220 mail ready"):
        fetch(server.url, target)


def test_a_closed_port_counts_as_no_network(target: Path, arrays: Arrays) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mnist.npz"
        with pytest.raises(UnreachableError, match=r"^\[\w+ \d+\] .*refused"):
            fetch(url, target)


@pytest.mark.parametrize("stage", ["name look-up", "answer"])
def test_waiting_for_the_name_or_the_answer_is_given_up_quickly(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    server.release.clear()
    if stage == "name look-up":
        look_up = socket.getaddrinfo

        def slow_look_up(*arguments: Any, **options: Any) -> Any:
            server.release.wait(10)
            return look_up(*arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)  # patched: the network
    started = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no answer within 0\.1 seconds"):
        fetch(server.url, target, answer_seconds=0.1)
    assert time.monotonic() - started < 5
    server.release.set()
    for thread in threading.enumerate():
        if "open_url" in thread.name:
            thread.join(10)  # the late answer is closed: an open socket would be a warning


def test_a_folder_that_cannot_be_written_counts_as_no_network(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UnreachableError, match="cache"):
        fetch(server.url, tmp_path / "cache" / "mnist.npz")


def test_threads_that_start_together_download_once(
    server: Server, target: Path, arrays: Arrays
) -> None:
    results: list[Arrays] = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(server.url, target))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [same(result, arrays) for result in results] == [True] * 4
    assert server.requests == 1
    assert files(target) == ["mnist.npz"]


FETCH = """
import sys
from pathlib import Path
from mnist_exp.data import download, mnist
mnist.MNIST = eval(sys.argv[3], vars(mnist))
print("ready", flush=True)
download.fetch(sys.argv[1], Path(sys.argv[2]))
"""


def test_processes_that_start_together_end_with_one_whole_file(
    server: Server, target: Path
) -> None:
    server.release.clear()
    command = [sys.executable, "-c", FETCH, server.url, str(target), repr(mnist.MNIST)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    server.release.set()
    assert [process.communicate(timeout=60) for process in processes] == [("", None)] * 2
    assert [process.returncode for process in processes] == [0, 0]
    assert server.requests == 1
    assert target.read_bytes() == server.body
    assert files(target) == ["mnist.npz"]
