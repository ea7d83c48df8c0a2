"""Tables for the terminal: cells fold between words, columns are dropped where it is too narrow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

# A number with its interval, its error or its unit, a date, or the lack of one.
NUMBER = re.compile(r"[-+<>]?\d[\d.,e%k]*( (±|%).*|-[\d.]+)?|\d{4}-\d\d-\d\d .*|-|none|")
GAP, EDGES = 3, 2  # characters between columns, and at both ends


@dataclass(frozen=True)
class TextTable:
    """A table of text. Columns of numbers are aligned on the right and never folded."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    optional: Sequence[str] = ()  # the headings that may be dropped, the last first

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table at the width of the terminal, and which columns it lacks."""
        columns = [*zip(self.headings, *self.rows, strict=True)]
        optional, dropped = [*self.optional], []
        while optional and _total(_min_widths(columns)) > options.max_width:
            dropped.append(optional.pop())
            columns = [column for column in columns if column[0] != dropped[-1]]
        made = Table(
            title=self.title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        for column, width in zip(columns, _widths(columns, options.max_width), strict=True):
            justify: Literal["left", "right"] = "right" if _are_numbers(column) else "left"
            made.add_column(column[0], width=width, justify=justify, overflow="fold")
        for row in zip(*(column[1:] for column in columns), strict=True):
            made.add_row(*map(Text, row))
        yield made
        if dropped:
            yield Text(f"not shown, for lack of room: {', '.join(reversed(dropped))}")


def _widths(columns: Sequence[Sequence[str]], available: int) -> list[int]:
    """The width of each column: of all its text where there is room, at least its minimum."""
    widths, wanted = _min_widths(columns), [*map(_longest_line, columns)]
    room = available - _total(widths)
    while room > 0 and widths != wanted:
        neediest = max(range(len(widths)), key=lambda number: wanted[number] - widths[number])
        widths[neediest] += 1
        room -= 1
    while room < 0 and max(widths) > 1:  # even a word does not fit: the longest is cut
        widths[widths.index(max(widths))] -= 1
        room += 1
    return widths


def _min_widths(columns: Sequence[Sequence[str]]) -> list[int]:
    """The longest word of each column, which is not to be cut; all of a column of numbers."""
    return [
        _longest_line(column) if _are_numbers(column) else max(map(_longest_word, column))
        for column in columns
    ]


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
