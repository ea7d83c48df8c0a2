"""The columns of a comparison, and its table for LaTeX."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

from mnist_exp.analysis.comparison import Comparison
from mnist_exp.analysis.verdicts import TEST_ACCURACY
from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.significance import SeedGroup
from mnist_exp.runs.run import OBJECTIVE, Run

Group = SeedGroup[Run]


class Column(NamedTuple):
    """One column: `values` by their names in the CSV; accuracies in [0, 1], NaN for none."""

    heading: str
    cell: Callable[[Group], str]
    values: Mapping[str, Callable[[Group], str | int | float]]


def _interval(group: Group) -> str:
    low, high = group.interval(TEST_ACCURACY)
    return f"{100 * low:.2f}-{100 * high:.2f}"


def _validation(group: Group) -> str:
    mean = group.mean(OBJECTIVE)
    return f"{100 * mean:.2f}" if isfinite(mean) else "none"


def _mean(metric: str) -> Callable[[Group], float]:
    return lambda group: group.mean(metric)


def _thousands(metric: str) -> Callable[[Group], str]:
    def cell(group: Group) -> str:
        mean = group.mean(metric)
        return f"{mean / 1000:,.0f}k" if mean >= 10_000 else f"{mean:,.0f}"

    return cell


COLUMNS = (
    Column("settings", lambda group: group.name, {"settings": lambda group: group.name}),
    Column("n", lambda group: str(group.n), {"n": lambda group: group.n}),
    Column(
        "test %",
        lambda group: group.mean_and_sd(TEST_ACCURACY),
        {"mean": _mean(TEST_ACCURACY), "sd": lambda group: group.sd(TEST_ACCURACY)},
    ),
    Column(
        "best",
        lambda group: f"{100 * group.best(TEST_ACCURACY):.2f}",
        {"best": lambda group: group.best(TEST_ACCURACY)},
    ),
    Column(
        "95 % range",
        _interval,
        {
            "low": lambda group: group.interval(TEST_ACCURACY)[0],
            "high": lambda group: group.interval(TEST_ACCURACY)[1],
        },
    ),
    Column("val %", _validation, {"val_mean": _mean(OBJECTIVE)}),
    Column(
        "train s",
        lambda group: f"{group.mean('train/seconds'):.1f}",
        {"seconds": _mean("train/seconds")},
    ),
    Column("weights", _thousands("model/parameters"), {"parameters": _mean("model/parameters")}),
    Column(
        "img/s",
        _thousands("model/images_per_second"),
        {"images_per_second": _mean("model/images_per_second")},
    ),
)


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
                    "--output: the runs are on several data sets; take --columns data.name, or one "
                    "of them with --where \"tags.data.name = 'mnist'\""
                )
            score = group.mean_and_sd(TEST_ACCURACY).replace("±", r"$\pm$")
            cells[place] = f"{score} ({group.n})"
    down, across = (list(dict.fromkeys(values)) for values in zip(*cells, strict=True))
    lines = [
        f"% {title}: test accuracy in %, mean ± sd (seeds), by {rows} and {columns}.",
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * len(across)}}}",
        r"\toprule",
        _line([_escaped(name) for name in (rows, *across)]),
        r"\midrule",
        *(_line([_escaped(name), *(cells.get((name, x), "") for x in across)]) for name in down),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return text.translate(SPECIAL)
