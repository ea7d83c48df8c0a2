"""Groups of runs that differ only in the seed, confidence intervals and significance tests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, isfinite, isnan, nan, sqrt
from statistics import NormalDist, mean, stdev
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-12  # accuracies that differ by less differ by rounding only
MAX_SEEDS = 100  # that are worth a hint


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % score interval (low, high), both in [0, 1], of the proportion `correct / n`.

    Unlike the textbook p ± 1.96 s it never leaves [0, 1] and keeps its coverage near 1, where MNIST
    accuracies are. Source: Wilson (1927), "Probable inference, the law of succession, and
    statistical inference", JASA 22(158), pp. 209-212; equation 4 of Brown, Cai and DasGupta
    (2001), "Interval estimation for a binomial proportion", Statistical Science 16(2).
    """
    z = NormalDist().inv_cdf(0.975)
    share = correct / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17 or cross the bound.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == n else centre + half
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """The two-sided exact p-value that A and B are equally accurate.

    `only_a` images are classified correctly by A alone, `only_b` by B alone.
    Source: McNemar (1947), Psychometrika 12(2); exact form: Edwards (1948), Psychometrika 13(3).
    """
    from scipy.special import bdtr  # scipy.stats takes a second to import

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def welch_t(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value that two samples, of two or more values each, have the same mean.

    Source: Welch (1947), "The generalization of 'Student's' problem when several different
    population variances are involved", Biometrika 34(1-2).
    """
    of_a, of_b = (float(np.var(x, ddof=1)) / len(x) for x in (a, b))
    error = sqrt(of_a + of_b)
    shares = of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1)
    freedom = error**4 / shares if error > TOLERANCE else nan
    return _t_test(float(np.mean(a) - np.mean(b)), error, freedom, comb(len(a) + len(b), len(a)))


def single_case_t(case: float, sample: Sequence[float]) -> float:
    """The two-sided p-value that `case` is another value of the population of two or more others.

    Source: Crawford and Howell (1998), "Comparing an individual's test score against norms derived
    from small samples", The Clinical Neuropsychologist 12(4).
    """
    n = len(sample)
    error = float(np.std(sample, ddof=1)) * sqrt((n + 1) / n)
    return _t_test(case - float(np.mean(sample)), error, n - 1, n + 1)


def _t_test(difference: float, error: float, freedom: float, arrangements: int) -> float:
    """The two-sided p-value of difference / error.

    Equal values have no standard error: then the permutation test gives 2 / `arrangements`.
    """
    if error < TOLERANCE:
        return 1.0 if abs(difference) < TOLERANCE else min(1.0, 2 / arrangements)
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(difference) / error))


def seeds_to_show(
    difference: float, sds: tuple[float, float], alpha: float, power: float = 0.8
) -> int | None:
    """How many seeds of each Welch's test needs to show this difference with this power.

    `sds` are the standard deviations over seeds, not both 0. None if more than `MAX_SEEDS`.
    Source: Cohen (1988), "Statistical power analysis for the behavioral sciences", chapter 2.
    """
    from scipy.special import nctdtr, stdtrit

    a, b = (sd**2 for sd in sds)
    n = np.arange(2, MAX_SEEDS + 1)
    freedom = (n - 1) * (a + b) ** 2 / (a**2 + b**2)
    effect = abs(difference) / np.sqrt((a + b) / n)
    reached = 1 - nctdtr(freedom, effect, stdtrit(freedom, 1 - alpha / 2))
    return next((int(count) for count in n[reached >= power]), None)


def crossed_interval(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float]:
    """The 95 % interval (low, high) of the mean of `a` (seeds, images) less that of `b`.

    It counts both the seeds and the images, which are the same in `a` and `b`: the variance of the
    difference over resampled seeds plus that over resampled images. A single seed is taken to vary
    like those of the other; of two single seeds only the images are counted.
    Source: Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), here in
    closed form; Student's quantile by Satterthwaite (1946), Biometrics Bulletin 2(6).
    """
    from scipy.special import stdtrit

    of_seeds = [float(np.var(x.mean(axis=1), ddof=1)) for x in (a, b) if len(x) > 1] or [0.0]
    first, second = of_seeds[0] / len(a), of_seeds[-1] / len(b)
    variance = first + second + float(np.var(a.mean(axis=0) - b.mean(axis=0))) / a.shape[1]
    if len(of_seeds) == 2:
        shares = first**2 / (len(a) - 1) + second**2 / (len(b) - 1)
    else:
        shares = (first + second) ** 2 / max(1, len(a) - 1, len(b) - 1)
    freedom = variance**2 / shares if shares else 1e9
    half = stdtrit(freedom, 0.975) * sqrt(variance)
    difference = float(a.mean() - b.mean())
    return difference - float(half), difference + float(half)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for multiple comparisons, in the same order.

    With each tested at 0.05, the chance of any false positive among them is at most 5 %.
    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6(2).
    """
    ascending = np.argsort(p_values)
    raised = np.array(p_values)[ascending] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[ascending] = np.maximum.accumulate(raised).clip(max=1)
    return [*map(float, corrected)]


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
        Source: Student (1908), "The probable error of a mean", Biometrika 6(1).
        """
        values = list(self.by_seed(metric).values())
        if len(values) < 2:
            return self.mean(f"{metric}_low"), self.mean(f"{metric}_high")
        from scipy.special import stdtrit

        half = float(stdtrit(len(values) - 1, 0.975) * stdev(values) / sqrt(len(values)))
        return max(0.0, mean(values) - half), min(1.0, mean(values) + half)


def group_by_settings(runs: Iterable[tuple[Mapping[str, str], str, R]]) -> list[SeedGroup[R]]:
    """A group for each distinct settings, in order of appearance, from (settings, seed, run)."""
    members: dict[frozenset[tuple[str, str]], list[tuple[Mapping[str, str], str, R]]] = {}
    for settings, seed, run in runs:
        members.setdefault(frozenset(settings.items()), []).append((settings, seed, run))
    return [
        SeedGroup(rows[0][0], [run for *_, run in rows], [seed for _, seed, _ in rows])
        for rows in members.values()
    ]
