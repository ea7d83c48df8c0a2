"""Open a run and close it whatever happens: from RUNNING to FINISHED, FAILED or KILLED."""

import getpass
import os
import platform
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.environment import name_user
from mnist_exp.core.errors import PrunedError
from mnist_exp.core.files import run_lock
from mnist_exp.core.layout import TRACEBACK
from mnist_exp.core.provenance import PACKAGE
from mnist_exp.core.signals import defer_interrupts
from mnist_exp.tracking import store
from mnist_exp.tracking.events import Opening
from mnist_exp.tracking.mlflow_backend import HOST_TAG, OUTCOME_TAG, PARENT_TAG
from mnist_exp.tracking.places import FOLDER_TAG, JOURNAL_TAG
from mnist_exp.tracking.recovery import recover_orphans
from mnist_exp.tracking.tracker import RunTracker

PARENT_VARIABLE = "MNIST_EXP_PARENT_RUN"  # MLFLOW_RUN_ID would override the run to open
SECONDS = 1.0  # between two samples of the system


@contextmanager
def track_run(
    config: TrackingConfig,
    *,
    name: str,
    folder: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    files: Sequence[str] = (),
    deferred: bool = False,
    make_tracker: Callable[..., RunTracker] = RunTracker,
) -> Iterator[RunTracker]:
    """Context manager: the tracker of the run in `folder`, closed whatever happens.

    A run that is there already is reopened; `files` of it are uploaded at the end. Publishing
    starts at once, or, `deferred` and outside a sweep, with the tracker's `start`. The run ends as
    FINISHED, as KILLED at Ctrl-C, SIGTERM or pruning, and else as FAILED, with the traceback left
    in the folder.
    """
    with run_lock(folder):
        tracker = make_tracker(folder, config, on_open=partial(recover_orphans, config=config))
        try:
            with defer_interrupts():  # what came meanwhile is raised at its end
                if tracker.journal.opening:
                    tracker.reopen()
                    tracker.log_tags({FOLDER_TAG: str(folder.absolute())})  # it may have been moved
                else:
                    tracker.open(_opening(config, name, folder, tags), params)
            if not deferred or is_sweep_job():  # a sweep recovers its orphans itself
                tracker.start()
                _ = tracker.run_id  # it is open
            yield tracker
        except (KeyboardInterrupt, PrunedError) as error:
            with defer_interrupts():
                outcome = "pruned" if isinstance(error, PrunedError) else "interrupted"
                tracker.log_tags({OUTCOME_TAG: outcome})
                tracker.log_files(files)
                tracker.close("KILLED")
            raise
        except Exception:
            with defer_interrupts():
                with suppress(OSError):  # such as a full disk, which may be the very error
                    (folder / TRACEBACK).write_text(traceback.format_exc())
                tracker.log_files([*files, TRACEBACK])
                tracker.close("FAILED")
            raise
        with defer_interrupts():
            tracker.log_files(files)
            tracker.close("FINISHED")


@contextmanager
def sampled_system_metrics(tracker: RunTracker) -> Iterator[None]:
    """Context manager: with `tracking.system_metrics` MLflow samples `system/...` metrics.

    They go to the store directly, not through the journal: what it cannot take is lost.
    """
    config = tracker.config
    if not (config.system_metrics and config.enabled and tracker.run_id):
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        tracker.run_id,
        sampling_interval=SECONDS,
        resume_logging=True,
        tracking_uri=store.uri(config),
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def is_sweep_job() -> bool:
    """Whether the runs of this process are jobs of a sweep."""
    return PARENT_VARIABLE in os.environ


def _opening(config: TrackingConfig, name: str, folder: Path, tags: Mapping[str, str]) -> Opening:
    name_user()  # a container's may have no name
    own = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": _source(),
        "mlflow.source.type": "LOCAL",
        JOURNAL_TAG: uuid.uuid4().hex,
        HOST_TAG: platform.node(),
        FOLDER_TAG: str(folder.absolute()),
    }
    if parent := os.environ.get(PARENT_VARIABLE):
        own[PARENT_TAG] = parent
    own |= {key: value for key, value in tags.items() if value}
    uri = store.display_uri(config) if config.enabled else ""
    return Opening(uri, config.experiment, name, own, int(time.time() * 1000))


def _source() -> str:
    """The command of this process without its options; that of the sweep in a job of one."""
    script = Path(sys.argv[0])
    if is_sweep_job() or script.parts[-2:] == (PACKAGE, "run.py"):
        return "python -m mnist_exp.run"
    if script.parts[-2:] == (PACKAGE, "__main__.py"):
        return " ".join(["python -m", PACKAGE, *sys.argv[1:2]])
    return script.name
