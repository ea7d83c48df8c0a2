"""Comparison of recorded runs: which settings are better, and is the difference significant?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import inf, isnan

import numpy as np
from numpy.typing import NDArray

from mnist_exp.analysis.verdicts import TEST_ACCURACY, Pair, judge
from mnist_exp.config.messages import nearest
from mnist_exp.core.classes import noun
from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.significance import SeedGroup, group_by_settings
from mnist_exp.runs.names import label, short_keys
from mnist_exp.runs.run import EXTENDED_AFTER_TAG, OBJECTIVE, Run

NOT_SETTINGS = (
    "seed", "save_as", "name", "notes", "data.path", "data.test_path", "data.fallback",
)  # fmt: skip
NOT_SETTINGS_OF = ("tags.", "tracking.", "report.", "callbacks.tensorboard.")
MAX_ALL_PAIRS = 6  # groups; of more each is tested against one
MAX_NAMED = 4  # keys that differ are all named where there are no more


@dataclass(frozen=True, eq=False)
class Comparison:
    """Groups with the same test images, the best validation accuracy first, and tested pairs."""

    data: str  # the data set's name
    groups: Sequence[SeedGroup[Run]]
    pairs: Sequence[Pair]
    notes: Sequence[str]  # caveats for the reader
    predictions: Mapping[str, NDArray[np.uint8]]  # of the test images, by run id

    @property
    def noun(self) -> str:
        """'digit' or 'class', as the runs predict."""
        return noun(self.groups[0].runs[0].classes)

    @cached_property
    def agreement(self) -> np.ndarray:
        """The mean share (g, g) of test images on which runs of two groups predict the same class.

        On the diagonal over the pairs of runs of one group; NaN for a single run, or without
        predictions.
        """
        runs = [
            [self.predictions[run.run_id] for run in group.runs if run.run_id in self.predictions]
            for group in self.groups
        ]
        shares = np.full((len(runs), len(runs)), np.nan)
        for i, a in enumerate(runs):
            for j, b in enumerate(runs[: i + 1]):
                same = [(x == y).mean() for x in a for y in b if x is not y]
                shares[i, j] = shares[j, i] = np.mean(same) if same else np.nan
        return shares


def compare(runs: Sequence[Run], by: Sequence[str] = (), baseline: str = "") -> list[Comparison]:
    """A comparison for each data set the runs were tested on, the one with most runs first.

    `runs` are sorted latest first. A group is the runs that differ in their seed only, or that
    agree in the params `by`. Every two groups are tested, or each against the one named `baseline`;
    of more than 6 each against the best by validation. Raises `InputError` for an unknown param or
    baseline.
    """
    known = sorted({param for run in runs for param in run.params})
    for param in by:
        if param not in known:
            raise InputError(
                f"{param}: no run has such a param{nearest(param, known)}; "
                f"they have {', '.join(known)}"
            )
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        if TEST_ACCURACY in run.metrics:
            by_data.setdefault(run.tags["data.digest"], []).append(run)
    digests = sorted(by_data, key=lambda digest: -len(by_data[digest]))
    made = [_compare(by_data[digest], by, baseline) for digest in digests]
    alike = [comparison.data for comparison in made]
    made = [
        replace(each, data=f"{each.data} {digest[:6]}") if alike.count(each.data) > 1 else each
        for each, digest in zip(made, digests, strict=True)
    ]
    names = dict.fromkeys(group.name for comparison in made for group in comparison.groups)
    if baseline and baseline not in names:
        raise InputError(
            f"--baseline {baseline}: no group has this name; there are {', '.join(names)}"
        )
    return made


def _compare(runs: Sequence[Run], by: Sequence[str], baseline: str) -> Comparison:
    latest: dict[tuple[object, ...], Run] = {}
    for run in runs:
        latest.setdefault((run.params["seed"], *_settings(run).items()), run)
    groups = group_by_settings((_settings(r, by), r.params["seed"], r) for r in latest.values())
    names = _names([group.settings for group in groups])
    groups = [replace(group, name=name) for group, name in zip(groups, names, strict=True)]
    groups.sort(key=_rank)
    predictions, correct = _predictions(latest.values())
    notes = [*_notes(groups, len(runs) - len(latest), by)]
    if missing := [str(run) for run in latest.values() if run.run_id not in predictions]:
        notes.append(f"The predictions of {', '.join(missing)} cannot be read: no intervals.")
    reference = next((group for group in groups if group.name == baseline), None)
    if not reference and len(groups) > MAX_ALL_PAIRS and not isnan(groups[0].mean(OBJECTIVE)):
        reference = groups[0]
        notes.append(
            f"Of {len(groups)} groups each is tested against {reference.name}, the best by "
            "validation; --baseline names another."
        )
    pairs = [*combinations(groups, 2)]
    if reference:
        pairs = [pair for pair in pairs if reference in pair]
    judged = judge(pairs, reference or groups[0], correct)
    return Comparison(runs[0].tags["data.name"], groups, judged, notes, predictions)


def _predictions(
    runs: Iterable[Run],
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.bool_]]]:
    """The predictions of each run that still has them, by its id, and which of them are correct."""
    predictions, correct = {}, {}
    for run in runs:
        with suppress(InputError):
            evaluation = run.evaluation()
            predictions[run.run_id] = evaluation.predictions.astype(np.uint8)
            correct[run.run_id] = evaluation.correct
    return predictions, correct


def _settings(run: Run, by: Sequence[str] = ()) -> dict[str, str]:
    """The params `by`, sorted; without them all that the result depends on except the seed.

    An extended run always has the epochs that it took over, too: it repeats no other run.
    """
    own = {tag: value for tag, value in run.tags.items() if tag == EXTENDED_AFTER_TAG}
    if by:
        return {param: run.params.get(param, "none") for param in sorted(by)} | own
    return own | {
        param: value
        for param, value in sorted(run.params.items())
        if param not in NOT_SETTINGS and not param.startswith(NOT_SETTINGS_OF)
    }


def _rank(group: SeedGroup[Run]) -> tuple[float, str]:
    """Sort by mean validation accuracy, the best first and groups without one last, by name."""
    validation = group.mean(OBJECTIVE)
    return (inf if isnan(validation) else -validation, group.name)


def _names(groups: Sequence[Mapping[str, str]]) -> list[str]:
    """For each group's settings the model's name, and what tells it from the others.

    These are values by which groups of one model are told apart, of all groups then; those of a few
    other keys that differ; and a limit of the training images, where not all have it.
    """
    differing = {key for group in groups for key in group if _distinct(groups, [key]) > 1}
    others = {k for k in differing if not k.startswith("model.") and not _follows(k, groups)}
    named = others if len(others) <= MAX_NAMED else others & {"data.limit"}
    telling = {}
    for model in {settings.get("model.name", "") for settings in groups}:
        rivals = [other for other in groups if other.get("model.name", "") == model]
        telling[model] = _telling_keys(rivals)
        named |= {key for key in telling[model] if not key.startswith("model.")}
    short, exact = [], []
    for settings in groups:
        model = settings.get("model.name", "")
        shown = sorted({*telling[model], *named} & settings.keys(), key=_place)
        told = {key.removesuffix(".name"): settings[key] for key in shown if key != "model.name"}
        alone = "" if model else ", ".join(map("=".join, settings.items()))
        short.append(" ".join(filter(None, [model, label(told)])) or alone)
        pairs = zip(short_keys([*told]), told.values(), strict=True)
        exact.append(" ".join(filter(None, [model, *map("=".join, pairs)])))
    # Three digits of a value may not tell two apart.
    return [s if short.count(s) == 1 else e for s, e in zip(short, exact, strict=True)]


def _follows(key: str, groups: Sequence[Mapping[str, str]]) -> bool:
    """Whether the key's value follows from the choice of its group, as an optimizer's beta does."""
    choice = f"{key.partition('.')[0]}.name"
    return key != choice and _distinct(groups, [choice, key]) == _distinct(groups, [choice]) > 1


def _place(key: str) -> tuple[bool, bool, str]:
    """Sort keys alike in every comparison: the model's own, choices by name, values."""
    return not key.startswith("model."), not key.endswith(".name"), key


def _telling_keys(groups: Sequence[Mapping[str, str]]) -> list[str]:
    """A few keys by which the groups differ: those that tell most of them apart come first.

    Those that all have are tried first, and of two alike the name of a choice comes before a value,
    which may follow from it.
    """
    keys = sorted(set().union(*groups), key=lambda key: (not key.endswith(".name"), key))
    common = [key for key in keys if all(key in group for group in groups)]
    chosen: list[str] = []
    for pool in (common, keys):
        while (told := _distinct(groups, chosen)) < len(groups):
            best = max(pool, key=lambda key: _distinct(groups, [*chosen, key]))
            if _distinct(groups, [*chosen, best]) == told:
                break
            chosen.append(best)
    return chosen


def _distinct(groups: Sequence[Mapping[str, str]], keys: Sequence[str]) -> int:
    """How many groups these keys tell apart."""
    return len({tuple(group.get(key) for key in keys) for group in groups})


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
        yield (
            f"The runs are from {len(machines)} kinds of machine, or numbers of threads: their "
            "seconds do not compare."
        )
    commits = {run.tags.get("mlflow.source.git.commit", "")[:7] for run in runs} - {""}
    if len(commits) > 1:
        names = ", ".join(sorted(commits))
        yield f"The runs were made by {len(commits)} commits of the code: {names}."
    if len(groups) == 1:
        yield "There is one group only: runs with another model or optimizer give it company."
