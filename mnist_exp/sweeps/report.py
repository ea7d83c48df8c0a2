"""The report of a sweep: a ranking in the terminal, CSV files and figures."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, isnan, log, nan
from pathlib import Path
from statistics import mean, pstdev
from typing import TYPE_CHECKING

from mnist_exp.config.schema import ReportConfig, TrackingConfig
from mnist_exp.core.console import TextTable, redact
from mnist_exp.core.layout import FIGURES, SWEEP_GROUPS, SWEEP_JOBS
from mnist_exp.evaluation.significance import SeedGroup
from mnist_exp.runs.folder import RunResult, write_rows
from mnist_exp.runs.names import short_keys, short_value
from mnist_exp.runs.run import OBJECTIVE
from mnist_exp.sweeps.jobs import JobResult, SweepStrategy, best, data_label, groups

if TYPE_CHECKING:
    from mnist_exp.plots import Figure, Trial

ACCURACIES = (OBJECTIVE, "test/accuracy")
REPORTED = (*ACCURACIES, "test/accuracy_low", "test/accuracy_high", "test/loss")
UNITS = dict.fromkeys(["augment.rotate", "augment.shear"], "degrees")
UNITS |= dict.fromkeys(["augment.shift", "augment.elastic"], "pixels")
MAX_ROWS = 30  # of the terminal's table

Groups = Sequence[SeedGroup[RunResult]]


def tables(
    results: Sequence[JobResult], swept: Sequence[str], noun: str = "job"
) -> list[TextTable]:
    """The jobs ranked by validation accuracy, and their means when several seeds were run."""
    by_settings = groups(results)
    ranked = ranking(results, swept, noun)
    if not _has_seeds(by_settings):
        return [ranked]
    return [ranked, _means(by_settings, [key for key in swept if key != "seed"])]


def write_tables(folder: Path, results: Sequence[JobResult], swept: Sequence[str]) -> None:
    """Write sweep.csv, and over_seeds.csv when several seeds were run."""
    by_settings = groups(results)
    _write_jobs(folder / SWEEP_JOBS, results, swept)
    if _has_seeds(by_settings):
        _write_groups(folder / SWEEP_GROUPS, by_settings)


def write_figures(
    folder: Path, results: Sequence[JobResult], strategy: SweepStrategy, title: str,
    settings: ReportConfig,
) -> None:  # fmt: skip
    """Draw what there is to see of the jobs into the sweep's folder."""
    from mnist_exp import plots  # matplotlib is heavy

    points = trials(results, strategy.pruned_at(), strategy.noun)
    drawn = figures(points, strategy.swept, strategy.scales, title)
    if points:
        drawn |= strategy.figures(points, title)
    plots.save(drawn, folder / FIGURES, settings.formats, settings.dpi)


def trials(
    results: Sequence[JobResult], pruned_at: Mapping[int, float], noun: str = "job"
) -> "list[Trial]":
    """The jobs as the figures show them; none where no job has a validation accuracy."""
    from mnist_exp.plots import Trial  # matplotlib is heavy

    drawn = []
    for result in results:
        accuracy = pruned_at.get(result.number, result.objective)
        if isfinite(accuracy):
            state = "pruned" if result.pruned else "complete"
        elif result.state == "failed":
            accuracy, state = nan, "failed"
        else:
            continue  # unfinished, or without validation images
        values = map(short_value, result.choices.values())
        choices = dict(zip(short_keys([*result.choices]), values, strict=True))
        drawn.append(Trial(result.number, choices, accuracy, state, noun))
    return drawn if any(trial.state != "failed" for trial in drawn) else []


def figures(
    trials: "Sequence[Trial]", swept: Sequence[str], scales: Mapping[str, str], title: str
) -> dict[str, "Figure"]:
    """The figures of validation accuracies by their names, of the keys that have several values."""
    from mnist_exp.plots import Dimension, by_value, parallel_coordinates

    # A search may repeat a trial's values: it is the same run.
    once = {tuple(trial.choices.values()): trial for trial in reversed(trials)}
    trials = [*reversed(once.values())]
    dimensions = []
    for key, short in zip(swept, short_keys(swept), strict=True):
        values = [trial.choices[short] for trial in trials]
        if len(set(values)) > 1:
            scale = scales.get(key) or guess_scale(values)
            dimensions.append(Dimension(short, _axis_label(key), scale))
    # Seeds are dots of the other keys' values, unless they are all there is.
    dimensions = [d for d in dimensions if d.key != "seed"] or dimensions
    if not dimensions:
        return {}
    drawn = {"by_value": by_value(dimensions, trials, title)}
    if len(dimensions) > 1:
        drawn["parallel_coordinates"] = parallel_coordinates(dimensions, trials, title)
    return drawn


def guess_scale(values: Sequence[str]) -> str:
    """The scale of typed values: log for three or more positive numbers in rather geometric steps.

    That is, where the steps of their logarithms vary less, relative to the mean step, than theirs.
    """
    try:
        numbers = sorted({float(value) for value in values})
    except ValueError:
        return "category"
    if not all(map(isfinite, numbers)):
        return "category"
    if len(numbers) < 3 or numbers[0] <= 0:
        return "linear"
    linear, geometric = (_unevenness(n) for n in (numbers, [log(number) for number in numbers]))
    return "log" if geometric < linear else "linear"


def _unevenness(numbers: Sequence[float]) -> float:
    """The coefficient of variation of the steps between these ascending numbers."""
    steps = [high - low for low, high in pairwise(numbers)]
    return pstdev(steps) / mean(steps)


def _axis_label(key: str) -> str:
    """'learning rate' for 'optimizer.learning_rate', with the unit where there is one."""
    unit = UNITS.get(key)
    return key.rpartition(".")[2].replace("_", " ") + (f" ({unit})" if unit else "")


def next_step(results: Sequence[JobResult], tracking: TrackingConfig, parent_id: str) -> str:
    """What to do with these results, and its command; empty where nothing was finished.

    Over several seeds: is the difference real? Over one: does the best config keep its lead?
    """
    if any(result.state == "unfinished" for result in results):
        return "the same command with tracking.skip_finished=true runs what is missing"
    by_settings, top = groups(results), best(results)
    if _has_seeds(by_settings) and parent_id:
        command = "python -m mnist_exp compare"
        if len(by_settings) > 1 and not any(result.reused for result in results):
            command += f" --sweep {parent_id[:8]}"
        if tracking.experiment != "mnist":
            command += f" --experiment {shlex.quote(tracking.experiment)}"
        if tracking.uri:
            command += f" --tracking-uri {shlex.quote(redact(tracking.uri))}"
        question = "is the difference real?" if len(by_settings) > 1 else "beside other runs:"
        return f"{question} {command}"
    if top and not _has_seeds(by_settings):
        job = [override for override in top.alone if not override.startswith("seed=")]
        again = shlex.join(["seed=range(0,5)", *job])
        return f"the best over five seeds: {redact(f'python -m mnist_exp.run -m {again}')}"
    return ""


def _has_seeds(by_settings: Groups) -> bool:
    return any(group.n > 1 for group in by_settings)


def ranking(results: Sequence[JobResult], swept: Sequence[str], noun: str = "job") -> TextTable:
    """The jobs by validation accuracy, the best first."""
    label = data_label(results)
    order = "ranked by validation accuracy"
    if label and not best(results):
        order = "not ranked, without validation images"
    is_mixed = len({result.run_result.data for result in results if result.run_result}) > 1
    ranked = sorted(results, key=lambda result: -result.objective)
    title = f"{order}{f', on {label}' if label else ''}"
    if len(ranked) > MAX_ROWS:
        title += f"; the first {MAX_ROWS} of {len(ranked)}, sweep.csv has them all"
    headings = [noun, *short_keys(swept), "val %", "test %", "95 % interval", "seconds", "run"]
    headings += ["data"] * is_mixed
    rows = [_cells(result)[: len(headings)] for result in ranked[:MAX_ROWS]]
    return TextTable(headings, rows, title, optional=["run", "seconds", "95 % interval"])


def _cells(result: JobResult) -> list[str]:
    choices = [str(result.number), *map(short_value, result.choices.values())]
    if result.run_result is None:
        return [*choices, result.state, "", "", "", "", ""]
    metrics = result.run_result.metrics
    validation = f"{100 * metrics[OBJECTIVE]:.2f}" if OBJECTIVE in metrics else "none"
    score, low, high = (100 * metrics[f"test/accuracy{end}"] for end in ("", "_low", "_high"))
    return [
        *choices,
        validation,
        f"{score:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{metrics['train/seconds']:.1f}",
        result.run_result.run_id[:8] + (" (earlier)" if result.reused else ""),
        result.run_result.data,
    ]


def _means(by_settings: Groups, keys: Sequence[str]) -> TextTable:
    rows = []
    for group in sorted(by_settings, key=_rank):
        scores = map(group.mean_and_sd, ACCURACIES)
        rows.append([*map(short_value, group.settings.values()), str(group.n), *scores])
    return TextTable([*short_keys(keys), "n", "val %", "test %"], rows, "mean ± sd over seeds")


def _rank(group: SeedGroup[RunResult]) -> float:
    """Sort by mean validation accuracy, the best first and groups without one last."""
    return -group.mean(OBJECTIVE) if group.by_seed(OBJECTIVE) else 0.0


def _write_jobs(path: Path, results: Sequence[JobResult], swept: Sequence[str]) -> None:
    """Write a row per job, in their order."""
    columns = ["job", *swept, "state", "data", *REPORTED, "train/seconds", "run_id", "folder"]
    rows = []
    for result in results:
        row: dict[str, object] = {"job": result.number, **result.choices}
        row |= {"state": result.state, "error": result.error, "command": result.command}
        if ended := result.run_result:
            row |= {**ended.metrics, **vars(ended)}
        rows.append(row)
    write_rows(path, [*columns, "error", "command"], rows)


def _write_groups(path: Path, by_settings: Groups) -> None:
    """Write a row per group, the best first.

    n counts seeds; the mean and sd of each metric are over them, as are low and high, the ends of
    the 95 % interval of the mean (Student's). A group of one seed has neither sd nor interval.
    """
    rows = []
    for group in sorted(by_settings, key=_rank):
        values: dict[str, float] = {}
        for metric in (*ACCURACIES, "test/loss"):
            values |= {f"{metric} mean": group.mean(metric), f"{metric} sd": group.sd(metric)}
            if metric in ACCURACIES:
                ends = group.interval(metric) if len(group.by_seed(metric)) > 1 else (nan, nan)
                values |= {f"{metric} low": ends[0], f"{metric} high": ends[1]}
        cells = {name: "" if isnan(value) else value for name, value in values.items()}
        rows.append({**group.settings, "n": group.n, **cells})
    write_rows(path, [*rows[0]], rows)
