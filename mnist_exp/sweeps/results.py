"""What became of a sweep's jobs, one by one and over their seeds."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import mean, stdev

from mnist_exp.core.console import redact
from mnist_exp.core.layout import RESULT, TRACEBACK
from mnist_exp.runs.folder import RunFolder
from mnist_exp.runs.result import RunResult
from mnist_exp.runs.run import OBJECTIVE

REPORTED = (OBJECTIVE, "test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/loss")

Job = tuple[str, ...]  # its overrides


@dataclass(frozen=True)
class JobResult:
    """What became of one job: an outcome, an error, or neither when it was never finished."""

    number: int
    job: Job
    swept: Sequence[str]  # the keys that differ between jobs
    outcome: RunResult | None = None
    error: str = ""
    reused: bool = False  # the outcome is that of an earlier run
    pruned: bool = False  # stopped by a search as not promising; `error` says when

    @property
    def state(self) -> str:
        """One word for it."""
        if self.outcome:
            return "reused" if self.reused else "finished"
        if self.pruned:
            return "pruned"
        return "failed" if self.error else "unfinished"

    @property
    def choices(self) -> dict[str, str]:
        """The swept keys and this job's values."""
        values = dict(override.lstrip("+").split("=", 1) for override in self.job)
        return {key: values.get(key, "") for key in self.swept}

    @property
    def command(self) -> str:
        """What runs this job alone; the sweep's preset would run them all."""
        alone = [override for override in self.job if not override.startswith("sweep=")]
        return redact(f"python -m mnist_exp.run {shlex.join(alone)}")

    @property
    def score(self) -> float:
        """What the sweep is ranked by; the last place for a job without an outcome."""
        return self.outcome.metrics.get(OBJECTIVE, -inf) if self.outcome else -inf

    def collect(self, folder: Path, since: float) -> "JobResult":
        """Filled in from what the job left in the sweep's `folder` after that time, if it ended."""
        if self.state != "unfinished":
            return self
        for place in (folder / str(self.number), *folder.glob(f"{self.number}-*")):
            for path in (place / RESULT, place / TRACEBACK):
                if path.exists() and path.stat().st_mtime >= since:
                    if path.name == RESULT:
                        return replace(self, outcome=RunFolder(place).result())
                    return replace(self, error=path.read_text().strip().splitlines()[-1])
        return self


@dataclass(frozen=True)
class SeedGroup:
    """Jobs that differ in their seed only, at least one of them with an outcome."""

    choices: Mapping[str, str]  # the swept keys without the seed
    scores: Mapping[str, Sequence[float]]  # of each figure that every job of the group has

    def spread(self, figure: str) -> tuple[float, float] | None:
        """The mean and the sample standard deviation (NaN for one seed) of a figure."""
        values = self.scores.get(figure, ())
        if not values:
            return None
        return mean(values), stdev(values) if len(values) > 1 else float("nan")

    @property
    def n(self) -> int:
        """How many seeds it has."""
        return max((len(values) for values in self.scores.values()), default=0)


def best(results: Sequence[JobResult]) -> JobResult | None:
    """The job with the highest validation accuracy, if any has one."""
    top = max(results, key=lambda result: result.score, default=None)
    return top if top and top.score > -inf else None


def groups(results: Sequence[JobResult]) -> list[SeedGroup]:
    """The results over their seeds, in the order of the jobs."""
    members: dict[tuple[tuple[str, str], ...], list[RunResult]] = {}
    for result in results:
        if result.outcome:
            key = tuple((k, v) for k, v in result.choices.items() if k != "seed")
            members.setdefault(key, []).append(result.outcome)
    return [
        SeedGroup(
            dict(key),
            {
                figure: [outcome.metrics[figure] for outcome in outcomes]
                for figure in REPORTED
                if all(figure in outcome.metrics for outcome in outcomes)
            },
        )
        for key, outcomes in members.items()
    ]


def data_label(results: Sequence[JobResult]) -> str:
    """The data set the scores are of; both when a sweep mixed them."""
    names = sorted({result.outcome.data for result in results if result.outcome})
    return " and ".join(names)
