"""compare: which settings are better over their seeds, and is the difference significant?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_exp.commands.options import ExperimentOption, FilterOption, StoreOption
from mnist_exp.core.console import console
from mnist_exp.core.errors import InputError

if TYPE_CHECKING:
    from mnist_exp.analysis.comparison import Comparison
    from mnist_exp.analysis.comparison_report import Renderer
    from mnist_exp.config.schema import TrackingConfig

TEX_DEFAULTS = "model.name", "data.name"  # rows and columns
COMPARISONS = "outputs/comparisons/%Y-%m-%d_%H-%M-%S"


def compare(
    experiment: ExperimentOption = "mnist",
    where: FilterOption = "",
    by: Annotated[
        str,
        typer.Option(
            metavar="PARAM,...",
            help="Group by these params (model.name,optimizer.name) instead of all but the seed.",
        ),
    ] = "",
    baseline: Annotated[
        str,
        typer.Option(metavar="GROUP", help="Test each group against this one of the table only."),
    ] = "",
    sweep: Annotated[
        str, typer.Option(metavar="last|ID", help="Only the jobs of this sweep or search.")
    ] = "",
    searches: Annotated[
        bool, typer.Option("--searches", help="Also the trials of searches.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the report and record it: .html with figures, .md, .csv or .tex.",
        ),
    ] = None,
    rows: Annotated[
        str, typer.Option(metavar="PARAM", help="Of a .tex table: what its rows are.")
    ] = TEX_DEFAULTS[0],
    columns: Annotated[
        str, typer.Option(metavar="PARAM", help="Of a .tex table: what its columns are.")
    ] = TEX_DEFAULTS[1],
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="RUN RUN", help="Only say what differs between these two runs."),
    ] = None,
    tracking_uri: StoreOption = None,
) -> None:
    """Say which settings are better, over their seeds, and whether the difference is real."""
    from mnist_exp.analysis import comparison, comparison_report
    from mnist_exp.analysis.comparison_tables import latex_table, run_diff
    from mnist_exp.runs.find import resolve_run
    from mnist_exp.runs.search import search_runs, store_config, without_trials

    table = partial(latex_table, rows=rows, columns=columns)
    renderers: dict[str, comparison_report.Renderer] = comparison_report.RENDERERS | {".tex": table}
    if output and output.suffix not in renderers:
        raise InputError(f"--output {output}: expected a name ending in {', '.join(renderers)}")
    store = store_config(experiment, tracking_uri)
    if (rows, columns) != TEX_DEFAULTS and not (output and output.suffix == ".tex"):
        raise InputError("--rows and --columns are those of a table: add --output table.tex")
    if diff:
        for part in run_diff(*(resolve_run(reference, store) for reference in diff)):
            console.print(part, markup=False)
        return
    found = search_runs(store, where, sweep=sweep)
    runs = found if sweep or searches else without_trials(found, store)
    trials = len(found) - len(runs)
    if not runs:
        raise InputError(f"all {trials} runs are trials of searches; --searches compares them")
    params = [param.strip() for param in by.split(",") if param.strip()]
    if output and output.suffix == ".tex":
        params = [rows, columns]
    comparisons = comparison.compare(runs, params, baseline)
    for part in comparison_report.tables(comparisons):
        # A terminal would cut long sentences anywhere; a pipe gets them whole.
        console.print(part, markup=False, soft_wrap=not console.is_terminal)
    if trials:
        console.print(f"{trials} trials of searches are left out; --searches includes them")
    if output is None:
        console.print("with figures: --output report.html")
        return
    _record(output, comparisons, store, renderers[output.suffix], {
        "where": where, "sweep": sweep, "by": ",".join(params), "baseline": baseline,
        "runs": len(runs),
    })  # fmt: skip
    console.print(f"written to {output} and recorded in MLflow", markup=False)


def _record(
    output: Path,
    comparisons: "Sequence[Comparison]",
    store: "TrackingConfig",
    render: "Renderer",
    params: Mapping[str, Any],
) -> None:
    """Write the report to `output` and record it as a run of the store's experiment."""
    from mnist_exp.analysis import comparison_report
    from mnist_exp.core.files import make_folder, write_file
    from mnist_exp.core.layout import FIGURES
    from mnist_exp.runs.run import TITLE_TAG
    from mnist_exp.tracking.open_run import track_run

    now = datetime.now()
    title = f"{store.experiment}, compared"
    folder = make_folder(Path(now.strftime(COMPARISONS)), "--output")
    comparison_report.write(folder / output.name, comparisons, title, render)
    write_file(output, (folder / output.name).read_bytes(), "--output")
    with track_run(
        store,
        name=f"{title}, {now:%Y-%m-%d %H:%M}",
        folder=folder,
        params=params,
        tags={TITLE_TAG: comparison_report.verdicts(comparisons)},
        files=[output.name, FIGURES],
    ):
        pass  # the folder is complete and is uploaded at the end
