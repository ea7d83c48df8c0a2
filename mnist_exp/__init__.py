"""Config-driven handwritten-digit experiments: Hydra chooses, Keras trains, MLflow remembers.

>>> from mnist_exp import compose, find_run, run_experiment
>>> result = run_experiment(compose(["model=cnn", "train=quick"]))
>>> evaluation = find_run(result.run_id).evaluation()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_exp.config.compose import compose
    from mnist_exp.experiment import run_experiment
    from mnist_exp.runs.find import find_run
    from mnist_exp.runs.search import find_runs

__all__ = ["compose", "find_run", "find_runs", "run_experiment"]

MODULES = {
    "compose": "config.compose",
    "find_run": "runs.find",
    "find_runs": "runs.search",
    "run_experiment": "experiment",
}


def __getattr__(name: str) -> Any:
    """The public functions, imported on first use."""
    if name in MODULES:
        return getattr(import_module(f"mnist_exp.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
