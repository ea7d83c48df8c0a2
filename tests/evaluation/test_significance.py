"""Intervals and tests, against SciPy, statsmodels and published examples."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats import contingency_tables, multitest
from statsmodels.stats.power import TTestIndPower

from mnist_exp.evaluation.significance import (
    crossed_interval,
    holm,
    mcnemar,
    seeds_to_show,
    single_case_t,
    welch_t,
    wilson_interval,
)


@pytest.mark.parametrize(("correct", "n"), [(9, 10), (9_783, 10_000), (1, 3), (0, 7), (50, 50)])
def test_wilson_interval_agrees_with_scipy(correct, n):
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx(tuple(expected), abs=1e-12)


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


@pytest.mark.parametrize(("b", "c"), [(121, 59), (0, 5), (7, 7), (1, 0), (40, 61)])
def test_mcnemar_agrees_with_statsmodels(b, c):
    expected = contingency_tables.mcnemar([[9000, b], [c, 500]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(expected, abs=1e-12)
    assert mcnemar(c, b) == mcnemar(b, c)


def test_mcnemar_of_models_that_always_agree_is_1():
    assert mcnemar(0, 0) == 1


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 5), (5, 3), (30, 2)])
def test_welch_t_agrees_with_scipy(n, m):
    random = np.random.default_rng(3)
    a, b = random.normal(0.98, 0.002, n), random.normal(0.981, 0.004, m)
    expected = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert welch_t(a, b) == pytest.approx(expected, abs=1e-12)
    assert welch_t(b, a) == welch_t(a, b)


def test_single_case_t_agrees_with_scipy_and_crawford_and_howell_1998():
    random = np.random.default_rng(4)
    for n in (2, 3, 5, 30):  # the test with pooled variance when one sample has one value
        a, b = random.normal(0.98, 0.002, n), random.normal(0.975, 0.002)
        expected = stats.ttest_ind([b], a).pvalue
        assert single_case_t(b, a) == pytest.approx(expected, abs=1e-12)


def test_equal_values_have_the_p_of_a_permutation_test():
    assert welch_t([0.98] * 3, [0.98] * 3) == single_case_t(0.98, [0.98] * 3) == 1
    assert welch_t([0.98] * 3, [0.97] * 3) == 2 / 20  # not 0, as a standard error of 0 would give
    assert single_case_t(0.97, [0.98] * 3) == 2 / 4


@pytest.mark.parametrize(("effect", "alpha"), [(0.5, 0.05), (1.0, 0.05), (1.5, 0.01), (3.0, 0.05)])
def test_seeds_to_show_a_difference_agree_with_statsmodels(effect, alpha):
    expected = TTestIndPower().solve_power(effect, power=0.8, alpha=alpha)
    found = seeds_to_show(-effect * 0.002, (0.002, 0.002), alpha)
    assert found == np.ceil(expected)


def test_no_number_of_seeds_shows_what_is_too_small():
    assert seeds_to_show(1e-5, (0.002, 0.002), 0.05) is None


def correct(random, n, images=1000, easy=0.9, skill=0.05):
    """Whether n seeds read images right of which some are hard for every seed."""
    read = random.random((n, images)) < random.uniform(1 - 2 * skill, 1, (n, 1))
    return read & (np.random.default_rng(9).random(images) < easy)


def test_the_crossed_interval_is_that_of_the_pigeonhole_bootstrap():
    random = np.random.default_rng(5)
    a, b = correct(random, 20), correct(random, 30, skill=0.1)
    differences = []
    for _ in range(1000):  # seeds and images are resampled, the images once for both
        images = random.integers(1000, size=1000)
        means = [x[random.integers(len(x), size=len(x))][:, images].mean() for x in (a, b)]
        differences.append(means[0] - means[1])
    expected = np.percentile(differences, [2.5, 97.5])
    assert crossed_interval(a, b) == pytest.approx(tuple(expected), abs=0.004)  # of 0.05


def test_the_crossed_interval_counts_seeds_and_images():
    random = np.random.default_rng(6)
    a, b = correct(random, 3), correct(random, 5)
    skill = (
        np.tile(a.mean(axis=1, keepdims=True), 1000),
        np.tile(b.mean(axis=1, keepdims=True), 1000),
    )
    welch = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False).confidence_interval()
    assert crossed_interval(*skill) == pytest.approx(tuple(welch))  # as if no image were hard
    difference = a[:1] * 1.0 - b[:1]
    half = 1.96 * difference.std() / np.sqrt(1000)
    expected = (difference.mean() - half, difference.mean() + half)
    assert crossed_interval(a[:1], b[:1]) == pytest.approx(expected, abs=1e-5)
    pooled = stats.ttest_ind(a.mean(axis=1), b[:1].mean(axis=1)).confidence_interval()
    assert crossed_interval(skill[0], skill[1][:1]) == pytest.approx(tuple(pooled))
    assert crossed_interval(a[:1], a[:1]) == (0, 0)


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
        p = [welch_t(groups[i], groups[j]) for i in range(4) for j in range(i)]
        false_positives += min(holm(p)) < 0.05
    assert 0.01 < false_positives / 2000 < 0.06
