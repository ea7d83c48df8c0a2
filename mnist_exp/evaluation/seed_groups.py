"""Metrics over seeds: mean, sample standard deviation, best and 95 % interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from statistics import mean, stdev
from typing import Generic, Protocol, TypeVar

from mnist_exp.evaluation.significance import t_interval


class HasMetrics(Protocol):
    """A run with its final metrics."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics by name."""


R = TypeVar("R", bound=HasMetrics)


@dataclass(frozen=True, eq=False)
class SeedGroup(Generic[R]):
    """Runs of the same settings; several runs of one seed count once, with their mean."""

    settings: Mapping[str, str]  # which all runs share
    runs: Sequence[R]
    seeds: Sequence[str]  # one per run
    name: str = ""

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(set(self.seeds))

    def by_seed(self, metric: str) -> dict[str, float]:
        """The metric of each seed; empty when no run has it."""
        values: dict[str, list[float]] = {}
        for seed, run in zip(self.seeds, self.runs, strict=True):
            if metric in run.metrics:
                values.setdefault(seed, []).append(run.metrics[metric])
        return {seed: mean(repeats) for seed, repeats in values.items()}

    def mean(self, metric: str) -> float:
        """The mean over seeds; NaN when no run has the metric."""
        values = self.by_seed(metric).values()
        return mean(values) if values else nan

    def sd(self, metric: str) -> float:
        """The sample standard deviation over seeds; NaN for fewer than two."""
        values = self.by_seed(metric).values()
        return stdev(values) if len(values) > 1 else nan

    def mean_and_sd(self, metric: str) -> str:
        """The two in percent, such as `97.58 ± 0.16`; `none` when no run has the metric."""
        mean, sd = 100 * self.mean(metric), 100 * self.sd(metric)
        if isnan(mean):
            return "none"
        return f"{mean:.2f}" + (f" ± {sd:.2f}" if isfinite(sd) else "")

    def best(self, metric: str) -> float:
        """The highest value of a run, which measures luck more than the mean does."""
        return max(run.metrics[metric] for run in self.runs)

    def interval(self, metric: str) -> tuple[float, float]:
        """The 95 % interval (low, high) of an accuracy, in [0, 1].

        Student's interval of the mean over seeds; for a single seed the run's own over images,
        which is Wilson's, from its metrics `<metric>_low` and `<metric>_high`.
        """
        values = list(self.by_seed(metric).values())
        if len(values) < 2:
            return self.mean(f"{metric}_low"), self.mean(f"{metric}_high")
        low, high = t_interval(values)
        return max(0.0, low), min(1.0, high)


def group_by_settings(runs: Iterable[tuple[Mapping[str, str], str, R]]) -> list[SeedGroup[R]]:
    """A group for each distinct settings, in order of appearance, from (settings, seed, run)."""
    members: dict[frozenset[tuple[str, str]], list[tuple[Mapping[str, str], str, R]]] = {}
    for settings, seed, run in runs:
        members.setdefault(frozenset(settings.items()), []).append((settings, seed, run))
    return [
        SeedGroup(rows[0][0], [run for *_, run in rows], [seed for _, seed, _ in rows])
        for rows in members.values()
    ]
