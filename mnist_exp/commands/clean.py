"""clean: remove deleted and failed runs for good."""

from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, StoreOption
from mnist_exp.core.console import TextTable, console, short_time


def clean(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove them for good, instead of listing them.")
    ] = False,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """List the deleted and the failed runs with what they occupy; --delete removes them."""
    from mnist_exp.runs.clean import find_removable, remove
    from mnist_exp.runs.search import store_config

    where = store_config(experiment, tracking_uri)
    found, kept = find_removable(where)
    for run in kept:
        reason = "a registered model is of this run; delete its version first"
        console.print(f"kept: {run}, {reason}", markup=False)
    if not found:
        other = "other " if kept else ""
        console.print(f"experiment {experiment} has no {other}deleted or failed run to remove")
        return
    rows, total = [], 0
    for each in found:
        run, sizes = each.run, [each.artifact_bytes, each.folder_bytes]
        total += sum(sizes)
        began = short_time(run.start)
        folder = str(each.folder or "-")
        rows.append([run.run_id[:8], run.name, each.state, began, *map(_megabytes, sizes), folder])
    columns = ["run", "name", "state", "began", "artifacts MB", "folder MB", "run folder"]
    console.print(TextTable(columns, rows, optional=["artifacts MB", "folder MB", "began"]))
    what = f"{len(found)} {'run' if len(found) == 1 else 'runs'}, {_megabytes(total)} MB"
    if not delete:
        console.print(f"{what}; python -m mnist_exp clean --delete removes them for good")
        return
    remove(found, where)
    console.print(f"removed: {what}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
