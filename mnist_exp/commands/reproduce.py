"""reproduce: does a run come out the same when it is made again?"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import console, table


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
    now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = output or Path("outputs/reproductions") / f"{found.run_id[:8]}_{now}"
    console.print(f"{found} was: {found.title}", markup=False)
    done = reproduction.reproduce(found, folder)
    if done.is_equal:
        console.print(
            "bit-equal: all weights, all probabilities and all epochs' figures are those recorded"
        )
        return
    rows = [[name, f"{was:.6g}", f"{is_now:.6g}"] for name, (was, is_now) in done.scores.items()]
    console.print(table(["", "recorded", "now"], rows))
    console.print(
        f"not bit-equal: a weight differs by up to {done.weight:.2g}, a probability by up to "
        f"{done.probability:.2g}, {done.answers} answers are others"
        + (f"; the first other figures are those of epoch {done.epoch}" if done.epoch else "")
    )
    for reason in done.reasons or ["code, versions and hardware are the recorded ones"]:
        console.print(f"  {reason}", markup=False)
    raise typer.Exit(1)
