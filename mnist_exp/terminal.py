"""What the user sees: one console that log lines, tables and the progress bar share."""

import logging
import os
import sys
from io import TextIOWrapper
from typing import NoReturn

from rich.console import Console

FULL_ERROR = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"

console = Console(highlight=False, soft_wrap=True)
errors = Console(highlight=False, soft_wrap=True, stderr=True)


class ConsoleHandler(logging.Handler):
    """Log records as plain lines; warnings stand out and go to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record's message."""
        if record.levelno >= logging.WARNING:
            errors.print(f"warning: {record.getMessage()}", style="yellow", markup=False)
        else:
            console.print(record.getMessage(), markup=False)


def show_logs() -> None:
    """Sends the package's log to the console."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe or a log file is read live, too
    logger = logging.getLogger("mnist_exp")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())


def leave(code: int, sentence: str, error: BaseException) -> NoReturn:
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
