"""A comparison as people read it: terminal tables, one HTML page, Markdown, CSV, figures."""

import base64
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mnist_exp.analysis.comparison import SCORE, Comparison, SeedGroup
from mnist_exp.data.dataset import LABELS
from mnist_exp.runs.run import OBJECTIVE

HEADINGS = (
    "settings", "n", "test %", "best", "95 % range", "val %", "train s", "weights", "img/s",
)  # fmt: skip
INTERVALS = (
    "Ranked by validation accuracy. Test accuracy: mean ± sd over n seeds; its 95 % range is "
    "Student's interval over seeds, for a single run Wilson's over the test images."
)
METHOD = (
    "Pairs with two or more seeds in common: paired t-test of the test accuracy over these seeds; "
    "two single runs: exact McNemar test on their predictions. The p-values are corrected by Holm "
    "over all pairs of the table; below 0.05 a difference is called one."
)
PAIRS_SHOWN = 20  # in the terminal
COLUMNS = (
    "data", "settings", "n", "mean", "sd", "best", "low", "high", "val_mean", "seconds",
    "parameters", "images_per_second", "run_ids",
)  # fmt: skip
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #d1d5db }
th, td { text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal }
img { max-width: 100%; margin: 1rem 0 } .note { color: #6b7280 } .shown { font-weight: 600 }
"""


def tables(comparisons: Sequence[Comparison]) -> Iterator[Table | str]:
    """What the terminal shows: for each data set its table, its notes, its verdicts."""
    for found in comparisons:
        drawn = Table(title=_heading(found), title_justify="left", box=SIMPLE_HEAD, padding=0)
        drawn.add_column(HEADINGS[0], overflow="fold", min_width=14)
        for heading in HEADINGS[1:]:
            drawn.add_column(heading, no_wrap=True, justify="right")
        for row in _rows(found):
            drawn.add_row(*row)
        yield drawn
        yield "\n".join([INTERVALS, *found.notes, ""])
        yield "\n".join(pair.verdict for pair in found.pairs[:PAIRS_SHOWN])
        if more := found.pairs[PAIRS_SHOWN:]:
            yield f"... and {len(more)} more pairs: --output report.html has all"


def verdicts(comparisons: Sequence[Comparison]) -> str:
    """Every verdict, a line each."""
    return "\n".join(pair.verdict for found in comparisons for pair in found.pairs)


def pictures(comparisons: Sequence[Comparison], title: str) -> dict[str, bytes]:
    """Every figure as a PNG, by name: `mnist_accuracies`, `mnist_trade_off`, ..."""
    drawn = {}
    for found in comparisons:
        for name, figure in _figures(found, f"{title}: {_heading(found)}").items():
            file = io.BytesIO()
            figure.savefig(file, format="png")
            drawn[f"{found.data}_{name}"] = file.getvalue()
    return drawn


def _figures(found: Comparison, title: str) -> dict[str, Any]:
    from mnist_exp import plots  # heavy

    groups = found.groups
    names = [group.name for group in groups]
    means = [group.mean(SCORE) for group in groups]
    drawn = {
        "accuracies": plots.accuracies(
            names,
            means,
            [group.interval for group in groups],
            [[run.metrics[SCORE] for run in group.runs] for group in groups],
            title,
        ),
        "trade_off": plots.trade_off(
            names,
            means,
            [group.mean("train/seconds") for group in groups],
            [group.mean("model/parameters") for group in groups],
            title,
        ),
    }
    curves = {group.name: _validation_curves(group) for group in groups}
    curves = {name: found for name, found in curves.items() if found}
    if curves:
        drawn["learning_curves"] = plots.overlaid_curves(list(curves), list(curves.values()), title)
    if len(groups) > 1:
        drawn["agreement"] = plots.agreement(names, found.agreement, title)
    return drawn


def write(
    path: Path, comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]
) -> None:
    """The report: .html is one self-contained file, .md and .csv have no figures."""
    text = FORMATS[path.suffix](comparisons, title, pngs)
    path.write_text(text, encoding="utf-8", newline="")


def _html(comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]) -> str:
    parts = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{datetime.now():%Y-%m-%d %H:%M}. {escape(INTERVALS)}</p>',
    ]
    for found in comparisons:
        head = "".join(f"<th>{escape(heading)}" for heading in HEADINGS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in _rows(found)
        )
        parts += [
            f"<h2>{escape(_heading(found))}</h2>",
            f"<table><thead><tr>{head}<tbody>{rows}</table>",
            *(f"<p>{escape(note)}</p>" for note in found.notes),
        ]
        if found.pairs:
            items = "".join(
                f"<li{' class=shown' if pair.is_shown else ''}>{escape(pair.verdict)}"
                f' <span class="note">({escape(pair.test)})</span>'
                for pair in found.pairs
            )
            parts += [
                "<h3>Is one better?</h3>",
                f'<ul>{items}</ul><p class="note">{escape(METHOD)}</p>',
            ]
        for name, png in pngs.items():
            if name.startswith(f"{found.data}_"):
                encoded = base64.b64encode(png).decode()
                parts.append(f'<img alt="{name}" src="data:image/png;base64,{encoded}">')
    return "\n".join(parts) + "\n</html>\n"


def _markdown(comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]) -> str:
    lines = [f"# {title}", "", INTERVALS, ""]
    for found in comparisons:
        lines += [f"## {_heading(found)}", "", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
        lines += [_line(row) for row in _rows(found)]
        lines += ["", *(f"{note}\n" for note in found.notes)]
        lines += [f"- {pair.verdict} ({pair.test})" for pair in found.pairs]
        lines += ["", METHOD, ""] if found.pairs else []
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _csv(comparisons: Sequence[Comparison], title: str, pngs: Mapping[str, bytes]) -> str:
    """The groups' figures as plain numbers, accuracies in [0, 1]."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for found in comparisons:
        for group in found.groups:
            low, high = group.interval
            values: dict[str, object] = {
                "data": found.data,
                "settings": group.name,
                "n": group.n,
                "mean": group.mean(SCORE),
                "sd": group.sd,
                "best": group.best,
                "low": low,
                "high": high,
                "val_mean": group.mean(OBJECTIVE),
                "seconds": group.mean("train/seconds"),
                "parameters": group.mean("model/parameters"),
                "images_per_second": group.mean("model/images_per_second"),
                "run_ids": " ".join(run.run_id for run in group.runs),
            }
            writer.writerow(
                {k: "" if isinstance(v, float) and isnan(v) else v for k, v in values.items()}
            )
    return text.getvalue()


FORMATS: Mapping[str, Callable[[Sequence[Comparison], str, Mapping[str, bytes]], str]] = {
    ".html": _html,
    ".md": _markdown,
    ".csv": _csv,
}


def _heading(found: Comparison) -> str:
    groups = len(found.groups)
    return f"{groups} group{'s' if groups != 1 else ''} on {LABELS[found.data]}"


def _rows(found: Comparison) -> Iterator[list[str]]:
    for group in found.groups:
        low, high = group.interval
        spread = f" ± {100 * group.sd:.2f}" if isfinite(group.sd) else ""
        validation = group.mean(OBJECTIVE)
        yield [
            group.name,
            str(group.n),
            f"{100 * group.mean(SCORE):.2f}{spread}",
            f"{100 * group.best:.2f}",
            f"{100 * low:.2f}-{100 * high:.2f}",
            f"{100 * validation:.2f}" if isfinite(validation) else "none",
            f"{group.mean('train/seconds'):.1f}",
            _thousands(group.mean("model/parameters")),
            _thousands(group.mean("model/images_per_second")),
        ]


def _thousands(value: float) -> str:
    return f"{value / 1000:,.0f}k" if value >= 10_000 else f"{value:,.0f}"


def _validation_curves(group: SeedGroup) -> list[list[float]]:
    curves = ([epoch.get(OBJECTIVE) for epoch in run.history()] for run in group.runs)
    return [[value for value in curve if value is not None] for curve in curves if any(curve)]
