"""What dead processes and failing stores left behind, published and closed after all."""

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import is_orphaned, run_lock
from mnist_exp.core.layout import CHECKPOINTS, JOURNAL
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.mlflow_backend import (
    HOST_TAG,
    IN_BIN,
    OUTCOME_TAG,
    MlflowBackend,
    lifecycle_stage,
    mark_killed,
    running_runs,
)  # fmt: skip
from mnist_exp.tracking.places import run_folder
from mnist_exp.tracking.tracker import RunTracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

COMPLETE, PUBLISHED = "complete already", "published"
MISSING, RUNNING = "not published whole", "still running"
DELETED = "deleted in MLflow for good; sync --restore publishes it again"
BINNED = "deleted in MLflow before it was published whole; sync --restore restores it"


def recover_orphans(backend: MlflowBackend, config: TrackingConfig) -> None:
    """Recover the runs of the experiment that no process of this machine holds any more."""
    for run_id, folder in find_orphans(backend.client, [backend.experiment_id], config):
        recover_run(backend.client, run_id, folder, config)


def find_orphans(
    client: "MlflowClient",
    experiment_ids: Sequence[str],
    config: TrackingConfig,
    *,
    with_missing_folder: bool = False,
) -> list[tuple[str, Path]]:
    """The ids and folders of this machine's RUNNING runs that no process holds.

    `with_missing_folder`: those whose folder is gone instead; they may live, and have been moved.
    """
    running = running_runs(client, experiment_ids, HOST_TAG, platform.node())
    tags, where = {run.info.run_id: run.data.tags for run in running}, store.uri(config)
    folders = {run_id: run_folder(tags[run_id], run_id, where) for run_id in tags}
    is_wanted = (lambda folder: not folder.exists()) if with_missing_folder else is_orphaned
    return [(run_id, folder) for run_id, folder in folders.items() if is_wanted(folder)]


def recover_run(client: "MlflowClient", run_id: str, folder: Path, config: TrackingConfig) -> None:
    """Publish and close a run whose process died, or whose end the store does not know."""
    try:
        status = publish_pending(folder, config)
    except InputError:  # it was resumed meanwhile, or its journal is of a newer version
        return
    if status not in ("", "KILLED"):
        logger.info(f"run {run_id[:8]} had not been published whole; now it is")
    elif status or mark_killed(client, run_id):
        resume = f"; go on with it: python -m mnist_exp.run resume={folder}"
        resumable = (folder / CHECKPOINTS).is_dir()
        logger.info(f"run {run_id[:8]} had died; it is KILLED now{resume if resumable else ''}")


def publish_pending(folder: Path, config: TrackingConfig) -> str:
    """The final status of the orphaned run in this folder, once it is published.

    One that died is closed as KILLED. Empty when it cannot be published, or has no journal. Raises
    `InputError` when a process holds it after all.
    """
    try:
        with run_lock(folder):
            tracker = RunTracker(folder, config)
            if tracker.journal.opening is None:
                return ""
            if tracker.journal.status:
                tracker.publish()
            else:
                tracker.log_tags({OUTCOME_TAG: "interrupted"})
                tracker.close("KILLED")
    except (OSError, ValueError):  # no folder, or no journal that could be read
        return ""
    return tracker.journal.status if tracker.journal.is_published else ""


def sync(folder: Path, uri: str | None = None, *, restore: bool = False) -> str:
    """What came of publishing what is missing of the run in `folder`, in words.

    `uri` is the store; default: the one the run was for. A run that was deleted there comes back
    only to `restore` it. Raises `InputError` when the journal cannot be read, or the store cannot
    be used.
    """
    try:
        journal = Journal(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / JOURNAL}: expected the record of a run ({error})") from error
    if (opening := journal.opening) is None:
        return COMPLETE  # it broke off before anything was logged
    if not is_orphaned(folder):
        return RUNNING
    where = uri or journal.store or None
    config = TrackingConfig(
        enabled=True, uri=where, experiment=opening.experiment, skip_finished=False
    )
    if journal.run_id:
        with store.connect(config) as client:
            stage = lifecycle_stage(client, journal.run_id)
            is_kept = stage == IN_BIN and not restore
            if journal.is_published and (is_kept or stage not in ("", IN_BIN)):
                return COMPLETE
            if is_kept:
                return BINNED
            is_its_own = store.display_uri(config) in (opening.uri, journal.store)
            knows_experiment = client.get_experiment_by_name(opening.experiment) is not None
            if not stage and is_its_own and knows_experiment and not restore:
                return DELETED
    store.check_reachable(config)
    try:
        return PUBLISHED if publish_pending(folder, config) else MISSING
    except InputError:  # it was resumed meanwhile
        return RUNNING
