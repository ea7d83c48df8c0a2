"""The story of an experiment that broke off: it goes on where it was, if all is as it was."""

import logging
import os
from pathlib import Path

from mnist_exp import experiment
from mnist_exp.config.compose import BLOTTED, flatten, public, scientific
from mnist_exp.config.schema import Config
from mnist_exp.core import provenance
from mnist_exp.core.errors import InputError
from mnist_exp.core.locks import is_abandoned
from mnist_exp.core.signals import sigterm_interrupts
from mnist_exp.data import dataset as datasets
from mnist_exp.data.dataset import Dataset
from mnist_exp.runs import folder as folders
from mnist_exp.runs import run as recorded
from mnist_exp.runs.result import OUTCOME, Outcome
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import JOURNAL, Journal, Opening

logger = logging.getLogger(__name__)


def resume_experiment(folder: Path) -> Outcome:
    """Goes on with the run in `folder` from its newest checkpoint, in the same MLflow run.

    What comes out is what would have come out had it never stopped; a finished run's outcome comes
    back as it is. Raises `InputError` when there is no run in the folder, it is still running, or
    the data is not what it was.
    """
    with sigterm_interrupts() as check:
        folder = folder.absolute()
        config = folders.config_of(folder)
        if not is_abandoned(folder):
            raise InputError(f"resume={folder}: this run is still running; wait for it or end it")
        began = _journal(folder)
        if began.status == "FINISHED":
            outcome = _outcome(folder)
            logger.info(f"finished already: {outcome.title}")
            return outcome
        data = datasets.load(config.data)
        fingerprint = provenance.fingerprint(scientific(config), data.digest)
        if began.opening:
            _refuse_changes(began, began.opening, config, data, folder)
            if began.opening.tags.get(recorded.FINGERPRINT) != fingerprint:
                logger.warning("this package has changed since the run began; so may its result")
        config = _with_password(config, folder)
        if config.tracking.enabled:
            store.knock(config.tracking)
        asked = folder / experiment.OVERRIDES
        overrides = asked.read_text().splitlines() if asked.exists() else []
        tags = experiment.tags_of(data, provenance.commit(), overrides)
        tags[recorded.FINGERPRINT] = fingerprint
        return experiment.run_in(folder, config, data, tags, check, None)


def _refuse_changes(
    began: Journal, opening: Opening, config: Config, data: Dataset, folder: Path
) -> None:
    if opening.tags.get("data.digest") != data.digest:
        raise InputError(
            f"resume={folder}: the run began with other data than {data.source}; "
            "put MNIST_PATH back to what it was"
        )
    if began.params and began.params != flatten(public(config)):
        raise InputError(
            f"resume={folder}: {folders.CONFIG} is not what the run began with; "
            "put it back, or begin a new run"
        )


def _with_password(config: Config, folder: Path) -> Config:
    """The config with a store's URI that can be used: the recorded one has no password."""
    recorded_uri = config.tracking.uri
    if not recorded_uri or BLOTTED not in recorded_uri:
        return config
    if store.ENVIRONMENT not in os.environ:
        raise InputError(
            f"resume={folder}: the password of {recorded_uri} is not recorded; set "
            f"{store.ENVIRONMENT} to the whole URI"
        )
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": None})})


def _outcome(folder: Path) -> Outcome:
    try:
        return Outcome.load(folder)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"resume={folder}: this run is finished, but {OUTCOME} cannot be read ({error}); look "
            "for the run in MLflow"
        ) from error


def _journal(folder: Path) -> Journal:
    try:
        return Journal(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"resume={folder}: {JOURNAL} cannot be read ({error}); begin a new run"
        ) from error
