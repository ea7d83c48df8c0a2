"""A comparison as a LaTeX table: one param in the rows, another in the columns."""

from collections.abc import Mapping, Sequence

from mnist_exp.analysis.comparison import Comparison
from mnist_exp.analysis.verdicts import TEST_ACCURACY
from mnist_exp.core.errors import InputError

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
