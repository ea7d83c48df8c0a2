"""What differs between two runs: config, code, versions, data and machine, then the results."""

from collections.abc import Mapping
from typing import Any

from mnist_exp.core.tables import TextTable
from mnist_exp.runs.run import Run

CAUSES = ("data.", "auto.", "version.", "git.", "mlflow.source.git.commit", "cpu", "gpu", "threads")
NO_CAUSES = ("name", "notes", "tags.", "tracking.", "report.", "save_as")
RESULTS = ("val/", "test/", "model/", "train/seconds", "train/kept_epoch")


def run_diff(a: Run, b: Run) -> list[TextTable | str]:
    """A table of the params and tags that differ, and one of the metrics that do."""
    settings = [
        {key: value for key, value in run.tags.items() if key.startswith(CAUSES)} | dict(run.params)
        for run in (a, b)
    ]
    causes = [row for row in _differing(*settings) if not row[0].startswith(NO_CAUSES)]
    metrics = [{k: v for k, v in run.metrics.items() if k.startswith(RESULTS)} for run in (a, b)]
    results = [
        [name, *(value if value == "-" else f"{value:.6g}" for value in values)]
        for name, *values in _differing(*metrics)
    ]
    heads = [f"{run.run_id[:8]} {run.name}" for run in (a, b)]
    return [
        TextTable(["what", *heads], causes, "What differs") if causes else "No setting differs.",
        TextTable(["metric", *heads], results, "Results") if results else "The results are equal.",
    ]


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[list[Any]]:
    """A row (key, of a, of b) for each key whose values differ; '-' for a missing one."""
    rows = [[key, a.get(key, "-"), b.get(key, "-")] for key in sorted({*a, *b})]
    return [row for row in rows if row[1] != row[2]]
