"""What the Wilson interval promises."""

import pytest
from scipy.stats import binomtest

from mnist_exp.significance import wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(9, 10), (9_783, 10_000), (1, 3), (0, 7), (50, 50)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_agrees_with_scipy(hits, n, confidence):
    expected = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(hits, n, confidence) == pytest.approx(tuple(expected), abs=1e-12)


def test_newcombe_1998_example():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263 and 15 of 148.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_the_bounds_are_exact_at_the_ends():
    low, high = wilson_interval(0, 20)
    assert low == 0
    assert high == pytest.approx(0.1611, abs=5e-5)  # Newcombe's 0 of 20
    assert wilson_interval(20, 20) == pytest.approx((1 - high, 1))
    for n in range(1, 300):  # rounding alone would leave 1e-17 at some of these
        assert wilson_interval(0, n)[0] == 0
        assert wilson_interval(n, n)[1] == 1


def test_more_confidence_is_wider_and_more_images_narrower():
    def width(*given: float) -> float:
        low, high = wilson_interval(*given)
        return high - low

    assert width(90, 100, 0.99) > width(90, 100, 0.95) > width(900, 1000, 0.95)


@pytest.mark.parametrize("given", [(0, 0), (-1, 5), (6, 5), (3, 5, 1.0), (3, 5, 95)])
def test_impossible_input_is_refused(given):
    with pytest.raises(ValueError, match="got"):
        wilson_interval(*given)
