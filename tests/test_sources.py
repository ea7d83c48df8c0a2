"""Files, folders and downloads: what is right comes back whole, what is not is refused by name."""

import gzip
import hashlib
import io
import re
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mnist_exp import sources
from mnist_exp.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")  # an unclosed socket or file is a fault
ADVICE = "try another"
SHAPES = {"x_train": (20, 28, 28), "y_train": (20,), "x_test": (10, 28, 28), "y_test": (10,)}


@pytest.fixture(autouse=True)
def digits(monkeypatch: pytest.MonkeyPatch) -> sources.Arrays:
    """A small MNIST with its own table of digests, in place of the real one."""
    random = np.random.default_rng(0)
    arrays = {k: random.integers(0, 10, shape, dtype=np.uint8) for k, shape in SHAPES.items()}
    table = [
        o._replace(shape=SHAPES[o.key], md5=sources.idx_md5(arrays[o.key])) for o in sources.MNIST
    ]
    monkeypatch.setattr(sources, "MNIST", tuple(table))
    return arrays


def md5(key: str) -> str:
    return next(official.md5 for official in sources.MNIST if official.key == key)


def same(a: sources.Arrays, b: sources.Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def npz(path: Path, arrays: sources.Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def idx(array: sources.Array) -> bytes:
    """The idx format from its description: 0, 0, the type 8, the axes, their lengths, the bytes."""
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def folder(path: Path, arrays: sources.Arrays, name: Callable[[str], str] = str) -> Path:
    path.mkdir()
    for official in sources.MNIST:
        file = path / name(official.file)
        content = idx(arrays[official.key])
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        sources.read(path, ADVICE)
    message = str(error.value)
    assert message.startswith(str(path))
    assert message.endswith(ADVICE)
    assert "\n" not in message
    return message


def test_an_npz_comes_back_as_it_was_saved(tmp_path: Path, digits: sources.Arrays) -> None:
    arrays = sources.read(npz(tmp_path / "m.npz", digits), ADVICE)
    assert same(arrays, digits)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(
    "name",
    [
        str,
        "{}.gz".format,
        lambda n: n.replace("-idx", ".idx"),
        lambda n: n.replace("-idx", ".idx") + ".gz",
    ],
    ids=["plain", "gz", "dot", "dot-gz"],
)
def test_a_folder_of_idx_files_comes_back_under_every_usual_name(
    tmp_path: Path, digits: sources.Arrays, name: Callable[[str], str]
) -> None:
    assert same(sources.read(folder(tmp_path / "idx", digits, name), ADVICE), digits)


def test_the_digest_is_that_of_the_uncompressed_idx_file(digits: sources.Arrays) -> None:
    assert sources.idx_md5(digits["x_test"]) == hashlib.md5(idx(digits["x_test"])).hexdigest()
    fortran = np.asfortranarray(digits["x_test"])
    assert sources.idx_md5(fortran) == sources.idx_md5(digits["x_test"])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "absent.npz")


def test_one_changed_label_is_refused_with_both_digests(
    tmp_path: Path, digits: sources.Arrays
) -> None:
    changed = digits | {"y_train": digits["y_train"] ^ np.eye(1, 20, 7, dtype=np.uint8)[0]}
    seen = sources.idx_md5(changed["y_train"])
    expected = f"train-labels-idx1-ubyte (y_train) has md5 {seen}, expected {md5('y_train')}"
    assert expected in refusal(npz(tmp_path / "m.npz", changed))
    assert seen in refusal(folder(tmp_path / "idx", changed))


def test_swapped_splits_are_named(tmp_path: Path, digits: sources.Arrays) -> None:
    swapped = digits | {"x_train": digits["x_test"], "x_test": digits["x_train"]}
    expected = (
        f"train-images-idx3-ubyte (x_train) has md5 {md5('x_test')}, expected {md5('x_train')} "
        "(that is t10k-images-idx3-ubyte: the files are swapped)"
    )
    assert expected in refusal(npz(tmp_path / "m.npz", swapped))
    assert expected in refusal_in(folder(tmp_path / "idx", swapped), "train-images-idx3-ubyte")


def test_images_in_the_place_of_labels_are_named(tmp_path: Path, digits: sources.Arrays) -> None:
    swapped = digits | {"y_test": digits["x_train"]}
    expected = "(that is train-images-idx3-ubyte: the files are swapped)"
    assert expected in refusal(npz(tmp_path / "m.npz", swapped))
    assert expected in refusal_in(folder(tmp_path / "idx", swapped), "t10k-labels-idx1-ubyte")


def refusal_in(directory: Path, file: str) -> str:
    message = refusal(directory)
    assert message.startswith(f"{directory / file}: {file}")
    return message


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.99])
def test_a_truncated_npz_is_refused_with_its_digest(
    tmp_path: Path, digits: sources.Arrays, fraction: float
) -> None:
    path = npz(tmp_path / "m.npz", digits)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    message = refusal(path)
    assert re.search("got a file of sha256 [0-9a-f]{64} ", message)
    assert sources.SHA256 in message


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("y_test", np.array([{}] * 10), "y_test is object"),
        ("x_test", np.zeros((10, 28, 28), np.float32), "x_test is float32"),
        ("x_train", np.zeros((20, 784), np.uint8), "(20, 784) instead of (20, 28, 28)"),
    ],
)
def test_an_array_of_another_kind_is_refused(
    tmp_path: Path, digits: sources.Arrays, key: str, value: np.ndarray, reason: str
) -> None:
    assert reason in refusal(npz(tmp_path / "m.npz", digits | {key: value}))


def test_other_names_in_the_npz_are_listed(tmp_path: Path, digits: sources.Arrays) -> None:
    renamed = {key.replace("x", "images"): array for key, array in digits.items()}
    assert "expected x_train in it, there is ['images_train'" in refusal(
        npz(tmp_path / "m.npz", renamed)
    )


def test_a_header_that_promises_a_petabyte_takes_no_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (10**15,), "fortran_order": False, "descr": "|u1"}
    )
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    assert "x_train is uint8 (1000000000000000,)" in refusal(tmp_path / "m.npz")


def test_numpy_s_advice_to_trust_the_file_is_not_passed_on(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + b"\xff\xff" + bytes(2**16))
    assert "allow_pickle" not in refusal(tmp_path / "m.npz")


def test_an_idx_file_given_instead_of_its_folder_is_refused(
    tmp_path: Path, digits: sources.Arrays
) -> None:
    path = folder(tmp_path / "idx", digits) / "train-images-idx3-ubyte"
    assert "or a folder with the four idx files" in refusal(path)


def test_a_missing_idx_file_is_named(tmp_path: Path, digits: sources.Arrays) -> None:
    path = folder(tmp_path / "idx", digits)
    (path / "t10k-labels-idx1-ubyte").unlink()
    assert "expected t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz" in refusal(path)


@pytest.mark.parametrize("name", [str, "{}.gz".format], ids=["plain", "gz"])
def test_a_truncated_idx_file_is_refused(
    tmp_path: Path, digits: sources.Arrays, name: Callable[[str], str]
) -> None:
    path = folder(tmp_path / "idx", digits, name)
    file = path / name("t10k-images-idx3-ubyte")
    file.write_bytes(file.read_bytes()[:-9])
    message = refusal(path)
    assert message.startswith(f"{file}: t10k-images-idx3-ubyte (x_test) has md5 ")
    assert "7,847 bytes instead of 7,856" in message or "ended before" in message


def test_a_lying_idx_header_is_refused(tmp_path: Path, digits: sources.Arrays) -> None:
    path = folder(tmp_path / "idx", digits)
    file = path / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes().replace((10).to_bytes(4, "big"), b"\xff\xff\xff\xff", 1))
    assert "t10k-labels-idx1-ubyte (y_test) has md5" in refusal(path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, digits: sources.Arrays) -> None:
    path = folder(tmp_path / "idx", digits, "{}.gz".format)
    (path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(50_000_000), 1))
    largest = len(idx(digits["x_train"]))
    assert f"({largest + 1:,} bytes instead of 18)" in refusal(path)


class Server(ThreadingHTTPServer):
    """A web server on loopback whose faults a test chooses."""

    body = b""
    status = 200
    cut: int | None = None  # closes the connection after so many bytes
    knows_ranges = True
    tells_length = True
    release = threading.Event()  # answers wait for it

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
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
        start = int(wanted[6:-1]) if wanted and server.knows_ranges else 0
        beyond = start >= len(server.body) > 0
        self.send_response(416 if beyond else 206 if start else server.status)
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


@pytest.fixture
def server(
    tmp_path: Path, digits: sources.Arrays, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        server.body = npz(tmp_path / "served.npz", digits).read_bytes()
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.release.set()
        server.shutdown()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "datasets" / "mnist.npz"


def files(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_download_is_kept_whole_and_alone(
    server: Server, target: Path, digits: sources.Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert same(sources.download(server.url, target), digits)
    assert target.read_bytes() == server.body
    assert files(target) == ["mnist.npz"]
    assert caplog.messages == [f"downloading {server.url} ({len(server.body)} bytes)"]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_cut_download_goes_on_at_the_next_run(
    server: Server, target: Path, digits: sources.Arrays, knows_ranges: bool
) -> None:
    server.knows_ranges = knows_ranges
    server.cut = 1000
    with pytest.raises(sources.UnreachableError, match="cut after 1,000 of"):
        sources.download(server.url, target)
    assert files(target) == ["mnist.npz.part"]
    server.cut = None
    assert same(sources.download(server.url, target), digits)
    assert target.read_bytes() == server.body
    assert server.ranges == [None, "bytes=1000-"]
    assert files(target) == ["mnist.npz"]


def test_a_download_stopped_before_its_renaming_needs_no_network(
    server: Server, target: Path, digits: sources.Arrays
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("mnist.npz.part").write_bytes(server.body)
    assert same(sources.download(server.url, target), digits)
    assert server.ranges == []
    assert files(target) == ["mnist.npz"]


def test_a_part_longer_than_the_file_is_downloaded_afresh(
    server: Server, target: Path, digits: sources.Arrays
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("mnist.npz.part").write_bytes(bytes(len(server.body) + 5))
    assert same(sources.download(server.url, target), digits)
    assert files(target) == ["mnist.npz"]


def test_a_wrong_body_is_refused_and_discarded(server: Server, target: Path) -> None:
    server.body = b"<html>Please sign in</html>"
    with pytest.raises(InputError, match="discarded; try again") as error:
        sources.download(server.url, target)
    assert str(error.value).startswith(server.url)
    assert files(target) == []


def test_other_digits_in_the_body_are_refused_by_name(
    server: Server, target: Path, tmp_path: Path, digits: sources.Arrays
) -> None:
    server.body = npz(
        tmp_path / "other.npz", digits | {"y_test": digits["y_test"] + 1}
    ).read_bytes()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte \(y_test\) has md5"):
        sources.download(server.url, target)
    assert files(target) == []


def test_an_endless_body_is_refused_and_discarded(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST", 100_000)
    server.body, server.tells_length = bytes(1_000_000), False
    with pytest.raises(InputError, match="over 100,000 bytes came"):
        sources.download(server.url, target)
    assert files(target) == []


def test_an_error_answer_counts_as_no_network(server: Server, target: Path) -> None:
    server.status = 503
    with pytest.raises(sources.UnreachableError, match="503"):
        sources.download(server.url, target)
    assert files(target) == []


def test_a_closed_port_counts_as_no_network(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mnist.npz"
        with pytest.raises(sources.UnreachableError, match=r"refused"):
            sources.download(url, target)


def test_a_silent_server_is_given_up_quickly(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.1)
    server.release.clear()
    began = time.monotonic()
    with pytest.raises(sources.UnreachableError, match=r"no answer within 0\.1 seconds"):
        sources.download(server.url, target)
    assert time.monotonic() - began < 5


def test_a_folder_that_cannot_be_written_counts_as_no_network(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(sources.UnreachableError, match="cache"):
        sources.download(server.url, tmp_path / "cache" / "mnist.npz")


def test_workers_that_start_together_download_once(
    server: Server, target: Path, digits: sources.Arrays
) -> None:
    results: list[sources.Arrays] = []

    def work() -> None:
        results.append(sources.download(server.url, target))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert [same(result, digits) for result in results] == [True] * 4
    assert server.ranges == [None]
    assert files(target) == ["mnist.npz"]
