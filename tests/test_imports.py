"""The public names of the package; import-linter checks its imports (pyproject.toml)."""

import pytest

import mnist_exp


def test_the_python_api() -> None:
    assert mnist_exp.__all__ == ["compose", "find_run", "find_runs", "run_experiment"]
    assert all(callable(getattr(mnist_exp, name)) for name in mnist_exp.__all__)
    with pytest.raises(AttributeError):
        _ = mnist_exp.something_else
