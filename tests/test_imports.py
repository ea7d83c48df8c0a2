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
        "schema",
        "architectures",
        "parts",
        "refusals",
        "evaluation",
        "significance",
        "corruptions",
        "plots",
        "provenance",
        "trials",
        "pictures",
        "images",
        "ink",
        "guard",
        "checkpoints",
        "journal",
    },
    {
        "sources",
        "download",
        "data",
        "hardware",
        "layers",
        "models",
        "optimizers",
        "augmentation",
        "progress",
    },
    {"store"},
    {"mlflow_run"},
    {"records"},
    {"recorded"},
    {"runs"},
    {"tracking"},
    {"comparison", "classifier", "registry", "epoch", "folders"},
    {"checkup"},
    {"training", "comparison_report", "exports", "reproduction", "promotion", "serving"},
    {"report"},
    {"outcomes"},
    {"experiment"},
    {"resuming"},
    {"results"},
    {"summary"},
    {"plans"},
    {"launching", "space"},
    {"search"},
    {"sweep"},
    {"commands"},
    {"run", "__main__"},
]
BESIDE = {  # who may import whom on the same floor
    "config": {"errors", "refusals", "schema", "parts"},
    "schema": {"architectures", "parts"},
    "architectures": {"parts"},
    "evaluation": {"significance"},
    "trials": {"config", "errors"},
    "download": {"sources"},
    "layers": {"hardware"},
    "models": {"layers", "optimizers"},
    "data": {"sources", "download"},
    "provenance": {"errors"},
    "locks": {"errors"},
    "pictures": {"errors"},
    "images": {"ink", "pictures"},
    "ink": {"pictures"},
}
ROOMS = {
    "mlflow": {"store", "mlflow_run", "recorded", "runs", "registry"},
    "matplotlib": {"plots"},
    "omegaconf": {"run", "config", "sweep", "refusals"},
    "hydra": {"run", "config", "sweep", "launching", "space", "refusals"},
    "PIL": {"pictures", "ink", "images"},
    "optuna": {"search", "space", "trials"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "mnist_exp":
            yield from (f"mnist_exp.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def room(path: Path) -> str:
    """The room's name: that of the file, or of the folder it shares with its siblings."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in FILES} == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=room)
def test_imports_run_down(path: Path) -> None:
    for name in imports(path):
        if name.startswith("mnist_exp."):
            other = name.split(".")[1]
            here = room(path)
            beside = {here, *BESIDE.get(here, ())}
            assert floor(other) < floor(here) or other in beside, f"{here} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=room)
def test_each_tool_has_its_room(path: Path) -> None:
    for name in imports(path):
        rooms = ROOMS.get(name.partition(".")[0])
        assert rooms is None or room(path) in rooms, f"{room(path)} imports {name}"


def test_the_python_api() -> None:
    assert mnist_exp.__all__ == ["compose", "find_run", "run_experiment"]
    assert all(callable(getattr(mnist_exp, name)) for name in mnist_exp.__all__)
    with pytest.raises(AttributeError):
        _ = mnist_exp.something_else
