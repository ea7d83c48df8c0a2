"""Is one group of runs better? The test that fits two groups, and what would settle it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from mnist_exp.evaluation import significance
from mnist_exp.evaluation.significance import SeedGroup
from mnist_exp.runs.run import Run

TEST_ACCURACY = "test/accuracy"
ALPHA = 0.05  # the significance level
Correct = Mapping[str, NDArray[np.bool_]]  # by run id: whether each test image was read right


@dataclass(frozen=True, eq=False)
class Pair:
    """Two groups and the test of their difference; `a` has the higher test accuracy."""

    a: SeedGroup[Run]
    b: SeedGroup[Run]
    interval: tuple[float, float]  # 95 %, of the difference; NaN where predictions are missing
    p: float  # corrected by Holm over all pairs of the comparison; NaN if not tested
    n: str  # the number of seeds or images
    test: str  # its name, or why there was none
    advice: str = ""  # what to do for an answer

    @property
    def difference(self) -> float:
        """Of the mean test accuracies."""
        return self.a.mean(TEST_ACCURACY) - self.b.mean(TEST_ACCURACY)

    @property
    def is_significant(self) -> bool:
        """Whether chance is an unlikely explanation of the difference."""
        return self.p < ALPHA

    @property
    def verdict(self) -> str:
        """The result in one sentence; of two single runs it says that it is about these."""
        a, b = self.a.name, self.b.name
        if isnan(self.p):
            return f"{a} and {b}: not tested, {self.test}"
        if self.a.n == self.b.n == 1:
            a, b = f"this run of {a}", f"this run of {b}"
        low, high = (100 * end for end in self.interval)
        interval = "" if isnan(low) else f" ({low:+.2f} to {high:+.2f})"
        chance = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.2g}"
        evidence = f"{100 * self.difference:+.2f} points{interval}, {chance}, {self.n}"
        result = f"{a} beats {b}"
        if not self.is_significant:
            result = f"{a} against {b}: no difference shown"
        advice = f"; {self.advice}" if self.advice else ""
        return f"{result}{':' if self.is_significant else ','} {evidence}{advice}"


def judge(
    pairs: Iterable[tuple[SeedGroup[Run], SeedGroup[Run]]], first: SeedGroup[Run], correct: Correct
) -> list[Pair]:
    """The pairs with their verdicts: those of `first`, then the clearest.

    A run that is missing in `correct` leaves its group without intervals.
    """
    tested = [_tested(a, b, correct) for a, b in pairs]
    corrected = iter(significance.holm([pair.p for pair in tested if not isnan(pair.p)]))
    tested = [pair if isnan(pair.p) else replace(pair, p=next(corrected)) for pair in tested]
    # Holm's level for the clearest of the questions that are open.
    alpha = ALPHA / max(1, sum(pair.p >= ALPHA for pair in tested))
    advised = [replace(pair, advice=_advice(pair, alpha)) for pair in tested]
    return sorted(advised, key=lambda pair: (first not in (pair.a, pair.b), isnan(pair.p), pair.p))


def _tested(a: SeedGroup[Run], b: SeedGroup[Run], correct: Correct) -> Pair:
    """The pair with its uncorrected p-value."""
    a, b = sorted((a, b), key=lambda group: -group.mean(TEST_ACCURACY))
    interval = nan, nan
    if all(run.run_id in correct for run in (*a.runs, *b.runs)):
        interval = significance.crossed_interval(_by_seed(a, correct), _by_seed(b, correct))
    pair = Pair(a, b, interval, nan, "", "")
    scores = [[*group.by_seed(TEST_ACCURACY).values()] for group in (a, b)]
    few, many = sorted(scores, key=len)
    if len(few) > 1:
        n = f"{len(scores[0])} seeds each"
        if len(few) != len(many):
            n = f"{len(scores[0])} and {len(scores[1])} seeds"
        return replace(pair, p=significance.welch_t(*scores), n=f"n = {n}", test="Welch's t-test")
    if len(many) > 1:
        p = significance.single_case_t(few[0], many)
        n = f"n = {len(many)} seeds against one run"
        if scores[0] is few:
            n = f"n = one run against {len(many)} seeds"
        return replace(pair, p=p, n=n, test="t-test of a single case")
    if isnan(interval[0]):
        return replace(pair, test="the predictions of a run are missing")
    if len(a.runs) + len(b.runs) > 2:
        return replace(pair, test="all runs have one seed: train 3 seeds of each")
    of_a, of_b = (correct[group.runs[0].run_id] for group in (a, b))
    p = significance.mcnemar(int((of_a & ~of_b).sum()), int((of_b & ~of_a).sum()))
    return replace(pair, p=p, n=f"{len(of_a):,} images", test="exact McNemar test")


def _by_seed(group: SeedGroup[Run], correct: Correct) -> NDArray[np.floating]:
    """The share of each seed's runs that read each image right, (seeds, images)."""
    rows: dict[str, list[NDArray[np.bool_]]] = {}
    for seed, run in zip(group.seeds, group.runs, strict=True):
        rows.setdefault(seed, []).append(correct[run.run_id])
    return np.stack([np.mean(repeats, axis=0) for repeats in rows.values()])


def _advice(pair: Pair, alpha: float) -> str:
    """What would settle an open question; two single runs always leave that of their recipes."""
    if isnan(pair.p):
        return ""
    if pair.a.n == pair.b.n == 1:
        return "train 3 seeds to compare the recipes"
    sds = [group.sd(TEST_ACCURACY) for group in (pair.a, pair.b) if group.n > 1]
    if pair.is_significant or not any(sds):
        return ""
    needed = significance.seeds_to_show(pair.difference, (sds[0], sds[-1]), alpha)
    if needed is None:
        return f"not even {significance.MAX_SEEDS} seeds each would show so small a difference"
    return f"if real, about {needed} seeds each would show it"
