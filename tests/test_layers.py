"""The floors of the house: imports run down only, and each tool has its one room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnist_exp

PACKAGE = Path(mnist_exp.__file__).parent
FLOORS = [
    {
        "errors",
        "signals",
        "locks",
        "terminal",
        "config",
        "refusals",
        "significance",
        "plots",
        "provenance",
    },
    {"sources", "download", "data", "hardware", "models", "optimizers", "progress"},
    {"tracking"},
    {"epoch", "evaluation"},
    {"training", "report"},
    {"experiment"},
    {"sweep"},
    {"run"},
]
BESIDE = {  # who may import whom on the same floor
    "config": {"errors", "refusals"},
    "download": {"sources"},
    "data": {"sources", "download"},
    "run": {"run"},  # by its own name, so that workers can import it
}
ROOMS = {
    "mlflow": {"tracking"},
    "matplotlib": {"plots"},
    "omegaconf": {"run", "config", "sweep", "refusals"},
    "hydra": {"run", "config", "sweep", "refusals"},
}
FILES = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "mnist_exp":
            yield from (f"mnist_exp.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor() -> None:
    assert {path.stem for path in FILES} == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_run_down(path: Path) -> None:
    for name in imports(path):
        if name.startswith("mnist_exp."):
            other = name.split(".")[1]
            below = floor(other) < floor(path.stem)
            assert below or other in BESIDE.get(path.stem, ()), f"{path.stem} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_tool_has_its_room(path: Path) -> None:
    for name in imports(path):
        rooms = ROOMS.get(name.partition(".")[0])
        assert rooms is None or path.stem in rooms, f"{path.stem} imports {name}"


def test_the_python_api() -> None:
    assert mnist_exp.__all__ == ["compose", "run_experiment"]
    assert callable(mnist_exp.compose)
    with pytest.raises(AttributeError):
        _ = mnist_exp.something_else
