"""Who decides which jobs a sweep runs: a plan. A grid's are known from the start."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mnist_exp.config.schema import Config
from mnist_exp.sweeps.results import Job, JobResult


class SweepStrategy:
    """What a sweep asks of its plan; this one has no jobs."""

    swept: Sequence[str] = ()  # the keys that differ between jobs
    total = 0  # jobs, if none is ever missing
    probes: Sequence[Job] = ()  # jobs that must be valid before any job is started
    tolerated = 0  # failed jobs; with more the sweep has failed, and draws no further ones

    def begin(self, configs: Sequence[Config], folder: Path, remote: bool) -> Sequence[JobResult]:
        """The results an earlier command left; called once, with what became of the probes.

        `folder` is the sweep's; `far` says that jobs may run on other machines. Raises `InputError`
        before anything is started.
        """
        return ()

    def ask(self) -> Sequence[JobResult]:
        """The jobs to run next, as results still to be filled in; none when all is done."""
        return ()

    def tell(self, results: Sequence[JobResult]) -> None:
        """Hears what became of the jobs drawn last."""

    def job_settings(self, number: int) -> Mapping[str, str]:
        """What else a job must be told, by Hydra's own keys."""
        return {}

    def write_figures(self, folder: Path, title: str) -> None:
        """Draws what only this plan knows."""


class GridStrategy(SweepStrategy):
    """All jobs, at once."""

    def __init__(self, jobs: Sequence[Job], swept: Sequence[str]) -> None:
        self.probes, self.swept, self.total = jobs, swept, len(jobs)
        self._drawn = False

    def ask(self) -> Sequence[JobResult]:
        if self._drawn:
            return ()
        self._drawn = True
        return [JobResult(number, job, self.swept) for number, job in enumerate(self.probes)]
