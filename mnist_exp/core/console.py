"""What the user sees: one console that log lines, tables and the progress bar share."""

import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

FULL_ERROR = "HYDRA_FULL_ERROR"
REDACTED = "***@"  # a user and password before the @ of a URI
COLLECT_AFTER = 10_000  # objects
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"

# A notebook gets plain lines: it claims to be a terminal, but cannot draw a progress bar in place.
LOOK: dict[str, Any] = {"highlight": False, "soft_wrap": True}
if "ipykernel" in sys.modules:
    LOOK |= {"force_terminal": False, "force_jupyter": False}
console = Console(**LOOK)
errors = Console(**LOOK, stderr=True)


class ConsoleHandler(logging.Handler):
    """Log records as plain lines; warnings stand out and go to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record's message."""
        if record.levelno >= logging.WARNING:
            errors.print(f"warning: {record.getMessage()}", style="yellow", markup=False)
        else:
            console.print(record.getMessage(), markup=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    """A plain table, the first column of words, the others of figures."""
    drawn = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def prepare_process() -> None:
    """A process of ours: the package's log goes to the console, imports are not held up.

    It ends where the current folder is gone.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        exit_with(2, "the current folder has been removed; change to another one", error)
    # Python's default is to look for cyclic garbage at every 700th object: over and over through
    # the modules that are being imported, a second of a short run.
    gc.set_threshold(COLLECT_AFTER)
    show_logs()


def show_logs() -> None:
    """Sends the package's log to the console."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe or a log file is read live, too
    logger = logging.getLogger("mnist_exp")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Within: what native code writes to stderr is held back, and shown only after an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


def exit_with(code: int, sentence: str, error: BaseException) -> NoReturn:
    """Ends the program with the sentence; a user who set HYDRA_FULL_ERROR=1 gets the error."""
    if WANTS_TRACEBACK:
        raise error
    errors.print(sentence, style="red", markup=False)
    if isinstance(error, KeyboardInterrupt):
        # At once: taking TensorFlow down in order takes a second, and everything is on disk.
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def redact(text: str) -> str:
    """The text, with what stands before the @ of a URI blotted out."""
    return re.sub(r"(?<=://)[^/\s]*@", REDACTED, text)
