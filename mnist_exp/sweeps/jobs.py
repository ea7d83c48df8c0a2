"""The jobs of a sweep: which they are, a strategy says, and their results."""

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.config.compose import config_sources
from mnist_exp.config.schema import Config
from mnist_exp.core.console import redact
from mnist_exp.core.errors import PrunedError, SweepError
from mnist_exp.core.layout import RESULT, TRACEBACK
from mnist_exp.evaluation.significance import SeedGroup, group_by_settings
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.runs.run import OBJECTIVE

if TYPE_CHECKING:
    from mnist_exp.plots import Figure, Trial

logger = logging.getLogger(__name__)

Job = tuple[str, ...]  # its overrides


@dataclass(frozen=True)
class JobResult:
    """The result of one job: that of its run, an error, or neither when it is unfinished."""

    number: int
    job: Job
    swept: Sequence[str]  # the keys that differ between jobs
    run_result: RunResult | None = None
    error: str = ""
    reused: bool = False  # the result is that of an earlier run
    pruned: bool = False  # stopped early by a search; `error` has the epoch

    @property
    def state(self) -> str:
        """Finished, reused, pruned, failed or unfinished."""
        if self.run_result:
            return "reused" if self.reused else "finished"
        if self.pruned:
            return "pruned"
        return "failed" if self.error else "unfinished"

    @property
    def choices(self) -> dict[str, str]:
        """The job's value of each swept key."""
        values = dict(override.lstrip("+").split("=", 1) for override in self.job)
        return {key: values.get(key, "") for key in self.swept}

    @property
    def command(self) -> str:
        """The command that runs this job alone."""
        return redact(f"python -m mnist_exp.run {shlex.join(self.alone)}")

    @property
    def alone(self) -> list[str]:
        """What runs the job: its overrides without the preset of the whole sweep, its configs."""
        overrides = [override for override in self.job if not override.startswith("sweep=")]
        return [*config_sources(sys.argv[1:]), *overrides]

    @property
    def objective(self) -> float:
        """The validation accuracy, by which jobs are ranked; -inf without one."""
        return self.run_result.metrics.get(OBJECTIVE, -inf) if self.run_result else -inf

    def with_end(self, ended: RunResult | BaseException) -> "JobResult":
        """The result of the job that ended so."""
        if isinstance(ended, RunResult):
            return replace(self, run_result=ended)
        error = str(ended).strip() or type(ended).__name__
        return replace(self, error=error.splitlines()[-1], pruned=isinstance(ended, PrunedError))

    def collect(self, folder: Path, since: float) -> "JobResult":
        """The result with what the job wrote into the sweep's `folder` since that time, if any."""
        if self.state != "unfinished":
            return self
        for job_folder in (folder / str(self.number), *folder.glob(f"{self.number}-*")):
            for path in (job_folder / RESULT, job_folder / TRACEBACK):
                if path.exists() and path.stat().st_mtime >= since:
                    if path.name == RESULT:
                        return replace(self, run_result=RunFolder(job_folder).result())
                    return replace(self, error=path.read_text().strip().splitlines()[-1])
        return self


class SweepStrategy:
    """The interface between a sweep and its strategy; this one has no jobs."""

    noun = "job"  # for one of them
    swept: Sequence[str] = ()  # the keys that differ between jobs
    scales: Mapping[str, str] = {}  # linear or log, of the swept keys whose space says so
    total = 0  # jobs, were none to fail
    probes: Sequence[Job] = ()  # jobs that must be valid before any job is started
    search = ""  # the name of the study, of a search
    tolerated = 0  # failed jobs; with more the sweep fails and asks for no further ones

    def begin(self, configs: Sequence[Config], folder: Path, remote: bool) -> Sequence[JobResult]:
        """Start with the probes' configs; the results of an earlier command of this sweep.

        `folder` is the sweep's; `remote` means that jobs may run on other machines. Called once.
        Raises `InputError` before anything is started.
        """
        return ()

    def ask(self) -> Sequence[JobResult]:
        """The next batch of jobs, as unfinished results; empty when all is done."""
        return ()

    def tell(self, results: Sequence[JobResult]) -> None:
        """Receive the results of the batch asked for last."""

    def job_settings(self, number: int) -> Mapping[str, str]:
        """Additional overrides of a job: Hydra key -> value."""
        return {}

    def pruned_at(self) -> Mapping[int, float]:
        """The last validation accuracy of each pruned job, by its number."""
        return {}

    def figures(self, trials: "Sequence[Trial]", title: str) -> dict[str, "Figure"]:
        """The strategy's own figures by their names; there is at least one trial."""
        return {}


class GridStrategy(SweepStrategy):
    """All jobs in one batch."""

    def __init__(self, jobs: Sequence[Job], swept: Sequence[str]) -> None:
        self.probes, self.swept, self.total = jobs, swept, len(jobs)
        self._ahead = [JobResult(number, job, swept) for number, job in enumerate(jobs)]

    def ask(self) -> Sequence[JobResult]:
        asked, self._ahead = self._ahead, []
        return asked


def best(results: Sequence[JobResult]) -> JobResult | None:
    """The job with the highest validation accuracy, if any has one."""
    top = max(results, key=lambda result: result.objective, default=None)
    return top if top and top.objective > -inf else None


def groups(results: Sequence[JobResult]) -> list[SeedGroup[RunResult]]:
    """The completed jobs as groups that differ in their seed only, in the order of the jobs."""
    rows = []
    for result in results:
        settings = result.choices
        seed = settings.pop("seed", "")
        if result.run_result:
            rows.append((settings, seed, result.run_result))
    return group_by_settings(rows)


def data_label(results: Sequence[JobResult]) -> str:
    """The label of the data set that was tested; both labels when a sweep mixed two."""
    names = sorted({result.run_result.data for result in results if result.run_result})
    return " and ".join(names)


def raise_if_many_failed(results: Sequence[JobResult], total: int, tolerated: int) -> None:
    """Raise `SweepError` naming the failed jobs; a warning does where so many are tolerated."""
    failed = [result for result in results if result.state in ("failed", "unfinished")]
    if not failed:
        return
    lines = "\n".join(f"  {result.error}\n    {result.command}" for result in failed)
    missing = total - len(results)
    not_started = f", {missing} more were not started" if missing > 0 else ""
    message = f"{len(failed)} of {len(results)} jobs failed{not_started}:\n{lines}"
    if len(failed) > tolerated or not any(result.run_result for result in results):
        raise SweepError(message)
    logger.warning(message)
