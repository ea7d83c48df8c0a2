"""Intervals and tests, against SciPy, statsmodels and published examples."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats import contingency_tables, multitest

from mnist_exp.evaluation.significance import holm, mcnemar, paired_t, t_interval, wilson_interval


@pytest.mark.parametrize(("correct", "n"), [(9, 10), (9_783, 10_000), (1, 3), (0, 7), (50, 50)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_wilson_interval_agrees_with_scipy(correct, n, confidence):
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(correct, n, confidence) == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_interval_agrees_with_newcombe_1998():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263 and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_wilson_bounds_are_exact_at_0_and_1():
    low, high = wilson_interval(0, 20)
    assert low == 0
    assert high == pytest.approx(0.1611, abs=5e-5)  # Newcombe's 0 of 20
    assert wilson_interval(20, 20) == pytest.approx((1 - high, 1))
    for n in range(1, 300):  # rounding alone would leave 1e-17 at some of these
        assert wilson_interval(0, n)[0] == 0
        assert wilson_interval(n, n)[1] == 1


def test_wilson_interval_widens_with_confidence_and_narrows_with_n():
    def width(*args: float) -> float:
        low, high = wilson_interval(*args)
        return high - low

    assert width(90, 100, 0.99) > width(90, 100, 0.95) > width(900, 1000, 0.95)


@pytest.mark.parametrize("args", [(0, 0), (-1, 5), (6, 5), (3, 5, 1.0), (3, 5, 95)])
def test_wilson_interval_refuses_impossible_input(args):
    with pytest.raises(ValueError, match="got"):
        wilson_interval(*args)


@pytest.mark.parametrize("values", [[0.97, 0.98], [0.9729, 0.9757, 0.9711, 0.9718, 0.9722]])
def test_t_interval_agrees_with_scipy(values):
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(tuple(expected), abs=1e-12)
    with pytest.raises(ValueError, match="two or more"):
        t_interval(values[:1])


@pytest.mark.parametrize(("b", "c"), [(121, 59), (0, 5), (7, 7), (1, 0), (40, 61)])
def test_mcnemar_agrees_with_statsmodels(b, c):
    expected = contingency_tables.mcnemar([[9000, b], [c, 500]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(expected, abs=1e-12)
    assert mcnemar(c, b) == mcnemar(b, c)


def test_mcnemar_of_models_that_always_agree_is_1():
    assert mcnemar(0, 0) == 1


def test_paired_t_agrees_with_scipy():
    random = np.random.default_rng(3)
    for n in (2, 3, 5, 30):
        a, b = random.normal(0.98, 0.002, (2, n))
        assert paired_t(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=1e-12)


def test_paired_t_of_equal_differences_is_the_sign_test():
    assert paired_t([0.0, 0.0, 0.0]) == 1
    assert paired_t([0.0001, 0.0001]) == 0.5  # not 0, as a standard error of 0 would give
    assert paired_t([-0.01] * 5) == pytest.approx(2 / 32)


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5], [], [0.2, 0.2, 0.9, 1.0]])
def test_holm_agrees_with_statsmodels(p):
    expected = multitest.multipletests(p, method="holm")[1] if p else []
    assert holm(p) == pytest.approx(list(expected))


def test_holm_keeps_false_positives_rare():
    # 2,000 tables of 6 pairs without a difference, 5 seeds each: at most 5 % with a false positive.
    random = np.random.default_rng(0)
    false_positives = 0
    for _ in range(2000):
        groups = random.normal(0.98, 0.001, (4, 5))
        p = [paired_t(groups[i] - groups[j]) for i in range(4) for j in range(i)]
        false_positives += min(holm(p)) < 0.05
    assert 0.01 < false_positives / 2000 < 0.06
