"""The only way a run is opened and closed: from RUNNING to FINISHED, FAILED or KILLED."""

import getpass
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mnist_exp import store
from mnist_exp.errors import PrunedError
from mnist_exp.late import LateRecord
from mnist_exp.locks import held
from mnist_exp.records import FOLDER, HOST, PARENT_RUN, MlflowRun, Record
from mnist_exp.schema import Tracking
from mnist_exp.signals import uninterrupted

logger = logging.getLogger(__name__)

PARENT = "MNIST_EXP_PARENT_RUN"  # not MLFLOW_RUN_ID: that one would override the run to open
TRACEBACK = "traceback.txt"


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
    """A run that is closed whatever happens, and `files` of its folder published.

    It is open, or with `late`, but in a sweep, will be when its `begin` is called or it is needed.
    FINISHED at a normal end, KILLED at Ctrl-C, SIGTERM or pruning, FAILED otherwise; the traceback
    is left in the folder. With `tracking.enabled=false` the record is kept by nobody.
    Raises `InputError` when there is no store to write to.
    """
    with held(folder):
        run = Record()
        try:
            with uninterrupted():  # what came meanwhile is raised at its end, when `run` is set
                if config.enabled:
                    open_run = partial(_open, config, name, _run_tags(folder, tags), _now())
                    if late and PARENT not in os.environ:  # a sweep looks after what died
                        store.knock(config)
                        run = LateRecord(open_run)
                    else:
                        run = open_run()
            run.log_params(params)
            yield run
        except (KeyboardInterrupt, PrunedError) as error:
            outcome = "pruned" if isinstance(error, PrunedError) else "interrupted"
            with uninterrupted(), best_effort(run):
                _close(run, "KILLED", folder, files, outcome)
            raise
        except Exception:
            with uninterrupted():
                if config.enabled and not run.run_id:
                    raise  # refused before it began
                (folder / TRACEBACK).write_text(traceback.format_exc())
                with best_effort(run):
                    _close(run, "FAILED", folder, [*files, TRACEBACK])
            raise
        with uninterrupted():
            try:
                run.log_files(folder, files)
            except Exception:
                run.close("FAILED")
                raise
            run.close("FINISHED")


def _close(run: Record, status: str, folder: Path, files: Sequence[str], outcome: str = "") -> None:
    """Ends the run with its outcome and its files; without them rather than not at all."""
    try:
        if outcome:
            run.log_tags({"outcome": outcome})
        run.log_files(folder, files)
    finally:
        run.close(status)


@contextmanager
def best_effort(run: Record) -> Iterator[None]:
    """Within: an error of the store is a warning; another error is on its way already."""
    try:
        yield
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        which = f"run {run.run_id[:8]}" if run.run_id else "this run"
        logger.warning(f"MLflow did not hear how {which} ended: {reason}")


def _open(config: Tracking, name: str, tags: Mapping[str, str], start_time: int) -> MlflowRun:
    """A new run; those of this machine that died are closed first."""
    with store.opened(config) as client:
        where = store.uri(config)
        run = MlflowRun(client, where, config.experiment, name, tags, start_time)
        run.close_the_dead()
        return run


def _now() -> int:
    return int(time.time() * 1000)


def _run_tags(folder: Path, tags: Mapping[str, str]) -> dict[str, str]:
    own = {
        "mlflow.user": _user(),
        "mlflow.source.name": "python -m mnist_exp.run",
        "mlflow.source.type": "LOCAL",
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
