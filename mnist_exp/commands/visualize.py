"""visualize: draw a run's figures again."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import console
from mnist_exp.core.layout import FigureFormat


def visualize(
    run: RunOption = "best",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to; default: outputs/figures/<run id>."),
    ] = None,
    formats: Annotated[
        list[FigureFormat] | None,
        typer.Option("--format", help="Of the files, default: png; may be given several times."),
    ] = None,
    dpi: Annotated[int, typer.Option(min=50, max=600, help="Of PNGs; 200 for print.")] = 100,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Draw every figure of a run again, from its record alone."""
    from mnist_exp.config.schema import ReportConfig
    from mnist_exp.core.files import make_folder
    from mnist_exp.runs.figures import Report, drawing
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    config = found.config()
    kept = int(found.metrics["train/kept_epoch"]) if config.train.patience else None
    report = ReportConfig(formats=tuple(formats or [FigureFormat.PNG]), dpi=dpi)
    drawn = Report(
        title=found.title,
        config=config.model_copy(update={"report": report}),
        data=found.dataset(),
        history=found.history(),
        curve=found.curve(),
        evaluation=found.evaluation(),
        kept=kept,
        temperature=found.temperature(),
    )
    folder = make_folder(output or Path("outputs/figures") / found.run_id[:8], "--output")
    drawing(drawn, folder)()
    console.print(found.title, markup=False)
    console.print(f"figures: {folder}", markup=False)
