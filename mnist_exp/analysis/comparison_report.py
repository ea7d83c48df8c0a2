"""The report of a comparison: terminal tables, HTML, Markdown, CSV and figures."""

import base64
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mnist_exp.analysis.comparison import Comparison
from mnist_exp.analysis.comparison_tables import cells, values
from mnist_exp.analysis.verdicts import TEST_ACCURACY
from mnist_exp.core.console import TextTable
from mnist_exp.core.layout import FIGURES
from mnist_exp.data.dataset import display_name
from mnist_exp.evaluation.significance import SeedGroup
from mnist_exp.runs.run import OBJECTIVE, Run
from mnist_exp.tracking import store

RANKING_NOTE = (
    "Ranked by validation accuracy, groups without one last. Test accuracy: mean ± sd over n "
    "seeds; its 95 % range is Student's interval over seeds, for a single run Wilson's over the "
    "test images."
)
CORRECTION_NOTE = "Each p is corrected for the number of pairs (Holm), the intervals are not."
TEST_NOTE = (
    "Difference of the mean test accuracies, in brackets its own 95 % interval, which counts seeds "
    "and test images. Welch's t-test over seeds; for one run against several the t-test of a "
    "single case; for two single runs the exact McNemar test, which is about these runs only. The "
    "p-values are corrected by Holm over the pairs listed; below 0.05 a difference is called one."
)
MAX_PAIRS = 20  # in the terminal
DPI = 200  # the page shows figures at half their pixels, sharp on every screen
MIXED = " with different numbers of training images"
TITLES = {
    "accuracies": "Test accuracy",
    "trade_off": "What accuracy costs",
    "learning_curves": "Validation accuracy by epoch",
    "agreement": "Agreement of predictions",
}
# From comparisons, their title and the figures as PNGs to the text of the report.
Renderer = Callable[[Sequence[Comparison], str, Mapping[str, bytes]], str]


def tables(comparisons: Sequence[Comparison]) -> Iterator[TextTable | str]:
    """The terminal's output: for each data set a table, its notes and its verdicts."""
    for comparison in comparisons:
        headings, *rows = _table(comparison)
        optional = headings[3:]  # all but settings, n, test %
        yield TextTable(headings, rows, _heading(comparison), optional)
        corrected = [CORRECTION_NOTE] if len(comparison.pairs) > 1 else []
        yield "\n".join([RANKING_NOTE, *corrected, *comparison.notes, ""])
        if len(comparison.pairs) > 1:
            shown = sum(pair.is_significant for pair in comparison.pairs)
            total = len(comparison.pairs)
            verb = "are" if shown > 1 else "is"
            yield f"{shown or 'None'} of {total} differences {verb} shown to be more than chance:"
        yield "\n".join(pair.verdict for pair in comparison.pairs[:MAX_PAIRS])
        if more := comparison.pairs[MAX_PAIRS:]:
            yield f"... and {len(more)} more pairs: --output report.html has all"


def verdicts(comparisons: Sequence[Comparison]) -> str:
    """The verdict of every pair, one per line."""
    return "\n".join(pair.verdict for comparison in comparisons for pair in comparison.pairs)


def write(path: Path, comparisons: Sequence[Comparison], title: str, render: Renderer) -> None:
    """Write the report as `render` makes it, and every figure as PNG and SVG beside it."""
    from mnist_exp import plots  # matplotlib is heavy

    folder = path.parent / FIGURES
    drawn = figures(comparisons)
    plots.save(drawn, folder, ["png", "svg"], DPI)
    pngs = {name: (folder / f"{name}.png").read_bytes() for name in drawn}
    path.write_text(render(comparisons, title, pngs), encoding="utf-8", newline="")


def figures(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Every figure by name: `mnist_accuracies`, `mnist_trade_off`, ..."""
    return {
        f"{comparison.data}_{name}": figure
        for comparison in comparisons
        for name, figure in _figures(comparison).items()
    }


def _figures(comparison: Comparison) -> dict[str, Any]:
    from mnist_exp import plots  # matplotlib is heavy

    titles = {name: f"{title}: {_heading(comparison)}" for name, title in TITLES.items()}
    groups = comparison.groups
    names = [group.name for group in groups]
    means = [group.mean(TEST_ACCURACY) for group in groups]
    intervals = [group.interval(TEST_ACCURACY) for group in groups]
    seeds = [[run.metrics[TEST_ACCURACY] for run in group.runs] for group in groups]
    seconds = [group.mean("train/seconds") for group in groups]
    parameters = [group.mean("model/parameters") for group in groups]
    drawn = {
        "accuracies": plots.accuracies(names, means, intervals, seeds, titles["accuracies"]),
        "trade_off": plots.trade_off(names, means, seconds, parameters, titles["trade_off"]),
    }
    curves = {group.name: _validation_curves(group) for group in groups}
    curves = {name: curves_of_runs for name, curves_of_runs in curves.items() if curves_of_runs}
    if curves:
        drawn["learning_curves"] = plots.overlaid_curves(
            list(curves), list(curves.values()), titles["learning_curves"]
        )
    if len(groups) > 1:
        drawn["agreement"] = plots.agreement(
            names, comparison.agreement, titles["agreement"], comparison.noun
        )
    return drawn


def _html(comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]) -> str:
    """One self-contained page, the figures included."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("comparison.html.j2").render(
        comparisons=comparisons,
        title=title,
        time=f"{datetime.now():%Y-%m-%d %H:%M}",
        heading=_heading,
        table=_table,
        ranking_note=RANKING_NOTE,
        test_note=TEST_NOTE,
        server=store.server(comparisons[0].groups[0].runs[0].tracking),
        local=store.LOCAL,
        images={name: base64.b64encode(png).decode() for name, png in pngs.items()},
        widths={name: int.from_bytes(png[16:20]) // 2 for name, png in pngs.items()},  # its header
    )


def _markdown(comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]) -> str:
    lines = [f"# {title}", "", RANKING_NOTE, ""]
    for comparison in comparisons:
        lines += [f"## {_heading(comparison)}", ""]
        headings, *rows = _table(comparison)
        lines += map(_line, [headings, ["---"] * len(headings), *rows])
        lines += ["", *(f"{note}\n" for note in comparison.notes)]
        lines += [f"- {pair.verdict} ({pair.test})" for pair in comparison.pairs]
        lines += ["", TEST_NOTE, ""] if comparison.pairs else []
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _csv(comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]) -> str:
    """A row per group; accuracies in [0, 1], empty cells for missing metrics."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", *values(comparisons[0].groups[0]), "run_ids"])
    for comparison in comparisons:
        for group in comparison.groups:
            row = ["" if isinstance(v, float) and isnan(v) else v for v in values(group).values()]
            run_ids = " ".join(run.run_id for run in group.runs)
            writer.writerow([comparison.data, *row, run_ids])
    return text.getvalue()


RENDERERS: dict[str, Renderer] = {".html": _html, ".md": _markdown, ".csv": _csv}


def _heading(comparison: Comparison) -> str:
    n = len(comparison.groups)
    labels = {run.data for group in comparison.groups for run in group.runs}
    data = labels.pop() if len(labels) == 1 else f"{display_name(comparison.data)}{MIXED}"
    apart = comparison.data.removeprefix(comparison.groups[0].runs[0].tags["data.name"])
    return f"{n} group{'s' if n != 1 else ''} on {data}{apart}"


def _table(comparison: Comparison) -> list[list[str]]:
    """The headings, and a row per group."""
    rows = [cells(group) for group in comparison.groups]
    return [[*rows[0]], *([*row.values()] for row in rows)]


def _validation_curves(group: SeedGroup[Run]) -> list[list[float]]:
    """The validation accuracy per epoch, for each run that has it."""
    curves = ([epoch.get(OBJECTIVE) for epoch in run.history()] for run in group.runs)
    return [[value for value in curve if value is not None] for curve in curves if any(curve)]
