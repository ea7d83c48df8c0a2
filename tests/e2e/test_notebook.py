"""The notebook is stored without outputs, and runs from top to bottom."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks/mnist.ipynb"
CLOSED_PORT = "http://127.0.0.1:9"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_outputs_are_cleared(notebook: Any) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(
    notebook: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_PATH", raising=False)  # the bundled digits train in a moment
    monkeypatch.setenv("KERAS_HOME", str(workplace))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, CLOSED_PORT)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": workplace}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 5
    printed = "".join(output.get("text", "") for output in outputs)
    assert 'install "ipywidgets"' not in printed
    assert "\x1b[2K" not in printed, "a notebook's output cannot be drawn over"
    assert re.search("dense128 (beats|against) sigmoid100", printed)
    nbformat.write(notebook, workplace / "executed.ipynb")  # to inspect
