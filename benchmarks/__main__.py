"""Every benchmark, one after the other: printed as it comes, and written to docs/benchmarks.md.

python -m benchmarks [--quick] [epochs peak accuracy start_up sweeps serving significance]

Of the page only the parts that ran are replaced; a quick run, with fewer rounds, leaves it alone.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from benchmarks import accuracy, epochs, machine, peak, serving, significance, start_up, sweeps
from mnist_exp.core.errors import InputError

PARTS = {
    "epochs": epochs,
    "peak": peak,
    "accuracy": accuracy,
    "start_up": start_up,
    "sweeps": sweeps,
    "serving": serving,
    "significance": significance,
}
PAGE = machine.ROOT / "docs" / "benchmarks.md"
HEADER = (
    "# Benchmarks\n\nWritten by `make bench`. Medians, with range and n in brackets. What a ratio "
    "compares was measured in turn (A B A B),\nand it is the median of the ratios pair by pair: on "
    "a shared machine, figures of different minutes cannot be compared.\n"
)


def lines(module: ModuleType, quick: bool) -> Iterator[str]:
    yield f"## {module.TITLE}"
    yield ""
    yield f"{machine.describe()}."
    yield ""
    yield from module.measure(quick)
    yield ""


def renew(title: str, part: str, path: Path = PAGE) -> None:
    """Puts the part where the page has, or would have, the one of this title."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    _, *old = page.split("\n## ")
    parts = {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in old} | {title: part}
    ordered = [parts[module.TITLE] for module in PARTS.values() if module.TITLE in parts]
    path.write_text("\n".join([HEADER, *ordered]), encoding="utf-8")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(PARTS)}")
    for name in given.parts or PARTS:
        part = []
        try:
            for line in lines(PARTS[name], given.quick):
                print(line, flush=True)
                part.append(line)
        except InputError as error:  # such as no MNIST here
            parser.error(str(error))
        if not given.quick:
            renew(PARTS[name].TITLE, "\n".join(part))


if __name__ == "__main__":
    main(sys.argv[1:])
