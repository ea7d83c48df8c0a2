"""Resume a run that broke off, or extend a finished one, if config and data are unchanged."""

import logging
import os
from pathlib import Path
from typing import Any

from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_exp.config.compose import fingerprint_values, params, validate
from mnist_exp.config.schema import Config, TrainConfig
from mnist_exp.core import layout, provenance
from mnist_exp.core.console import REDACTED
from mnist_exp.core.environment import caller_settings, refuse_fork
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import is_orphaned, storage_errors
from mnist_exp.core.signals import sigterm_interrupts
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.experiment import run_in
from mnist_exp.runs.data_paths import relocated_data
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.runs.run import EXTENDED_AFTER_TAG, EXTENDED_FROM_TAG, FINGERPRINT_TAG, run_tags
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.logged_model import ENVIRONMENT
from mnist_exp.training.checkpoints import Checkpoints, with_new_patience

logger = logging.getLogger(__name__)
EPOCHS = "train.epochs="


def resume_experiment(path: Path) -> RunResult:
    """Go on with the run in this folder from its newest checkpoint, in the same MLflow run.

    The result is what it would have been without the break; a finished run's comes back as it is.
    Raises `InputError` when there is no run in the folder, it is still running, or the data is not
    what it was.
    """
    refuse_fork()
    with sigterm_interrupts() as check_interrupt, caller_settings():
        path = Path(os.path.abspath(path))  # as it is recorded: without ..
        folder = RunFolder(path)
        config = _config(folder)
        if not is_orphaned(path):
            raise InputError(f"resume={path}: this run is still running; wait for it or end it")
        journal = _journal(path)
        if journal.status == "FINISHED":
            result = _result(folder)
            logger.info(f"finished already: {result.title}")
            return result
        config, data = _unchanged(config, journal, path)
        tags = run_tags(data, provenance.commit(), folder.overrides(), _fingerprint(config, data))
        return run_in(folder, config, data, tags, check_interrupt)


def extend_experiment(path: Path, epochs: Any, folder: Path) -> RunResult:
    """Go on with the finished run in this folder until `epochs`, as a run of its own in `folder`.

    It is what a run planned so long would have been, to the last bit; but if the finished one ended
    by early stopping, patience begins anew. Raises `InputError` when the run is not finished, has
    no checkpoint, depends on the number of its epochs, or the data is not what it was.
    """
    refuse_fork()
    with sigterm_interrupts() as check_interrupt, caller_settings():
        path = Path(os.path.abspath(path))
        origin = RunFolder(path)
        before = _config(origin)
        config = _with_epochs(before, epochs, path)
        if not origin.has_result():
            raise InputError(
                f"resume={path}: train.epochs is raised of finished runs, and this one broke off; "
                "let it finish first, with resume= alone"
            )
        result, checkpoint = _result(origin), Checkpoints(path).newest()
        if checkpoint is None:
            raise InputError(
                f"resume={path}: expected the checkpoint of its last epoch in {layout.CHECKPOINTS}/"
                f": an older version left none, or clean removed it; begin a new run with "
                f"train.epochs={config.train.epochs}"
            )
        tracking, data = _unchanged(before, _journal(path), path)
        config = config.model_copy(update={"tracking": tracking.tracking})
        typed = [o for o in origin.overrides() if not o.startswith(EPOCHS)]
        overrides = [*typed, f"{EPOCHS}{config.train.epochs}"]
        code, done = provenance.commit(), len(checkpoint.epochs)
        with storage_errors(folder):
            new = RunFolder.claim(folder, config, overrides, code.diff)
            start = with_new_patience(checkpoint, config.train.patience)
            Checkpoints(new.path).write(done, start)
        tags = run_tags(data, code, new.overrides(), _fingerprint(config, data)) | {
            EXTENDED_FROM_TAG: result.run_id or str(path),
            EXTENDED_AFTER_TAG: str(done),
        }
        return run_in(new, config, data, tags, check_interrupt)


def _with_epochs(config: Config, epochs: Any, path: Path) -> Config:
    """The config with more epochs; raises `InputError` where that cannot be."""
    train = validate(TrainConfig, config.train.model_dump() | {"epochs": epochs}, "train")
    if config.bound_to_epochs:
        raise InputError(
            f"resume={path}: {config.bound_to_epochs}, so that a run of {epochs} epochs does not "
            f"begin with this one; begin a new run with train.epochs={epochs}"
        )
    if train.epochs <= config.train.epochs:
        raise InputError(
            f"resume={path}: expected more epochs than train.epochs={config.train.epochs} of the "
            f"finished run, got train.epochs={epochs}"
        )
    return config.model_copy(update={"train": train})


def _unchanged(config: Config, journal: Journal, path: Path) -> tuple[Config, Dataset]:
    """The config, with what it needs to record, and the data; raises `InputError` for others."""
    opening = journal.opening
    data = load_dataset(relocated_data(config.data, opening.tags if opening else {}, path))
    _refuse_changes(journal, config, data, path)
    if opening and opening.tags.get(FINGERPRINT_TAG) != _fingerprint(config, data):
        logger.warning("this package has changed since the run began; so may its result")
    config = _with_store(config, journal, path)
    if config.tracking.enabled:
        store.check_reachable(config.tracking)
    return config, data


def _fingerprint(config: Config, data: Dataset) -> str:
    return provenance.fingerprint(fingerprint_values(config), data.digest)


def _config(folder: RunFolder) -> Config:
    try:
        return folder.config()
    except (InputError, OSError, UnicodeDecodeError, YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"resume={folder.path}: expected the folder of a run, with its {layout.CONFIG} "
            f"({reason})"
        ) from error


def _refuse_changes(journal: Journal, config: Config, data: Dataset, path: Path) -> None:
    if journal.opening and journal.opening.tags.get("data.digest") != data.digest:
        raise InputError(
            f"resume={path}: the run began with other data than {data.source}; "
            "put MNIST_PATH back to what it was"
        )
    values = params(config)  # with a default for what an older version lacked
    recorded = journal.params
    changed = [key for key, value in recorded.items() if values.get(key, values) != value]
    if changed:
        part = next((key for key in changed if key.endswith(".source")), "")
        what = f"{recorded[part].partition(' ')[0]} ({part})" if part else layout.CONFIG
        raise InputError(
            f"resume={path}: {what} is not what the run began with; put it back, or begin a new run"
        )


def _with_store(config: Config, journal: Journal, path: Path) -> Config:
    """The config with the URI of the store the run began in; a password is not recorded."""
    recorded = (journal.opening.uri if journal.opening else config.tracking.uri) or ""
    if REDACTED in recorded and ENVIRONMENT not in os.environ:
        raise InputError(
            f"resume={path}: the password of {recorded} is not recorded; set "
            f"{ENVIRONMENT} to the whole URI"
        )
    uri = None if REDACTED in recorded else journal.store or config.tracking.uri
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})


def _result(folder: RunFolder) -> RunResult:
    try:
        return folder.result()
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"resume={folder.path}: this run is finished, but {layout.RESULT} cannot be read "
            f"({error}); look for the run in MLflow"
        ) from error


def _journal(path: Path) -> Journal:
    try:
        return Journal(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"resume={path}: {layout.JOURNAL} cannot be read ({error}); begin a new run"
        ) from error
