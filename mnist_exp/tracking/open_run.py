"""The only way a run is opened and closed: from RUNNING to FINISHED, FAILED or KILLED."""

import getpass
import os
import platform
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mnist_exp.config.compose import BLOTTED
from mnist_exp.config.schema import Tracking
from mnist_exp.core.errors import InputError, PrunedError
from mnist_exp.core.locks import held, is_abandoned
from mnist_exp.core.signals import uninterrupted
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import JOURNAL, Journal, Opening
from mnist_exp.tracking.mlflow_backend import FOLDER, HOST, OUTCOME, PARENT_RUN, RECORD, is_there
from mnist_exp.tracking.tracker import Record, publish_left

PARENT = "MNIST_EXP_PARENT_RUN"  # not MLFLOW_RUN_ID: that one would override the run to open
TRACEBACK = "traceback.txt"
COMPLETE, PUBLISHED = "complete already", "published"
MISSING, RUNNING = "not published whole", "still running"


@contextmanager
def record(
    config: Tracking,
    *,
    name: str,
    folder: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    files: Sequence[str] = (),
    late: bool = False,
) -> Iterator[Record]:
    """The record of the run in `folder`, closed whatever happens; `files` of it are published.

    It goes on with a record that is there already. Publishing begins at once, or with `late`, but
    in a sweep, when its `begin` is called. The run ends as FINISHED, as KILLED at Ctrl-C, SIGTERM
    or pruning, and else as FAILED, with the traceback left in the folder.
    """
    with held(folder):
        run = Record(folder, config, sees_to_the_dead=True)
        try:
            with uninterrupted():  # what came meanwhile is raised at its end
                if run.journal.opening:
                    run.go_on()
                    run.log_tags({FOLDER: str(folder.absolute())})  # it may have been moved
                else:
                    run.journal.begin(_opening(config, name, folder, tags))
                    run.log_params(params)
            if not late or is_below_another():  # a sweep looks after what died
                run.begin()
                _ = run.run_id  # it is open
            yield run
        except (KeyboardInterrupt, PrunedError) as error:
            with uninterrupted():
                outcome = "pruned" if isinstance(error, PrunedError) else "interrupted"
                run.log_tags({OUTCOME: outcome})
                run.log_files(files)
                run.close("KILLED")
            raise
        except Exception:
            with uninterrupted():
                with suppress(OSError):  # such as a full disk, which may be what went wrong
                    (folder / TRACEBACK).write_text(traceback.format_exc())
                run.log_files([*files, TRACEBACK])
                run.close("FAILED")
            raise
        with uninterrupted():
            run.log_files(files)
            run.close("FINISHED")


def is_below_another() -> bool:
    """Whether the runs of this process are jobs of a sweep."""
    return PARENT in os.environ


def sync(folder: Path, uri: str | None = None) -> str:
    """What came of publishing what is missing of the run in `folder`, in words.

    `uri` is the store; default: the one the run was for. Raises `InputError` when the record cannot
    be read, or the store cannot be used.
    """
    try:
        journal = Journal(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / JOURNAL}: expected the record of a run ({error})") from error
    if (opening := journal.opening) is None:
        return COMPLETE  # it broke off before anything was said
    if not is_abandoned(folder):
        return RUNNING
    where = uri or (None if BLOTTED in opening.uri else opening.uri or None)
    config = Tracking(enabled=True, uri=where, experiment=opening.experiment, skip_finished=False)
    if journal.is_published:
        with store.opened(config) as client:
            if is_there(client, journal.run_id):
                return COMPLETE
    store.knock(config)
    try:
        return PUBLISHED if publish_left(folder, config) else MISSING
    except InputError:  # it was taken up again meanwhile
        return RUNNING


def _opening(config: Tracking, name: str, folder: Path, tags: Mapping[str, str]) -> Opening:
    where = store.shown(config) if config.enabled else ""
    return Opening(where, config.experiment, name, _run_tags(folder, tags), _now())


def _now() -> int:
    return int(time.time() * 1000)


def _run_tags(folder: Path, tags: Mapping[str, str]) -> dict[str, str]:
    own = {
        "mlflow.user": _user(),
        "mlflow.source.name": "python -m mnist_exp.run",
        "mlflow.source.type": "LOCAL",
        RECORD: uuid.uuid4().hex,
        HOST: platform.node(),
        FOLDER: str(folder.absolute()),
    }
    if parent := os.environ.get(PARENT):
        own[PARENT_RUN] = parent
    return own | {key: value for key, value in tags.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
