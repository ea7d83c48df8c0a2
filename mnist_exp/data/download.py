"""The download of MNIST: verified, whole or not at all, quick to give up."""

import http.client
import logging
import threading
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from mnist_exp.core.errors import InputError
from mnist_exp.core.files import exclusive, write_atomic
from mnist_exp.data import mnist

logger = logging.getLogger(__name__)

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
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
        file.write(_download(url, answer_seconds))
        file.flush()
        arrays.update(mnist.read_npz(Path(file.name), DISCARDED, source=url))

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_name(f"{path.name}.lock")):
            if path.exists():
                return mnist.read([path], f"delete {path} to download it again")
            write_atomic(path, write_verified)
    except (OSError, http.client.HTTPException, ValueError) as error:  # the latter of an address
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise UnreachableError(str(reason)) from error
    return arrays


def _download(url: str, answer_seconds: float) -> bytes:
    with _open(url, answer_seconds) as response:
        length = response.headers.get("Content-Length")
        logger.info("downloading %s (%s bytes)", url, length or "unknown")
        content = response.read(mnist.LARGEST + 1)
    if len(content) > mnist.LARGEST:
        raise InputError(f"{response.url}: over {mnist.LARGEST:,} bytes came; {DISCARDED}")
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
