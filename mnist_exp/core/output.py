"""Standard output and error that no run is lost for: no reader, no room, closed, or only ASCII."""

import codecs
import os
import select
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

SIGNS = {
    "±": "+-", "…": "...", "→": "->", "✓": "v", "✗": "x", "\N{NO-BREAK SPACE}": " ",
    "\N{EN DASH}": "-", "─": "-", "━": "-", "╸": "-", "╺": "-", "│": "|",
}  # fmt: skip
PLAIN = "mnist_exp.plain"  # the way to encode what a terminal lacks


class LenientFile(FileIO):
    """A file that drops all from the first write on that fails: its reader left, or it is full."""

    def write(self, content: Any, /) -> int:
        """The number of bytes, which are written or dropped."""
        try:
            while (written := super().write(content)) is None:  # a pipe that does not block, full
                select.select([], [self], [])
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return memoryview(content).nbytes
        return written


def plain(text: str) -> str:
    """The text in ASCII: signs that tables use as words, others as '?'."""
    return "".join(c if c.isascii() else SIGNS.get(c, "?") for c in text)


def make_output_lenient() -> None:
    """Replace the process's own standard output and error by lenient ones.

    What another program put in their place, such as a notebook, is left alone.
    """
    codecs.register_error(PLAIN, _encode_plain)
    for number in (0, 1, 2):  # else the next file opened takes the place of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _lenient(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _lenient(sys.stderr, sys.__stderr__, 2)


def _lenient(stream: Any, own: Any, number: int) -> Any:
    if stream is not own or not (stream is None or isinstance(stream, TextIOWrapper)):
        return stream
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    file = BufferedWriter(LenientFile(number, "wb", closefd=False))
    encoding = stream.encoding if stream else "utf-8"
    return TextIOWrapper(file, encoding, PLAIN, line_buffering=True)


def _encode_plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Context manager: hold back stderr, native code's included; write it only after an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.stderr:  # a program without a console has none
        sys.stderr.flush()
    with tempfile.TemporaryFile() as captured:
        original = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except Exception:
            captured.seek(0)
            os.write(original, captured.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
