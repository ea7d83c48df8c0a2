"""Every benchmark, one after the other: printed as it comes, and written to docs/benchmarks.md.

python -m benchmarks [--quick] [epochs peak accuracy start_up sweeps serving]
"""

import sys
from collections.abc import Iterator

from benchmarks import accuracy, epochs, machine, peak, serving, start_up, sweeps

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
    "# Benchmarks\n\nWritten by `make bench`. Medians, with range and n in brackets. What is "
    "compared "
    "was measured in turn (A B A B),\nand a ratio is the median of the ratios pair by pair: on a "
    "shared machine, figures of different minutes cannot be compared."
)


def lines(chosen: list[str], quick: bool) -> Iterator[str]:
    yield ""
    yield f"{machine.describe()}."
    for name in chosen:
        yield from ["", f"## {ROOMS[name].TITLE}", ""]
        yield from ROOMS[name].measure(quick)


def main(arguments: list[str]) -> None:
    """A quick run, or one of some parts, leaves the page as it is."""
    quick = "--quick" in arguments
    chosen = [name for name in arguments if name != "--quick"]
    if unknown := sorted(set(chosen) - set(ROOMS)):
        sys.exit(f"{', '.join(unknown)}: expected some of {', '.join(ROOMS)}")
    page = [HEADER]
    for line in lines(chosen or list(ROOMS), quick):
        print(line, flush=True)
        page.append(line)
    if not quick and not chosen:
        PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")
        print(f"\nwritten to {PAGE}")


main(sys.argv[1:])
