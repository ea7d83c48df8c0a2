"""runs: list the recorded runs."""

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, FilterOption, StoreOption
from mnist_exp.core.console import TextTable, console, short_time

if TYPE_CHECKING:
    from mnist_exp.runs.run import Run

COLUMNS = ["run", "name", "began", "val %", "test %", "seconds", "data"]
DEFAULT_LIMIT = 20
STATUS = re.compile(r"(?<![\w.`'])(attributes?\.)?status\s*(!?=|I?LIKE|IN)", re.IGNORECASE)


def runs(
    where: FilterOption = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also the failed, killed and running ones.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="List at most so many; default: 20, of --json all."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything that is recorded of each, as JSON.")
    ] = False,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """List the recorded runs, the latest first, also those that other programs logged."""
    from mnist_exp.runs.search import search_runs, store_config

    every = every or bool(STATUS.search(where))  # the filter says itself which
    status = "" if every else "FINISHED"
    found = search_runs(store_config(experiment, tracking_uri), where, status=status, foreign=True)
    if as_json:
        typer.echo(json.dumps([_values(run) for run in found[:limit]], indent=2))
        return
    shown = found[: limit or DEFAULT_LIMIT]
    columns = [*COLUMNS, "status"] if every else COLUMNS
    rows = [_cells(run)[: len(columns)] for run in shown]
    console.print(TextTable(columns, rows, optional=["data", "began", "seconds"], whole="name"))
    if any(run.is_foreign for run in shown):
        console.print(
            "foreign: logged by another program; predict and serve can use one with a Keras model"
        )
    if len(found) > len(shown):
        console.print(
            f"the newest {len(shown)} of {len(found)}; --limit {len(found)} lists them all"
        )


def _cells(run: "Run") -> list[str]:
    def percent(metric: str) -> str:
        share = run.metrics.get(metric, -1)  # others may log anything by that name
        return f"{100 * share:.2f}" if 0 <= share <= 1 else "-"

    seconds = f"{run.metrics['train/seconds']:.1f}" if "train/seconds" in run.metrics else "-"
    scores = [percent("val/accuracy"), percent("test/accuracy")]
    name = f"{run.name} (foreign)" if run.is_foreign else run.name
    return [run.run_id[:8], name, short_time(run.start), *scores, seconds, run.data, run.status]


def _values(run: "Run") -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "foreign": run.is_foreign,
        "title": run.title,
        "start_time": run.start.isoformat(),
        "params": dict(run.params),
        "metrics": dict(run.metrics),
        "tags": dict(run.tags),
    }
