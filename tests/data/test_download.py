"""The download: whole or not at all, once for all workers, and given up when nothing answers."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from small_mnist import Server, npz, put_in_place, same, serving

from mnist_exp.core.errors import InputError
from mnist_exp.data import download
from mnist_exp.data import mnist as sources
from mnist_exp.data.mnist import Arrays

pytestmark = pytest.mark.filterwarnings("error")  # an unclosed socket or file is a fault


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    return put_in_place(monkeypatch)


@pytest.fixture
def server(tmp_path: Path, mnist: Arrays, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(npz(tmp_path / "served.npz", mnist).read_bytes()) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "datasets" / "mnist.npz"


def files(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_download_is_kept_whole_and_alone(
    server: Server, target: Path, mnist: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert same(download.fetch(server.url, target), mnist)
    assert target.read_bytes() == server.body
    assert files(target) == ["mnist.npz"]
    assert caplog.messages == [f"downloading {server.url} ({len(server.body)} bytes)"]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_cut_download_goes_on_at_the_next_run(
    server: Server, target: Path, mnist: Arrays, knows_ranges: bool
) -> None:
    server.knows_ranges = knows_ranges
    server.cut = 1000
    with pytest.raises(download.UnreachableError, match="cut after 1,000 of"):
        download.fetch(server.url, target)
    assert files(target) == ["mnist.npz.part"]
    server.cut = None
    assert same(download.fetch(server.url, target), mnist)
    assert target.read_bytes() == server.body
    assert server.ranges == [None, "bytes=1000-"]
    assert files(target) == ["mnist.npz"]


def test_a_download_stopped_before_its_renaming_needs_no_network(
    server: Server, target: Path, mnist: Arrays
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("mnist.npz.part").write_bytes(server.body)
    assert same(download.fetch(server.url, target), mnist)
    assert server.ranges == []
    assert files(target) == ["mnist.npz"]


def test_a_part_longer_than_the_file_is_downloaded_afresh(
    server: Server, target: Path, mnist: Arrays
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("mnist.npz.part").write_bytes(bytes(len(server.body) + 5))
    assert same(download.fetch(server.url, target), mnist)
    assert files(target) == ["mnist.npz"]


def test_a_wrong_body_is_refused_and_discarded(server: Server, target: Path) -> None:
    server.body = b"<html>Please sign in</html>"
    with pytest.raises(InputError, match="discarded; try again") as error:
        download.fetch(server.url, target)
    assert str(error.value).startswith(server.url)
    assert files(target) == []


def test_other_digits_in_the_body_are_refused_by_name(
    server: Server, target: Path, tmp_path: Path, mnist: Arrays
) -> None:
    server.body = npz(tmp_path / "other.npz", mnist | {"y_test": mnist["y_test"] + 1}).read_bytes()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte \(y_test\) has md5"):
        download.fetch(server.url, target)
    assert files(target) == []


def test_an_endless_body_is_refused_and_discarded(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST", 100_000)
    server.body, server.tells_length = bytes(1_000_000), False
    with pytest.raises(InputError, match="over 100,000 bytes came"):
        download.fetch(server.url, target)
    assert files(target) == []


def test_an_endless_body_is_noticed_over_several_runs(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST", 100_000)
    server.body, server.cut = bytes(150_000), 80_000
    with pytest.raises(download.UnreachableError, match="cut"):
        download.fetch(server.url, target)
    with pytest.raises(InputError, match="over 100,000 bytes came"):
        download.fetch(server.url, target)
    assert files(target) == []


def test_a_body_of_exactly_the_largest_size_is_kept(
    server: Server, target: Path, mnist: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(target.parents[2] / "plain.npz", **mnist)
    server.body = (target.parents[2] / "plain.npz").read_bytes()
    monkeypatch.setattr(sources, "LARGEST", len(server.body))
    assert same(download.fetch(server.url, target), mnist)


def test_an_error_answer_counts_as_no_network(server: Server, target: Path) -> None:
    server.status = 503
    with pytest.raises(download.UnreachableError, match="503"):
        download.fetch(server.url, target)
    assert files(target) == []


def test_an_error_answer_leaves_what_an_earlier_run_got(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("mnist.npz.part").write_bytes(server.body[:1000])
    server.status = 503
    with pytest.raises(download.UnreachableError, match="503"):
        download.fetch(server.url, target)
    assert target.with_name("mnist.npz.part").read_bytes() == server.body[:1000]
    assert server.ranges == ["bytes=1000-"]


def test_an_answer_that_is_not_http_counts_as_no_network(server: Server, target: Path) -> None:
    server.raw = b"220 mail ready\r\n"
    with pytest.raises(download.UnreachableError, match="220 mail ready"):
        download.fetch(server.url, target)


def test_a_closed_port_counts_as_no_network(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mnist.npz"
        with pytest.raises(download.UnreachableError, match=r"^\[\w+ \d+\] .*refused"):
            download.fetch(url, target)


def test_a_silent_server_is_given_up_quickly(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.1)
    server.release.clear()
    began = time.monotonic()
    with pytest.raises(download.UnreachableError, match=r"no answer within 0\.1 seconds"):
        download.fetch(server.url, target)
    assert time.monotonic() - began < 5


def test_a_folder_that_cannot_be_written_counts_as_no_network(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(download.UnreachableError, match="cache"):
        download.fetch(server.url, tmp_path / "cache" / "mnist.npz")


def test_workers_that_start_together_download_once(
    server: Server, target: Path, mnist: Arrays
) -> None:
    results: list[Arrays] = []

    def work() -> None:
        results.append(download.fetch(server.url, target))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert [same(result, mnist) for result in results] == [True] * 4
    assert server.ranges == [None]
    assert files(target) == ["mnist.npz"]


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_lock_file_that_went_while_waiting_for_it_is_no_lock(
    server: Server, target: Path, mnist: Arrays, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock, flock = target.with_name("mnist.npz.lock"), fcntl.flock
    taken = []

    def wait(file: IO[str], operation: int) -> None:
        if not taken:  # its holder is done, and the next one may be at work already
            lock.unlink()
            if replaced:
                lock.touch()
        flock(file, operation)
        taken.append(file)

    monkeypatch.setattr(fcntl, "flock", wait)
    assert same(download.fetch(server.url, target), mnist)
    assert len(taken) == 2
    assert files(target) == ["mnist.npz"]


def test_a_file_system_without_locks_will_do(
    server: Server, target: Path, mnist: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    def finish_elsewhere(_: int) -> None:
        target.with_name("mnist.npz.lock").unlink()

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("os.fsync", finish_elsewhere)  # a moment within the download
    assert same(download.fetch(server.url, target), mnist)
    assert files(target) == ["mnist.npz"]
