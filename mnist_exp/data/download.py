"""The download of MNIST: never unverified, never half, and never by two processes at once."""

import http.client
import logging
import os
import threading
import urllib.error
import urllib.request
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from mnist_exp.core.errors import InputError
from mnist_exp.core.locks import exclusive
from mnist_exp.data import mnist as sources
from mnist_exp.data.mnist import Arrays

logger = logging.getLogger(__name__)

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
ANSWER_SECONDS = 4  # from the name lookup to the headers, so that an offline start is quick
READ_SECONDS = 30
DISCARDED = "the download was discarded; try again, or give the data with data.path=..."


class UnreachableError(Exception):
    """The download did not come to an end: no network, an error answer, or a cut connection."""


def fetch(url: str, target: Path) -> Arrays:
    """The verified arrays at `url`, kept as `target`; a cut download goes on at the next call."""
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target.with_name(f"{target.name}.lock")):
            if target.exists():  # another process was quicker
                return sources.read(target, f"delete {target} to download it again")
            try:
                if not _is_complete(part):
                    _complete(url, part)
                arrays = sources.read_npz(part, DISCARDED, shown=url)
            except InputError:
                part.unlink()
                raise
            os.replace(part, target)
            return arrays
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise UnreachableError(str(reason)) from error


def _is_complete(part: Path) -> bool:
    """Whether an earlier run got everything and was stopped just before the renaming."""
    with suppress(InputError):
        return bool(part.exists() and sources.read_npz(part, ""))
    return False


def _complete(url: str, part: Path) -> None:
    """Completes `part` from `url`, going on where an earlier run was cut off if the server can."""
    start = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # `part` is longer than what the server has
            raise
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
            if file.tell() > sources.LARGEST:
                raise InputError(
                    f"{response.url}: over {sources.LARGEST:,} bytes came; {DISCARDED}"
                )
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
