"""Groups of recorded runs, the tests of their differences, and the report."""

import csv
import re
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from mnist_exp.analysis import comparison_report
from mnist_exp.analysis.comparison import Comparison, compare
from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import store_config

LABELS = np.arange(1000) % 10


@dataclass(frozen=True, eq=False)
class FakeRun(Run):
    """A recorded run without a tracking store."""

    predicted: Evaluation = field(default=None)  # type: ignore[assignment]

    def evaluation(self) -> Evaluation:
        return self.predicted

    def history(self) -> list[dict[str, float]]:
        return [{"epoch": 1.0, "val/accuracy": 0.9}, {"epoch": 2.0, "val/accuracy": 0.95}]


def recorded(
    model: str, seed: int, wrong: range, *, data: str = "mnist", number: int = 0, **params: str
) -> FakeRun:
    """A run of `model` that misclassifies these of 1,000 images."""
    predictions = LABELS.copy()
    predictions[list(wrong)] = (predictions[list(wrong)] + 1) % 10
    evaluation = Evaluation(LABELS, np.eye(10, dtype=np.float32)[predictions])
    settings = {"model.name": model, "seed": str(seed), "tracking.uri": str(number)} | params
    return FakeRun(
        run_id=f"{model}-{seed}-{number}",
        name=f"{model}-seed{seed}",
        status="FINISHED",
        metrics=evaluation.metrics()
        | {
            "val/accuracy": evaluation.accuracy,
            "train/seconds": 2.0,
            "model/parameters": 118_282,
            "model/images_per_second": 5e5,
        },
        params=settings,
        tags={"data.name": data, "data.digest": data, "data.label": data, "cpu": "a"},
        tracking=store_config(),
        predicted=evaluation,
    )


def one(comparisons: list[Comparison]) -> Comparison:
    (comparison,) = comparisons
    return comparison


def seeds(model: str, mistakes: list[int], **more: str) -> list[FakeRun]:
    """A run per seed with that many mistakes."""
    return [recorded(model, seed, range(n), **more) for seed, n in enumerate(mistakes)]


def test_runs_that_differ_in_their_seed_are_one_group() -> None:
    found = one(compare([*seeds("cnn", [10, 12, 11]), *seeds("dense128", [30, 33, 31])]))
    cnn, dense = found.groups
    assert (cnn.name, cnn.n, dense.name, dense.n) == ("cnn", 3, "dense128", 3)
    assert cnn.mean("test/accuracy") == pytest.approx(0.989)
    assert cnn.sd("test/accuracy") == pytest.approx(0.001)
    assert cnn.best("test/accuracy") == 0.99
    low, high = cnn.interval("test/accuracy")  # Student's t for 2 degrees of freedom is 4.3027
    assert (low, high) == pytest.approx(
        (0.989 - 4.3027 * 0.001 / 3**0.5, 0.989 + 4.3027 * 0.001 / 3**0.5), abs=1e-6
    )


def test_groups_of_one_model_are_named_by_what_differs() -> None:
    found = one(
        compare(
            [
                *seeds("dense128", [30], **{"optimizer.learning_rate": "0.001"}),
                *seeds("dense128", [40], **{"optimizer.learning_rate": "0.01"}),
                *seeds("cnn", [10], **{"optimizer.learning_rate": "0.01"}),
            ]
        )
    )
    assert [group.name for group in found.groups] == [
        "cnn",
        "dense128 optimizer.learning_rate=0.001",
        "dense128 optimizer.learning_rate=0.01",
    ]


def test_shared_seeds_are_compared_by_a_paired_test() -> None:
    found = one(
        compare([*seeds("cnn", [10, 12, 11, 9, 13]), *seeds("dense128", [30, 33, 31, 29, 34])])
    )
    (pair,) = found.pairs
    assert pair.is_significant
    assert pair.verdict == "cnn beats dense128: +2.04 points, p < 0.001, n = 5 seeds"


def test_seeds_of_only_one_group_do_not_count() -> None:
    late = [recorded("b", seed, range(20)) for seed in (1, 2)]
    found = one(compare([*seeds("a", [500, 20, 20]), *late]))
    assert found.pairs[0].difference == 0  # over seeds 1 and 2
    assert "no difference shown" in found.pairs[0].verdict


def test_two_single_runs_are_compared_image_by_image() -> None:
    a, b = recorded("a", 0, range(20)), recorded("b", 7, range(10, 60))
    (pair,) = one(compare([a, b])).pairs
    assert (pair.test, pair.n) == ("exact McNemar test", "one run each on 1,000 images")
    assert pair.p == pytest.approx(2 * sum(_choose(50, k) for k in range(11)) / 2**50)
    assert pair.verdict.startswith("a beats b: +3.00 points, p < 0.001")
    assert any("speaks for that model" in note for note in one(compare([a, b])).notes)


def _choose(n: int, k: int) -> float:
    from math import comb

    return comb(n, k)


def test_a_chance_difference_is_not_significant() -> None:
    (pair,) = one(compare([recorded("a", 0, range(20)), recorded("b", 0, range(12, 34))])).pairs
    assert not pair.is_significant
    assert pair.verdict.startswith("a and b: no difference shown (+0.20 points, p = ")


def test_groups_without_a_common_seed_are_not_tested() -> None:
    others = [recorded("b", seed, range(90)) for seed in (5, 6)]
    (pair,) = one(compare([*seeds("a", [1, 2]), *others])).pairs
    assert isnan(pair.p)
    assert pair.verdict == "a and b: not tested, they share no seeds: run both with the same ones"


def test_p_values_are_corrected_for_the_number_of_pairs() -> None:
    a, b = recorded("a", 0, range(20)), recorded("b", 0, range(10, 43))
    alone = one(compare([a, b])).pairs[0]
    others = [recorded(name, 0, range(20)) for name in "cdefgh"]
    among = next(
        p for p in one(compare([a, b, *others])).pairs if {p.a.name, p.b.name} == {"a", "b"}
    )
    assert alone.p < 0.05 < among.p


def test_the_same_run_twice_is_no_second_seed() -> None:
    twice = [*seeds("cnn", [10, 12]), recorded("cnn", 0, range(99), number=1)]
    found = one(compare(twice))
    assert found.groups[0].n == 2
    assert found.groups[0].mean("test/accuracy") == pytest.approx(0.989)  # the first is the latest
    assert any("1 repeats" in note for note in found.notes)


def test_grouping_by_a_param_pools_what_differs_otherwise() -> None:
    mixed = [
        *seeds("a", [10, 12], **{"train.epochs": "3"}),
        *seeds("a", [20, 22], **{"train.epochs": "9"}),
        *seeds("b", [30, 31], **{"train.epochs": "3"}),
    ]
    found = one(compare(mixed, by=["model.name"]))
    assert [(group.name, group.n, len(group.runs)) for group in found.groups] == [
        ("a", 2, 4),
        ("b", 2, 2),
    ]
    assert list(found.groups[0].by_seed("test/accuracy").values()) == pytest.approx([0.985, 0.983])
    assert any("also differ in train.epochs" in note for note in found.notes)
    with pytest.raises(InputError, match="--by modle: no run has such a param"):
        compare(mixed, by=["modle"])


def test_each_data_set_has_its_own_comparison() -> None:
    found = compare([*seeds("cnn", [10, 11]), *seeds("cnn", [90], data="mnist5k")])
    assert [(c.data, len(c.groups)) for c in found] == [("mnist", 1), ("mnist5k", 1)]
    assert any("do not compare with full MNIST" in note for note in found[1].notes)


def test_agreement_is_between_runs_and_on_the_diagonal_between_seeds() -> None:
    a = [recorded("a", 0, range(100)), recorded("a", 1, range(50))]
    b = [recorded("b", 0, range(100, 120))]
    shares = one(compare([*a, *b])).agreement
    names = [group.name for group in one(compare([*a, *b])).groups]
    i, j = names.index("a"), names.index("b")
    assert shares[i, i] == pytest.approx(0.95)  # 50 images predicted otherwise
    assert shares[i, j] == shares[j, i] == pytest.approx((0.88 + 0.93) / 2)
    assert isnan(shares[j, j])


def test_every_form_of_the_report(tmp_path: Path) -> None:
    hostile = {"note": "<script>alert(1)</script>"}
    found = compare(
        [
            *seeds("cnn", [10, 12, 11], **hostile),
            *seeds("cnn", [30, 33, 35], note="plain"),
            *seeds("cnn", [90], data="mnist5k"),
        ]
    )
    comparison_report.write(tmp_path / "r.html", found, "compared")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        *(f"mnist_{kind}" for kind in ("accuracies", "trade_off", "learning_curves", "agreement")),
        *(f"mnist5k_{kind}" for kind in ("accuracies", "trade_off", "learning_curves")),
    }
    html = (tmp_path / "r.html").read_text()
    assert html.count("data:image/png;base64,") == 7
    assert not re.search(r"(src|href)=(?!\"data:)", html)  # nothing from elsewhere
    assert "<script>" not in html
    assert html.count("note=&lt;script&gt;alert(1)&lt;/script&gt;") == 2  # a row and a verdict
    markdown = comparison_report.RENDERERS[".md"](found, "compared", {})
    assert "| cnn note=plain | 3 | 96.73 ± 0.25 | 97.00 |" in markdown
    assert "n = 3 seeds (paired t-test)" in markdown
    text = comparison_report.RENDERERS[".csv"](found, "compared", {})
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["n"] for row in rows] == ["3", "3", "1"]
    assert float(rows[1]["mean"]) == pytest.approx(1 - 0.098 / 3)
    assert rows[2]["sd"] == ""
