"""Means and proportions with 95 % intervals."""

import math
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


def wilson(count: int, total: int) -> Interval:
    """A proportion and its Wilson interval; rounding never puts the proportion outside its own interval."""
    if total == 0:
        return NOTHING
    p, z = count / total, float(special.ndtri((1 + CONFIDENCE) / 2))
    middle, half = p + z**2 / (2 * total), z * math.sqrt(p * (1 - p) / total + (z / total) ** 2 / 4)
    low, high = ((middle + side) / (1 + z**2 / total) for side in (-half, half))
    return Interval(p, min(p, max(low, 0.0)), max(p, min(high, 1.0)))


def independent(values: list[float]) -> Mean:
    """Mean of independent values."""
    n = len(values)
    if n < 2:
        return Mean(float(values[0]) if n else math.nan, math.nan, math.nan)
    return Mean(fmean(values), float(np.var(values, ddof=1)) / n, n - 1)


def t_quantile(df: float) -> float:
    """Standard errors from a mean to the end of its interval."""
    return float(special.stdtrit(df, (1 + CONFIDENCE) / 2))


def t_interval(part: Mean) -> Interval:
    """Student's t interval of a mean."""
    half = t_quantile(part.df) * math.sqrt(part.variance)
    return Interval(part.mean, part.mean - half, part.mean + half)
