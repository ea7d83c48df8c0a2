"""Intervals and tests: how sure a score is, from counts alone."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval (low, high), both in [0, 1], of the proportion `hits / n`.

    Unlike the textbook p ± 1.96 s it never leaves [0, 1] and stays honest near 1, where MNIST
    scores live. Source: Wilson (1927), "Probable inference, the law of succession, and
    statistical inference", JASA 22(158), pp. 209-212; equation 4 of Brown, Cai and DasGupta
    (2001), "Interval estimation for a binomial proportion", Statistical Science 16(2).
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n and n >= 1, got hits={hits}, n={n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17 or cross the bound.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return low, high
