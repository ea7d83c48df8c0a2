"""clean: remove deleted and failed runs for good, or the checkpoints of finished ones."""

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, StoreOption
from mnist_exp.core.console import TextTable, console, short_time

if TYPE_CHECKING:
    from mnist_exp.config.schema import TrackingConfig


def clean(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove them for good, instead of listing them.")
    ] = False,
    checkpoints: Annotated[
        bool,
        typer.Option("--checkpoints", help="Only those that finished runs keep to be extended."),
    ] = False,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """List the deleted and the failed runs with what they occupy; --delete removes them."""
    from mnist_exp.runs.search import store_config

    where = store_config(experiment, tracking_uri)
    listed = _clean_checkpoints if checkpoints else _clean_runs
    listed(where, delete=delete)


def _clean_runs(where: "TrackingConfig", *, delete: bool) -> None:
    from mnist_exp.runs.clean import find_checkpoints, find_removable, remove, size_of

    found, kept = find_removable(where)
    for run in kept:
        reason = "a registered model is of this run; delete its version first"
        console.print(f"kept: {run}, {reason}", markup=False)
    if checkpoints := find_checkpoints(where):
        what = f"{len(checkpoints)}, {_megabytes(sum(size_of(path) for _, path in checkpoints))} MB"
        console.print(f"checkpoints of finished runs: {what}; --checkpoints lists them")
    if not found:
        what = f"{'other ' if kept else ''}deleted or failed run to remove"
        console.print(f"experiment {where.experiment} has no {what}")
        return
    rows, total = [], 0
    for each in found:
        run, sizes = each.run, each.sizes
        total += sum(sizes)
        place = [*map(_megabytes, sizes), str(each.folder or "-")]
        rows.append([run.run_id[:8], run.name, each.state, short_time(run.start), *place])
    columns = ["run", "name", "state", "began", "artifacts MB", "folder MB", "run folder"]
    console.print(TextTable(columns, rows, optional=["artifacts MB", "folder MB", "began"]))
    what = f"{len(found)} {'run' if len(found) == 1 else 'runs'}, {_megabytes(total)} MB"
    if not delete:
        console.print(f"{what}; python -m mnist_exp clean --delete removes them for good")
        return
    remove(found, where)
    console.print(f"removed: {what}")


def _clean_checkpoints(where: "TrackingConfig", *, delete: bool) -> None:
    from mnist_exp.runs.clean import find_checkpoints, size_of

    if not (found := find_checkpoints(where)):
        console.print(f"no finished run of experiment {where.experiment} has a checkpoint here")
        return
    sizes = [size_of(path) for _, path in found]
    rows = [
        [run.run_id[:8], run.name, _megabytes(size), str(path)]
        for (run, path), size in zip(found, sizes, strict=True)
    ]
    console.print(TextTable(["run", "name", "MB", "folder"], rows, optional=["folder"]))
    what = f"checkpoints of finished runs: {len(found)}, {_megabytes(sum(sizes))} MB"
    if delete:
        for _, path in found:
            shutil.rmtree(path, ignore_errors=True)
        console.print(f"removed: {what}; the runs stay")
    else:
        console.print(f"{what}; python -m mnist_exp clean --checkpoints --delete removes them")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
