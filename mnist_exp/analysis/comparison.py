"""Comparison of recorded runs: which settings are better, and is the difference significant?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import inf, isnan, nan
from statistics import mean

import numpy as np

from mnist_exp.core.errors import InputError
from mnist_exp.evaluation import significance
from mnist_exp.evaluation.seed_groups import SeedGroup, group_by_settings
from mnist_exp.runs.run import OBJECTIVE, Run

TEST_ACCURACY = "test/accuracy"
NOT_SETTINGS = ("seed", "save_as", "name", "notes", "data.path", "data.fallback")
NOT_SETTINGS_OF = ("tags.", "tracking.", "report.")
ALPHA = 0.05  # the significance level


@dataclass(frozen=True, eq=False)
class Pair:
    """Two groups and the test of their difference; `a` has the higher test accuracy."""

    a: SeedGroup[Run]
    b: SeedGroup[Run]
    difference: float  # of the test accuracy over shared seeds or images; NaN if not tested
    p: float  # corrected by Holm over all pairs of the comparison; NaN if not tested
    n: str  # the number of seeds or images
    test: str  # its name, or why there was none

    @property
    def is_significant(self) -> bool:
        """Whether chance is an unlikely explanation of the difference."""
        return self.p < ALPHA

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if isnan(self.p):
            return f"{self.a.name} and {self.b.name}: not tested, {self.test}"
        chance = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.2g}"
        evidence = f"{100 * self.difference:+.2f} points, {chance}, {self.n}"
        if self.is_significant:
            return f"{self.a.name} beats {self.b.name}: {evidence}"
        return f"{self.a.name} and {self.b.name}: no difference shown ({evidence})"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Groups with the same test images, the best validation accuracy first, and every pair."""

    data: str  # the data set's name
    groups: Sequence[SeedGroup[Run]]
    pairs: Sequence[Pair]
    notes: Sequence[str]  # caveats for the reader

    @cached_property
    def agreement(self) -> np.ndarray:
        """The mean share (g, g) of test images on which runs of two groups predict the same digit.

        On the diagonal over the pairs of runs of one group; NaN for a single run.
        """
        predictions = [
            np.stack([run.evaluation().predictions for run in group.runs]) for group in self.groups
        ]
        shares = np.full((len(predictions), len(predictions)), np.nan)
        for i, a in enumerate(predictions):
            for j, b in enumerate(predictions[: i + 1]):
                same = (a[:, None] == b[None]).mean(axis=2)
                cells = same[~np.eye(len(a), dtype=bool)] if i == j else same
                shares[i, j] = shares[j, i] = cells.mean() if cells.size else np.nan
        return shares


def compare(runs: Sequence[Run], by: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each data set the runs were tested on, the one with most runs first.

    `runs` are sorted latest first. A group is the runs that differ in their seed only, or that
    agree in the params `by`. Raises `InputError` for an unknown param.
    """
    known = {param for run in runs for param in run.params}
    for param in by:
        if param not in known:
            raise InputError(
                f"--by {param}: no run has such a param; they have {', '.join(sorted(known))}"
            )
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        if TEST_ACCURACY in run.metrics:
            by_data.setdefault(run.tags["data.digest"], []).append(run)
    digests = sorted(by_data, key=lambda digest: -len(by_data[digest]))
    return [_compare(by_data[digest], by) for digest in digests]


def _compare(runs: Sequence[Run], by: Sequence[str]) -> Comparison:
    latest: dict[tuple[object, ...], Run] = {}
    for run in runs:
        latest.setdefault((run.params["seed"], *_settings(run).items()), run)
    shared = [_settings(run, by) for run in latest.values()]
    seeds = [run.params["seed"] for run in latest.values()]
    groups = group_by_settings(zip(shared, seeds, latest.values(), strict=True))
    names = _names([group.settings for group in groups])
    groups = [replace(group, name=name) for group, name in zip(groups, names, strict=True)]
    groups.sort(key=_rank)
    return Comparison(
        data=runs[0].tags["data.name"],
        groups=groups,
        pairs=_holm_corrected([_pair(a, b) for a, b in combinations(groups, 2)]),
        notes=list(_notes(groups, len(runs) - len(latest), by)),
    )


def _settings(run: Run, by: Sequence[str] = ()) -> dict[str, str]:
    """The params `by`, sorted; without them all that the result depends on except the seed."""
    if by:
        return {param: run.params.get(param, "none") for param in sorted(by)}
    return {
        param: value
        for param, value in sorted(run.params.items())
        if param not in NOT_SETTINGS and not param.startswith(NOT_SETTINGS_OF)
    }


def _rank(group: SeedGroup[Run]) -> tuple[float, float]:
    """Sort by mean validation accuracy, the best first and groups without one last."""
    validation, test = group.mean(OBJECTIVE), group.mean(TEST_ACCURACY)
    return (inf if isnan(validation) else -validation, -test)


def _names(groups: Sequence[Mapping[str, str]]) -> list[str]:
    """For each group's settings the model's name, and what differs among groups of that model."""
    names = []
    for settings in groups:
        model = settings.get("model.name", "")
        rivals = [other for other in groups if other.get("model.name", "") == model]
        varied = [k for k, v in settings.items() if any(other.get(k, v) != v for other in rivals)]
        varied = varied or [k for k in settings if any(k not in other for other in rivals)]
        parts = [model, *(f"{k}={settings[k]}" for k in varied if k != "model.name")]
        names.append(" ".join(filter(None, parts)) or ", ".join(map("=".join, settings.items())))
    return names


def _pair(a: SeedGroup[Run], b: SeedGroup[Run]) -> Pair:
    """The pair with its uncorrected p-value: over shared seeds, else over two runs' images."""
    a, b = sorted((a, b), key=lambda group: -group.mean(TEST_ACCURACY))
    scores_a, scores_b = a.by_seed(TEST_ACCURACY), b.by_seed(TEST_ACCURACY)
    shared = [seed for seed in scores_a if seed in scores_b]
    if len(shared) > 1:
        differences = [scores_a[seed] - scores_b[seed] for seed in shared]
        if mean(differences) < 0:  # over the shared seeds `b` is better
            a, b, differences = b, a, [-difference for difference in differences]
        p = significance.paired_t(differences)
        return Pair(a, b, mean(differences), p, f"n = {len(shared)} seeds", "paired t-test")
    if len(a.runs) > 1 or len(b.runs) > 1:
        few = "only one seed" if shared else "no seeds"
        return Pair(a, b, nan, nan, "", f"they share {few}: run both with the same ones")
    of_a, of_b = a.runs[0].evaluation(), b.runs[0].evaluation()
    only_a = int((of_a.correct & ~of_b.correct).sum())
    only_b = int((of_b.correct & ~of_a.correct).sum())
    p = significance.mcnemar(only_a, only_b)
    difference = of_a.accuracy - of_b.accuracy
    if difference < 0:
        a, b, difference = b, a, -difference
    return Pair(a, b, difference, p, f"one run each on {of_a.n:,} images", "exact McNemar test")


def _holm_corrected(pairs: Sequence[Pair]) -> list[Pair]:
    tested = [pair.p for pair in pairs if not isnan(pair.p)]
    corrected = iter(significance.holm(tested))
    return [pair if isnan(pair.p) else replace(pair, p=next(corrected)) for pair in pairs]


def _notes(groups: Sequence[SeedGroup[Run]], repeats: int, by: Sequence[str]) -> Iterator[str]:
    runs = [run for group in groups for run in group.runs]
    if any(run.tags["data.name"] == "mnist5k" for run in runs):
        yield "These scores are of the 5,000 bundled digits and do not compare with full MNIST's."
    if repeats:
        yield f"{repeats} repeats of the same settings and seed are left out: they are no evidence."
    for group in groups:
        if by and len(group.runs) > group.n:
            first = _settings(group.runs[0])
            settings = [item for run in group.runs for item in _settings(run).items()]
            varied = sorted({param for param, value in settings if value != first.get(param)})
            yield (
                f"{group.name} holds {len(group.runs)} runs that also differ in "
                f"{', '.join(varied)}; each seed counts once, with their mean."
            )
    machines = {(run.tags.get("cpu"), run.tags.get("gpu"), run.tags.get("threads")) for run in runs}
    if len(machines) > 1:
        yield f"The runs are from {len(machines)} kinds of machine: their seconds do not compare."
    commits = {run.tags.get("mlflow.source.git.commit", "")[:7] for run in runs} - {""}
    if len(commits) > 1:
        names = ", ".join(sorted(commits))
        yield f"The runs were made by {len(commits)} commits of the code: {names}."
    if len(groups) == 1:
        yield "There is one group only: runs with another model or optimizer give it company."
    elif any(group.n == 1 for group in groups):
        yield (
            "A group of one run speaks for that model, not for its settings: add seeds with "
            "-m 'seed=range(0,5)'."
        )
