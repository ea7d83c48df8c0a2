"""What became of a sweep's jobs, one by one and over their seeds."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import mean, stdev

from mnist_exp.config.compose import without_password
from mnist_exp.runs.result import OUTCOME, Outcome
from mnist_exp.runs.run import RANKED
from mnist_exp.tracking.open_run import TRACEBACK

FIGURES = (RANKED, "test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/loss")

Job = tuple[str, ...]  # its overrides


@dataclass(frozen=True)
class Result:
    """What became of one job: an outcome, an error, or neither when it was never finished."""

    number: int
    job: Job
    swept: Sequence[str]  # the keys that differ between jobs
    outcome: Outcome | None = None
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
        return without_password(f"python -m mnist_exp.run {shlex.join(alone)}")

    @property
    def score(self) -> float:
        """What the sweep is ranked by; the last place for a job without an outcome."""
        return self.outcome.metrics.get(RANKED, -inf) if self.outcome else -inf

    def as_left(self, folder: Path, since: float) -> "Result":
        """Filled in from what the job left in the sweep's `folder` after that time, if it ended."""
        if self.state != "unfinished":
            return self
        for place in (folder / str(self.number), *folder.glob(f"{self.number}-*")):
            for path in (place / OUTCOME, place / TRACEBACK):
                if path.exists() and path.stat().st_mtime >= since:
                    if path.name == OUTCOME:
                        return replace(self, outcome=Outcome.load(place))
                    return replace(self, error=path.read_text().strip().splitlines()[-1])
        return self


@dataclass(frozen=True)
class Group:
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


def best(results: Sequence[Result]) -> Result | None:
    """The job with the highest validation accuracy, if any has one."""
    top = max(results, key=lambda result: result.score, default=None)
    return top if top and top.score > -inf else None


def groups(results: Sequence[Result]) -> list[Group]:
    """The results over their seeds, in the order of the jobs."""
    members: dict[tuple[tuple[str, str], ...], list[Outcome]] = {}
    for result in results:
        if result.outcome:
            key = tuple((k, v) for k, v in result.choices.items() if k != "seed")
            members.setdefault(key, []).append(result.outcome)
    return [
        Group(
            dict(key),
            {
                figure: [outcome.metrics[figure] for outcome in outcomes]
                for figure in FIGURES
                if all(figure in outcome.metrics for outcome in outcomes)
            },
        )
        for key, outcomes in members.items()
    ]


def data_label(results: Sequence[Result]) -> str:
    """The data set the scores are of; both when a sweep mixed them."""
    names = sorted({result.outcome.data for result in results if result.outcome})
    return " and ".join(names)
