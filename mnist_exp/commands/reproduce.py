"""reproduce: train a recorded run again, and compare bit by bit."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import TextTable, console


def reproduce(
    run: RunOption = "best",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="An empty one; default: outputs/reproductions/<run id>_<time>."
        ),
    ] = None,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Train a run again with its own config, data and code, and say whether it came out the same.

    The exit code is 0 when it is bit-equal, 1 when it is not.
    """
    from mnist_exp.analysis import reproduction
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    found.config()  # a run of another program has none
    now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = output or Path("outputs/reproductions") / f"{found.run_id[:8]}_{now}"
    console.print(f"{found} was: {found.title}", markup=False)
    again = reproduction.reproduce(found, folder)
    if again.is_equal:
        console.print(
            "bit-equal: all weights, all probabilities and all epochs' figures are those recorded"
        )
        return
    console.print(TextTable(["", "recorded", "now"], again.scores.rows()))
    console.print(
        f"not bit-equal: a weight differs by up to {again.weight:.2g}, a probability by up to "
        f"{again.scores.probability:.2g}, {again.scores.predictions} answers are others"
        + (f"; the first other figures are those of epoch {again.epoch}" if again.epoch else "")
    )
    for reason in again.reasons or ["code, versions and hardware are the recorded ones"]:
        console.print(f"  {reason}", markup=False)
    raise typer.Exit(1)
