"""Where `start_from` takes its weights: the model of a run, or a file; recorded by its digest."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.config.compose import PINNED
from mnist_exp.config.schema import Config, TrackingConfig
from mnist_exp.core.environment import keras_defaults
from mnist_exp.core.errors import InputError
from mnist_exp.core.output import quiet_stderr
from mnist_exp.runs.find import BEST, LAST, resolve_run
from mnist_exp.runs.run import Run
from mnist_exp.tracking.logged_model import MODEL_FILE

if TYPE_CHECKING:
    import keras

    from mnist_exp.training.transfer import Weights


def pinned(config: Config, *, in_sweep: bool = False) -> Config:
    """The config with the whole id or path in `start_from`, and the digest of the weights' file.

    Raises `InputError` when there is none, it has changed since it was recorded, or `in_sweep` it
    may mean one of the sweep's own runs.
    """
    if config.start_from is None:
        return config
    reference, _, recorded = config.start_from.partition(PINNED)
    run, file = _find(reference, config.tracking)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    if recorded not in ("", digest):
        raise InputError(
            f"start_from={reference}: its weights are not those that were recorded (SHA-256 "
            f"{recorded}, got {digest}); put them back, or begin a new run"
        )
    if run and in_sweep and reference in (BEST, LAST):
        raise InputError(
            f"start_from={reference}: each job of a sweep might find another run; give the id of "
            f"the one it is now, start_from={run.run_id[:8]}"
        )
    where = run.run_id if run else file
    return config.model_copy(update={"start_from": f"{where}{PINNED}{digest}"})


def try_start(config: Config, classes: int) -> None:
    """Raise `InputError` for weights of which none fits, and layers that cannot be frozen."""
    if config.start_from or config.train.freeze:
        with quiet_stderr(), keras_defaults():
            from mnist_exp.models.families import build_model
            from mnist_exp.training.transfer import freeze

            model = build_model(config.model, classes=classes)
            take_start(freeze(model, config.train.freeze), config)


def take_start(model: "keras.Model", config: Config) -> str:
    """Set the weights that `start_from` has for the model; a sentence about which, if it is set."""
    if config.start_from is None:
        return ""
    from mnist_exp.training.transfer import take_weights

    given = f"start_from={config.start_from.partition(PINNED)[0]}"
    return take_weights(model, _weights(config.start_from, config.tracking), given)


@lru_cache(maxsize=1)  # by the digest: for the trial and the run, and the jobs of a sweep
def _weights(start_from: str, tracking: TrackingConfig) -> "Weights":
    from mnist_exp.models.io import load_model
    from mnist_exp.training.transfer import layer_weights

    run, file = _find(start_from.partition(PINNED)[0], tracking)
    model = run.model() if run else load_model(file, f"start_from={file}", classes=None)
    return layer_weights(model)


def _find(reference: str, tracking: TrackingConfig) -> tuple[Run | None, Path]:
    """The file of the weights, and the run if it is of one. Raises `InputError`."""
    path = Path(reference).absolute()
    if path.suffix in (".keras", ".h5"):
        if path.is_file():
            return None, path
        raise InputError(f"start_from={reference}: there is no such file; mend the path")
    try:
        run = resolve_run(reference, tracking)
        return run, run.file(MODEL_FILE)
    except InputError as error:
        reason = str(error).removeprefix(f"--run {reference}: ").replace("--run", "start_from")
        raise InputError(f"start_from={reference}: {reason}") from error
