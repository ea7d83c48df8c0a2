"""Every benchmark, one after the other: printed as it comes, and written to docs/benchmarks.md.

python -m benchmarks [--quick] [epochs peak accuracy start_up sweeps serving]

Of the page only the parts that ran are replaced; a quick run, with fewer rounds, leaves it alone.
"""

import argparse
import sys
from collections.abc import Iterator
from types import ModuleType

from benchmarks import accuracy, epochs, machine, peak, serving, start_up, sweeps
from mnist_exp.core.errors import InputError

ROOMS = {
    "epochs": epochs,
    "peak": peak,
    "accuracy": accuracy,
    "start_up": start_up,
    "sweeps": sweeps,
    "serving": serving,
}
PAGE = machine.ROOT / "docs" / "benchmarks.md"
HEADER = (
    "# Benchmarks\n\nWritten by `make bench`. Medians, with range and n in brackets. What a ratio "
    "compares was measured in turn (A B A B),\nand it is the median of the ratios pair by pair: on "
    "a shared machine, figures of different minutes cannot be compared.\n"
)


def lines(room: ModuleType, quick: bool) -> Iterator[str]:
    yield f"## {room.TITLE}"
    yield ""
    yield f"{machine.describe()}."
    yield ""
    yield from room.measure(quick)
    yield ""


def renew(title: str, part: str) -> None:
    """Puts the part where the page has, or would have, the one of this title."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    _, *old = page.split("\n## ")
    parts = {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in old} | {title: part}
    ordered = [parts[room.TITLE] for room in ROOMS.values() if room.TITLE in parts]
    PAGE.write_text("\n".join([HEADER, *ordered]), encoding="utf-8")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(ROOMS))
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.parts) - set(ROOMS)):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(ROOMS)}")
    for name in given.parts or ROOMS:
        part = []
        try:
            for line in lines(ROOMS[name], given.quick):
                print(line, flush=True)
                part.append(line)
        except InputError as error:  # such as no MNIST here
            parser.error(str(error))
        if not given.quick:
            renew(ROOMS[name].TITLE, "\n".join(part))


if __name__ == "__main__":
    main(sys.argv[1:])
