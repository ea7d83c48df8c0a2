"""The official arrays, from a file or the network, and never handed out unverified."""

import gzip
import hashlib
import http.client
import logging
import math
import os
import struct
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_exp.errors import InputError

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.uint8]
Arrays = dict[str, Array]  # by the keys of Keras' mnist.npz


class Official(NamedTuple):
    """One of the four arrays: its md5 is that of the uncompressed idx file, header and data."""

    key: str
    file: str
    shape: tuple[int, ...]
    md5: str


MNIST = (
    Official(
        "x_train", "train-images-idx3-ubyte", (60000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"
    ),
    Official("y_train", "train-labels-idx1-ubyte", (60000,), "a25bea736e30d166cdddb491f175f624"),
    Official(
        "x_test", "t10k-images-idx3-ubyte", (10000, 28, 28), "2646ac647ad5339dbf082846283269ea"
    ),
    Official("y_test", "t10k-labels-idx1-ubyte", (10000,), "27ae3e4e09519cfbb04c329615203637"),
)
URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # of the file there
ANSWER_SECONDS = 4  # from the name lookup to the headers, so that an offline start is quick
READ_SECONDS = 30
LARGEST = 64 * 2**20  # the four arrays, uncompressed, are 55 MB: nothing bigger is read or kept
DISCARDED = "the download was discarded; try again, or give the data with data.path=..."


class UnreachableError(Exception):
    """The download did not come to an end: no network, an error answer, or a cut connection."""


def read(path: Path, advice: str) -> Arrays:
    """The verified arrays of an .npz or of a folder of idx files; `advice` ends a refusal."""
    if os.path.isdir(path):
        return _read_folder(path, advice)
    if os.path.isfile(path):
        return _read_npz(path, advice)
    raise InputError(f"{path}: no such file or folder; {advice}")


def download(url: str, target: Path) -> Arrays:
    """The verified arrays at `url`, kept as `target`; a cut download goes on at the next call."""
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f"{target.name}.lock")):
            if target.exists():  # another process was quicker
                return read(target, f"delete {target} to download it again")
            try:
                if not _is_complete(part):
                    _fetch(url, part)
                arrays = _read_npz(part, DISCARDED, shown=url)
            except InputError:
                part.unlink()
                raise
            os.replace(part, target)
            return arrays
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise UnreachableError(str(reason)) from error


def verify(where: Path | str, official: Official, seen: str, advice: str, damage: str) -> None:
    """Refuses the array called `official` when the md5 `seen` is not its own."""
    if seen == official.md5:
        return
    swapped = [other.file for other in MNIST if other.md5 == seen]
    if swapped:
        damage = f"that is {swapped[0]}: the files are swapped"
    raise InputError(
        f"{where}: {official.file} ({official.key}) has md5 {seen}, expected {official.md5} "
        f"({damage or 'damaged, or not MNIST'}); {advice}"
    )


def idx_md5(array: Array) -> str:
    """The md5 that the array would have as an idx file."""
    return _hash(_header(array.shape), np.ascontiguousarray(array))


def first_line(error: BaseException) -> str:
    """What went wrong, without the advice that NumPy adds on further lines."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_complete(part: Path) -> bool:
    """Whether an earlier run got everything and was stopped just before the renaming."""
    with suppress(InputError):
        return bool(part.exists() and _read_npz(part, ""))
    return False


def _fetch(url: str, part: Path) -> None:
    """Completes `part` from `url`, going on where an earlier run was cut off if the server can."""
    start = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not start:  # 416: `part` is longer than what the server has
            raise
        part.unlink()
        response = _open(url, start=0)
    with response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        length = response.headers.get("Content-Length")
        logger.info("downloading %s (%s bytes)", url, length or "unknown")
        got = _write(response, part, "ab" if goes_on else "wb")
    if length and got < int(length):
        raise UnreachableError(
            f"the connection was cut after {got:,} of {int(length):,} bytes; run again to go on"
        )


def _write(response: http.client.HTTPResponse, part: Path, mode: str) -> int:
    """How many bytes came; the file ends up on the disk, whatever happens afterwards."""
    got = 0
    with part.open(mode) as file:
        while chunk := response.read(2**16):
            got += file.write(chunk)
            if file.tell() > LARGEST:
                raise InputError(f"{response.url}: over {LARGEST:,} bytes came; {DISCARDED}")
        file.flush()
        os.fsync(file.fileno())
    return got


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """The answer, headers read; in a thread, as name lookups and address lists know no timeout."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    answer: Future[http.client.HTTPResponse] = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(request, timeout=READ_SECONDS))
        except Exception as error:  # raised again in the caller's thread
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError:
        answer.add_done_callback(_close)
        raise TimeoutError(f"no answer within {ANSWER_SECONDS} seconds") from None


def _close(late: Future[http.client.HTTPResponse]) -> None:
    if not late.exception():
        late.result().close()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Lets one process in at a time; the lock goes with a killed process, and leaves no file."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    while True:
        with lock.open("a") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                    continue
            except FileNotFoundError:  # its last holder removed it while we waited
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _read_folder(folder: Path, advice: str) -> Arrays:
    """The four idx files, plain or gzipped; with the right md5 the header is right as well."""
    arrays = {}
    for official in MNIST:
        path = _idx_file(folder, official, advice)
        content, damage = _content(path)
        if not damage and len(content) != _idx_size(official):
            damage = f"{len(content):,} bytes instead of {_idx_size(official):,}"
        verify(path, official, _hash(content), advice, damage)
        data = np.frombuffer(content, np.uint8, offset=len(_header(official.shape)))
        arrays[official.key] = data.reshape(official.shape)
    return arrays


def _idx_file(folder: Path, official: Official, advice: str) -> Path:
    for name in (official.file, official.file.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise InputError(f"{folder}: expected {official.file} or {official.file}.gz in it; {advice}")


def _content(path: Path) -> tuple[bytearray, str]:
    """The uncompressed bytes, as far as they can be read, and what stopped the reading."""
    most = max(map(_idx_size, MNIST)) + 1  # more is neither needed nor safe to unpack
    content = bytearray()
    try:
        with path.open("rb") as start:
            is_gzip = start.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            while len(content) < most and (chunk := file.read(min(2**20, most - len(content)))):
                content += chunk
    except Exception as error:  # damaged bytes raise several kinds
        return content, first_line(error)
    return content, ""


def _idx_size(official: Official) -> int:
    return len(_header(official.shape)) + math.prod(official.shape)


def _read_npz(path: Path, advice: str, shown: str = "") -> Arrays:
    arrays = {}
    where = shown or str(path)
    for official in MNIST:
        try:
            array = _member(path, official)
        except Exception as error:  # damaged bytes raise a dozen kinds
            raise InputError(_unreadable(path, where, first_line(error), advice)) from error
        shape = f"{array.shape} instead of {official.shape}"
        damage = shape if array.shape != official.shape else ""
        verify(where, official, idx_md5(array), advice, damage)
        arrays[official.key] = array
    return arrays


def _member(path: Path, official: Official) -> Array:
    """One array; its header is looked at before any memory is set aside for it."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if official.key not in names:
            raise ValueError(f"expected {official.key} in it, there is {names[:8]}")
        with archive.open(f"{official.key}.npy") as file:
            np.lib.format.read_magic(file)  # 1.0 is all that NumPy writes for such arrays
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.uint8 or math.prod(shape) > LARGEST:
            raise ValueError(f"{official.key} is {dtype} {shape}, not uint8 {official.shape}")
        with archive.open(f"{official.key}.npy") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _unreadable(path: Path, where: str, damage: str, advice: str) -> str:
    seen = f"{path.stat().st_size:,} bytes"
    if path.stat().st_size <= LARGEST and os.access(path, os.R_OK):
        seen = f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return (
        f"{where}: expected an .npz as Keras ships it (sha256 {SHA256}) or a folder with the four "
        f"idx files, got a file of {seen} ({damage}); {advice}"
    )


def _hash(*pieces: Any) -> str:
    total = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)  # 8: unsigned bytes
