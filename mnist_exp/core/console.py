"""The console that log lines, tables and the progress bar share."""

import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, NoReturn

from rich.console import Console

FULL_ERROR = "HYDRA_FULL_ERROR"
REDACTED = "***@"  # in place of a user and password before the @ of a URI
GC_THRESHOLD = 10_000  # objects
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"

# Plain lines in a notebook: it claims to be a terminal, but cannot redraw a progress bar.
OPTIONS: dict[str, Any] = {"highlight": False, "soft_wrap": True}
if "ipykernel" in sys.modules:
    OPTIONS |= {"force_terminal": False, "force_jupyter": False}
console = Console(**OPTIONS)
errors = Console(**OPTIONS, stderr=True)


class ConsoleHandler(logging.Handler):
    """Log records as plain lines on stdout, warnings in yellow on stderr."""

    prefix = ""  # of warnings

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        if record.levelno >= logging.WARNING:
            print_warning(self.prefix + record.getMessage())
        else:
            console.print(record.getMessage(), markup=False)


log_handler = ConsoleHandler()


def prepare_process() -> None:
    """Send the package's log to the console and keep the garbage collector out of imports.

    Exits with code 2 when the current folder has been removed.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        exit_with(2, "the current folder has been removed; change to another one", error)
    # Python's default, a collection every 700 objects, traverses the modules being imported again
    # and again: a second of a short run.
    gc.set_threshold(GC_THRESHOLD)
    show_logs()


def show_logs() -> None:
    """Send the package's log to the console."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe or a log file is read live, too
    logger = logging.getLogger("mnist_exp")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(log_handler)


@contextmanager
def only_warnings(prefix: str) -> Iterator[None]:
    """Context manager: of the package's log only warnings are printed, after the prefix."""
    log_handler.setLevel(logging.WARNING)
    log_handler.prefix = prefix
    try:
        yield
    finally:
        log_handler.setLevel(logging.NOTSET)
        log_handler.prefix = ""


def print_warning(text: str, *, fold: bool = False) -> None:
    """Print it in yellow on stderr; above the progress bar, if that is the same terminal."""
    screen = console if console.is_terminal and errors.is_terminal else errors
    print_line(f"warning: {text}", screen, fold=fold, style="yellow")


def print_line(text: str, screen: Console, *, fold: bool, style: str | None = None) -> None:
    """Print it as it is, or folded between words where the screen is a terminal."""
    screen.print(text, markup=False, style=style, soft_wrap=not (fold and screen.is_terminal))


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Context manager: hold back stderr, native code's included; write it only after an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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


def exit_with(code: int, sentence: str, error: BaseException) -> NoReturn:
    """Print the sentence and exit; raise the error if the user set HYDRA_FULL_ERROR=1."""
    if WANTS_TRACEBACK:
        raise error
    errors.print(sentence, style="red", markup=False)
    if isinstance(error, KeyboardInterrupt):
        # At once: an orderly shutdown of TensorFlow takes a second, and everything is on disk.
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def redact(text: str) -> str:
    """The text without the users and passwords of its URIs."""
    return re.sub(r"(?<=://)[^/\s]*@", REDACTED, text)
