"""Test accuracies as a LaTeX table of two params."""

from functools import partial

import pytest
from analysis.test_comparison import recorded

from mnist_exp.analysis.comparison import compare
from mnist_exp.analysis.comparison_tables import latex_table
from mnist_exp.core.errors import InputError

BY = ["model.name", "train.epochs"]
table = partial(latex_table, title="50% of it", pngs={}, rows=BY[0], columns=BY[1])


def test_cells_are_mean_sd_and_seeds_and_special_characters_are_escaped() -> None:
    runs = [recorded("cnn_fast", seed, range(10 + seed), **{BY[1]: "1"}) for seed in range(3)]
    runs.append(recorded("dense128", 0, range(20), **{BY[1]: "10"}))
    runs.append(recorded("dense128", 0, range(10), **{BY[1]: "3"}))
    lines = table(compare(runs, BY)).splitlines()
    assert lines[-10:] == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r" & \multicolumn{3}{c}{train.epochs} \\",
        r"\cmidrule{2-4}",
        r"model.name & 1 & 3 & 10 \\",
        r"\midrule",
        r"cnn\_fast & 98.90 $\pm$ 0.10 (3) & -- & -- \\",
        r"dense128 & -- & 99.00 (1) & 98.00 (1) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert all(line.startswith("%") for line in lines[:-10])


def test_two_data_sets_do_not_share_a_cell() -> None:
    runs = [recorded("cnn", 0, range(9), data=data, **{BY[1]: "1"}) for data in ("mnist", "other")]
    with pytest.raises(InputError, match=r"take --columns data\.name, or one of them with --where"):
        table(compare(runs, BY))
