"""Confidence intervals of an accuracy, and significance tests of a difference between two."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist, mean, stdev

TOLERANCE = 1e-12  # accuracies that differ by less differ by rounding only


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval (low, high), both in [0, 1], of the proportion `correct / n`.

    Unlike the textbook p ± 1.96 s it never leaves [0, 1] and keeps its coverage near 1, where MNIST
    accuracies are. Source: Wilson (1927), "Probable inference, the law of succession, and
    statistical inference", JASA 22(158), pp. 209-212; equation 4 of Brown, Cai and DasGupta
    (2001), "Interval estimation for a binomial proportion", Statistical Science 16(2).
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"expected 0 <= correct <= n and n >= 1, got correct={correct}, n={n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17 or cross the bound.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == n else centre + half
    return low, high


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval (low, high) of the mean of two or more independent values.

    Source: Student (1908), "The probable error of a mean", Biometrika 6(1).
    """
    if len(values) < 2:
        raise ValueError(f"expected two or more values, got {len(values)}")
    from scipy.stats import t

    half = t.ppf((1 + confidence) / 2, len(values) - 1) * stdev(values) / sqrt(len(values))
    return mean(values) - float(half), mean(values) + float(half)


def mcnemar(only_a: int, only_b: int) -> float:
    """The two-sided exact p-value that A and B are equally accurate.

    `only_a` images are classified correctly by A alone, `only_b` by B alone.
    Source: McNemar (1947), Psychometrika 12(2); exact form: Edwards (1948), Psychometrika 13(3).
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts must not be negative, got {only_a} and {only_b}")
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue)


def paired_t(differences: Sequence[float]) -> float:
    """The two-sided p-value that the mean of two or more paired differences is 0.

    Equal differences have no standard error: then the sign test gives 2 / 2^n.
    Source: Student (1908), as in `t_interval`.
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"expected two or more differences, got {n}")
    from scipy.stats import t

    difference, error = abs(mean(differences)), stdev(differences) / sqrt(n)
    if error < TOLERANCE:
        return 1.0 if difference < TOLERANCE else 2.0 ** (1 - n)
    return float(2 * t.sf(difference / error, n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for multiple comparisons, in the same order.

    With each tested at 0.05, the chance of any false positive among them is at most 5 %.
    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6(2).
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
