"""Groups of recorded runs, the tests of their differences, and the report."""

import csv
import re
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from mnist_exp.analysis import comparison_report
from mnist_exp.analysis.comparison import Comparison, compare
from mnist_exp.core.errors import InputError
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.evaluation.significance import single_case_t, welch_t
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import store_config

LABELS = np.arange(1000) % 10


@dataclass(frozen=True, eq=False)
class FakeRun(Run):
    """A recorded run without a tracking store."""

    predicted: Evaluation = field(default=None)  # type: ignore[assignment]

    def evaluation(self) -> Evaluation:
        if self.predicted is None:
            raise InputError("it has no predictions.npz that could be read")
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
        name=f"{model} seed={seed}",
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
    viewed = recorded("cnn", 2, range(11), **{"callbacks.tensorboard.name": "TensorBoard"})
    found = one(compare([*seeds("cnn", [10, 12]), viewed, *seeds("dense128", [30, 33, 31])]))
    cnn, dense = found.groups
    assert (cnn.name, cnn.n, dense.name, dense.n) == ("cnn", 3, "dense128", 3)
    assert cnn.mean("test/accuracy") == pytest.approx(0.989)
    assert cnn.sd("test/accuracy") == pytest.approx(0.001)
    assert cnn.best("test/accuracy") == 0.99
    low, high = cnn.interval("test/accuracy")  # Student's t for 2 degrees of freedom is 4.3027
    assert (low, high) == pytest.approx(
        (0.989 - 4.3027 * 0.001 / 3**0.5, 0.989 + 4.3027 * 0.001 / 3**0.5), abs=1e-6
    )


@pytest.mark.parametrize("by", [(), ("model.name",)])
def test_an_extended_run_is_in_no_group_of_others(by: tuple[str, ...]) -> None:
    planned = seeds("cnn", [10, 12], **{"train.epochs": "20"})
    extended = [
        replace(run, run_id=f"{run.run_id}-extended", tags=run.tags | {"extended_after": "10"})
        for run in planned
    ]
    origins = seeds("cnn", [20, 21], **{"train.epochs": "10"}, number=1)
    found = one(compare([*extended, *planned, *origins], by))
    together = {frozenset(run.run_id for run in group.runs) for group in found.groups}
    assert frozenset(run.run_id for run in extended) in together
    assert len(together) == 3 - len(by)
    assert not any("repeats" in note for note in found.notes)
    (name,) = (group.name for group in found.groups if group.runs[0] in extended)
    assert name == ("cnn extended_after=10" if by else "cnn extended_after=10 epochs=20")


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
        "cnn lr=0.01",
        "dense128 lr=1e-3",
        "dense128 lr=0.01",
    ]


def test_few_keys_tell_the_groups_apart_and_choices_come_first() -> None:
    sgd = {"optimizer.name": "sgd", "optimizer.learning_rate": "0.1", "optimizer.momentum": "0.9"}
    adam = {"optimizer.name": "adam", "optimizer.learning_rate": "0.001"}
    runs = [
        *seeds("cnn", [10], **sgd),
        *seeds("cnn", [20], **adam, **{"model.dropout": "0.12341"}),
        *seeds("cnn", [30], **adam, **{"model.dropout": "0.12342"}),
    ]
    assert [group.name for group in one(compare(runs)).groups] == [
        "cnn optimizer=sgd",
        "cnn dropout=0.12341 optimizer=adam",  # in full, where three digits are alike
        "cnn dropout=0.12342 optimizer=adam",
    ]


def test_a_limit_of_the_training_images_is_always_named() -> None:
    many = {f"train.{key}": "1" for key in "abcde"}
    runs = [
        *seeds("cnn", [10], **{"optimizer.name": "sgd", "data.limit": "null"}),
        *seeds("cnn", [20], **{"optimizer.name": "adam", "data.limit": "1000"}, **many),
    ]
    assert [group.name for group in one(compare(runs)).groups] == [
        "cnn optimizer=sgd limit=null",
        "cnn optimizer=adam limit=1000",
    ]


def test_groups_of_seeds_are_compared_by_welchs_test() -> None:
    found = one(compare([*seeds("cnn", [10, 12, 11]), *seeds("dense128", [30, 33, 31, 29, 34])]))
    (pair,) = found.pairs
    assert pair.test == "Welch's t-test"
    assert pair.p == welch_t([0.99, 0.988, 0.989], [0.97, 0.967, 0.969, 0.971, 0.966])
    low, high = pair.interval
    assert 0.01 < low < pair.difference < high < 0.03
    assert pair.verdict.startswith("cnn beats dense128: +2.04 points (+1.")
    assert pair.verdict.endswith("), p < 0.001, n = 3 and 5 seeds")


def test_seeds_of_different_networks_are_no_pairs() -> None:
    """Their ranges do not touch, and yet the seed that is best for one is worst for the other."""
    (pair,) = one(compare([*seeds("a", [10, 20, 30]), *seeds("b", [60, 50, 40])])).pairs
    assert pair.is_significant


def test_one_run_is_compared_with_a_group_as_a_single_case() -> None:
    (pair,) = one(compare([*seeds("a", [10, 12, 11, 13]), *seeds("b", [40])])).pairs
    assert pair.test == "t-test of a single case"
    assert pair.p == single_case_t(0.96, [0.99, 0.988, 0.989, 0.987])
    assert pair.verdict.endswith("), p < 0.001, n = 4 seeds against one run")


def test_an_open_question_says_how_many_seeds_would_settle_it() -> None:
    (pair,) = one(compare([*seeds("a", [10, 20, 30]), *seeds("b", [25, 35, 45])])).pairs
    assert not pair.is_significant
    assert pair.verdict.endswith("n = 3 seeds each; if real, about 9 seeds each would show it")
    (pair,) = one(compare([*seeds("a", [10, 20, 30]), *seeds("b", [11, 20, 30])])).pairs
    assert pair.verdict.endswith("not even 100 seeds each would show so small a difference")
    (pair,) = one(compare([*seeds("a", [20, 20]), *seeds("b", [30, 30])])).pairs
    assert pair.verdict.endswith("n = 2 seeds each")  # seeds that agree tell nothing of others


def test_two_single_runs_are_compared_image_by_image() -> None:
    a, b = recorded("a", 0, range(20)), recorded("b", 7, range(10, 60))
    (pair,) = one(compare([a, b])).pairs
    assert (pair.test, pair.n) == ("exact McNemar test", "1,000 images")
    assert pair.p == pytest.approx(2 * sum(_choose(50, k) for k in range(11)) / 2**50)
    assert pair.verdict.startswith("this run of a beats this run of b: +3.00 points (+1.")
    assert pair.verdict.endswith("1,000 images; train 3 seeds to compare the recipes")


def _choose(n: int, k: int) -> float:
    from math import comb

    return comb(n, k)


def test_a_chance_difference_is_not_significant() -> None:
    (pair,) = one(compare([recorded("a", 0, range(20)), recorded("b", 0, range(12, 34))])).pairs
    assert not pair.is_significant
    assert pair.verdict.startswith(
        "this run of a against this run of b: no difference shown, +0.20 "
    )


def test_runs_without_predictions_are_compared_as_far_as_they_can_be() -> None:
    lost = [replace(run, predicted=None) for run in seeds("b", [30, 33])]
    found = one(compare([*seeds("a", [10, 12]), *lost, *seeds("c", [9])]))
    assert any("run b-0-0 (b seed=0), run b-1-0 (b seed=1) cannot be" in n for n in found.notes)
    verdicts = {(pair.a.name, pair.b.name): pair.verdict for pair in found.pairs}
    assert verdicts["a", "b"].startswith("a beats b: +2.05 points, p = 0.0")
    assert "(" in verdicts["c", "a"]
    assert np.isnan(found.agreement).tolist() == [
        [True, False, True],
        [False] * 2 + [True],
        [True] * 3,
    ]
    (pair,) = one(compare([lost[0], *seeds("c", [9])])).pairs
    assert pair.verdict == "c and b: not tested, the predictions of a run are missing"


def test_one_seed_of_several_runs_is_no_test() -> None:
    runs = [recorded("a", 0, range(n), **{"train.epochs": str(n)}) for n in (10, 20)]
    (pair,) = one(compare([*runs, *seeds("b", [30])], by=["model.name"])).pairs
    assert pair.verdict == "a and b: not tested, all runs have one seed: train 3 seeds of each"


def test_a_baseline_is_tested_against_each_other_group() -> None:
    runs = [run for name in "abcd" for run in seeds(name, [10, 12])]
    found = one(compare(runs, baseline="c"))
    assert len(found.pairs) == 3
    assert all("c" in (pair.a.name, pair.b.name) for pair in found.pairs)
    with pytest.raises(InputError, match="--baseline e: no group has this name; there are a, b, c"):
        compare(runs, baseline="e")


def test_of_many_groups_each_is_tested_against_the_best_by_validation() -> None:
    runs = [run for k, name in enumerate("abcdefg") for run in seeds(name, [20 - k, 21 - k])]
    for run in runs:  # the test split prefers g
        run.metrics["val/accuracy"] = 0.99 if run.name.startswith("d") else 0.98
    found = one(compare(runs))
    assert len(found.pairs) == 6
    assert all("d" in (pair.a.name, pair.b.name) for pair in found.pairs)
    assert any("Of 7 groups each is tested against d, the best by" in n for n in found.notes)
    assert len(one(compare(runs[:-2])).pairs) == 15
    for run in runs:
        del run.metrics["val/accuracy"]
    found = one(compare(runs))
    assert len(found.pairs) == 21  # none of them is the best
    assert [group.name for group in found.groups] == list("abcdefg")  # not by the test split


def test_the_first_groups_verdicts_come_first_then_the_clearest() -> None:
    found = one(compare([*seeds("b", [10, 12]), *seeds("c", [11, 14]), *seeds("a", [90, 80])]))
    assert [{p.a.name, p.b.name} for p in found.pairs] == [{"a", "b"}, {"b", "c"}, {"a", "c"}]


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
    with pytest.raises(InputError, match="modle: no run has such a param"):
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
    comparison_report.write(
        tmp_path / "r.html", found, "compared", comparison_report.RENDERERS[".html"]
    )
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        *(f"mnist_{kind}" for kind in ("accuracies", "trade_off", "learning_curves", "agreement")),
        *(f"mnist5k_{kind}" for kind in ("accuracies", "trade_off", "learning_curves")),
    }
    html = (tmp_path / "r.html").read_text()
    assert html.count("data:image/png;base64,") == 7
    assert not re.search(r"src=(?!\"data:)", html)  # nothing from elsewhere
    links = re.findall(r"href=\"([^\"]*)\"", html)
    assert len(links) == 7
    assert "http://127.0.0.1:5000/#/runs/cnn-0-0" in links
    assert not re.search(r"alt=\"\"", html)
    assert "<script>" not in html
    hostile_name = "note=&lt;script&gt;alert(1)&lt;/script&gt;"
    assert html.count(hostile_name) == 3  # a row, a verdict and its runs
    markdown = comparison_report.RENDERERS[".md"](found, "compared", {})
    assert "| cnn note=plain | 3 | 96.73 ± 0.25 | 97.00 |" in markdown
    assert "n = 3 seeds each (Welch's t-test)" in markdown
    text = comparison_report.RENDERERS[".csv"](found, "compared", {})
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["n"] for row in rows] == ["3", "3", "1"]
    assert float(rows[1]["mean"]) == pytest.approx(1 - 0.098 / 3)
    assert rows[2]["sd"] == ""
