"""Resume a run that broke off, from its newest checkpoint, if config and data are unchanged."""

import logging
import os
from pathlib import Path

from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_exp.config.compose import fingerprint_values, flatten, redacted_values
from mnist_exp.config.schema import Config
from mnist_exp.core import layout, provenance
from mnist_exp.core.console import REDACTED
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import is_orphaned
from mnist_exp.core.signals import sigterm_interrupts
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.experiment import run_in
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.runs.run import FINGERPRINT_TAG, data_path, run_tags
from mnist_exp.tracking import store
from mnist_exp.tracking.events import Opening
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.logged_model import ENVIRONMENT

logger = logging.getLogger(__name__)


def resume_experiment(path: Path) -> RunResult:
    """Go on with the run in this folder from its newest checkpoint, in the same MLflow run.

    The result is what it would have been without the break; a finished run's comes back as it is.
    Raises `InputError` when there is no run in the folder, it is still running, or the data is not
    what it was.
    """
    with sigterm_interrupts() as check_interrupt:
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
        opening = journal.opening
        found = data_path(config.data.path or "", opening.tags if opening else {}, path)
        data = load_dataset(
            config.data.model_copy(update={"path": found if config.data.path else None})
        )
        fingerprint = provenance.fingerprint(fingerprint_values(config), data.digest)
        if journal.opening:
            _refuse_changes(journal, journal.opening, config, data, path)
            if journal.opening.tags.get(FINGERPRINT_TAG) != fingerprint:
                logger.warning("this package has changed since the run began; so may its result")
        config = _with_store(config, journal, path)
        if config.tracking.enabled:
            store.check_reachable(config.tracking)
        tags = run_tags(data, provenance.commit(), folder.overrides(), fingerprint)
        return run_in(folder, config, data, tags, check_interrupt)


def _config(folder: RunFolder) -> Config:
    try:
        return folder.config()
    except (InputError, OSError, UnicodeDecodeError, YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"resume={folder.path}: expected the folder of a run, with its {layout.CONFIG} "
            f"({reason})"
        ) from error


def _refuse_changes(
    journal: Journal, opening: Opening, config: Config, data: Dataset, path: Path
) -> None:
    if opening.tags.get("data.digest") != data.digest:
        raise InputError(
            f"resume={path}: the run began with other data than {data.source}; "
            "put MNIST_PATH back to what it was"
        )
    values = flatten(redacted_values(config))  # with a default for what an older version lacked
    if any(key not in values or values[key] != value for key, value in journal.params.items()):
        raise InputError(
            f"resume={path}: {layout.CONFIG} is not what the run began with; "
            "put it back, or begin a new run"
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
