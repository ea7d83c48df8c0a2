"""What the user sees: one console that log lines, tables and the progress bar share."""

import logging
import sys
from io import TextIOWrapper

from rich.console import Console

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
