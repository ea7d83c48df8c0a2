"""doctor: check that this machine is ready for runs."""

from typing import Annotated

import typer

from mnist_exp.commands.options import StoreOption
from mnist_exp.core.console import console
from mnist_exp.core.output import quiet_stderr


def doctor(
    close: Annotated[
        bool, typer.Option("--close", help="Close the runs that dead processes left RUNNING.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Rewrite the store's paths after a move of the project."),
    ] = False,
    tracking_uri: StoreOption = None,
) -> None:
    """Examine versions, data, disk, store and hardware; exit code 1 if something needs doing."""
    with quiet_stderr():
        from mnist_exp.doctor import examine
        from mnist_exp.runs.search import store_config

        needs_doing = False
        for finding in examine(store_config(uri=tracking_uri), close=close, repair=repair):
            mark = "!" if finding.needs_doing else " "
            console.print(f"{mark} {finding.subject:<11} {finding.text}", markup=False)
            needs_doing |= finding.needs_doing
    if needs_doing:
        raise typer.Exit(1)
