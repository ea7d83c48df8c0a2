"""sync: publish run folders to MLflow that it has not received whole."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_exp.commands.options import StoreOption
from mnist_exp.core.console import console
from mnist_exp.core.errors import InputError
from mnist_exp.core.output import quiet_stderr


def sync(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Run folders, or what they lie in: outputs."),
    ],
    restore: Annotated[
        bool, typer.Option("--restore", help="Also the runs that were deleted in MLflow.")
    ] = False,
    tracking_uri: StoreOption = None,
) -> None:
    """Publish what MLflow did not hear of runs: it was not there, or their process died."""
    from mnist_exp.core.layout import JOURNAL
    from mnist_exp.tracking.recovery import COMPLETE, MISSING, sync

    run_folders = sorted({path.parent for folder in folders for path in folder.rglob(JOURNAL)})
    if not run_folders:
        names = " ".join(map(str, folders))
        raise InputError(f"{names}: expected folders that runs were made in, with a {JOURNAL}")
    complete, failed = 0, 0
    for folder in run_folders:
        try:
            with quiet_stderr():
                state = sync(folder, tracking_uri, restore=restore)
        except InputError as error:
            if len(run_folders) == 1:
                raise
            state = str(error)
            failed += 1
        complete += state == COMPLETE
        failed += state == MISSING
        if state != COMPLETE or len(run_folders) == 1:
            console.print(f"{folder}: {state}", markup=False)
    if len(run_folders) > 1:
        console.print(f"{complete} of {len(run_folders)} runs were complete already", markup=False)
    if failed:
        raise typer.Exit(1)
