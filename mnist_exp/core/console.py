"""The console that log lines, tables and the progress bar share."""

import gc
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mnist_exp.core.environment import name_user, own_warnings_only, use_tensorflow
from mnist_exp.core.output import make_output_lenient, plain

FULL_ERROR = "HYDRA_FULL_ERROR"
REDACTED = "***@"  # in place of a user and password before the @ of a URI
GC_THRESHOLD = 10_000  # objects
LIBRARIES = ("fastapi", "keras", "matplotlib", "mlflow", "optuna", "PIL", "tensorflow")
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"

# Plain lines in a notebook: it claims to be a terminal, but cannot redraw a progress bar.
OPTIONS: dict[str, Any] = {"highlight": False, "soft_wrap": True}
if "ipykernel" in sys.modules:
    OPTIONS |= {"force_terminal": False, "force_jupyter": False}
console = Console(**OPTIONS)
errors = Console(**OPTIONS, stderr=True)


class TimeLeft(TimeRemainingColumn):
    """'0:42 left', once it can be estimated."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        known = task.time_remaining is not None
        return Text.assemble(super().render(task), " left") if known else Text()


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
    """Settle output, environment and log, and keep the garbage collector out of imports.

    Exits with code 2 when the current folder has been removed, or hides a library.
    """
    make_output_lenient()
    own_warnings_only()
    use_tensorflow()
    name_user()
    try:
        os.getcwd()
    except FileNotFoundError as error:
        exit_with(2, "the current folder has been removed; change to another one", error)
    for name in LIBRARIES:  # `python -m` looks for modules in the current folder first
        for file in (Path(sys.path[0], f"{name}.py"), Path(sys.path[0], name, "__init__.py")):
            if file.exists() and "site-packages" not in file.parts:
                shadowed = ImportError(name)
                exit_with(2, f"{file} hides the library {name} from Python; rename it", shadowed)
    # Python's default, a collection every 700 objects, traverses the modules being imported again
    # and again: a second of a short run.
    gc.set_threshold(GC_THRESHOLD)
    show_logs()


def show_logs() -> None:
    """Send the package's log to the console."""
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


@contextmanager
def only_warned_of(what: str) -> Iterator[None]:
    """Context manager: an error of drawing costs no run and is a warning; a full disk is raised."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # whatever a figure meets: the results are whole without it
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        logging.getLogger(__name__).warning(f"{what} ({reason})")


def print_warning(text: str, *, fold: bool = False) -> None:
    """Print it in yellow on stderr; above the progress bar, if that is the same terminal."""
    screen = console if console.is_terminal and errors.is_terminal else errors
    print_line(f"warning: {text}", screen, fold=fold, style="yellow")


def print_line(text: str, screen: Console, *, fold: bool, style: str | None = None) -> None:
    """Print it as it is, or folded between words where the screen is a terminal."""
    screen.print(text, markup=False, style=style, soft_wrap=not (fold and screen.is_terminal))


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


def short_time(time: datetime) -> str:
    """'11-27 18:05' of this year, '2025-11-27' of another, in this machine's time zone."""
    time = time.astimezone()
    is_recent = time.year == datetime.now().year
    return time.strftime("%m-%d %H:%M" if is_recent else "%Y-%m-%d")


# A number with its interval, its error or its unit, a date, or the lack of one.
NUMBER = re.compile(
    r"[-+<>]?\d[\d.,e%k]*( (±|\+-|%).*|-[\d.]+|\+\d+)?|(\d{4}-)?\d\d-\d\d( \d\d:\d\d)?|-|none|"
)
MAX_WHOLE = 24  # characters
GAP, EDGES = 3, 2  # characters between columns, and at both ends


@dataclass(frozen=True)
class TextTable:
    """A table of text. Columns of numbers are aligned on the right and never folded."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    optional: Sequence[str] = ()  # the headings that may be dropped, the last first
    whole: str = ""  # the heading whose cells stay on one line, if that costs optional columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table at the width of the terminal, and which columns it lacks."""
        columns = [*zip(self.headings, *self.rows, strict=True)]
        if options.ascii_only:
            columns = [tuple(map(plain, column)) for column in columns]
        optional, dropped = [*self.optional], []
        while optional and _total(_min_widths(columns, self.whole)) > options.max_width:
            dropped.append(optional.pop())
            columns = [column for column in columns if column[0] != dropped[-1]]
        made = Table(
            title=self.title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        widths = _widths(columns, options.max_width, self.whole)
        for column, width in zip(columns, widths, strict=True):
            justify: Literal["left", "right"] = "right" if _are_numbers(column) else "left"
            made.add_column(column[0], width=width, justify=justify, overflow="fold")
        for row in zip(*(column[1:] for column in columns), strict=True):
            made.add_row(*map(Text, row))
        yield made
        if dropped:
            yield Text(f"not shown, for lack of room: {', '.join(reversed(dropped))}")


def _widths(columns: Sequence[Sequence[str]], available: int, whole: str) -> list[int]:
    """The width of each column: of all its text where there is room, at least its minimum."""
    widths, wanted = _min_widths(columns, whole), [*map(_longest_line, columns)]
    if _total(widths) > available:
        widths = _min_widths(columns)
    room = available - _total(widths)
    while room > 0 and widths != wanted:
        neediest = max(range(len(widths)), key=lambda number: wanted[number] - widths[number])
        widths[neediest] += 1
        room -= 1
    while room < 0 and max(widths) > 1:  # even a word does not fit: the longest is cut
        widths[widths.index(max(widths))] -= 1
        room += 1
    return widths


def _min_widths(columns: Sequence[Sequence[str]], whole: str = "") -> list[int]:
    """The longest word of each column, which is not to be cut; all of a column of numbers.

    Of the column `whole` all, up to a length at which names fold.
    """
    return [
        _longest_line(column)
        if _are_numbers(column)
        else max(*map(_longest_word, column), _whole(column) if column[0] == whole else 0)
        for column in columns
    ]


def _whole(column: Sequence[str]) -> int:
    return min(_longest_line(column), MAX_WHOLE)


def _are_numbers(column: Sequence[str]) -> bool:
    _, *cells = column
    return all(NUMBER.fullmatch(cell) for cell in cells)


def _longest_word(cell: str) -> int:
    return max(map(len, cell.split()), default=1)


def _longest_line(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n"))


def _total(widths: Sequence[int]) -> int:
    """The width of the table."""
    return sum(widths) + GAP * (len(widths) - 1) + EDGES
