"""promote: register a run's model as models:/NAME@ALIAS."""

from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import console


def promote(
    run: RunOption = "best",
    alias: Annotated[str, typer.Option(metavar="ALIAS", help="What it is called.")] = "champion",
    name: Annotated[str, typer.Option(metavar="NAME", help="The registered model.")] = "mnist",
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is worse than the present one.")
    ] = False,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Register a run's model and point an alias at it, unless the present holder is better."""
    from mnist_exp.deployment.registry import promote as promote_run
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    promoted = promote_run(found, name, alias, force=force)
    version = f"models:/{name}@{alias} is version {promoted.version}"
    console.print(f"{version}, {found}: {found.title}", markup=False)
    console.print(
        f"reloaded from the registry, it predicts the same on all {promoted.images:,} images"
    )
    if promoted.before:
        console.print(f"before: {promoted.before}", markup=False)
