"""Hydra's launchers made robust: jobs of a dead worker are relaunched, cores are shared."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.plugins.launcher import Launcher

from mnist_exp.core import hardware
from mnist_exp.core.errors import InputError
from mnist_exp.core.signals import SWEEP, defer_interrupts
from mnist_exp.runs.names import SWEPT_VARIABLE
from mnist_exp.sweeps.jobs import JobResult, SweepStrategy
from mnist_exp.tracking.open_run import PARENT_VARIABLE
from mnist_exp.tracking.tracker import RunTracker

INHERITED = ("MNIST_PATH", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What the steps of a sweep share."""

    strategy: SweepStrategy
    launcher: Launcher
    folder: Path
    parent: RunTracker


def launch(jobs: Mapping[int, JobResult], sweep: Sweep, started: float) -> dict[int, JobResult]:
    """The launcher's result for each job; those of a dead worker are launched once more.

    Whatever is older than `started` in the jobs' folders is not this sweep's.
    """
    ahead = dict(jobs)
    done: dict[int, JobResult] = {}
    for attempt in (1, 2):
        overrides = [[*ahead[n].job, *_own_overrides(n, sweep)] for n in ahead]
        try:
            returns = sweep.launcher.launch(overrides, initial_job_idx=0)
            pairs = zip(ahead.values(), returns, strict=True)
            # A failed job's `return_value` would raise its error.
            return done | {job.number: job.with_end(ret._return_value) for job, ret in pairs}
        except (KeyboardInterrupt, InputError):
            with defer_interrupts():
                _end_workers()
            raise
        except Exception as error:  # the launcher's: a job's own comes as its return
            _end_workers()
            done |= {n: result.collect(sweep.folder, started) for n, result in ahead.items()}
            ahead = {n: done[n] for n in ahead if done[n].state == "unfinished"}
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            logger.warning(
                f"a worker died ({reason}); {len(ahead)} jobs were not finished"
                + (" and are started once more" if attempt == 1 else " after a second start")
            )
    return done | {n: replace(r, error="its worker died, twice") for n, r in ahead.items()}


def refuse_no_workers(launcher: Launcher) -> None:
    """Raises `InputError` for joblib without workers, which would look like dead ones."""
    if getattr(launcher, "joblib", {}).get("n_jobs") == 0:
        raise InputError(
            "hydra.launcher.n_jobs: expected a number of workers, or -1 for all cores, got 0"
        )


def is_in_process(launcher: Launcher) -> bool:
    """Whether the launcher runs jobs in this process, one after the other."""
    return isinstance(launcher, BasicLauncher)


def is_remote(launcher: Launcher, name: str) -> bool:
    """Whether the launcher of that name may run jobs on other machines."""
    if name == "ray":
        address = getattr(launcher, "init", {}).get("address") or os.environ.get("RAY_ADDRESS")
        return address not in (None, "local")
    return name == "submitit_slurm"


def _own_overrides(number: int, sweep: Sweep) -> Iterator[str]:
    """The overrides a job gets beside its own, in a form that reaches every launcher."""
    # Absolute: a worker of an existing cluster has a current folder of its own.
    settings = {"hydra.sweep.dir": str(sweep.folder), "hydra.sweep.subdir": str(number)}
    for key, value in (settings | dict(sweep.strategy.job_settings(number))).items():
        yield f"{key}={_quoted(value)}"
    # Not MLFLOW_RUN_ID: with it every job would write into the parent.
    variables = {
        PARENT_VARIABLE: sweep.parent.run_id,
        SWEEP: str(os.getpid()),
        SWEPT_VARIABLE: ",".join(sweep.strategy.swept),
    }
    if not is_in_process(sweep.launcher):
        variables["TTY_COMPATIBLE"] = "0"  # workers share a terminal: rich draws no bars then
    # A worker of an existing cluster has an environment of its own.
    variables |= {name: os.environ[name] for name in INHERITED if name in os.environ}
    if threads := _threads(sweep.launcher):
        variables["TF_NUM_INTRAOP_THREADS"] = str(threads)
    for name, value in variables.items():
        yield f"+hydra.job.env_set.{name}={_quoted(value)}"


def _quoted(value: str) -> str:
    """The text quoted for Hydra's grammar, and without interpolations."""
    return "'" + value.replace("'", "\\'").replace("${", "\\${") + "'"


def _threads(launcher: Launcher) -> int | None:
    """The threads of each worker: Ray's setting, or joblib's share of this machine's cores."""
    if remote := getattr(launcher, "remote", None):
        return max(1, int(remote.get("num_cpus", 1)))
    settings = getattr(launcher, "joblib", None)
    if settings is None:
        return None
    workers = settings["n_jobs"] if settings["n_jobs"] > 0 else hardware.cores()
    return max(1, hardware.cores() // workers)


def _end_workers() -> None:
    """End joblib's workers, which would outlive the sweep."""
    if "joblib" in sys.modules:
        from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]

        get_reusable_executor().shutdown(wait=True, kill_workers=True)
