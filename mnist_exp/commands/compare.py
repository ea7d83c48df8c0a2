"""compare: is one better than the other, or was it the seed?"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, StoreOption
from mnist_exp.core.console import console
from mnist_exp.core.errors import InputError

COMPARISONS = "outputs/comparisons/%Y-%m-%d_%H-%M-%S"


def compare(
    experiment: ExperimentOption = "mnist",
    where: Annotated[
        str,
        typer.Option(
            metavar="FILTER",
            help="Only the runs that fit, in MLflow's syntax: \"params.model.name = 'cnn'\".",
        ),
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            metavar="PARAM,...",
            help="Group by these params (model.name,optimizer.name) instead of all but the seed.",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the report, .html with figures, .md or .csv, and record it."
        ),
    ] = None,
    tracking_uri: StoreOption = None,
) -> None:
    """Say which settings are better, over their seeds, and whether the difference is real."""
    from mnist_exp.analysis import comparison, comparison_report
    from mnist_exp.core.files import make_folder, write_file
    from mnist_exp.runs.find import search_runs, store_config
    from mnist_exp.runs.run import TITLE_TAG
    from mnist_exp.tracking.open_run import track_run

    if output and output.suffix not in comparison_report.FORMATS:
        known = ", ".join(comparison_report.FORMATS)
        raise InputError(f"--output {output}: expected a name ending in {known}")
    store = store_config(experiment, tracking_uri)
    found = search_runs(store, where)
    keys = [key.strip() for key in by.split(",") if key.strip()]
    comparisons = comparison.compare(found, keys)
    for part in comparison_report.tables(comparisons):
        console.print(part, markup=False)
    if output is None:
        console.print("with figures: --output report.html")
        return
    title = f"{experiment}, compared"
    folder = make_folder(Path(datetime.now().strftime(COMPARISONS)), "--output")
    pngs = comparison_report.pictures(comparisons, title)
    (folder / "figures").mkdir()
    for name, png in pngs.items():
        (folder / "figures" / f"{name}.png").write_bytes(png)
    comparison_report.write(folder / output.name, comparisons, title, pngs)
    write_file(output, (folder / output.name).read_bytes(), "--output")
    with track_run(
        store,
        name=title,
        folder=folder,
        params={"where": where, "by": by, "runs": len(found)},
        tags={TITLE_TAG: comparison_report.verdicts(comparisons)},
        files=[output.name, "figures"],
    ):
        pass  # all is in the folder and only has to be published
    console.print(f"written to {output} and recorded in MLflow", markup=False)
