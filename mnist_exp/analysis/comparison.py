"""Which of the recorded settings is better, and whether the difference is more than chance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import inf, isnan, nan
from statistics import mean, stdev

import numpy as np

from mnist_exp.core.errors import InputError
from mnist_exp.evaluation import significance
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.runs.run import OBJECTIVE, Run

SCORE = "test/accuracy"
NO_SETTING = ("seed", "save_as", "data.path", "data.fallback")  # nor `tracking.`: say how, not what
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class SeedGroup:
    """Runs of the same settings, which differ in their seed."""

    name: str
    runs: Sequence[Run]

    def by_seed(self, metric: str) -> dict[str, float]:
        """The metric for each seed, in their order; of several runs with one seed, the mean."""
        values: dict[str, list[float]] = {}
        for run in self.runs:
            if metric in run.metrics:
                values.setdefault(run.params["seed"], []).append(run.metrics[metric])
        return {seed: mean(values[seed]) for seed in sorted(values, key=int)}

    def mean(self, metric: str) -> float:
        """The metric's mean over seeds; NaN when no run has it."""
        values = self.by_seed(metric).values()
        return mean(values) if values else nan

    @property
    def n(self) -> int:
        """How many seeds it has."""
        return len({run.params["seed"] for run in self.runs})

    @property
    def sd(self) -> float:
        """The sample standard deviation of the test accuracy over seeds; NaN for one."""
        return stdev(self.by_seed(SCORE).values()) if self.n > 1 else nan

    @property
    def best(self) -> float:
        """The highest test accuracy, which says more about luck than the mean does."""
        return max(run.metrics[SCORE] for run in self.runs)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the test accuracy: of its mean over seeds, of one run over images.

        Over seeds it is Student's, of one run Wilson's.
        """
        if self.n > 1:
            low, high = significance.t_interval(list(self.by_seed(SCORE).values()))
            return max(0.0, low), min(1.0, high)
        ends = [self.mean(f"{SCORE}_{end}") for end in ("low", "high")]
        return ends[0], ends[1]

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """What each run said about the test images, by run id."""
        return {run.run_id: run.evaluation() for run in self.runs}


@dataclass(frozen=True, eq=False)
class Pair:
    """Two groups side by side, `a` the one with the higher test accuracy."""

    a: SeedGroup
    b: SeedGroup
    difference: float  # of the accuracy, over what both have in common; NaN when nothing is
    p: float  # corrected by Holm over all pairs of the table; NaN when nothing was tested
    n: str  # over how many seeds or images
    test: str  # its name, or why there was none

    @property
    def is_shown(self) -> bool:
        """Whether chance is an unlikely explanation of the difference."""
        return self.p < ALPHA

    @property
    def verdict(self) -> str:
        """The answer in words."""
        if isnan(self.p):
            return f"{self.a.name} and {self.b.name}: not tested, {self.test}"
        chance = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.2g}"
        told = f"{100 * self.difference:+.2f} points, {chance}, {self.n}"
        if self.is_shown:
            return f"{self.a.name} beats {self.b.name}: {told}"
        return f"{self.a.name} and {self.b.name}: no difference shown ({told})"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Groups with the same test images, the best validation accuracy first, and every pair."""

    data: str  # the data set's name
    groups: Sequence[SeedGroup]
    pairs: Sequence[Pair]
    notes: Sequence[str]  # what a reader must know to read the figures rightly

    @cached_property
    def agreement(self) -> np.ndarray:
        """The mean share (g, g) of test images on which a run of one and one of the other agree.

        On the diagonal two seeds of one group; NaN for a single run.
        """
        said = [np.stack([e.predictions for e in g.evaluations.values()]) for g in self.groups]
        shares = np.full((len(said), len(said)), np.nan)
        for i, one in enumerate(said):
            for j, other in enumerate(said[: i + 1]):
                same = (one[:, None] == other[None]).mean(axis=2)
                cells = same[~np.eye(len(one), dtype=bool)] if i == j else same
                shares[i, j] = shares[j, i] = cells.mean() if cells.size else np.nan
        return shares


def compare(runs: Sequence[Run], by: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each data set that the runs were scored on, the one with most runs first.

    Groups are made of the runs that differ in their seed only, or agree `by` these params.
    Raises `InputError` for an unknown param.
    """
    known = {key for run in runs for key in run.params}
    for key in by:
        if key not in known:
            raise InputError(
                f"--by {key}: no run has such a param; they have {', '.join(sorted(known))}"
            )
    sets: dict[str, list[Run]] = {}
    for run in runs:
        if SCORE in run.metrics:
            sets.setdefault(run.tags["data.digest"], []).append(run)
    return [_compare(sets[digest], by) for digest in sorted(sets, key=lambda d: -len(sets[d]))]


def settings(run: Run) -> dict[str, str]:
    """The params that a result depends on, the seed left out."""
    return {
        key: value
        for key, value in run.params.items()
        if key not in NO_SETTING and not key.startswith("tracking.")
    }


def _compare(runs: Sequence[Run], by: Sequence[str]) -> Comparison:
    latest: dict[tuple[object, ...], Run] = {}
    for run in runs:  # the latest come first
        latest.setdefault((run.params["seed"], *sorted(settings(run).items())), run)
    members: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in latest.values():
        chosen = settings(run)
        key = {k: run.params.get(k, "none") for k in by} if by else chosen
        members.setdefault(tuple(sorted(key.items())), []).append(run)
    names = _names([dict(key) for key in members])
    groups = [SeedGroup(name, found) for name, found in zip(names, members.values(), strict=True)]
    groups.sort(key=_rank)
    return Comparison(
        data=runs[0].tags["data.name"],
        groups=groups,
        pairs=_corrected([_pair(a, b) for a, b in combinations(groups, 2)]),
        notes=list(_notes(groups, len(runs) - len(latest), by)),
    )


def _rank(group: SeedGroup) -> tuple[float, float]:
    """Sorts the best mean validation accuracy first, then what was not validated."""
    validation, test = group.mean(OBJECTIVE), group.mean(SCORE)
    return (inf if isnan(validation) else -validation, -test)


def _names(keys: Sequence[Mapping[str, str]]) -> list[str]:
    """The model's name where it is enough, and what else tells the groups of that name apart."""
    names = []
    for key in keys:
        name = key.get("model.name", "")
        rivals = [other for other in keys if other.get("model.name", "") == name]
        varied = [k for k, v in key.items() if any(other.get(k, v) != v for other in rivals)]
        varied = varied or [k for k in key if any(k not in other for other in rivals)]
        parts = [name, *(f"{k}={key[k]}" for k in varied if k != "model.name")]
        names.append(" ".join(filter(None, parts)) or ", ".join(map("=".join, key.items())))
    return names


def _pair(a: SeedGroup, b: SeedGroup) -> Pair:
    """The pair with its own p-value: seeds both have, else the images of two single runs."""
    a, b = sorted((a, b), key=lambda group: -group.mean(SCORE))
    of_a, of_b = a.by_seed(SCORE), b.by_seed(SCORE)
    shared = [seed for seed in of_a if seed in of_b]
    if len(shared) > 1:
        differences = [of_a[seed] - of_b[seed] for seed in shared]
        if mean(differences) < 0:  # over the shared seeds the other one is ahead
            a, b, differences = b, a, [-difference for difference in differences]
        p = significance.paired_t(differences)
        return Pair(a, b, mean(differences), p, f"n = {len(shared)} seeds", "paired t-test")
    if len(a.runs) > 1 or len(b.runs) > 1:
        few = "only one seed" if shared else "no seeds"
        return Pair(a, b, nan, nan, "", f"they share {few}: run both with the same ones")
    one, other = a.runs[0].evaluation(), b.runs[0].evaluation()
    difference = one.accuracy - other.accuracy
    only_a, only_b = (
        int((one.correct & ~other.correct).sum()),
        int((other.correct & ~one.correct).sum()),
    )
    p = significance.mcnemar(only_a, only_b)
    if difference < 0:
        a, b, difference = b, a, -difference
    return Pair(a, b, difference, p, f"one run each on {one.n:,} images", "exact McNemar test")


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    tested = [pair for pair in pairs if not isnan(pair.p)]
    corrected = iter(significance.holm([pair.p for pair in tested]))
    return [pair if isnan(pair.p) else replace(pair, p=next(corrected)) for pair in pairs]


def _notes(groups: Sequence[SeedGroup], repeats: int, by: Sequence[str]) -> Iterator[str]:
    runs = [run for group in groups for run in group.runs]
    if any(run.tags["data.name"] == "mnist5k" for run in runs):
        yield "These scores are of the 5,000 bundled digits and do not compare with full MNIST's."
    if repeats:
        yield f"{repeats} repeats of the same settings and seed are left out: they are no evidence."
    for group in groups:
        if by and len(group.runs) > group.n:
            varied = sorted(
                {
                    key
                    for run in group.runs
                    for key, value in settings(run).items()
                    if value != settings(group.runs[0]).get(key)
                }
            )
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
