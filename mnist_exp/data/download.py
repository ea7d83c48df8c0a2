"""The download of MNIST: verified, whole or not at all, quick to give up."""

import hashlib
import http.client
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from mnist_exp.core.errors import InputError
from mnist_exp.core.files import exclusive, write_atomic
from mnist_exp.data import mnist

logger = logging.getLogger(__name__)

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
LARGEST = 640 * 2**20  # bytes of a file; the archive of EMNIST has 562 MB
ANSWER_SECONDS = 4  # from the name look-up to the headers, so that an offline start is quick
READ_SECONDS = 30
DISCARDED = "the download was discarded; try again, or give the data with data.path=..."


class UnreachableError(Exception):
    """The download failed: no network, an error status, or a cut connection."""


def fetch(url: str, path: Path, *, answer_seconds: float = ANSWER_SECONDS) -> mnist.Arrays:
    """The verified arrays at `url`, downloaded to `path` unless another process has done so.

    Raises `UnreachableError`, also when no answer begins within `answer_seconds`, and `InputError`
    for other content than MNIST; then `path` is not created.
    pooch would not be shorter: its limits and sentences would be written here, too.
    """
    arrays: mnist.Arrays = {}

    def write_verified(file: IO[bytes]) -> None:
        file.write(_download(url, answer_seconds, mnist.LARGEST))
        file.flush()
        arrays.update(mnist.read_npz(Path(file.name), DISCARDED, source=url))

    _write_once(path, write_verified)
    return arrays or mnist.read([path], f"delete {path} to download it again")


def fetch_file(url: str, path: Path, md5: str) -> None:
    """Download the file to `path` unless another process has done so; raises as `fetch`."""

    def write_verified(file: IO[bytes]) -> None:
        content = _download(url, ANSWER_SECONDS, LARGEST)
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise InputError(f"{url}: md5 {found} came, expected {md5}; {DISCARDED}")
        file.write(content)

    _write_once(path, write_verified)


def _write_once(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                write_atomic(path, write)
    except (OSError, http.client.HTTPException, ValueError) as error:  # the latter of an address
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise UnreachableError(str(reason)) from error


def _download(url: str, answer_seconds: float, largest: int) -> bytes:
    with _open(url, answer_seconds) as response:
        length = response.headers.get("Content-Length")
        logger.info("downloading %s (%s bytes)", url, length or "unknown")
        content = response.read(largest + 1)
    if len(content) > largest:
        raise InputError(f"{response.url}: over {largest:,} bytes came; {DISCARDED}")
    if length and len(content) < int(length):
        raise UnreachableError(
            f"the connection was cut after {len(content):,} of {int(length):,} bytes; run again"
        )
    return content


def _open(url: str, seconds: float) -> http.client.HTTPResponse:
    """The response, opened in a thread: name look-ups and address lists know no timeout."""
    opened: Future[http.client.HTTPResponse] = Future()

    def open_url() -> None:
        try:
            opened.set_result(urllib.request.urlopen(url, timeout=READ_SECONDS))
        except Exception as error:  # raised again in the caller's thread
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            opened.set_exception(error)

    threading.Thread(target=open_url, daemon=True).start()
    try:
        return opened.result(seconds)
    except TimeoutError:
        opened.add_done_callback(_close)
        raise TimeoutError(f"no answer within {seconds} seconds") from None


def _close(late: Future[http.client.HTTPResponse]) -> None:
    if not late.exception():
        late.result().close()
