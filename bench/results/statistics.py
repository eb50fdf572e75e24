"""Means and proportions with 95 % intervals."""

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate and its interval; NaN ends where there are too few values."""

    mean: float
    low: float
    high: float


class Mean(NamedTuple):
    """A mean, the variance of it, and the degrees of freedom of that variance."""

    mean: float
    variance: float
    df: float


NOTHING = Interval(math.nan, math.nan, math.nan)


def mean_ci(values: list[float]) -> Interval:
    """Mean and Student's t interval of independent values."""
    return t_interval(independent(values))


@cache
def wilson(count: int, total: int) -> Interval:
    """A proportion and its Wilson interval; rounding never puts the proportion outside its own interval."""
    if total == 0:
        return NOTHING
    p, z = count / total, normal_quantile(CONFIDENCE)
    middle, half = p + z**2 / (2 * total), z * math.sqrt(p * (1 - p) / total + (z / total) ** 2 / 4)
    low, high = ((middle + side) / (1 + z**2 / total) for side in (-half, half))
    return Interval(p, min(p, max(low, 0.0)), max(p, min(high, 1.0)))


def share_difference(a: Sequence[bool] | np.ndarray, b: Sequence[bool] | np.ndarray) -> Interval:
    """Share of a minus share of b on the same images, with Newcombe's interval (1998, method 10).

    The interval combines the two Wilson intervals by the correlation on these images, continuity corrected.
    """
    return _newcombe(len(a), int(np.sum(a)), int(np.sum(b)), int(np.logical_and(a, b).sum()))


@cache
def _newcombe(n: int, count_a: int, count_b: int, both: int) -> Interval:
    """The interval from the counts; a report compares many pairs of networks, whose counts repeat."""
    share_a, share_b = wilson(count_a, n), wilson(count_b, n)
    product = both * (n - count_a - count_b + both) - (count_a - both) * (count_b - both)
    spread = math.sqrt(count_a * (n - count_a) * count_b * (n - count_b))
    phi = (max(product - n / 2, 0) if product > 0 else product) / spread if spread else 0.0
    reach = lambda x, y: math.sqrt(x**2 - 2 * phi * x * y + y**2)  # noqa: E731
    difference = share_a.mean - share_b.mean
    low = difference - reach(share_a.mean - share_a.low, share_b.high - share_b.mean)
    return Interval(difference, low, difference + reach(share_a.high - share_a.mean, share_b.mean - share_b.low))


def independent(values: list[float]) -> Mean:
    """Mean of independent values."""
    n = len(values)
    if n < 2:
        return Mean(float(values[0]) if n else math.nan, math.nan, math.nan)
    return Mean(fmean(values), float(np.var(values, ddof=1)) / n, n - 1)


def normal_quantile(confidence: float) -> float:
    """Standard deviations from the mean of a normal variable to the ends of its middle `confidence`."""
    return float(special.ndtri((1 + confidence) / 2))


def t_quantile(df: float) -> float:
    """Standard errors from a mean to the end of its interval."""
    return float(special.stdtrit(df, (1 + CONFIDENCE) / 2))


def t_interval(part: Mean) -> Interval:
    """Student's t interval of a mean."""
    half = t_quantile(part.df) * math.sqrt(part.variance)
    return Interval(part.mean, part.mean - half, part.mean + half)
