"""The columns of a comparison, its table for LaTeX, and what differs between two runs."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import Any

from mnist_exp.analysis.comparison import Comparison
from mnist_exp.analysis.verdicts import TEST_ACCURACY
from mnist_exp.core.console import TextTable
from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.significance import SeedGroup
from mnist_exp.runs.names import short_value
from mnist_exp.runs.run import EXTENDED_AFTER_TAG, OBJECTIVE, Run

Group = SeedGroup[Run]


def cells(group: Group) -> dict[str, str]:
    """The group's row, by the headings of tables."""
    low, high = (100 * end for end in group.interval(TEST_ACCURACY))
    validation = 100 * group.mean(OBJECTIVE)
    return {
        "settings": group.name,
        "n": str(group.n),
        "test %": group.mean_and_sd(TEST_ACCURACY),
        "best": f"{100 * group.best(TEST_ACCURACY):.2f}",
        "95 % range": f"{low:.2f}-{high:.2f}",
        "val %": f"{validation:.2f}" if isfinite(validation) else "none",
        "train s": f"{group.mean('train/seconds'):.1f}",
        "weights": _thousands(group.mean("model/parameters")),
        "img/s": _thousands(group.mean("model/images_per_second")),
    }


def values(group: Group) -> dict[str, str | int | float]:
    """The group's row, by the names in the CSV; accuracies in [0, 1], NaN for none."""
    low, high = group.interval(TEST_ACCURACY)
    return {
        "settings": group.name,
        "n": group.n,
        "mean": group.mean(TEST_ACCURACY),
        "sd": group.sd(TEST_ACCURACY),
        "best": group.best(TEST_ACCURACY),
        "low": low,
        "high": high,
        "val_mean": group.mean(OBJECTIVE),
        "seconds": group.mean("train/seconds"),
        "parameters": group.mean("model/parameters"),
        "images_per_second": group.mean("model/images_per_second"),
    }


def _thousands(number: float) -> str:
    return f"{number / 1000:,.0f}k" if number >= 10_000 else f"{number:,.0f}"


SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def latex_table(
    comparisons: Sequence[Comparison],
    title: str,
    pngs: Mapping[str, bytes],
    *,
    rows: str,
    columns: str,
) -> str:
    """The test accuracy in % for each value of the params `rows` and `columns`.

    The comparisons are grouped by these params. A cell is mean ± sd (n seeds), empty without runs.
    Raises `InputError` when several data sets would share a cell.
    """
    cells: dict[tuple[str, str], str] = {}
    for comparison in comparisons:
        for group in comparison.groups:
            place = group.settings[rows], group.settings[columns]
            if place in cells:
                raise InputError(
                    "--output: some of these runs are extended, and others are not; choose with "
                    '--where, such as "tags.extended_from IS NULL"'
                    if any(EXTENDED_AFTER_TAG in group.settings for group in comparison.groups)
                    else "--output: the runs are on several data sets; take --columns data.name, "
                    "or one of them with --where \"tags.data.name = 'mnist'\""
                )
            score = group.mean_and_sd(TEST_ACCURACY).replace("±", r"$\pm$")
            cells[place] = f"{score} ({group.n})"
    down, across = (sorted(set(values), key=_order) for values in zip(*cells, strict=True))
    lines = [
        f"% {title}: test accuracy in %, mean ± sd (seeds), by {rows} and {columns}.",
        *(f"% {note}" for comparison in comparisons for note in comparison.notes),
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * len(across)}}}",
        r"\toprule",
        _line(["", rf"\multicolumn{{{len(across)}}}{{c}}{{{_escaped(columns)}}}"]),
        rf"\cmidrule{{2-{len(across) + 1}}}",
        _line([_escaped(rows), *map(_value, across)]),
        r"\midrule",
        *(_line([_value(name), *(cells.get((name, x), "--") for x in across)]) for name in down),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*lines, ""])


def _order(value: str) -> tuple[float, str]:
    """Numbers by size, before words."""
    try:
        return float(value), value
    except ValueError:
        return inf, value


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _value(text: str) -> str:
    return _escaped(short_value(text))


def _escaped(text: str) -> str:
    return text.translate(SPECIAL)


CAUSES = (
    "data.", "auto.", "version.", "git.", "mlflow.source.git.commit", "cpu", "gpu", "threads",
    "extended_",
)  # fmt: skip
NO_CAUSES = ("name", "notes", "tags.", "tracking.", "report.", "callbacks.tensorboard.", "save_as")
RESULTS = ("val/", "test/", "model/", "train/seconds", "train/kept_epoch")


def run_diff(a: Run, b: Run) -> list[TextTable | str]:
    """A table of the params and tags that differ, and one of the metrics that do."""
    if a.run_id == b.run_id:
        return [f"Both are {a}."]
    settings = [
        {key: value for key, value in run.tags.items() if key.startswith(CAUSES)} | dict(run.params)
        for run in (a, b)
    ]
    causes = [row for row in _differing(*settings) if not row[0].startswith(NO_CAUSES)]
    metrics = [{k: v for k, v in run.metrics.items() if k.startswith(RESULTS)} for run in (a, b)]
    results = [
        [name, *map(_figure, values), _change(*values)] for name, *values in _differing(*metrics)
    ]
    heads = [f"{run.run_id[:8]} {run.name}" for run in (a, b)]
    return [
        TextTable(["what", *heads], causes, "What differs") if causes else "No setting differs.",
        TextTable(["metric", *heads, "change"], results, "Results")
        if results
        else "The results are equal.",
    ]


def _figure(value: float | str) -> str:
    """The metric: a count in full, else with six digits."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"


def _change(a: float | str, b: float | str) -> str:
    """The second less the first, signed; '-' where one is missing."""
    if isinstance(a, str) or isinstance(b, str):
        return "-"
    return f"{'+' if b > a else '-'}{_figure(abs(b - a))}"


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[list[Any]]:
    """A row (key, of a, of b) for each key whose values differ; '-' for a missing one."""
    rows = [[key, a.get(key, "-"), b.get(key, "-")] for key in sorted({*a, *b})]
    return [row for row in rows if row[1] != row[2]]
