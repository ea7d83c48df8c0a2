"""Strategies: which jobs a sweep runs. A grid's are known from the start."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.config.schema import Config
from mnist_exp.sweeps.results import Job, JobResult

if TYPE_CHECKING:
    from mnist_exp.plots import Figure, Trial


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
