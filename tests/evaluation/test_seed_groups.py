"""Metrics over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

import numpy as np
import pytest
from scipy import stats

from mnist_exp.evaluation.significance import SeedGroup, group_by_settings

ACCURACY = "test/accuracy"


@dataclass(frozen=True)
class FakeRun:
    metrics: Mapping[str, float]


def group(*accuracies: float, seeds: str = "0123456789", **more: float) -> SeedGroup[FakeRun]:
    runs = [FakeRun({ACCURACY: accuracy, **more}) for accuracy in accuracies]
    return SeedGroup({}, runs, seeds[: len(runs)])


@pytest.mark.parametrize("values", [[0.97, 0.971], [0.9729, 0.9757, 0.9711, 0.9718, 0.985]])
def test_mean_sd_and_interval_are_over_seeds(values: list[float]) -> None:
    seeds = group(*values)
    assert seeds.n == len(values)
    assert seeds.mean(ACCURACY) == pytest.approx(np.mean(values))
    assert seeds.sd(ACCURACY) == pytest.approx(np.std(values, ddof=1))
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert seeds.interval(ACCURACY) == pytest.approx(tuple(expected), abs=1e-12)
    assert seeds.best(ACCURACY) == max(values)


def test_the_interval_of_a_mean_stays_between_0_and_1() -> None:
    assert group(0.0, 0.01).interval(ACCURACY)[0] == 0
    assert group(1.0, 0.99).interval(ACCURACY)[1] == 1


def test_a_single_run_has_its_own_interval_and_no_sd() -> None:
    ends = {f"{ACCURACY}_low": 0.96, f"{ACCURACY}_high": 0.98}
    single = group(0.97, **ends)
    assert single.interval(ACCURACY) == (0.96, 0.98)
    assert isnan(single.sd(ACCURACY))


def test_several_runs_of_one_seed_count_once() -> None:
    repeated = group(0.9, 0.8, 0.7, seeds="001")
    assert repeated.n == 2
    assert repeated.by_seed(ACCURACY) == pytest.approx({"0": 0.85, "1": 0.7})
    assert repeated.mean(ACCURACY) == pytest.approx(0.775)
    assert repeated.best(ACCURACY) == 0.9


def test_a_metric_that_no_run_has_is_nan() -> None:
    assert group(0.9, 0.8).by_seed("val/accuracy") == {}
    assert isnan(group(0.9, 0.8).mean("val/accuracy"))
    assert isnan(group(0.9, 0.8).sd("val/accuracy"))


def test_runs_of_the_same_settings_are_one_group_in_order_of_appearance() -> None:
    a, b, c = (FakeRun({ACCURACY: value}) for value in (0.9, 0.8, 0.7))
    first, second = group_by_settings(
        [({"x": "1", "y": "2"}, "0", a), ({"x": "2"}, "0", b), ({"y": "2", "x": "1"}, "4", c)]
    )
    assert (first.settings, first.runs, first.seeds) == ({"x": "1", "y": "2"}, [a, c], ["0", "4"])
    assert (second.settings, second.n) == ({"x": "2"}, 1)
