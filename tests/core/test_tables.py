"""Tables at any width of the terminal."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from mnist_exp.core.console import TextTable, short_time

ROWS = [
    ["a long name of words", "0.5", "97.50", "12.3", "all sixty thousand"],
    ["short", "3e-3", "9.10", "1.0", "five"],
]
HEADINGS = ["name", "learning_rate", "val %", "seconds", "data"]


def printed(width: int, rows: list[list[str]] = ROWS) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(TextTable(HEADINGS, rows, "a title", optional=["val %", "seconds", "data"]))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [200, 80, 60, 50, 40, 35])
def test_no_word_or_number_is_cut_and_no_line_too_long(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    shown = [0, 1] + ([2, 3, 4] if width >= 80 else [])  # those that are never dropped, or all
    for row in [HEADINGS, *ROWS]:
        assert {word for number in shown for word in row[number].split()} <= words


def test_what_does_not_fit_is_dropped_and_named() -> None:
    assert not any("not shown" in line for line in printed(80))
    for width, dropped in ((50, "data"), (35, "seconds, data")):
        text = " ".join(" ".join(printed(width)).split())
        assert text.endswith(f"not shown, for lack of room: {dropped}")


def test_numbers_stand_on_the_right() -> None:
    first, second = (line for line in printed(80) if "97.50" in line or "9.10" in line)
    assert first.index("97.50") + 1 == second.index("9.10")
    assert second.startswith(" short ")


def test_a_word_is_cut_only_where_nothing_else_helps() -> None:
    lines = printed(30, [["x" * 50, "1", "2", "3", "4"]])
    assert max(map(len, lines)) <= 30
    assert sum(line.count("x") for line in lines) == 50


def test_names_stay_whole_at_the_cost_of_optional_columns_and_dates_never_fold() -> None:
    headings = ["run", "name", "began", "data"]
    cells = ["0a1b2c3d", "dense128 seed=1", "11-27 18:05", "MNIST limited to 5,000 images"]
    for width, lost in ((60, ""), (48, "began")):
        table = TextTable(headings, [cells], optional=["data", "began"], whole="name")
        console = Console(file=io.StringIO(), width=width)
        console.print(table)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "dense128 seed=1" in text
        assert ("11-27 18:05" in text) == (not lost)
        assert f"not shown, for lack of room: {lost}" in text or not lost


def test_a_time_of_this_year_has_no_year() -> None:
    now = datetime.now(UTC)
    assert short_time(now) == f"{now.astimezone():%m-%d %H:%M}"
    assert short_time(datetime(2019, 5, 4, 12, tzinfo=UTC)) == "2019-05-04"
