"""The names of classes: the digits, unless the data has others."""

from collections.abc import Sequence

CLASSES_TAG = "data.classes"  # of a run: their names in JSON; without it the ten digits
DIGITS = tuple("0123456789")
MAX_CLASSES, MAX_NAME = 200, 30  # characters of a name: a tag of MLflow, of 8,000, holds them all


def noun(classes: Sequence[str]) -> str:
    """What figures, tables and sentences call a class: 'digit' or 'class'."""
    return "digit" if tuple(classes) == DIGITS else "class"


def shorten(name: str, width: int) -> str:
    """The name in at most `width` characters."""
    return name if len(name) <= width else f"{name[: width - 1]}…"
