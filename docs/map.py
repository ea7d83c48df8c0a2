"""Count the rooms of mnist_exp and draw them by floor: docs/images/architecture.svg.

python docs/map.py [--check]

A room is a package or a module directly below mnist_exp. With --check nothing is written. The exit
code is 1 when a limit is exceeded, or, with --check, the picture is not what would be drawn.
"""

import ast
import math
import random
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mnist_exp"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
BASE = {"config", "core"}  # imported nearly everywhere: their arrows are counted, not drawn
LIMITS = {
    "floors": 10,
    "arrows without config and core": 70,
    "rooms that the config enters": 10,
    "lines of the longest file": 260,
}
TOOLS = ("hydra", "typer", "fastapi", "jinja2", "mlflow", "optuna", "tensorflow", "keras",
         "matplotlib", "PIL", "scipy", "pydantic", "filelock")  # fmt: skip

BOX, COLUMN, MARGIN, GAP, LINE = 176, 200, 12, 44, 14  # pixels
RESTARTS, MOVES = 6, 2500  # of the search for the places
INK, GREY, BLUE = "#222222", "#667788", "#0072b2"

Rooms = dict[str, set[str]]  # and what each imports
Arrow = tuple[str, str]


def main(arguments: list[str]) -> int:
    """Print the counts and draw the picture; the exit code."""
    graph = grimp.build_graph("mnist_exp", include_external_packages=True, cache_dir=None)
    rooms, tools = _rooms(graph)
    floors = _floors(rooms)
    inner = sum(len(imported - BASE) for room, imported in rooms.items() if room not in BASE)
    entered = sorted(({"experiment"} | _below(rooms, "experiment")) & _takers(any_part=True))
    print(*_counts(rooms, floors, inner, entered), sep="\n")
    longest = max(_lengths().values())
    measured = zip(LIMITS, (max(floors.values()), inner, len(entered), longest), strict=True)
    failures = [f"{what}: {n}, at most {LIMITS[what]}" for what, n in measured if n > LIMITS[what]]
    drawing = _draw(rooms, floors, tools)
    if "--check" not in arguments:
        PICTURE.write_text(drawing, encoding="utf-8")
    elif not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != drawing:
        failures.append(f"{PICTURE.relative_to(ROOT)} is out of date: make map")
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


def _rooms(graph: grimp.ImportGraph) -> tuple[Rooms, dict[str, list[str]]]:
    """The rooms and the tools that each room imports, also inside functions and for types."""
    rooms: Rooms = {child.split(".")[1]: set() for child in graph.find_children("mnist_exp")}
    tools: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        package, _, path = module.partition(".")
        room = path.partition(".")[0]
        if package != "mnist_exp" or not room:
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            other, _, inside = imported.partition(".")
            if other == "mnist_exp":
                rooms[room] |= {inside.partition(".")[0]} - {room, ""}
            else:
                tools[room].add(other)
    return rooms, {room: [tool for tool in TOOLS if tool in tools[room]] for room in rooms}


def _floors(rooms: Rooms) -> dict[str, int]:
    """The floor of each room, counted from 1: one above the highest room that it imports."""

    @cache
    def floor(room: str) -> int:
        return 1 + max(map(floor, rooms[room]), default=0)

    return {room: floor(room) for room in sorted(rooms)}


def _below(rooms: Rooms, room: str) -> set[str]:
    """Every room that this one imports, directly or by way of others."""
    return set().union(rooms[room], *(_below(rooms, other) for other in rooms[room]))


def _takers(*, any_part: bool) -> set[str]:
    """The rooms with a function that takes a `Config` (or: any class of mnist_exp.config)."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        parts = {
            alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom) and "mnist_exp.config" in (node.module or "")
            for alias in node.names
            if alias.name[0].isupper()
        }
        wanted = {"Config"} | (parts if any_part else set())
        annotations = [node.annotation for node in nodes if isinstance(node, ast.arg)]
        if any(_names(annotation) & wanted for annotation in annotations if annotation):
            found.add(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    return found


def _names(annotation: ast.expr) -> set[str]:
    nodes = list(ast.walk(annotation))
    quoted = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    return quoted | {node.id for node in nodes if isinstance(node, ast.Name)}


def _counts(rooms: Rooms, floors: dict[str, int], inner: int, entered: list[str]) -> Iterator[str]:
    lengths = _lengths()
    paths = sorted(lengths)
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    filled = sum(bool(line.strip()) for text in texts.values() for line in text.splitlines())
    code = sum(map(_code_lines, texts.values()))
    stubs = sum(path.name == "__init__.py" and lengths[path] <= 1 for path in paths)
    longest = max(lengths, key=lambda path: lengths[path])
    chain = [max(floors, key=lambda room: floors[room])]
    while rooms[chain[-1]]:
        chain.append(max(sorted(rooms[chain[-1]]), key=lambda room: floors[room]))
    takers = sorted(_takers(any_part=False))
    yield f"lines   {sum(lengths.values()):,} in mnist_exp and hydra_plugins: {filled:,} not blank,"
    yield f"        {code:,} neither blank nor comment nor docstring"
    yield f"files   {len(paths)}, {len(paths) - stubs} without the one-line __init__.py;"
    yield f"        the longest: {longest.relative_to(ROOT)}, {lengths[longest]} lines"
    yield f"floors  {len(chain)}, of {len(rooms)} rooms; the longest chain of imports:"
    yield f"        {' > '.join(chain)}"
    yield f"arrows  {sum(map(len, rooms.values()))} between rooms, {inner} without config and core"
    yield f"config  of run_experiment, whole or in parts: enters {len(entered)} rooms,"
    yield f"        {' '.join(entered)};"
    yield f"        a whole `Config` is taken by functions of {len(takers)} rooms,"
    yield f"        {' '.join(takers)}"
    for room in sorted(rooms, key=lambda room: (-floors[room], room)):
        yield f"{room:10}  imports {' '.join(sorted(rooms[room])) or 'no other room'}"


def _lengths() -> dict[Path, int]:
    """The lines of each file."""
    paths = [*PACKAGE.rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}


def _code_lines(text: str) -> int:
    prose: set[int] = set()
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            prose |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate((line.strip() for line in text.splitlines()), 1)
    return sum(bool(line) and line[0] != "#" and number not in prose for number, line in lines)


def _draw(rooms: Rooms, floors: dict[str, int], tools: dict[str, list[str]]) -> str:
    """The SVG; an arrow to a room that is also reached by a chain of others is left out."""
    rows = [[r for r in floors if floors[r] == n] for n in range(max(floors.values()), 0, -1)]
    texts = {room: _text(room, tools[room]) for room in rooms}
    tops: dict[str, int] = {}
    bottoms: dict[str, int] = {}
    y = MARGIN
    for row in rows:
        height = LINE * (2 + max(len(texts[room]) for room in row)) - 2
        tops |= dict.fromkeys(row, y)
        bottoms |= dict.fromkeys(row, y + height)
        y += height + GAP
    arrows = [
        (room, other)
        for room in sorted(rooms.keys() - BASE)
        for other in sorted(rooms[room] - BASE)
        if not any(other in _below(rooms, between) for between in rooms[room])
    ]
    lefts = _places(rows, floors, arrows)
    width = COLUMN * max(map(len, rows))
    drawing = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y - GAP + MARGIN}" '
        f'width="{width}" font-family="Helvetica, Arial, sans-serif" font-size="10.5">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{GREY}"/></marker>',
    ]
    for a, b in arrows:
        x1, x2 = _end(lefts[a], lefts[b]), _end(lefts[b], lefts[a])
        y1, y2 = bottoms[a], tops[b]
        bend = (y2 - y1) / 3
        drawing.append(
            f'<path d="M{x1:.0f} {y1} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} '
            f'{x2:.0f} {y2}" fill="none" stroke="{GREY}" marker-end="url(#head)"/>'
        )
    for room in sorted(rooms):
        drawing += _box(room, lefts[room], tops[room], bottoms[room] - tops[room], texts[room])
    return "\n".join([*drawing, "</svg>", ""])


def _text(room: str, tools: list[str]) -> list[tuple[str, str]]:
    """The lines below a room's name with their colours: its modules, the tools it imports."""
    modules = sorted(path.stem for path in (PACKAGE / room).glob("*.py"))
    names = " ".join(name for name in modules if name != "__init__")
    inside = [(line, INK) for line in textwrap.wrap(names, 26)]
    return inside + [(line, BLUE) for line in textwrap.wrap(" ".join(tools), 26)]


def _places(rows: list[list[str]], floors: dict[str, int], arrows: list[Arrow]) -> dict[str, int]:
    """The left edges of the boxes: few crossings, no arrow behind a box, short arrows.

    A local search over half columns from several starts, the same on every machine.
    """
    slots = 2 * max(map(len, rows)) - 1
    draw = random.Random(0).random  # the only method that no version of Python changes
    best: tuple[float, dict[str, int]] = (math.inf, {})
    for _ in range(RESTARTS):
        ordered = [sorted(row, key=lambda room: room not in BASE) for row in rows]
        at = {room: 2 * place for row in ordered for place, room in enumerate(row)}
        cost = _cost(at, floors, arrows)
        for _ in range(MOVES):
            row = rows[int(draw() * len(rows))]
            room, slot = row[int(draw() * len(row))], int(draw() * slots)
            moved = at | {room: slot}
            for other in row:  # a box in the way takes the room's place
                if other != room and abs(at[other] - slot) < 2:
                    moved[other] = at[room]
            is_free = all(b - a > 1 for a, b in pairwise(sorted(moved[other] for other in row)))
            if not is_free or any(moved[base] != at[base] for base in BASE):
                continue
            if (new := _cost(moved, floors, arrows)) <= cost:
                at, cost = moved, new
        best = min(best, (cost, at), key=lambda found: found[0])
    return {room: MARGIN + slot * COLUMN // 2 for room, slot in best[1].items()}


def _cost(at: dict[str, int], floors: dict[str, int], arrows: list[Arrow]) -> float:
    cost = 0.0
    for a, b in arrows:
        rise, across = floors[a] - floors[b], at[b] - at[a]
        cost += abs(across)
        for room, slot in at.items() if rise > 1 else ():
            if 0 < (t := (floors[a] - floors[room]) / rise) < 1:
                x = at[a] + across * t * t * (3 - 2 * t)  # as the curve is drawn
                cost += 20 * (abs(x - slot) < 1)
    for (a, b), (c, d) in combinations(arrows, 2):
        shares_floors = max(floors[b], floors[d]) < min(floors[a], floors[c])
        cost += 4 * (shares_floors and (at[a] - at[c]) * (at[b] - at[d]) < 0)
    return cost


def _end(left: int, other: int) -> float:
    """Where an arrow meets the box: nearer the side that the other box is on."""
    return left + BOX / 2 + max(-BOX / 3, min(BOX / 3, (other - left) / 5))


def _box(room: str, left: int, top: int, height: int, text: list[tuple[str, str]]) -> Iterator[str]:
    fill = "#eef2f6" if room in BASE else "white"
    yield f'<rect x="{left}" y="{top}" width="{BOX}" height="{height}" rx="4" fill="{fill}" '
    yield f'stroke="{INK}"/>'
    name = f'<tspan font-weight="bold" font-size="13">{room}</tspan>'
    for number, (line, colour) in enumerate([(name, INK), *text]):
        y = top + 17 + LINE * number
        yield f'<text x="{left + 8}" y="{y}" fill="{colour}">{line}</text>'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
