"""Config-driven handwritten-digit experiments: Hydra chooses, Keras trains, MLflow remembers.

>>> from mnist_exp import compose, run_experiment
>>> outcome = run_experiment(compose(["model=cnn", "train=quick"]))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_exp.config import compose
    from mnist_exp.experiment import run_experiment

__all__ = ["compose", "run_experiment"]


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are first asked for."""
    if name == "compose":
        from mnist_exp.config import compose

        return compose
    if name == "run_experiment":
        from mnist_exp.experiment import run_experiment

        return run_experiment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
